"""Kinds of units against quadrature, enumeration and counting."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import log_ndtr
from scipy.stats import chi2, kstest, truncnorm

from deepforward.errors import InvalidData, InvalidOption, UnknownName
from deepforward.models.energy.grouped_units import PooledUnits, SoftmaxUnits
from deepforward.models.energy.rectified_units import RectifiedUnits
from deepforward.models.energy.unit_kinds import hidden_units, visible_units
from deepforward.models.energy.units import BinaryUnits, GaussianUnits

#: Inputs from far below to above every threshold, for 6 units (divisible by the 3 categories).
INPUTS = torch.tensor([[-2.0, -0.5, 0.0, 0.3, 1.0, 3.0], [0.1, -1.0, 2.0, -3.0, 0.4, 0.7]], dtype=torch.float64)
KINDS = ("binary", "gaussian", "relu", "softmax", "pooled")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def units_of(kind, seed=3):
    made = (
        {
            "binary": lambda: BinaryUnits(6),
            "gaussian": lambda: GaussianUnits(6, learn_precision=True),
            "relu": lambda: RectifiedUnits(6),
            "softmax": lambda: SoftmaxUnits(6, 3),
            "pooled": lambda: PooledUnits((1, 4, 4), 2),
        }[kind]()
        .double()
        .requires_grad_(False)
    )
    rng = generator(seed)
    for parameter in [*made.parameters(), made.base]:
        parameter.copy_(0.7 * torch.randn(parameter.shape, generator=rng, dtype=torch.float64))
    return made


def inputs_of(units):
    return INPUTS if units.size == 6 else torch.randn(2, units.size, generator=generator(4), dtype=torch.float64)


def states_of(units):
    """All values of a layer of finitely many: by the product of what each independent part can be."""
    if isinstance(units, BinaryUnits):
        parts = [[(0.0,), (1.0,)]] * units.size
    elif isinstance(units, SoftmaxUnits):
        parts = [np.eye(units.categories).tolist()] * (units.size // units.categories)
    else:  # blocks of 2 x 2 among 4 x 4: enumerated as pictures, by hand
        pictures = []
        for chosen in itertools.product(range(5), repeat=4):
            picture = np.zeros((4, 4))
            for block, unit in enumerate(chosen):
                if unit < 4:
                    picture[2 * (block // 2) + unit // 2, 2 * (block % 2) + unit % 2] = 1
            pictures.append(picture.flatten())
        return torch.tensor(np.array(pictures))
    return torch.tensor([sum(map(tuple, state), ()) for state in itertools.product(*parts)], dtype=torch.float64)


def density(units, unit, x, beta):
    """Unnormalised density of one real unit, with its ends."""
    bias = float(units.bias_at(beta)[unit])
    if isinstance(units, GaussianUnits):
        precision = float(units.log_precision[unit].exp())
        return lambda s: math.exp((x + bias) * s - precision * s * s / 2), -np.inf
    return lambda s: math.exp((x + bias) * s - s * s / 2), 0.0


@pytest.mark.parametrize("beta", [1.0, 0.3, 0.0])
@pytest.mark.parametrize("kind", ["binary", "softmax", "pooled"])
def test_normaliser_and_mean_of_discrete_units_are_those_of_enumeration(kind, beta):
    """In float64; 1e-12 covers the sum of up to 625 terms."""
    units = units_of(kind)
    states, inputs = states_of(units), inputs_of(units)
    log_weights = inputs @ states.T - units.energy(states, beta)
    torch.testing.assert_close(units.log_normalizer(inputs, beta), log_weights.logsumexp(1), rtol=0, atol=1e-12)
    torch.testing.assert_close(units.mean(inputs, beta), log_weights.softmax(1) @ states, rtol=0, atol=1e-12)


@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize("kind", ["gaussian", "relu"])
def test_normaliser_and_mean_of_real_units_are_those_of_quadrature(kind, beta):
    """1e-8 is what `quad` promises of integrals of this size."""
    units = units_of(kind)
    for row in INPUTS:
        log_z, means = 0.0, []
        for unit, x in enumerate(row.tolist()):
            weight, low = density(units, unit, x, beta)
            z = quad(weight, low, np.inf)[0]
            log_z += math.log(z)
            means.append(quad(lambda s, weight=weight: s * weight(s), low, np.inf)[0] / z)
        assert float(units.log_normalizer(row[None], beta)) == pytest.approx(log_z, abs=1e-8)
        assert units.mean(row[None], beta)[0].tolist() == pytest.approx(means, abs=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_is_the_slope_of_the_normaliser(kind):
    """d log Z / dx = E s holds for every kind; also with one beta a row, which is the same as each beta alone."""
    units = units_of(kind)
    inputs = inputs_of(units).clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(units.log_normalizer(inputs).sum(), inputs)
    torch.testing.assert_close(units.mean(inputs), slope, rtol=0, atol=1e-12)
    rows = torch.tensor([[0.25], [0.75]], dtype=torch.float64)
    for method in (units.log_normalizer, units.mean):
        both = method(inputs, rows)
        alone = torch.cat([method(inputs[i : i + 1], float(rows[i])) for i in range(2)])
        torch.testing.assert_close(both, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("beta", [1.0, 0.4])
@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_mean_that_they_should_have(kind, beta):
    """Each of up to 32 means lies within 4.5 standard errors: a sound sampler fails with probability 32 x 7e-6 < 3e-4."""
    units, count = units_of(kind), 40_000
    inputs = inputs_of(units)
    for row in inputs:
        drawn = units.sample(row.expand(count, -1), generator(7), beta)
        error = drawn.std(0) / math.sqrt(count)
        assert ((drawn.mean(0) - units.mean(row[None], beta)[0]).abs() <= 4.5 * error + 1e-12).all()
        if kind == "gaussian":
            ratio = drawn.var(0) * units.log_precision.exp()  # a variance of n normal numbers errs by sqrt(2 / n)
            assert ((ratio - 1).abs() < 4.5 * math.sqrt(2 / count)).all()
        if kind in ("softmax", "pooled"):
            units.check(drawn[:50], "drawn")
        if kind == "pooled":
            assert units.pooled(drawn).max() <= 1


@pytest.mark.parametrize("beta", [1.0, torch.full((30_000, 1), 1.0, dtype=torch.float64)])
def test_units_of_a_block_exclude_each_other_as_they_should(beta):
    """All 5 states of each block, by counting; four tests at 1e-4."""
    units = units_of("pooled")
    row = inputs_of(units)[:1]
    drawn = units.sample(row.expand(30_000, -1), generator(2), beta)
    blocks = units._blocks(drawn).permute(1, 2, 0)
    counts = torch.cat((blocks.sum(0), (1 - blocks.sum(2)).sum(0)[:, None]), 1)
    means = units._blocks(units.mean(row))[:, 0].T
    expected = 30_000 * torch.cat((means, 1 - means.sum(1, keepdim=True)), 1)
    statistic = ((counts - expected) ** 2 / expected).sum(1)
    assert (statistic < chi2.isf(1e-4, 4)).all()


@pytest.mark.parametrize("t", [-1000.0, -40.0, -30.5, -29.5, -9.0, -5.0, 0.0, 5.0, 40.0])
def test_rectified_units_far_below_zero_are_a_tail_and_neither_zero_nor_infinite(t):
    """Kolmogorov-Smirnov at 1e-4 against the truncated normal; below -30 draws are exponential within 2 / t^2 < 0.3%."""
    units = RectifiedUnits(1).double().requires_grad_(False)
    drawn = units.sample(torch.full((20_000, 1), t, dtype=torch.float64), generator(int(abs(t))))[:, 0]
    if t < -100:
        assert kstest(drawn * -t, "expon").pvalue > 1e-4
    else:
        assert kstest(drawn, lambda s: -np.expm1(log_ndtr(t - s) - log_ndtr(t))).pvalue > 1e-4
    assert torch.isfinite(drawn).all()
    assert (drawn >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("t", [-300.0, -100.0, -40.0, -30.01, -29.99, -12.0, -3.0, 0.0, 2.0, 40.0])
def test_the_mean_of_rectified_units_keeps_its_digits_in_the_tail(t, dtype):
    """Against scipy's continued asymptotics; in float32 the input itself is exact, so only the result is rounded: 2e-7."""
    units = RectifiedUnits(1).to(dtype).requires_grad_(False)
    mean = float(units.mean(torch.tensor([[t]], dtype=dtype)))
    expected = (
        quad(lambda s: s * math.exp(t * s - s * s / 2), 0, 60 / abs(t))[0]
        / quad(lambda s: math.exp(t * s - s * s / 2), 0, 60 / abs(t))[0]
        if t < -10
        else float(truncnorm.mean(-t, np.inf, loc=t))
    )
    assert mean == pytest.approx(expected, rel=2e-7)
    log_z = float(units.log_normalizer(torch.tensor([[t]], dtype=dtype)))
    wanted = t * t / 2 + float(log_ndtr(t)) + 0.5 * math.log(2 * math.pi)
    # scipy's own terms of size t^2 / 2 cancel below 0.
    assert log_z == pytest.approx(wanted, rel=3e-7, abs=1e-15 * t * t + (3e-7 if dtype == torch.float32 else 1e-13))


