"""Contrastive divergence, persistent chains and parallel tempering against enumeration, and through whole runs."""

import itertools
import math

import pytest
import torch
from scipy.stats import chi2

from deepforward.data import load
from deepforward.data.dataset import Batch, Dataset, Split
from deepforward.engine import Recipe, checkpoint, fit, training
from deepforward.engine.run import Run
from deepforward.errors import InvalidData, InvalidModel, InvalidOption, UnknownName
from deepforward.models.energy import RBM
from deepforward.objectives.energy import ContrastiveDivergence, swapped
from deepforward.objectives.objective import Objective

#: An RBM small enough that its likelihood is exact, on digits, as fast as a test must be.
SMALL = Recipe(
    model="rbm",
    model_options={"hidden": 16, "weight_scale": 0.1},
    objective_options={"binarize": "threshold", "persistent": False},
    epochs=60,
    learning_rate=1.0,
    averaging=0.99,
    precision="fp32",
    probe_budget=0.0,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def binary_states(units):
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=units)))


def number(states):
    """Index of binary states in the order of `binary_states`."""
    return (states.long() * 2 ** torch.arange(states.shape[-1] - 1, -1, -1)).sum(-1)


def sticky(scale=1.0):
    """3 x 2 units with strong weights, whose states are far from independent and change slowly."""
    rbm = RBM((3,), hidden=2).requires_grad_(False)
    rbm.weight.copy_(scale * torch.tensor([[4.0, -3.0], [-4.0, 3.0], [3.0, 4.0]]))
    rbm.visible_units.bias.copy_(scale * torch.tensor([-0.5, 0.5, -3.0]))
    rbm.hidden_units.bias.copy_(scale * torch.tensor([-1.0, -0.5]))
    rbm.visible_units.base.copy_(torch.tensor([0.5, -0.5, 0.2]))
    return rbm


def test_neighbours_swap_as_often_as_detailed_balance_asks():
    """Each of 64 pairs of states, 2,000 times: a rate of acceptance errs by more than 4.5 errors one time in 150,000."""
    rbm, v, betas = sticky(), binary_states(3), torch.tensor([0.3, 0.8])
    low, high = v.repeat_interleave(8, 0), v.repeat(8, 1)
    pairs = torch.stack((low, high)).repeat_interleave(2000, 1)
    log_p = torch.stack([(-rbm.free_energy(v, float(beta))).double().log_softmax(0) for beta in betas])
    joint = (log_p[0][:, None] + log_p[1][None]).exp()
    accept = (joint.T / joint).clamp(max=1)  # from (x, y) to (y, x)
    torch.testing.assert_close(joint * accept, (joint * accept).T)  # detailed balance, exactly
    counts = []
    for seed in range(8):
        order = swapped(rbm, pairs, pairs @ rbm.weight, betas, generator(seed))
        assert torch.equal(order.sort(0).values, torch.arange(2)[:, None].expand(2, order.shape[1]))
        counts.append((order[0] == 1).reshape(64, 2000).sum(1))
    idle = [not count.any() for count in counts]
    assert 0 < sum(idle) < 8  # the coin: a pair may begin at an odd temperature, where there is none
    rate = counts[idle.index(False)] / 2000
    expected = accept.flatten()
    error = (expected * (1 - expected) / 2000).sqrt()
    assert ((rate - expected).abs() <= 4.5 * error + 1e-6).all()
    assert expected.min() < 0.3  # most swaps are a matter of chance


def test_many_temperatures_swap_in_disjoint_pairs():
    rbm, betas = sticky(), torch.linspace(0, 1, 5)
    visible = (torch.rand(5, 300, 3, generator=generator()) < 0.5).float()
    seen = set()
    for seed in range(6):
        order = swapped(rbm, visible, visible @ rbm.weight.to(visible.dtype), betas, generator(seed))
        moved = (order - torch.arange(5)[:, None]).abs()
        assert moved.max() == 1
        seen.add(tuple(sorted({int(t) for t in (order - torch.arange(5)[:, None] == 1).any(1).nonzero()})))
    assert seen == {(0, 2), (1, 3)}


