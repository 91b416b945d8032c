"""One chart of each kind, and of each kind of poor data."""

import numpy as np

from deepforward.report import figures

NAN, INF = float("nan"), float("inf")

HISTORY = [
    {"epoch": i + 1, "train/loss": 2.0 / (i + 1), "validation/loss": 2.1 / (i + 1), "train/accuracy": 0.5} for i in range(5)
]
RNG = np.random.default_rng(0)

CHARTS = {
    "one run": figures.training_curves({"": HISTORY}, "loss"),
    "two runs": figures.training_curves({"before": HISTORY, "after": HISTORY[:3]}, "loss"),
    "one epoch": figures.training_curves({"": HISTORY[:1]}, "accuracy"),
    "diverged": figures.training_curves(
        {"": [*HISTORY, {"epoch": 6, "train/loss": NAN}, {"epoch": 7, "train/loss": None}]}, "loss"
    ),
    "no run": figures.training_curves({}, "loss"),
    "no value": figures.training_curves({"": [{"epoch": 1, "train/loss": NAN}]}, "loss"),
    "lines": figures.lines([1, 2, 3], {"a": [1, NAN, 3], "b": [1, 10, 1e6]}, x_title="x", y_title="y", log_y=True),
    "lines of nothing": figures.lines([1], {"a": [NAN]}, x_title="x", y_title="y"),
    "band": figures.lines([1, 2], {"a": [1, 2]}, bands={"a": ([0, 1], [2, 3])}, x_title="x", y_title="y"),
    "by epoch": figures.by_epoch(
        [*HISTORY, {"epoch": 9, "train/loss": None}], {"a": "train/loss", "b": "train/accuracy"}, quantity="q"
    ),
    "by epoch, all zero": figures.by_epoch([{"epoch": 1, "a": 0.0}, {"epoch": 2, "a": 0.0}], {"a": "a"}, quantity="q"),
    "by epoch of nothing": figures.by_epoch([{"epoch": 1, "a": NAN}], {"a": "a"}, quantity="q"),
    "heat map": figures.heat_map(["a", "b"], [0, 5], np.array([[1.0, NAN], [INF, 0.0]]), quantity="q"),
    "one cell": figures.heat_map(["a"], [0], np.ones((1, 1)), quantity="q"),
    "no cell": figures.heat_map([], [], np.ones((0, 0)), quantity="q"),
    "profile": figures.depth_profile(["a", "b", "c"], [0, 1, 2, 3], 10.0 ** RNG.normal(0, 9, (4, 3)), quantity="q"),
    "profile of nothing": figures.depth_profile(["a"], [0], np.array([[NAN]]), quantity="q"),
    "confusion": figures.confusion_matrix(RNG.integers(0, 9, (10, 10)), [f"ключ {i}" for i in range(10)]),
    "empty confusion": figures.confusion_matrix(np.zeros((3, 3), int), []),
    "many classes": figures.confusion_matrix(RNG.integers(0, 9, (100, 100)), []),
    "trials": figures.paired_trials(["x", "x", "y"], [0.1, 0.2, NAN], [0.9, INF, 0.1], "accuracy"),
    "histogram": figures.histogram([*RNG.normal(size=500), NAN, INF], quantity="weight"),
    "histogram of nothing": figures.histogram([NAN], quantity="weight"),
    "histograms": figures.histograms({"a": RNG.normal(size=500), "b": np.array([1.0, NAN])}, quantity="free energy, nats"),
    "histograms of nothing": figures.histograms({"a": np.array([NAN]), "b": np.zeros(0)}, quantity="q"),
    "scatter": figures.scatter([1, 2, NAN], [1, 0, 3], groups=["a", "b", "a"], x_title="x", y_title="y", log_y=True),
    "phases": figures.phase_picture(
        [0.5, 1.5, 2.5],
        [0.0, 1.0],
        np.array([[0.5, 1.0, 3.0], [0.4, 0.9, INF]]),
        edge=([1.5, 2.4], [0.0, 0.9]),
        points=[("yours, far outside", 40.0, 0.2), ("lost", NAN, 0.0)],
    ),
    "phases, one edge": figures.phase_picture([1, 2], [0, 1], np.ones((2, 2)), edge=([1.4, 1.4], [0.0, 0.0])),
}