def test_gradients_through_the_tail_of_rectified_units_are_finite():
    units = RectifiedUnits(7)
    inputs = torch.tensor([[-1e4, -100.0, -40.0, -30.0, 0.0, 30.0, 1e4]], requires_grad=True)
    for values in (units.mean(inputs), units.log_normalizer(inputs)):
        (slope,) = torch.autograd.grad(values.sum(), inputs)
        assert torch.isfinite(slope).all()


@pytest.mark.parametrize("x", [19.0, 21.0, 30.0, 45.0, 800.0])
def test_the_normaliser_of_binary_units_leaves_out_no_exponential(x):
    """torch's softplus drops exp(-20) = 2e-9, a million times the rounding of float64."""
    inputs = torch.full((1, 1), x, dtype=torch.float64, requires_grad=True)
    value = BinaryUnits(1).double().log_normalizer(inputs)
    assert float(value.detach() - x) == pytest.approx(math.log1p(math.exp(-x)), abs=4e-16 * x)
    (slope,) = torch.autograd.grad(value.sum(), inputs)
    assert float(slope) == pytest.approx(1 / (1 + math.exp(-x)), abs=1e-15)


def test_the_kernel_and_autograd_agree_on_the_normaliser():
    """The fast path (float32, no gradient) against float64: the kernel promises 1e-7 a unit."""
    units = BinaryUnits(300)
    inputs = 5 * torch.randn(20, 300, generator=generator())
    with torch.no_grad():
        fast = units.log_normalizer(inputs)
    torch.testing.assert_close(fast.double(), units.double().log_normalizer(inputs.double()), rtol=0, atol=300e-7)


