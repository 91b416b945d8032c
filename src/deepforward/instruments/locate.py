"""Names the place where a non-finite number is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from deepforward.instruments.layer_hooks import in_backward
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.wrappers import plain_name, unwrapped


def locate_nonfinite(model: nn.Module, forward_loss: Callable[[], Tensor]) -> Mapping[str, object] | None:
    """Replay one batch with a check at every module, and name the first producer of NaN or infinity.

    A producer makes a non-finite number out of finite ones; those that only pass it on are victims and are not named. The
    model's modes, buffers and gradients and the random numbers are left as found. For the same dropout masks as in the step
    itself, let `forward_loss` set the random state that the step began with.

    Args:
        model: Any module.
        forward_loss: Runs the batch through the model and returns the loss; called once.

    Returns:
        {"layer", "kind", "place"} or None if everything is finite. `layer` is `name#call` of the innermost module, `kind` its
        class name, and `place` one of "input" (the batch itself; layer "input"), "parameter" (of that layer), "output" (of that
        layer; layer "loss" for what follows the model), or "gradient" (its backward pass made the first one).
    """
    model = unwrapped(model)
    with left_as_found(model):
        replay = _Replay(model)
        try:
            loss = forward_loss()
            if not _finite(loss):
                replay.blame("loss", "", "output")
            if replay.origin is None and loss.requires_grad:
                torch.autograd.backward(loss.sum())
        finally:
            replay.remove_hooks()
        return replay.origin


@dataclass
class _Call:
    """One call of a module: whether what came in was finite, forward and then backward."""

    name: str
    key: str
    module: nn.Module
    inputs_finite: bool
    gradients_finite: bool = True


class _Replay:
    """Checks one forward and backward pass, and keeps the first producer it meets as `origin`."""

    def __init__(self, model: nn.Module) -> None:
        self.origin: Mapping[str, object] | None = None
        self._model = model
        self._counts = Counter[str]()
        self._running: list[_Call] = []
        self._last_call: dict[str, _Call] = {}
        # The tensors are kept alive so that their ids stay theirs.
        self._outputs: dict[int, tuple[Tensor, list[_Call]]] = {}
        self._handles: list[RemovableHandle] = []
        for name, module in ((plain_name(name), module) for name, module in model.named_modules()):
            self._handles.append(module.register_forward_pre_hook(self._entering(name), with_kwargs=True))
            self._handles.append(module.register_forward_hook(self._leaving))
            for parameter in module.parameters(recurse=False):
                if parameter.requires_grad:
                    self._handles.append(parameter.register_hook(self._parameter_gradient(name)))

    def remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()

    def blame(self, layer: str, kind: str, place: str) -> None:
        self.origin = self.origin or {"layer": layer, "kind": kind, "place": place}

    def _blame_call(self, call: _Call, place: str) -> None:
        self.blame(call.key, type(call.module).__name__, place)

    def _entering(self, name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> Any:
            if in_backward():
                return None
            shown = name or type(module).__name__
            call = _Call(name, f"{shown}#{self._counts[name]}", module, all(map(_finite, _tensors((inputs, named)))))
            self._counts[name] += 1
            if module is self._model and not call.inputs_finite:
                self.blame("input", "", "input")
            self._running.append(call)
            # A view for every consumer tells their gradients apart where several share a tensor (a residual branch).
            return tuple(self._edge(x, call) for x in inputs), {key: self._edge(x, call) for key, x in named.items()}

        return hook

    def _edge(self, value: Any, call: _Call) -> Any:
        if not isinstance(value, Tensor) or not value.requires_grad:
            return value
        edge = value.view_as(value)
        edge.register_hook(partial(self._gradient_out_of, call))
        return edge

    def _leaving(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if in_backward():
            return
        call = self._running.pop()
        self._last_call[call.name] = call
        outputs = list(_tensors(output))
        if call.inputs_finite and not all(map(_finite, outputs)):
            self._blame_call(call, "output" if all(map(_finite, module.parameters())) else "parameter")
        for tensor in outputs:
            if tensor.requires_grad:
                self._outputs.setdefault(id(tensor), (tensor, []))[1].append(call)
                handle = tensor.register_hook(self._gradient_into(call, id(tensor)))
                if tensor.is_leaf:  # a parameter that was handed out outlives the replay
                    self._handles.append(handle)

    def _gradient_into(self, call: _Call, tensor: int) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            if not _finite(gradient):
                call.gradients_finite = False
                self._blame_code_after(self._outputs[tensor][1][-1])

        return hook

    def _blame_code_after(self, call: _Call) -> None:
        """The gradient came broken out of no module: the code around the call made it."""
        if call.module is self._model:
            self.blame("loss", "", "gradient")
        else:
            around = self._last_call.get(call.name.rpartition(".")[0])
            self._blame_call(around or call, "gradient")

    def _gradient_out_of(self, call: _Call, gradient: Tensor) -> None:
        if call.gradients_finite and not _finite(gradient):
            self._blame_call(call, "gradient")

    def _parameter_gradient(self, name: str) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            call = self._last_call.get(name)
            if call is not None:
                self._gradient_out_of(call, gradient)

        return hook


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.detach().isfinite().all())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point() or value.is_complex():
            yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
