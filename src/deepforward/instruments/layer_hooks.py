"""Forward hooks and tensor hooks that feed a sample, and leave with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.hooks import RemovableHandle

from deepforward.instruments.instrument import Instrument, Reduction, as_real
from deepforward.instruments.sample import Sample
from deepforward.instruments.wrappers import plain_name

# They compute nothing: their output is their input.
_RESHAPES = (nn.Identity, nn.Flatten, nn.Unflatten)


@dataclass(frozen=True)
class Sight:
    """What is taken from the calls of one module."""

    name: str
    module: nn.Module
    of_output: tuple[tuple[str, Reduction], ...]
    of_gradient: tuple[tuple[str, Reduction], ...]


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that are layers, by name: those without children, and those with parameters of their own.

    A parametrisation (a weight or spectral norm) is part of its layer, not one itself.
    """
    layers = {}
    for name, module in model.named_modules():
        if "parametrizations" in name.split("."):
            continue
        leaf = all(child == "parametrizations" for child, _ in module.named_children()) and not isinstance(module, _RESHAPES)
        if leaf or next(own_parameters(module), None) is not None:
            layers[plain_name(name) or type(module).__name__] = module
    return layers


def own_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of the module and not of its children, those of its parametrisations among them."""
    yield from module.parameters(recurse=False)
    if is_parametrized(module):
        yield from cast(nn.ModuleDict, module.parametrizations).parameters()


def kind_of(module: nn.Module) -> str:
    """Name of the nearest class of torch that computes something, which says what the layer does; else of its own class."""
    empty = (nn.Module.__module__, nn.Sequential.__module__)
    computing = (c for c in type(module).__mro__ if c.__module__.startswith("torch.nn.modules.") and c.__module__ not in empty)
    return next(computing, type(module)).__name__


class LayerHooks:
    """One set of hooks for all instruments, on the model only while a sampled step runs."""

    def __init__(
        self, model: nn.Module, layers: Mapping[str, nn.Module], instruments: Iterable[Instrument], rows: int | None
    ) -> None:
        self._model = model
        self._rows = rows
        self._handles: list[RemovableHandle] = []
        self._sights = [sight for name, module in layers.items() if (sight := _sight(name, module, instruments))]

    def install(self, sample: Sample, *, in_forward: bool = False) -> None:
        """Put the hooks on, perhaps while the model's forward pass begins; everything they see goes into `sample`."""
        gate = Gate(self._model, sample, in_forward, self._handles)
        for sight in self._sights:
            self._handles.append(sight.module.register_forward_hook(_LayerEnds(sight, gate, self._rows)))
        self._handles.append(self._model.register_forward_pre_hook(_ModelBegins(gate)))
        self._handles.append(self._model.register_forward_hook(_ModelEnds(gate), always_call=True))

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def _sight(name: str, module: nn.Module, instruments: Iterable[Instrument]) -> Sight | None:
    outputs: dict[str, Reduction] = {}
    gradients: dict[str, Reduction] = {}
    for instrument in instruments:
        outputs.update(instrument.of_output(module))
        gradients.update(instrument.of_gradient(module))
    return Sight(name, module, tuple(outputs.items()), tuple(gradients.items())) if outputs or gradients else None


class Gate:
    """Tells training from evaluation: a forward pass of the whole model without gradients is none of the step's business."""

    def __init__(self, model: nn.Module, sample: Sample, in_forward: bool, handles: list[RemovableHandle]) -> None:
        self.model = model
        self.sample = sample
        self.inside_training = in_forward
        self.handles = handles

    @property
    def is_open(self) -> bool:
        """Whether what passes now belongs to the step."""
        return (
            not torch.compiler.is_compiling()
            and self.sample.open
            and (self.inside_training or torch.is_grad_enabled())
            and not in_backward()
        )


def in_backward() -> bool:
    """Whether autograd is running, so that a forward pass now is activation checkpointing's second."""
    return torch._C._current_graph_task_id() != -1


class Hook:
    """A hook that does nothing in a copy, so that a model copied or saved during a sampled step drags no probe along."""

    def __reduce__(self) -> tuple[type[_Inert], tuple[()]]:
        return _Inert, ()


class _Inert:
    def __call__(self, *arguments: object) -> None:
        return None


class _ModelBegins(Hook):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __call__(self, module: nn.Module, inputs: object) -> None:
        if module is self.gate.model and self.gate.is_open:
            self.gate.sample.forget_layers()
            self.gate.inside_training = True


class _ModelEnds(Hook):
    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __call__(self, module: nn.Module, inputs: object, output: object) -> None:
        self.gate.inside_training = False


class _LayerEnds(Hook):
    def __init__(self, sight: Sight, gate: Gate, rows: int | None) -> None:
        self.sight, self.gate, self.rows = sight, gate, rows

    def __call__(self, module: nn.Module, inputs: object, output: object) -> None:
        if module is not self.sight.module or not self.gate.is_open:
            return
        tensor = first_tensor(output)
        if tensor is None:
            return
        sample, rows = self.gate.sample, self.rows if tensor.dim() >= 4 else None
        key = sample.key(self.sight.name)
        seen = _first_rows(tensor, rows)
        for statistic, reduce in self.sight.of_output:
            sample.put_layer(statistic, key, reduce(seen))
        if tensor.requires_grad and self.sight.of_gradient:
            handle = tensor.register_hook(partial(self._take_gradient, key, rows))
            if tensor.is_leaf:  # a parameter or an input that was passed on: it outlives the step
                self.gate.handles.append(handle)

    def _take_gradient(self, key: str, rows: int | None, gradient: Tensor) -> None:
        if self.gate.sample.open:
            seen = _first_rows(gradient, rows)
            for statistic, reduce in self.sight.of_gradient:
                self.gate.sample.put_layer(statistic, key, reduce(seen))


def _first_rows(tensor: Tensor, rows: int | None) -> Tensor:
    seen = as_real(tensor.detach())
    return seen if rows is None else seen[:rows]


def first_tensor(output: Any) -> Tensor | None:
    """The first dense tensor of real or complex numbers in an output, which may nest tuples, lists, mappings, data classes."""
    if isinstance(output, Tensor):
        plain = (output.is_floating_point() or output.is_complex()) and output.layout is torch.strided and output.dim() > 0
        return output if plain and not torch._C._functorch.is_functorch_wrapped_tensor(output) else None
    if isinstance(output, Mapping):
        output = tuple(output.values())
    elif is_dataclass(output):
        output = tuple(getattr(output, field.name) for field in fields(output))
    if isinstance(output, tuple | list):
        return next((found for item in output if (found := first_tensor(item)) is not None), None)
    return None
