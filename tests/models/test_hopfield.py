import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from deepforward.errors import InvalidData, InvalidOption, ShapeError, UnknownName
from deepforward.models.energy import (
    Hopfield,
    critical_load,
    error_free_patterns,
    overlap,
    recalled_overlap,
    unstable_bit_probability,
)
from tests.models.hopfield_examples import generator, network, seeds, signs


def damaged(states, share, rng):
    return torch.where(torch.rand(states.shape, generator=rng) < share, -states, states)


def exact_recall(patterns, state, orders):
    """Asynchronous recall by Hebb's rule in integers, one unit at a time: N h_i = sum_mu x_i (x's - x_i s_i) over patterns."""
    patterns, state, visited = patterns.tolist(), state.tolist(), []
    for order in orders:
        before = list(state)
        for unit in order:
            field = sum(x[unit] * (sum(a * b for a, b in zip(x, state, strict=True)) - x[unit] * state[unit]) for x in patterns)
            state[unit] = (field > 0) - (field < 0) or state[unit]
            visited.append(list(state))
        if state == before:
            return visited
    raise AssertionError("no rest")


@settings(deadline=None, max_examples=30)
@given(seed=seeds, units=st.integers(1, 20), stored=st.integers(1, 8))
def test_recall_is_that_of_a_plain_loop_in_integers_and_the_energy_never_rises(seed, units, stored):
    """Small and even numbers make fields of exactly zero common, which rounding must not decide."""
    rng = generator(seed)
    net, starts = network(patterns := signs(stored, units, rng=rng)), signs(4, units, rng=rng)
    ours = net.recall(starts, generator(seed))
    orders_of = generator(seed)
    orders = [torch.randperm(units, generator=orders_of).tolist() for _ in range(60)]
    for start, end, sweeps in zip(starts, ours.states, ours.sweeps.tolist(), strict=True):
        visited = exact_recall(patterns, start, orders)
        assert end.tolist() == visited[-1]
        assert len(visited) == (sweeps + 1) * units
        energies = net.energy(torch.tensor([start.tolist(), *visited]))
        assert energies.diff().max() <= 1e-13 * units * stored  # rounding of sums of units x stored / N terms
    assert bool(ours.converged.all())


@settings(deadline=None, max_examples=30)
@given(seed=seeds, rule=st.sampled_from(["hebb", "pseudo-inverse"]))
def test_recall_is_a_chain_of_single_updates_that_go_downhill_with_a_bias_too(seed, rule):
    rng = generator(seed)
    net = network(signs(6, 25, rng=rng), rule, bias=0.3 * torch.randn(25, generator=rng))
    start = signs(25, rng=rng).double()
    ours = net.recall(start, generator(seed))
    order_of, state, energies = generator(seed), start, [net.energy(start).item()]
    for _ in range(int(ours.sweeps) + 1):
        for unit in torch.randperm(25, generator=order_of).tolist():
            fields, after = net.fields(state), net.update(state, unit)
            if abs(fields[unit]) > 1e-12:
                assert after[unit] == fields[unit].sign()
            assert torch.equal(after[torch.arange(25) != unit], state[torch.arange(25) != unit])
            state = after
            energies.append(net.energy(state).item())
    assert torch.equal(ours.states, state)
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(energies))
    assert bool((net.fields(state) * state >= -1e-12).all())


def test_energy_is_the_double_sum():
    rng = generator()
    net, states = network(signs(3, 7, rng=rng), bias=torch.randn(7, generator=rng)), signs(2, 5, 7, rng=rng)
    for i, j in itertools.product(range(2), range(5)):
        s = states[i, j].double()
        pairs = sum(net.weights[a, b] * s[a] * s[b] for a, b in itertools.combinations(range(7), 2))
        assert net.energy(states)[i, j].item() == pytest.approx(-(pairs + net.bias @ s).item(), abs=1e-13)


