import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepforward.errors import InvalidModel, NoEffect, ShapeError
from deepforward.layers.activations import ACTIVATIONS, activation
from deepforward.layers.initialization import INITIALIZATIONS, critical_, he_, lecun_, xavier_
from deepforward.theory.mean_field import critical_point


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("initialize", "linear", "conv"),
    [(he_, 2 / 60, 2 / 72), (lecun_, 1 / 60, 1 / 72), (xavier_, 2 / 260, 2 / (72 + 9 * 40))],
)
def test_variance_by_fan(initialize, linear, conv):
    model = nn.Sequential(nn.Conv2d(8, 40, 3), nn.Linear(60, 200))
    initialize(model, generator())
    for layer, variance in zip(model, (conv, linear), strict=True):
        n = layer.weight.numel()
        assert abs(float(layer.weight.detach().square().mean()) / variance - 1) < 5 * math.sqrt(
            2 / n
        )  # fails once in 1.7 million
        assert not layer.bias.any()


@pytest.mark.parametrize("initialize", INITIALIZATIONS.values(), ids=INITIALIZATIONS)
def test_draws_come_from_the_generator_alone(initialize):
    first, second = nn.Linear(5, 6), nn.Linear(5, 6)
    before = torch.get_rng_state()
    initialize(first, generator(4))
    initialize(second, generator(4))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(before, torch.get_rng_state())


def deep(activation, depth=50, width=128):
    return nn.Sequential(*(m for _ in range(depth) for m in (nn.Linear(width, width), activation())), nn.Linear(width, 10))


def gradient_decades(model, inputs):
    """log10 of the mean square gradient of the first pre-activation over that of the last."""
    kept = []
    h = inputs
    for layer in model:
        h = layer(h)
        if isinstance(layer, nn.Linear):
            h.retain_grad()
            kept.append(h)
    (h * torch.randn(h.shape, generator=generator(9), dtype=h.dtype)).sum().backward()
    return math.log10(float(kept[0].grad.square().mean() / kept[-2].grad.square().mean()))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.SELU, nn.ELU, nn.LeakyReLU])
@pytest.mark.parametrize("orthogonal", [False, True, "delta"])
def test_critical_initialization_neither_vanishes_nor_explodes_over_fifty_layers(activation, orthogonal):
    # in float32 the gradient of GELU at torch's default is zero
    inputs, model = torch.randn(64, 128, generator=generator(1), dtype=torch.float64), deep(activation).double()
    before = gradient_decades(model, inputs)
    critical_(model, inputs, generator(2), orthogonal=orthogonal)
    # scatter of the logarithm at L/N = 50/128 is sqrt(5 L/N)/ln 10 = 0.6 decades, its shift half the variance: 0.4
    assert abs(gradient_decades(model, inputs)) < 0.4 + 4 * 0.6
    assert before < -6


def test_tanh_follows_its_algebraic_trajectory():
    inputs, model = torch.randn(64, 512, generator=generator(1)), deep(nn.Tanh, width=512)
    critical_(model, inputs, generator(2))
    # published trajectory at sigma_w = 1: -1.83 over 50 layers, measured -1.98 with standard deviation 0.27
    assert gradient_decades(model, inputs) == pytest.approx(-1.98, abs=5 * 0.27)


def test_convolutions_count_the_kernel_in_their_fan_in():
    model = nn.Sequential(nn.Conv2d(3, 16, 5), nn.ReLU(), nn.Conv2d(16, 200, 3), nn.ReLU())
    model.append(nn.Flatten()).append(nn.Linear(200 * 4, 2))
    output = model[-1].weight.clone()
    points = critical_(model, torch.randn(4, 3, 8, 8, generator=generator()), generator())
    assert points.keys() == {"0", "2"}
    variance = float(model[2].weight.detach().square().mean()) * 16 * 9
    assert abs(variance / 2 - 1) < 5 * math.sqrt(2 / model[2].weight.numel())
    assert torch.equal(output, model[-1].weight)


class Functional(nn.Module):
    """An activation that is no module, between two layers."""

    def __init__(self, function):
        super().__init__()
        self.first, self.second, self.function = nn.Linear(8, 64), nn.Linear(64, 2), function

    def forward(self, x):
        return self.second(self.function(self.first(x)))


