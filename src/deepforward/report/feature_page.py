"""What the layers of a network respond to, as data -> the page about it: from simple to complex, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepforward.report.blocks import Block, Code, Facts, Heading, Images, Table, Text, Verdict
from deepforward.report.figures import lines
from deepforward.report.page import Page
from deepforward.report.plain import counted


@dataclass(frozen=True)
class LayerFeatures:
    """A layer in numbers and pictures.

    Attributes:
        name: Where its features are read.
        kind: What computes them.
        shape: (channels, height, width) of maps, or (units,).
        size: Height and width in pixels of what its units see, padding included.
        stride: Pixels from the field of one unit to that of the next; 0, 0 where there are no places.
        sees_all: Whether the unit in the middle sees the whole image.
        effective: Side in pixels of the square that holds 95% of the influence on that unit.
        influence: (height, width): influence of each pixel on it, white where it is most, the field framed; uint8, or None.
        silent: Share of channels that answer to none of the examples.
        probe_error: Share of test examples that a linear classifier on its activations gets wrong; None if not measured.
        channels: Those that are shown.
        pictures: Name of a row -> pictures (shown channels, channels of the image, height, width) uint8 of one size.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    size: tuple[int, int]
    stride: tuple[float, float]
    sees_all: bool
    effective: float
    influence: np.ndarray | None = None
    silent: float = 0.0
    probe_error: float | None = None
    channels: Sequence[int] = ()
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class FeatureRecord:
    """All that the page shows.

    Attributes:
        title: Model and data.
        layers: From input to output.
        input_error: Share of test examples that a linear classifier on the pixels gets wrong; None if not measured.
        own_error: The same of the network; None if not measured.
        filters: Weights of the first layer (filters, channels, height, width), or None.
        examples: Test images (examples, channels, height, width) uint8 that are explained.
        captions: What each is taken for.
        maps: Name of a row -> (examples, 1, height, width) uint8: where the network looked.
        facts: How all this was measured.
        command: What made the page.
    """

    title: str
    layers: Sequence[LayerFeatures]
    input_error: float | None = None
    own_error: float | None = None
    filters: np.ndarray | None = None
    examples: np.ndarray | None = None
    captions: Sequence[str] = ()
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""


#: Rows of the table that a narrow screen shows as lists; more are scrolled.
_STACKED = 6

_ROWS = {
    "made": "made: the image that excites the unit most, climbed to by its gradient at a bounded contrast",
    "found": "found: what the unit sees where test images excite it most",
    "projected": "projected: what in the first of these excited it, sent back to the pixels by a deconvnet",
}


def feature_page(record: FeatureRecord) -> Page:
    """The page of features."""
    sections = (_verdict, _hierarchy, _fields, _filters, _layers, _attention, _making)
    shown = [layer for layer in record.layers if layer.pictures]
    return Page(
        title=f"Features of {record.title}",
        subtitle=f"{counted(len(record.layers), 'layer')}, {len(shown)} of them in pictures",
        blocks=[block for section in sections for block in section(record)],
    )


def _verdict(record: FeatureRecord) -> Iterator[Block]:
    first, last = record.layers[0], record.layers[-1]
    numbers: dict[str, Any] = {"first layer sees": _size(first), "last layer sees": _size(last)}
    sentence = f"Units of the first layer see {_size(first)}, units of the last see {_size(last)}."
    known = [(layer.name, layer.probe_error) for layer in record.layers if layer.probe_error is not None]
    if record.input_error is not None and known:
        best, error = min(known, key=lambda pair: pair[1])
        sentence += (
            f" A linear classifier errs on {record.input_error:.1%} of test images by their pixels, on {error:.1%} by {best}."
        )
        numbers |= {"linear error on pixels": f"{record.input_error:.1%}", f"on {best}": f"{error:.1%}"}
    if record.own_error is not None:
        numbers["error of the network"] = f"{record.own_error:.1%}"
    yield Verdict("from simple to complex", sentence, numbers)


def _size(layer: LayerFeatures) -> str:
    return "the whole image" if layer.sees_all else f"{layer.size[0]} x {layer.size[1]} pixels"


