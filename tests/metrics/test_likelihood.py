"""Estimates of partition functions and likelihoods against enumeration."""

import itertools
import math

import pytest
import torch

from deepforward.data import load
from deepforward.errors import InvalidOption
from deepforward.metrics.likelihood import (
    annealed_log_partition,
    best_log_partition,
    ladder,
    pseudo_log_likelihood,
    reverse_annealed_log_partition,
)
from deepforward.models.energy import RBM


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def binary_states(units):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=units)))


@pytest.fixture(scope="module")
def small():
    """6 x 4 units, far from independent."""
    rbm = RBM((6,), hidden=4).requires_grad_(False)
    rng = generator(2)
    for value in (*rbm.parameters(), rbm.visible_units.base):
        value.copy_(1.2 * torch.randn(value.shape, generator=rng))
    return rbm


@pytest.fixture(scope="module")
def trained():
    """20 hidden units after 1000 steps of persistent contrastive divergence on digits, written out."""
    data, rng = load("digits").train.inputs.flatten(1).float() / 16, generator(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rbm = RBM((64,), hidden=20, weight_scale=0.1).requires_grad_(False)
    rbm.prepare(data)
    chains = rbm.start(100, rng)
    for step in range(1000):
        seen = rbm.realise(data[torch.randint(len(data), (100,), generator=rng)], "stochastic", rng)
        expected, chains = rbm.dream(chains, rng)
        for name, gradient in rbm.gap_gradients(rbm.clamp(seen, rng), expected).items():
            rbm.get_parameter(name).sub_(0.3 * (1 - step / 1000) * gradient)
    return rbm


def test_annealing_finds_log_z_of_a_trained_machine(trained):
    """The bound of the lecture's own measurement (A6.2): 0.1 nat at 100 chains and 5000 temperatures; errors were 0.02."""
    exact = trained.log_partition()
    data = (load("digits").test.inputs.flatten(1).float() / 16 > 0.5).float()
    independent = (data @ trained.visible_units.base).mean() - float(trained.log_base_partition()) + 20 * math.log(2)
    learnt = -float(trained.free_energy(data).mean()) - exact - float(independent)
    assert learnt > 3  # there is a structure whose states are hard to weigh
    found = annealed_log_partition(trained, generator(3), chains=100, temperatures=5000)
    assert abs(found.log_partition - exact) < 0.1
    assert found.low < found.log_partition < found.high
    assert found.high - found.low < 0.5
    assert found.effective > 50
    assert (found.chains, found.temperatures) == (100, 5000)


def test_the_interval_covers_log_z_as_often_as_it_says(small):
    """Covered 95 times in 100, fewer than 88 happens with probability 0.0015; an interval of half the width covers 67."""
    exact = small.log_partition()
    found = [annealed_log_partition(small, generator(seed), chains=100, temperatures=40) for seed in range(100)]
    covered = sum(estimate.low <= exact <= estimate.high for estimate in found)
    assert covered >= 88
    assert covered < 100


def test_forward_and_reverse_annealing_bracket_log_z(small):
    """Few temperatures and single weights, so that the bias is plain: several standard errors on either side."""
    exact, v = small.log_partition(), binary_states(6)
    p = (-small.free_energy(v)).softmax(0)
    ups, downs = [], []
    for seed in range(150):
        rng = generator(seed)
        ups.append(annealed_log_partition(small, rng, chains=4, temperatures=6).log_partition)
        samples = v[torch.multinomial(p, 4, replacement=True, generator=rng)]
        downs.append(reverse_annealed_log_partition(small, samples, rng, temperatures=6).log_partition)
    for found, sign in ((torch.tensor(ups), -1), (torch.tensor(downs), 1)):
        error = float(found.std()) / math.sqrt(len(found))
        assert sign * (float(found.mean()) - exact) > 2 * error
        assert abs(float(found.mean()) - exact) < 3


def test_weights_are_unbiased_both_ways(small):
    """The mean weight is Z (forward) and 1 / Z (reverse), within 4.5 standard errors that the interval gives."""
    exact, v = small.log_partition(), binary_states(6)
    rng = generator(5)
    up = annealed_log_partition(small, rng, chains=50_000, temperatures=10)
    samples = v[torch.multinomial((-small.free_energy(v)).softmax(0), 50_000, replacement=True, generator=rng)]
    down = reverse_annealed_log_partition(small, samples, rng, temperatures=10)
    for found in (up, down):
        assert abs(found.log_partition - exact) < 4.5 * (found.high - found.low) / (2 * 1.96)
        assert found.high - found.low < 0.2


def test_one_chain_has_an_interval_that_says_nothing_and_progress_is_told(small):
    shares = []
    found = annealed_log_partition(small, generator(), chains=1, temperatures=600, progress=shares.append)
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert shares == [0, 250 / 600, 500 / 600]
    samples = binary_states(6)[:1]
    reverse = reverse_annealed_log_partition(small, samples, generator(), temperatures=10)
    assert (reverse.low, reverse.high) == (-math.inf, math.inf)
    assert reverse.effective == pytest.approx(1)


def test_the_ladder_is_that_of_the_source():
    betas = torch.tensor(ladder(14_500), dtype=torch.float64)
    assert len(betas) == 14_500
    assert (int((betas < 0.5).sum()), int(((betas >= 0.5) & (betas < 0.9)).sum()), int((betas >= 0.9).sum())) == (
        500,
        4000,
        10_000,
    )
    steps = betas.diff()
    for low, high, size in ((0, 500, 0.001), (500, 4500, 0.0001), (4500, 14_499, 0.1 / 9999)):
        assert (steps[low:high] - size).abs().max() < 1e-12


@pytest.mark.parametrize("count", [2, 3, 4, 5, 10, 29, 100, 1000, 5000])
def test_every_ladder_rises_from_zero_to_one(count):
    betas = ladder(count)
    assert len(betas) == count
    assert (betas[0], betas[-1]) == (0.0, 1.0)
    assert all(low < high for low, high in itertools.pairwise(betas))


def test_what_cannot_be_estimated_is_refused_in_one_line(small):
    for call, message in (
        (lambda: annealed_log_partition(small, generator(), chains=0), "got 0 chains"),
        (lambda: annealed_log_partition(small, generator(), temperatures=1), "got 1 temperatures; expected at least 2"),
        (lambda: reverse_annealed_log_partition(small, torch.zeros(0, 6), generator()), "no samples"),
        (lambda: reverse_annealed_log_partition(small, torch.zeros(1, 6), generator(), temperatures=0), "got 0 temperatures"),
    ):
        with pytest.raises(InvalidOption, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_small_models_are_counted_and_large_ones_estimated(small):
    exact = best_log_partition(small, generator())
    assert exact.log_partition == exact.low == exact.high == small.log_partition()
    assert (exact.chains, exact.temperatures, exact.effective) == (0, 0, math.inf)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        large = RBM((30,), hidden=30, weight_scale=0.0).requires_grad_(False)
    found = best_log_partition(large, generator(), chains=5, temperatures=3)
    assert found.chains == 5
    assert found.log_partition == pytest.approx(60 * math.log(2), abs=1e-5)  # no weights: 2^60 states alike


def test_pseudo_likelihood_is_the_sum_of_conditional_probabilities(small):
    """Conditionals from the joint distribution over all states; float32 free energies of size 10 cancel to 1e-6 a unit."""
    v = binary_states(6)
    log_p = (-small.free_energy(v).double()).log_softmax(0)
    number = 2 ** torch.arange(5, -1, -1)
    expected = torch.zeros(64, dtype=torch.float64)
    for unit in range(6):
        other = v.clone()
        other[:, unit] = 1 - other[:, unit]
        pair = torch.stack((log_p, log_p[(other.long() * number).sum(1)]))
        expected += log_p - pair.logsumexp(0)
    exact = pseudo_log_likelihood(small, v, generator(), exact=True)
    torch.testing.assert_close(exact.double(), expected, rtol=0, atol=1e-5)
    rows = v[37].expand(20_000, -1)
    drawn = pseudo_log_likelihood(small, rows, generator(4))
    # 4.5 standard errors: wrong one time in 150,000 seeds.
    assert abs(float(drawn.mean()) - float(expected[37])) < 4.5 * float(drawn.std()) / math.sqrt(20_000)
    assert drawn.std() > 0.1
