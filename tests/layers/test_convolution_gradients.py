import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from deepforward.layers.convolution_gradients import (
    SmallNetwork,
    convolution,
    convolution_gradients,
    cross_entropy,
    pooling,
    pooling_gradient,
    squared_error,
)

few, sides = st.integers(1, 3), st.integers(1, 4)
#: Float64; sums of at most some hundred terms of order one.
CLOSE = {"rtol": 0, "atol": 1e-12}


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, max_examples=25)
@given(few, few, few, sides, sides, st.integers(0, 4), st.integers(0, 4))
def test_a_convolution_is_torchs_and_its_gradients_autograds(examples, channels, maps, tall, wide, more, wider):
    inputs = random(examples, channels, tall + more, wide + wider).requires_grad_()
    weight, bias = random(maps, channels, tall, wide, seed=1).requires_grad_(), random(maps, seed=2).requires_grad_()
    outputs = F.conv2d(inputs, weight, bias)
    delta = random(*outputs.shape, seed=3)
    wanted = torch.autograd.grad(outputs, (inputs, weight, bias), delta)
    with torch.no_grad():
        assert torch.allclose(convolution(inputs, weight, bias), outputs, **CLOSE)
        for found, true in zip(convolution_gradients(inputs, weight, delta), wanted, strict=True):
            assert torch.allclose(found, true, **CLOSE)


@settings(deadline=None, max_examples=25)
@given(few, few, st.integers(1, 3), sides, sides, st.integers(0, 2), st.sampled_from(["average", "max"]))
def test_pooling_is_torchs_and_its_gradient_autograds(examples, channels, size, tall, wide, rest, kind):
    rest = min(rest, size - 1)
    inputs = random(examples, channels, tall * size + rest, wide * size).requires_grad_()
    outputs = {"average": F.avg_pool2d, "max": F.max_pool2d}[kind](inputs, size)
    delta = random(*outputs.shape, seed=1)
    (wanted,) = torch.autograd.grad(outputs, inputs, delta)
    with torch.no_grad():
        found, shares = pooling(inputs, kind, size)
        assert torch.allclose(found, outputs, **CLOSE)
        assert torch.allclose(pooling_gradient(delta, shares, inputs), wanted, **CLOSE)


@pytest.mark.parametrize("name", ["cross-entropy", "squared-error"])
def test_losses_are_torchs_and_their_deltas_autograds(name):
    outputs, labels = (3 * random(7, 4)).requires_grad_(), torch.arange(7) % 4
    targets = F.one_hot(labels, 4).double()
    loss = {
        "cross-entropy": lambda: F.cross_entropy(outputs, labels),
        "squared-error": lambda: 0.5 * F.mse_loss(outputs.sigmoid(), targets, reduction="sum") / 7,
    }[name]()
    found, delta = {"cross-entropy": cross_entropy, "squared-error": squared_error}[name](outputs.detach(), labels)
    assert torch.allclose(found, loss, **CLOSE)
    assert torch.allclose(delta, torch.autograd.grad(loss, outputs)[0], **CLOSE)


@settings(deadline=None, max_examples=20)
@given(
    few,
    st.integers(0, 3),
    st.sampled_from(["sigmoid", "tanh", "relu"]),
    st.sampled_from(["average", "max"]),
    st.sampled_from(["cross-entropy", "squared-error"]),
)
def test_the_whole_network_is_autograds(channels, more, activation, pool, loss):
    images, labels = random(3, channels, 16 + more, 16), torch.tensor([0, 2, 1])
    kernels = [random(4, channels, 5, 5, seed=1) / 5, random(3, 4, 3, 3, seed=2) / 6]
    height = ((12 + more) // 2 - 2) // 2
    features = 3 * height * 2
    parameters = [*kernels, random(4, seed=3), random(3, seed=4), random(3, features, seed=5) / 3, random(3, seed=6)]
    network = SmallNetwork(parameters[:2], parameters[2:4], *parameters[4:], activation, pool, 2, loss)
    value, found = network.gradients(images, labels)

    first, second, b1, b2, weight, bias = leaves = [p.clone().requires_grad_() for p in parameters]
    x = images.clone().requires_grad_()
    phi = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}[activation]
    reduce = {"average": F.avg_pool2d, "max": F.max_pool2d}[pool]
    y = reduce(phi(F.conv2d(reduce(phi(F.conv2d(x, first, b1)), 2), second, b2)), 2).flatten(1) @ weight.T + bias
    true = (
        F.cross_entropy(y, labels)
        if loss == "cross-entropy"
        else F.mse_loss(y.sigmoid(), F.one_hot(labels, 3).double(), reduction="sum") / 6
    )
    wanted = torch.autograd.grad(true, [x, *leaves])
    own = [found[0].inputs, found[0].weight, found[1].weight, found[0].bias, found[1].bias, found[2].weight, found[2].bias]
    assert torch.allclose(value, true, **CLOSE)
    for mine, theirs in zip(own, wanted, strict=True):
        assert torch.allclose(mine, theirs, **CLOSE)
