"""What rules need not know of a module, and a page shows: measured by passes of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from deepforward.clinic.case import Case
from deepforward.errors import DeepforwardError
from deepforward.instruments import (
    CovariateShift,
    Degradation,
    Examination,
    JacobianSpectra,
    JacobianSpectrum,
    LocalSmoothness,
    Shift,
    Smoothness,
)
from deepforward.instruments.degradation import Blocks

R = TypeVar("R")

#: Steps of the walk that measures smoothness, and layers whose shift is measured.
_STEPS, _LAYERS = 16, 12


@dataclass(frozen=True)
class CloseLook:
    """What each examination measured; None where it refuses the module.

    Attributes:
        spectra: Singular values of the Jacobian.
        smoothness: How fast the gradient turns along a short walk.
        shift: How much gradients change because earlier layers move.
        blocks: What residual blocks add.
    """

    spectra: JacobianSpectra | None = None
    smoothness: Smoothness | None = None
    shift: Shift | None = None
    blocks: Blocks | None = None


def look_closely(case: Case) -> CloseLook:
    """Make the examinations that a diagnosis can do without; the module is left as found."""
    smoothness = _measured(LocalSmoothness(_STEPS), case)
    # A rate at which the walk is stable stands for the training's, which nobody knows yet.
    rates = [1 / value for value in smoothness.smoothness if value > 0] if smoothness is not None else []
    return CloseLook(
        spectra=_measured(JacobianSpectrum(), case),
        smoothness=smoothness,
        shift=_measured(CovariateShift(min(rates), count=_LAYERS), case) if rates else None,
        blocks=_measured(Degradation(), case),
    )


def _measured(examination: Examination[R], case: Case) -> R | None:
    try:
        return examination.measure(case.module, case.batches, case.loss)
    except DeepforwardError:
        return None