def tempered(rbm, temperatures, chains):
    objective = ContrastiveDivergence(persistent=True, temperatures=temperatures, chains=chains)
    bias, base = rbm.visible_units.bias.clone(), rbm.visible_units.base.clone()
    objective.prepare(rbm, torch.full((10, 3), 0.5), generator(1))
    rbm.visible_units.bias.copy_(bias)
    rbm.visible_units.base.copy_(base)
    return objective


def test_every_temperature_keeps_its_distribution_under_sweeps_and_swaps():
    """Chi-square over 8 states at each of 4 temperatures, 1e-4 / 4 each, of 20,000 independent ladders after 60 steps.

    The hidden units are part of the state: with those of another temperature the next sweep would begin from the wrong place.
    """
    rbm, chains = sticky(), 20_000
    objective, rng = tempered(rbm, 4, chains), generator(2)
    for _ in range(60):
        expected = objective._tempered(rbm, rng)
    assert torch.equal(expected[0], objective.persistent_chains[0][-chains:])
    torch.testing.assert_close(expected[1], rbm.activity(expected[0]))
    v, h = binary_states(3), binary_states(2)
    for level, beta in enumerate(torch.linspace(0, 1, 4).tolist()):
        visible, hidden = (values[level * chains : (level + 1) * chains] for values in objective.persistent_chains)
        joint = beta * v @ rbm.weight @ h.T + (v @ rbm.visible_units.bias_at(beta))[:, None]
        p = (joint + (h @ rbm.hidden_units.bias_at(beta))[None]).double().flatten().softmax(0)
        counts = torch.bincount(number(visible) * 4 + number(hidden), minlength=32).double()
        likely = p * chains > 5  # what is rarer goes into one class, as the approximation by chi-square asks
        seen = torch.cat((counts[likely], counts[~likely].sum()[None]))
        wanted = chains * torch.cat((p[likely], p[~likely].sum()[None]))
        statistic = float(((seen - wanted) ** 2 / wanted.clamp(min=1e-9)).sum())
        assert chi2.sf(statistic, len(seen) - 1) > 1e-4 / 4, (level, statistic, len(seen))


@pytest.mark.parametrize("temperatures", [1, 3])
def test_persistent_chains_begin_as_draws_of_the_model(temperatures):
    """Chi-square over 8 states at 1e-4 / 3 for each temperature; independent units are far off."""
    rbm, chains = sticky(), 20_000
    bias, base = rbm.visible_units.bias.clone(), rbm.visible_units.base
    objective = ContrastiveDivergence(persistent=True, temperatures=temperatures, chains=chains)
    with torch.autocast("cpu", torch.bfloat16):
        objective.prepare(rbm, torch.full((10, 3), 0.4), generator(1))
    assert torch.equal(rbm.visible_units.bias, bias) and not torch.equal(bias, base)  # learnt before, and so it stays
    visible = objective.persistent_chains[0].reshape(temperatures, chains, 3)
    assert visible.dtype == torch.float32
    for drawn, beta in zip(visible, torch.linspace(0, 1, temperatures) if temperatures > 1 else [1.0], strict=True):
        p = chains * (-rbm.free_energy(binary_states(3), float(beta))).double().softmax(0)
        counts = torch.bincount(number(drawn), minlength=8).double()
        assert chi2.sf(float(((counts - p) ** 2 / p).sum()), 7) > 1e-4 / 3
    independent = torch.bincount(number(rbm.start(chains, generator())[0]), minlength=8).double()
    assert chi2.sf(float(((independent - p) ** 2 / p).sum()), 7) < 1e-100