def _hierarchy(record: FeatureRecord) -> Iterator[Block]:
    yield Heading("From simple to complex")
    errors = [record.input_error, *(layer.probe_error for layer in record.layers)]
    if all(error is not None for error in errors):
        series = {"linear classifier": [float(error or 0) for error in errors]}
        if record.own_error is not None:
            series["the network"] = [record.own_error] * len(errors)
        yield lines(
            list(range(len(errors))),
            series,
            x_title="layer (0: the pixels)",
            y_title="test error, share",
            caption="How simple the classes have become: error of a linear classifier that is given what a layer gives.",
        )
    yield Table(
        ["", "layer", "made by", "maps", "sees", "step", "effective", "silent", "linear error"],
        [
            [
                number,
                layer.name,
                layer.kind,
                " x ".join(map(str, layer.shape)),
                _size(layer),
                f"{layer.stride[0]:g}" if any(layer.stride) else None,
                layer.effective,
                layer.silent,
                layer.probe_error,
            ]
            for number, layer in enumerate(record.layers, start=1)
        ],
        {"effective": ".1f", "silent": ".0%", "linear error": ".1%"},
        caption="Sees: receptive field in pixels, padding included; step: from unit to unit; effective: side of the square "
        "that holds 95% of the influence on the unit in the middle; silent: channels that answer to no example.",
        stacks=len(record.layers) <= _STACKED,
    )


def _fields(record: FeatureRecord) -> Iterator[Block]:
    yield Heading("What a unit sees")
    yield lines(
        list(range(1, len(record.layers) + 1)),
        {
            "receptive field": [max(layer.size) for layer in record.layers],
            "effective field": [layer.effective for layer in record.layers],
        },
        x_title="layer",
        y_title="pixels",
        caption="Side of the receptive field, padding included, and of the part that counts, which holds 95% of the influence. "
        "That falls off towards the borders of a field, so that a unit uses less than it sees.",
    )
    drawn = {f"layer {at}": layer.influence for at, layer in enumerate(record.layers, start=1) if layer.influence is not None}
    if drawn:
        yield Images(
            np.stack(list(drawn.values()))[:, None],
            list(drawn),
            "Influence of each pixel of the image on the unit in the middle of the layer; the frame is its receptive field.",
        )


def _filters(record: FeatureRecord) -> Iterator[Block]:
    if record.filters is not None and len(record.filters):
        yield Heading("Filters of the first layer")
        yield Images(
            record.filters, caption="Weights by which the first layer adds up pixels, each in its own range.", contrast="each"
        )


def _layers(record: FeatureRecord) -> Iterator[Block]:
    explained = False
    for number, layer in enumerate(record.layers, start=1):
        if not layer.pictures:
            continue
        yield Heading(f"{number}: {layer.name}")
        if not explained:
            kinds = {row.partition(" ")[0] for row in layer.pictures}
            yield Text(f"Each column is a channel. {'; '.join(text for name, text in _ROWS.items() if name in kinds)}.")
            explained = True
        yield Images(
            np.concatenate(list(layer.pictures.values())),
            caption=f"Channels {', '.join(map(str, layer.channels))} of {layer.shape[0]}; units see {_size(layer)}.",
            columns=len(layer.channels),
            rows=list(layer.pictures),
        )


def _attention(record: FeatureRecord) -> Iterator[Block]:
    if record.examples is None or not record.maps:
        return
    yield Heading("Where the network looks")
    channels = record.examples.shape[1]
    rows = {"image": record.examples, **{name: np.repeat(maps, channels, 1) for name, maps in record.maps.items()}}
    yield Images(
        np.concatenate(list(rows.values())),
        caption="Test images; occlusion: how much the class it is taken for loses where a square covers it (white: most; "
        "grey: nothing; black: it gains); saliency: to which pixels its score is most sensitive.",
        columns=len(record.examples),
        rows=list(rows),
    )
    if record.captions:
        yield Text(f"From left to right: {'; '.join(record.captions)}.")


def _making(record: FeatureRecord) -> Iterator[Block]:
    yield Heading("How it was measured")
    if record.command:
        yield Code(record.command)
    yield Facts(record.facts)