@pytest.mark.parametrize(
    ("function", "variance"),
    [
        (torch.erf, math.pi / 4),  # 1/phi'(0)^2
        (torch.atan, 1.0),
        (lambda x: x.clamp(-1, 1), 1.0),
        (F.relu6, None),
        (F.hardsigmoid, None),
        (F.hardswish, None),
    ],
)
def test_activations_called_as_functions_are_served(function, variance):
    point = critical_(Functional(function), torch.randn(16, 8, generator=generator()), generator())["first"]
    expected = critical_point(function)
    assert point == expected
    assert variance is None or point.weight_variance == pytest.approx(variance, rel=1e-12)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "identity"])
def test_any_activation_module_gets_its_own_critical_point(name):
    model = nn.Sequential(nn.Linear(8, 64), activation(name), nn.Linear(64, 2))
    assert critical_(model, torch.randn(16, 8, generator=generator()), generator()).keys() == {"0"}


def test_a_slope_for_each_channel_is_served_by_its_mean_square():
    rectifier = nn.PReLU(64)
    with torch.no_grad():
        rectifier.weight.uniform_(0.1, 0.9, generator=generator())
    model = nn.Sequential(nn.Linear(8, 64), rectifier, nn.Linear(64, 2))
    point = critical_(model, torch.randn(16, 8, generator=generator()), generator())["0"]
    # E[phi'^2] = (1 + a^2)/2 in a channel of slope a, hence (1 + mean a^2)/2 over channels
    assert point.weight_variance == pytest.approx(2 / (1 + float(rectifier.weight.detach().double().square().mean())), rel=1e-9)


@pytest.mark.parametrize(("channels", "groups"), [((16, 16), 1), ((16, 40), 1), ((16, 32), 4)])
@pytest.mark.parametrize("orthogonal", [False, True, "delta"])
def test_orthogonal_convolutions_have_the_variance_of_gaussian_ones(channels, groups, orthogonal):
    conv = nn.Conv2d(*channels, 3, padding=1, groups=groups, bias=False)
    model = nn.Sequential(nn.Conv2d(16, channels[0], 1), nn.ReLU(), conv, nn.ReLU(), nn.Conv2d(channels[1], 2, 1))
    critical_(model, torch.randn(2, 16, 6, 6, generator=generator()), generator(1), orthogonal=orthogonal)
    squares = conv.weight.detach().square().sum() / channels[1]  # sigma_w^2 = 2 = fan_in Var W, the mean square norm of a row
    tolerance = 1e-5 if orthogonal else 5 * math.sqrt(2 / conv.weight.numel())  # exact but for rounding; else 5 deviations
    assert float(squares) == pytest.approx(2, rel=tolerance)


def test_an_impossible_delta_orthogonal_network_keeps_its_weights():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ShapeError, match="'2' from 8 to 4 channels") as caught:
        critical_(model, torch.randn(2, 3, 8, 8, generator=generator()), generator(), orthogonal="delta")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_inputs_of_another_scale_are_brought_to_the_fixed_point():
    inputs = 30 * torch.randn(512, 256, generator=generator())
    model = nn.Sequential(nn.Linear(256, 256), nn.SELU(), nn.Linear(256, 256), nn.SELU(), nn.Linear(256, 2))
    critical_(model, inputs, generator(1))
    assert float(model[0](inputs).detach().square().mean()) == pytest.approx(1.0, rel=0.2)


def test_normalised_layers_are_left_alone():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(NoEffect, match="without normalisation"):
        critical_(model, torch.randn(4, 4), generator())


def test_a_module_that_does_not_fit_its_example_is_an_invalid_model():
    with pytest.raises(InvalidModel, match=r"example of shape \(4, 5\)") as caught:
        critical_(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(4, 5), generator())
    assert "\n" not in str(caught.value)


def test_a_weight_computed_at_each_call_is_not_drawn():
    computed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 8))
    model = nn.Sequential(computed, nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    before = computed.weight.clone()
    assert critical_(model, torch.randn(4, 4), generator()).keys() == {"2"}
    assert torch.equal(before, computed.weight)
