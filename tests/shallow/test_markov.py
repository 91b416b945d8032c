import itertools
import math
from collections import Counter
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepforward.errors import InvalidData, InvalidOption, ShapeError
from deepforward.shallow import MarkovChain
from deepforward.shallow.markov import total_variation

ANCHOR = torch.tensor([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0, 0.3, 0.7]], dtype=torch.float64)
anchor = MarkovChain(ANCHOR)
identity = torch.eye(3, dtype=torch.float64)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def cycle(length):
    return MarkovChain(torch.eye(length, dtype=torch.float64).roll(1, dims=1))


@st.composite
def chains(draw, sparse=True):
    """Chains of up to six states; many entries are zero if sparse."""
    size = draw(st.integers(1, 6))
    weights = st.integers(0, 3) if sparse else st.integers(1, 9)
    rows = [draw(st.lists(weights, min_size=size, max_size=size).filter(any)) for _ in range(size)]
    counts = torch.tensor(rows, dtype=torch.float64)
    return MarkovChain(counts / counts.sum(1, keepdim=True))


def reach(chain):
    """Reachability in any number of steps by Warshall's algorithm: the slow oracle of the classes."""
    size = len(chain.states)
    known = [[i == j or bool(chain.transition[i, j] > 0) for j in range(size)] for i in range(size)]
    for k, i, j in itertools.product(range(size), repeat=3):
        known[i][j] = known[i][j] or (known[i][k] and known[k][j])
    return known


def test_the_anchor_has_its_known_numbers():
    known = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    torch.testing.assert_close(anchor.stationary(), known, rtol=0, atol=1e-14)
    torch.testing.assert_close(anchor.stationary_by_iteration(), known, rtol=0, atol=1e-11)  # 1e-12 / (1 - .8), and some
    assert anchor.eigenvalues().tolist() == pytest.approx([1, 0.8, 0.5], abs=1e-14)
    assert anchor.second_eigenvalue == pytest.approx(0.8, abs=1e-14)
    assert (anchor.period, anchor.is_irreducible, anchor.has_unique_stationary) == (1, True, True)
    assert total_variation(anchor.distribution(0, 60), known).item() == pytest.approx(5.108e-7, rel=1e-3)


def test_distance_shrinks_by_the_second_eigenvalue():
    distances = [total_variation(anchor.distribution(2, t), anchor.stationary()).item() for t in (40, 41)]
    assert distances[1] / distances[0] == pytest.approx(anchor.second_eigenvalue, rel=1e-6)


@settings(deadline=None)
@given(chain=chains(), steps=st.integers(0, 7))
def test_powers_are_sums_over_paths(chain, steps):
    if len(chain.states) ** steps > 1000:
        steps = 3
    transition = chain.transition.tolist()
    expected = [0.0] * len(chain.states)
    for path in itertools.product(range(len(chain.states)), repeat=steps):
        walk = (0, *path)
        expected[walk[-1]] += math.prod(transition[a][b] for a, b in itertools.pairwise(walk))
    assert chain.distribution(0, steps).tolist() == pytest.approx(expected, abs=1e-13)


@settings(deadline=None)
@given(chain=chains())
def test_closed_classes_are_those_of_warshall_and_each_has_its_distribution(chain):
    known, size = reach(chain), range(len(chain.states))
    classes = {tuple(j for j in size if known[i][j] and known[j][i]) for i in size}
    closed = sorted(c for c in classes if not any(known[c[0]][j] for j in size if j not in c))
    assert chain.closed_classes == tuple(closed)
    assert chain.is_irreducible == (len(classes) == 1)
    assert chain.has_unique_stationary == (len(closed) == 1)
    found = chain.stationary_distributions()
    torch.testing.assert_close(found @ chain.transition, found, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.sum(1), torch.ones(len(closed), dtype=torch.float64), rtol=0, atol=1e-14)
    assert [tuple(row.nonzero().flatten().tolist()) for row in found] == closed


