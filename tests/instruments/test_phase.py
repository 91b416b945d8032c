"""The gradient's growth from layer to layer is what autograd finds in double precision, and what theory says beforehand."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from deepforward.errors import InvalidModel
from deepforward.instruments import Phase, PhaseReading
from deepforward.instruments.gradient_path import crossings
from deepforward.layers import critical_, he_
from deepforward.models.residual import ResidualNetwork


def plain(phi: Callable[[], nn.Module], seed: int = 0, depth: int = 50, width: int = 256) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        hidden = [layer for _ in range(depth) for layer in (nn.Linear(width, width), phi())]
        return nn.Sequential(*hidden, nn.Linear(width, 10))


def batch(width: int = 256, examples: int = 64) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(examples, width, generator=rng), torch.randint(0, 10, (examples,), generator=rng)


def cross_entropy(model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(data[0]), data[1])


def oracle(model: nn.Sequential, data: tuple[Tensor, Tensor]) -> list[float]:
    """log10 |dL/dz_l|^2 / |dL/dz_last|^2 of all affine layers, by autograd in float64."""
    model = copy.deepcopy(model).double()
    x, z = data[0].double(), []
    for layer in model:
        x = layer(x)
        if isinstance(layer, nn.Linear | nn.Conv2d):
            z.append(x)
    gradients = torch.autograd.grad(nn.functional.cross_entropy(x.flatten(1), data[1]), z)
    squares = [float(g.square().sum().log10()) for g in gradients]
    return [square - squares[-1] for square in squares]


@pytest.mark.parametrize(("phi", "networks"), [(nn.Tanh, 3), (nn.ReLU, 12), (nn.GELU, 3), (nn.SELU, 3)])
def test_default_networks_of_50_layers(phi: Callable[[], nn.Module], networks: int) -> None:
    """Over 10 to 54 decades, prediction and float64 differ by less than 0.3 at every layer, averaged over networks.

    A single network departs by about `band` at the first layer, 0.27 to 0.43, and the mean of n by that over sqrt(n).
    """
    misses = []
    for seed in range(networks):
        model = plain(phi, seed)
        found, exact = Phase().measure(model, [batch()], cross_entropy), oracle(model, batch())
        assert [layer.key for layer in found.layers] == [f"{2 * at}#0" for at in range(51)]
        assert {layer.source for layer in found.layers[:-1]} == {"mean field"} and found.source == "mean field"
        measured = [layer.measured_decades for layer in found.layers]
        np.testing.assert_allclose(measured, exact, atol=0.01)  # 32 bits at 1e-7 a layer, and few denormal elements
        misses.append([layer.predicted_decades - value for layer, value in zip(found.layers, exact, strict=True)])
        assert max(map(abs, misses[-1])) < 4 * found.band
        assert found.phase == "ordered" and found.trainable_depth < 20
        assert (found.sigma_w, found.sigma_b) == pytest.approx((3**-0.5, (3 * 256) ** -0.5), rel=0.02)
        assert found.growth == pytest.approx(10 ** ((exact[0] - exact[-2]) / 49), rel=1e-3)
    assert np.abs(np.mean(misses, axis=0)).max() < 0.3
    assert found.activation == phi.__name__.lower()


def test_a_gradient_below_the_range_of_32_bits_is_taken_in_64() -> None:
    model = plain(nn.GELU, depth=90, width=64)
    found, exact = Phase().measure(model, [batch(64)], cross_entropy), oracle(model, batch(64))
    assert exact[0] < -90 and found.doubled
    np.testing.assert_allclose([layer.measured_decades for layer in found.layers], exact, atol=1e-3)
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    ("phi", "scale", "phase"),
    [
        (nn.Tanh, 0.7, "ordered"),
        (nn.Tanh, 1.0, "critical"),
        (nn.Tanh, 1.6, "chaotic"),
        (nn.ReLU, 2**0.5, "critical"),
        (nn.ReLU, 3**0.5, "chaotic"),
    ],
)
def test_phase_and_trainable_depth(phi: Callable[[], nn.Module], scale: float, phase: str) -> None:
    model, rng = plain(phi, depth=20), torch.Generator().manual_seed(2)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=scale / layer.in_features**0.5, generator=rng)
            nn.init.zeros_(layer.bias)
    found = Phase().measure(model, [batch()], cross_entropy)
    assert found.phase == phase and found.sigma_w == pytest.approx(scale, rel=0.01) and found.sigma_b == 0
    if phase == "critical":
        assert found.trainable_depth == "critical" and found.depth_scale is None
    else:
        assert found.trainable_depth == pytest.approx(6 / abs(math.log(found.chi)))
    if scale == 0.7:
        assert found.chi == pytest.approx(0.49, rel=0.01)  # q* = 0, where tanh is the identity
    assert found.critical_sigma_w == pytest.approx(1.0 if phi is nn.Tanh else 2**0.5) and found.critical_sigma_b == 0


def test_orthogonal_weights_follow_the_trajectory_and_not_the_fixed_point() -> None:
    """At the fixed point q* = 0 nothing is lost, on the way there 1.84 decades (diagnostics 5a) are."""
    model, rng = plain(nn.Tanh), torch.Generator().manual_seed(6)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.orthogonal_(layer.weight, generator=rng)
            nn.init.zeros_(layer.bias)
    found = Phase().measure(model, [batch()], cross_entropy)
    assert found.phase == "critical" and found.predicted_decades < -1.5
    assert abs(found.measured_decades - found.predicted_decades) < found.band


@pytest.mark.parametrize("prepare", [critical_, he_])
def test_the_position_in_the_phase_picture_after_initialisation(prepare: Callable[..., object]) -> None:
    model = plain(nn.GELU, depth=10)
    prepare(model, batch()[0], rng=torch.Generator().manual_seed(7)) if prepare is critical_ else prepare(
        model, torch.Generator().manual_seed(7)
    )
    found = Phase().measure(model, [batch()], cross_entropy)
    at_edge = found.sigma_w == pytest.approx(found.critical_sigma_w, rel=0.02) and found.sigma_b == pytest.approx(
        found.critical_sigma_b, rel=0.1, abs=0.01
    )
    assert at_edge == (prepare is critical_)


class Skipping(nn.Module):
    """Residual blocks x + W2 tanh(W1 x)."""

    def __init__(self, width: int = 64, depth: int = 6) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(width, width), nn.Linear(width, 10)
        self.blocks = nn.ModuleList(Branch(width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Branch(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(torch.tanh(self.inner(x)))


def test_residual_blocks_are_measured_as_a_whole() -> None:
    torch.manual_seed(0)
    model, data = Skipping(), batch(64)
    found = Phase().measure(model, [data], cross_entropy)
    assert [layer.key for layer in found.layers] == ["stem#0", *(f"blocks.{at}#0" for at in range(6)), "head#0"]
    assert {layer.source for layer in found.layers[:-1]} == {"measured"} and found.source == "measured"
    assert found.sigma_w is None and found.activation is None
    x = model.stem(data[0]).detach().requires_grad_()
    v = torch.randn(*x.shape, generator=torch.Generator().manual_seed(5))
    (pulled,) = torch.autograd.grad(model.blocks[0](x), x, v)
    # 64 examples of 64 numbers: the mean over random vectors is known to about sqrt(2/4096) = 2 %.
    assert found.layers[0].chi == pytest.approx(float(pulled.square().sum() / v.square().sum()), rel=0.1)
    assert found.measured_decades == pytest.approx(found.predicted_decades, abs=0.3)


def test_batch_normalised_networks_explode_by_pi_over_pi_minus_1() -> None:
    """Normalised ReLU layers without skip: the squared gradient grows pi/(pi - 1) = 1.467 times a layer (diagnostics 7)."""
    torch.manual_seed(0)
    hidden = [layer for _ in range(20) for layer in (nn.Linear(256, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU())]
    model = he_normal(nn.Sequential(*hidden, nn.Linear(256, 10)))
    found = Phase().measure(model, [batch(examples=256)], cross_entropy)
    assert {layer.source for layer in found.layers[:-1]} == {"measured"} and found.phase == "chaotic"
    assert found.chi == pytest.approx(math.pi / (math.pi - 1), rel=0.05)
    # The loss gradient of one network scatters by sqrt(5 * 20 / 256) over 20 layers, 3 % a layer.
    assert found.growth == pytest.approx(math.pi / (math.pi - 1), rel=0.1)


def he_normal(model: nn.Sequential) -> nn.Sequential:
    rng = torch.Generator().manual_seed(3)
    for layer in model:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=rng)
    return model


def test_convolutions_count_kernel_and_padding() -> None:
    """fan_in is 9 c, and a quarter of the 3x3 kernel's places at the rim of 8x8 maps are zeros: 16 % of all connections."""
    torch.manual_seed(0)
    convolutions = [layer for at in range(8) for layer in (nn.Conv2d(64 if at else 3, 64, 3, padding=1), nn.Tanh())]
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(64 * 64, 10))
    data = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(4)), torch.arange(16) % 10
    found, exact = Phase().measure(model, [data], cross_entropy), oracle(model, data)
    assert {layer.source for layer in found.layers[:-1]} == {"mean field"}
    assert found.layers[3].sigma_w == pytest.approx(3**-0.5, rel=0.02)
    np.testing.assert_allclose([layer.measured_decades for layer in found.layers], exact, atol=1e-3)
    np.testing.assert_allclose([layer.predicted_decades for layer in found.layers], exact, atol=0.3)
    assert found.predicted_decades < -3


