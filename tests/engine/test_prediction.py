"""Predictions: tiles against the whole, pictures against what they stand for."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deepforward.data import Dataset, Split
from deepforward.engine import Recipe, fit
from deepforward.engine.assembly import Parts, assemble
from deepforward.engine.pixels import as_stored, pixels
from deepforward.engine.prediction import _starts, predict, tiled, write_picture
from deepforward.errors import ShapeError
from deepforward.report.mask_section import painted


def parts_of(model: nn.Module, size: tuple[int, int]) -> Parts:
    """A run's parts with an untrained model of two classes."""
    masks = torch.arange(2).reshape(2, 1, 1).expand(2, *size).to(torch.uint8)
    split = Split(torch.zeros(2, 1, *size), masks)
    recipe = Recipe(model="own.py:model", data="own", scaling="none", validation=0.0, precision="fp32")
    return assemble(recipe.complete("segmentation"), Dataset("own", split, split, ("a", "b")), model)


class FixedSize(nn.Module):
    """Two maps of a pixel's value, refusing images of another size."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        assert inputs.shape[1:] == (1, 8, 12)
        return self.gain * torch.cat((inputs, 1 - inputs), 1)


class WrongAtTheEdge(FixedSize):
    """Wrong, which is 1, in the outermost row and column of a tile."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        wrong = torch.ones_like(inputs)
        wrong[:, :, 1:-1, 1:-1] = 0
        return self.gain * torch.cat((wrong, wrong), 1)


@pytest.mark.parametrize("size", [(8, 12), (1, 1), (5, 40), (9, 13), (30, 12), (23, 37)])
def test_a_model_of_single_pixels_of_one_size_gives_each_pixel_of_any_size(size) -> None:
    image = torch.rand(1, *size, generator=torch.Generator().manual_seed(0))
    outputs = tiled(parts_of(FixedSize(), (8, 12)), image)
    assert outputs.shape == (2, *size)
    assert torch.allclose(outputs, torch.cat((image, 1 - image)), atol=1e-6)  # a mean of equal float32 values


def test_where_tiles_overlap_one_that_is_nearer_to_its_edge_counts_less() -> None:
    inner = tiled(parts_of(WrongAtTheEdge(), (16, 16)), torch.zeros(1, 40, 40))[0, 1:-1, 1:-1]
    assert 0 < float(inner.max()) <= 0.5
    assert float((inner > 0.25).float().mean()) < 0.05


@pytest.mark.parametrize(("length", "tile"), list(itertools.product((8, 9, 15, 64, 101), (1, 2, 8))))
def test_tiles_cover_a_length_and_stay_inside(length: int, tile: int) -> None:
    starts = _starts(length, tile)
    assert starts[0] == 0
    assert starts[-1] == length - tile
    assert all(0 < b - a <= max(int(tile * 0.75), 1) for a, b in itertools.pairwise(starts))


def test_an_image_of_other_channels_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"got an image of shape \(3, 8, 12\); expected \(1, height, width\)"):
        predict(parts_of(FixedSize(), (8, 12)), torch.zeros(3, 8, 12))


@pytest.mark.parametrize("like", [torch.tensor([0, 255], dtype=torch.uint8), torch.tensor([0, 16], dtype=torch.uint8)])
def test_pictures_and_stored_values_are_inverse(like: torch.Tensor) -> None:
    values = torch.arange(17, dtype=torch.uint8).reshape(1, 1, 17)
    seen = torch.from_numpy(pixels(values, like=like))
    assert torch.allclose(as_stored(seen, like).float(), values.float(), atol=16 / 255)  # a grey level


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
        return picture


def dataset(classes: tuple[str, ...], targets: torch.Tensor) -> Dataset:
    split = Split(torch.zeros(len(targets), 1, 4, 6), targets)
    return Dataset("own", split, split, classes)


MASK = (torch.arange(24) % 3).reshape(1, 4, 6).to(torch.uint8)


def test_a_page_is_black_on_white(tmp_path: Path) -> None:
    mask = MASK.clamp(max=1)
    write_picture(tmp_path / "x.png", mask[0], dataset(("paper", "ink"), mask))
    picture = opened(tmp_path / "x.png")
    assert picture.mode == "1"
    assert np.array_equal(np.asarray(picture.convert("L")), 255 * (1 - mask[0].numpy()))


def test_a_mask_is_indexed_with_the_colours_of_the_report(tmp_path: Path) -> None:
    write_picture(tmp_path / "x.png", MASK[0], dataset(("a", "b", "c"), MASK))
    picture = opened(tmp_path / "x.png")
    assert picture.mode == "P"
    assert np.array_equal(np.asarray(picture), MASK[0].numpy())
    assert np.array_equal(np.asarray(picture.convert("RGB")).transpose(2, 0, 1), painted(MASK[0].numpy()))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_an_image_spans_the_range_of_the_targets(tmp_path: Path, channels: int, mode: str) -> None:
    targets = torch.rand(2, channels, 4, 6, generator=torch.Generator().manual_seed(0))
    write_picture(tmp_path / "x.png", targets[0], dataset((), targets))
    picture = opened(tmp_path / "x.png")
    assert (picture.mode, picture.size) == (mode, (6, 4))
    low, high = float(targets.min()), float(targets.max())
    seen = torch.from_numpy(np.array(picture).reshape(4, 6, channels)).movedim(2, 0) / 255
    assert torch.allclose(low + seen * (high - low), targets[0], atol=1 / 255)


def test_a_run_says_of_its_own_test_examples_what_its_evaluation_says(tmp_path: Path) -> None:
    run = fit(Recipe(model="lenet5", model_options={"channels": (4, 4)}, epochs=1, precision="fp32"), tmp_path, quiet=True)
    said = torch.stack(run.predict(*run.data.test.inputs[:5]))
    assert torch.allclose(said, run.evaluation().probabilities[:5], atol=1e-5)  # float32, in other batches
    assert said.sum(1).tolist() == pytest.approx([1] * 5, abs=1e-5)
