"""Plain data -> charts, as blocks of a page. They are pure Vega-Lite; their colours come from the page."""

from deepforward.report.figures.classes import confusion_matrix
from deepforward.report.figures.comparison import paired_trials
from deepforward.report.figures.curves import History, by_epoch, lines, quantities, training_curves
from deepforward.report.figures.depth import depth_profile, heat_map
from deepforward.report.figures.distribution import histogram, histograms, scatter
from deepforward.report.figures.phase import phase_picture

__all__ = [
    "History",
    "by_epoch",
    "confusion_matrix",
    "depth_profile",
    "heat_map",
    "histogram",
    "histograms",
    "lines",
    "paired_trials",
    "phase_picture",
    "quantities",
    "scatter",
    "training_curves",
]