def test_what_stands_between_an_activation_and_the_next_layer_is_not_taken_for_theory() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    sources = [layer.source for layer in Phase().measure(model, [batch()], cross_entropy).layers]
    assert sources == ["measured", "mean field", "end"]
    sources = [layer.source for layer in Phase().measure(model.eval(), [batch()], cross_entropy).layers]
    assert sources == ["mean field", "mean field", "end"]


def test_a_residual_network_of_convolutions() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ResidualNetwork((3, 16, 16), 10, depth=8)
    data = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(4)), torch.arange(8)
    found = Phase().measure(model, [data], cross_entropy)
    assert [layer.key for layer in found.layers][1:-1] == [f"stage{at}.0#0" for at in (1, 2, 3)]
    assert [layer.width for layer in found.layers] == [16, 16, 32, 64, 10]


def test_no_gradient_arrives_behind_dead_units() -> None:
    model = plain(nn.ReLU, depth=3, width=16)
    nn.init.constant_(model[2].bias, -100.0)
    found = Phase().measure(model, [batch(16)], cross_entropy)
    assert found.measured_decades is None and found.layers[-2].measured_decades is not None


def test_a_network_that_is_not_finite_is_refused() -> None:
    model = plain(nn.ReLU, depth=3, width=16)
    nn.init.constant_(model[2].bias, math.nan)
    with pytest.raises(InvalidModel, match=r"output of 2#0 is not finite"):
        Phase().measure(model, [batch(16)], cross_entropy)


