"""What the instruments saw -> the section about the inside of the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from deepforward.report.blocks import Block, Chart, Table
from deepforward.report.figures import depth_profile, heat_map

MAX_TABLE_ROWS = 500


@runtime_checkable
class LayerReadings(Protocol):
    """Numbers by sampled step and layer, as instruments give them."""

    @property
    def layers(self) -> Sequence[str]:
        """Keys of the layer calls in the order of the forward pass."""

    @property
    def kinds(self) -> Sequence[str]:
        """Class name of each layer's module."""

    @property
    def steps(self) -> Sequence[int]:
        """Training steps that were sampled."""

    @property
    def values(self) -> Mapping[str, np.ndarray]:
        """Statistic -> (steps, layers); NaN where a layer has no such statistic."""


class _Statistic(NamedTuple):
    title: str
    spec: str = ".3g"


#: How the statistics of the instruments are called on the page; another one goes by its own name.
STATISTICS: Mapping[str, _Statistic] = {
    "activation_rms": _Statistic("signal (rms)"),
    "gradient_rms": _Statistic("gradient (rms)"),
    "parameter_gradient_norm": _Statistic("weight gradient (norm)"),
    "parameter_rms": _Statistic("weights (rms)"),
    "update_ratio": _Statistic("update / weight"),
    "dead_share": _Statistic("dead units", ".1%"),
    "saturated_share": _Statistic("saturated units", ".1%"),
}


def readings_section(readings: LayerReadings, when: str = "") -> Iterator[Block]:
    """Heat maps by layer and step, profiles along depth, and a table with a row for each layer call.

    Args:
        readings: What the instruments saw, at least one step and layer.
        when: Words before the caption of the gradient map, such as `After the cure.`
    """
    yield from gradient_map(readings, when)
    if "update_ratio" in readings.values:
        yield _update_map(readings)
    yield from layers_section(readings)


def layers_section(readings: LayerReadings) -> Iterator[Block]:
    """Profiles along depth, and a table with a row for each layer call: all that one step tells.

    Args:
        readings: What the instruments saw, at least one step and layer.
    """
    for name in ("gradient_rms", "activation_rms"):
        if name in readings.values:
            yield _profile(readings, name)
    yield _layer_table(readings)


def gradient_map(readings: LayerReadings, when: str = "") -> Iterator[Block]:
    """Heat map of the gradient of each hidden layer, relative to the last one's; nothing if it was not read.

    The output layer is left out: its gradient has another scale, as it is usually of another width.
    """
    if "gradient_rms" not in readings.values:
        return
    weighted = _with_weights(readings)
    hidden = weighted[:-1] if len(weighted) > 2 else weighted
    gradient = readings.values["gradient_rms"][:, hidden]
    last = gradient[:, -1:]
    reference = np.where(np.isfinite(last) & (last > 0), last, 1.0)
    explanation = (
        "How much of the gradient at the last hidden layer (bottom row) reaches those before it; the input is at the top. "
        "Blue has shrunk on its way, orange has grown."
    )
    yield heat_map(
        _short([readings.layers[i] for i in hidden]),
        readings.steps,
        gradient / reference,
        quantity="relative gradient",
        caption=f"{when} {explanation}".strip(),
    )


def _update_map(readings: LayerReadings) -> Chart:
    update = readings.values["update_ratio"]
    known = np.flatnonzero(~np.isnan(update).all(axis=0)).tolist()
    return heat_map(
        _short([readings.layers[i] for i in known]),
        readings.steps,
        update[:, known],
        quantity="update / weight",
        healthy=1e-3,
        caption="How far one step moves the weights of each layer, relative to their size. About a thousandth is usual in a "
        "run that goes well; blue layers hardly learn.",
    )


def _profile(readings: LayerReadings, name: str) -> Chart:
    weighted = _with_weights(readings)
    layers = _short([readings.layers[i] for i in weighted])
    return depth_profile(layers, readings.steps, readings.values[name][:, weighted], quantity=STATISTICS[name].title)


def _layer_table(readings: LayerReadings) -> Table:
    statistics = {name: STATISTICS.get(name, _Statistic(name.replace("_", " "))) for name in readings.values}
    medians = {name: _median(readings.values[name]) for name in statistics}
    names = _short(readings.layers)
    count = min(len(readings.layers), MAX_TABLE_ROWS)
    left = len(readings.layers) - count
    return Table(
        ["layer", "kind", *(statistic.title for statistic in statistics.values())],
        [[names[i], readings.kinds[i], *(medians[name][i] for name in statistics)] for i in range(count)],
        formats={statistic.title: statistic.spec for statistic in statistics.values()},
        caption=f"Each layer call, from input to output{': medians over the sampled steps' if len(readings.steps) > 1 else ''}."
        + (f" The last {left} calls are left out." if left else ""),
    )


def _with_weights(readings: LayerReadings) -> list[int]:
    """Layers that multiply by weights; all layers if fewer than two do."""
    found = [i for i, kind in enumerate(readings.kinds) if kind.startswith(("Linear", "Conv", "Bilinear"))]
    return found if len(found) > 1 else list(range(len(readings.layers)))


def _median(values: np.ndarray) -> list[float]:
    """Median over the steps of what is not NaN, for each layer."""
    known = (column[~np.isnan(column)] for column in values.T)
    return [float(np.median(column)) if len(column) else float("nan") for column in known]


def _short(layers: Sequence[str]) -> list[str]:
    """Names without `#0` where no layer is called twice."""
    return [layer.removesuffix("#0") for layer in layers] if all(layer.endswith("#0") for layer in layers) else list(layers)
