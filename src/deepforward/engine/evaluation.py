"""Scores of a model on a split, without touching it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deepforward.data.dataset import Batch, Split
from deepforward.engine.assembly import Parts
from deepforward.engine.randomness import stream
from deepforward.objectives import Objective

#: Examples a forward pass, and values of large ones.
_CHUNK, _VALUES = 512, 2**22
#: Seconds that a person waits without being told what for.
_WAIT = 1.0


def evaluate(parts: Parts, split: Split) -> dict[str, float]:
    """Metrics of the objective on `split`, the model in evaluation mode."""
    rng = _rng(parts)
    sums: dict[str, Tensor] = {}
    with looking(parts), parts.arithmetic.autocast():
        for batch in chunks(parts, split):
            for name, value in parts.objective.score(parts.model, batch, rng).items():
                sums[name] = sums[name] + value.double() if name in sums else value.double()
    return dict(parts.objective.summarise(sums, len(split)))


def observation(parts: Parts) -> dict[str, float]:
    """What the objective has to say of an epoch besides."""
    with looking(parts):
        return dict(parts.objective.observe(parts.model, _rng(parts)))


def conclusion(parts: Parts, say: Callable[[str], None] = lambda line: None) -> dict[str, float]:
    """The objective's final metrics, which may take a while; always in full precision.

    Args:
        parts: A trained model.
        say: Called with a line once there is something to wait for: many an objective measures nothing or is done at once.
    """
    if type(parts.objective).conclude is Objective.conclude:
        return {}
    announcement = threading.Timer(_WAIT, say, ("measuring the final metrics",))
    announcement.start()
    try:
        with looking(parts):
            return dict(parts.objective.conclude(parts.model, scaled_splits(parts), _rng(parts)))
    finally:
        announcement.cancel()


def snapshot(parts: Parts) -> dict[str, Tensor]:
    """What the objective shows of the run's way, by name."""
    with looking(parts):
        return dict(parts.objective.snapshot(parts.model, _rng(parts)))


def portrait(parts: Parts, most: int) -> dict[str, Tensor]:
    """What the objective shows of the trained model, by name; in full precision, from at most `most` examples a split."""
    if type(parts.objective).portrait is Objective.portrait:
        return {}
    splits = {"train": parts.train.spread(most), "test": parts.data.test.spread(most)}
    with looking(parts):
        scaled = {name: parts.batch(split).inputs for name, split in splits.items()}
        return dict(parts.objective.portrait(parts.model, scaled, _rng(parts)))


def scaled_splits(parts: Parts) -> dict[str, Tensor]:
    """Scaled examples of the test and, if there is one, the validation split."""
    splits = {"test": parts.data.test} | ({} if parts.validation is None else {"validation": parts.validation})
    return {name: parts.batch(split).inputs for name, split in splits.items()}


def _rng(parts: Parts) -> torch.Generator:
    """The same draws at every evaluation, which therefore differ by the weights alone, and shift none of training."""
    return stream(parts.recipe.seed, "objective", parts.arithmetic.device.type)


def chunks(parts: Parts, split: Split) -> Iterator[Batch]:
    """Scaled examples of `split` on the device, so many at once as fill the machine and fit its caches."""
    step = max(1, min(_CHUNK, _VALUES // math.prod(split.inputs.shape[1:])))
    return (parts.batch(split, slice(start, start + step)) for start in range(0, len(split), step))


@contextmanager
def looking(parts: Parts) -> Iterator[None]:
    """The model in evaluation mode, without gradients, and back in its modes afterwards."""
    training = {module: module.training for module in parts.model.modules()}
    parts.model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in training.items():
            module.training = mode


@dataclass(frozen=True)
class Evaluation:
    """What a classifier says of each example.

    Attributes:
        probabilities: Softmax of the outputs, on the CPU.
        targets: Right class of each example.
    """

    probabilities: Float[Tensor, "examples classes"]
    targets: Int[Tensor, " examples"]

    def confusion(self) -> Int[Tensor, "classes classes"]:
        """Number of examples by right class (row) and class given (column)."""
        classes = self.probabilities.shape[1]
        pairs = self.targets * classes + self.probabilities.argmax(1)
        return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def worst(self, count: int) -> Int[Tensor, " mistakes"]:
        """Indices of the wrongly classified examples, the one with the least probability of its right class first."""
        right = self.probabilities.gather(1, self.targets[:, None])[:, 0]
        wrong = (self.probabilities.argmax(1) != self.targets).nonzero()[:, 0]
        return wrong[right[wrong].argsort()][:count]


def evaluate_examples(parts: Parts, split: Split) -> Evaluation:
    """Run the model over `split` and keep what it says of each example."""
    with looking(parts), parts.arithmetic.autocast():
        outputs = [parts.model(chunk.inputs).float().cpu() for chunk in chunks(parts, split)]
    return Evaluation(torch.cat(outputs).softmax(1), split.targets)