@pytest.mark.parametrize(("options", "steps"), [({}, 1), ({"steps": 3}, 3), ({"persistent": True, "chains": 7}, 1)])
@pytest.mark.parametrize("centre", [False, True])
def test_the_signal_is_the_gradient_of_the_gap_between_data_and_chains(options, steps, centre):
    """The same draws made by hand; exact, since it is the same arithmetic, but for the order of sums."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rbm = RBM((6,), hidden=4, weight_scale=1.0)
    data = torch.rand(20, 6, generator=generator())
    objective = ContrastiveDivergence(centre=centre, **options)
    objective.prepare(rbm, data, generator(1))
    chains, before = objective.persistent_chains, objective.get_buffer("offset1").clone()
    (signal,) = objective.signals(rbm, Batch(data, torch.zeros(20)), generator(2))
    signal.loss.backward()
    rng = generator(2)
    seen = rbm.realise(data, "stochastic", rng)
    if chains:
        state = rbm.clamp(seen, rng)
        dreamt, drawn = rbm.dream(chains, rng, steps)
        assert all(torch.equal(a, b) for a, b in zip(objective.persistent_chains, drawn, strict=True))
    else:
        state, begun = rbm.observe(seen, rng)
        dreamt, _ = rbm.dream(begun, rng, steps)
    rbm_twin = RBM((6,), hidden=4)
    rbm_twin.load_state_dict(rbm.state_dict())
    (rbm_twin.free_energy(seen).mean() - rbm_twin.free_energy(dreamt[0]).mean()).backward()
    raw = {name: p.grad for name, p in rbm_twin.named_parameters()}
    if centre:
        mean = before.lerp(state[1].mean(0), 0.01)
        torch.testing.assert_close(objective.get_buffer("offset1"), mean)
        rbm.recentre(raw, (objective.get_buffer("offset0"), mean))
    for name, expected in raw.items():
        torch.testing.assert_close(rbm.get_parameter(name).grad, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("centre", [False, True])
def test_the_sparsity_gradient_is_that_of_its_cost_in_the_same_parametrisation(centre):
    """In float64 by autograd of the cost written out; centred, through W, b + W l and c + W' m."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rbm = RBM((6,), hidden=4, weight_scale=1.0).double()
    data = torch.rand(20, 6, generator=generator(), dtype=torch.float64).round()
    objective = ContrastiveDivergence(centre=centre, sparsity=0.1, sparsity_cost=0.7)
    objective.prepare(rbm, data, generator(1))
    found = objective._sparsity_gradients(rbm, data)
    m, mean_h = objective._offsets
    weight = rbm.weight.detach().clone().requires_grad_(True)
    upper = (rbm.hidden_units.bias + m @ rbm.weight).detach().requires_grad_(True)
    q = (data @ weight + upper - m @ weight).sigmoid().mean(0)
    cost = -0.7 * (0.1 * q.log() + 0.9 * (1 - q).log()).sum()
    if centre:
        step, up = torch.autograd.grad(cost, (weight, upper))
        expected = {"weight": step, "visible_units.bias": -step @ mean_h, "hidden_units.bias": up - m @ step}
    else:
        bias = rbm.hidden_units.bias.detach().clone().requires_grad_(True)
        q = (data @ weight + bias).sigmoid().mean(0)
        step, up = torch.autograd.grad(-0.7 * (0.1 * q.log() + 0.9 * (1 - q).log()).sum(), (weight, bias))
        expected = {"weight": step, "visible_units.bias": torch.zeros(6, dtype=torch.float64), "hidden_units.bias": up}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12)


