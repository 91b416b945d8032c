"""Scaling of inputs by statistics of the training split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from deepforward.data.spec import Range, arguments, parse
from deepforward.errors import InvalidData, InvalidOption, ShapeError, UnknownName

_CHUNK_VALUES = 1 << 22

Affine = tuple[Tensor, Tensor]


class Scaling(nn.Module):
    """Maps inputs x to (x - shift) / spread, and for `softmax` to the logistic of that.

    Statistics are one number a channel for images (channels, height, width), else one a feature; a spread of zero becomes 1.

    | specification | shift | spread |
    | --- | --- | --- |
    | `none` | 0 | 1: the values as stored, only in floating point |
    | `centre` | mean | 1 |
    | `standardise` | mean | standard deviation (divided by n) |
    | `min-max?low=0&high=1` | so that the minimum becomes `low` | (maximum - minimum) / (high - low) |
    | `softmax?r=1` | mean | r times the standard deviation |

    Softmax scaling is a logistic squashing, 1 / (1 + exp(-y)): within |y|^3 / 48 of the straight line 1/2 + y/4, and bounded
    far from the mean. A larger r keeps more of the data on the straight part.

    Args:
        spec: What to do, as in the table.
        shape: Shape of one example.

    Source: Theodoridis, Koutroumbas, "Pattern Recognition", 4th edition 2009, section 5.2.2 (softmax scaling).
    """

    shift: Tensor
    spread: Tensor

    def __init__(self, spec: str, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.spec, self.shape = spec, tuple(shape)
        self._statistics, self._options = _read(spec)
        self._is_logistic = self._statistics is _softmax
        size = (shape[0], 1, 1) if len(shape) == 3 else self.shape
        self.register_buffer("shift", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))
        self._note_steps()

    @classmethod
    def fit(cls, spec: str, inputs: Shaped[Tensor, "examples ..."]) -> Scaling:
        """A scaling with the statistics of `inputs`, which should be those of the training split and no others.

        They are computed in float64 and kept in float32, or in float64 if the inputs are.

        Raises:
            UnknownName: No such scaling.
            InvalidOption: An option is unknown or has a value it cannot have.
            InvalidData: There are no examples.
        """
        if not len(inputs):
            raise InvalidData(f"scaling {spec}: got no examples, expected at least one to take statistics of")
        scaling = cls(spec, tuple(inputs.shape[1:])).to(inputs.device)
        if inputs.dtype == torch.float64:
            scaling.double()
        shift, spread = scaling._statistics(inputs, **scaling._options)
        scaling.shift.copy_(shift)
        scaling.spread.copy_(spread)
        scaling._note_steps()
        return scaling

    def forward(self, inputs: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The inputs scaled, on this module's device: float64 for float64 inputs, else float32."""
        self._check(inputs)
        dtype = torch.float64 if inputs.dtype == torch.float64 else torch.float32
        scaled = inputs.to(self.shift.device, dtype, non_blocking=True, copy=True)
        if self._moves:
            scaled = scaled.sub_(self.shift.to(dtype))
        if self._stretches:
            scaled = scaled.div_(self.spread.to(dtype))
        return scaled.sigmoid() if self._is_logistic else scaled

    def inverse(self, scaled: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """Scaled values back in the units of the inputs, for pictures.

        A logistic that has reached 0 or 1 in floating point is taken for the nearest number that has an inverse.
        """
        self._check(scaled)
        scaled = scaled.to(self.shift.device)
        linear = scaled.logit(eps=torch.finfo(scaled.dtype).eps) if self._is_logistic else scaled
        return linear * self.spread.to(scaled.dtype) + self.shift.to(scaled.dtype)

    def extra_repr(self) -> str:
        """The specification and the shape of one example."""
        return f"{self.spec}, shape={self.shape}"

    def _load_from_state_dict(self, *given: Any) -> None:
        super()._load_from_state_dict(*given)
        self._note_steps()

    def _note_steps(self) -> None:
        """Note which of the two steps change anything: a pass over a batch is not free, and some data need neither."""
        self._moves = bool((self.shift != 0).any() | self.shift.signbit().any())  # to subtract -0 makes 0 of -0
        self._stretches = bool((self.spread != 1).any())

    def _check(self, inputs: Tensor) -> None:
        got = tuple(inputs.shape[1:])
        fits = len(got) == 3 and got[0] == self.shape[0] if len(self.shape) == 3 else got == self.shape
        if not fits:
            raise ShapeError(f"scaling {self.spec}: got examples of shape {got}, expected {self.shape} as fitted")


def _read(spec: str) -> tuple[Callable[..., Affine], dict[str, Any]]:
    kind, path, options = parse(spec)
    if kind not in _STATISTICS or path is not None:
        raise UnknownName("scaling", spec, _STATISTICS)
    given = arguments(f"scaling {kind}", _STATISTICS[kind], options)
    return _STATISTICS[kind], given


def _none(inputs: Tensor) -> Affine:
    return torch.tensor(0.0), torch.tensor(1.0)


def _standardise(inputs: Tensor) -> Affine:
    """Mean and standard deviation, merged chunk by chunk (Chan, Golub, LeVeque 1979) so that nothing cancels."""
    count, mean, squares = 0, torch.tensor(0.0), torch.tensor(0.0)
    for chunk in _chunks(inputs):
        axes = _pooled_axes(chunk)
        more = chunk.double()
        variance, other = torch.var_mean(more, axes, correction=0, keepdim=True)
        size, total = len(chunk), count + len(chunk)
        squares = squares + size * variance + (other - mean) ** 2 * (count * size / total)
        mean = mean + (other - mean) * (size / total)
        count = total
    # Rounding of the mean leaves equal values a deviation that is tiny, not zero.
    axes = _pooled_axes(inputs)
    is_constant = inputs.amin(axes, keepdim=True)[0] == inputs.amax(axes, keepdim=True)[0]
    return mean[0], (squares / count).sqrt()[0].masked_fill(is_constant, 1.0)


def _centre(inputs: Tensor) -> Affine:
    return _standardise(inputs)[0], torch.tensor(1.0)


def _min_max(inputs: Tensor, *, low: float = 0.0, high: float = 1.0) -> Affine:
    if low >= high:
        raise InvalidOption(f"scaling min-max: got low={low:g} and high={high:g}, expected low below high")
    axes = _pooled_axes(inputs)
    least, most = inputs.amin(axes, keepdim=True)[0].double(), inputs.amax(axes, keepdim=True)[0].double()
    spread = (most - least).masked_fill(most == least, 1.0) / (high - low)
    return least - low * spread, spread


def _softmax(inputs: Tensor, *, r: Annotated[float, Range(0, exclusive=True)] = 1.0) -> Affine:
    mean, deviation = _standardise(inputs)
    return mean, r * deviation


def _pooled_axes(inputs: Tensor) -> tuple[int, ...]:
    return (0, 2, 3) if inputs.ndim == 4 else (0,)


def _chunks(inputs: Tensor) -> Iterator[Tensor]:
    step = max(1, _CHUNK_VALUES * len(inputs) // max(inputs.numel(), 1))
    for start in range(0, len(inputs), step):
        yield inputs[start : start + step]


_STATISTICS: dict[str, Callable[..., Affine]] = {
    "none": _none,
    "centre": _centre,
    "standardise": _standardise,
    "min-max": _min_max,
    "softmax": _softmax,
}