def test_hebb_is_the_mean_of_products_and_adding_is_storing_together():
    patterns = signs(5, 30, rng=generator())
    net = network(patterns)
    for i, j in itertools.product(range(30), repeat=2):
        assert net.weights[i, j].item() == pytest.approx((patterns[:, i] @ patterns[:, j]).item() / 30 * (i != j), abs=1e-15)
    bit_by_bit = network(patterns[:2])
    bit_by_bit.add(patterns[2:])
    torch.testing.assert_close(bit_by_bit.weights, net.weights, rtol=0, atol=1e-15)
    assert int(bit_by_bit.num_patterns) == 5
    bit_by_bit.store(patterns[:1])
    assert torch.equal(bit_by_bit.weights, network(patterns[:1]).weights)


def test_pseudo_inverse_is_the_projection_on_the_patterns_even_if_they_depend_on_each_other():
    patterns = signs(10, 40, rng=generator())
    patterns = torch.cat([patterns, patterns[:3], -patterns[3:5]])
    expected = torch.linalg.pinv(patterns.double()) @ patterns.double()
    torch.testing.assert_close(network(patterns, "pseudo-inverse").weights, expected.fill_diagonal_(0), rtol=0, atol=1e-13)


def test_pseudo_inverse_recalls_where_hebb_has_long_failed():
    rng = generator()
    patterns = signs(100, 200, rng=rng)  # load 0.5
    net = network(patterns, "pseudo-inverse")
    assert net.unstable_share(patterns).max() == 0
    assert torch.equal(net.recall(patterns, rng).states.long(), patterns)
    assert overlap(net.recall(damaged(patterns, 0.03, rng), rng).states, patterns).mean() > 0.995
    hebb = network(patterns)
    assert overlap(hebb.recall(patterns, rng).states, patterns).mean() < 0.5


def test_pseudo_inverse_stores_correlated_patterns_that_hebb_confuses():
    rng = generator()
    patterns = damaged(signs(200, rng=rng).expand(8, -1), 0.15, rng)
    assert network(patterns, "pseudo-inverse").unstable_share(patterns).max() == 0
    assert network(patterns).unstable_share(patterns).min() > 0.05


@pytest.mark.parametrize(("load", "low", "high"), [(0.12, 0.95, 1.0), (0.20, 0.0, 0.6)])
def test_recall_breaks_down_between_the_loads_of_the_theory(load, low, high):
    assert recalled_overlap(load) == pytest.approx(0.99 if load < 0.138 else 0, abs=0.005)
    rng = generator()
    patterns = signs(int(1000 * load), 1000, rng=rng)
    probes = patterns[:40]
    found = network(patterns).recall(probes, rng)
    assert bool(found.converged.all())
    assert low < overlap(found.states, probes).mean() < high


@pytest.mark.parametrize("load", [0.105, 0.185])
def test_share_of_unstable_bits_is_that_of_a_normal_crosstalk(load):
    """Crosstalk is a sum of (P - 1)(N - 1) fair signs exactly: the normal law is held to it, the network to the normal law."""
    units, networks = 1000, 16
    stored = 1 + round(load * (units - 1))
    terms = (stored - 1) * (units - 1)
    normal = unstable_bit_probability(load)
    exact = binom.cdf(math.ceil((terms - (units - 1)) / 2) - 1, terms, 0.5)
    assert normal == pytest.approx(exact, rel=0.01)
    shares = []
    for seed in range(networks):
        patterns = signs(stored, units, rng=generator(seed))
        shares.append(network(patterns).unstable_share(patterns).mean().item())
    # Bits of one network share their patterns, so that networks are the sample. Fails by chance 0.9% of seeds (Student's t).
    shares = torch.tensor(shares)
    error = max(shares.std().item(), math.sqrt(normal / (stored * units))) / math.sqrt(networks)
    assert abs(shares.mean().item() - normal) < 3 * error


def test_theory_of_capacity_has_its_published_numbers():
    assert critical_load() == pytest.approx(0.138, abs=5e-4)
    assert recalled_overlap(critical_load() - 1e-9) == pytest.approx(0.967, abs=5e-4)
    assert recalled_overlap(critical_load() + 1e-9) == 0
    assert unstable_bit_probability(0.105) == pytest.approx(0.001, abs=5e-5)
    assert unstable_bit_probability(0.138) == pytest.approx(0.0036, abs=5e-5)
    assert unstable_bit_probability(0.185) == pytest.approx(0.01, abs=5e-5)
    assert error_free_patterns(1000) == pytest.approx(72.38, abs=0.01)


