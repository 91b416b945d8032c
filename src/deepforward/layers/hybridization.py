"""Hybrid rates for the dilated convolutions of a built module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from deepforward.errors import InvalidModel, NoEffect, first_line
from deepforward.layers.dilated_stages import DilatedStage, differentiable, dilated_stages
from deepforward.layers.dilation import hybrid_rates
from deepforward.layers.wiring import evaluating

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d


def hybridize_dilation(module: nn.Module, example_inputs: Float[Tensor, "batch *shape"]) -> int:
    """Give the convolutions of each stage that leaves holes rates that leave none, with the same sum where that can be.

    Weights, and with odd kernels the sizes of all tensors, stay; see `hybrid_rates` and `dilated_stages`.

    Args:
        module: Any module that takes one tensor; changed in place.
        example_inputs: A batch that it accepts.

    Returns:
        Number of convolutions whose rate changed.

    Raises:
        NoEffect: No dilated convolution, no holes, or rates that cannot be changed without leaving some.
        InvalidModel: The module fails on the example, before or after.

    Source:
        Wang, Chen, Yuan, Liu, Huang, Hou, Cottrell 2018, Understanding convolution for semantic segmentation.
    """
    stages = _stages(module, example_inputs)
    if not stages:
        raise NoEffect("hybrid dilation found no dilated convolution; expected one; choose other changes")
    ill = [stage for stage in stages if stage.coverage < 1.0]
    if not ill:
        raise NoEffect("hybrid dilation found dilated convolutions, whose rates leave no hole; choose other changes")
    modules, changed = dict(module.named_modules()), 0
    for stage in ill:
        found = [modules.get(layer.name) for layer in stage.layers]
        convolutions = [one for one in found if isinstance(one, Convolution)]
        if len(set(map(id, convolutions))) < len(found):
            raise NoEffect(
                "hybrid dilation found functions, or a module called twice, in place of Conv modules; change them by hand"
            )
        changed += _change(stage, convolutions)
    if any(stage.coverage < 1.0 for stage in _stages(module, example_inputs)):
        raise NoEffect(
            "hybrid dilation left holes, as where rates lie beside each other or kernels differ; change rates by hand"
        )
    return changed


def _stages(module: nn.Module, example_inputs: Tensor) -> tuple[DilatedStage, ...]:
    try:
        with evaluating(module), differentiable(module):
            outputs = module(example_inputs[:2].clone())
            leaves = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.grad_fn is not None]
            return dilated_stages(leaves[0], module) if leaves else ()
    except Exception as error:
        got = f"{type(module).__name__} fails on an example of shape {tuple(example_inputs.shape)} ({first_line(error)})"
        raise InvalidModel(f"{got}; expected it to accept the data; build it with the data's shape") from error


def _change(stage: DilatedStage, convolutions: Sequence[Convolution]) -> int:
    """New rates along each axis; where all are padded to keep their size, so that each still does."""
    axes = range(len(stage.field))
    wanted = [hybrid_rates([layer.rates[axis] for layer in stage.layers], stage.layers[0].kernel[axis]) for axis in axes]
    changes = list(zip(convolutions, zip(*wanted, strict=True), strict=True))
    paddings = [_padding(convolution, rates) for convolution, rates in changes]
    is_padded = all(padding is None or min(padding) >= 0 for padding in paddings)
    changed = 0
    for (convolution, rates), padding in zip(changes, paddings, strict=True):
        changed += rates != convolution.dilation
        convolution.dilation = rates
        if padding is not None and is_padded:
            convolution.padding = padding
            convolution._reversed_padding_repeated_twice = [pad for pad in reversed(padding) for _ in range(2)]
    return changed


def _padding(convolution: Convolution, rates: tuple[int, ...]) -> tuple[int, ...] | None:
    """Padding with which the size of the output stays at other rates; None where the module sees to it (`same`)."""
    if isinstance(convolution.padding, str):
        return None
    sizes = zip(convolution.padding, rates, convolution.dilation, convolution.kernel_size, strict=True)
    return tuple(pad + (new - old) * (taps - 1) // 2 for pad, new, old, taps in sizes)
