"""The contract between a training signal and the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from deepforward.data.dataset import Batch, Dataset
from deepforward.errors import InvalidOption


@dataclass(frozen=True)
class Signal:
    """One gradient to follow.

    Attributes:
        loss: Scalar whose gradient is the signal. Its value may mean nothing (contrastive divergence).
        role: Name of the submodule whose parameters move; "" is the whole model.
        log: Scalars to record with this step, detached, by name; the engine averages them over the epoch.
    """

    loss: Tensor
    role: str = ""
    log: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module):
    """Turns a model and a batch into signals. Holds buffers such as persistent chains, never the model.

    The engine plays each signal as it is yielded: zero the role's gradients, backward to the role's parameters only, average
    over processes, clip, step. A generator that yields twice therefore sees the first role already moved. Never yield inside
    `torch.no_grad()`.
    """

    #: Roles in the order in which they are yielded.
    roles: ClassVar[tuple[str, ...]] = ("",)
    #: Whether a healthy run lowers `loss`. False keeps rules and early stopping from reading the loss as progress.
    descends: ClassVar[bool] = True
    #: The metric of `score` that tells progress, and whether more of it is better.
    metric: ClassVar[str] = "loss"
    maximize: ClassVar[bool] = False

    def signals(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Iterator[Signal]:
        """Yield the signals of one step on `batch`; all randomness comes from `rng`."""
        raise TypeError(f"{type(self).__name__} must define signals(model, batch, rng)")

    def score(self, model: nn.Module, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Sums over the examples of `batch`, by name, for evaluation; `summarise` makes metrics of those of a whole split."""
        raise TypeError(f"{type(self).__name__} must define score(model, batch, rng)")

    def summarise(self, sums: Mapping[str, Tensor], examples: int) -> Mapping[str, float]:
        """Metrics by name from the sums of `score` over so many examples: their means, unless it is defined otherwise."""
        return {name: float(value) / examples for name, value in sums.items()}

    def output_shape(self, data: Dataset) -> tuple[int, ...] | None:
        """What the model must give for an example of `data`; None where that is the model's own affair."""
        return (len(data.classes),)

    def prepare(self, model: nn.Module, inputs: Tensor, rng: torch.Generator) -> None:
        """Called once when a run is put together: set what depends on the data, buffers included.

        Args:
            model: The built model.
            inputs: Scaled training examples, evenly spread over the training split, at most a few thousand.
            rng: Draws.
        """

    def observe(self, model: nn.Module, rng: torch.Generator) -> Mapping[str, float]:
        """Numbers to keep with each epoch besides `score`, such as how well chains mix."""
        return {}

    def conclude(self, model: nn.Module, splits: Mapping[str, Tensor], rng: torch.Generator) -> Mapping[str, float]:
        """Final metrics that are too dear for every epoch, by name.

        Args:
            model: The trained model.
            splits: Scaled examples by split: `test` and, if there is one, `validation`.
            rng: Draws.
        """
        return {}

    def snapshot(self, model: nn.Module, rng: torch.Generator) -> Mapping[str, Tensor]:
        """What to keep of the run's way at some epochs, such as samples (examples, *shape), by name."""
        return {}

    def portrait(self, model: nn.Module, splits: Mapping[str, Tensor], rng: torch.Generator) -> Mapping[str, Tensor]:
        """What the report shows of the trained model, by names that `report` knows; `splits` as in `conclude`, and `train`."""
        return {}


def expect_whole_numbers(objective: str, least: int, **options: object) -> None:
    """Refuse options that are no whole numbers of at least `least`.

    Raises:
        InvalidOption: The message names the objective and the option.
    """
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidOption(f"{objective} got {name}={value!r}; expected a whole number of at least {least}")
