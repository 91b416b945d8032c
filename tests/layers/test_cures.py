"""What the alterations are for: a plain network of 56 layers that does not learn, and those of its altered copies that do."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from deepforward.layers.alteration import alter
from deepforward.models.perceptrons import Perceptron

STEPS = 60


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    inputs = torch.tensor(data.data, dtype=torch.float32)
    return (inputs - inputs.mean()) / inputs.std(), torch.tensor(data.target)


def final_loss(alterations, inputs, targets):
    """Mean loss of the last ten steps, in nats."""
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = alter(Perceptron((64,), 10, depth=56), inputs[:64], alterations, rng)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        batch = torch.randint(len(inputs), (64,), generator=rng)
        loss = F.cross_entropy(model(inputs[batch]), targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def test_a_plain_network_of_56_layers_stays_at_chance(digits):
    assert final_loss([], *digits) == pytest.approx(math.log(10), abs=0.02)


@pytest.mark.parametrize(
    "alterations", [["residual"], ["batch-normalization", "residual"], ["critical-initialization", "residual"]], ids="+".join
)
def test_scaled_skips_make_it_learn(alterations, digits):
    assert final_loss(alterations, *digits) < 1.0
