"""Computes batch normalisation together with the residual addition and the ReLU that follow it.

Apart, the three go through memory ten times in a training step, which takes longer than the convolutions' arithmetic. Nothing
need be known of the network for it: while it runs, the result of a batch normalisation is promised instead of computed, and
the promise is kept when it is seen what happens to it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from deepforward.errors import NoEffect
from deepforward.layers.fused_normalization import batch_statistics, fits, kernel, normalize


def fuse(model: nn.Module, example_inputs: Float[Tensor, "batch *shape"]) -> nn.Module:
    """A module that calls `model` and computes [batch normalisation -> (+ residual) -> ReLU] at once.

    It fuses while gradients are recorded, with batch statistics, on a CPU, in float32 or bfloat16, images of a multiple of 16
    channels that lie channels last; everything else is computed as ever. Parameters, buffers, modes and hooks are the model's,
    and its code runs as it is written, so that control flow and random draws keep their meaning. A forward hook on a batch
    normalisation is given the promise of its output, which acts as a tensor when it is used; hooks change no bits. Gradients
    can be taken once, not twice.

    Args:
        model: Any module; left as it is.
        example_inputs: A batch that it accepts, two examples or more; the model is run on it once.

    Raises:
        NoEffect: Nothing can be fused; the message says why.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        raise NoEffect("got a model without batch normalisation of images, expected some to fuse; leave fusion off")
    if kernel() is None:
        raise NoEffect("got no working C++ compiler, expected g++ or clang++ to build the fused kernel; leave fusion off")
    if not _promises(model, example_inputs):
        raise NoEffect(
            "got no batch normalisation that fits, expected a multiple of 16 channels, channels last, on a CPU; leave it off"
        )
    return Fused(model)


class Fused(nn.Module):
    """Calls a model with its batch normalisations fused with what follows them; see `fuse`.

    Args:
        model: The model. Its attributes are found here too.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the model gives."""
        with _Promising():
            return tree_map(_kept, self.model(*inputs, **options))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)


def _promises(model: nn.Module, example_inputs: Tensor) -> int:
    """How many promises one training pass makes; the model is left as it was.

    Raises:
        NoEffect: The model does not take promises for tensors.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), _Promising() as promising:
            tree_map(_kept, functional_call(model, buffers, (example_inputs.clone(),)))
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise NoEffect(f"got a model that fails when fused ({type(error).__name__}: {reason}); leave fusion off") from error
    finally:
        for module, mode in modes:
            module.training = mode
    return promising.made


class _Promising(TorchFunctionMode):
    """While open, a batch normalisation by batch statistics gives a promise, where the kernel can keep it.

    Attributes:
        made: Promises so far.
    """

    made = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        promise = _promise(*args, **options) if func is F.batch_norm else None
        if promise is None:
            return func(*args, **options)
        self.made += 1
        return promise


def _promise(
    inputs: Any,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    *,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> _Promise | None:
    """A promise for these arguments of `F.batch_norm`; None where torch must compute it."""
    if not training or weight is None or bias is None or not torch.is_grad_enabled():
        return None
    if not fits(inputs, weight, bias, running_mean, running_var):
        return None
    table = batch_statistics(
        inputs, weight, bias, running_mean=running_mean, running_var=running_var, momentum=momentum, eps=eps
    )
    return _Promise((inputs, weight, bias, table))


class _Promise:
    """The output of a batch normalisation, perhaps plus a residual, that is computed when it is used.

    A ReLU of it is computed from the inputs even if the value was looked at before, so that looking changes no bits; only
    where somebody wrote into the value is it taken from there.
    """

    def __init__(self, normalized: tuple[Tensor, Tensor, Tensor, Tensor], residual: Tensor | None = None) -> None:
        self._normalized = normalized  # inputs, weight, bias, table
        self._add(residual)

    def _add(self, residual: Tensor | None) -> None:
        self._residual = residual
        self._versions = self._current_versions()
        self._value: Tensor | None = None
        self._value_version = 0

    def _current_versions(self) -> list[int]:
        return [tensor._version for tensor in (*self._normalized, self._residual) if tensor is not None]

    def _compute(self, relu: bool) -> Tensor:
        if self._current_versions() != self._versions:
            raise RuntimeError("what a fused batch normalisation had read was then changed in place; switch fusion off")
        return normalize(*self._normalized, residual=self._residual, relu=relu)

    def _keep(self) -> Tensor:
        """The value as a tensor, always the same one."""
        if self._value is None:
            self._value = self._compute(relu=False)
            self._value_version = self._value._version
        return self._value

    def _relu(self, inplace: bool = False) -> Tensor:
        if self._value is not None and self._written:
            return F.relu(self._value, inplace)
        result = self._compute(relu=True)
        if inplace:
            self._value, self._value_version = result, -1
        return result

    @property
    def _written(self) -> bool:
        return self._value is not None and self._value._version != self._value_version

    def _takes(self, other: Any) -> bool:
        """Whether adding `other` can be promised too."""
        alike = type(other) is Tensor and _layout(other) == _layout(self._normalized[0])
        return alike and self._residual is None and not self._written

    def __add__(self, other: Any) -> Any:
        other = _kept(other)
        return _Promise(self._normalized, _channels_last(other)) if self._takes(other) else self._keep() + other

    __radd__ = __add__

    def __iadd__(self, other: Any) -> _Promise:
        other = _kept(other)
        if self._takes(other):
            self._add(_channels_last(other))
        else:
            self._keep().add_(other)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._keep(), name)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        if func in (F.relu, torch.relu) and isinstance(args[0], _Promise):
            return args[0]._relu(**options)
        if func in (torch.add, Tensor.add) and len(args) == 2 and not options:
            return args[0] + args[1] if isinstance(args[0], _Promise) else args[1] + args[0]
        return func(*tree_map(_kept, args), **tree_map(_kept, options))


def _layout(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _kept(thing: Any) -> Any:
    return thing._keep() if isinstance(thing, _Promise) else thing
