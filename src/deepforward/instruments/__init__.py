"""Instruments: look at any module while it trains, and leave no trace."""

from deepforward.instruments.activation_maximization import activation_maximization
from deepforward.instruments.batch_norm_effect import BatchNormEffect, NormalizationEffect
from deepforward.instruments.covariate_shift import CovariateShift, Shift
from deepforward.instruments.dead_units import DeadUnits
from deepforward.instruments.deconvnet import project_back
from deepforward.instruments.degradation import Blocks, Degradation, DepthCurve
from deepforward.instruments.effective_field import EffectiveField, effective_fields
from deepforward.instruments.examination import Examination
from deepforward.instruments.examine import examine
from deepforward.instruments.field_of_view import FieldOfView, View
from deepforward.instruments.gradient_flow import GradientFlow
from deepforward.instruments.gradient_norms import GradientNorms, gradient_norms
from deepforward.instruments.gradient_support import gradient_support
from deepforward.instruments.instrument import Instrument
from deepforward.instruments.jacobian_spectrum import JacobianSpectra, JacobianSpectrum, MapSpectrum
from deepforward.instruments.layer_outputs import FeatureLayer, feature_layers
from deepforward.instruments.linear_probe import ProbeResult, linear_probes
from deepforward.instruments.local_smoothness import LocalSmoothness, Smoothness
from deepforward.instruments.locate import locate_nonfinite
from deepforward.instruments.non_finite import NonFinite
from deepforward.instruments.normalization_check import InputScale, NormalizationCheck
from deepforward.instruments.occlusion import occlusion
from deepforward.instruments.phase import LayerPhase, Phase, PhaseReading
from deepforward.instruments.probe import Probe
from deepforward.instruments.rank_collapse import RankCollapse, Representation, Representations
from deepforward.instruments.readings import Readings
from deepforward.instruments.receptive_field import ReceptiveField, receptive_fields
from deepforward.instruments.saliency import saliency
from deepforward.instruments.saturation import Saturation
from deepforward.instruments.top_patches import TopPatches, top_patches

__all__ = [
    "BatchNormEffect",
    "Blocks",
    "CovariateShift",
    "DeadUnits",
    "Degradation",
    "DepthCurve",
    "EffectiveField",
    "Examination",
    "FeatureLayer",
    "FieldOfView",
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
    "ProbeResult",
    "RankCollapse",
    "Readings",
    "ReceptiveField",
    "Representation",
    "Representations",
    "Saturation",
    "Shift",
    "Smoothness",
    "TopPatches",
    "View",
    "activation_maximization",
    "effective_fields",
    "examine",
    "feature_layers",
    "gradient_norms",
    "gradient_support",
    "linear_probes",
    "locate_nonfinite",
    "occlusion",
    "project_back",
    "receptive_fields",
    "saliency",
    "top_patches",
]
