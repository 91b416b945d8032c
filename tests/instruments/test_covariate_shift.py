import copy

import pytest
import torch
from torch import nn

from deepforward.errors import InvalidData, InvalidModel, InvalidOption, UnknownName
from deepforward.instruments import CovariateShift

LR = 0.3


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 3)]
        return nn.Sequential(*layers).double()


def batch(seed):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(16, 6, generator=rng, dtype=torch.float64), torch.randint(3, (16,), generator=rng)


def loss_of(model, pair):
    return nn.functional.cross_entropy(model(pair[0]), pair[1])


def gradients(model, pair):
    twin = copy.deepcopy(model)
    loss_of(twin, pair).backward()
    return {name: p.grad.clone() for name, p in twin.named_parameters()}


def test_it_is_definition_2_1_written_out_on_copies():
    """Copies with the earlier layers moved by -lr G, in float64: sums of squares in another order, 1e-12."""
    model, pairs = network(), [batch(0), batch(1)]
    measured = CovariateShift(LR, layers=["5", "1", "3"]).measure(model, pairs, loss_of)
    assert measured.layers == ("1", "3", "5")
    for k, layer in enumerate(measured.layers):
        wanted = []
        for pair in pairs:
            before, moved = gradients(model, pair), copy.deepcopy(model)
            with torch.no_grad():
                for name, p in moved.named_parameters():
                    if int(name.partition(".")[0]) < int(layer):
                        p.sub_(LR * before[name])
            after = gradients(moved, pair)
            g, h = (torch.cat([x[f"{layer}.{kind}"].flatten() for kind in ("weight", "bias")]) for x in (before, after))
            wanted.append(((g - h).norm(), (g - h).norm() / g.norm(), g @ h / (g.norm() * h.norm())))
        found = measured.differences[k], measured.relative[k], measured.cosines[k]
        assert found == pytest.approx([sum(column).item() / 2 for column in zip(*wanted, strict=True)], rel=1e-12)


def test_nothing_shifts_at_a_vanishing_rate():
    """To first order in lr = 1e-9, with second derivatives of order 1."""
    measured = CovariateShift(1e-9).measure(network(), [batch(0)], loss_of)
    assert measured.layers == ("1", "3", "5")
    assert max(measured.relative) < 1e-7
    assert min(measured.cosines) > 1 - 1e-12


def test_layers_come_in_the_order_of_the_forward_pass_and_shared_parameters_count_once():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first, self.unused = nn.Linear(6, 3), nn.Linear(6, 6), nn.Linear(2, 2)
            self.tied = nn.Linear(6, 6)
            self.tied.weight = self.first.weight

        def forward(self, x):
            return self.last(torch.tanh(self.tied(torch.tanh(self.first(x)))))

    measured = CovariateShift(LR, count=9).measure(Backwards().double(), [batch(0)], loss_of)
    assert measured.layers == ("tied", "last", "unused")
    assert measured.differences[-1] == 0 and measured.cosines[-1] == 1  # no gradient before or after


def test_a_few_layers_are_spread_evenly():
    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(9)), nn.Linear(6, 3)).double()
    assert CovariateShift(LR, count=3).measure(model, [batch(0)], loss_of).layers == ("1", "5", "9")
    assert CovariateShift(LR, count=1).measure(model, [batch(0)], loss_of).layers == ("1",)


def test_what_cannot_shift_is_refused():
    with pytest.raises(InvalidModel, match="1 trained layers"):
        CovariateShift(LR).measure(nn.Sequential(nn.Linear(6, 3)).double(), [batch(0)], loss_of)
    with pytest.raises(UnknownName, match="unknown layer '33'"):
        CovariateShift(LR, layers=["33"]).measure(network(), [batch(0)], loss_of)
    with pytest.raises(InvalidOption, match="first layer"):
        CovariateShift(LR, layers=["0"]).measure(network(), [batch(0)], loss_of)
    for options in ({"lr": 0.0}, {"lr": 1.0, "count": 0}):
        with pytest.raises(InvalidOption):
            CovariateShift(**options)
    with pytest.raises(InvalidData, match="no batches"):
        CovariateShift(LR).measure(network(), [], loss_of)
