"""The neocognitron of 1980: three stages of S-cells and C-cells that organise themselves, and a linear read-out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidData, InvalidOption, ShapeError
from deepforward.layers.neocognitron import CLayer, SLayer
from deepforward.layers.shapes import expect_image, expect_inputs

#: Cells that an S-cell and a C-cell see in each direction, and the smallest image on which the last S-layer has a cell.
_WINDOW, _SMALLEST = 5, 9
#: Patterns whose way through the lower stages is computed at once.
_CHUNK = 256


class Stage(nn.Module):
    """A layer of S-cells and the layer of C-cells above it."""

    def __init__(self, s: SLayer, c: CLayer) -> None:
        super().__init__()
        self.s, self.c = s, c

    def forward(self, inputs: Float[Tensor, "batch plane height width"]) -> Float[Tensor, "batch out_plane rows columns"]:
        """What the C-cells say."""
        return self.c(self.s(inputs))


class Neocognitron(nn.Module):
    """Image -> S1 -> C1 -> S2 -> C2 -> S3 -> C3, and an affine map of what C-cells say to logits.

    Cells are those of `layers.neocognitron`; their weights are buffers, set by `self_organise` without labels, and only the
    read-out has parameters. On 16x16 pixels the layers have the sizes of 1980: S1 16, C1 10, S2 8, C2 6, S3 2, C3 1. In
    general a C-layer has a cell for every other S-cell and one more at each border, S2 lacks the border of C1, S3 sees C2
    without padding, and a cell of C3 sees its whole plane, so that a plane of C3 stands for a pattern wherever it is.

    Args:
        input_shape: (1, height, width), at least 9x9 pixels; values of at least 0.
        num_outputs: Number of outputs.
        planes: Planes of each stage.
        selectivity: r of each stage: an S-cell fires above a cosine of r / (1 + r) to what it learnt.
        reinforcement: q of each stage: how much a presentation teaches.
        saturation: alpha of the C-cells.
        presentations: Patterns that each stage is shown when it organises itself.
        read_out: Stages whose C-cells are read, out of 1, 2, 3.

    Raises:
        ShapeError: The examples are no grey images, or too small.
        InvalidOption: A number out of range, or not three of a kind.

    Source:
        Fukushima 1980, Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition unaffected
        by shift in position, Biological Cybernetics 36: sizes, r, q and alpha. How fast c and d fall with distance, where
        columns lie, that stages learn one after the other, and the read-out are ours.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        planes: Sequence[int] = (24, 24, 24),
        selectivity: Sequence[float] = (4.0, 1.5, 1.5),
        reinforcement: Sequence[float] = (1.0, 16.0, 16.0),
        saturation: float = 0.5,
        presentations: int = 500,
        read_out: Sequence[int] = (1, 2, 3),
    ) -> None:
        super().__init__()
        channels, *size = expect_image("neocognitron", tuple(input_shape), _SMALLEST)
        if channels != 1:
            raise ShapeError(
                f"model 'neocognitron' got colour images of shape {tuple(input_shape)}, expected one channel; make them grey"
            )
        _check_stages(planes=planes, selectivity=selectivity, reinforcement=reinforcement)
        if not saturation > 0:
            raise InvalidOption(f"neocognitron got saturation={saturation}; expected a number above 0")
        if not isinstance(presentations, int) or presentations < 1:
            raise InvalidOption(f"neocognitron got presentations={presentations}; expected a whole number of at least 1")
        if not read_out or not set(read_out) <= {1, 2, 3}:
            raise InvalidOption(f"neocognitron got read_out={read_out!r}; expected one or more of the stages 1, 2, 3")
        self.input_shape, self.presentations, self.read_out = tuple(input_shape), presentations, sorted(set(read_out))
        s1 = (size[0], size[1])
        s2 = _halved(s1)
        s3 = (_halved(s2)[0] - 2, _halved(s2)[1] - 2)
        self.sizes = (s1, _ringed(s1), s2, _ringed(s2), s3, (1, 1))
        first, second = (CLayer((_WINDOW, _WINDOW), stride=2, padding=_around(s), saturation=saturation) for s in (s1, s2))
        of_plane = CLayer(s3, saturation=saturation)
        whole = 2 * max(s3) - 1  # a column that holds all of S3, whichever of its cells it is about
        self.stages = nn.ModuleList()
        for i, (padding, column, c) in enumerate(((2, _WINDOW, first), (1, _WINDOW, second), (0, whole, of_plane))):
            s = SLayer(
                (1, *planes)[i],
                planes[i],
                kernel=_WINDOW,
                padding=padding,
                column=column,
                selectivity=selectivity[i],
                reinforcement=reinforcement[i],
            )
            self.stages.append(Stage(s, c))
        cells = {stage: planes[stage - 1] * rows * columns for stage, (rows, columns) in enumerate(self.sizes[1::2], start=1)}
        self.output = nn.Linear(sum(cells[stage] for stage in self.read_out), num_outputs)

    def responses(self, inputs: Float[Tensor, "batch *shape"]) -> list[tuple[Tensor, Tensor]]:
        """u_S and u_C of each stage, from the lowest up: pairs of (batch, planes, rows, columns).

        Raises:
            ShapeError: Examples of another shape.
            InvalidData: A negative value.
        """
        expect_inputs("stages.0", inputs, self.input_shape)
        _check_values(inputs)
        found, below = [], inputs
        for stage in self._stages():
            s = stage.s(below)
            below = stage.c(s)
            found.append((s, below))
        return found

    def features(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch cells"]:
        """What the C-cells that are read say."""
        cells = [c for _, c in self.responses(inputs)]
        return torch.cat([cells[stage - 1].flatten(1) for stage in self.read_out], 1)

    def forward(self, inputs: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch outputs"]:
        """Logits."""
        return self.output(self.features(inputs))

    @torch.no_grad()
    def self_organise(
        self, inputs: Float[Tensor, "examples *shape"], rng: torch.Generator | None, presentations: int | None = None
    ) -> None:
        """Learning without a teacher: one pattern after another is shown, stage by stage from the lowest, as often as wanted.

        Every pattern is shown once before any is shown again. A stage begins when the one
        below has learnt: shown at once, upper planes would be taken by what lower ones say while they still change.

        Args:
            inputs: Patterns.
            rng: Draws an order, anew for each round; None shows the patterns in turn, as in 1980.
            presentations: Patterns that each stage is shown; the model's own number where it is None.

        Raises:
            ShapeError: Patterns of another shape.
            InvalidData: A negative value.
        """
        expect_inputs("stages.0", inputs, self.input_shape)
        _check_values(inputs)
        count = self.presentations if presentations is None else presentations
        for number, stage in enumerate(self._stages()):
            for chosen in _order(len(inputs), count, rng).split(_CHUNK):
                patterns = inputs[chosen.to(inputs.device)]
                for lower in islice(self.stages, number):
                    patterns = lower(patterns)
                for pattern in patterns.split(1):
                    stage.s.learn(pattern, stage.s(pattern))

    def _stages(self) -> list[Stage]:
        return cast(list[Stage], list(self.stages))


def _order(patterns: int, count: int, rng: torch.Generator | None) -> Tensor:
    """Which pattern is shown when."""
    if rng is None:
        return torch.arange(count) % patterns
    rounds = -(-count // patterns)
    return torch.cat([torch.randperm(patterns, generator=rng, device=rng.device) for _ in range(rounds)])[:count]


def _check_values(inputs: Tensor) -> None:
    if inputs.numel() and inputs.amin() < 0:
        raise InvalidData(
            f"neocognitron got a value of {inputs.amin().item():.3g}, expected at least 0, which is what its cells take; "
            "scale by min-max"
        )


def _check_stages(**options: Sequence[float]) -> None:
    for name, values in options.items():
        if len(values) != 3 or not all(value > 0 for value in values):
            raise InvalidOption(f"neocognitron got {name}={values!r}; expected three numbers above 0, one a stage")
        if name == "planes" and not all(isinstance(value, int) for value in values):
            raise InvalidOption(f"neocognitron got planes={values!r}; expected whole numbers")


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // 2), -(-size[1] // 2)


def _ringed(size: tuple[int, int]) -> tuple[int, int]:
    """Every other cell, and one more at each border."""
    rows, columns = _halved(size)
    return rows + 2, columns + 2


def _around(size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Padding (left, right, above, below) that gives a C-layer of step 2 the size `_ringed`."""
    rows, columns = size
    return _WINDOW - 1, _WINDOW - 2 + columns % 2, _WINDOW - 1, _WINDOW - 2 + rows % 2
