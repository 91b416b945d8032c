import itertools
import math

import pytest
import torch
from torch import nn

from deepforward.errors import ShapeError
from deepforward.layers.alteration import alter
from deepforward.layers.orthogonal import delta_orthogonal_, orthogonal_


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def singular_values(module, shape):
    """Of the Jacobian of a linear module, row by row from autograd."""
    jacobian = torch.autograd.functional.jacobian(lambda x: module(x[None])[0], torch.zeros(shape, dtype=torch.float64))
    return torch.linalg.svdvals(jacobian.reshape(-1, math.prod(shape)))


def circular(channels, size=3, **options):
    convolutions = [
        nn.Conv2d(a, b, size, padding="same", padding_mode="circular", bias=False, **options)
        for a, b in itertools.pairwise(channels)
    ]
    return nn.Sequential(*convolutions).double()


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


@pytest.mark.parametrize("size", [3, 4, 5])
@pytest.mark.parametrize("channels", [(4,) * 6, (2, 3, 5, 8)])
def test_a_stack_of_delta_orthogonal_convolutions_is_an_isometry(channels, size):
    model = circular(channels, size)
    delta_orthogonal_(model, generator())
    assert singular_values(model, (channels[0], 6, 6)) == pytest.approx(1, abs=1e-12)  # float64


def test_float32_weights_are_isometries_to_their_rounding():
    model = circular((4,) * 6).float()
    delta_orthogonal_(model, generator())
    assert singular_values(model.double(), (4, 6, 6)) == pytest.approx(1, abs=1e-5)


def test_orthogonal_matrices_over_channels_and_positions_are_no_isometry():
    model = circular((4,) * 6)
    orthogonal_(model, generator())
    values = singular_values(model, (4, 6, 6))
    assert values.max() / values.min() > 10


@pytest.mark.parametrize("layer", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_only_the_middle_of_the_kernel_is_not_zero(layer):
    conv = layer(3, 6, 3)
    delta_orthogonal_(conv, generator(), gain=2.0)
    taps = conv.weight.detach().flatten(2)
    middle = taps.shape[2] // 2
    assert torch.count_nonzero(taps) == torch.count_nonzero(taps[..., middle]) == 18
    assert torch.allclose(taps[..., middle].T @ taps[..., middle], 4 * torch.eye(3), atol=1e-5)
    assert not conv.bias.any()


def test_a_linear_layer_is_a_kernel_of_one_position():
    first, second = nn.Linear(7, 4), nn.Linear(7, 4)
    orthogonal_(first, generator(3))
    delta_orthogonal_(second, generator(3))
    assert torch.equal(first.weight, second.weight)


@pytest.mark.parametrize("initialize", [orthogonal_, delta_orthogonal_])
def test_each_group_has_a_matrix_of_its_own(initialize):
    conv = nn.Conv2d(6, 12, 1, groups=3)
    initialize(conv, generator())
    for block in conv.weight.detach().flatten(1).chunk(3):
        assert torch.allclose(block.T @ block, torch.eye(2), atol=1e-6)


def test_grouped_convolutions_are_isometries_too():
    model = circular((4, 8, 8), groups=2)
    delta_orthogonal_(model, generator())
    assert singular_values(model, (4, 5, 5)) == pytest.approx(1, abs=1e-12)


def test_fewer_outputs_than_inputs_are_refused_and_nothing_is_drawn():
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 3))
    before = model[0].weight.clone()
    with pytest.raises(ShapeError, match="convolution '1' from 4 to 3 channels") as caught:
        delta_orthogonal_(model, generator())
    assert "\n" not in str(caught.value)
    assert torch.equal(before, model[0].weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_keep_their_type(dtype):
    conv = nn.Conv2d(3, 6, 3, dtype=dtype)
    delta_orthogonal_(conv, generator())
    w = conv.weight.detach()[..., 1, 1].double()
    assert conv.weight.dtype == dtype
    assert torch.allclose(w.T @ w, torch.eye(3, dtype=torch.float64), atol=8 * torch.finfo(dtype).eps)


def test_an_alteration_reaches_convolutions():
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Tanh(), nn.Conv2d(6, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(96, 2))
    example = torch.randn(4, 2, 8, 8, generator=generator())
    altered = alter(model, example, ["critical-initialization?orthogonal=delta"], generator())
    taps = altered[2].weight.detach()
    assert torch.count_nonzero(taps) == 36
    assert torch.allclose(taps[..., 1, 1] @ taps[..., 1, 1].T, torch.eye(6), atol=1e-5)  # tanh: sigma_w = 1
