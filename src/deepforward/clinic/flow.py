"""How the gradient changes from layer to layer, as scale-free rates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from deepforward.instruments.readings import Readings

#: Decades by which the gradients of the first and the last layer may differ. It holds three standard deviations of the chance
#: of a finite network, 3/2 sqrt(5 L / N) / ln 10 for depth L and width N, as long as L / N < 1.9 (Hanin and Nica 2020).
TOLERANCE = 2.0

#: Classes of layers with weights under other names: transformers' `Conv1D` multiplies its last axis by a matrix.
_WEIGHTED = {"Conv1D": "Linear"}

#: The smallest float32: a gradient that underflows to zero is below it.
_SMALLEST = 1e-45


@dataclass(frozen=True)
class Flow:
    """The gradient's way from the output to the input, at the first sampled step.

    Attributes:
        layers: Keys of the calls of layers with weights, in the order of the forward pass.
        levels: Decades by which the gradient of each layer's output has grown since it left the last layer; negative: shrunk.
        rate: Decades per layer on the way to the input: the median slope over all pairs of layers (Theil-Sen), blind to a few
            odd ones.
    """

    layers: tuple[str, ...]
    levels: tuple[float, ...]
    rate: float

    @property
    def decades(self) -> float:
        """Decades by which the gradient has grown (positive) or shrunk (negative) at the first layer."""
        return self.levels[0]

    @property
    def is_gradual(self) -> bool:
        """Whether the layers share the change, rather than one of them making most of it."""
        return abs(self.rate) * (len(self.layers) - 1) > abs(self.decades) / 2

    @property
    def origin(self) -> str:
        """Walking back from the output, the first layer that the gradient reaches changed by more than half the tolerance."""
        changed = [abs(level) > TOLERANCE / 2 and level * self.decades > 0 for level in self.levels]
        return self.layers[max(np.flatnonzero(changed), default=0)]


def gradient_flow(readings: Readings | None) -> Flow | None:
    """Reduce readings to one flow, or None if fewer than three layers with weights received a gradient.

    A branch beside a skip connection may have a small gradient of its own (queries and keys of an attention, what lies before
    a scale that starts at zero) while the sum passes it by. So a layer counts with what passes it: no less than the smaller of
    the largest gradients before and behind it. In a chain without branches that changes no growth and no decay.

    Only the first sampled step counts: there the flow shows what the architecture and its initialisation do; later it also
    shows what training did in response. Where the number of elements changes, so does the size of each one's gradient: into
    the output layer, and between convolutions and affine layers (pooling, flattening). Such a step is taken to be the median of
    the others.
    """
    if readings is None or not readings.steps or "gradient_rms" not in readings.values:
        return None
    kinds = np.array([_WEIGHTED.get(kind, "Conv" if "Conv" in kind else kind) for kind in readings.kinds])
    gradient = _passing(readings.values["gradient_rms"][0], kinds)
    index = np.flatnonzero(np.isin(kinds, ["Conv", "Linear"]) & np.isfinite(gradient))
    # Where nothing passes a layer and yet something arrives before it, the layer lies on a branch that is closed.
    index = index[(gradient[index] > 0) | (np.maximum.accumulate(gradient[index]) == 0)]
    if len(index) < 3 or not gradient[index[-1]] > 0:
        return None
    steps = -np.diff(np.log10(np.maximum(gradient[index], _SMALLEST)))
    resized = np.append(kinds[index][1:-1] != kinds[index][:-2], True)
    steps[resized] = np.median(steps[~resized]) if not resized.all() else 0.0
    levels = np.append(np.cumsum(steps[::-1])[::-1], 0.0)
    seen = gradient[index] > _SMALLEST
    return Flow(tuple(readings.layers[i] for i in index), tuple(levels.tolist()), _slope(np.flatnonzero(seen), levels[seen]))


def _passing(gradient: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """The gradients of layers with weights, with the valleys between higher ones filled; others as they are.

    Behind a layer only those count whose elements are no fewer, and so no greater for that reason alone: behind one of the
    convolutions that come first the others, behind others all but the output layer. A branch that ends before that shows what
    passes it only in the modules that close it, which are none of torch's own: a scale of its channels, the block itself.
    """
    filled = gradient.copy()
    *hidden, output = np.flatnonzero(np.isin(kinds, ["Conv", "Linear", "Embedding"]) & np.isfinite(gradient)).tolist() or [0]
    weighted = np.array(hidden, dtype=int)
    if not len(weighted):
        return filled
    before = np.maximum.accumulate(gradient[weighted])
    closing = [gradient[at] for at in range(weighted[-1] + 1, output) if _closes(kinds[at]) and np.isfinite(gradient[at])]
    first = np.flatnonzero(kinds[weighted] == "Conv").max(initial=-1) + 1
    if "Linear" in kinds[weighted[:first]]:  # 1x1 convolutions by another name
        first = 0
    for alike, least in ((slice(0, first), 0.0), (slice(first, None), max(closing, default=0.0))):
        behind = np.maximum(np.maximum.accumulate(gradient[weighted[alike]][::-1])[::-1], least)
        filled[weighted[alike]] = np.minimum(before[alike], behind)
    return filled


def _closes(kind: str) -> bool:
    """Whether such a module may end a branch without changing how many elements there are."""
    return not hasattr(nn, kind) and "Pool" not in kind


def _slope(position: np.ndarray, levels: np.ndarray) -> float:
    """Median over all pairs of the growth per layer towards the input."""
    i, j = np.triu_indices(len(position), k=1)
    return float(np.median((levels[i] - levels[j]) / (position[j] - position[i]))) if len(i) else 0.0
