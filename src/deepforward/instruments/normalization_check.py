"""How the inputs are scaled, as the model gets them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from deepforward.errors import InvalidData, InvalidModel
from deepforward.instruments.examination import Examination
from deepforward.instruments.instrument import batch_dims
from deepforward.instruments.model_call import call_of

#: Largest |mean| of inputs that are called centred, and range of the standard deviation of those that are called standardised.
_CENTRED, _UNIT = 0.25, (0.5, 2.0)

#: Ratio of the 90th to the 10th percentile of the features' standard deviations from which scales are called uneven.
_UNEVEN = 10.0


@dataclass(frozen=True)
class InputScale:
    """Scale of a model's inputs.

    A feature is a channel of images, the last dimension of sequences, else one number of the example.

    Attributes:
        name: Which argument of the model: `args[0]` or a keyword.
        shape: Shape of one example.
        examples: Number of examples looked at.
        mean, standard_deviation, smallest, largest: Of each feature, over examples and places; divided by n.
        overall_mean, overall_standard_deviation, rms: Over all numbers.
        constant_share: Share of an example's numbers (pixels) that are the same in all examples; None for one example.
        scale_ratio: 90th over 10th percentile of the standard deviations of features that are not constant; 1 if there is one.
        uneven: Whether that ratio is 10 or more, so that a step that suits one feature is too long or too short for another.
        pixels: Whether all numbers are integers from 0 to 255 that go beyond 1.
        verdict: `standardised` (|mean| <= 1/4, standard deviation from 1/2 to 2), `unit range` (all within [-1, 1]), or
            `unscaled`.
        says: The verdict in one line, with its numbers.
    """

    name: str
    shape: tuple[int, ...]
    examples: int
    mean: tuple[float, ...]
    standard_deviation: tuple[float, ...]
    smallest: tuple[float, ...]
    largest: tuple[float, ...]
    overall_mean: float
    overall_standard_deviation: float
    rms: float
    constant_share: float | None
    scale_ratio: float
    uneven: bool
    pixels: bool
    verdict: Literal["standardised", "unit range", "unscaled"]
    says: str


class NormalizationCheck(Examination[InputScale]):
    """Looks at the inputs of a model on all batches: mean, spread and range by feature, and whether they were scaled.

    Source:
        LeCun, Bottou, Orr, Müller 1998, Efficient backprop, section 4.3 (centred inputs of equal spread learn faster).
    """

    def _measure(self, model: nn.Module, batches: Sequence[Any], loss: Callable[[nn.Module, Any], Tensor]) -> InputScale:
        """Measure; all batches count.

        Raises:
            InvalidModel: The model gets no tensor, or tokens, which have no scale.
            InvalidData: An input that is not finite.
        """
        found = [call_of(model, batch, loss).inputs() for batch in batches]
        if found[0] is None:
            raise InvalidModel(f"{type(model).__name__} gets no tensor; give a model whose input is a tensor")
        name, first = found[0]
        if not first.is_floating_point() and first.dtype != torch.uint8:
            raise InvalidModel(f"the input {name} is {first.dtype}: tokens have no scale; check real inputs")
        inputs = [each[1].double() if each[1].device.type != "mps" else each[1].cpu().double() for each in found if each]
        if any(each.shape[1:] != first.shape[1:] for each in inputs):
            raise InvalidData("the batches hold inputs of different shapes; give batches of one shape")
        if not all(bool(each.isfinite().all()) for each in inputs):
            raise InvalidData(f"the input {name} holds NaN or infinity; remove it from the data")
        return _scale_of(name, torch.cat(inputs))


def _scale_of(name: str, inputs: Tensor) -> InputScale:
    over = batch_dims(inputs) if inputs.dim() > 1 else (0,)
    mean, spread = inputs.mean(over), inputs.var(over, correction=0).sqrt()
    smallest, largest = inputs.amin(over), inputs.amax(over)
    varying = spread[largest > smallest]
    low, high = varying.quantile(torch.tensor([0.1, 0.9], dtype=torch.float64)).tolist() if len(varying) > 1 else (1.0, 1.0)
    ratio = high / low
    whole, deviation = float(inputs.mean()), float(inputs.var(correction=0).sqrt())
    bottom, top = float(inputs.min()), float(inputs.max())
    pixels = bottom >= 0 and 1 < top <= 255 and bool((inputs == inputs.round()).all())
    constant = float((inputs == inputs[0]).all(0).double().mean()) if len(inputs) > 1 else None
    verdict: Literal["standardised", "unit range", "unscaled"] = "unscaled"
    if abs(whole) <= _CENTRED and _UNIT[0] <= deviation <= _UNIT[1]:
        verdict = "standardised"
    elif bottom >= -1 and top <= 1:
        verdict = "unit range"
    says = f"{verdict}: mean {whole:.3g}, standard deviation {deviation:.3g}, range {bottom:.3g} to {top:.3g}"
    says += ", integers like pixels" if pixels else ""
    says += f", spreads of features differ {ratio:.3g} times" if ratio >= _UNEVEN else ""
    return InputScale(
        name=name,
        shape=tuple(inputs.shape[1:]),
        examples=len(inputs),
        mean=_plain(mean),
        standard_deviation=_plain(spread),
        smallest=_plain(smallest),
        largest=_plain(largest),
        overall_mean=whole,
        overall_standard_deviation=deviation,
        rms=math.sqrt(whole**2 + deviation**2),
        constant_share=constant,
        scale_ratio=ratio,
        uneven=ratio >= _UNEVEN,
        pixels=pixels,
        verdict=verdict,
        says=says,
    )


def _plain(numbers: Tensor) -> tuple[float, ...]:
    return tuple(numbers.reshape(-1).tolist())
