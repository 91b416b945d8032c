import pytest
import torch

from deepforward.errors import UnknownName
from deepforward.layers.activations import ACTIVATIONS, activation
from deepforward.layers.recognition import is_activation

x = torch.linspace(-4, 4, 33, dtype=torch.float64)
FORMULAS = {
    "relu": x.clamp(min=0),
    "tanh": (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    "sigmoid": 1 / (1 + (-x).exp()),
    "gelu": x * (1 + torch.erf(x / 2**0.5)) / 2,
    "selu": 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * (x.exp() - 1)),
    "elu": torch.where(x > 0, x, x.exp() - 1),
    "silu": x / (1 + (-x).exp()),
    "leaky-relu": torch.where(x > 0, x, 0.01 * x),
    "softplus": (1 + x.exp()).log(),
    "swish": x / (1 + (-x).exp()),
    "prelu": torch.where(x > 0, x, 0.25 * x),
    "hard-tanh": x.clamp(-1, 1),
    "hard-sigmoid": (x / 6 + 0.5).clamp(0, 1),
    "erf": torch.special.erf(x),
    "arctan": torch.asin(x / (1 + x**2).sqrt()),
    "step": torch.where(x >= 0, 1.0, 0.0).double(),
    "identity": x,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_name_means_the_formula(name):
    assert torch.allclose(activation(name).double()(x), FORMULAS[name], atol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_all_but_the_identity_are_recognised(name):
    assert is_activation(activation(name)) == (name != "identity")


@pytest.mark.parametrize(("typo", "meant"), [("rel", "relu"), ("leaky_relu", "leaky-relu"), ("hardtanh", "hard-tanh")])
def test_typo_offers_the_neighbour(typo, meant):
    with pytest.raises(UnknownName, match=meant):
        activation(typo)


def test_every_activation_has_its_formula_here_or_among_the_noisy():
    assert set(ACTIVATIONS) - set(FORMULAS) == {"noisy-hard-tanh", "noisy-hard-sigmoid"}


def test_a_step_passes_a_gradient_of_zero():
    z = x.clone().requires_grad_()
    activation("step")(z).sum().backward()
    assert z.grad is not None
    assert not z.grad.any()


@pytest.mark.parametrize("value", [-1e30, -float("inf"), -0.5, -1e-30, 0.0, -0.0, 0.3, 1.0, 1e30, float("inf")])
def test_the_step_is_zero_or_one_everywhere(value):
    assert float(activation("step")(torch.tensor(value))) == float(value >= 0)
