"""Paths back through the Cresceptron, against a search over all cells that could have caused one."""

import pytest
import torch

from deepforward.models.cresceptron import Cresceptron
from deepforward.models.cresceptron.back_tracking import (
    ACTIVE_SHARE,
    EDGE_STRENGTH,
    Ascent,
    back_track,
    blurred,
    connected,
    outline,
    strongest,
    unblurred,
    unreduced,
)


def one_by_one(network, ascent, cell):
    """The pixels that `back_track` gives, by recursion over single cells in plain Python."""
    pixels, seen = set(), set()

    def down_from_blurred(level, plane, row, column):
        maps = ascent.entering[level]
        around = [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        around = [(i, j) for i, j in around if 0 <= i < maps.shape[1] and 0 <= j < maps.shape[2]]
        count = {(i, j): maps[plane, i, j].item() * (1 if (i, j) == (row, column) else network.blur) for i, j in around}
        row, column = max(around, key=lambda at: (count[at], at == (row, column), -at[0], -at[1]))
        if level == 0:
            if plane < 8 and 1 - maps[8, row, column] >= EDGE_STRENGTH:
                pixels.add((row, column))
            return
        below = ascent.responding[level - 1]
        four = [(2 * row + i, 2 * column + j) for i in (0, 1) for j in (0, 1)]
        four = [(i, j) for i, j in four if i < below.shape[1] and j < below.shape[2]]
        row, column = max(four, key=lambda at: (below[plane, at[0], at[1]].item(), -at[0], -at[1]))
        down_from_node(network.stages[level - 1], level - 1, plane, row, column)

    def down_from_node(planes, level, plane, row, column):
        if (level, plane, row, column) in seen:
            return
        seen.add((level, plane, row, column))
        values = blurred(ascent.entering[level], network.blur)
        margin = planes.window[0] // 2 if planes.padding else 0
        for connection, in_row, in_column in planes.places():
            i, j, t = in_row + row - margin, in_column + column - margin, planes.templates[plane, connection].item()
            if t > 0 and 0 <= i < values.shape[1] and 0 <= j < values.shape[2]:
                channel = int(planes.channels[plane, connection])
                if values[channel, i, j].item() >= ACTIVE_SHARE * t:
                    down_from_blurred(level, channel, i, j)

    down_from_node(network.top, len(network.stages), *cell)
    return pixels


@pytest.mark.parametrize("levels", [1, 2])
def test_paths_are_those_of_a_search_cell_by_cell(levels):
    images = torch.rand(3, 1, 13, 12, generator=torch.Generator().manual_seed(0))
    network = Cresceptron((1, 13, 12), 3, levels=levels, synapses=2)
    network.learn(images, torch.arange(3))
    ascent = network.climb(images[1:2] + 0.1 * images[2:])
    alone = Ascent([maps[0] for maps in ascent.entering], [maps[0] for maps in ascent.responding], ascent.blur)
    found = back_track(alone, network.stages, network.top, torch.tensor([[1, 0, 0]]))
    assert {tuple(at) for at in found.nonzero().tolist()} == one_by_one(network, alone, (1, 0, 0))
    assert found.sum() > 10


def test_blurring_and_reduction_go_back_to_their_maximum():
    activity = torch.tensor([[[0.0, 0.9, 0.0, 0.0], [0.5, 0.7, 0.0, 0.0], [0.0, 0.0, 0.0, 0.3]]])
    centre = torch.tensor([[0, 1, 1]])
    assert strongest(unblurred(centre), activity, 1.0).tolist() == [[0, 0, 1]]
    assert strongest(unblurred(centre), activity, 0.7).tolist() == [[0, 1, 1]]  # 0.7 against 0.7 * 0.9
    assert strongest(unreduced(torch.tensor([[0, 0, 0], [0, 1, 1]])), activity).tolist() == [[0, 0, 1], [0, 2, 3]]


def test_a_path_needs_half_of_what_the_template_holds():
    network = Cresceptron((1, 8, 8), 2, synapses=1)
    top = network.top
    top.add(torch.tensor([[0.8], [0.8], [0.0], [0.8]]))  # a window of 2 x 2
    below = torch.tensor([[[0.39, 0.4], [0.9, 0.0]]])
    assert connected(top, torch.tensor([[0, 0, 0]]), below).tolist() == [[0, 0, 1]]


def test_the_outline_is_the_convex_hull():
    pixels = torch.zeros(9, 11, dtype=torch.bool)
    for row, column in ((1, 2), (1, 8), (6, 2), (6, 8), (3, 4)):
        pixels[row, column] = True
    corners, mask = outline(pixels)
    assert {tuple(corner) for corner in corners.tolist()} == {(1, 2), (1, 8), (6, 2), (6, 8)}
    expected = torch.zeros_like(pixels)
    expected[1:7, 2:9] = True
    assert torch.equal(mask, expected)


@pytest.mark.parametrize("at", [[], [(2, 3)], [(1, 1), (2, 2), (3, 3)]])
def test_few_pixels_or_a_line_are_their_own_outline(at):
    pixels = torch.zeros(5, 5, dtype=torch.bool)
    for row, column in at:
        pixels[row, column] = True
    corners, mask = outline(pixels)
    assert [tuple(corner) for corner in corners.tolist()] == at
    assert torch.equal(mask, pixels)
