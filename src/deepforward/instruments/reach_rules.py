"""Which places of the tensors that an operation was given its result is computed from, for the operations of networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Of each unit the first and the last index along a dimension, (2, units) float64; (inf, -inf) is none.
Span = np.ndarray

#: The indices that units reach in a tensor: a span for each dimension.
Reach = list[Span]


class UnknownOperation(Exception):
    """An operation of which it is not known which places it mixes."""


@dataclass(frozen=True)
class Step:
    """One operation of a pass.

    Attributes:
        node: Its place in the graph, which holds its arguments.
        reach: What is reached in its result.
        result: Shape of its result.
        given: Shapes of what it was given; None for what the input is no part of.
    """

    node: Any
    reach: Reach
    result: tuple[int, ...]
    given: tuple[tuple[int, ...] | None, ...]

    def spatial(self, name: str) -> tuple[int, ...]:
        """An argument that there is one of for each of the last dimensions, or one for all."""
        value, count = getattr(self.node, f"_saved_{name}"), len(self.result) - 2
        return tuple(value) * (count // len(value))


def every(size: int, count: int) -> Span:
    """All indices of a dimension, for each of so many units."""
    return np.tile(np.array([[0.0], [size - 1.0]]), (1, count))


def _isevery(span: Span, size: int) -> bool:
    return bool((span[0] <= 0).all() and (span[1] >= size - 1).all())


def union(a: Span, b: Span) -> Span:
    """The least span that holds both, for each unit."""
    return np.stack([np.minimum(a[0], b[0]), np.maximum(a[1], b[1])])


def _span(first: np.ndarray, last: np.ndarray) -> Span:
    return np.stack([np.where(first <= last, first, math.inf), np.where(first <= last, last, -math.inf)])


def through(step: Step) -> list[Reach | None]:
    """What is reached in each of the tensors that an operation was given; None for those that the input is no part of.

    Raises:
        UnknownOperation: It is not among those known here.
    """
    name = step.node.name().removeprefix("torch::autograd::").partition("Backward")[0]
    if name in _ELEMENTWISE or (name in _NORMS and not getattr(step.node, "_saved_training", False)):
        return [None if shape is None else _broadcast(step.reach, shape) for shape in step.given]
    rule = _RULES.get(name)
    if rule is None or sum(shape is not None for shape in step.given) != 1:
        if name == "Cat":
            return _concatenation(step)
        raise UnknownOperation(step.node.name())
    return [None if shape is None else rule(step, shape) for shape in step.given]


def _broadcast(reach: Reach, shape: tuple[int, ...]) -> Reach:
    kept = reach[len(reach) - len(shape) :]
    return [every(1, span.shape[1]) if size == 1 else span for span, size in zip(kept, shape, strict=True)]


def _windows(step: Step, shape: tuple[int, ...]) -> Reach:
    """Windows at regular steps: a pooling, or a convolution, which mixes all channels."""
    node, count = step.node, len(shape) - 2
    is_pool = hasattr(node, "_saved_kernel_size")
    kernel = step.spatial("kernel_size") if is_pool else tuple(node._saved_weight.shape[2:])
    stride = (step.spatial("stride") if len(node._saved_stride) else kernel) if is_pool else step.spatial("stride")
    padding = step.spatial("padding")
    dilation = step.spatial("dilation") if hasattr(node, "_saved_dilation") else (1,) * count
    found = []
    for at in range(count):
        first, last = step.reach[2 + at]
        back, reach = padding[at], dilation[at] * (kernel[at] - 1)
        if getattr(node, "_saved_transposed", False):
            spans = _span(np.ceil((first + back - reach) / stride[at]), np.floor((last + back) / stride[at]))
        else:
            spans = _span(first * stride[at] - back, last * stride[at] - back + reach)
        found.append(spans)
    return [step.reach[0], step.reach[1] if is_pool else every(shape[1], step.reach[1].shape[1]), *found]


def _adaptive(step: Step, shape: tuple[int, ...]) -> Reach:
    pairs = list(zip(step.reach, shape, step.result, strict=True))
    pooled = [_span(np.floor(s[0] * n / m), np.ceil((s[1] + 1) * n / m) - 1) for s, n, m in pairs[2:]]
    return [*step.reach[:2], *pooled]


def _reduction(step: Step, shape: tuple[int, ...]) -> Reach:
    """A sum, mean or maximum over some dimensions, or over all."""
    count = step.reach[0].shape[1] if step.reach else 1
    if not step.result:
        return [every(size, count) for size in shape]
    dims = getattr(step.node, "_saved_dim", None)
    named = () if dims is None else dims if isinstance(dims, tuple) else (dims,)
    reduced = {_signed(dim) % len(shape) for dim in named} or set(range(len(shape)))
    rest = iter(step.reach)
    kept = getattr(step.node, "_saved_keepdim", False)
    found = []
    for dim, size in enumerate(shape):
        if dim in reduced and kept:
            next(rest)
        found.append(every(size, count) if dim in reduced else next(rest))
    return found


def _signed(number: int) -> int:
    return number - 2**64 if number >= 2**63 else number


def _reshape(step: Step, shape: tuple[int, ...]) -> Reach:
    """Dimensions that are parted or merged; only those of which all is reached."""
    found: Reach = []
    given, result = list(shape), list(step.result)
    at = 0
    while given or at < len(result):
        old: list[int] = []
        new: list[int] = []
        spans: list[Span] = []
        while math.prod(old) != math.prod(new) or not (old or new):
            if given and (math.prod(old) <= math.prod(new) or at >= len(result)):
                old.append(given.pop(0))
            elif at < len(result):
                new.append(result[at])
                spans.append(step.reach[at])
                at += 1
            else:
                raise UnknownOperation(step.node.name())
        proper = [(span, size) for span, size in zip(spans, new, strict=True) if size != 1]
        if [size for size in old if size != 1] == [size for _, size in proper] and len(proper) < 2:
            rest = iter(span for span, _ in proper)
            found += [every(1, step.reach[0].shape[1]) if size == 1 else next(rest) for size in old]
        elif all(_isevery(span, size) for span, size in proper):
            found += [every(size, step.reach[0].shape[1]) for size in old]
        else:
            raise UnknownOperation(step.node.name())
    return found


def _permutation(step: Step, shape: tuple[int, ...]) -> Reach:
    found = [step.reach[0]] * len(shape)
    for at, dim in enumerate(step.node._saved_dims):
        found[_signed(dim) % len(shape)] = step.reach[at]
    return found


def _transposition(step: Step, shape: tuple[int, ...]) -> Reach:
    found = list(step.reach)
    a, b = (_signed(getattr(step.node, f"_saved_dim{i}")) % len(shape) for i in (0, 1))
    found[a], found[b] = found[b], found[a]
    return found


def _slice(step: Step, shape: tuple[int, ...]) -> Reach:
    node, found = step.node, list(step.reach)
    dim, begin = _signed(node._saved_dim) % len(shape), _signed(node._saved_start or 0)
    found[dim] = found[dim] * node._saved_step + (begin if begin >= 0 else begin + shape[dim])
    return found


def _selection(step: Step, shape: tuple[int, ...]) -> Reach:
    dim, index = _signed(step.node._saved_dim) % len(shape), _signed(step.node._saved_index)
    count = step.reach[0].shape[1]
    return [*step.reach[:dim], np.full((2, count), float(index % shape[dim])), *step.reach[dim:]]


def _parts(step: Step, shape: tuple[int, ...]) -> Reach:
    """Parts along a dimension all of which is reached."""
    dim = _signed(step.node._saved_dim) % len(shape)
    if not _isevery(step.reach[dim], step.result[dim]):
        raise UnknownOperation(step.node.name())
    return [
        every(size, span.shape[1]) if at == dim else span for at, (span, size) in enumerate(zip(step.reach, shape, strict=True))
    ]


def _concatenation(step: Step) -> list[Reach | None]:
    given = [shape for shape in step.given if shape is not None]
    dim = _signed(step.node._saved_dim) % len(given[0])
    if not _isevery(step.reach[dim], step.result[dim]):
        raise UnknownOperation(step.node.name())
    return [None if shape is None else _parts(step, shape) for shape in step.given]


def _padding(step: Step, shape: tuple[int, ...]) -> Reach:
    found, pads = list(step.reach), step.node._saved_pad
    for at in range(len(pads) // 2):
        found[-1 - at] = found[-1 - at] - _signed(pads[2 * at])
    return found


def _mixing(dims: Callable[[Step], Sequence[int]]) -> Callable[[Step, tuple[int, ...]], Reach]:
    def rule(step: Step, shape: tuple[int, ...]) -> Reach:
        mixed = {dim % len(shape) for dim in dims(step)}
        return [
            every(size, s.shape[1]) if at in mixed else s for at, (s, size) in enumerate(zip(step.reach, shape, strict=True))
        ]

    return rule


def _nearest(step: Step, shape: tuple[int, ...]) -> Reach:
    pairs = zip(step.reach[2:], shape[2:], step.result[2:], strict=True)
    return [*step.reach[:2], *(np.floor(span * n / m) for span, n, m in pairs)]


def _bilinear(step: Step, shape: tuple[int, ...]) -> Reach:
    found = step.reach[:2]
    for span, n, m in zip(step.reach[2:], shape[2:], step.result[2:], strict=True):
        corners = step.node._saved_align_corners
        place = span * ((n - 1) / max(m - 1, 1)) if corners else np.clip((span + 0.5) * n / m - 0.5, 0, None)
        found = [*found, np.minimum(np.stack([np.floor(place[0] + 1e-9), np.ceil(place[1] - 1e-9)]), n - 1)]
    return found


def _shuffle(step: Step, shape: tuple[int, ...]) -> Reach:
    factor = step.node._saved_upscale_factor
    return [step.reach[0], every(shape[1], step.reach[1].shape[1]), *(np.floor(span / factor) for span in step.reach[2:])]


def _unshuffle(step: Step, shape: tuple[int, ...]) -> Reach:
    factor = step.node._saved_downscale_factor
    spread = [span * factor + np.array([[0.0], [factor - 1.0]]) for span in step.reach[2:]]
    return [step.reach[0], every(shape[1], step.reach[1].shape[1]), *spread]


_NORMS = frozenset({"NativeBatchNorm", "CudnnBatchNorm", "MiopenBatchNorm"})

#: Operations that act on each element alone, or on elements at the same place of several tensors.
_ELEMENTWISE = frozenset(
    [
        "Abs",
        "Add",
        "Addcmul",
        "Alias",
        "Celu",
        "Clamp",
        "ClampMax",
        "ClampMin",
        "Clone",
        "Cos",
        "Div",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "Hardshrink",
        "Hardsigmoid",
        "Hardswish",
        "Hardtanh",
        "LeakyRelu",
        "Lerp",
        "Log",
        "LogSigmoid",
        "MaskedFill",
        "Maximum",
        "Minimum",
        "Mish",
        "Mul",
        "NativeDropout",
        "Neg",
        "Pow",
        "PreluKernel",
        "Reciprocal",
        "Relu",
        "Rsqrt",
        "Rsub",
        "Sigmoid",
        "Sign",
        "Silu",
        "Sin",
        "Softplus",
        "Softshrink",
        "Sqrt",
        "Sub",
        "Tanh",
        "Threshold",
        "ToCopy",
        "Where",
        "Expand",
    ]
)

_RULES: dict[str, Callable[[Step, tuple[int, ...]], Reach]] = {
    **dict.fromkeys(("Convolution", "MaxPool2DWithIndices", "AvgPool2D", "MaxPool3DWithIndices", "AvgPool3D"), _windows),
    **dict.fromkeys(("AdaptiveAvgPool2D", "AdaptiveMaxPool2D"), _adaptive),
    **dict.fromkeys(("Mean", "Sum", "Amax", "Amin", "Max", "Min", "Var", "Std", "Logsumexp", "LinalgVectorNorm"), _reduction),
    **dict.fromkeys(("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze"), _reshape),
    "Permute": _permutation,
    "Transpose": _transposition,
    "Slice": _slice,
    "Select": _selection,
    **dict.fromkeys(("Split", "SplitWithSizes"), _parts),
    "ConstantPadNd": _padding,
    **dict.fromkeys(("Addmm", "Mm"), _mixing(lambda step: (1,))),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Cumsum"), _mixing(lambda step: (_signed(step.node._saved_dim),))),
    "NativeLayerNorm": _mixing(lambda step: [-1 - at for at in range(len(step.node._saved_normalized_shape))]),
    "NativeGroupNorm": _mixing(lambda step: range(1, len(step.result))),
    "NativeBatchNorm": _mixing(lambda step: [0, *range(2, len(step.result))]),  # by the statistics of the batch
    "UpsampleNearest2D": _nearest,
    "UpsampleBilinear2D": _bilinear,
    "PixelShuffle": _shuffle,
    "PixelUnshuffle": _unshuffle,
}
