"""Instruments: look at any module while it trains, and leave no trace."""

from deepforward.instruments.batch_norm_effect import BatchNormEffect, NormalizationEffect
from deepforward.instruments.covariate_shift import CovariateShift, Shift
from deepforward.instruments.dead_units import DeadUnits
from deepforward.instruments.deconvnet import project_back
from deepforward.instruments.degradation import Blocks, Degradation, DepthCurve
from deepforward.instruments.examination import Examination
from deepforward.instruments.examine import examine
from deepforward.instruments.gradient_flow import GradientFlow
from deepforward.instruments.gradient_norms import GradientNorms, gradient_norms
from deepforward.instruments.instrument import Instrument
from deepforward.instruments.jacobian_spectrum import JacobianSpectra, JacobianSpectrum, MapSpectrum
from deepforward.instruments.local_smoothness import LocalSmoothness, Smoothness
from deepforward.instruments.locate import locate_nonfinite
from deepforward.instruments.non_finite import NonFinite
from deepforward.instruments.normalization_check import InputScale, NormalizationCheck
from deepforward.instruments.phase import LayerPhase, Phase, PhaseReading
from deepforward.instruments.probe import Probe
from deepforward.instruments.rank_collapse import RankCollapse, Representation, Representations
from deepforward.instruments.readings import Readings
from deepforward.instruments.saturation import Saturation

__all__ = [
    "BatchNormEffect",
    "Blocks",
    "CovariateShift",
    "DeadUnits",
    "Degradation",
    "DepthCurve",
    "Examination",
    "GradientFlow",
    "GradientNorms",
    "InputScale",
    "Instrument",
    "JacobianSpectra",
    "JacobianSpectrum",
    "LayerPhase",
    "LocalSmoothness",
    "MapSpectrum",
    "NonFinite",
    "NormalizationCheck",
    "NormalizationEffect",
    "Phase",
    "PhaseReading",
    "Probe",
    "RankCollapse",
    "Readings",
    "Representation",
    "Representations",
    "Saturation",
    "Shift",
    "Smoothness",
    "examine",
    "gradient_norms",
    "locate_nonfinite",
    "project_back",
]
