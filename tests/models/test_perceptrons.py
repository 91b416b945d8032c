import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deepforward.errors import InvalidOption, UnknownName
from deepforward.layers.activations import ACTIVATIONS
from deepforward.layers.residual import Skip
from deepforward.models import count_parameters
from deepforward.models.perceptrons import Perceptron


@settings(max_examples=30, deadline=None)
@given(
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 5),
    widths=st.lists(st.integers(1, 9), max_size=6),
    residual=st.integers(0, 3),
)
def test_parameters_are_those_of_a_chain_of_affine_maps(inputs, outputs, widths, residual):
    model = Perceptron((inputs,), outputs, depth=len(widths), width=widths, residual=residual)
    sizes = [inputs, *widths, outputs]
    assert count_parameters(model) == sum((a + 1) * b for a, b in pairwise(sizes))
    assert model(torch.zeros(2, inputs)).shape == (2, outputs)


def test_layers_are_named_in_order():
    names = [
        name for name, child in Perceptron((4,), 2, depth=2, normalization="batch").named_modules() if not any(child.children())
    ]
    assert names == [
        *("flatten", "hidden1.affine", "hidden1.norm", "hidden1.activation"),
        *("hidden2.affine", "hidden2.norm", "hidden2.activation", "output"),
    ]


def test_plain_network_equals_the_formula():
    model = Perceptron((2, 3), 4, depth=2, width=5, activation="tanh").double()
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    p = dict(model.named_parameters())
    h = x.flatten(1)
    for layer in ("hidden1", "hidden2"):
        h = torch.tanh(h @ p[f"{layer}.affine.weight"].T + p[f"{layer}.affine.bias"])
    expected = h @ p["output.weight"].T + p["output.bias"]
    assert torch.allclose(model(x), expected, atol=1e-14)


def test_residual_block_adds_before_the_last_activation():
    model = Perceptron((5,), 3, depth=4, width=5, residual=2, residual_scale=0.5).double()
    x = torch.randn(7, 5, dtype=torch.float64)
    p = dict(model.named_parameters())

    def affine(name, h):
        return h @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    h = affine("hidden1.affine", x).relu()
    branch = affine("block2.skip.branch.hidden3.affine", affine("block2.skip.branch.hidden2.affine", h).relu())
    h = (h + 0.5 * branch).relu()
    h = (h + 0.5 * affine("block4.skip.branch.hidden4.affine", h)).relu()
    assert torch.allclose(model(x), affine("output", h), atol=1e-14)


def test_skips_are_scaled_by_their_number_unless_told_otherwise():
    scales = {m.scale for m in Perceptron((5,), 3, depth=10, residual=1).modules() if isinstance(m, Skip)}
    assert scales == {1 / 3}


def test_skips_avoid_changes_of_width():
    model = Perceptron((4,), 2, depth=5, width=[4, 4, 6, 6, 6], residual=2)
    assert [name for name, child in model.named_modules() if isinstance(child, Skip)] == ["block4.skip"]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_a_module_of_its_own(name):
    model = Perceptron((4,), 2, depth=3, activation=name)
    found = {id(child) for key, child in model.named_modules() if key.endswith(".activation")}
    assert len(found) == 3


@pytest.mark.parametrize(("initialization", "variance"), [("he", 2), ("lecun", 1), ("xavier", 1), ("critical", 2)])
def test_initialization_reaches_the_weights(initialization, variance):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Perceptron((64,), 2, depth=3, width=64, initialization=initialization)
    weights = torch.cat([child.weight.detach().flatten() for key, child in model.named_modules() if key.endswith(".affine")])
    # the mean square of n normal draws has relative standard deviation sqrt(2/n): five of them fail once in 1.7 million
    assert abs(float(weights.square().mean()) * 64 / variance - 1) < 5 * math.sqrt(2 / weights.numel())


def test_sixty_critical_layers_of_gelu_keep_the_signal():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Perceptron((256,), 2, depth=60, width=256, activation="gelu", initialization="critical")
        h = torch.randn(32, 256)
    squares = []
    for name, child in model.named_children():
        if name.startswith("hidden"):
            z = child.affine(h)
            squares.append(float(z.detach().square().mean()))
            h = child.activation(z)
    assert 0.2 < squares[-1] / squares[0] < 5  # width 256 alone scatters by sqrt(5 L/N) = 1.1 in the logarithm


@pytest.mark.parametrize(
    "options",
    [{"depth": -1}, {"width": 0}, {"width": [4, 4]}, {"residual": -1}, {"depth": 2, "width": [3, -3]}],
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(InvalidOption, match="expected"):
        Perceptron((4,), 2, **options)


@pytest.mark.parametrize("option", ["activation", "initialization", "normalization"])
def test_a_typo_gets_its_neighbours(option):
    typo = {"activation": "rellu", "initialization": "critcal", "normalization": "bach"}[option]
    with pytest.raises(UnknownName, match="did you mean"):
        Perceptron((4,), 2, **{option: typo})


def test_depth_zero_is_an_affine_map():
    assert isinstance(Perceptron((4,), 2, depth=0)[-1], nn.Linear)
