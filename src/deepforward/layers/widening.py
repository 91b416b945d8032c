"""Convolutions of a built module that see more with the weights that they have."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import NoEffect
from deepforward.layers.wiring import record


def grow_dilation(module: nn.Module, example_inputs: Float[Tensor, "batch *shape"]) -> int:
    """Dilate the convolutions that keep the size of their maps by 1, 2, 4, ..., in the order in which they run.

    Padding grows along, so that every map keeps its size. A rate is halved until the kernel fits into the maps. The receptive
    field of n layers of 3 x 3 grows from 2 n + 1 to 2^(n + 1) - 1, without holes.

    Args:
        module: Any module; the attributes of its convolutions are changed in place.
        example_inputs: A batch that it accepts.

    Returns:
        Number of convolutions dilated.

    Raises:
        NoEffect: There are not two convolutions that keep the size of their maps, or their maps are too small.
        InvalidModel: The module fails on the example.

    Source:
        Yu and Koltun 2016, Multi-scale context aggregation by dilated convolutions, ICLR.
    """
    recorder, _ = record(module, example_inputs)
    sides: dict[nn.Conv2d, int] = {}
    for event in recorder.events:
        layer, shape = getattr(event, "module", None), getattr(event, "input_shape", ())
        if isinstance(layer, nn.Conv2d) and _keeps_size(layer) and len(shape) == 4:
            sides.setdefault(layer, min(shape[2:]))
    changed = 0
    for number, (layer, side) in enumerate(sides.items()):
        rate = 2**number
        while rate > 1 and rate * (max(layer.kernel_size) - 1) >= side:
            rate //= 2
        if rate > 1:
            layer.dilation = (rate, rate)
            if not isinstance(layer.padding, str):
                layer.padding = tuple(rate * (size - 1) // 2 for size in layer.kernel_size)
            changed += 1
    if not changed:
        raise NoEffect(
            f"found {len(sides)} convolutions that keep the size of their maps; expected at least two, on maps wider than "
            "their kernel, to dilate; choose other changes"
        )
    return changed


def _keeps_size(layer: nn.Conv2d) -> bool:
    """Whether it is not dilated yet, wider than a pixel, and gives maps of the size that it is given."""
    same = layer.padding == "same" or layer.padding == tuple((size - 1) // 2 for size in layer.kernel_size)
    odd = all(size % 2 for size in layer.kernel_size)
    plain = layer.padding_mode == "zeros" and layer.stride == (1, 1) and layer.dilation == (1, 1)
    return plain and same and odd and max(layer.kernel_size) > 1
