"""Convolutional Boltzmann machines: as matrices, by enumeration of tiny ones, and trained."""

import itertools
import math

import pytest
import torch
from scipy.stats import chi2

from deepforward.engine import Recipe, fit
from deepforward.errors import InvalidOption, ShapeError, TooLarge, UnknownName
from deepforward.metrics.likelihood import annealed_log_partition
from deepforward.models.energy import RBM, ConvolutionalRBM

TINY = [
    {"maps": 2, "kernel": 2},
    {"maps": 2, "kernel": 2, "pool": 2},
    {"maps": 1, "kernel": 1, "pool": 3},
    {"maps": 2, "kernel": 3},
    {"maps": 2, "kernel": 2, "visible": "gaussian"},
    {"maps": 1, "kernel": 2, "visible": "gaussian", "pool": 2},
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def binary_states(units):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=units)), dtype=torch.float64)


def machine(shape=(1, 3, 3), seed=0, scale=1.0, **options):
    model = ConvolutionalRBM(shape, **options).double()
    rng = generator(seed)
    with torch.no_grad():
        for value in [*model.parameters(), model.visible_units.base]:
            value.copy_(scale * torch.randn(value.shape, generator=rng))
        if hasattr(model.visible_units, "log_precision"):
            model.visible_units.log_precision.zero_()
    return model


def dense(model):
    """The same weights as one matrix (visible, hidden), entry by entry, and the biases of each unit; differentiable."""
    channels, height, width = model.input_shape
    maps, rows, columns = model.map_shape
    matrix = torch.zeros(channels, height, width, maps, rows, columns, dtype=torch.float64)
    for k, c, y, x, i, j in itertools.product(
        range(maps), range(channels), range(rows), range(columns), range(model.kernel), range(model.kernel)
    ):
        spot = torch.zeros_like(matrix)
        spot[c, y + i, x + j, k, y, x] = 1
        matrix = matrix + spot * model.weight[k, c, i, j]
    matrix = matrix.reshape(channels * height * width, -1)
    lower = model.visible_units.bias.repeat_interleave(height * width)
    return matrix, lower, model.hidden_units.bias.repeat_interleave(rows * columns)


def hidden_states(model, pool):
    """All states of the hidden layer in which no block of pool x pool units of a map has two ones."""
    maps, rows, columns = model.map_shape
    states = binary_states(maps * rows * columns)
    if pool < 2:
        return states
    pictures = states.reshape(-1, maps, rows, columns)
    sums = torch.nn.functional.avg_pool2d(pictures, pool) * pool**2
    return states[(sums.round() <= 1).flatten(1).all(1)]


def visible_states(model, options):
    if options.get("visible") == "gaussian":
        return torch.randn(6, model.visible_units.size, generator=generator(3), dtype=torch.float64)
    return binary_states(model.visible_units.size)[::5]


def plain_energy(model, v, h):
    matrix, lower, upper = dense(model)
    energy = -(v @ matrix) @ h.T - (v @ lower)[:, None] - (h @ upper)[None]
    return energy + 0.5 * v.square().sum(1)[:, None] if not model.is_flippable else energy


def exact_log_partition(model, options):
    """Over all hidden states, the visible units summed or integrated; differentiable."""
    h = hidden_states(model, options.get("pool", 0))
    matrix, lower, upper = dense(model)
    total = h @ matrix.T + lower
    each = (
        torch.logaddexp(total, torch.zeros_like(total)) if model.is_flippable else (total.square() + math.log(2 * math.pi)) / 2
    )
    return (each.sum(1) + h @ upper).logsumexp(0)


