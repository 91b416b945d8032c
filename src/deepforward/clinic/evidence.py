"""Run, module or probe -> evidence."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from deepforward import catalogue
from deepforward.clinic.chance import Span, binarizing, chance_level, is_likelihood, likelihood_span
from deepforward.clinic.finding import Evidence
from deepforward.clinic.initial import looked_at, seen_at_first
from deepforward.clinic.rules.progress import thriving
from deepforward.data import Batch, Dataset, Scaling, load
from deepforward.data.checks import check_labels
from deepforward.engine import Run
from deepforward.engine.batches import draw_batches
from deepforward.engine.building import build_model, check_shapes
from deepforward.engine.randomness import isolated
from deepforward.errors import DeepforwardError, InvalidData, InvalidModel, first_line
from deepforward.instruments import examine, locate_nonfinite
from deepforward.instruments.left_as_found import left_as_found
from deepforward.objectives import Objective

#: Examples that are looked at to see how the inputs are scaled.
_SAMPLE = 1024

#: Training examples whose rates give the chance level of a likelihood.
_FITTED = 10_000


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
        input_scale=_scale(scaling(train.inputs[:_SAMPLE])),
    )


def _span(run: Run, scaling: Scaling) -> Span | None:
    """Chance level and floor of a run's objective, from its training split."""
    recipe, train, objective = run.recipe, run.data.train, run.recipe.objective or ""
    if not is_likelihood(objective):
        chance = chance_level(objective, recipe.objective_options, train.targets)
        return None if chance is None else Span(chance, 0.0)
    with isolated(recipe.seed, torch.device("cpu")):
        model = build_model(recipe.model, recipe.model_options, run.data.shape, len(run.data.classes) or 1)
    inputs = scaling(train.inputs[torch.linspace(0, len(train) - 1, min(len(train), _FITTED)).long()])
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


def probe_module(
    module: nn.Module,
    data: str | Dataset | Sequence[Any],
    *,
    objective: str = "cross-entropy",
    scaling: str = "standardise",
    batches: int = 4,
    batch_size: int = 64,
    seed: int = 0,
) -> Evidence:
    """Run `module` forward and backward over a few batches in training mode, and keep what the instruments see.

    Args:
        module: Any module that takes one tensor; weights, buffers, gradients and modes are left as found.
        data: A source specification, a Dataset, or (inputs, targets) as tensors, arrays or lists.
        objective: Name of the objective's card.
        scaling: How the inputs of a source or Dataset are scaled; those of a pair are fed as they are.
        batches: How many batches to look at.
        batch_size: Examples in each.
        seed: Fixes which examples.

    Raises:
        InvalidModel: The module has uninitialised (lazy) parameters, or raises in training mode.
        ShapeError: A layer refuses its input.
        InvalidData: Inputs and targets differ in number, or there are none, or a label has no output.
    """
    inputs, targets = _examples(data, scaling)
    rng = torch.Generator().manual_seed(seed)
    training_signal = catalogue.load("objectives", objective)()
    like = next(module.parameters(), inputs)
    device, inputs = like.device, inputs.to(like.dtype) if inputs.is_floating_point() else inputs
    if type(training_signal).prepare is not Objective.prepare:
        module = copy.deepcopy(module)  # the objective sets biases from the data, and the caller's are to stay
        training_signal.prepare(module, inputs[:_FITTED].to(device), torch.Generator(device).manual_seed(seed))
    if training_signal.metric == "accuracy":
        _check_labels(module, inputs[:2].to(device), targets)

    def loss(model: nn.Module, indices: Tensor) -> Tensor:
        batch = Batch(inputs[indices].to(device), targets[indices].to(device))
        return next(iter(training_signal.signals(model.train(), batch, rng))).loss

    chosen = draw_batches(len(inputs), batch_size, rng)[:batches]
    try:
        readings = examine(module, chosen, loss)
    except DeepforwardError:
        raise
    except Exception as error:
        raised = f"{type(error).__name__} in training mode: {first_line(error)}"
        raise InvalidModel(f"{type(module).__name__} with {objective} raised {raised}; mend it") from error
    if readings.origins:
        readings = replace(readings, origins=_located(module, chosen, loss))
    looked = looked_at(module.train(), chosen, loss) if training_signal.descends and not readings.origins else {}
    return Evidence(
        readings=readings,
        **looked,
        descends=training_signal.descends,
        chance=chance_level(objective, {}, targets),
        input_scale=_scale(inputs[:_SAMPLE]),
    )


def _examples(data: str | Dataset | Sequence[Any], scaling: str) -> tuple[Tensor, Tensor]:
    if isinstance(data, (str, Dataset)):
        train = (load(data) if isinstance(data, str) else data).train
        return Scaling.fit(scaling, train.inputs)(train.inputs), train.targets
    try:
        inputs, targets = (torch.as_tensor(part) for part in data)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidData(
            f"got {type(data).__name__}; expected a source such as 'digits', a Dataset, or (inputs, targets) as arrays"
        ) from error
    if not inputs.ndim or not targets.ndim or len(inputs) != len(targets) or not len(inputs):
        counts = [len(part) if part.ndim else "one number as" for part in (inputs, targets)]
        raise InvalidData(f"got {counts[0]} inputs and {counts[1]} targets, expected as many of each, at least one")
    return inputs, targets if targets.is_floating_point() else targets.long()


def _located(
    module: nn.Module, batches: Sequence[Tensor], loss: Callable[[nn.Module, Tensor], Tensor]
) -> tuple[Mapping[str, object], ...]:
    """Where the first number arises that is not finite, by replaying the batches."""
    for step, batch in enumerate(batches):
        if (origin := locate_nonfinite(module, partial(loss, module, batch))) is not None:
            return ({"step": step, **origin},)
    return ()


def _check_labels(module: nn.Module, example: Tensor, targets: Tensor) -> None:
    """Refuse labels without an output in the module: on an accelerator they would end the process."""
    if any(map(nn.parameter.is_lazy, module.parameters())):
        return  # `examine` refuses it
    with left_as_found(module), torch.no_grad():
        try:
            outputs = module.eval()(example)
        except Exception:
            check_shapes(module, example, 0)  # names the layer
            raise
    if isinstance(outputs, Tensor) and outputs.ndim == 2:
        check_labels("targets", targets, tuple(map(str, range(outputs.shape[1]))))


def _scale(inputs: Tensor) -> float:
    return float(inputs.double().square().mean().sqrt())
