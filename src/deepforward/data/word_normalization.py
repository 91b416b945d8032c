"""Word normalisation: a pen trajectory levelled, unbent, set upright and brought to a common height.

Source: Bengio, LeCun 1994, "Word normalization for on-line handwritten word recognition", ICPR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.signal import find_peaks
from torch import Tensor

from deepforward.data.word_lines import WordFit, WordLines, fit_word_lines
from deepforward.errors import InvalidData, ShapeError

#: x and height of the pen; strokes differ in length.
Stroke = Float[Tensor, "_ 2"]


@dataclass(frozen=True, eq=False)
class NormalizedWord:
    """A word on a straight base line at height 0, its core line at height 1, upright strokes upright.

    Attributes:
        strokes: The strokes, in core heights; x is 0 at the origin of the lines.
        fit: The lines that were fitted to the trajectory as written.
        slant: Tangent of the angle by which upright strokes leaned to the right.
    """

    strokes: tuple[Stroke, ...]
    fit: WordFit
    slant: float

    @property
    def lines(self) -> WordLines:
        """The fitted lines, in the units of the trajectory as written."""
        return self.fit.lines


def turning_points(strokes: Sequence[Float[Tensor, "..."]], prominence: float = 0.02) -> tuple[Stroke, Stroke]:
    """The maxima and minima of the pen's height inside the strokes; of a flat top the middle.

    Args:
        strokes: x and height of the pen from each time it is put down to the next that it is lifted; heights grow upwards.
        prominence: Share of the word's height that the pen must rise and fall for a turn to count, so that trembling does not.

    Returns:
        Maxima and minima, (points, 2) each.

    Raises:
        ShapeError: A stroke is not (points, 2).
        InvalidData: There is no stroke, or a point is not finite.
    """
    if not strokes:
        raise InvalidData("got no strokes; expected at least one; write more")
    for stroke in strokes:
        if stroke.ndim != 2 or stroke.shape[1] != 2:
            raise ShapeError(f"got a stroke of shape {tuple(stroke.shape)}; expected (points, 2), x and height; transpose it")
        if not stroke.isfinite().all():
            raise InvalidData("got a stroke with points that are not finite; expected finite positions; drop them")
    heights = torch.cat([stroke[:, 1] for stroke in strokes]).double()
    if not len(heights):
        raise InvalidData("got strokes without points; expected a trajectory; write more")
    least = prominence * (heights.max() - heights.min()).item()
    found = []
    for sign in (1, -1):
        turns = [
            stroke[find_peaks(sign * stroke[:, 1].detach().double().cpu().numpy(), prominence=least)[0]] for stroke in strokes
        ]
        found.append(torch.cat(turns))
    return found[0], found[1]


def normalize_word(strokes: Sequence[Float[Tensor, "..."]]) -> NormalizedWord:
    """Fit the four lines, subtract slope and curvature, shear the slant away, and scale to core height 1.

    With the rise taken off the heights, the slant is t = sum dx dy / sum dy^2 over the pen's steps: after the shear x - t y, dx
    and dy are uncorrelated, so that upstrokes move to the right as far as downstrokes do.

    Args:
        strokes: x and height of the pen, heights growing upwards, one tensor from pen down to pen up.

    Raises:
        ShapeError: A stroke is not (points, 2).
        InvalidData: There are too few turning points, or the strokes cannot be those of a word.
    """
    fit = fit_word_lines(*turning_points(strokes))
    lines = fit.lines
    if not lines.core_height > 0:
        raise InvalidData(f"got a core height of {lines.core_height:g}; expected one above 0; y must grow upwards")
    level = [torch.stack([s[:, 0] - lines.origin, s[:, 1] - lines.rise(s[:, 0]) - lines.offsets[2]], dim=1) for s in strokes]
    steps = torch.cat([stroke.diff(dim=0) for stroke in level])
    slant = ((steps[:, 0] * steps[:, 1]).sum() / steps[:, 1].square().sum()).item()
    upright = [torch.stack([s[:, 0] - slant * s[:, 1], s[:, 1]], dim=1) / lines.core_height for s in level]
    return NormalizedWord(tuple(upright), fit, slant)