@pytest.mark.parametrize("load", [0.02, 0.08, 0.13])
def test_overlap_solves_the_equations_of_the_theory(load):
    """m = erf(m / sqrt(2 a r)), r = (1 - C)^-2, C = sqrt(2 / (pi a r)) exp(-m^2 / (2 a r)), by iteration from m = 1."""
    m, r = 1.0, 1.0
    for _ in range(2000):
        c = math.sqrt(2 / (math.pi * load * r)) * math.exp(-m * m / (2 * load * r))
        m, r = math.erf(m / math.sqrt(2 * load * r)), (1 - c) ** -2
    assert recalled_overlap(load) == pytest.approx(m, abs=1e-9)


def test_few_patterns_are_stored_without_error():
    rng = generator()
    patterns = signs(int(error_free_patterns(1000) / 2), 1000, rng=rng)
    net = network(patterns)
    assert net.unstable_share(patterns).max() == 0
    assert overlap(net.recall(damaged(patterns, 0.2, rng), rng).states, patterns).min() == 1


def test_synchronous_recall_may_go_to_and_fro_for_ever_where_asynchronous_recall_rests():
    net = network(torch.tensor([[1, 1]]))
    starts = torch.tensor([[1, -1], [-1, -1], [1, 1]])
    found = net.recall(starts, mode="synchronous")
    assert found.period.tolist() == [2, 1, 1]
    assert found.converged.tolist() == [False, True, True]
    assert found.sweeps.tolist() == [0, 0, 0]
    assert net.recall(-starts[:1], mode="synchronous").period.tolist() == [2]
    assert bool(net.recall(starts).converged.all())


@settings(deadline=None, max_examples=30)
@given(seed=seeds, units=st.integers(1, 20), stored=st.integers(1, 5))
def test_synchronous_recall_ends_in_what_it_says(seed, units, stored):
    """By a plain loop; symmetric weights know no cycle longer than two."""
    rng = generator(seed)
    net, starts = network(signs(stored, units, rng=rng)), signs(6, units, rng=rng)
    found = net.recall(starts, mode="synchronous")

    def after(state):
        return torch.stack([net.update(state, unit)[unit] for unit in range(units)])

    for i, end in enumerate(found.states):
        path = [starts[i].double()]
        while not any(torch.equal(path[-1], earlier) for earlier in path[:-1]):
            path.append(after(path[-1]))
        first = next(i for i, state in enumerate(path) if torch.equal(state, path[-1]))
        assert (int(found.period[i]), int(found.sweeps[i])) == (len(path) - 1 - first, first)
        assert any(torch.equal(end, state) for state in path[first:])


def test_too_few_sweeps_are_said_so():
    rng = generator()
    net, starts = network(signs(20, 100, rng=rng)), signs(30, 100, rng=rng)
    for mode in ("asynchronous", "synchronous"):
        cut = net.recall(starts, generator(1), mode=mode, max_sweeps=1)
        assert cut.period.tolist() == [0] * 30
        assert cut.sweeps.tolist() == [1] * 30
    one = net.recall(starts, generator(1), max_sweeps=1).states
    state, order = starts.double(), torch.randperm(100, generator=generator(1)).tolist()
    for unit in order:
        state = net.update(state, unit)
    assert torch.equal(one, state)


def test_a_state_is_recalled_alike_alone_and_in_company():
    rng = generator()
    net, starts = network(signs(15, 80, rng=rng)), signs(2, 3, 80, rng=rng)
    together = net.recall(starts, generator(5))
    assert together.states.shape == (2, 3, 80)
    assert together.period.shape == together.sweeps.shape == (2, 3)
    for i, j in itertools.product(range(2), range(3)):
        alone = net.recall(starts[i, j], generator(5))
        assert torch.equal(alone.states, together.states[i, j])
        assert alone.sweeps == together.sweeps[i, j]


