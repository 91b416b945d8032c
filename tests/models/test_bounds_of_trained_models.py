"""Lower bounds of the likelihood after training, against enumeration: q then fits the posterior, and is at its sharpest."""

import pytest
import torch

from deepforward.data.dataset import Batch
from deepforward.models.energy import DeepBeliefNetwork, DeepBoltzmannMachine
from deepforward.models.energy.enumeration import all_states
from deepforward.objectives import ContrastiveDivergence, LayerwiseContrastiveDivergence, UpDown

UNITS = 6


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def words(rows=400, flips=0.05):
    """Three code words of six bits, a twentieth of the bits flipped: far from independent units."""
    codes = torch.tensor([[1.0, 1, 1, 0, 0, 0], [0.0, 0, 1, 1, 1, 0], [1.0, 0, 0, 0, 1, 1]])
    chosen = codes[torch.randint(len(codes), (rows,), generator=rng(1))]
    return (chosen - (torch.rand(rows, UNITS, generator=rng(2)) < flips).float()).abs()


def train(model, objective, steps, rate):
    """Plain gradient descent by an objective on all examples."""
    inputs = words()
    objective.prepare(model, inputs, rng(3))
    draws, optimizer = rng(4), torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        (signal,) = objective.signals(model, Batch(inputs, torch.zeros(len(inputs))), draws)
        signal.loss.backward()
        optimizer.step()


def boltzmann_machine(hidden):
    model = DeepBoltzmannMachine((UNITS,), hidden=hidden, weight_scale=0.5)
    train(model, ContrastiveDivergence(persistent=True, ais_chains=0), 400, rate=0.1)
    return model


def belief_network(hidden):
    model = DeepBeliefNetwork((UNITS,), hidden=hidden, weight_scale=0.3)
    for layer in range(len(hidden)):
        train(model, LayerwiseContrastiveDivergence(layer, ais_chains=0), 200, rate=1.0)
    train(model, UpDown(ais_chains=0), 200, rate=0.3)
    assert not model.tied
    return model


@pytest.mark.parametrize("make", [boltzmann_machine, belief_network])
@pytest.mark.parametrize("hidden", [(4, 3), (5, 4, 3)])
def test_bounds_of_trained_models_are_never_above_the_probability_of_any_example(make, hidden):
    """Measured: -2.3 nats of belief networks and -2.9 of Boltzmann machines, -3.9 of independent units."""
    torch.manual_seed(0)  # of the first weights
    model = make(hidden).double()
    states = torch.cat(list(all_states(UNITS, like=torch.zeros((), dtype=torch.float64))))
    exact, data = model.exact_log_probability(states), words().double()
    assert float(exact.exp().sum()) == pytest.approx(1.0, abs=1e-9)
    with torch.no_grad():
        gap = exact - (model.log_unnormalised(states, rng()) - model.log_partition())
    assert gap.min() >= -1e-9
    assert gap.max() > 1e-3  # a bound and not the thing itself
    share = data.mean(0)
    independent = (data * share.log() + (1 - data) * (1 - share).log()).sum(1).mean()
    assert model.exact_log_probability(data).mean() > independent + 0.5  # it was trained
