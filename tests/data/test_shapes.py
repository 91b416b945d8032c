"""Generated shapes: each mask is what its image shows."""

from __future__ import annotations

import pytest
import torch
from skimage import measure

from deepforward.data import load
from deepforward.data.checks import IGNORED
from deepforward.errors import InvalidOption


def test_what_is_promised():
    data = load("shapes?n=50&size=20&classes=6")
    assert (data.task, data.shape, data.train.inputs.dtype, data.train.targets.dtype) == (
        "segmentation",
        (1, 20, 20),
        torch.uint8,
        torch.uint8,
    )
    assert (len(data.train), len(data.test)) == (40, 10)
    assert data.classes == ("ground", "disc", "square", "triangle", "ring", "cross")
    masks = torch.cat((data.train.targets, data.test.targets))
    assert masks.unique().tolist() == [0, 1, 2, 3, 4, 5] and IGNORED not in masks


def test_without_noise_a_brightness_tells_the_class():
    data = load("shapes?n=80&size=40&noise=0")
    several, regions = 0, 0
    for image, mask in zip(data.train.inputs[:, 0], data.train.targets, strict=True):
        assert image[mask == 0].unique().numel() <= 1  # the ground is uniform, and may be hidden altogether
        counts = [len(mask[image == level].unique()) for level in image.unique()]
        several, regions = several + sum(count > 1 for count in counts), regions + len(counts)
    assert 64 < regions < 5 * 64
    assert several <= 6  # two shapes of an image share one of about 200 grey levels by chance: 64 * 3 pairs, 1 expected


def test_noise_has_the_deviation_asked_for():
    quiet, noisy = (load(f"shapes?n=60&noise={noise}").train for noise in (0, 0.05))
    assert torch.equal(quiet.targets, noisy.targets)
    middle = (quiet.inputs > 60) & (quiet.inputs < 195)  # where nothing is cut off at black or white
    differences = (noisy.inputs.float() - quiet.inputs.float())[middle] / 255
    # 4 standard errors of a deviation from that many draws, and a third of a grey level of rounding.
    assert abs(float(differences.std()) - 0.05) < 4 * 0.05 / (2 * int(middle.sum())) ** 0.5 + 1 / 765


@pytest.mark.parametrize(
    ("kind", "area"), [("disc", 3.1416), ("square", 3.24), ("triangle", 2.546), ("ring", 1.414), ("cross", 2.04)]
)
def test_shapes_have_the_area_and_the_holes_of_their_kind(kind, area):
    """Whole shapes that touch nothing: area in squared radii, known from their outline; a ring has a hole."""
    data = load("shapes?n=400&size=64&noise=0&classes=6&seed=3")
    number, ratios = data.classes.index(kind), []
    for image, mask in zip(data.train.inputs[:, 0], data.train.targets, strict=True):
        for region in measure.regionprops(measure.label((mask > 0).numpy())):
            top, left, bottom, right = region.bbox
            inside = torch.from_numpy(region.image)
            part, levels = (of[top:bottom, left:right][inside] for of in (mask, image))
            if min(top, left) > 0 and max(bottom, right) < 64 and bool((part == number).all()) and len(levels.unique()) == 1:
                assert (region.euler_number == 0) == (kind == "ring")
                reach = (torch.from_numpy(region.coords - region.centroid).square().sum(1).max().sqrt() + 0.5).item()
                ratios.append(region.area / reach**2)
    farthest = {"disc": 1, "ring": 1, "square": 0.9 * 2**0.5, "triangle": 1.4, "cross": (1 + 0.09) ** 0.5}[kind]
    assert len(ratios) > 10
    median = torch.tensor(ratios).median().item() * farthest**2
    assert median == pytest.approx(area, rel=0.1)  # half a pixel at the rim of shapes of eight to sixteen


def test_the_seed_fixes_all():
    one, same, other = (load(f"shapes?n=20&seed={seed}") for seed in (1, 1, 2))
    assert torch.equal(one.train.inputs, same.train.inputs) and torch.equal(one.test.targets, same.test.targets)
    assert not torch.equal(one.train.inputs, other.train.inputs)


def test_options_out_of_range_are_refused():
    with pytest.raises(InvalidOption, match="got classes=9, expected a whole number between 2 and 6"):
        load("shapes?classes=9")
