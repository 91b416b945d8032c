"""Filters by conjugate gradients against dense least squares, and in turn with maps."""

import itertools

import numpy as np
import pytest
import torch

from deepforward.errors import InvalidOption
from deepforward.layers.filter_learning import fit_filters, learn_filters, unit_norm
from deepforward.layers.sparse_coding import sparse_code
from deepforward.layers.synthesis import synthesise


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sparse_maps(*shape, seed, share=0.1):
    values = drawn(*shape, seed=seed)
    return values * (torch.rand(shape, generator=torch.Generator().manual_seed(seed + 1)) < share)


def test_enough_steps_reach_the_least_squares_solution():
    maps, images = sparse_maps(5, 2, 9, 9, seed=1, share=0.3), drawn(5, 2, 7, 7, seed=3)
    found = fit_filters(maps, images, drawn(2, 2, 3, 3, seed=4), steps=60)
    units = torch.eye(36, dtype=torch.float64).reshape(36, 2, 2, 3, 3)
    design = torch.stack([synthesise(maps, unit).flatten() for unit in units], 1).numpy()
    wanted = np.linalg.lstsq(design, images.flatten().numpy(), rcond=None)[0]
    assert np.allclose(found.flatten().numpy(), wanted, atol=1e-10)


def test_every_step_lowers_the_error_and_the_first_goes_down_the_gradient():
    maps, images, filters = sparse_maps(5, 2, 9, 9, seed=1), drawn(5, 1, 7, 7, seed=3), drawn(2, 1, 3, 3, seed=4)
    errors = [(synthesise(maps, fit_filters(maps, images, filters, n)) - images).square().sum().item() for n in range(8)]
    assert all(after < before for before, after in itertools.pairwise(errors))
    leaf = filters.clone().requires_grad_()
    (synthesise(maps, leaf) - images).square().sum().backward()
    moved = fit_filters(maps, images, filters, 1) - filters
    cosine = torch.nn.functional.cosine_similarity(moved.flatten(), -leaf.grad.flatten(), dim=0)
    assert abs(cosine - 1) < 1e-12


def test_filters_that_are_not_used_stay():
    maps = sparse_maps(3, 2, 9, 9, seed=1)
    maps[:, 1] = 0
    filters = drawn(2, 1, 3, 3, seed=4)
    assert torch.equal(fit_filters(maps, drawn(3, 1, 7, 7), filters)[1], filters[1])
    assert torch.equal(fit_filters(torch.zeros_like(maps), drawn(3, 1, 7, 7), filters), filters)


def test_norms():
    filters = drawn(3, 2, 3, 3)
    filters[2] = 0
    assert torch.allclose(unit_norm(filters).flatten(1).norm(dim=1), torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))


def test_turns_lower_the_objective_and_end_with_unit_norm():
    images, seen = drawn(6, 1, 12, 12, seed=5), []
    filters = learn_filters(images, drawn(4, 1, 3, 3), 1.0, rounds=15, watch=lambda turn, value: seen.append((turn, value)))
    assert [turn for turn, _ in seen] == list(range(1, 16))
    assert seen[-1][1] < seen[0][1]
    assert torch.allclose(filters.flatten(1).norm(dim=1), torch.ones(4, dtype=torch.float64))
    with pytest.raises(InvalidOption, match="got rounds=0"):
        learn_filters(images, filters, 1.0, rounds=0)


def test_the_filters_that_made_the_images_are_found_again(unchecked):
    """Planted: two orthogonal strokes, placed here and there; up to sign, order and place within the frame.

    The problem is not convex: of three beginnings the one that ends lowest is right.
    """
    planted = torch.zeros(2, 1, 5, 5, dtype=torch.float64)
    planted[0, 0, 1:4, 2] = planted[1, 0, 2, 1:4] = 3**-0.5
    images = synthesise(3 * sparse_maps(30, 2, 16, 16, seed=7, share=0.01), planted)
    ends = []
    for seed in (9, 10, 11):
        told: list[float] = []
        with unchecked():
            start = drawn(2, 1, 5, 5, seed=seed)
            found = learn_filters(images, start, 1.0, rounds=20, watch=lambda _, value, told=told: told.append(value))
        ends.append((told[-1], found))
    found = min(ends, key=lambda end: end[0])[1]
    likeness = torch.nn.functional.conv2d(planted, found, padding=4).abs().amax((2, 3))
    assert (likeness.amax(1) > 0.95).all()
    assert sorted(likeness.argmax(1).tolist()) == [0, 1]
    code = sparse_code(images, found, 4.0)
    assert (code.fit - images).square().sum() < 0.1 * images.square().sum()
