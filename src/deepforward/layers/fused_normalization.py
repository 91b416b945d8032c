"""Training-mode batch normalisation, with an addition and a ReLU behind it, in two passes over memory each way."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from deepforward.layers.compilation import compiled

_SOURCE = Path(__file__).with_name("fused_normalization.cpp")
#: Channels that the kernel takes at a time.
_LANES = 16


@functools.cache
def kernel() -> ctypes.CDLL | None:
    """The compiled kernel, or None where there is no compiler."""
    library = compiled(_SOURCE)
    if library is not None:
        flag, pointer, size, real = ctypes.c_int, ctypes.c_void_p, ctypes.c_long, ctypes.c_double
        library.batch_norm_statistics.argtypes = [flag, *[pointer] * 6, size, size, real, real, flag]
        library.batch_norm_forward.argtypes = [flag, *[pointer] * 4, size, size, flag, flag]
        library.batch_norm_backward.argtypes = [flag, *[pointer] * 8, size, size, flag, flag]
    return library


def fits(inputs: Any, *parameters: Tensor | None) -> bool:
    """Whether the kernel covers images `inputs` with these vectors of one number per channel; None is covered."""
    return (
        type(inputs) is Tensor
        and inputs.device.type == "cpu"
        and inputs.dtype in (torch.float32, torch.bfloat16)
        and inputs.dim() == 4
        and inputs.shape[1] % _LANES == 0
        and inputs.numel() > inputs.shape[1] > 0
        and inputs.is_contiguous(memory_format=torch.channels_last)
        and all(p is None or (p.dtype == torch.float32 and p.is_contiguous() and p.device.type == "cpu") for p in parameters)
    )


def batch_statistics(
    inputs: Float[Tensor, "batch channel height width"],
    weight: Float[Tensor, " channel"],
    bias: Float[Tensor, " channel"],
    *,
    running_mean: Float[Tensor, " channel"] | None,
    running_var: Float[Tensor, " channel"] | None,
    momentum: float,
    eps: float,
) -> Float[Tensor, "4 channel"]:
    """Mean, 1 / standard deviation, and the scale and shift that normalise; the running statistics are updated.

    Args:
        inputs: Images, channels last in memory.
        weight: Factor after normalising.
        bias: Summand after normalising.
        running_mean: Updated in place, unless it is None.
        running_var: The same with the unbiased variance.
        momentum: Share of the new in the running statistics.
        eps: Added to the (biased) variance.
    """
    table = torch.empty(4, inputs.shape[1])
    _run("statistics", inputs, inputs, weight, bias, running_mean, running_var, table, options=(momentum, eps))
    return table


def normalize(
    inputs: Float[Tensor, "batch channel height width"],
    weight: Float[Tensor, " channel"],
    bias: Float[Tensor, " channel"],
    table: Float[Tensor, "4 channel"],
    *,
    residual: Float[Tensor, "batch channel height width"] | None,
    relu: bool,
) -> Float[Tensor, "batch channel height width"]:
    """Images normalised: [relu](weight * (x - mean) / std + bias [+ residual]), mean and std being functions of x.

    Args:
        inputs: Images, channels last in memory.
        weight: Factor after normalising.
        bias: Summand after normalising.
        table: What `batch_statistics` gave for these.
        residual: Added before the ReLU; like `inputs` in shape, type and memory format.
        relu: Whether negative values become zero.

    Returns:
        The result, which can be differentiated once.

    Source:
        Ioffe, Szegedy 2015, Batch normalization, algorithm 1 and section 3.
    """
    apply = cast(Callable[..., Tensor], _Normalize.apply)  # torch leaves it untyped
    return apply(inputs, weight, bias, table, residual, relu)


class _Normalize(Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, *arguments: Any) -> Tensor:
        _, _, table, residual, relu = arguments  # weight and bias are in the table; they come for their gradients
        outputs = torch.empty_like(inputs)
        _run("forward", inputs, inputs, residual, outputs, table, options=(relu,))
        ctx.save_for_backward(inputs, outputs if relu and residual is not None else None, table)
        ctx.relu, ctx.added = relu, residual is not None
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, outputs, table = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_residual = torch.empty_like(inputs) if ctx.relu and ctx.added else None
        of_inputs, of_weight, of_bias = torch.empty_like(inputs), torch.empty_like(table[0]), torch.empty_like(table[0])
        tensors = (inputs, outputs, gradient, of_residual, of_inputs, table, of_weight, of_bias)
        _run("backward", inputs, *tensors, options=(ctx.relu,))
        if ctx.added and not ctx.relu:
            of_residual = gradient
        return of_inputs, of_weight, of_bias, None, of_residual, None


def _run(name: str, images: Tensor, *tensors: Tensor | None, options: tuple[float, ...]) -> None:
    function = getattr(kernel(), f"batch_norm_{name}")
    channels = images.shape[1]
    pointers = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
    is_bfloat16 = images.dtype == torch.bfloat16
    function(is_bfloat16, *pointers, images.numel() // channels, channels, *options, torch.get_num_threads())