@settings(deadline=None)
@given(chain=chains())
def test_period_is_that_of_the_ways_back(chain):
    """In a class of n states the lengths up to n of ways back have the same divisor: they hold all simple cycles."""
    periods = []
    for members in chain.closed_classes:
        power, lengths = torch.eye(len(chain.states), dtype=torch.float64), []
        for length in range(1, len(chain.states) + 1):
            power = ((power @ chain.transition) > 0).double()
            if any(power[i, i] for i in members):
                lengths.append(length)
        periods.append(math.gcd(*lengths))
    assert chain.period == math.lcm(*periods)


@settings(deadline=None)
@given(chain=chains(sparse=False))
def test_eigenvector_and_iteration_agree_and_every_start_ends_there(chain):
    pi = chain.stationary()
    torch.testing.assert_close(chain.stationary_by_iteration(1e-14), pi, rtol=0, atol=1e-12)
    for state in chain.states:
        torch.testing.assert_close(chain.distribution(state, 2000), pi, rtol=0, atol=1e-12)


@settings(deadline=None)
@given(chain=chains(sparse=False), epsilon=st.floats(1e-8, 1.0))
def test_mixing_time_is_the_first_step_no_farther_than_epsilon(chain, epsilon):
    pi = chain.stationary()
    worst = [float(total_variation(torch.linalg.matrix_power(chain.transition, 0), pi).max())]
    while worst[-1] > epsilon:
        worst.append(float(total_variation(torch.linalg.matrix_power(chain.transition, len(worst)), pi).max()))
    near = abs(worst[-1] - epsilon) < 1e-12 or (len(worst) > 1 and abs(worst[-2] - epsilon) < 1e-12)
    assert near or chain.mixing_time(epsilon) == len(worst) - 1


def test_a_distance_of_just_epsilon_is_near_enough():
    """Two states that are left with probability 1/4: the distance is 2^-(t + 1), exactly in float64."""
    chain = MarkovChain(torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=torch.float64))
    assert [chain.mixing_time(epsilon) for epsilon in (1.0, 0.5, 0.49, 0.25, 0.125, 0.124)] == [0, 0, 1, 1, 2, 3]


def test_mixing_time_of_a_slow_chain_is_found_by_powers():
    slow = 1e-6
    chain = MarkovChain(torch.tensor([[1 - slow, slow], [slow, 1 - slow]], dtype=torch.float64))
    expected = math.log(0.25 / 0.5) / math.log1p(-2 * slow)  # distance (1 - 2 slow)^t / 2
    assert chain.mixing_time() == math.ceil(expected)


def test_mixing_time_beyond_float64_is_refused():
    with pytest.raises(InvalidOption, match="not reached"):
        anchor.mixing_time(1e-30)


@pytest.mark.parametrize("length", [2, 3, 6])
def test_a_periodic_chain_has_a_stationary_distribution_but_never_settles(length):
    chain = cycle(length)
    assert chain.period == length
    assert chain.second_eigenvalue == pytest.approx(1, abs=1e-12)
    assert chain.eigenvalues()[0].item() == pytest.approx(1, abs=1e-12)
    torch.testing.assert_close(chain.stationary(), torch.full((length,), 1 / length, dtype=torch.float64))
    assert chain.distribution(0, 1000 * length + 1).tolist() == [float(i == 1) for i in range(length)]
    for ask in (chain.mixing_time, chain.stationary_by_iteration):
        with pytest.raises(InvalidData, match=f"period {length}"):
            ask()


def test_two_ends_that_are_periodic_repeat_together_after_both_periods():
    both = MarkovChain(torch.block_diag(cycle(2).transition, cycle(3).transition))
    assert (both.period, len(both.closed_classes)) == (6, 2)


def test_a_chain_with_two_ends_says_that_its_stationary_distribution_is_not_unique():
    ruin = MarkovChain(torch.tensor([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]], dtype=torch.float64), ["broke", "playing", "rich"])
    assert ruin.closed_classes == ((0,), (2,))
    assert ruin.stationary_distributions().tolist() == [[1, 0, 0], [0, 0, 1]]
    assert (ruin.is_irreducible, ruin.has_unique_stationary, ruin.second_eigenvalue) == (False, False, 1.0)
    for ask in (ruin.stationary, ruin.stationary_by_iteration, ruin.mixing_time, lambda: ruin.sample(2, generator())):
        with pytest.raises(InvalidData, match=r"2 closed classes, \['broke'\] and \['rich'\]"):
            ask()
    assert ruin.distribution("playing", 1).tolist() == [0.5, 0, 0.5]


