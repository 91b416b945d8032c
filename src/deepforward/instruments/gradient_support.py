"""Which pixels the gradient of a unit reaches, whatever the weights: the receptive field as it is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.func import functional_call

from deepforward.errors import InvalidModel
from deepforward.instruments.layer_outputs import check_called, watching_layers
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.model_call import refusing
from deepforward.instruments.wrappers import unwrapped

#: Draws of the weights, and of random images beside the eight that are brightest at one end.
_DRAWS, _IMAGES = 8, 8

#: Factor by which the brightness of those falls from one pixel to the next.
_SLOPE = 0.5


@dataclass(frozen=True)
class Everywhere:
    """What the units of a layer reach: rows of the image by row of units, and columns by column of units."""

    rows: Bool[Tensor, "units height"]
    columns: Bool[Tensor, "units width"]


def gradient_support(
    model: nn.Module, inputs: Float[Tensor, "batch channel height width"], layer: str, unit: tuple[int, int] | None = None
) -> Bool[Tensor, "height width"]:
    """Pixels that a unit's gradient reaches for some weights and images: its receptive field without knowing the layers.

    The gradient of a trained network need not show it: rectifiers that are off, a maximum that is elsewhere and weights that
    cancel hide parts. So it is taken at positive weights, running means 0 and variances 1, for positive images: then nothing is
    off or cancels. Of what pools by maximum, images that grow towards each side show the ends.

    Args:
        model: Any module that takes images; its parameters are left alone.
        inputs: Images of the shape that it accepts; their values do not matter.
        layer: Name of the layer.
        unit: Row and column of the unit, of all maps together; the one in the middle by default. Ignored where the layer has no
            places, all units of which are taken together.

    Raises:
        UnknownName, InvalidModel: As `receptive_fields`.
    """
    model, touched = unwrapped(model), torch.zeros(inputs.shape[2:], dtype=torch.bool)
    for seen, start in _passes(model, inputs, [layer]):
        output = seen[layer]
        if output.dim() == 4:
            row, column = unit or ((output.shape[2] - 1) // 2, (output.shape[3] - 1) // 2)
            output = output[:, :, row, column]
        touched |= _reached(output, start, keep=False)
    return touched


def everywhere(
    model: nn.Module, inputs: Float[Tensor, "batch channel height width"], layers: Sequence[str]
) -> Mapping[str, Everywhere]:
    """What every row and every column of units of some layers reaches; arguments as those of `gradient_support`."""
    model = unwrapped(model)
    found: dict[str, Everywhere] = {}
    for seen, start in _passes(model, inputs, layers):
        for layer in layers:
            output = seen[layer]
            maps = output if output.dim() == 4 else output.flatten(1)[:, :, None, None]
            rows = torch.stack([_reached(maps[:, :, at], start).any(1) for at in range(maps.shape[2])])
            columns = torch.stack([_reached(maps[:, :, :, at], start).any(0) for at in range(maps.shape[3])])
            before = found.get(layer)
            found[layer] = (
                Everywhere(rows, columns) if before is None else Everywhere(before.rows | rows, before.columns | columns)
            )
    return found


def _reached(units: Tensor, start: Tensor, *, keep: bool = True) -> Tensor:
    (gradient,) = torch.autograd.grad(units.sum(), start, retain_graph=keep, allow_unused=True)
    if gradient is None:
        return torch.zeros(start.shape[2:], dtype=torch.bool)
    return (gradient != 0).any(1).any(0).cpu()


def _passes(model: nn.Module, inputs: Tensor, layers: Sequence[str]) -> Iterator[tuple[Mapping[str, Tensor], Tensor]]:
    """Passes in double precision at positive weights, each with the images it was given."""
    rng = torch.Generator().manual_seed(0)
    with left_as_found(model), watching_layers(model, layers) as seen, refusing(model, "run in float64"):
        model.eval()
        for _ in range(_DRAWS):
            start = _images(tuple(inputs.shape[1:]), rng).to(inputs.device).requires_grad_()
            with torch.enable_grad():
                functional_call(model, _positive(model, rng), (start.clone(),))
            check_called(seen, layers)
            if not any(output.requires_grad for output in seen.values()):
                raise InvalidModel(f"'{layers[0]}' does not depend on the image; name a layer that images reach")
            yield seen, start


def _images(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    channels, height, width = shape
    noise = torch.rand(_IMAGES + 8, channels, height, width, generator=rng, dtype=torch.float64) + 0.1
    down = _SLOPE ** torch.arange(height, dtype=torch.float64)[:, None]
    right = _SLOPE ** torch.arange(width, dtype=torch.float64)[None, :]
    falling = [down, down.flip(0), right, right.flip(1)]
    corners = [a * b for a in falling[:2] for b in falling[2:]]
    slopes = [slope.expand(height, width) for slope in (*falling, *corners)]
    return torch.cat([noise[:_IMAGES], noise[_IMAGES:] * torch.stack(slopes)[:, None]])


def _positive(model: nn.Module, rng: torch.Generator) -> dict[str, Tensor]:
    """Parameters and buffers under which no unit is off and no two paths cancel."""
    drawn = {}
    for name, parameter in model.named_parameters():
        values = torch.rand(parameter.shape, generator=rng, dtype=torch.float64) + 0.05
        if parameter.dim() > 1:
            values = values * torch.rand(parameter.shape, generator=rng, dtype=torch.float64) ** 4 * 10 / parameter[0].numel()
        elif name.endswith("bias"):
            values = 0.01 * values
        drawn[name] = values.to(parameter.device)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            drawn[name] = torch.zeros_like(buffer, dtype=torch.float64)
        elif name.endswith("running_var"):
            drawn[name] = torch.ones_like(buffer, dtype=torch.float64)
        elif buffer.is_floating_point():
            drawn[name] = buffer.double()
    return drawn