@pytest.mark.parametrize("kind", ["binary", "gaussian", "softmax"])
def test_the_base_is_the_likeliest_model_of_independent_units(kind):
    """The slope of the log-likelihood at `base` is zero, with the made-up examples that keep shares from 0 and 1."""
    units = units_of(kind)
    rng, rows = generator(1), 50
    if kind == "binary":
        data = (torch.rand(rows, 6, generator=rng, dtype=torch.float64) < 0.3).double()
        data[:, 0] = 0
        added = torch.stack((torch.zeros(6), torch.ones(6))).double()
    elif kind == "softmax":
        data = units.realised(torch.full((rows, 6), 1 / 3, dtype=torch.float64), "stochastic", rng)
        added = torch.eye(3, dtype=torch.float64).repeat(1, 2)
    else:
        data, added = torch.randn(rows, 6, generator=rng, dtype=torch.float64) * 2 + 1, torch.zeros(0, 6, dtype=torch.float64)
    units.fit_base(data)
    assert torch.isfinite(units.base).all()
    base, seen = units.base.clone().requires_grad_(True), torch.cat((data, added))
    units.base = base
    likelihood = (-units.energy(seen, 0.0) - units.log_normalizer(torch.zeros_like(seen), 0.0)).sum()
    (slope,) = torch.autograd.grad(likelihood, base)
    assert slope.abs().max() < 1e-9  # 52 terms of size 1 in float64


