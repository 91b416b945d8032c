"""Changes to the structure of a built module that need no change of its forward code: a layer is replaced where it stands."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import DeepforwardWarning, NoEffect
from deepforward.layers.activations import activation
from deepforward.layers.residual import Skip
from deepforward.layers.wiring import HiddenLayer, Wiring, trace

_BATCH_NORMS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: nn.BatchNorm1d,
    nn.Conv1d: nn.BatchNorm1d,
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
}


def replace(module: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put `new` wherever `old` is registered, a module shared under several names included."""
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if child is old and parent is not new:
                setattr(parent, name, new)


def _batch_norm(layer: HiddenLayer) -> nn.Module | None:
    """The normalisation of a layer's output by channel, or None where torch has none (a Linear on sequences)."""
    for affine, norm in _BATCH_NORMS.items():
        if isinstance(layer.affine, affine):
            weight = layer.affine.weight
            assert isinstance(weight, Tensor)
            if affine is nn.Linear and len(layer.output_shape) != 2:
                return None
            return norm(layer.output_shape[1]).to(weight)
    return None


def insert_batch_normalization(module: nn.Module, example_inputs: Float[Tensor, "batch *shape"]) -> int:
    """Put batch normalisation between each hidden affine layer and its activation, where there is none.

    Layers called more than once in a pass are left alone: their calls would share one set of statistics.

    Args:
        module: Any module; changed in place: an affine layer `name` becomes `name.affine`, followed by `name.norm`.
        example_inputs: A batch that it accepts.

    Returns:
        Number of layers normalised.

    Raises:
        NoEffect: Nothing to normalise.

    Source:
        Ioffe, Szegedy 2015, Batch normalization.
    """
    wiring = trace(module, example_inputs)
    changed = 0
    for layer in wiring.hidden:
        norm = None if layer.normalized or layer.calls > 1 else _batch_norm(layer)
        if norm is not None:
            norm.train(layer.affine.training)
            replace(module, layer.affine, nn.Sequential(OrderedDict(affine=layer.affine, norm=norm)))
            changed += 1
    if not changed:
        raise NoEffect(f"batch normalisation {_nothing(wiring, 'all are normalised already or called more than once')}")
    return changed


def insert_skips(module: nn.Module, example_inputs: Float[Tensor, "batch *shape"], scale: float | None = None) -> int:
    """Carry the signal past each hidden affine layer that keeps its shape: y = activation(x + scale * norm(affine(x))).

    Args:
        module: Any module; changed in place: an affine layer `name` becomes `name.branch`; a normalisation that follows it
            moves into the branch.
        example_inputs: A batch that it accepts.
        scale: Factor of the branch; None is 1/sqrt(number of skips), with which the signal grows by a factor that does not
            depend on depth.

    Returns:
        Number of skips.

    Raises:
        NoEffect: Nothing to skip.

    Source:
        He, Zhang, Ren, Sun 2016, Deep residual learning for image recognition.
    """
    wiring = trace(module, example_inputs)
    layers = [
        layer
        for layer in wiring.hidden
        # a normalisation that serves several layers cannot move into the branch of one
        if layer.input_shape == layer.output_shape and not layer.skipped and (layer.norm is None or layer.calls == 1)
    ]
    if not layers:
        reason = "each changes its shape, is skipped already, or shares its normalisation"
        raise NoEffect(f"residual connections {_nothing(wiring, reason)}")
    modules = dict(module.named_modules())
    factor = 1 / math.sqrt(len(layers)) if scale is None else scale
    for layer in layers:
        branch = layer.affine
        if layer.norm:
            norm = modules[layer.norm]
            replace(module, norm, nn.Identity())
            branch = nn.Sequential(OrderedDict(affine=layer.affine, norm=norm))
        replace(module, layer.affine, Skip(branch, factor))
    return len(layers)


def swap_activations(module: nn.Module, example_inputs: Float[Tensor, "batch *shape"], name: str) -> int:
    """Replace every activation module, except one that gives the module's output.

    Args:
        module: Any module; changed in place.
        example_inputs: A batch that it accepts.
        name: A key of `ACTIVATIONS`.

    Returns:
        Number of modules replaced.

    Raises:
        UnknownName: No such activation.
        NoEffect: There is no other activation module; activations called as functions cannot be swapped.

    Warns:
        DeepforwardWarning: Some activations are called as functions and stay.
    """
    wanted = activation(name)
    wiring = trace(module, example_inputs)
    functions = f"{len(wiring.functional)} called as functions ({', '.join(sorted(set(wiring.functional)))}) cannot be swapped"
    others = {child for child in wiring.activations.values() if type(child) is not type(wanted)}
    if not others:
        reason = functions if wiring.functional else "there is none, or all are such already"
        raise NoEffect(f"activation '{name}' found no activation module to swap: {reason}; write activations as modules")
    for old in others:
        new = activation(name)
        new.train(old.training)
        replace(module, old, new)
    if wiring.functional:
        warnings.warn(f"activation '{name}' swapped {len(others)} modules; {functions}", DeepforwardWarning, stacklevel=2)
    return len(others)


def _nothing(wiring: Wiring, reason: str) -> str:
    if not wiring.hidden:
        return (
            "found no Linear or Conv layer that feeds a hidden activation directly; expected at least one; choose other changes"
        )
    return f"found {len(wiring.hidden)} hidden layers but {reason}; expected one to change; choose other changes"
