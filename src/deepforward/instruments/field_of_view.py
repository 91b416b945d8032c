"""Whether a network sees enough of an image at once for what is in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepforward.errors import InvalidModel
from deepforward.instruments.examination import Examination
from deepforward.instruments.layer_outputs import LayerCall, layer_calls
from deepforward.instruments.model_call import call_of
from deepforward.instruments.receptive_field import receptive_fields

#: Share of its deviation from the ground that the extent of an object holds.
HELD = 0.9


@dataclass(frozen=True)
class View:
    """What a network sees at once where nothing but an average or a maximum over places follows.

    Attributes:
        layer: The layer of maps whose places are pooled.
        field: Height and width of its receptive field in pixels.
        image: Height and width of the images.
        object: Median over the images of the larger side of what stands out from the ground (`object_extents`), in pixels.
    """

    layer: str
    field: tuple[int, int]
    image: tuple[int, int]
    object: float


class FieldOfView(Examination[View]):
    """The receptive field of the last maps against the size of the objects.

    Only where the places of these maps are pooled into one number a channel, as the layer behind them shows by its number of
    inputs. A layer that is fed with all places sees everything, attention between places as well, and the class of a pixel may
    be told from its surroundings.

    Source:
        Luo, Li, Urtasun, Zemel 2016, Understanding the effective receptive field in deep convolutional networks, section 1.
    """

    def _measure(self, model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]) -> View:
        """Measure on the first batch.

        Raises:
            InvalidModel: The model takes something else than images, has no maps, or tells the places of the last ones apart.
        """
        call = call_of(model, batches[0], loss)
        images = call.args[0] if len(call.args) == 1 and not call.kwargs else None
        if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point():
            raise InvalidModel("the model takes something else than one batch of images; this instrument looks at images only")
        calls, shape = layer_calls(model, images[:2])
        last = _last_maps(calls, shape)
        field = receptive_fields(model, images[:1], [last.name])[last.name]
        extents = object_extents(images)
        return View(last.name, field.size, field.image, float(extents.median()) if len(extents) else 0.0)


def _last_maps(calls: Sequence[LayerCall], output: tuple[int, ...]) -> LayerCall:
    """The maps whose places are pooled."""
    maps = [at for at, call in enumerate(calls) if len(call.shape) == 3 and call.shape[1] * call.shape[2] > 1]
    if not maps:
        raise InvalidModel("the model has no layer of maps; this instrument looks at convolutional networks only")
    last = calls[maps[-1]]
    if len(output) == 3:
        raise InvalidModel("the model gives an output for each place, which need not know all of an object")
    if any(len(call.shape) == 2 for call in calls[maps[-1] + 1 :]):
        raise InvalidModel(f"the places of '{last.name}' become tokens, which may look at each other")
    head = next((call for call in calls[maps[-1] + 1 :] if call.has_weights and len(call.shape) == 1), None)
    inputs = getattr(head.module, "in_features", None) if head is not None else output[0]
    if inputs != last.shape[0]:
        raise InvalidModel(f"the places of '{last.name}' are told apart by what follows, which sees all of the image")
    return last


def object_extents(images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, " objects"]:
    """The larger side in pixels of what stands out in each image that is not uniform.

    The ground is the median of each channel. An object is where the absolute deviation from it, summed over channels, is more
    than half the largest; the rows and the columns are taken between which the middle 90% of its deviation lie.
    """
    deviation = (images - images.flatten(2).median(2).values[:, :, None, None]).abs().sum(1).double()
    largest = deviation.amax((1, 2), keepdim=True)
    foreground = deviation * (deviation > largest / 2)
    sides = torch.stack([_middle(foreground.sum(axis)) for axis in (1, 2)])
    return sides.amax(0)[largest.flatten() > 0]


def _middle(weights: Float[Tensor, "batch places"]) -> Float[Tensor, " batch"]:
    """Number of places from where 5% of the weight is reached to where 95% is."""
    shares = weights.cumsum(1) / weights.sum(1, keepdim=True).clamp_min(1e-300)
    first = (shares < (1 - HELD) / 2 + 1e-9).sum(1)
    last = (shares < 1 - (1 - HELD) / 2 - 1e-9).sum(1)
    return (last - first + 1).double()
