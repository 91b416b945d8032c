"""The modern Hopfield network against attention and its formulas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from deepforward.errors import InvalidData, InvalidOption, ShapeError
from deepforward.models.energy import ModernHopfield, overlap
from tests.models.hopfield_examples import generator, network, seeds, signs


def modern(patterns, beta=1.0):
    net = ModernHopfield(patterns.shape[1], beta)
    net.store(patterns)
    return net


@settings(deadline=None, max_examples=40)
@given(seed=seeds, beta=st.floats(0.05, 20.0), stored=st.integers(1, 12), units=st.integers(1, 8))
def test_modern_step_is_attention_and_its_energy_falls_and_is_bounded(seed, beta, stored, units):
    rng = generator(seed)
    patterns, states = (torch.randn(n, units, generator=rng, dtype=torch.float64) for n in (stored, 5))
    net, largest = modern(patterns, beta), patterns.norm(dim=1).max()
    attended = scaled_dot_product_attention(states[None], patterns[None], patterns[None], scale=beta)[0]
    torch.testing.assert_close(net.step(states), attended, rtol=0, atol=1e-13)
    states = states * (largest / states.norm(dim=1, keepdim=True))  # |xi| <= M, for which 0 <= E <= 2 M^2
    for _ in range(10):
        before, states = net.energy(states), net.step(states)
        assert bool((net.energy(states) <= before + 1e-12 * (1 + largest**2)).all())
        assert bool((before >= -1e-12 * (1 + largest**2)).all())
        assert bool((before <= 2 * largest**2 * (1 + 1e-12)).all())


def test_modern_step_follows_the_gradient_of_its_energy():
    """The step is the fixed-point form of dE/dxi = xi - X softmax(beta X'xi) = 0."""
    rng = generator()
    patterns, states = (torch.randn(n, 6, generator=rng, dtype=torch.float64) for n in (9, 4))
    net, states = modern(patterns, 0.7), states.requires_grad_()
    (gradient,) = torch.autograd.grad(net.energy(states).sum(), states)
    torch.testing.assert_close(states - gradient, net.step(states), rtol=0, atol=1e-14)


def test_modern_energy_is_its_formula():
    patterns, state = torch.tensor([[1.0, 2.0], [3.0, -1.0]]).double(), torch.tensor([[0.5, -0.25]]).double()
    beta, scores = 0.3, [0.5 - 0.5, 1.5 + 0.25]
    expected = -math.log(sum(math.exp(beta * s) for s in scores)) / beta + 0.3125 / 2 + math.log(2) / beta + 10 / 2
    assert modern(patterns, beta).energy(state).item() == pytest.approx(expected, abs=1e-14)


def test_modern_form_recalls_many_more_patterns_than_units_where_hebb_keeps_none():
    rng = generator()
    patterns = signs(5000, 50, rng=rng).float()
    probes = patterns[:100]
    starts = probes.clone()
    starts[:, :5] *= -1
    found = modern(patterns).recall(starts)
    assert bool(found.converged.all())
    assert overlap(found.states.sign(), probes).min() == 1
    assert (found.states - probes).abs().max() < 0.01  # the others weigh 5000 exp(N/2 - N) = 7e-8 on average
    assert overlap(network(patterns).recall(starts, rng).states, probes).mean() < 0.3


def test_modern_recall_stops_each_state_where_it_rests_and_says_if_it_does_not():
    rng = generator()
    patterns, states = (torch.randn(n, 6, generator=rng, dtype=torch.float64) for n in (4, 8))
    net = modern(patterns, 2.0)
    together = net.recall(states, tolerance=1e-10, max_steps=1000)
    assert bool(together.converged.all())
    assert len(set(together.steps.tolist())) > 1
    torch.testing.assert_close(net.step(together.states), together.states, rtol=0, atol=1e-8)
    for i in range(8):
        alone = net.recall(states[i], tolerance=1e-10, max_steps=1000)
        torch.testing.assert_close(alone.states, together.states[i], rtol=0, atol=1e-12)
        assert alone.steps == together.steps[i]
    cut = net.recall(states, tolerance=0.0, max_steps=2)
    assert not bool(cut.converged.any())
    assert cut.steps.tolist() == [2] * 8
    assert torch.equal(cut.states, net.step(net.step(states)))


def test_modern_memory_averages_when_warm():
    patterns = torch.randn(7, 5, generator=generator(), dtype=torch.float64)
    cold, warm = modern(patterns, 1e6), modern(patterns, 1e-9)
    torch.testing.assert_close(warm.step(patterns[:1]), patterns.mean(0, keepdim=True), rtol=0, atol=1e-7)
    best = (patterns @ patterns[0]).argmax()
    torch.testing.assert_close(cold.step(patterns[:1]), patterns[best][None])


def test_modern_patterns_survive_their_state_dict_and_gradients_flow():
    patterns = torch.randn(4, 6, generator=generator(), dtype=torch.float64)
    copy = ModernHopfield(6)
    copy.load_state_dict(modern(patterns).state_dict())
    assert torch.equal(copy.patterns, patterns)
    states = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    copy(states).sum().backward()
    assert bool(states.grad.isfinite().all())
    with pytest.raises(RuntimeError, match="size mismatch"):
        ModernHopfield(5).load_state_dict(modern(patterns).state_dict())


blank, kept = ModernHopfield(3), modern(torch.eye(3))
spins = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda: ModernHopfield(0), InvalidOption, "num_units = 0"),
        (lambda: ModernHopfield(3, beta=0.0), InvalidOption, "beta = 0"),
        (lambda: ModernHopfield(3, beta=math.nan), InvalidOption, "beta = nan"),
        (lambda: blank.recall(spins), InvalidData, "stored nothing"),
        (lambda: blank.energy(spins), InvalidData, "stored nothing"),
        (lambda: blank.store(torch.ones(3)), ShapeError, r"patterns of shape \(3,\)"),
        (lambda: blank.store(torch.ones(0, 3)), InvalidData, "no patterns"),
        (lambda: blank.store(torch.full((1, 3), math.inf)), InvalidData, r"got inf at \(0, 0\)"),
        (lambda: kept.recall(torch.ones(2, 4)), ShapeError, r"states of shape \(2, 4\)"),
        (lambda: kept.step(torch.tensor([[0.0, math.nan, 0.0]])), InvalidData, r"got nan at \(0, 1\)"),
        (lambda: kept.recall(spins, tolerance=-1.0), InvalidOption, "tolerance = -1"),
        (lambda: kept.recall(spins, max_steps=0), InvalidOption, "max_steps = 0"),
    ],
)
def test_bad_input_of_the_modern_form_is_refused(ask, error, message):
    with pytest.raises(error, match=message):
        ask()
