"""Degradation: training error that rises with depth, and how much of the signal residual blocks change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from deepforward.errors import ShapeError
from deepforward.instruments.examination import Examination
from deepforward.instruments.instrument import norm_dtype
from deepforward.instruments.left_as_found import left_as_found

_ADDITIONS = frozenset({torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__})


@dataclass(frozen=True)
class DepthCurve:
    """Training loss against depth, of networks that differ in nothing else.

    Attributes:
        depths: Layers, ascending.
        losses: Training loss of each.
    """

    depths: tuple[int, ...]
    losses: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.losses) or len(self.depths) < 2 or list(self.depths) != sorted(set(self.depths)):
            raise ShapeError(
                f"got depths {self.depths} and {len(self.losses)} losses, expected two or more of each, depths ascending"
            )

    @property
    def excess(self) -> float:
        """Loss of the deepest less the best of the shallower: above 0, the deeper one could copy and did not."""
        return self.losses[-1] - min(self.losses[:-1])

    @property
    def degrades(self) -> bool:
        """Whether the deepest network fits its own training data worse than a shallower one; also where its loss is NaN."""
        return not self.excess <= 0


@dataclass(frozen=True)
class Blocks:
    """What residual blocks do, one entry for each addition `x + F(x)` in the order of the forward pass.

    Attributes:
        names: `name#k`: the module whose forward code adds, and which of its additions it is.
        contributions: |F(x)| / |x|, each norm over all examples of all batches; x is the shortcut's value.
        growths: |x + F(x)| / |x|.
        loss: Mean loss on the batches.
    """

    names: tuple[str, ...]
    contributions: tuple[float, ...]
    growths: tuple[float, ...]
    loss: float


class Degradation(Examination[Blocks]):
    """Watches one forward pass a batch (a third of a training step) for additions of a short path to a long one.

    An addition counts as residual if both summands have the same shape and come from the model's input, one by way of fewer
    operations with parameters than the other; the shorter is the shortcut, whether identity, padding or projection. This finds
    the blocks of any module, whoever wrote it. A model without any gives an empty record with its loss.

    Source: He, Zhang, Ren, Sun 2016, Deep residual learning for image recognition, equation 1; the ratio |F| / |x| is how far
    a block is from the identity (figure 7 there shows the responses).
    """

    def _measure(self, model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]) -> Blocks:
        """Measure."""
        squares: dict[str, list[float]] = {}
        losses = []
        with left_as_found(model):
            for batch in batches:
                with torch.enable_grad(), _followed(model) as additions:
                    losses.append(float(loss(model, batch).detach()))
                for name, three in additions.found.items():
                    total = squares.setdefault(name, [0.0, 0.0, 0.0])
                    squares[name] = [sum(pair) for pair in zip(total, (float(value) for value in three), strict=True)]
        carried, branch, result = ([three[k] for three in squares.values()] for k in range(3))
        return Blocks(
            tuple(squares),
            tuple(_root_of_ratio(f, x) for f, x in zip(branch, carried, strict=True)),
            tuple(_root_of_ratio(y, x) for y, x in zip(result, carried, strict=True)),
            fmean(losses),
        )


class _Additions(TorchFunctionMode):
    """Follows, through a forward pass, how many operations with parameters each tensor has behind it.

    Attributes:
        found: Addition -> sums of squares of shortcut, branch and result, on their device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self._length = WeakTensorKeyDictionary()
        self._inside: list[str] = []
        self._counts: dict[str, int] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options: Mapping[str, Any] = kwargs or {}
        if not self._inside:
            return func(*args, **options)
        tensors = list(_tensors((args, options)))
        longest = max((self._length[tensor] for tensor in tensors if tensor in self._length), default=None)
        # Squares are summed before the addition, which may be done in place.
        sums = self._summands(args, options.get("alpha", 1)) if func in _ADDITIONS else None
        result = func(*args, **options)
        if longest is not None:
            learnt = any(isinstance(t, nn.Parameter) or (t.requires_grad and t not in self._length) for t in tensors)
            for tensor in _tensors(result):
                self._length[tensor] = longest + learnt
        if sums is not None:
            name = self._inside[-1]
            count = self._counts.get(name, 0)
            self._counts[name] = count + 1
            self.found[f"{name}#{count}"] = (*sums, _square(result))
        return result

    def _summands(self, args: tuple[Any, ...], alpha: float) -> tuple[Tensor, Tensor] | None:
        """Sums of squares of shortcut and branch in `a + alpha b`, if it is a residual addition."""
        if len(args) < 2 or not all(isinstance(value, Tensor) and value in self._length for value in args[:2]):
            return None
        first, second = args[:2]
        if first.shape != second.shape or first.dim() < 2 or not first.is_floating_point():
            return None
        if self._length[first] == self._length[second]:
            return None
        squares = _square(first), _square(second) * alpha**2
        return squares if self._length[first] < self._length[second] else squares[::-1]

    def enters(self, name: str) -> Callable[..., None]:
        """The hook that notes which module's forward code runs."""

        def enter(module: nn.Module, args: object, kwargs: object) -> None:
            if not self._inside:
                for tensor in _tensors((args, kwargs)):
                    self._length[tensor] = 0
            self._inside.append(name or type(module).__name__)

        return enter

    def leaves(self, module: nn.Module, args: object, kwargs: object, output: object) -> None:
        """What a module made by an operation of its own, which torch does not show, is longer than what it was given."""
        self._inside.pop()
        given = [self._length[tensor] for tensor in _tensors((args, kwargs)) if tensor in self._length]
        for tensor in _tensors(output) if given else ():
            if tensor not in self._length:
                self._length[tensor] = max(given) + any(True for _ in module.parameters())


@contextmanager
def _followed(model: nn.Module) -> Iterator[_Additions]:
    additions = _Additions()
    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(additions.enters(name), with_kwargs=True))
        handles.append(module.register_forward_hook(additions.leaves, with_kwargs=True, always_call=True))
    try:
        with additions:
            yield additions
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: object) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _square(tensor: Tensor) -> Tensor:
    return torch.linalg.vector_norm(tensor.detach(), dtype=norm_dtype(tensor)).square()


def _root_of_ratio(above: float, below: float) -> float:
    return math.sqrt(above / below) if below > 0 else math.inf if above > 0 else 0.0
