"""What a data source gives: named splits held as whole tensors, with the facts a model and a report need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from deepforward.data.checks import IGNORED, check_finite, check_labels, check_masks
from deepforward.data.splitting import stratified
from deepforward.errors import InvalidData

#: What a model is to give for an example: its class, a number, the class of each pixel, or another image.
Task: TypeAlias = Literal["classification", "regression", "segmentation", "image-regression"]


class Batch(NamedTuple):
    """Examples for one step: `inputs` (batch, *shape) scaled floating point, `targets` as in `Split`, but masks int64."""

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """Raw examples: `inputs` (examples, *shape) as stored (uint8 stays uint8), and what a model is to give for each.

    `targets` are class indices (examples,) int64, values (examples,) float32, masks (examples, height, width) uint8 with the
    class index of each pixel and 255 where nothing is asked, or images (examples, channels, height, width) float32.
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        shape, dtype = tuple(self.inputs.shape[1:]), str(self.inputs.dtype).removeprefix("torch.")
        return f"Split of {len(self)} examples of shape {shape} {dtype}"

    def select(self, indices: Tensor) -> Split:
        """The examples at `indices` (int64), in that order."""
        return Split(self.inputs[indices], self.targets[indices])

    def spread(self, most: int) -> Split:
        """At most so many of the examples, evenly spread, because a source may come sorted by class."""
        return self.select(torch.linspace(0, len(self) - 1, min(len(self), most)).long().to(self.inputs.device))


class Splits(NamedTuple):
    """What the function behind a source card returns; `load` adds name, licence and citation and makes it a `Dataset`."""

    train: Split
    test: Split
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data source, loaded and checked: no Dataset holds NaN, a label without a class, one class only or an empty split.

    Attributes:
        name: The specification that loads it again, e.g. `rings?noise=0.05`.
        train: Examples to fit on; everything fitted (scaling too) sees only these.
        test: Examples to report on; never used to choose anything.
        classes: Class names by index; empty for targets that are numbers.
        licence: Licence of the data.
        citation: Who to cite.

    Raises:
        InvalidData: The content cannot be used; the message names split, example and position.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    licence: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        for where, split in (("train", self.train), ("test", self.test)):
            self._check_lengths(where, split)
            check_finite(f"{self.name}: {where} inputs", split.inputs)
            if self.task == "segmentation":
                check_masks(f"{self.name}: {where} masks", split.targets, self.classes, tuple(split.inputs.shape[2:]))
            elif self.classes:
                check_labels(f"{self.name}: {where} targets", split.targets, self.classes)
            else:
                check_finite(f"{self.name}: {where} targets", split.targets)
        if self.train.inputs.shape[1:] != self.test.inputs.shape[1:]:
            got = f"train examples of shape {self.shape} and test examples of shape {tuple(self.test.inputs.shape[1:])}"
            raise InvalidData(f"{self.name}: got {got}, expected one shape")
        known = self.train.targets[self.train.targets != IGNORED] if self.task == "segmentation" else self.train.targets
        if self.classes and known.min() == known.max():
            only = self.classes[int(known.flatten()[0])]
            raise InvalidData(f"{self.name}: got one class ('{only}') in the train split, expected at least 2; add another")

    def _check_lengths(self, where: str, split: Split) -> None:
        place = f"{self.name}: {where} split"
        if len(split.inputs) != len(split.targets):
            raise InvalidData(
                f"{place}: got {len(split.inputs)} inputs and {len(split.targets)} targets, expected as many of each"
            )
        if not split.inputs.numel():
            raise InvalidData(
                f"{place}: got no examples, expected at least one; add data or change the share of the test split"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example, channels first: (channels, height, width) for images, (features,) for tables."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def task(self) -> Task:
        """What a model is to give for an example."""
        ndim = self.train.targets.ndim
        if self.classes:
            return "segmentation" if ndim == 3 else "classification"
        return "regression" if ndim == 1 else "image-regression"

    def hold_out(self, share: float, rng: torch.Generator) -> tuple[Split, Split]:
        """Part the training split into (rest, held out), class by class where an example has one.

        Args:
            share: Share of the examples of each class to hold out, in (0, 1); every class keeps at least one in the rest.
            rng: Chooses the examples; the same state chooses the same ones.

        Raises:
            InvalidOption: `share` is outside (0, 1).
            InvalidData: `share` of these examples is none.
        """
        rest, held = stratified(self.train.targets, share, rng, "validation")
        return self.train.select(rest), self.train.select(held)

    def __repr__(self) -> str:
        dtype = str(self.train.inputs.dtype).removeprefix("torch.")
        sizes = f"{len(self.train)} train + {len(self.test)} test examples of shape {self.shape} {dtype}"
        return f"{self.name}: {sizes}\n  {self._targets_in_words()}"

    def _targets_in_words(self) -> str:
        if not self.classes:
            return f"targets from {float(self.train.targets.min()):.4g} to {float(self.train.targets.max()):.4g}"
        shown = self.classes if len(self.classes) <= 12 else (*self.classes[:10], "...", self.classes[-1])
        return f"{len(self.classes)} classes: {', '.join(shown)}"