@pytest.mark.parametrize("kind", ["binary", "gaussian"])
def test_shared_biases_are_those_of_units_with_equal_biases(kind):
    """Six units with two biases against six biases set equal, in everything that a layer does."""
    shared = BinaryUnits(6, positions=3) if kind == "binary" else GaussianUnits(6, learn_precision=True, positions=3)
    apart = BinaryUnits(6) if kind == "binary" else GaussianUnits(6, learn_precision=True)
    shared, apart = shared.double(), apart.double()
    with torch.no_grad():
        for (_, one), (_, many) in zip(shared.named_parameters(), apart.named_parameters(), strict=True):
            assert one.shape == (2,)
            one.copy_(torch.tensor([0.4, -1.1]))
            many.copy_(one.repeat_interleave(3))
    data = torch.rand(40, 6, generator=generator(), dtype=torch.float64)
    shared.fit_base(data)
    columns = torch.cat([data[:, [i, 3 + i]] for i in range(3)])
    alone = BinaryUnits(2).double() if kind == "binary" else GaussianUnits(2).double()
    with torch.no_grad():
        if kind == "gaussian":
            alone.log_precision.copy_(shared.log_precision)
        alone.fit_base(columns)
        apart.base.copy_(shared.base.repeat_interleave(3))
    torch.testing.assert_close(shared.base, alone.base)
    rows = torch.tensor([[0.2], [0.9]], dtype=torch.float64)
    for beta in (1.0, 0.3, rows):
        for name in ("log_normalizer", "mean", "energy"):
            wanted = getattr(apart, name)(INPUTS, beta)
            torch.testing.assert_close(getattr(shared, name)(INPUTS, beta), wanted, rtol=0, atol=1e-14)
        assert torch.equal(shared.sample(INPUTS, generator(9), beta), apart.sample(INPUTS, generator(9), beta))
    torch.testing.assert_close(shared.shared(torch.arange(6.0)), torch.tensor([3.0, 12.0]))


@pytest.mark.parametrize(
    ("kind", "bad", "message"),
    [
        ("binary", float("nan"), "got nan in example 1, unit 2; expected numbers from 0 to 1"),
        ("binary", 1.5, "got 1.5 in example 1, unit 2"),
        ("binary", -0.001, "got -0.001 in example 1, unit 2"),
        ("gaussian", float("inf"), "got inf in example 1, unit 2; expected finite numbers"),
        ("relu", -1.0, "expected numbers of at least 0"),
        ("softmax", 2.0, "one 1 in each group"),
        ("softmax", 0.5, "as the sum of group 0 of example 1"),
    ],
)
def test_values_that_units_cannot_take_are_refused_in_one_line(kind, bad, message):
    units = units_of(kind)
    data = torch.tensor([[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]] * 3, dtype=torch.float64)
    units.check(data, "data")
    data[1, 2] = bad
    with pytest.raises(InvalidData, match=message) as caught:
        units.check(data, "data")
    assert "\n" not in str(caught.value)


def test_data_become_values_as_asked():
    data = torch.tensor([[0.2, 0.5, 0.9, 0.0, 1.0, 0.6]]).repeat(20_000, 1)
    binary = BinaryUnits(6)
    assert binary.realised(data, "none", generator()) is data
    assert binary.realised(data, "threshold", generator())[0].tolist() == [0, 0, 1, 0, 1, 1]
    drawn = binary.realised(data, "stochastic", generator())
    # 4.5 standard errors, at most 4.5 / 2 / sqrt(20000); the units with p of 0 and 1 never err.
    assert (drawn.mean(0) - data[0]).abs().max() < 0.016
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert drawn[:, 3].sum() == 0
    assert drawn[:, 4].sum() == 20_000
    assert GaussianUnits(6).realised(data, "threshold", generator()) is data
    groups = SoftmaxUnits(6, 3)
    shares = torch.tensor([[0.2, 0.5, 0.3, 1.0, 0.0, 0.0]]).repeat(20_000, 1)
    assert groups.realised(shares, "threshold", generator())[0].tolist() == [0, 1, 0, 1, 0, 0]
    drawn = groups.realised(shares, "stochastic", generator())
    groups.check(drawn, "drawn")
    assert (drawn.mean(0) - shares[0]).abs().max() < 0.016
    with pytest.raises(UnknownName, match="did you mean threshold"):
        binary.realised(data, "thresold", generator())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BinaryUnits(0), InvalidOption, "at least 1"),
        (lambda: BinaryUnits(6, positions=4), InvalidOption, "a divisor"),
        (lambda: SoftmaxUnits(6, 4), InvalidOption, "divisor"),
        (lambda: PooledUnits((2, 4, 5), 2), InvalidOption, "4x5 units and pool=2"),
        (lambda: visible_units("softmax", 6), InvalidOption, "categories"),
        (lambda: visible_units("binary", 6, categories=3), InvalidOption, "only softmax"),
        (lambda: visible_units("binary", 6, learn_precision=True), InvalidOption, "only gaussian"),
        (lambda: visible_units("gausian", 6), UnknownName, "did you mean gaussian"),
        (lambda: hidden_units("rely", 6), UnknownName, "did you mean relu"),
    ],
)
def test_units_that_cannot_be_are_refused_in_one_line(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