def test_a_transient_state_has_no_share():
    chain = MarkovChain(torch.tensor([[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]], dtype=torch.float64))
    assert chain.stationary()[0].item() == 0
    assert (chain.is_irreducible, chain.has_unique_stationary) == (False, True)


def test_a_single_state_stays():
    chain = MarkovChain(torch.ones(1, 1))
    assert (chain.stationary().tolist(), chain.second_eigenvalue, chain.period, chain.mixing_time()) == ([1.0], 0.0, 1, 0)


def test_walks_take_each_transition_as_often_as_they_should():
    walks = anchor.sample(200, generator(), chains=300)
    assert (walks.dtype, walks.shape) == (torch.int64, (300, 200))
    pairs = torch.stack([walks[:, :-1].flatten(), walks[:, 1:].flatten()])
    assert not bool(((pairs[0] - pairs[1]).abs() > 1).any())  # 0 <-> 2 are impossible
    for i, j in [(0, 0), (1, 0), (1, 1), (2, 1)]:
        left = pairs[1][pairs[0] == i]
        error = math.sqrt(ANCHOR[i, j] * (1 - ANCHOR[i, j]) / len(left))
        assert abs((left == j).double().mean() - ANCHOR[i, j]) < 4.5 * error  # fails by chance 7e-6 of the time


def test_walks_start_where_they_are_told_or_in_the_stationary_distribution():
    assert set(anchor.sample(1, generator(), start=2, chains=50).flatten().tolist()) == {2}
    half = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    assert set(anchor.sample(1, generator(), start=half, chains=200).flatten().tolist()) == {0, 1}
    for column in anchor.sample(3, generator(), chains=20_000).T:  # stationary, so at all times
        shares = column.bincount(minlength=3) / 20_000
        chi2 = float((20_000 * (shares - anchor.stationary()) ** 2 / anchor.stationary()).sum())
        assert chi2 < 24.0  # 2 degrees of freedom: p = 6e-6


def test_walks_repeat_with_their_seed():
    first, again, other = (anchor.sample(50, generator(seed), chains=3) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_walk_never_falls_on_an_impossible_state(monkeypatch):
    """Ten times 0.1 adds up to less than the largest draw, which must not mean the eleventh state."""
    chain = MarkovChain(torch.tensor([[0.1] * 10 + [0.0]] * 11, dtype=torch.float64))
    assert chain.transition[0].cumsum(0)[-1] < 1
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, math.nextafter(1.0, 0.0), dtype=torch.float64))
    assert chain.sample(5, generator(), start=10).tolist() == [[10, 9, 9, 9, 9]]


@settings(deadline=None)
@given(
    text=st.lists(st.text("abc", min_size=2, max_size=30), min_size=1, max_size=3), smoothing=st.sampled_from([0.5, 1.0, 2.0])
)
def test_estimated_chains_are_exact_ratios_of_counts(text, smoothing):
    chain = MarkovChain.from_sequence(*text, smoothing=smoothing, states="abc")
    counts = Counter(pair for line in text for pair in itertools.pairwise(line))
    for i, a in enumerate("abc"):
        total = sum(counts[a, b] for b in "abc") + 3 * Fraction(smoothing)
        expected = [float((counts[a, b] + Fraction(smoothing)) / total) for b in "abc"]
        assert chain.transition[i].tolist() == pytest.approx(expected, rel=1e-14)


def test_the_estimate_is_the_likeliest_chain():
    path = anchor.sample(500, generator())[0].tolist()
    best = MarkovChain.from_sequence(path)
    pairs = torch.tensor(list(itertools.pairwise(path)))

    def likelihood(transition):
        return transition[pairs[:, 0], pairs[:, 1]].log().sum().item()

    most = likelihood(best.transition)
    for seed in range(20):
        change = torch.rand(3, 3, generator=generator(seed), dtype=torch.float64) * (best.transition > 0)
        other = 0.99 * best.transition + 0.01 * change / change.sum(1, keepdim=True)
        assert likelihood(other) < most


