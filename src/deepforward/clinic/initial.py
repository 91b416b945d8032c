"""What can be seen of a network by passes of its own: its phase, how alike it makes examples, and how its gradient turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from deepforward.data import Batch
from deepforward.engine import Run
from deepforward.engine.assembly import assemble
from deepforward.engine.device import choose_device, threads
from deepforward.engine.randomness import isolated, stream
from deepforward.errors import DeepforwardError
from deepforward.instruments import Examination, LocalSmoothness
from deepforward.instruments.dilation_coverage import DilationCoverage
from deepforward.instruments.field_of_view import FieldOfView
from deepforward.instruments.normalization_check import NormalizationCheck
from deepforward.instruments.phase import Phase
from deepforward.instruments.rank_collapse import RankCollapse

R = TypeVar("R")

#: Examples of the batch that is looked at, and of one for a network of more than a million parameters.
_EXAMPLES, _FEW, _LARGE = 64, 16, 10**6

#: Steps of the walk that measures smoothness: its first, which guesses its own length, and two that know it.
_STEPS = 3


def seen_at_first(run: Run) -> dict[str, Any]:
    """Fields of the evidence that the untrained network of a run shows, built anew from its recipe.

    Args:
        run: A run whose objective descends a loss.

    Returns:
        `inputs`, `phase`, `representations`, `dilations`, `view` and, for a plain gradient method, `smoothness`; each None
        where it cannot be measured. Empty for a network that does not begin untrained.
    """
    recipe = run.recipe
    if recipe.pretraining:
        return {}
    with isolated(recipe.seed, choose_device(recipe.device)):
        parts = assemble(recipe, run.data)
        with threads(parts.arithmetic.threads):
            size = _FEW if sum(p.numel() for p in parts.model.parameters()) > _LARGE else _EXAMPLES
            order = torch.randperm(len(parts.train), generator=stream(recipe.seed, "order"))
            batches = [parts.batch(parts.train, chosen) for chosen in order[: _STEPS * size].split(size)]
            parts.model.train()

            def loss(model: nn.Module, batch: Batch) -> Tensor:
                rng = stream(recipe.seed, "objective", parts.arithmetic.device.type)
                return next(iter(parts.objective.signals(model, batch, rng))).loss

            steps = _STEPS if recipe.optimizer == "sgd" else 0
            return dict(looked_at(parts.model, batches, loss, steps))


def looked_at(
    model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor], steps: int = 0
) -> Mapping[str, Any]:
    """Fields of the evidence that passes of their own show; None where an instrument refuses the model.

    Args:
        model: Any module; left as found.
        batches: What `loss` takes, at least one.
        loss: Runs the model on a batch and returns a scalar.
        steps: Steps of the walk that measures smoothness; 0 is none.
    """
    return {
        "inputs": _measured(NormalizationCheck(), model, batches, loss),
        "phase": _measured(Phase(), model, batches[:1], loss),
        "representations": _measured(RankCollapse(), model, batches[:1], loss),
        "dilations": _measured(DilationCoverage(), model, batches[:1], loss),
        "smoothness": _measured(LocalSmoothness(steps, beyond=()), model, batches, loss) if steps else None,
        "view": _measured(FieldOfView(), model, batches[:1], loss),
    }


def _measured(
    examination: Examination[R], model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]
) -> R | None:
    try:
        return examination.measure(model, batches, loss)
    except DeepforwardError:
        return None
