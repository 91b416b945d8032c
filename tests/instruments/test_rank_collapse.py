"""Cosine and effective rank are those of plain NumPy; critical ReLU and GELU networks collapse, tanh ones do not."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deepforward.errors import InvalidData
from deepforward.instruments import RankCollapse, Representations
from deepforward.instruments.rank_collapse import effective_rank, gram, mean_cosine
from deepforward.layers import critical_


def square(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().mean()


def draws(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain_cosine(rows: np.ndarray) -> float:
    pairs = itertools.combinations(rows, 2)
    return float(np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs]))


def plain_rank(rows: np.ndarray) -> float:
    s = np.linalg.svd(rows, compute_uv=False)
    p = s[s > 0] / s.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def test_every_layer_call_as_in_numpy() -> None:
    torch.manual_seed(0)
    relu = nn.ReLU(inplace=True)
    parts = [nn.Conv2d(2, 3, 3), relu, nn.Flatten(), nn.Linear(48, 20), nn.BatchNorm1d(20), relu, nn.Linear(20, 5)]
    model, x = nn.Sequential(*parts), draws(9, 2, 6, 6)
    found = RankCollapse(examples=7).measure(model, [x], square)
    expected, h = {"input": x}, x
    for name, part in zip(["0#0", "1#0", None, "3#0", "4#0", "1#1", "6#0"], parts, strict=True):
        h = part(h.clone())
        expected |= {name: h} if name else {}
    shown = {each.key: each for each in (found.input, *found.layers)}
    assert list(shown) == list(expected) and found.examples == 7
    for key, tensor in expected.items():
        rows = tensor[:7].flatten(1).detach().double().numpy()
        assert shown[key].cosine == pytest.approx(plain_cosine(rows), rel=1e-9, abs=1e-9)
        assert shown[key].effective_rank == pytest.approx(plain_rank(rows), rel=1e-6)
        assert shown[key].full_rank == min(rows.shape)
    assert found.last_hidden.key == "1#1" and found.last_hidden.kind == "ReLU"


def test_effective_rank_of_known_spectra() -> None:
    """n equal singular values have an effective rank of n, one has 1, two in the ratio 3 : 1 exp(H(3/4, 1/4))."""
    assert effective_rank(gram(torch.eye(6))) == pytest.approx(6)
    assert effective_rank(gram(torch.ones(6, 4))) == pytest.approx(1)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(gram(torch.diag(torch.tensor([3.0, 1.0, 0.0])))) == pytest.approx(math.exp(entropy))
    assert effective_rank(gram(torch.zeros(3, 3))) is None and effective_rank(gram(torch.full((2, 2), math.nan))) is None


def test_cosine_of_known_rows() -> None:
    assert mean_cosine(gram(torch.tensor([[1.0, 0], [0, 2.0], [0, 0]]))) == pytest.approx(0), "a row of zeros has no direction"
    assert mean_cosine(gram(torch.tensor([[1.0, 1], [-3.0, -3]]))) == pytest.approx(-1)
    assert mean_cosine(gram(torch.tensor([[1.0, 1], [0, 0]]))) is None
    assert mean_cosine(gram(1e-30 * torch.tensor([[1.0, 1], [1, 0]]))) == pytest.approx(2**-0.5), "squares underflow in 32 bits"


@pytest.mark.parametrize(("phi", "collapses"), [(nn.ReLU, True), (nn.GELU, True), (nn.Tanh, False)])
def test_critical_networks_of_50_layers(phi: type[nn.Module], collapses: bool) -> None:
    hidden = [layer for _ in range(50) for layer in (nn.Linear(256, 256), phi())]
    model = nn.Sequential(*hidden, nn.Linear(256, 10))
    critical_(model, draws(64, 256), torch.Generator().manual_seed(0))
    found = RankCollapse().measure(model, [draws(64, 256)], square)
    assert abs(found.input.cosine) < 0.05 and found.input.effective_rank > 50
    assert (found.last_hidden.cosine > 0.9) == collapses
    if not collapses:
        assert found.last_hidden.cosine < 0.2
    assert (found.last_hidden.effective_rank < 10) == collapses


def test_correlation_of_relu_follows_its_map() -> None:
    """c' = (sqrt(1 - c^2) + c (pi - acos c)) / pi, wide layers at the critical point (Cho, Saul 2009)."""
    hidden = [layer for _ in range(4) for layer in (nn.Linear(1500, 1500), nn.ReLU())]
    model, rng = nn.Sequential(*hidden, nn.Linear(1500, 2)), torch.Generator().manual_seed(0)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=rng)
            nn.init.zeros_(layer.bias)
    found = RankCollapse().measure(model, [draws(24, 1500)], square)
    c = 0.0
    for each in found.layers[:8:2]:
        assert each.kind == "Linear" and each.cosine == pytest.approx(c, abs=0.02)  # of order 1/sqrt(1500) in a single network
        c = (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / math.pi


def test_one_example_is_no_pair() -> None:
    with pytest.raises(InvalidData, match="1 examples"):
        RankCollapse().measure(nn.Linear(3, 2), [draws(1, 3)], square)
    with pytest.raises(InvalidData, match="no batches"):
        RankCollapse().measure(nn.Linear(3, 2), [], square)


def test_a_model_of_one_layer_has_no_hidden_representation() -> None:
    found = RankCollapse().measure(nn.Linear(3, 2), [draws(4, 3)], square)
    assert isinstance(found, Representations) and found.last_hidden is None and len(found.layers) == 1
