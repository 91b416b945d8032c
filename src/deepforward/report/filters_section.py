"""What a deconvolutional network builds images of: the part of a page that only models with filters of their own have."""

from __future__ import annotations

from collections.abc import Iterator

from deepforward.report.blocks import Block, Heading, Images
from deepforward.report.figures import by_epoch
from deepforward.report.run_record import RunRecord

#: Names of a portrait, or their beginnings, that this section draws.
NAMES = ("layers", "atoms/")


def filters_section(record: RunRecord) -> Iterator[Block]:
    """Filters of each layer as pictures, reconstructions from each layer, and how few of the maps are used."""
    atoms = {name.removeprefix("atoms/"): value for name, value in record.portrait.items() if name.startswith("atoms/")}
    if not atoms:
        return
    yield Heading("What images are made of")
    for depth, pictures in atoms.items():
        told = (
            "Filters of the first layer"
            if depth == "1"
            else f"What a unit of each map of layer {depth} adds to an image, pooled values lying in the middle of their blocks"
        )
        yield Images(
            pictures, caption=f"{told}, each stretched to its own range. Noise: the filter is not used.", contrast="each"
        )
    if "layers" in record.portrait:
        layers = record.portrait["layers"].swapaxes(0, 1)
        yield Images(
            layers.reshape(-1, *layers.shape[2:]),
            caption="Test examples, and what the maps of each layer tell of them, sent down by the switches of the way up.",
            columns=layers.shape[1],
            rows=["test example", *(f"from layer {depth + 1}" for depth in range(len(layers) - 1))],
        )
    keys = {split: f"{split}/zeros" for split in ("train", "validation")}
    if any(key in entry for entry in record.history for key in keys.values()):
        yield by_epoch(
            record.history,
            keys,
            quantity="share of the maps that is zero",
            caption="Near 1: an image is told by few filters at few places.",
        )
