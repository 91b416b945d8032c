"""Gradients that are given are followed to the bit, whatever they are."""

import pytest
import torch
from torch import nn

from deepforward.objectives.surrogate import follow


def given(model, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(p.shape, generator=rng) for name, p in model.named_parameters()}


def test_the_backward_pass_gives_what_was_given_to_the_bit():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    follow(model, given(model)).backward()
    for name, expected in given(model).items():
        assert torch.equal(model.get_parameter(name).grad, expected)


def test_a_factor_on_the_loss_scales_the_gradients_and_parameters_that_were_not_named_get_none():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    chosen = {name: value for name, value in given(model).items() if name.startswith("1.")}
    (8.0 * follow(model, chosen)).backward()
    assert model[0].weight.grad is None
    assert torch.equal(model[1].weight.grad, 8.0 * given(model)["1.weight"])


def test_the_value_is_the_sum_of_products_or_what_was_given():
    model = nn.Linear(3, 2)
    products = sum(float((model.get_parameter(n).detach() * g).sum()) for n, g in given(model).items())
    assert float(follow(model, given(model)).detach()) == pytest.approx(products, rel=1e-5)
    loss = follow(model, given(model), value=torch.tensor(3.5))
    assert loss.requires_grad
    assert float(loss.detach()) == 3.5


def test_gradients_reach_only_the_inputs_that_backward_is_asked_for():
    """The engine plays a signal with `backward(inputs=...)`."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    follow(model, given(model)).backward(inputs=list(model[1].parameters()))
    assert model[0].weight.grad is None
    assert torch.equal(model[1].bias.grad, given(model)["1.bias"])


def test_frozen_parameters_and_other_formats_are_no_obstacle():
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    gradients = {name: g.double() for name, g in given(model).items()}
    follow(model, gradients).backward()
    assert model.bias.grad is None
    assert model.weight.grad.dtype == torch.float32
    assert torch.equal(model.weight.grad, given(model)["weight"])
