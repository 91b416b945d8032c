"""The operator of convolutional sparse coding against sums written out, its adjoint and its dense matrix."""

import pytest
import torch
from torch.nn import functional as F

from deepforward.errors import ShapeError
from deepforward.layers.synthesis import correlate, operator_norm, synthesise

SHAPES = [
    (1, 3, 3, 3, 8, 8),
    (1, 2, 7, 5, 9, 6),
    (3, 4, 2, 3, 5, 7),
    (4, 2, 3, 3, 6, 6),
    (16, 3, 3, 2, 5, 4),
    (20, 2, 2, 2, 4, 3),
]


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def example(channels, maps, side, width, height, columns, dtype=torch.float64):
    filters = drawn(maps, channels, side, width, seed=1, dtype=dtype)
    return drawn(2, maps, height + side - 1, columns + width - 1, seed=2, dtype=dtype), filters


def dense(filters, height, columns):
    """R as a matrix, one column a unit of the maps."""
    maps, _, side, width = filters.shape
    units = torch.eye(maps * (height + side - 1) * (columns + width - 1), dtype=filters.dtype)
    return synthesise(units.reshape(len(units), maps, height + side - 1, columns + width - 1), filters).flatten(1).t()


def test_it_is_the_sum_of_true_convolutions_written_out():
    maps, filters = example(2, 3, 3, 2, 4, 5)
    wanted = torch.zeros(2, 2, 4, 5, dtype=torch.float64)
    for n, c, p, q in torch.cartesian_prod(*map(torch.arange, wanted.shape)).tolist():
        for k, i, j in torch.cartesian_prod(torch.arange(3), torch.arange(3), torch.arange(2)).tolist():
            wanted[n, c, p, q] += maps[n, k, p + 2 - i, q + 1 - j] * filters[k, c, i, j]
    assert torch.allclose(synthesise(maps, filters), wanted, atol=1e-14, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_computed_by_blocks_it_is_the_transposed_convolution(shape):
    """In float32, where pixels may be computed as channels, against float64: rounding of sums of at most 105 products."""
    maps, filters = example(*shape)
    wanted = F.conv_transpose2d(maps, filters, padding=(shape[2] - 1, shape[3] - 1))
    assert torch.equal(synthesise(maps, filters), wanted)
    assert torch.allclose(synthesise(maps.float(), filters.float()).double(), wanted, atol=1e-4, rtol=0)


def test_its_gradient_by_the_filters_is_that_of_the_transposed_convolution():
    maps, filters = (values.float() for values in example(1, 3, 3, 3, 6, 6))
    leaves = [filters.clone().requires_grad_() for _ in range(2)]
    synthesise(maps, leaves[0]).square().sum().backward()
    F.conv_transpose2d(maps, leaves[1], padding=2).square().sum().backward()
    assert torch.allclose(leaves[0].grad, leaves[1].grad, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_correlation_is_its_adjoint(shape):
    maps, filters = example(*shape)
    images = drawn(2, shape[0], shape[4], shape[5], seed=3)
    one, other = (synthesise(maps, filters) * images).sum(), (maps * correlate(images, filters)).sum()
    assert torch.allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("shape", [(1, 3, 3, 3, 8, 8), (3, 4, 2, 3, 5, 7), (4, 2, 3, 3, 6, 6)])
def test_the_norm_is_that_of_the_wrapped_operator_and_bounds_the_cut_one(shape):
    maps, filters = example(*shape)
    height, width = maps.shape[2:]
    norm = operator_norm(filters, height, width)
    # The wrapped operator, written out: each unit's filter may leave at one side and come back at the other.
    columns = []
    for k, p, q in torch.cartesian_prod(torch.arange(len(filters)), torch.arange(height), torch.arange(width)).tolist():
        image = torch.zeros(shape[0], height, width, dtype=torch.float64)
        image[:, : shape[2], : shape[3]] = filters[k]
        columns.append(image.roll((p, q), (1, 2)).flatten())
    assert torch.allclose(norm, torch.linalg.matrix_norm(torch.stack(columns), 2), rtol=1e-10)
    cut = torch.linalg.matrix_norm(dense(filters, shape[4], shape[5]), 2)
    assert 0.5 * norm < cut <= norm * (1 + 1e-10)


def test_maps_that_do_not_fit_are_refused(unchecked):
    with unchecked(), pytest.raises(ShapeError, match="expected one map for each filter"):
        synthesise(drawn(1, 3, 8, 8), drawn(2, 1, 3, 3))
    with pytest.raises(ShapeError, match="none smaller"):
        synthesise(drawn(1, 2, 2, 8), drawn(2, 1, 3, 3))
