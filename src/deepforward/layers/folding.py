"""Batch normalisation at inference is an affine map, which the affine layer before it can take over."""

from __future__ import annotations

import copy
from collections import Counter

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.utils._pytree import tree_leaves

from deepforward.errors import InvalidModel, NoEffect, first_line
from deepforward.layers.insertion import replace
from deepforward.layers.recording import AffineEvent, Event, Recorder
from deepforward.layers.wiring import record

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batch_normalization(module: nn.Module, example_inputs: Float[Tensor, "batch *shape"]) -> nn.Module:
    """A copy for inference in which every batch normalisation right behind a Linear or Conv layer is part of that layer.

    W <- s W and b <- s (b - E) + beta with s = gamma/sqrt(Var + eps), output by output; the normalisation becomes an identity.
    A pair is folded only if nothing but the normalisation reads what the layer gives, if each of the two is called once in a
    pass (a layer that serves two places has one weight for both), and if statistics and weights are kept rather than computed.

    Args:
        module: Any module in evaluation mode; left as it is.
        example_inputs: A batch that it accepts, on which the copy is compared with the module.

    Returns:
        The copy, in evaluation mode. Training it trains another network: its normalisation is gone.

    Raises:
        InvalidModel: The module is in training mode, in which outputs depend on the batch; it cannot be copied; it fails on the
            example; or it uses a folded weight elsewhere too, so that the copy gives other outputs.
        NoEffect: There is no such pair.

    Source:
        Ioffe, Szegedy 2015, Batch normalization, algorithm 2.
    """
    if any(child.training for child in module.modules()):
        raise InvalidModel("folding got a module in training mode; expected evaluation mode; call .eval() first")
    recorder, ends = record(module, example_inputs)
    pairs = _pairs(recorder, ends)
    if not pairs:
        count = sum(isinstance(child, _BATCH_NORMS) for child in module.modules())
        raise NoEffect(
            f"folding found none of {count} batch normalisations right behind a Linear or Conv layer that it alone reads and "
            "that is called once; expected at least one; leave the module as it is"
        )
    try:
        folded = copy.deepcopy(module)
    except Exception as error:
        raise InvalidModel(f"folding cannot copy the module ({first_line(error)}); expected copy.deepcopy to work") from error
    twins = dict(folded.named_modules())
    for affine_name, norm_name in pairs:
        affine, norm = twins[affine_name], twins[norm_name]
        fuse = fuse_linear_bn_eval if isinstance(affine, nn.Linear) else fuse_conv_bn_eval
        replace(folded, affine, fuse(affine, norm))
        replace(folded, norm, nn.Identity().eval())
    _check(module, folded, example_inputs)
    return folded


def _pairs(recorder: Recorder, ends: set[int]) -> list[tuple[str, str]]:
    """Names of the affine layers and the batch normalisations that each can take over."""
    calls = Counter(event.name for event in recorder.events)
    affine = {event.result: event for event in recorder.events if isinstance(event, AffineEvent)}
    pairs = []
    for event in recorder.events:
        before = affine.get(event.given)
        if before is None or not _foldable(before, event):
            continue
        alone = recorder.uses[before.result[0]] == 1 and before.result[0] not in ends
        if alone and calls[before.name] == calls[event.name] == 1:
            pairs.append((before.name, event.name))
    return pairs


def _foldable(affine: AffineEvent, norm: Event) -> bool:
    module = norm.module
    return (
        isinstance(module, _BATCH_NORMS)
        and affine.module is not None
        and module.running_mean is not None  # without, it normalises by the batch even when it is evaluated
        and module.running_var is not None
        and "weight" in affine.module._parameters  # else computed anew at each call (weight norm)
        # the normalisation of a Linear layer's sequence is along its second axis, which is not that of the layer's outputs
        and not (isinstance(affine.module, nn.Linear) and len(affine.output_shape) != 2)
    )


@torch.no_grad()
def _check(module: nn.Module, folded: nn.Module, example_inputs: Tensor) -> None:
    """A weight that is used elsewhere too, as a tied decoder's, shows in the outputs alone."""
    expected = _outputs(module, example_inputs)
    try:
        given = _outputs(folded, example_inputs)
    except Exception as error:
        raise InvalidModel(
            f"folding left a module that fails ({first_line(error)}); expected its forward code to call its normalisations; "
            "leave it as it is"
        ) from error
    for before, after in zip(expected, given, strict=True):
        scale = before.abs().max().clamp(min=1e-30)
        # folding rounds differently, which depth enlarges: a part in a thousand in float32; a wrong fold changes the whole
        if not bool((after - before).abs().max() <= scale * 1e4 * torch.finfo(before.dtype).eps):
            raise InvalidModel(
                "folding changed the outputs of the module; expected its affine weights to be used by their own layers alone; "
                "leave it as it is"
            )


def _outputs(module: nn.Module, example_inputs: Tensor) -> list[Tensor]:
    devices = [example_inputs.device] if example_inputs.is_cuda else []
    with torch.random.fork_rng(devices):
        outputs = module(example_inputs.clone())
    return [x for x in tree_leaves(outputs) if isinstance(x, Tensor) and x.is_floating_point()]
