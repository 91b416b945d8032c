"""Edges of eight directions, against a loop over pixels and against geometry."""

import math

import numpy as np
import pytest
import torch

from deepforward.errors import InvalidData
from deepforward.layers.oriented_edges import DIRECTIONS, OrientedEdges


def adapted(images):
    edges = OrientedEdges()
    edges.adapt(images)
    return edges


def slowly(image, contrast, sigma=1.0):
    """The maps of one image in float64, pixel by pixel."""
    radius = round(2 * sigma)
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    height, width = image.shape
    around = np.pad(image, radius, mode="edge")
    size = 2 * radius + 1
    smooth = np.array([[(around[i : i + size, j : j + size] * weights).sum() for j in range(width)] for i in range(height)])
    padded, maps = np.pad(smooth, 1, mode="edge"), np.zeros((DIRECTIONS + 1, height, width))
    for i in range(height):
        for j in range(width):
            across = (padded[i + 1, j + 2] - padded[i + 1, j]) / 2
            down = (padded[i + 2, j + 1] - padded[i, j + 1]) / 2
            magnitude, angle = math.hypot(across, down), math.atan2(down, across)
            tuned = [max(0.0, math.cos(angle - d * math.pi / 4)) ** 4 for d in range(DIRECTIONS)]
            strength = magnitude / (magnitude + contrast)
            maps[:DIRECTIONS, i, j] = strength * np.array(tuned) / sum(tuned)
            maps[DIRECTIONS, i, j] = 1 - strength
    return maps


def test_maps_are_those_of_a_loop_over_pixels():
    image = torch.rand(1, 1, 9, 7, generator=torch.Generator().manual_seed(0))
    edges = adapted(image)
    expected = slowly(image[0, 0].double().numpy(), edges.contrast.item())
    # Values are at most 1 and take some twenty operations in float32, each rounded by 6e-8.
    assert np.abs(edges(image)[0].numpy() - expected).max() < 5e-6


@pytest.mark.parametrize("direction", range(DIRECTIONS))
def test_a_ramp_is_an_edge_of_its_direction_of_half_strength_all_over(direction):
    angle = direction * math.pi / 4
    rows, columns = torch.meshgrid(torch.arange(15.0), torch.arange(15.0), indexing="ij")
    ramp = (columns * math.cos(angle) + rows * math.sin(angle))[None, None]
    edges = OrientedEdges()
    edges.contrast.fill_(1.0)  # the slope of the ramp
    inside = edges(ramp)[0, :, 4:-4, 4:-4]  # away from the border, whose values are repeated outside
    # cos^4 is 1 along the direction and 1/4 at 45 degrees to either side: shares of 2/3 and 1/6.
    assert torch.allclose(inside[direction], torch.tensor(0.5 * 2 / 3), atol=1e-5)
    assert torch.allclose(inside[(direction + 1) % 8], torch.tensor(0.5 / 6), atol=1e-5)
    assert torch.allclose(inside[8], torch.tensor(0.5), atol=1e-5)


def test_maps_add_up_to_one_and_do_not_depend_on_units():
    images = torch.rand(3, 1, 12, 10, generator=torch.Generator().manual_seed(1))
    maps = adapted(images)(images)
    assert torch.allclose(maps.sum(1), torch.ones(3, 12, 10), atol=1e-6)
    assert torch.allclose(adapted(255 * images)(255 * images), maps, atol=1e-5)


def test_an_image_gives_the_same_bits_in_every_batch():
    images = torch.rand(5, 1, 25, 25, generator=torch.Generator().manual_seed(2))
    edges = adapted(images)
    assert torch.equal(edges(images)[3:4], edges(images[3:4]))


def test_flat_images_set_no_contrast():
    with pytest.raises(InvalidData, match="each of one grey level"):
        OrientedEdges().adapt(torch.full((2, 1, 9, 9), 7.0))
    assert torch.equal(OrientedEdges()(torch.zeros(1, 1, 9, 9))[0, 8], torch.ones(9, 9))