def test_a_long_walk_gives_the_chain_back():
    walks = anchor.sample(500, generator(3), chains=200)
    estimate = MarkovChain.from_sequence(*walks.tolist()).transition
    torch.testing.assert_close(estimate, ANCHOR, rtol=0, atol=0.02)  # 10,000 from the rarest state: 4 standard errors


def test_names_are_sorted_where_they_can_be_and_kept_in_order_otherwise():
    assert MarkovChain.from_sequence("cabca").states == ("a", "b", "c")
    assert MarkovChain.from_sequence([1, "x", 1, "x"]).states == (1, "x")
    assert MarkovChain.from_sequence("aba", states="ba").transition.tolist() == [[0, 1], [1, 0]]


def test_a_pair_across_two_sequences_is_no_transition():
    assert MarkovChain.from_sequence("aba", "bab").transition.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("transition", "error", "message"),
    [
        (torch.ones(2, 3) / 3, ShapeError, r"shape \(2, 3\); expected \(states, states\)"),
        (torch.ones(2) / 2, ShapeError, r"shape \(2,\)"),
        (torch.ones(0, 0), ShapeError, "a state or more"),
        (torch.tensor([[0.5, 0.5], [1.5, -0.5]]), InvalidData, r"got -0.5 in row 1, column 1; expected probabilities >= 0"),
        (torch.tensor([[math.nan, 1.0], [0.0, 1.0]]), InvalidData, "got nan in row 0, column 0"),
        (torch.tensor([[math.inf, 1.0], [0.0, 1.0]]), InvalidData, "got inf"),
        (torch.tensor([[0.5, 0.5], [0.5, 0.5 + 2e-9]], dtype=torch.float64), InvalidData, "row 1 with sum 1.000000002"),
    ],
)
def test_what_is_not_a_transition_matrix_is_refused(transition, error, message):
    with pytest.raises(error, match=message):
        MarkovChain(transition)


def test_rows_may_be_off_by_rounding_and_integers_are_fine():
    chain = MarkovChain(torch.tensor([[0.5, 0.5 + 5e-10], [0, 1]], dtype=torch.float64))
    torch.testing.assert_close(chain.transition.sum(1), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-15)
    assert MarkovChain(torch.tensor([[0, 1], [1, 0]])).transition.dtype == torch.float64


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda: MarkovChain(identity, ["a", "b"]), ShapeError, "2 names of 3 states"),
        (lambda: MarkovChain(identity, ["a", "b", "a"]), InvalidOption, "no name twice"),
        (lambda: anchor.distribution("sunny", 1), InvalidOption, r"'sunny'; expected one of \(0, 1, 2\)"),
        (lambda: anchor.distribution(0, -1), InvalidOption, "steps = -1"),
        (lambda: anchor.distribution(torch.ones(2) / 2, 1), ShapeError, r"start of shape \(2,\)"),
        (lambda: anchor.distribution(torch.ones(3), 1), InvalidData, "start 0 with sum 3"),
        (lambda: anchor.sample(0, generator()), InvalidOption, "steps = 0"),
        (lambda: anchor.sample(1, generator(), chains=0), InvalidOption, "chains = 0"),
        (lambda: anchor.mixing_time(0.0), InvalidOption, "epsilon = 0"),
        (lambda: anchor.mixing_time(math.nan), InvalidOption, "epsilon = nan"),
        (lambda: anchor.stationary_by_iteration(max_steps=3), InvalidOption, "not reached in 3 steps"),
        (lambda: MarkovChain.from_sequence("ab"), InvalidData, "nothing after state 'b'"),
        (lambda: MarkovChain.from_sequence("a", "b"), InvalidData, "without a transition"),
        (MarkovChain.from_sequence, InvalidData, "without a transition"),
        (lambda: MarkovChain.from_sequence("abc", states="ab"), InvalidData, "symbol 'c'"),
        (lambda: MarkovChain.from_sequence("aba", smoothing=-1.0), InvalidOption, "smoothing = -1"),
    ],
)
def test_bad_arguments_are_refused(ask, error, message):
    with pytest.raises(error, match=message):
        ask()
