"""One pass of a module as a list of events: calls of modules, and functional activations between them.

Hooks tell which module runs on which tensor, and a dispatch mode sees the operations between them.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from deepforward.layers.recognition import kind_of
from deepforward.theory.mean_field import Elementwise

#: Operations that functional activations come down to, without overload and without the underscore of the in-place form.
_ACTIVATION_OPS = frozenset(
    f"aten::{name}"
    for name in (
        *("relu", "tanh", "sigmoid", "gelu", "elu", "silu", "mish", "leaky_relu", "softplus", "hardtanh", "clamp_min"),
        *("clamp", "hardsigmoid", "hardswish", "erf", "atan"),
    )
)
#: Operations that an activation commutes with, or nearly: [conv -> pool -> relu] is wired like [conv -> relu].
_POOLING_OPS = frozenset(
    f"aten::{name}" for name in ("max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "avg_pool1d", "max_pool2d")
)
#: Stands for the module's input among the sources of a tensor; affine calls go by their position among the events.
INPUT = -1

#: A tensor's content: address of its storage, and version, which an in-place operation raises.
Key = tuple[int, int]


@dataclass(frozen=True)
class Event:
    """A call of a module, or of an activation as a function.

    Attributes:
        name: Name of the module, or of the operation.
        kind: `affine`, `norm`, `activation`, or `functional`.
        given, result: First input and output.
        module: The module, or None for a function.
        function: The function with the arguments it was called with, or None for a module.
    """

    name: str
    kind: str
    given: Key
    result: Key
    module: nn.Module | None = None
    function: Elementwise | None = None


@dataclass(frozen=True)
class AffineEvent(Event):
    """A call of an affine layer.

    Attributes:
        entering: Whether no affine layer comes before it.
        input_shape, output_shape: Shapes, batch included.
        input_square: Mean square of the input.
    """

    entering: bool = False
    input_shape: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    input_square: float = 0.0


class Recorder(TorchDispatchMode):
    """Collects the events of one pass.

    Attributes:
        events: Calls in the order in which they end.
        alias: Result of a pooling -> what was pooled.
        skipped: Positions of the affine events that some addition carries the signal past.
        uses: Number of operations that read a storage, by its address; views of it count.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.events: list[Event] = []
        self.alias: dict[Key, Key] = {}
        self.skipped: set[int] = set()
        self.uses: Counter[int] = Counter()
        self._kept: list[Tensor] = []
        self._sources: dict[int, frozenset[int]] = {}
        self._pending: dict[nn.Module, list[Key]] = defaultdict(list)
        self._inside_activation = False

    def key(self, tensor: Tensor) -> Key:
        """The tensor's content as it is now."""
        self._kept.append(tensor)  # as long as it lives, no other tensor gets its address
        return tensor.untyped_storage().data_ptr(), tensor._version

    def start(self, inputs: Tensor) -> None:
        """Declare the module's input."""
        self._sources[self.key(inputs)[0]] = frozenset({INPUT})

    def before(self, kind: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A recognised module is about to run."""
        if args and isinstance(args[0], Tensor):
            self._pending[module].append(self.key(args[0]))
            self._inside_activation = kind == "activation"

    def after(self, name: str, kind: str, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        """A recognised module has run."""
        self._inside_activation = False
        if not self._pending[module] or not isinstance(result, Tensor):
            return
        given = self._pending[module].pop()
        if kind != "affine":
            self.events.append(Event(name, kind, given, self.key(result), module))
            return
        above = self._sources.get(given[0], frozenset())
        address, _ = self.key(result)
        self._sources[address] = above | {len(self.events)}
        self.events.append(
            AffineEvent(
                *(name, kind, given, self.key(result), module),
                entering=above <= {INPUT},
                input_shape=tuple(args[0].shape),
                output_shape=tuple(result.shape),
                input_square=float(args[0].float().square().mean()),
            )
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [self.key(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        self.uses.update({address for address, _ in given})
        outcome = func(*args, **kwargs)
        results = [self.key(x) for x in tree_leaves(outcome) if isinstance(x, Tensor)]
        known = [self._sources[address] for address, _ in given if address in self._sources]
        for address, _ in results:
            self._sources[address] = self._sources.get(address, frozenset()).union(*known)
        in_place = func._schema.is_mutable
        name = func._schema.name.removesuffix("_") if in_place else func._schema.name
        if name == "aten::add" and len(known) == 2:
            self.skipped |= known[0] ^ known[1]
        elif name in _POOLING_OPS:
            self.alias[results[0]] = self.alias.get(given[0], given[0])
        elif name in _ACTIVATION_OPS and not self._inside_activation:
            address, version = results[0]
            function = _replay(name.removeprefix("aten::"), args[1:], kwargs)
            self.events.append(Event(name, "functional", given[0], (address, version + in_place), function=function))
        return outcome


def _replay(name: str, args: Any, kwargs: Any) -> Elementwise:
    operation = getattr(torch.ops.aten, name)
    return lambda x: operation(x, *args, **kwargs)


@contextmanager
def recording(module: nn.Module) -> Iterator[Recorder]:
    """While open, what the module does goes to the recorder it gives; afterwards no hook is left."""
    recorder = Recorder()
    handles = []
    try:
        for name, child in module.named_modules():
            kind = kind_of(child)
            if kind is not None:
                handles.append(child.register_forward_pre_hook(functools.partial(recorder.before, kind)))
                handles.append(child.register_forward_hook(functools.partial(recorder.after, name, kind)))
        with recorder:
            yield recorder
    finally:
        for handle in handles:
            handle.remove()