@pytest.mark.parametrize("shape", [(1, 3, 3), (2, 4, 3)])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_up_and_down_are_a_matrix_and_its_transpose(shape, kernel):
    model = machine(shape, maps=3, kernel=kernel)
    matrix, _, _ = dense(model)
    v = torch.randn(5, matrix.shape[0], generator=generator(1), dtype=torch.float64)
    h = torch.randn(5, matrix.shape[1], generator=generator(2), dtype=torch.float64)
    torch.testing.assert_close(model.up(v), v @ matrix, rtol=0, atol=1e-12)
    torch.testing.assert_close(model.down(h), h @ matrix.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", TINY, ids=str)
def test_energy_free_energy_and_means_are_those_of_enumeration(options):
    model = machine(**options)
    v, h = visible_states(model, options), hidden_states(model, options.get("pool", 0))
    joint = plain_energy(model, v, h)
    for row in (0, len(v) // 2):
        found = model.energy((v[row].expand(len(h), -1), h))
        torch.testing.assert_close(found, joint[row], rtol=0, atol=1e-12)
    torch.testing.assert_close(model.free_energy(v), -(-joint).logsumexp(1), rtol=0, atol=1e-12)
    means = (-joint).softmax(1) @ h
    torch.testing.assert_close(model.activity(v), means, rtol=0, atol=1e-12)
    pool, (maps, rows, columns) = options.get("pool", 0), model.map_shape
    features = model(v.reshape(-1, *model.input_shape))
    if pool > 1:
        blocks = torch.nn.functional.avg_pool2d(means.reshape(-1, maps, rows, columns), pool).flatten(1) * pool**2
        torch.testing.assert_close(features, blocks, rtol=0, atol=1e-12)
    else:
        torch.testing.assert_close(features, means, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", TINY, ids=str)
def test_gradients_are_those_of_the_enumerated_likelihood(options):
    """Data phase minus model phase over all states, against autograd of log p; by hand and by autograd of the gap."""
    model = machine(**options, scale=0.5)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    data = visible_states(model, options)[:4]
    exact = torch.autograd.grad(model.free_energy(data).mean() + exact_log_partition(model, options), list(named.values()))
    # The model phase: for each hidden state its probability, and the mean visible units given it.
    h = hidden_states(model, options.get("pool", 0))
    matrix, lower, upper = (x.detach() for x in dense(model))
    total = h @ matrix.T + lower
    each = torch.logaddexp(total, torch.zeros_like(total)) if model.is_flippable else total.square() / 2
    p = (each.sum(1) + h @ upper).softmax(0)
    mean = total.sigmoid() if model.is_flippable else total
    positive = model.energy(model.clamp(data, generator())).mean()
    negative = (p * model.energy((mean, h))).sum()
    phases = torch.autograd.grad(positive - negative, list(named.values()))
    for name, one, other in zip(named, phases, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12, msg=name)
    chains = model.expected(model.advance(model.start(3, generator(4)), generator(5), 2))
    gap = model.free_energy(data).mean() - model.free_energy(chains[0]).mean()
    expected = torch.autograd.grad(gap, list(named.values()))
    by_hand = model.gap_gradients(model.clamp(data, generator()), chains)
    assert set(by_hand) == set(named)
    for name, value in zip(named, expected, strict=True):
        torch.testing.assert_close(by_hand[name], value, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("options", [{"maps": 2, "kernel": 2}, {"maps": 2, "kernel": 2, "pool": 2}], ids=str)
def test_centring_is_the_gradient_in_the_parametrisation_with_channel_means(options):
    """Two channels; W, b as they are, c + W m as the hidden bias, by autograd of the enumerated likelihood."""
    model = machine((2, 3, 3), **options, scale=0.5)
    named = dict(model.named_parameters())
    data = (torch.rand(5, 18, generator=generator(1), dtype=torch.float64) < 0.5).double()
    offset = torch.rand(18, generator=generator(2), dtype=torch.float64)
    raw = dict(
        zip(
            named,
            torch.autograd.grad(model.free_energy(data).mean() + exact_log_partition(model, options), list(named.values())),
            strict=True,
        )
    )
    m = offset.reshape(2, 9).mean(1)
    weight = model.weight.detach().clone().requires_grad_(True)
    lower = model.visible_units.bias.detach().clone().requires_grad_(True)
    upper = (model.hidden_units.bias + model.weight.sum((2, 3)) @ m).detach().requires_grad_(True)
    parameters = {"weight": weight, "visible_units.bias": lower, "hidden_units.bias": upper - weight.sum((2, 3)) @ m}

    def loss(module):
        return module.free_energy(data).mean() + exact_log_partition(module, options)

    value = torch.func.functional_call(_Loss(model, loss), {f"model.{name}": p for name, p in parameters.items()}, ())
    step, down, up = torch.autograd.grad(value, (weight, lower, upper))
    expected = {"weight": step, "visible_units.bias": down, "hidden_units.bias": up - step.sum((2, 3)) @ m}
    model.recentre(raw, (offset, torch.zeros(0)))
    for name in expected:
        torch.testing.assert_close(raw[name], expected[name], rtol=0, atol=1e-12, msg=name)


class _Loss(torch.nn.Module):
    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self):
        return self.loss(self.model)


@pytest.mark.parametrize("beta", [1.0, 0.5])
@pytest.mark.parametrize("options", [{"maps": 2, "kernel": 2}, {"maps": 2, "kernel": 1, "pool": 2}], ids=str)
def test_a_sweep_leaves_the_model_invariant_and_moves_as_its_conditionals_say(options, beta):
    """2 x 2 pixels: 16 chi-square tests over 16 states at 1e-4 / 16 each; one time in 10,000 by chance."""
    model = machine((1, 2, 2), seed=1, scale=1.5, **options).requires_grad_(False)
    v, h = binary_states(4), hidden_states(model, options.get("pool", 0))
    matrix, _, _ = dense(model)
    lower, upper = model.visible_units.bias_at(beta), model.hidden_units.bias_at(beta)
    h_given_v = (beta * v @ matrix @ h.T + (h @ upper)[None]).softmax(1)
    v_given_h = (beta * h @ matrix.T @ v.T + (v @ lower)[None]).softmax(1)
    exact = h_given_v @ v_given_h
    p = (-model.free_energy(v, beta)).softmax(0)
    torch.testing.assert_close(p @ exact, p, rtol=0, atol=1e-13)
    rows = v.repeat_interleave(5_000, 0)
    later, _ = model.advance(model.begin_at(rows, generator(2), beta), generator(3), 1, beta)
    place = 2 ** torch.arange(3, -1, -1)
    pairs = (rows.long() * place).sum(1) * 16 + (later.long() * place).sum(1)
    counts = torch.bincount(pairs, minlength=256).reshape(16, 16)
    likely = exact * 5_000 > 5  # rarer ones are one class, as the approximation asks
    for row in range(16):
        seen = torch.cat((counts[row][likely[row]], counts[row][~likely[row]].sum()[None])).double()
        wanted = 5_000 * torch.cat((exact[row][likely[row]], exact[row][~likely[row]].sum()[None]))
        statistic = float(((seen - wanted) ** 2 / wanted.clamp(min=1e-9)).sum())
        assert chi2.sf(statistic, len(seen) - 1) > 1e-4 / 16


def test_a_kernel_as_large_as_the_image_is_a_plain_machine():
    """One position a map: the same numbers as an RBM with that weight matrix and one visible bias."""
    model = machine((1, 3, 3), maps=5, kernel=3)
    plain = RBM((1, 3, 3), hidden=5).double()
    with torch.no_grad():
        plain.weight.copy_(model.weight.reshape(5, 9).T)
        plain.visible_units.bias.fill_(model.visible_units.bias.item())
        plain.hidden_units.bias.copy_(model.hidden_units.bias)
    v = binary_states(9)[::3]
    torch.testing.assert_close(model.free_energy(v), plain.free_energy(v), rtol=0, atol=1e-12)
    assert model.log_partition() == pytest.approx(plain.log_partition(), abs=1e-12)


@pytest.mark.parametrize("visible", ["binary", "gaussian"])
def test_annealing_of_several_channels_adds_the_difference_of_exact_logs(visible):
    model = machine((2, 3, 3), maps=2, kernel=2, visible=visible, scale=0.5).requires_grad_(False)
    v = (torch.rand(6, 18, generator=generator(), dtype=torch.float64) < 0.5).double()
    ratio, _ = model.anneal(v, 0.3, 0.8, generator())
    torch.testing.assert_close(ratio, model.free_energy(v, 0.3) - model.free_energy(v, 0.8), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", TINY, ids=str)
def test_log_z_is_counted_where_it_can_be_and_annealing_finds_it(options):
    """200 chains through 400 temperatures; 0.1 nat is what the project asks of annealing."""
    model = machine(**options, scale=0.5).requires_grad_(False)
    exact = float(exact_log_partition(model, options))
    if model.is_flippable or options.get("pool", 0) < 2:
        assert model.log_partition() == pytest.approx(exact, abs=1e-10)
    else:
        with pytest.raises(TooLarge, match="annealed"):
            model.log_partition()
    found = annealed_log_partition(model, generator(1), chains=200, temperatures=400)
    assert abs(found.log_partition - exact) < 0.1


def test_missing_pixels_are_filled_and_known_ones_kept():
    model = machine((1, 4, 4), maps=2, kernel=2).requires_grad_(False)
    v = (torch.rand(6, 16, generator=generator(), dtype=torch.float64) < 0.5).double()
    known = torch.arange(16).remainder(2).expand(6, -1).double()
    filled = model.fill(v, known, generator(1), steps=5)
    assert torch.equal(filled[known > 0], v[known > 0])
    assert ((filled > 0) & (filled < 1))[known == 0].all()


@pytest.mark.parametrize("pool", [0, 2])
def test_training_beats_independent_units_and_annealing_measures_it(tmp_path, pool):
    """Digits: the shared rate of one bias a channel gives -39.2 nats; trained ones reach -33.5 and, pooled, -34.7."""
    recipe = Recipe(
        model="convolutional-rbm",
        model_options={"maps": 12, "kernel": 3, "pool": pool},
        objective_options={"persistent": True, "chains": 50, "ais_chains": 20, "ais_temperatures": 300},
        epochs=6,
        learning_rate=0.1 if pool else 0.05,
        averaging=0.9,
        probe_budget=0.0,
    )
    run = fit(recipe, tmp_path / "run", quiet=True)
    parts = run.parts("best")
    test = parts.scaling(parts.data.test.inputs).flatten(1)
    share = parts.model.visible_units.base.sigmoid()
    independent = float((test * share.log() + (1 - test) * (1 - share).log()).sum(1).mean())
    assert run.metrics["test/log_likelihood_high"] - run.metrics["test/log_likelihood_low"] < 2
    assert run.metrics["test/log_likelihood_low"] > independent + 2
    assert run.metrics["test/pseudo_log_likelihood"] > independent + 2
    again = fit(recipe, tmp_path / "again", quiet=True)
    assert again.metrics == run.metrics


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ConvolutionalRBM((64,)), ShapeError, "expected .channels, height, width"),
        (lambda: ConvolutionalRBM((1, 4, 9)), ShapeError, "5x5"),
        (lambda: ConvolutionalRBM((1, 8, 8), maps=0), InvalidOption, "maps=0"),
        (lambda: ConvolutionalRBM((1, 8, 8), kernel=0), InvalidOption, "kernel=0"),
        (lambda: ConvolutionalRBM((1, 8, 8), kernel=4, pool=2), InvalidOption, "5x5 units and pool=2"),
        (lambda: ConvolutionalRBM((1, 8, 8), weight_scale=-1.0), InvalidOption, "weight_scale=-1.0"),
        (lambda: ConvolutionalRBM((1, 8, 8), visible="softmax"), UnknownName, "kind of visible units"),
        (lambda: ConvolutionalRBM((1, 8, 8))(torch.zeros(2, 1, 8, 9)), ShapeError, r"expected \(batch, 1, 8, 8\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
