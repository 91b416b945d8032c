import math

import pytest
import torch
from torch import nn

from deepforward import catalogue
from deepforward.errors import InvalidData, ShapeError
from deepforward.instruments import Degradation, DepthCurve
from deepforward.layers.residual import Skip


def square(model, inputs):
    out = model(inputs)
    return out.square().mean()


def build(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def test_contributions_are_those_of_branches_computed_by_hand():
    """Two skips, one scaled, over two batches; sums of squares of float64 in another order: 1e-12."""
    first = Skip(nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5)))
    second = Skip(nn.Linear(5, 5), scale=0.25)
    model = nn.Sequential(nn.Linear(3, 5), first, second).double()
    batches = [torch.randn(4, 3, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in range(2)]
    measured = Degradation().measure(model, batches, square)
    with torch.no_grad():
        x = torch.cat([model[0](batch) for batch in batches])
        y = first(x)
        z = second(y)
        wanted = [first.branch(x).norm() / x.norm(), 0.25 * second.branch(y).norm() / y.norm()]
    assert measured.names == ("1#0", "2#0")
    assert measured.contributions == pytest.approx([value.item() for value in wanted], rel=1e-12)
    assert measured.growths == pytest.approx([(y.norm() / x.norm()).item(), (z.norm() / y.norm()).item()], rel=1e-12)
    assert measured.loss == pytest.approx(z.square().mean().item(), rel=1e-12)


def test_every_block_of_a_residual_network_is_found_and_none_of_its_plain_twin():
    inputs = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    residual, plain = (
        build(lambda name=name: catalogue.load("models", name)((1, 8, 8), 10)) for name in ("resnet20", "plain20")
    )
    measured = Degradation().measure(residual, [inputs], square)
    assert measured.names == tuple(f"stage{s}.{k}#0" for s in (1, 2, 3) for k in range(3))
    assert all(0.1 < share < 10 for share in measured.contributions)
    assert Degradation().measure(plain, [inputs], square).names == ()


class InPlace(nn.Module):
    """A projection shortcut, added in place, as torchvision writes it; a gate of equal lengths; a bias."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.down = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(4, 6)
        self.bias = nn.Parameter(torch.ones(6))

    def forward(self, x):
        out = self.b(torch.relu(self.a(x)))
        out += self.down(x)
        return (out + self.bias) + (out + self.bias)


def test_a_projection_added_in_place_counts_once_and_neither_a_bias_nor_equal_paths():
    model, inputs = build(InPlace), torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    measured = Degradation().measure(model, [inputs], square)
    with torch.no_grad():
        share = model.b(torch.relu(model.a(inputs))).norm() / model.down(inputs).norm()
    assert measured.names == ("InPlace#0",)
    assert measured.contributions[0] == pytest.approx(share.item(), rel=1e-5)  # float32


@pytest.mark.parametrize("training", [True, False])
def test_both_additions_of_a_transformer_layer_are_found_and_its_positions_are_none(training):
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.position = nn.Embedding(20, 8), nn.Parameter(torch.randn(1, 5, 8))
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)

        def forward(self, tokens):
            return self.layer(self.embed(tokens) + self.position)

    model, tokens = build(Encoder).train(training), torch.arange(20).reshape(4, 5)
    assert Degradation().measure(model, [tokens], square).names == ("layer#0", "layer#1")


def test_a_dead_branch_contributes_nothing():
    block = Skip(nn.Linear(4, 4))
    nn.init.zeros_(block.branch.weight)
    nn.init.zeros_(block.branch.bias)
    measured = Degradation().measure(nn.Sequential(nn.Linear(4, 4), block), [torch.randn(3, 4)], square)
    assert measured.contributions == (0.0,) and measured.growths == (1.0,)


def test_a_curve_of_loss_against_depth_degrades_where_the_deepest_is_not_the_best():
    assert DepthCurve((4, 20, 56), (0.2, 0.1, 0.5)).degrades
    assert DepthCurve((4, 20, 56), (0.2, 0.1, 0.5)).excess == pytest.approx(0.4)
    assert not DepthCurve((4, 20, 56), (0.5, 0.2, 0.1)).degrades
    assert DepthCurve((4, 56), (0.5, math.nan)).degrades
    for depths, losses in (((4,), (1.0,)), ((4, 2), (1.0, 1.0)), ((4, 8), (1.0,))):
        with pytest.raises(ShapeError):
            DepthCurve(depths, losses)


def test_no_batch_is_refused():
    with pytest.raises(InvalidData):
        Degradation().measure(nn.Linear(2, 2), [], square)
