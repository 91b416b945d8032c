"""What a data source gives: named splits held as whole tensors, with the facts a model and a report need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Examples for one step: `inputs` (batch, *shape) scaled floating point, `targets` (batch,) class index or value."""

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Split:
    """Raw examples: `inputs` (examples, *shape) as stored (uint8 stays uint8), `targets` (examples,) int64 class or float32 value."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Dataset:
    """A data source, loaded.

    Attributes:
        name: The specification that loads it again, e.g. `rings?noise=0.05`.
        train: Examples to fit on; everything fitted (scaling too) sees only these.
        test: Examples to report on; never used to choose anything.
        classes: Class names by index; empty for regression targets.
        licence: Licence of the data.
        citation: Who to cite.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    licence: str = ""
    citation: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, channels first: (channels, height, width) for images, (features,) for tables."""
        return tuple(self.train.inputs.shape[1:])