@pytest.fixture(autouse=True, scope="module")
def no_pictures():
    """Portraits take longer than these runs; `test_energy_portrait` looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("snapshot", "portrait"):
            patch.setattr(ContrastiveDivergence, name, getattr(Objective, name))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")

    def run(name, recipe=SMALL, **options):
        return fit(recipe.replace(objective_options=dict(SMALL.objective_options) | options), folder / name, quiet=True)

    return {
        "cd": run("cd"),
        "pcd": run("pcd", persistent=True),
        "sparse": run("sparse", SMALL.replace(epochs=10), persistent=True, sparsity=0.1, sparsity_cost=5.0),
    }


def independent_units(run):
    """Mean log-likelihood of the test digits under the share of ones of each pixel in the training split, nats."""
    parts = run.parts()
    train, test = ((parts.scaling(split.inputs).flatten(1) > 0.5).double() for split in (parts.train, parts.data.test))
    share = (train.sum(0) + 1) / (len(train) + 2)
    return float((test * share.log() + (1 - test) * (-share).log1p()).sum(1).mean())


def test_persistent_chains_learn_more_than_one_step_and_both_more_than_independent_units(trained):
    """Exact likelihoods at a fixed seed; measured -18.10 (PCD), -18.24 (CD-1), -24.9 nats."""
    cd, pcd = (trained[name].metrics["test/log_likelihood"] for name in ("cd", "pcd"))
    assert pcd > cd + 0.07
    assert cd > independent_units(trained["cd"]) + 5
    assert trained["pcd"].metrics["test/log_likelihood_low"] == pcd  # counted, not estimated
    result = trained["pcd"].result["metrics"]
    assert result["log_partition"] == result["log_partition_low"] == result["log_partition_high"]


def test_hidden_units_are_as_sparse_as_asked(trained):
    def activity(run):
        parts = run.parts()
        seen = (parts.scaling(parts.train.inputs).flatten(1) > 0.5).float()
        with torch.no_grad():
            return parts.model.activity(seen).mean(0)

    asked, free = activity(trained["sparse"]), activity(trained["pcd"])
    assert (asked - 0.1).abs().max() < 0.1
    assert abs(float(asked.mean()) - 0.1) < 0.05
    assert free.mean() > 0.25


def test_the_history_tells_how_chains_and_units_fare(trained):
    row = trained["pcd"].history[-1]
    assert 0.7 < row["chains/mixing"] < 1.3
    assert 0.7 < row["chains/diversity"] < 1.3
    assert row["units/dead"] == row["units/always_on"] == 0
    assert math.isfinite(row["train/free_energy"])
    assert -64 * math.log(2) < row["validation/pseudo_log_likelihood"] < 0
    assert 0 < row["validation/reconstruction"] < 0.25
    assert "test/pseudo_log_likelihood" in trained["cd"].metrics


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "options", [{"persistent": True}, {"persistent": True, "temperatures": 4, "chains": 20}, {"persistent": False}]
)
def test_an_interrupted_run_has_the_same_weights_chains_and_means(tmp_path, monkeypatch, precision, options):
    recipe = SMALL.replace(epochs=2, precision=precision, averaging=0.9, objective_options={**options, "ais_chains": 0})
    whole = fit(recipe, tmp_path / "whole", quiet=True)
    assert whole.result["arithmetic"]["precision"] == precision
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    original, steps = training.Training._train_step, 0

    def dying(self, indices):
        nonlocal steps
        steps += 1
        original(self, indices)
        if steps in (5, 9, 20):
            raise KeyboardInterrupt

    monkeypatch.setattr(training.Training, "_train_step", dying)
    while not (tmp_path / "broken" / "result.json").exists():
        try:
            fit(recipe, tmp_path / "broken", resume=True, quiet=True)
        except KeyboardInterrupt:
            continue
    assert steps > 20
    for name in ("newest", "best"):
        one, other = (checkpoint.load(folder / "checkpoints", name)[0] for folder in (tmp_path / "whole", tmp_path / "broken"))
        assert one.keys() == other.keys()
        assert any("chain1" in key for key in one) == options["persistent"]
        assert [key for key in one if not torch.equal(one[key].float(), other[key].float())] == []
    timing = {"seconds", "examples_per_second"}
    rows = [
        [{k: v for k, v in row.items() if k not in timing} for row in r.history] for r in (whole, Run.open(tmp_path / "broken"))
    ]
    assert rows[0] == rows[1]


def test_a_seed_fixes_every_bit_and_another_changes_them(tmp_path):
    short = SMALL.replace(epochs=1, objective_options={"persistent": True})
    weights = [
        checkpoint.load(fit(recipe, tmp_path / str(i), quiet=True).folder / "checkpoints", "newest")[0]
        for i, recipe in enumerate((short, short, short.replace(seed=1)))
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not torch.equal(weights[0]["model/weight"], weights[2]["model/weight"])
    assert not torch.equal(weights[0]["objective/chain0"], weights[2]["objective/chain0"])


def test_the_biases_begin_at_the_data_as_they_will_be_seen():
    """A pixel of 0.3 is 1 in three of ten draws, and never above a threshold of one half."""
    data = torch.full((98, 4), 0.3)
    for binarize, share in (("stochastic", (98 * 0.3 + 1) / 100), ("none", (98 * 0.3 + 1) / 100), ("threshold", 0.01)):
        rbm = RBM((4,), hidden=2)
        ContrastiveDivergence(binarize=binarize).prepare(rbm, data, generator())
        torch.testing.assert_close(rbm.visible_units.bias.sigmoid(), torch.full((4,), share), rtol=0, atol=1e-6)


def test_gaussian_and_rectified_units_train_and_bring_no_pseudo_likelihood_of_flipped_reals(tmp_path):
    recipe = SMALL.replace(epochs=2, learning_rate=0.01, scaling="standardise", objective_options={"ais_temperatures": 20})
    run = fit(recipe.replace(model_options={"hidden": 8, "visible": "gaussian"}), tmp_path / "gaussian", quiet=True)
    assert "validation/pseudo_log_likelihood" not in run.history[-1]
    assert math.isfinite(run.metrics["test/log_likelihood"])
    relu = recipe.replace(model_options={"hidden": 8, "hidden_kind": "relu"}, scaling="min-max")
    assert "validation/pseudo_log_likelihood" in fit(relu, tmp_path / "relu", quiet=True).history[-1]


def test_one_chain_is_enough_to_train_and_too_few_to_compare(tmp_path):
    recipe = SMALL.replace(epochs=1, objective_options={"persistent": True, "chains": 1})
    assert "chains/mixing" not in fit(recipe, tmp_path / "run", quiet=True).history[-1]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"scaling": "none"}, InvalidData, r"data: got \d+ in example 0, unit \d+; expected numbers from 0 to 1"),
        ({"objective_options": {"persistent": True, "chains": 0}}, InvalidOption, "chains=0"),
        ({"objective_options": {"temperatures": 3, "persistent": False}}, InvalidOption, "expected persistent=true"),
        ({"objective_options": {"steps": True}}, InvalidOption, "steps=True"),
        ({"objective_options": {"ais_temperatures": 1}}, InvalidOption, "ais_temperatures=1"),
        ({"objective_options": {"sparsity": 1.0}}, InvalidOption, "between 0 and 1"),
        ({"objective_options": {"sparsity": 0.1, "sparsity_cost": -1.0}}, InvalidOption, "sparsity_cost=-1.0"),
        ({"objective_options": {"binarize": "round"}}, UnknownName, "binarisation"),
        ({"objective_options": {"chain": 3}}, InvalidOption, "chain"),
        ({"objective_options": {"sparsity": 0.1}, "model_options": {"hidden_kind": "relu"}}, InvalidOption, "RectifiedUnits"),
        ({"model": "perceptron", "model_options": {}, "objective": "contrastive-divergence"}, InvalidModel, "for example rbm"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(tmp_path, changes, error, message):
    with pytest.raises(error, match=message) as caught:
        fit(SMALL.replace(epochs=1, **changes), tmp_path / "run", quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_data_that_are_not_numbers_are_refused_in_one_line(tmp_path):
    digits = load("digits")
    inputs = digits.train.inputs.float() / 16
    inputs[5, 0, 3, 3] = float("nan")
    with pytest.raises(InvalidData) as caught:
        data = Dataset(
            digits.name, Split(inputs, digits.train.targets), Split(inputs[:10], digits.train.targets[:10]), digits.classes
        )
        fit(SMALL.replace(epochs=1, scaling="none", validation=0.0), tmp_path / "run", quiet=True, data=data)
    assert "\n" not in str(caught.value)
