"""Examination: an instrument that makes passes of its own, on demand, instead of watching a training step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from deepforward.errors import InvalidData
from deepforward.instruments.wrappers import unwrapped

#: What is measured: a frozen data class of plain values, which JSON can hold and rules can read.
R_co = TypeVar("R_co", covariant=True)


class Examination(ABC, Generic[R_co]):
    """Measures a model by forward and backward passes of its own.

    Options are arguments of the constructor. Modes, parameters, buffers, gradients and global random numbers of the model are
    left as found, and what is measured holds no tensor.
    """

    def measure(self, model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]) -> R_co:
        """Measure.

        Args:
            model: Any module, in the mode in which it is to be measured; of a compiled or parallel one, what is inside.
            batches: What `loss` takes, at least one.
            loss: Runs the model on a batch and returns a scalar to differentiate.

        Returns:
            The measurement.

        Raises:
            InvalidData: There is no batch.
            InvalidModel: The model is one that this instrument cannot measure; the message says why.
        """
        if not batches:
            raise InvalidData("got no batches to examine the model on; give at least one")
        return self._measure(unwrapped(model), batches, loss)

    @abstractmethod
    def _measure(self, model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]) -> R_co:
        """Measure a module without wrappers on at least one batch."""
