"""Restricted Boltzmann machines small enough to be enumerated, in float64, and the fast paths against them."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import chi2
from sklearn.neural_network import BernoulliRBM

from deepforward.errors import InvalidData, InvalidOption, ShapeError, TooLarge, UnknownName
from deepforward.metrics.likelihood import pseudo_log_likelihood
from deepforward.models.energy import RBM
from deepforward.models.energy.energy_model import centre
from deepforward.models.energy.enumeration import all_states
from deepforward.models.energy.products import gap_of_moments

VISIBLE = {"binary": {}, "gaussian": {"learn_precision": True}, "softmax": {"categories": 3}}
KINDS = [(visible, hidden) for visible in VISIBLE for hidden in ("binary", "relu") if (visible, hidden) != ("gaussian", "relu")]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def binary_states(units):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=units)), dtype=torch.float64)


def machine(visible="binary", hidden_kind="binary", *, size=6, hidden=4, seed=0, dtype=torch.float64):
    """Weights and biases of size 1, so that no conditional is near 0, 1/2 or 1 by accident."""
    rbm = RBM((size,), visible=visible, hidden_kind=hidden_kind, hidden=hidden, **VISIBLE[visible]).to(dtype)
    rng = generator(seed)
    with torch.no_grad():
        for value in [*rbm.parameters(), rbm.visible_units.base]:
            value.copy_((0.4 if hidden_kind == "relu" else 1.0) * torch.randn(value.shape, generator=rng))
    return rbm


def sticky():
    """A model of 3 x 2 units whose next state depends on the present one."""
    rbm = machine(size=3, hidden=2, seed=1).requires_grad_(False)
    rbm.weight.copy_(torch.tensor([[2.0, -1.5], [-2.5, 1.0], [1.5, 2.0]]))
    return rbm


def visible_states(rbm, kind):
    """Every visible state, or for real units a few."""
    if kind == "binary":
        return binary_states(rbm.visible_units.size)
    if kind == "softmax":
        one_hot = torch.eye(3, dtype=torch.float64)
        return torch.stack([torch.cat((a, b)) for a in one_hot for b in one_hot])
    return torch.randn(5, rbm.visible_units.size, generator=generator(8), dtype=torch.float64)


def plain_energy(rbm, v, h, beta=1.0):
    """E(v, h) written out, without a method of the model."""
    b, c = rbm.visible_units.bias_at(beta), rbm.hidden_units.bias_at(beta)
    energy = -beta * torch.einsum("ri,ij,sj->rs", v, rbm.weight, h) - (v @ b)[:, None] - (h @ c)[None]
    if hasattr(rbm.visible_units, "log_precision"):
        energy = energy + 0.5 * (v.square() @ rbm.visible_units.log_precision.exp())[:, None]
    return energy


def exact_log_partition(rbm, kind):
    """log Z over all binary hidden states with the visible units summed (integrated) one by one; differentiable."""
    h = binary_states(rbm.hidden_units.size)
    total = h @ rbm.weight.T + rbm.visible_units.bias
    if kind == "gaussian":
        precision = rbm.visible_units.log_precision.exp()
        each = (total.square() / precision + math.log(2 * math.pi) - precision.log()) / 2
    elif kind == "binary":
        each = torch.logaddexp(total, torch.zeros_like(total))
    else:
        each = total.reshape(len(h), -1, 3).logsumexp(2)
    return (each.sum(1) + h @ rbm.hidden_units.bias).logsumexp(0)


@pytest.mark.parametrize("beta", [1.0, 0.3, 0.0])
@pytest.mark.parametrize("kind", VISIBLE)
def test_free_energy_is_minus_log_of_the_sum_over_hidden_states(kind, beta):
    rbm = machine(kind)
    v, h = visible_states(rbm, kind), binary_states(4)
    expected = -(-plain_energy(rbm, v, h, beta)).logsumexp(1)
    torch.testing.assert_close(rbm.free_energy(v, beta), expected, rtol=0, atol=1e-12)
    rows = torch.full((len(v), 1), beta, dtype=torch.float64)
    torch.testing.assert_close(rbm.free_energy(v, rows), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["binary", "softmax"])
def test_free_energy_of_rectified_units_is_that_of_quadrature(kind):
    """Four integrals, each right to 1e-8."""
    rbm = machine(kind, "relu").requires_grad_(False)
    v = visible_states(rbm, kind)[::7]
    for row in v:
        inputs = (row @ rbm.weight + rbm.hidden_units.bias).tolist()
        logs = [math.log(quad(lambda s, x=x: math.exp(x * s - s * s / 2), 0, np.inf)[0]) for x in inputs]
        expected = -float(row @ rbm.visible_units.bias) - sum(logs)
        assert float(rbm.free_energy(row[None])) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("kind", VISIBLE)
def test_the_energy_is_that_written_out(kind):
    rbm = machine(kind)
    v, h = visible_states(rbm, kind), binary_states(4)
    rows = [rbm.energy((v[i].expand(16, -1), h)) for i in range(len(v))]
    torch.testing.assert_close(torch.stack(rows), plain_energy(rbm, v, h), rtol=0, atol=1e-12)


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


def transition(rbm, beta):
    """T[v, v'] = sum over h of p(h | v) p(v' | h), from conditionals written out."""
    v, h = binary_states(rbm.visible_units.size), binary_states(rbm.hidden_units.size)
    up = (beta * v @ rbm.weight + rbm.hidden_units.bias_at(beta)).sigmoid()
    down = (beta * h @ rbm.weight.T + rbm.visible_units.bias_at(beta)).sigmoid()
    h_given_v = torch.where(h[None] > 0, up[:, None], 1 - up[:, None]).prod(2)
    v_given_h = torch.where(v[None] > 0, down[:, None], 1 - down[:, None]).prod(2)
    return h_given_v @ v_given_h


def number(states):
    """Index of binary states in the order of `binary_states`."""
    return (states.long() * 2 ** torch.arange(states.shape[1] - 1, -1, -1)).sum(1)


def p_value(counts, expected):
    """Smallest p-value over the rows of a table of counts."""
    statistic = ((counts - expected) ** 2 / expected).sum(1)
    return float(chi2.sf(statistic.numpy(), counts.shape[1] - 1).min())


def tabulated(start, stop, states=8):
    return torch.bincount(number(start) * states + number(stop), minlength=states * states).reshape(states, states).double()


@pytest.mark.parametrize("beta", [1.0, 0.5, "rows"])
def test_a_sweep_makes_the_transitions_that_leave_the_model_invariant(beta):
    """Eight chi-square tests at 1e-4 / 8 each: a sound sampler fails one time in 10,000, with this seed never."""
    rbm = sticky()
    number_beta = 0.7 if beta == "rows" else beta
    exact = transition(rbm, number_beta)
    p = (-rbm.free_energy(binary_states(3), number_beta)).softmax(0)
    torch.testing.assert_close(p @ exact, p, rtol=0, atol=1e-14)
    assert (exact - exact[0]).abs().max() > 0.05  # the start matters
    v = binary_states(3).repeat_interleave(20_000, 0)
    used = torch.full((len(v), 1), 0.7, dtype=torch.float64) if beta == "rows" else beta
    later = rbm.advance(rbm.begin_at(v, generator(3), used), generator(4), 1, used)
    assert p_value(tabulated(v, later[0]), 20_000 * exact) > 1e-4 / 8
    conditional = rbm.hidden_units.mean(used * rbm.up(later[0]), used)
    joint = torch.bincount(number(later[0]) * 4 + number(later[1]), minlength=32).reshape(8, 4)
    h = binary_states(2)
    p_h = torch.where(h[None] > 0, conditional[:, None], 1 - conditional[:, None]).prod(2)
    expected = torch.zeros(8, 4, dtype=torch.float64).index_add_(0, number(later[0]), p_h)
    assert p_value(joint.double(), expected) > 1e-4 / 8


@pytest.mark.parametrize("bf16", [False, True])
def test_dreams_in_float32_and_bf16_make_the_same_transitions(bf16):
    """As above, for the step written by hand, two sweeps of it; bf16 rounds weights by 2^-9, less than counts can see."""
    rbm = sticky()
    exact = torch.linalg.matrix_power(transition(rbm, 1.0), 2)
    v, rbm = binary_states(3).repeat_interleave(20_000, 0).float(), rbm.float()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        _, begun = rbm.observe(v, generator(5))
        dreamt, drawn = rbm.dream(begun, generator(6), 2)
    assert p_value(tabulated(v, drawn[0]), 20_000 * exact) > 1e-4 / 8
    assert torch.equal(dreamt[0], drawn[0])
    means = rbm.activity(drawn[0].float())
    # bf16 rounds inputs of size up to 4 by 1/128, which a sigmoid makes a quarter of, and the mean by 2^-9.
    torch.testing.assert_close(dreamt[1].float(), means, rtol=0, atol=1 / 256 if bf16 else 1e-6)


@pytest.mark.parametrize(("visible", "hidden"), KINDS)
def test_annealing_adds_the_difference_of_exact_unnormalised_logs(visible, hidden):
    rbm = machine(visible, hidden)
    v = visible_states(rbm, visible)
    ratio, _ = rbm.anneal(v, 0.3, 0.8, generator())
    if hidden == "binary":
        h = binary_states(4)
        expected = [(-plain_energy(rbm, v, h, beta)).logsumexp(1) for beta in (0.3, 0.8)]
        torch.testing.assert_close(ratio, expected[1] - expected[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(ratio, rbm.free_energy(v, 0.3) - rbm.free_energy(v, 0.8), rtol=0, atol=1e-12)


def test_annealing_moves_by_the_transition_of_the_next_temperature_and_begins_at_independent_units():
    """Eight chi-square tests at 1e-4 / 8 and one at 1e-4."""
    rbm = sticky()
    v = binary_states(3).repeat_interleave(20_000, 0)
    _, moved = rbm.anneal(v, 0.2, 0.6, generator(7))
    assert p_value(tabulated(v, moved), 20_000 * transition(rbm, 0.6)) > 1e-4 / 8
    logs = -rbm.free_energy(binary_states(3), 0.0)
    assert float(rbm.log_base_partition()) == pytest.approx(float(logs.logsumexp(0)), abs=1e-12)
    begun = rbm.annealing_start(50_000, generator(8))
    counts = torch.bincount(number(begun), minlength=8).double()
    assert p_value(counts[None], 50_000 * logs.softmax(0)[None]) > 1e-4


@pytest.mark.parametrize("kind", VISIBLE)
def test_log_z_is_the_same_over_either_layer(kind):
    rbm = machine(kind)
    exact = float(exact_log_partition(rbm, kind).detach())
    assert rbm.log_partition() == pytest.approx(exact, abs=1e-12)
    if kind == "binary":
        turned = machine(size=4, hidden=6)
        with torch.no_grad():
            turned.weight.copy_(rbm.weight.T)
            turned.visible_units.bias.copy_(rbm.hidden_units.bias)
            turned.hidden_units.bias.copy_(rbm.visible_units.bias)
        assert turned.log_partition() == pytest.approx(exact, abs=1e-12)
    rectified = machine("binary", "relu")
    by_states = (-rectified.free_energy(binary_states(6))).logsumexp(0)
    assert rectified.log_partition() == pytest.approx(float(by_states.detach()), abs=1e-12)


def test_states_are_counted_in_chunks_and_each_comes_once():
    seen = torch.cat(list(all_states(16)))
    assert seen.shape == (2**16, 16)
    assert torch.equal((seen.long() * 2 ** torch.arange(16)).sum(1), torch.arange(2**16))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: RBM((784,), hidden=500), r"got 500 binary units, 2\^500 states, about 10\^1\d\d years"),
        (lambda: RBM((25,), hidden=25), r"2\^25 states, about \d+ seconds"),
        (lambda: RBM((38,), hidden=38), r"2\^38 states, about \d+ hours"),
        (lambda: RBM((20_000,), hidden=20_000, weight_scale=0.0), r"2\^20000 states, about 10\^60\d\d years"),
        (lambda: RBM((9,), hidden=3, visible="softmax", categories=3, hidden_kind="relu"), "got no binary layer"),
    ],
)
def test_what_is_too_large_says_what_it_would_cost_and_what_to_use(model, message):
    built = model() if "20000" not in message else None
    with pytest.raises(TooLarge, match=message) as caught:
        next(all_states(20_000, 20_000**2)) if built is None else built.log_partition()
    assert "annealed_log_partition" in str(caught.value)
    assert "\n" not in str(caught.value)


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


def test_missing_units_are_filled_by_their_distribution_given_the_known_ones():
    """Conditional probabilities by enumeration; 4.5 standard errors of 20,000 independent fillings."""
    rbm = machine(size=6, hidden=4, seed=3).requires_grad_(False)
    known = torch.tensor([1.0, 1, 0, 1, 0, 0], dtype=torch.float64)
    given = torch.tensor([1.0, 0, float("nan"), 1, 7, -3], dtype=torch.float64)
    filled = rbm.fill(given.expand(20_000, -1), known.expand(20_000, -1), generator(), steps=40)
    assert torch.equal(filled[:, known > 0], given[known > 0].expand(20_000, -1))
    v = binary_states(6)
    fits = (v[:, known > 0] == given[known > 0]).all(1)
    expected = (-rbm.free_energy(v[fits])).softmax(0) @ v[fits]
    missing = known == 0
    error = filled.std(0) / math.sqrt(20_000)
    assert ((filled.mean(0) - expected).abs()[missing] < 4.5 * error[missing]).all()
    with pytest.raises(InvalidData, match="known: got nan in example 0, unit 2"):
        rbm.fill(given.expand(2, -1), torch.ones(2, 6), generator())


def twin(rbm):
    peer = BernoulliRBM(n_components=4)
    peer.components_ = rbm.weight.detach().numpy().T.copy()
    peer.intercept_hidden_ = rbm.hidden_units.bias.detach().numpy()
    peer.intercept_visible_ = rbm.visible_units.bias.detach().numpy()
    peer.n_features_in_ = 6
    return peer


class Chosen(np.random.RandomState):
    """Chooses the unit that it was told to."""

    unit = 0

    def randint(self, low, high=None, size=None):
        return np.full(size, self.unit)


def test_scikit_learn_agrees_on_free_energy_features_and_pseudo_likelihood():
    rbm = machine()
    v = binary_states(6)
    peer = twin(rbm)
    with torch.no_grad():
        assert rbm.free_energy(v).numpy() == pytest.approx(peer._free_energy(v.numpy()), abs=1e-12)
        assert rbm(v).numpy() == pytest.approx(peer.transform(v.numpy()), abs=1e-12)
        terms = []
        for unit in range(6):
            peer.random_state = Chosen()
            peer.random_state.unit = unit
            terms.append(peer.score_samples(v.numpy()))
        exact = pseudo_log_likelihood(rbm, v, generator(), exact=True)
    assert exact.numpy() == pytest.approx(np.mean(terms, axis=0), abs=1e-12)


def test_what_does_not_fit_is_refused_in_one_line():
    for make, error, message in (
        (lambda: RBM((4,), hidden=0), InvalidOption, "at least 1"),
        (lambda: RBM((4,), weight_scale=float("nan")), InvalidOption, "weight_scale=nan"),
        (lambda: RBM((4,), visible="binry"), UnknownName, "did you mean binary"),
        (lambda: RBM((4,), hidden_kind="softmax"), UnknownName, "kind of hidden units"),
        (lambda: RBM((4, 2))(torch.zeros(3, 2, 4)), ShapeError, r"expected \(batch, 4, 2\)"),
    ):
        with pytest.raises(error, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_before_training_the_visible_units_have_the_statistics_of_the_data_unless_they_were_learnt():
    rbm = RBM((6,), hidden=4)
    data = (torch.rand(200, 6, generator=generator()) < 0.2).float()
    rbm.prepare(data)
    torch.testing.assert_close(rbm.visible_units.bias.sigmoid(), (data.sum(0) + 1) / 202)
    learnt = rbm.visible_units.bias.detach().clone()
    rbm.prepare(1 - data)
    assert torch.equal(rbm.visible_units.bias, learnt)
    torch.testing.assert_close(rbm.visible_units.base.sigmoid(), (201 - data.sum(0)) / 202)
