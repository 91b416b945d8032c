import math

import pytest
import torch

from deepforward.data.photographs import grey_photograph
from deepforward.errors import InvalidOption
from deepforward.shallow.regions import attributes, objects_of, otsu_threshold, superpixels, watershed_objects

COINS = grey_photograph("coins")


def test_otsus_threshold_leaves_the_least_variance_within():
    assert otsu_threshold(COINS) == 107  # lecture.md A4.1
    values = COINS.flatten().double()

    def within(level):
        dark, bright = values[values <= level], values[values > level]
        return sum(len(part) * part.var(correction=0).item() for part in (dark, bright))

    assert min(range(int(COINS.min()), int(COINS.max())), key=within) == 107


def test_watersheds_find_the_coins_of_the_notes():
    regions = watershed_objects(COINS, 30, 150)
    sizes = torch.bincount(regions.flatten())[1:]
    assert len(sizes) == 25  # lecture.md A4.1: 25 labels, one of 2 pixels
    assert sizes.sort().values[:2].tolist() == [2, 1077]
    coins = watershed_objects(COINS, 30, 150, smallest=50)
    assert coins.unique().tolist() == list(range(25))


def test_objects_are_numbered_filled_and_large_enough():
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[0, 0] = True
    mask[2:7, 2:7] = True
    mask[4, 4] = False
    objects = objects_of(mask, smallest=2)
    assert objects[4, 4] == 1
    assert (objects == 1).sum() == 25
    assert objects.max() == 1
    assert objects_of(mask).max() == 2


def test_attributes_of_a_rectangle_are_those_of_the_formula():
    labels = torch.zeros(30, 40, dtype=torch.int64)
    labels[3:9, 5:25] = 1
    labels[15:18, 15:18] = 3
    rows = attributes(labels, ("area", "eccentricity", "axis_major_length", "euler_number"))
    assert rows.shape == (2, 4)
    # The variance of a = 1, 2, ..., n is (n^2 - 1) / 12, the axis four times its root.
    torch.testing.assert_close(rows[0], torch.tensor([120, math.sqrt(1 - 35 / 399), 4 * math.sqrt(399 / 12), 1]))
    torch.testing.assert_close(rows[1], torch.tensor([9, 0, 4 * math.sqrt(8 / 12), 1]))


def test_attributes_of_grey_are_means_over_regions():
    labels = torch.tensor([[1, 1, 2], [1, 2, 2]])
    image = torch.tensor([[0.0, 0.3, 1.0], [0.6, 0.5, 0.0]])
    torch.testing.assert_close(attributes(labels, ("intensity_mean",), image)[:, 0], torch.tensor([0.3, 0.5]))
    two = attributes(labels, ("intensity_mean",), torch.stack((image, 1 - image), 2))
    torch.testing.assert_close(two, torch.tensor([[0.3, 0.7], [0.5, 0.5]]))


def test_superpixels_part_the_image_along_its_edges():
    image = torch.zeros(40, 40)
    image[:, 20:] = 1
    regions = superpixels(image, 16)
    assert regions.min() == 1
    assert 8 <= regions.max() <= 24
    assert set(regions[:, :20].unique().tolist()).isdisjoint(regions[:, 20:].unique().tolist())


def test_levels_in_the_wrong_order_are_refused():
    with pytest.raises(InvalidOption, match="background=150 and foreground=30"):
        watershed_objects(COINS, 150, 30)
