"""The layers of a network as one pass calls them, and what they give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidModel, UnknownName, first_line
from deepforward.instruments.layer_hooks import first_tensor, kind_of, layers_of, own_parameters
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.wrappers import plain_name, unwrapped
from deepforward.layers.recognition import is_activation


@dataclass(frozen=True)
class FeatureLayer:
    """A layer with weights together with the activation behind it.

    Attributes:
        name: Where its features are read: the activation behind it, or itself where that is called as a function; `name#call`
            from the second call on.
        weights: The module that holds the weights.
        kind: Class of that module.
        shape: Shape of its features for one example: (channels, height, width) of maps.
    """

    name: str
    weights: str
    kind: str
    shape: tuple[int, ...]

    @property
    def is_map(self) -> bool:
        """Whether its features have places: more than one, in two dimensions."""
        return len(self.shape) == 3 and self.shape[1] * self.shape[2] > 1


@dataclass(frozen=True)
class LayerCall:
    """A call of a layer in a pass.

    Attributes:
        name: Its name, `name#call` from the second call on.
        module: The module.
        has_weights: Whether it has parameters of two dimensions or more.
        shape: Shape of its output for one example.
        address: Where the output lies in memory.
    """

    name: str
    module: nn.Module
    has_weights: bool
    shape: tuple[int, ...]
    address: int


def feature_layers(model: nn.Module, inputs: Float[Tensor, "batch *shape"]) -> tuple[FeatureLayer, ...]:
    """The layers that make features, in the order in which they run; not the one that gives the model's output.

    Args:
        model: Any module that takes one tensor; run once in evaluation mode and left as found.
        inputs: Examples that it accepts.

    Raises:
        InvalidModel: The model fails on the examples.
    """
    model = unwrapped(model)
    calls, end, _ = _calls(model, inputs)
    starts = [at for at, call in enumerate(calls) if call.has_weights]
    found = []
    for start, stop in zip(starts, [*starts[1:], len(calls)], strict=True):
        affine = calls[start]
        behind = next((call for call in calls[start + 1 : stop] if is_activation(call.module)), None)
        features = affine if behind is None else behind
        if features.address not in end:
            found.append(FeatureLayer(features.name, affine.name, kind_of(affine.module), features.shape))
    return tuple(found)


def layer_calls(model: nn.Module, inputs: Float[Tensor, "batch *shape"]) -> tuple[list[LayerCall], tuple[int, ...]]:
    """All calls of layers in one pass in evaluation mode, and the shape of the model's output for one example.

    Raises:
        InvalidModel: The model fails on the examples.
    """
    calls, _, shape = _calls(unwrapped(model), inputs)
    return calls, shape


def _calls(model: nn.Module, inputs: Tensor) -> tuple[list[LayerCall], set[int], tuple[int, ...]]:
    """The calls of layers in one pass, where the output of the model lies, and its shape."""
    calls: list[LayerCall] = []
    alive: list[Tensor] = []  # so that no later tensor takes the address of an earlier one
    counts: Counter[str] = Counter()
    names = {module: name for name, module in layers_of(model).items()}

    def see(module: nn.Module, args: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is None:
            return
        alive.append(tensor)
        has_weights = any(parameter.dim() > 1 for parameter in own_parameters(module))
        name = _key(names[module], counts)
        calls.append(LayerCall(name, module, has_weights, tuple(tensor.shape[1:]), tensor.untyped_storage().data_ptr()))

    handles = [module.register_forward_hook(see) for module in names]
    try:
        with left_as_found(model), torch.no_grad():
            output = first_tensor(run(model, inputs))
    finally:
        for handle in handles:
            handle.remove()
    if output is None:
        return calls, set(), ()
    return calls, {output.untyped_storage().data_ptr()}, tuple(output.shape[1:])


def run(model: nn.Module, inputs: Tensor) -> Any:
    """The model's output for a copy of the inputs, in evaluation mode.

    Raises:
        InvalidModel: It fails.
    """
    try:
        return model.eval()(inputs.clone())
    except Exception as error:
        failed = f"{type(error).__name__}: {first_line(error)}"
        shape = tuple(inputs.shape[1:])
        raise InvalidModel(f"the model fails on examples of shape {shape} ({failed}); give examples that it takes") from error


def _key(name: str, counts: Counter[str]) -> str:
    counts[name] += 1
    return name if counts[name] == 1 else f"{name}#{counts[name] - 1}"


@contextmanager
def watching_layers(model: nn.Module, names: Sequence[str], *, unactivated: bool = False) -> Iterator[Mapping[str, Tensor]]:
    """While open, each pass fills the mapping: name -> output of that layer, with its graph.

    Args:
        model: Any module without wrappers.
        names: Names of modules, `name#call` for calls behind the first.
        unactivated: Of modules that are activations take the input instead, which has a gradient where a rectifier is off.

    Raises:
        UnknownName: There is no such module.
    """
    modules = {plain_name(name) or type(model).__name__: module for name, module in model.named_modules()}
    wanted: dict[str, list[str]] = {}
    for name in names:
        bare = name.rpartition("#")[0] if name not in modules and name.rpartition("#")[2].isdigit() else name
        if bare not in modules:
            raise UnknownName("layer", name, modules)
        wanted.setdefault(bare, []).append(name)
    seen: dict[str, Tensor] = {}
    counts: Counter[str] = Counter()

    def keep(bare: str, value: Any) -> None:
        tensor = first_tensor(value)
        if tensor is not None and (key := _key(bare, counts)) in wanted[bare]:
            seen[key] = tensor.clone()  # what follows may work in place

    def begin(module: nn.Module, args: Any) -> None:
        counts.clear()
        seen.clear()

    handles = [model.register_forward_pre_hook(begin)]
    for bare in wanted:
        module = modules[bare]
        if unactivated and is_activation(module):
            handles.append(module.register_forward_pre_hook(lambda module, args, bare=bare: keep(bare, args)))
        else:
            handles.append(module.register_forward_hook(lambda module, args, output, bare=bare: keep(bare, output)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def outputs_of(
    model: nn.Module, inputs: Float[Tensor, "batch *shape"], names: Sequence[str], *, chunk: int = 256
) -> Iterator[tuple[slice, Mapping[str, Tensor]]]:
    """Outputs of layers, some examples at a time, without gradient: (which examples, name -> output).

    The model is run in evaluation mode and left as found.

    Raises:
        UnknownName: There is no such layer.
        InvalidModel: The model fails, or does not call a layer.
    """
    model = unwrapped(model)
    with left_as_found(model), torch.no_grad(), watching_layers(model, names) as seen:
        for start in range(0, len(inputs), chunk):
            part = inputs[start : start + chunk]
            run(model, part)
            check_called(seen, names)
            yield slice(start, start + len(part)), dict(seen)


def check_called(seen: Mapping[str, Tensor], names: Sequence[str]) -> None:
    """Refuse names of layers that a pass did not call.

    Raises:
        InvalidModel: There is one.
    """
    if missing := [name for name in names if name not in seen]:
        raise InvalidModel(f"the model does not call '{missing[0]}' on these inputs; name a layer that runs")
