"""The contract between a training signal and the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from deepforward.data.dataset import Batch


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
        """Sums over the examples of `batch`, by metric name, for evaluation; the engine divides by the number of examples."""
        raise TypeError(f"{type(self).__name__} must define score(model, batch, rng)")

    def num_outputs(self, num_classes: int, input_shape: tuple[int, ...]) -> int:
        """How many outputs the model must have, given the data."""
        return num_classes
