"""Pooling with switches against torch's own, its way back, and blocks across maps."""

import pytest
import torch
from torch.nn import functional as F

from deepforward.layers.switched_pooling import pool, pooled_shape, unpool


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_of_positive_maps_it_is_max_pooling():
    maps = drawn(2, 3, 8, 6).abs()
    values, switches = pool(maps, 2)
    wanted, places = F.max_pool2d(maps, 2, return_indices=True)
    assert torch.equal(values, wanted)
    assert torch.equal(unpool(values, switches, (3, 8, 6), 2), F.max_unpool2d(wanted, places, 2))


def test_the_sign_stays():
    assert pool(torch.tensor([[[[1.0, -3.0], [2.0, 0.0]]]]), 2)[0].item() == -3


@pytest.mark.parametrize(
    ("shape", "side", "across"), [((4, 6, 6), 2, 1), ((4, 6, 6), 3, 2), ((5, 7, 8), 3, 2), ((3, 5, 5), 1, 1)]
)
def test_the_way_back_is_the_adjoint_and_keeps_what_was_passed(shape, side, across):
    maps = drawn(2, *shape)
    values, switches = pool(maps, side, across)
    assert tuple(values.shape[1:]) == pooled_shape(shape, side, across)
    back = unpool(values, switches, shape, side, across)
    kept = back != 0
    assert torch.equal(back[kept], maps[kept])
    assert kept.sum() == values.count_nonzero()
    assert torch.equal(pool(back, side, across)[0], values)
    other = drawn(*values.shape, seed=1)
    at_switches = (unpool(other, switches, shape, side, across) * maps).sum()
    assert torch.allclose((other * values).sum(), at_switches)


def test_across_maps_one_of_each_group_is_kept():
    maps = torch.zeros(1, 4, 2, 2)
    maps[0, :, 0, 0] = torch.tensor([1.0, 2.0, -4.0, 3.0])
    assert pool(maps, 2, 2)[0].flatten().tolist() == [2, -4]
