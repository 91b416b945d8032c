"""Sums of rows against dense products in float64."""

import pytest
import torch

from deepforward.layers import bit_products
from deepforward.layers.bit_products import Bits, padded

needs_kernel = pytest.mark.skipif(not bit_products.worthwhile(), reason="adding rows does not pay on this machine")


def bits(rows, columns, share, seed=0):
    return (torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < share).bfloat16()


def table(rows, columns, seed=1):
    return padded(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)))


@needs_kernel
@pytest.mark.parametrize("columns", [1, 31, 32, 33, 784])
@pytest.mark.parametrize("width", [1, 127, 128, 129, 500])
def test_the_product_is_that_of_float64(columns, width):
    values, rows = bits(37, columns, 0.2), table(columns, width)
    places = Bits.of(values)
    assert places is not None
    wanted = values.double() @ rows.double()
    # At most 784 float32 additions of numbers below 5 in size.
    assert (places.product(rows).double() - wanted).abs().max() < 1e-4


@needs_kernel
@pytest.mark.parametrize("columns", [1, 15, 16, 17, 784])
@pytest.mark.parametrize("width", [1, 15, 127, 128, 129, 500])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_product_in_float32_is_that_of_float64_and_reads_nothing_beyond_the_table(columns, width, transposed):
    values, whole = bits(37, columns, 0.2).float(), torch.full((columns + 1, width), float("nan"))
    whole[:-1] = torch.randn(columns, width, generator=torch.Generator().manual_seed(1))
    rows = whole[:-1].t().contiguous().t() if transposed else whole[:-1]
    places = Bits.of(values)
    assert places is not None
    # At most 784 float32 additions of numbers below 5 in size.
    assert (places.product(rows).double() - values.double() @ rows.double()).abs().max() < 1e-4


@needs_kernel
def test_the_number_of_threads_changes_no_bit():
    values, rows = bits(100, 784, 0.19), table(784, 500)

    def both():
        places, offsets = Bits.of(values), (torch.full((784,), 0.2), torch.full((500,), 0.5))
        upper = table(100, 500)
        wide = places.product(rows.float())
        return wide, places.product(rows), *vars(bit_products.moment_gap(places, upper[60:], upper[:60], offsets)).values()

    one = both()
    torch.set_num_threads(3)
    try:
        many = both()
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(one, many, strict=True))


@needs_kernel
@pytest.mark.parametrize("place", [0, 40, 783])
@pytest.mark.parametrize("value", [0.5, -1.0, 2.0, float("nan")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_values_other_than_zero_and_one_are_left_to_dense_products(place, value, dtype):
    values = bits(7, 784, 0.1).to(dtype)
    values[3, place] = value
    assert Bits.of(values) is None


@needs_kernel
def test_lists_are_made_only_where_they_pay():
    assert Bits.of(bits(50, 100, 0.2)) is not None
    assert Bits.of(bits(50, 100, 0.5)) is None
    assert Bits.of(bits(50, 100, 0.2).float()) is not None
    assert Bits.of(bits(50, 100, 0.2).double()) is None
    assert Bits.of(bits(100, 50, 0.2).t()) is None
    assert Bits.of(torch.zeros(0, 10, dtype=torch.bfloat16)) is None


@needs_kernel
def test_rows_of_a_larger_matrix_and_rows_without_ones():
    values = bits(40, 100, 0.2)[::2]
    values[4] = 0
    rows = table(100, 64)
    assert (Bits.of(values).product(rows).double() - values.double() @ rows.double()).abs().max() < 1e-4
    assert not Bits.of(values).product(rows)[4].any()


def test_without_a_compiler_no_lists_are_made(monkeypatch):
    monkeypatch.setattr(bit_products, "worthwhile", lambda: False)
    assert Bits.of(bits(50, 100, 0.2)) is None


@needs_kernel
@pytest.mark.parametrize(("chains", "data"), [(100, 100), (30, 7)])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("centred", [True, False])
def test_moments_are_those_of_float64(chains, data, threads, centred):
    rng = torch.Generator().manual_seed(2)
    lower = bits(chains + data, 300, 0.15)
    upper = torch.rand(chains + data, 130, generator=rng).bfloat16()
    offsets = torch.rand(300, generator=rng) * centred, torch.rand(130, generator=rng) * centred
    torch.set_num_threads(threads)
    try:
        gap = bit_products.moment_gap(Bits.of(lower), upper[chains:], upper[:chains], offsets)
    finally:
        torch.set_num_threads(1)
    m, p = lower.double() - offsets[0].double(), upper.double() - offsets[1].double()

    def mean_gap(values):
        return values[:chains].mean(0) - values[chains:].mean(0)

    weight = mean_gap(m[:, :, None] * p[:, None])
    wanted = {
        "weight": weight,
        "lower": mean_gap(lower.double()),
        "upper": mean_gap(upper.double()),
        "lower_turn": weight @ offsets[1].double(),
        "upper_turn": offsets[0].double() @ weight,
    }
    # Upper values, less their offset, are rounded to bf16: an error of up to 2^-9 each, which hundreds of terms add up.
    bound = {"weight": 2e-3, "lower": 1e-6, "upper": 1e-6, "lower_turn": 0.1, "upper_turn": 0.05}
    for name, value in wanted.items():
        assert (getattr(gap, name).double() - value).abs().max() < bound[name], name