def test_recall_leaves_what_it_is_given_and_repeats_with_its_seed():
    rng = generator()
    net, starts = network(signs(20, 60, rng=rng)), signs(10, 60, rng=rng).double()
    before = starts.clone()
    first, again, other = (net.recall(starts, generator(seed)).states for seed in (1, 1, 2))
    assert torch.equal(starts, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(net(starts), net.recall(starts).states)


def test_single_precision_recalls_the_same():
    rng = generator()
    net, starts = network(patterns := signs(30, 300, rng=rng)), damaged(patterns, 0.1, rng)
    double = net.recall(starts, generator(1)).states
    single = net.float().recall(starts, generator(1)).states
    assert single.dtype == torch.float32
    assert torch.equal(single.double(), double)


def test_what_is_stored_survives_its_state_dict():
    patterns = signs(4, 20, rng=generator())
    net, copy = network(patterns, "pseudo-inverse", bias=torch.ones(20)), Hopfield(20)
    copy.load_state_dict(net.state_dict())
    starts = signs(6, 20, rng=generator(1))
    assert torch.equal(copy(starts), net(starts))
    with pytest.raises(InvalidOption, match="pseudo-inverse"):
        copy.add(patterns)
    assert list(net.parameters()) == []


@settings(deadline=None)
@given(seed=seeds, units=st.integers(1, 40))
def test_overlap_counts_the_bits_that_differ(seed, units):
    a, b = signs(2, 3, units, rng=generator(seed))
    assert overlap(a, b).tolist() == pytest.approx((1 - 2 * (a != b).double().mean(1)).tolist(), abs=1e-15)
    assert overlap(a, -a).tolist() == [-1.0] * 3


empty, filled = Hopfield(3), network(torch.ones(1, 3))
spins = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda: Hopfield(0), InvalidOption, "num_units = 0"),
        (lambda: Hopfield(3, torch.ones(2)), ShapeError, r"bias of shape \(2,\)"),
        (lambda: Hopfield(2, torch.tensor([0, math.nan])), InvalidData, "bias that is not finite"),
        (lambda: empty.recall(spins), InvalidData, "stored nothing"),
        (lambda: empty(spins), InvalidData, "stored nothing"),
        (lambda: filled.recall(torch.ones(2, 4)), ShapeError, r"states of shape \(2, 4\); expected \(..., 3\)"),
        (lambda: filled.recall(torch.tensor(1.0)), ShapeError, r"shape \(\)"),
        (lambda: filled.recall(torch.tensor([[1, 0, 1]])), InvalidData, r"got 0 at \(0, 1\); expected states of -1 and \+1"),
        (lambda: filled.energy(torch.tensor([[1, math.nan, 1]])), InvalidData, r"got nan at \(0, 1\)"),
        (lambda: filled.recall(spins, mode="parallel"), UnknownName, "unknown mode of recall 'parallel'"),
        (lambda: filled.recall(spins, max_sweeps=0), InvalidOption, "max_sweeps = 0"),
        (lambda: filled.update(spins, 3), InvalidOption, "unit 3"),
        (lambda: empty.store(spins, rule="heb"), UnknownName, "did you mean hebb"),
        (lambda: empty.store(torch.ones(3)), ShapeError, r"patterns of shape \(3,\)"),
        (lambda: empty.store(torch.ones(0, 3)), InvalidData, "no patterns"),
        (lambda: empty.store(spins * 2), InvalidData, "got 2.0"),
        (lambda: empty.add(torch.ones(1, 4)), ShapeError, r"shape \(1, 4\)"),
        (lambda: empty.store(2 * torch.eye(3) - 1, "pseudo-inverse"), InvalidData, "span all 3 dimensions"),
        (lambda: unstable_bit_probability(0.0), InvalidOption, "load = 0"),
        (lambda: recalled_overlap(math.nan), InvalidOption, "load = nan"),
        (lambda: error_free_patterns(1), InvalidOption, "num_units = 1"),
    ],
)
def test_bad_input_is_refused(ask, error, message):
    with pytest.raises(error, match=message):
        ask()
    assert int(empty.num_patterns) == 0
    assert not bool(empty.weights.any())
