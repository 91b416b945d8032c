"""Everything that can be measured of a module by passes of its own, for a page that shows it."""

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
    Phase,
    PhaseReading,
    RankCollapse,
    Representations,
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
        phase: Phase and growth of the gradient, measured and predicted.
        representations: How alike examples become.
        spectra: Singular values of the Jacobian.
        smoothness: How fast the gradient turns along a short walk.
        shift: How much gradients change because earlier layers move.
        blocks: What residual blocks add.
    """

    phase: PhaseReading | None = None
    representations: Representations | None = None
    spectra: JacobianSpectra | None = None
    smoothness: Smoothness | None = None
    shift: Shift | None = None
    blocks: Blocks | None = None


def look_closely(case: Case) -> CloseLook:
    """Make every examination on the batches of a case; the module is left as found."""
    smoothness = _measured(LocalSmoothness(_STEPS), case)
    # A rate at which the walk is stable stands for the training's, which nobody knows yet.
    rates = [1 / value for value in smoothness.smoothness if value > 0] if smoothness is not None else []
    return CloseLook(
        phase=_measured(Phase(), case),
        representations=_measured(RankCollapse(), case),
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
