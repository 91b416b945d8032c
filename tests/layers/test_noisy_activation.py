import copy
import math

import pytest
import torch
from torch import nn

from deepforward import Recipe, fit
from deepforward.engine import checkpoint, training
from deepforward.engine.step import Stepper
from deepforward.layers.activations import activation
from deepforward.layers.noisy_activation import MEAN_NOISE, NoisyHardSigmoid, NoisyHardTanh, anneal_noise_

x = torch.linspace(-8, 8, 257, dtype=torch.float64)
KINDS = {NoisyHardTanh: (1.0, x.clamp(-1, 1)), NoisyHardSigmoid: (2.0, (x / 4 + 0.5).clamp(0, 1))}  # end of the linear part, h
kinds = pytest.mark.parametrize("kind", KINDS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@kinds
@pytest.mark.parametrize("alpha", [0.9, 1.0, 1.15])
def test_the_formula(kind, alpha):
    """phi = alpha h + (1 - alpha) u + d sigma |xi|, term by term."""
    noise = torch.randn(257, generator=generator(), dtype=torch.float64).abs()
    module, h = kind(alpha, p=0.7, c=3.0).double(), KINDS[kind][1]
    u = x if kind is NoisyHardTanh else x / 4 + 0.5
    p, c = module.p.item(), module.c.item()  # 0.7 went through float32
    sigma = c * (1 / (1 + torch.exp(-p * (h - u))) - 0.5) ** 2
    d = -torch.sign(x) * math.copysign(alpha != 1, 1 - alpha)
    assert torch.allclose(module.given(x, noise), alpha * h + (1 - alpha) * u + d * sigma * noise, rtol=0, atol=1e-14)


@kinds
def test_nothing_changes_where_the_activation_is_linear(kind):
    end, h = KINDS[kind]
    inside = x.abs() < end
    torch.manual_seed(0)
    assert torch.allclose(kind().double()(x)[inside], h[inside], rtol=0, atol=1e-16)


@kinds
def test_the_gradient_is_zero_nowhere_and_that_of_the_hard_one_is_where_it_is_flat(kind):
    z, end = x.clone().requires_grad_(), KINDS[kind][0]
    outside = x.abs() > end
    with torch.random.fork_rng():
        torch.manual_seed(0)
        (noisy,) = torch.autograd.grad(kind().double()(z).sum(), z)
    hard = (z if kind is NoisyHardTanh else z / 4 + 0.5).clamp(KINDS[kind][1].min(), KINDS[kind][1].max())
    (flat,) = torch.autograd.grad(hard.sum(), z)
    assert not flat[outside].any()
    assert noisy.abs().min() > 0


@kinds
@pytest.mark.parametrize("alpha", [0.8, 1.15])
@pytest.mark.parametrize("mean", [False, True])
def test_closed_derivative_is_that_of_autograd(kind, alpha, mean):
    noise = MEAN_NOISE if mean else torch.randn(257, generator=generator(), dtype=torch.float64).abs()
    z, module = x.clone().requires_grad_(), kind(alpha, p=1.3, c=5.0).double()
    (slope,) = torch.autograd.grad(module.given(z, noise).sum(), z)
    assert torch.allclose(module.derivative(x, noise), slope, rtol=0, atol=1e-10)


@kinds
def test_evaluated_it_is_its_mean(kind):
    module = kind(c=4.0).double()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        draws = torch.stack([module(x) for _ in range(2000)])
        expected = module.eval()(x)
    # standard deviation of |xi| is sqrt(1 - 2/pi); six of the mean's pass 257 comparisons but once in a million
    sigma = (draws.std(0) / math.sqrt(2000)).clamp(min=1e-15)
    assert ((draws.mean(0) - expected).abs() <= 6 * sigma).all()
    assert torch.equal(module(x), module(x))
    assert math.sqrt(2 / math.pi) == MEAN_NOISE


@kinds
def test_where_noise_sets_in_is_learnt(kind):
    module = kind().double()
    module.eval()(x).sum().square().backward()
    assert module.p.grad is not None
    far = kind().double()
    far.eval()(3 * x[x > 0]).sum().backward()
    assert float(far.p.grad.abs()) > 0


def test_annealed_noise_is_saved_with_the_weights():
    model = nn.Sequential(nn.Linear(2, 3), NoisyHardTanh(), NoisyHardSigmoid())
    anneal_noise_(model, 0.25)
    twin = nn.Sequential(nn.Linear(2, 3), NoisyHardTanh(), NoisyHardSigmoid())
    twin.load_state_dict(model.state_dict())
    assert [float(twin[i].c) for i in (1, 2)] == [0.25, 0.25]
    anneal_noise_(model, 0.0)
    noiseless = model[1].double()
    assert torch.equal(noiseless(x), noiseless(x))


class Killed(BaseException):
    pass


def test_an_interrupted_run_goes_on_with_the_same_noise(tmp_path, monkeypatch):
    options = {"activation": "noisy-hard-tanh", "width": 8, "depth": 2}
    recipe = Recipe(model="perceptron", model_options=options, data="rings", epochs=2, batch_size=256, probe_budget=0.0)
    whole = fit(recipe, tmp_path / "whole", quiet=True)
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    original, taken = Stepper.step, []

    def dying(self, *arguments, **options):
        taken.append(original(self, *arguments, **options))
        if len(taken) == 5:
            raise Killed
        return taken[-1]

    monkeypatch.setattr(Stepper, "step", dying)
    with pytest.raises(Killed):
        fit(recipe, tmp_path / "broken", quiet=True)
    again = fit(recipe, tmp_path / "broken", resume=True, quiet=True)
    assert [row["train/loss"] for row in again.history] == [row["train/loss"] for row in whole.history]
    states = [checkpoint.load(run.folder / "checkpoints", "newest")[0] for run in (whole, again)]
    assert any(name.endswith(".activation.c") for name in states[0])
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_copies_draw_from_the_global_generator_as_dropout_does():
    module, outside = activation("noisy-hard-tanh"), torch.full((64,), 3.0)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        state = torch.get_rng_state()
        first = module(outside)
        torch.set_rng_state(state)
        assert torch.equal(copy.deepcopy(module)(outside), first)
        assert not torch.equal(module(outside), first)
