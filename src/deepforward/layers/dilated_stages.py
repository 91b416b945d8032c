"""What the dilated convolutions of any built module touch, read from the graph of one pass."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.autograd.graph import Node

from deepforward.layers.autograd_graph import from_root

#: Operations whose results lie on another grid than their arguments, besides convolutions with a stride.
_REGRIDS = re.compile("Pool|Upsample|Pixel(S|Uns)huffle|GridSampler")

#: Offsets beyond which a receptive field is not followed.
_LARGEST = 1 << 22


@dataclass(frozen=True)
class DilatedLayer:
    """A convolution of more than one tap.

    Attributes:
        name: Name of its module, "" where the weight belongs to none.
        kernel: Taps along each axis.
        rates: Dilation along each axis.
    """

    name: str
    kernel: tuple[int, ...]
    rates: tuple[int, ...]


@dataclass(frozen=True)
class DilatedStage:
    """Convolutions on one grid, between changes of the resolution, some of them dilated.

    Attributes:
        layers: Those of more than one tap, in the order of the pass.
        field: Size of the receptive field of the stage's output on the grid that the stage is fed.
        coverage: Share of that field which is touched on some path, in (0, 1].
    """

    layers: tuple[DilatedLayer, ...]
    field: tuple[int, ...]
    coverage: float


@dataclass(frozen=True)
class _Reach:
    """Which offsets of the grid that the stage is fed a tensor depends on; `low` is the first of them along each axis."""

    low: tuple[int, ...]
    hits: np.ndarray
    layers: tuple[DilatedLayer, ...] = ()


def dilated_stages(outputs: Tensor, module: nn.Module) -> tuple[DilatedStage, ...]:
    """Stages with a dilated convolution, in the order of the pass.

    A stage begins at the input and at whatever changes the resolution: convolutions with a stride, transposed ones, pooling,
    upsampling, pixel shuffles. Within it, offsets are followed along every path, and paths that meet are united: what skips and
    parallel rates touch counts.

    Args:
        outputs: What the module gave, or a loss of it, with its graph; parameters must have required gradients.
        module: The module, which knows the names of its weights.
    """
    if outputs.grad_fn is None:
        return ()
    owners = {id(parameter): name.rpartition(".")[0] for name, parameter in module.named_parameters(remove_duplicate=False)}
    reach: dict[Node, _Reach | None] = {}
    ended: dict[tuple[DilatedLayer, ...], _Reach] = {}
    for node in reversed(from_root(outputs.grad_fn)):
        given = [child for child, _ in node.next_functions]
        if node.name().startswith("Convolution"):
            given = given[:1]  # the others are weight and bias
        below = _united([found for child in given if child is not None and (found := reach[child]) is not None])
        reach[node] = _passed(node, below, owners)
        if below is not None and _regrids(node):
            ended[below.layers] = below
    last = reach[outputs.grad_fn]
    if last is not None:
        ended[last.layers] = last
    return tuple(_judged(found) for layers, found in ended.items() if any(max(layer.rates) > 1 for layer in layers))


@contextmanager
def differentiable(module: nn.Module) -> Iterator[None]:
    """All parameters of floating point require gradients while open, so that a pass leaves its graph, frozen layers too."""
    frozen = [p for p in module.parameters() if p.is_floating_point() and p.is_leaf and not p.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _judged(reach: _Reach) -> DilatedStage:
    return DilatedStage(reach.layers, reach.hits.shape, int(reach.hits.sum()) / reach.hits.size)


def _passed(node: Node, below: _Reach | None, owners: Mapping[int, str]) -> _Reach | None:
    """What the result of an operation depends on; None where no convolution has come yet, or the field is too large."""
    if not node.name().startswith("Convolution"):
        return None if _regrids(node) else below
    at: Any = node  # autograd saves what a backward pass needs, under names that torch's annotations do not know
    kernel = tuple(at._saved_weight.shape[2:])
    start = _Reach((0,) * len(kernel), np.ones((1,) * len(kernel), bool))
    if _regrids(node):
        return start
    below = below if below is not None and below.hits.ndim == len(kernel) else start
    rates, padding = tuple(at._saved_dilation), tuple(at._saved_padding)
    if max(kernel) == 1:
        return below
    layer = DilatedLayer(_owner(node, owners), kernel, rates)
    shape = [side + (taps - 1) * rate for side, taps, rate in zip(below.hits.shape, kernel, rates, strict=True)]
    if np.prod(shape) > _LARGEST:
        return None
    hits = np.zeros(shape, bool)
    for taps in product(*map(range, kernel)):
        hits[_at([tap * rate for tap, rate in zip(taps, rates, strict=True)], below.hits.shape)] |= below.hits
    low = tuple(first - pad for first, pad in zip(below.low, padding, strict=True))
    return _Reach(low, hits, (*below.layers, layer))


def _regrids(node: Node) -> bool:
    if node.name().startswith("Convolution"):
        at: Any = node
        return max(at._saved_stride) > 1 or bool(at._saved_transposed)
    return _REGRIDS.search(node.name()) is not None


def _owner(node: Node, owners: Mapping[int, str]) -> str:
    """Name of the module that a convolution's weight belongs to, past casts and reparametrisations."""
    weight: Any = node.next_functions[1][0]
    while weight is not None and not hasattr(weight, "variable"):
        weight = weight.next_functions[0][0] if weight.next_functions else None
    name = owners.get(id(weight.variable), "") if weight is not None else ""
    return name.removesuffix(".parametrizations.weight")


def _united(reaches: Sequence[_Reach]) -> _Reach | None:
    """What tensors depend on together; of grids of different dimension the first counts."""
    same = [reach for reach in reaches if reach.hits.ndim == reaches[0].hits.ndim]
    if len({id(reach) for reach in same}) < 2:
        return same[0] if same else None
    ends = [[first + side for first, side in zip(reach.low, reach.hits.shape, strict=True)] for reach in same]
    low = [min(firsts) for firsts in zip(*(reach.low for reach in same), strict=True)]
    high = [max(lasts) for lasts in zip(*ends, strict=True)]
    hits = np.zeros([last - first for first, last in zip(low, high, strict=True)], bool)
    for reach in same:
        offset = [mine - first for mine, first in zip(reach.low, low, strict=True)]
        hits[_at(offset, reach.hits.shape)] |= reach.hits
    layers = dict.fromkeys(layer for reach in same for layer in reach.layers)
    return _Reach(tuple(low), hits, tuple(layers))


def _at(offset: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + side) for first, side in zip(offset, shape, strict=True))
