import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from deepforward.errors import InvalidData, InvalidModel, InvalidOption
from deepforward.instruments import LocalSmoothness


class Potential(nn.Module):
    """A point in a landscape; the batch scales it."""

    def __init__(self, start, landscape):
        super().__init__()
        self.x = nn.Parameter(torch.tensor(start, dtype=torch.float64))
        self.landscape = landscape

    def forward(self, scale):
        return scale * self.landscape(self.x)


def loss_of(model, batch):
    return model(batch)


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def data(seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(20, 5, generator=rng, dtype=torch.float64), torch.randint(3, (20,), generator=rng)


def cross_entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def flat(model, batch, create_graph=False):
    gradient = torch.autograd.grad(cross_entropy(model, batch), list(model.parameters()), create_graph=create_graph)
    return torch.cat([g.flatten() for g in gradient])


def test_every_column_equals_a_slow_walk_written_out():
    """A walk of 3 steps in float64 by hand; both take the same differences, in other orders of summing: 1e-9."""
    lr, clip, batches = 0.7, 0.5, [data(0), data(1)]
    measured = LocalSmoothness(3, lr=lr, clip=clip, points=4, beyond=(2.0, 3.0)).measure(network(), batches, cross_entropy)
    model = network()
    for k in range(3):
        batch, origin = batches[k % 2], nn.utils.parameters_to_vector(model.parameters()).detach().clone()
        loss, g = cross_entropy(model, batch).item(), flat(model, batch)
        h = lr * min(1.0, clip / g.norm().item())
        bends, changes, losses = {}, [], []
        for place in (0.25, 0.5, 0.75, 1.0, 2.0, 3.0):
            nn.utils.vector_to_parameters(origin - place * h * g, model.parameters())
            changes.append((flat(model, batch) - g).norm().item())
            losses.append(cross_entropy(model, batch).item())
            bends[place] = changes[-1] / (place * h * g.norm().item())
        nn.utils.vector_to_parameters(origin - h * g, model.parameters())
        assert measured.losses[k] == pytest.approx(loss, rel=1e-9)
        assert measured.gradient_norms[k] == pytest.approx(g.norm().item(), rel=1e-9)
        assert measured.step_sizes[k] == pytest.approx(h, rel=1e-9)
        assert measured.smoothness[k] == pytest.approx(max(bends[p] for p in (0.25, 0.5, 0.75, 1.0)), rel=1e-9)
        assert measured.effective_smoothness[k] == pytest.approx(max(bends.values()), rel=1e-9)
        assert measured.loss_ranges[k] == pytest.approx((min(losses), max(losses)), rel=1e-9)
        assert measured.gradient_ranges[k] == pytest.approx((min(changes), max(changes)), rel=1e-9)


def test_for_a_short_step_it_is_the_hessian_times_the_direction_by_double_backward():
    """|H v|; the difference departs from it by the third derivative times the step of 1e-6, relative 1e-5 at most here."""
    model, batch = network(), data()
    measured = LocalSmoothness(1, lr=1e-6, beyond=()).measure(model, [batch], cross_entropy)
    g = flat(model, batch, create_graph=True)
    v = (g / g.norm()).detach()
    hessian_vector = torch.autograd.grad(g @ v, list(model.parameters()))
    size = torch.cat([part.flatten() for part in hessian_vector]).norm().item()
    assert measured.smoothness[0] == pytest.approx(size, rel=1e-5)


def test_both_ends_of_a_difference_are_of_the_same_batch():
    """Batches of curvature 2 and 200: mixed up, none of the numbers would be a curvature."""
    model = Potential([3.0, 1.0], lambda x: x.square().sum())
    measured = LocalSmoothness(4, lr=1e-4).measure(model, [1.0, 100.0], loss_of)
    assert measured.smoothness == pytest.approx((2, 200, 2, 200), rel=1e-9)


def test_dropout_draws_the_same_mask_at_both_ends():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.x = nn.Parameter(torch.ones(400, dtype=torch.float64))

        def forward(self, scale):
            return scale * nn.functional.dropout(self.x, 0.5).square().sum() / 8

    assert LocalSmoothness(3, lr=0.1).measure(Dropped(), [1.0], loss_of).smoothness == pytest.approx((1, 1, 1), rel=1e-9)


def test_a_single_point_would_miss_the_bend_and_is_refused():
    """A step of one whole period of sin x: the gradients at both ends agree, and yet the way bends."""
    model = Potential([0.0], lambda x: torch.sin(x).sum())
    measured = LocalSmoothness(1, lr=2 * np.pi, points=3, beyond=()).measure(model, [1.0], loss_of)
    assert measured.smoothness[0] == pytest.approx(1.5 / (2 * np.pi / 3), rel=1e-9)  # |cos(2 pi / 3) - 1| over a third
    with pytest.raises(InvalidOption, match="3 points at least"):
        LocalSmoothness(points=1)


def test_l0_and_l1_of_the_cosh_landscape_are_found():
    """f = a cosh(b x): f'' <= a b^2 + b |f'|, with equality to 1% beyond b x = 5; L on a step of 1e-3 is f'' to b h = 0.4%."""
    model = Potential([0.5], lambda x: 1e-5 * torch.cosh(40 * x).sum())
    measured = LocalSmoothness(20, beyond=()).measure(model, [1.0], loss_of)
    assert measured.fit is not None and measured.fit.identified
    assert measured.fit.correlation > 0.99
    assert 20 < measured.fit.L1 < 40  # L on a step as long as the gradient needs to halve is a mean over the step


def test_a_quadratic_has_no_l1():
    fit = LocalSmoothness(12, lr=0.1).measure(Potential([3.0, 1.0], lambda x: x.square().sum()), [1.0], loss_of).fit
    assert fit is not None and not fit.identified
    assert pytest.approx(2, rel=1e-6) == fit.L0


def test_a_window_leaves_the_transient_of_the_first_steps_out():
    """Steep and straight walls first, then the quadratic floor: over all steps L1 would mix both."""
    model = Potential([4.0], lambda x: (x**4 + x**2).sum())
    whole = LocalSmoothness(30, lr=0.01).measure(model, [1.0], loss_of)
    end = LocalSmoothness(30, lr=0.01, window=8).measure(model, [1.0], loss_of)
    assert whole.smoothness == end.smoothness
    assert whole.fit is not None and end.fit is not None
    assert end.fit.spread < whole.fit.spread / 5
    assert end.fit.L0 + end.fit.L1 * end.gradient_norms[-1] == pytest.approx(end.smoothness[-1], rel=0.05)


@pytest.mark.parametrize("end", [float("nan"), float("inf"), 0.0])
def test_a_walk_ends_where_the_gradient_does(end):
    measured = LocalSmoothness(5).measure(Potential([1.0], lambda x: end * x.square().sum()), [1.0], loss_of)
    assert measured.losses == measured.step_sizes == () and measured.fit is None


def test_frozen_and_unused_parameters_do_not_move():
    model = network()
    model[0].requires_grad_(False)
    model.extra = nn.Parameter(torch.ones(3, dtype=torch.float64))
    assert len(LocalSmoothness(2).measure(model, [data()], lambda m, b: cross_entropy(m[:5], b)).losses) == 2
    with pytest.raises(InvalidModel, match="no way to walk"):
        LocalSmoothness(2).measure(nn.ReLU(), [data()], cross_entropy)


def test_a_record_is_plain():
    measured = LocalSmoothness(3).measure(network(), [data()], cross_entropy)
    assert json.loads(json.dumps(asdict(measured)))["gradient_norms"] == list(measured.gradient_norms)


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"window": 2}, {"lr": 0.0}, {"clip": -1.0}, {"beyond": (0.5,)}, {"lr": float("nan")}]
)
def test_senseless_options_are_refused(options):
    with pytest.raises(InvalidOption):
        LocalSmoothness(**options)
    with pytest.raises(InvalidData, match="no batches"):
        LocalSmoothness().measure(network(), [], cross_entropy)
