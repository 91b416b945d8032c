"""The encoder-decoder: pages of any size, and no place preferred to another."""

from __future__ import annotations

import pytest
import torch

from deepforward.errors import ShapeError
from deepforward.models.binarization import BinarizationNetwork


@pytest.fixture
def network() -> BinarizationNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return BinarizationNetwork((1, 64, 64), 2, channels=(4, 6), depth=1).eval()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (16, 20), (33, 30)])
def test_every_pixel_of_a_page_of_any_size_gets_its_logits(network, size) -> None:
    assert network(noise(2, 1, *size)).shape == (2, 2, *size)


def test_a_page_is_continued_by_its_edge(network) -> None:
    page = noise(1, 1, 13, 18)
    whole = torch.nn.functional.pad(page, (0, 2, 0, 3), mode="replicate")
    assert torch.equal(network(page), network(whole)[:, :, :13, :18])


def test_moving_the_page_by_the_stride_moves_the_logits(network) -> None:
    page = noise(1, 1, 72, 72)
    moved = network(page[:, :, 4:, 8:])
    inner = (slice(None), slice(None), slice(28, 36), slice(28, 36))  # further from the edges than a unit sees
    there = (slice(None), slice(None), slice(32, 40), slice(36, 44))
    assert torch.allclose(moved[inner], network(page)[there], atol=1e-5)  # float32, sums in another order


def test_without_skips_the_parameters_are_the_same_and_the_logits_not() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = BinarizationNetwork((1, 64, 64), 2, channels=(4, 6), depth=1, skip=False).eval()
        torch.manual_seed(0)
        skipping = BinarizationNetwork((1, 64, 64), 2, channels=(4, 6), depth=1).eval()
    assert [p.shape for p in plain.parameters()] == [p.shape for p in skipping.parameters()]
    assert not torch.equal(plain(noise(1, 1, 8, 8)), skipping(noise(1, 1, 8, 8)))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 8, 8)])
def test_other_channels_are_refused(network, shape) -> None:
    with pytest.raises(
        ShapeError, match=r"layer 'encoder1.0.conv' got inputs of shape .* expected \(batch, 1, height, width\)"
    ):
        network(noise(*shape))
