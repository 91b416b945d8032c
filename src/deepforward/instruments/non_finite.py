"""Where NaN and infinity come from, as far as a sampled step shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from deepforward.instruments.instrument import Instrument, Reduction, rms


class NonFinite(Instrument):
    """Watches for NaN and infinity in outputs, gradients and parameters, at no extra pass beside `GradientFlow`.

    A norm is finite if and only if all elements are, so the norms that flow needs anyway tell. The origin read from one sampled
    step is the first place in the order of computation: a parameter before the step, else the first output in forward order,
    else the layer after the last gradient in forward order, for its backward pass made that gradient out of a finite one. Where
    layers branch this may be a neighbour; `Probe.locate` replays the batch and names the producer exactly.

    Statistics: those of `GradientFlow`.
    """

    of_parameters: ClassVar[frozenset[str]] = frozenset({"parameter_gradient_norm", "update_ratio"})

    def of_output(self, module: nn.Module) -> Mapping[str, Reduction]:
        """`activation_rms`."""
        return {"activation_rms": rms}

    def of_gradient(self, module: nn.Module) -> Mapping[str, Reduction]:
        """`gradient_rms`."""
        return {"gradient_rms": rms}

    def origin(self, layers: Mapping[str, Mapping[str, float]]) -> Mapping[str, object] | None:
        """First non-finite place of a sampled step, {"layer", "place"}, or None if all is finite."""

        def broken(statistic: str) -> list[int]:
            return [i for i, numbers in enumerate(layers.values()) if not math.isfinite(numbers.get(statistic, 0.0))]

        names = [*layers, "loss"]
        if parameters := broken("parameter_rms"):
            return {"layer": names[parameters[0]], "place": "parameter"}
        if outputs := broken("activation_rms"):
            return {"layer": names[outputs[0]], "place": "output"}
        if gradients := broken("gradient_rms"):
            return {"layer": names[gradients[-1] + 1], "place": "gradient"}
        if gradients := broken("parameter_gradient_norm"):
            return {"layer": names[gradients[-1]], "place": "gradient"}
        return None
