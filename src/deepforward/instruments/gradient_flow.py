"""How signal and gradient travel through the layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn

from deepforward.instruments.instrument import Instrument, Reduction, rms


class GradientFlow(Instrument):
    """Size of the signal, of its gradient, of the parameter gradient and of the update, for every layer call.

    Statistics:
        activation_rms: sqrt(mean(a^2)) of the layer's output a.
        gradient_rms: sqrt(mean((dL/da)^2)); proportional to 1/batch for a mean loss, so read it as a rate from layer to layer.
        parameter_gradient_norm: L2 norm of dL/dw over the layer's own parameters w, as the optimizer sees it.
        parameter_rms: sqrt(mean(w^2)) before the step, over the same elements as the update ratio.
        update_ratio: |w_after - w_before| / |w_before| of one optimizer step, over the first 16 384 elements (whole rows) of
            each parameter; about 1e-3 in a run that goes well.

    Source: Glorot & Bengio 2010, figures 6 and 7 (activation and gradient by layer).
    """

    of_parameters: ClassVar[frozenset[str]] = frozenset({"parameter_gradient_norm", "update_ratio"})

    def of_output(self, module: nn.Module) -> Mapping[str, Reduction]:
        """`activation_rms`."""
        return {"activation_rms": rms}

    def of_gradient(self, module: nn.Module) -> Mapping[str, Reduction]:
        """`gradient_rms`."""
        return {"gradient_rms": rms}
