"""Images that excite single channels most, made by climbing their gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.errors import InvalidModel, InvalidOption, first_line
from deepforward.instruments.layer_outputs import check_called, watching_layers
from deepforward.instruments.left_as_found import left_as_found
from deepforward.instruments.wrappers import unwrapped

#: Standard deviation of the noise that the climb begins at, in scaled units.
_START = 0.1


def activation_maximization(
    model: nn.Module,
    shape: tuple[int, ...],
    layer: str,
    channels: Sequence[int],
    rng: torch.Generator,
    *,
    steps: int = 60,
    rate: float = 0.1,
    decay: float = 0.1,
    jitter: int = 0,
    blur: float = 0.0,
) -> Float[Tensor, "channels *shape"]:
    """For each channel the input that the unit in the middle of its map answers to most, at a bounded size.

    x <- (1 - decay) (x + rate g / rms(g)), g being the gradient of the unit before its activation, which does not stop where a
    rectifier is off. This is gradient ascent on the answer with an L2 penalty whose strength follows the size of the gradient:
    the root mean square of x goes to at most rate (1 - decay) / decay, and of a linear unit x becomes its weights.

    Args:
        model: Any module that takes one tensor; run in evaluation mode and left as found.
        shape: Shape of one example.
        layer: Name of a layer.
        channels: Channels of its maps, or units where it has no places.
        rng: Draws where the climb begins, and how far it is shifted.
        steps: Steps of the climb.
        rate: Root mean square of a step, in scaled units, at least that of one that counts all pixels.
        decay: Share by which the image shrinks in each step, in (0, 1).
        jitter: Pixels by which the image is shifted at random before each step, and shifted back.
        blur: Standard deviation in pixels of a Gaussian that every fourth step smooths the image by; 0 is none.

    Returns:
        Scaled inputs, one for each channel.

    Raises:
        UnknownName: There is no such layer.
        InvalidOption: There is no such channel, or an option is out of range.
        InvalidModel: The model fails, or the layer does not depend on its input.

    Source:
        Erhan, Bengio, Courville, Vincent 2009, Visualizing higher-layer features of a deep network; the penalty: Simonyan,
        Vedaldi, Zisserman 2014; blur and shifts: Yosinski et al. 2015, Mordvintsev, Olah, Tyka 2015.
    """
    if not (steps > 0 and rate > 0 and 0 < decay < 1 and jitter >= 0 and blur >= 0):
        raise InvalidOption(
            f"got steps={steps}, rate={rate:g}, decay={decay:g}, jitter={jitter}, blur={blur:g}; "
            "expected positive steps and rate, decay in (0, 1), and no negative jitter or blur"
        )
    model = unwrapped(model)
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    images = (_START * torch.randn(len(channels), *shape, generator=rng)).to(like)
    kernel = _gaussian(blur).to(like) if blur > 0 and len(shape) == 3 else None
    with left_as_found(model), torch.enable_grad(), watching_layers(model, [layer], unactivated=True) as seen:
        model.eval()
        for step in range(steps):
            shift = _shift(jitter, len(shape), rng)
            x = images.roll(shift, (-2, -1)).requires_grad_() if shift else images.clone().requires_grad_()
            try:
                model(x.clone())
            except Exception as error:
                failed = f"{type(error).__name__}: {first_line(error)}"
                raise InvalidModel(f"the model fails on inputs of shape {shape} ({failed}); give the shape it takes") from error
            check_called(seen, [layer])
            gradient = _gradient(seen[layer], x, layer, channels)
            moved = x.detach() + rate * gradient / _size(gradient)
            images = (1 - decay) * (moved.roll([-pixels for pixels in shift], (-2, -1)) if shift else moved)
            if kernel is not None and step % 4 == 3:
                images = _blurred(images, kernel)
    return images.detach()


def _gradient(output: Tensor, start: Tensor, layer: str, channels: Sequence[int]) -> Tensor:
    if not all(0 <= channel < output.shape[1] for channel in channels):
        raise InvalidOption(f"got channels {list(channels)} of '{layer}', expected some of 0 to {output.shape[1] - 1}")
    if not output.requires_grad:
        raise InvalidModel(f"'{layer}' does not depend on the input; name a layer that does")
    units = output[torch.arange(len(channels)), list(channels)]
    for _ in range(units.dim() - 1):
        units = units[:, (units.shape[1] - 1) // 2]
    (gradient,) = torch.autograd.grad(units.sum(), start, allow_unused=True)
    if gradient is None:
        raise InvalidModel(f"'{layer}' does not depend on the input; name a layer that does")
    return gradient


def _size(gradient: Tensor) -> Tensor:
    """Root mean square of each gradient over the pixels that it reaches: a small field is climbed as fast as a large one."""
    flat = gradient.flatten(1)
    reached = (flat != 0).sum(1).clamp_min(1)
    size = (flat.square().sum(1) / reached).sqrt().clamp_min(torch.finfo(flat.dtype).tiny)
    return size.reshape(-1, *[1] * (gradient.dim() - 1))


def _shift(jitter: int, dims: int, rng: torch.Generator) -> list[int]:
    """How far to shift downwards and to the right; nothing that has no places is shifted."""
    return torch.randint(-jitter, jitter + 1, (2,), generator=rng).tolist() if jitter and dims == 3 else []


def _gaussian(deviation: float) -> Tensor:
    reach = math.ceil(3 * deviation)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
    return weights / weights.sum()


def _blurred(images: Tensor, kernel: Tensor) -> Tensor:
    channels, reach = images.shape[1], len(kernel) // 2
    padded = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    down = F.conv2d(padded, kernel.reshape(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(down, kernel.reshape(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
