"""Gradients of restricted Boltzmann machines against enumeration and autograd, and the fast paths against them."""

import math

import pytest
import torch

from deepforward.models.energy import RBM
from deepforward.models.energy.energy_model import centre
from deepforward.models.energy.products import gap_of_moments
from tests.models.rbm_examples import (
    KINDS,
    VISIBLE,
    binary_states,
    exact_log_partition,
    generator,
    machine,
    plain_energy,
    visible_states,
)


@pytest.mark.parametrize("kind", VISIBLE)
def test_two_phases_by_enumeration_are_the_gradient_of_the_log_likelihood(kind):
    """-d log p / d theta = <dE / d theta> given the data minus that of the model, every expectation summed over all states."""
    rbm = machine(kind)
    names, parameters = zip(*((n, p) for n, p in rbm.named_parameters() if p.requires_grad), strict=True)
    data = visible_states(rbm, kind)[:3]
    exact = torch.autograd.grad(rbm.free_energy(data).mean() + exact_log_partition(rbm, kind), parameters)

    h = binary_states(4)
    given = (-plain_energy(rbm, data, h)).softmax(1).detach()
    positive = (given * plain_energy(rbm, data, h)).sum(1).mean()
    if kind == "gaussian":  # E over p(v | h): E is quadratic in v, so two moments do
        total = h @ rbm.weight.T + rbm.visible_units.bias
        precision = rbm.visible_units.log_precision.exp()
        mean = (total / precision).detach()
        square = mean.square() + (1 / precision).detach()
        each = (total.square() / precision + math.log(2 * math.pi) - precision.log()) / 2
        p = (each.sum(1) + h @ rbm.hidden_units.bias).softmax(0).detach()
        energies = (0.5 * square * precision - mean * total).sum(1) - h @ rbm.hidden_units.bias
        negative = (p * energies).sum()
    else:
        v = visible_states(rbm, kind)
        joint = plain_energy(rbm, v, h)
        negative = ((-joint).flatten().softmax(0).reshape(joint.shape).detach() * joint).sum()
    phases = torch.autograd.grad(positive - negative, parameters)
    for name, one, other in zip(names, phases, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize(("visible", "hidden"), [*KINDS, ("gaussian", "relu")])
def test_energy_at_the_hidden_means_has_the_gradient_of_the_free_energy(visible, hidden):
    rbm = machine(visible, hidden)
    v = visible_states(rbm, visible)[:5]
    parameters = [p for p in rbm.parameters() if p.requires_grad]
    by_means = torch.autograd.grad(rbm.energy(rbm.clamp(v, generator())).mean(), parameters)
    by_free_energy = torch.autograd.grad(rbm.free_energy(v).mean(), parameters)
    for one, other in zip(by_means, by_free_energy, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def phases(rbm, kind, seed=5):
    """Data of 7 rows against 4 chains."""
    data = rbm.clamp(visible_states(rbm.double(), kind)[:7].to(torch.float64), generator(seed))
    chains = rbm.expected(rbm.advance(rbm.start(4, generator(seed)), generator(seed), 2))
    return data, chains


@pytest.mark.parametrize(
    ("visible", "hidden", "fixed"),
    [*((*kinds, False) for kinds in [*KINDS, ("gaussian", "relu")]), ("gaussian", "binary", True), ("gaussian", "relu", True)],
)
def test_gradients_by_hand_are_those_of_autograd(visible, hidden, fixed):
    """float32 by hand against float64 by autograd: 11 roundings of numbers of size 1 to 5, or of relative size 11 x 6e-8."""
    rbm = machine(visible, hidden)
    if fixed:
        rbm.visible_units.log_precision.requires_grad_(False)
    data, chains = phases(rbm, visible, 5)
    names, parameters = zip(*((n, p) for n, p in rbm.named_parameters() if p.requires_grad), strict=True)
    gap = rbm.free_energy(data[0]).mean() - rbm.free_energy(chains[0]).mean()
    exact = dict(zip(names, torch.autograd.grad(gap, parameters), strict=True))
    wide = rbm.gap_gradients(data, chains)
    assert set(wide) == set(exact)
    for name in exact:
        torch.testing.assert_close(wide[name], exact[name], rtol=0, atol=1e-12)
    narrow = rbm.float().gap_gradients(*(tuple(x.float() for x in state) for state in (data, chains)))
    for name in exact:
        torch.testing.assert_close(narrow[name].double(), exact[name], rtol=7e-7, atol=3e-6)


def test_gradients_in_bf16_are_those_in_float32_within_the_rounding_of_means_and_result():
    """Zeros and ones are exact; a mean and a result are each rounded by 2^-9 of at most 1."""
    rbm = machine(size=40, hidden=30, seed=2, dtype=torch.float32)
    v = (torch.rand(50, 40, generator=generator()) < 0.4).float()
    drawn = (torch.rand(60, 30, generator=generator(1)) < 0.4).float()
    with torch.autocast("cpu", torch.bfloat16):
        data = rbm.clamp(v, generator())
        dreamt, state = rbm.dream((v[:1].expand(60, -1), drawn), generator(1), 2)
        gradients = rbm.gap_gradients(data, dreamt)
    assert data[1].dtype == dreamt[1].dtype == torch.bfloat16
    assert all(g.dtype == torch.float32 for g in gradients.values())
    rounded = RBM((40,), hidden=30)
    rounded.load_state_dict(rbm.state_dict())
    with torch.no_grad():  # what bf16 multiplies by
        rounded.weight.copy_(rbm.weight.bfloat16().float())
    means = rounded.clamp(v, generator())[1]
    # An input of size up to 16 is rounded by 1/32, and a sigmoid is at most a quarter as steep; the mean itself by 2^-9.
    torch.testing.assert_close(data[1].float(), means, rtol=0, atol=1 / 128 + 2**-9)
    exact = dict(rbm.gap_gradients((v, data[1].float()), tuple(x.float() for x in dreamt)))
    for name, gradient in gradients.items():
        # The sum of both phases is rounded once; means are rounded again where 60 chains meet 50 examples.
        torch.testing.assert_close(gradient, exact[name], rtol=0, atol=2**-8, msg=name)
    assert set(state[0].unique().tolist()) <= {0.0, 1.0}
    assert set(state[1].unique().tolist()) <= {0.0, 1.0}


# Centring


def exact_gradients(rbm, data):
    """Gradient of -mean log p over `data`, by autograd of the enumerated likelihood."""
    named = dict(rbm.named_parameters())
    loss = rbm.free_energy(data).mean() + exact_log_partition(rbm, "binary")
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def offsets_of(seed=9):
    return tuple(torch.rand(n, generator=generator(seed), dtype=torch.float64) for n in (6, 4))


def test_centring_is_the_gradient_in_the_centred_parametrisation():
    rbm, (m, l) = machine(), offsets_of()  # noqa: E741 - the letter of the source
    data = binary_states(6)[::5]
    weight = rbm.weight.detach().clone().requires_grad_(True)
    lower = (rbm.visible_units.bias + rbm.weight @ l).detach().requires_grad_(True)
    upper = (rbm.hidden_units.bias + m @ rbm.weight).detach().requires_grad_(True)
    v, h = binary_states(6), binary_states(4)

    def energy(v):
        centred = torch.einsum("ri,ij,sj->rs", v - m, weight, h - l)
        return -centred - ((v - m) @ lower)[:, None] - ((h - l) @ upper)[None]

    loss = -(-energy(data)).logsumexp(1).mean() + (-energy(v)).flatten().logsumexp(0)
    raw = exact_gradients(rbm, data)
    assert float(loss.detach()) == pytest.approx(  # the same model
        float((rbm.free_energy(data).mean() + exact_log_partition(rbm, "binary")).detach()), abs=1e-12
    )
    step, down, up = torch.autograd.grad(loss, (weight, lower, upper))
    expected = {"weight": step, "visible_units.bias": down - step @ l, "hidden_units.bias": up - m @ step}
    for change in (lambda g: centre(rbm.connections, g, (m, l)), lambda g: rbm.recentre(g, (m, l))):
        found = dict(raw)
        change(found)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("bf16", [False, True])
def test_centring_before_the_product_is_centring_after_it(bf16):
    """float32 rounds sums of 50 numbers of size 1; bf16 each factor and the result by 2^-9 of at most 2, and the offset."""
    rbm = machine(size=40, hidden=30, seed=2, dtype=torch.float32)
    v = (torch.rand(50, 40, generator=generator()) < 0.4).float()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        data, begun = rbm.observe(v, generator())
        chains, _ = rbm.dream(begun, generator(1), 2)
        offsets = v.mean(0), data[1].float().mean(0)
        fast = rbm.gap_gradients(data, chains, offsets)
    slow = dict(rbm.gap_gradients(*(tuple(x.float() for x in state) for state in (data, chains))))
    centre(rbm.connections, slow, offsets)
    for name, value in slow.items():
        scale = 1 if name == "weight" else 40  # a bias is moved by up to 40 products of weight and offset
        torch.testing.assert_close(fast[name], value, rtol=0, atol=scale * (2**-7 if bf16 else 1e-6), msg=name)


def test_averages_and_corrections_of_centring_are_not_rounded_to_bf16():
    """Reals in the place of bits, which make the product dense; 1e-5 is far above fp32 and far below 2^-9 of sums of 40."""
    rbm, rng = machine(size=40, hidden=30, seed=2, dtype=torch.float32), generator()
    data, chains = ((torch.rand(n, 40, generator=rng), torch.rand(n, 30, generator=rng)) for n in (50, 60))
    offsets = torch.rand(40, generator=rng), torch.rand(30, generator=rng)
    with torch.autocast("cpu", torch.bfloat16):
        gap = gap_of_moments(data, chains, offsets)
    torch.testing.assert_close(gap.lower_turn, gap.weight @ offsets[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(gap.upper_turn, offsets[0] @ gap.weight, rtol=0, atol=1e-5)
    torch.testing.assert_close(gap.lower, chains[0].mean(0) - data[0].mean(0), rtol=0, atol=1e-5)
    exact = rbm.gap_gradients(data, chains)
    rounded, plain = dict(exact), dict(exact)
    with torch.autocast("cpu", torch.bfloat16):
        centre(rbm.connections, rounded, offsets)
    centre(rbm.connections, plain, offsets)
    assert all(torch.equal(rounded[name], value) for name, value in plain.items())


def test_centred_learning_is_the_same_when_a_bit_of_the_data_is_flipped():
    def flipped(v, bits=(1, 4)):
        v = v.clone()
        v[:, list(bits)] = 1 - v[:, list(bits)]
        return v

    data = binary_states(6)[[3, 17, 40, 62]]
    gaps = {}
    for centred in (True, False):
        models, offsets = (machine(), machine()), (offsets_of(), offsets_of())
        with torch.no_grad():  # the twin that is to the flipped data what the first is to the data
            for bit in (1, 4):
                models[1].hidden_units.bias.add_(models[0].weight[bit])
                models[1].weight[bit].neg_()
                models[1].visible_units.bias[bit].neg_()
                offsets[1][0][bit] = 1 - offsets[1][0][bit]
        for model, rows, means in zip(models, (data, flipped(data)), offsets, strict=True):
            for _ in range(3):
                gradients = exact_gradients(model, rows)
                if centred:
                    centre(model.connections, gradients, means)
                with torch.no_grad():
                    for name, value in gradients.items():
                        model.get_parameter(name).sub_(0.3 * value)
        v = binary_states(6)
        logs = [m.free_energy(x) + exact_log_partition(m, "binary") for m, x in zip(models, (v, flipped(v)), strict=True)]
        gaps[centred] = float((logs[0] - logs[1]).abs().max().detach())
    assert gaps[True] < 1e-12
    assert gaps[False] > 1e-3