def test_places_that_all_paths_pass_are_those_of_a_search_over_all_paths() -> None:
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(60):
        leaf = torch.ones(3, requires_grad=True)
        tensors = [leaf.clone()]
        for _ in range(6):
            picked = rng.choice(len(tensors), size=min(len(tensors), int(rng.integers(1, 3))), replace=False)
            tensors.append(sum(torch.sin(tensors[at]) for at in picked))
        edges = [get_gradient_edge(tensor) for tensor in tensors]
        root, target = edges[-1], get_gradient_edge(leaf)
        paths = list(all_paths(root.node, target.node))
        expected = [at for at, edge in enumerate(edges) if paths and all(edge.node in path for path in paths)]
        assert crossings(root, target, edges) == expected
        seen += len(expected) not in (2, 7)
    assert seen > 20, "the graphs are neither bare chains nor without places inside"


def all_paths(node: object, target: object) -> list[tuple[object, ...]]:
    if node is target:
        return [(node,)]
    children = (child for child, _ in node.next_functions if child is not None)
    return [(node, *path) for path in itertools.chain.from_iterable(all_paths(child, target) for child in children)]


def test_a_reading_holds_plain_values() -> None:
    found = Phase().measure(plain(nn.Tanh, depth=2, width=8), [batch(8)], cross_entropy)
    assert isinstance(found, PhaseReading) and hash(found) == hash(copy.deepcopy(found))
