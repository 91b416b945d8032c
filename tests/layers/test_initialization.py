import math

import pytest
import torch
from torch import nn

from deepforward.errors import InvalidModel, NoEffect
from deepforward.layers.initialization import critical_, he_, lecun_, orthogonal_, xavier_


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


@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
def test_orthogonal_rows_or_columns(shape):
    layer = nn.Linear(shape[1], shape[0])
    orthogonal_(layer, generator(), gain=3.0)
    w = layer.weight.detach()
    gram = w.T @ w if shape[0] > shape[1] else w @ w.T
    assert torch.allclose(gram, 9 * torch.eye(len(gram)), atol=1e-5)


def test_orthogonal_matrices_are_uniform():
    # without the sign correction the trace of a 2x2 factor is biased; uniform: rotations and reflections, mean trace 0
    rng, layer, traces = generator(), nn.Linear(2, 2), []
    for _ in range(2000):
        orthogonal_(layer, rng)
        traces.append(float(layer.weight.detach().trace()))
    assert abs(sum(traces) / 2000) < 5 * 1.0 / math.sqrt(2000)  # standard deviation of the trace is 1


@pytest.mark.parametrize("initialize", [he_, lecun_, xavier_, orthogonal_])
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
@pytest.mark.parametrize("orthogonal", [False, True])
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
