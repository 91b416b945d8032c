"""How a module is wired, found by running it once: which affine layers feed which activations, through which normalisation.

Nothing is read from the source code: hooks tell which module runs on which tensor, and a dispatch mode sees the operations
between them, so that functional activations and additions of skip connections are seen too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from deepforward.errors import InvalidModel
from deepforward.layers.recognition import elementwise
from deepforward.layers.recording import AffineEvent, Event, Recorder, recording
from deepforward.theory.mean_field import Elementwise


@dataclass(frozen=True)
class HiddenLayer:
    """An affine layer whose output, at each of its calls, reaches an activation that is not the module's output.

    Attributes:
        name: Name of the affine module.
        affine: The module.
        activation: The elementwise function that follows, callable on any floating-point tensor.
        norm: Name of the normalisation between the two, or None.
        normalized: Whether a normalisation stands between the two or right after the activation.
        skipped: Whether some addition already carries the signal past this layer.
        entering: Whether no affine layer comes before it.
        input_shape, output_shape: Shapes of its tensors for the example, batch included.
        input_square: Mean square of its input.
        calls: How often the module, or the normalisation behind it if that is more often, is called in one pass.
    """

    name: str
    affine: nn.Module
    activation: Elementwise
    norm: str | None
    normalized: bool
    skipped: bool
    entering: bool
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    input_square: float
    calls: int


@dataclass(frozen=True)
class Wiring:
    """What one pass showed.

    Attributes:
        hidden: Hidden affine layers in the order of their first call.
        activations: Activation modules by name, without those that give the module's output.
        functional: Operations of activations that are not modules, in order of their calls.
    """

    hidden: tuple[HiddenLayer, ...]
    activations: Mapping[str, nn.Module]
    functional: tuple[str, ...]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode while open; each submodule gets its own mode back."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for child, mode in modes:
            child.training = mode


def trace(module: nn.Module, example_inputs: Float[Tensor, "batch *shape"]) -> Wiring:
    """Run a module once, without gradient and in evaluation mode, and read its wiring.

    Args:
        module: Any module that takes one tensor.
        example_inputs: A batch that it accepts.

    Returns:
        Hidden layers and activations. An activation written as several operations (`x * torch.sigmoid(x)`), or an affine map
        that is not a Linear or Conv module, is not recognised.

    Raises:
        InvalidModel: The module fails on the example.
    """
    return _read(*record(module, example_inputs))


def record(module: nn.Module, example_inputs: Float[Tensor, "batch *shape"]) -> tuple[Recorder, set[int]]:
    """The pass that `trace` reads: its events, and the addresses of the module's outputs.

    Raises:
        InvalidModel: The module fails on the example.
    """
    try:
        devices = [example_inputs.device] if example_inputs.is_cuda else []
        with torch.random.fork_rng(devices), evaluating(module), torch.no_grad(), recording(module) as recorder:
            inputs = example_inputs.clone()
            recorder.start(inputs)
            outputs = module(inputs)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidModel(
            f"the module fails on an example of shape {tuple(example_inputs.shape)} ({type(error).__name__}: {reason}); "
            "expected it to accept the data; build it with the data's shape"
        ) from error
    return recorder, {recorder.key(x)[0] for x in tree_leaves(outputs) if isinstance(x, Tensor)}


def _read(recorder: Recorder, ends: set[int]) -> Wiring:
    consumers: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in recorder.events:
        consumers[recorder.alias.get(event.given, event.given)].append(event)
    found: dict[str, list[HiddenLayer | None]] = defaultdict(list)
    for position, event in enumerate(recorder.events):
        if isinstance(event, AffineEvent):
            found[event.name].append(_hidden_layer(event, consumers, ends, position in recorder.skipped))
    calls = Counter(event.name for event in recorder.events)
    hidden = [
        replace(
            layer, calls=max(calls[name], calls[layer.norm or ""]), skipped=any(other and other.skipped for other in layers)
        )
        for name, layers in found.items()
        if None not in layers and (layer := layers[0]) is not None
    ]
    inner = [e for e in recorder.events if e.kind in ("activation", "functional") and e.result[0] not in ends]
    modules = {e.name: e.module for e in inner if e.module is not None}
    functional = tuple(e.name.removeprefix("aten::") for e in inner if e.module is None)
    return Wiring(tuple(hidden), modules, functional)


def _hidden_layer(
    event: AffineEvent, consumers: Mapping[tuple[int, int], list[Event]], ends: set[int], skipped: bool
) -> HiddenLayer | None:
    norm = _first(consumers.get(event.result, ()), "norm")
    activated = _first(consumers.get(norm.result if norm else event.result, ()), "activation", "functional")
    if activated is None or activated.result[0] in ends or event.module is None:
        return None
    function = elementwise(activated.module) if activated.module is not None else activated.function
    assert function is not None
    return HiddenLayer(
        name=event.name,
        affine=event.module,
        activation=function,
        norm=norm.name if norm else None,
        normalized=norm is not None or _first(consumers.get(activated.result, ()), "norm") is not None,
        skipped=skipped,
        entering=event.entering,
        input_shape=event.input_shape,
        output_shape=event.output_shape,
        input_square=event.input_square,
        calls=1,
    )


def _first(events: Iterable[Event], *kinds: str) -> Event | None:
    return next((event for event in events if event.kind in kinds), None)
