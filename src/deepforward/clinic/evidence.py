"""Run, module or probe -> evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial

import torch
from torch import Tensor, nn

from deepforward import catalogue
from deepforward.clinic.case import FITTED, SAMPLE, Case, rms
from deepforward.clinic.chance import Span, binarizing, chance_level, is_likelihood, likelihood_span
from deepforward.clinic.finding import Evidence
from deepforward.clinic.initial import looked_at, seen_at_first
from deepforward.clinic.rules.progress import thriving
from deepforward.data import Scaling
from deepforward.engine import Run
from deepforward.engine.building import build_model
from deepforward.engine.randomness import isolated
from deepforward.errors import DeepforwardError, InvalidModel, first_line
from deepforward.instruments import examine, locate_nonfinite
from deepforward.objectives import Objective


def evidence_of(run: Run, twin: Evidence | None = None, sibling: Evidence | None = None) -> Evidence:
    """What a run left in its folder, finished or not.

    Args:
        run: The run.
        twin: Evidence of its shallower twin, if that was trained.
        sibling: Evidence of the same recipe from another seed: what the training split tells is taken from it, and what the
            untrained network showed, which differs little from seed to seed.
    """
    objective = catalogue.load("objectives", run.recipe.objective or "")
    evidence = replace(
        sibling or _of_the_data(run),
        readings=run.readings,
        history=run.history,
        recipe=asdict(run.recipe),
        descends=objective.descends,
        reached=_reached(run, objective),
        twin=twin,
    )
    if not objective.descends or thriving(evidence) or evidence.phase is not None:
        return evidence
    return replace(evidence, **seen_at_first(run))


def _of_the_data(run: Run) -> Evidence:
    """The numbers that depend on the training split and the recipe, and not on how the run went."""
    recipe, train = run.recipe, run.data.train
    scaling = Scaling.fit(recipe.scaling or "none", train.inputs)
    span = _span(run, scaling)
    return Evidence(
        chance=span.chance if span is not None else None,
        floor=span.floor if span is not None else 0.0,
        input_scale=rms(scaling(train.inputs[:SAMPLE])),
    )


def _span(run: Run, scaling: Scaling) -> Span | None:
    """Chance level and floor of a run's objective, from its training split."""
    recipe, train, objective = run.recipe, run.data.train, run.recipe.objective or ""
    if not is_likelihood(objective):
        chance = chance_level(objective, recipe.objective_options, train.targets)
        return None if chance is None else Span(chance, 0.0)
    with isolated(recipe.seed, torch.device("cpu")):
        model = build_model(recipe.model, recipe.model_options, run.data.shape, len(run.data.classes) or 1)
    inputs = scaling(train.inputs[torch.linspace(0, len(train) - 1, min(len(train), FITTED)).long()])
    return likelihood_span(model, binarizing(objective, recipe.objective_options) or "none", inputs)


def _reached(run: Run, objective: type[Objective]) -> float | None:
    """Negative log-likelihood of the validation examples of a run that has ended, nats an example, or a bound from above.

    None where the loss descends and tells by itself, or the objective's metric is no likelihood, which chance is not known of.
    """
    if objective.descends or not objective.metric.startswith("log_likelihood"):
        return None
    if run.result.get("status") == "diverged":
        return math.nan
    names = (f"validation/{objective.metric}", f"validation/{objective.metric}_bound")
    found = next((run.metrics[name] for name in names if name in run.metrics), None)
    return None if found is None else -found


def evidence_of_case(case: Case) -> Evidence:
    """What the instruments see of a module on its batches.

    Raises:
        InvalidModel: The module raises in training mode, or its loss is no number to differentiate.
    """
    module, chosen, loss = case.module, case.batches, case.loss
    try:
        readings = examine(module, chosen, loss)
    except DeepforwardError:
        raise
    except Exception as error:
        raised = f"{type(error).__name__} in training mode: {first_line(error)}"
        raise InvalidModel(f"{type(module).__name__} with {case.objective} raised {raised}; mend it") from error
    if readings.origins:
        readings = replace(readings, origins=_located(module, chosen, loss))
    looked = looked_at(module, chosen, loss) if case.descends and not readings.origins else {}
    return Evidence(readings=readings, **looked, descends=case.descends, chance=case.chance, input_scale=case.input_scale)


def _located(
    module: nn.Module, batches: Sequence[Tensor], loss: Callable[[nn.Module, Tensor], Tensor]
) -> tuple[Mapping[str, object], ...]:
    """Where the first number arises that is not finite, by replaying the batches."""
    for step, batch in enumerate(batches):
        if (origin := locate_nonfinite(module, partial(loss, module, batch))) is not None:
            return ({"step": step, **origin},)
    return ()
