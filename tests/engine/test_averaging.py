"""Running means of the weights against a loop written out, and a run with them against a run without."""

import pytest
import torch
from torch import nn

from deepforward.engine import Recipe, averaging, checkpoint, fit, training
from deepforward.engine.evaluation import evaluate
from deepforward.engine.run import Run

SMALL = Recipe(model="perceptron", model_options={"depth": 1, "width": 16}, epochs=3, batch_size=64, seed=2)


def test_the_mean_is_that_of_a_plain_loop():
    """float64 against Python's numbers; the start is forgotten as 1/10 of what was seen, then as the decay says."""
    model, averages = nn.Linear(1, 1).double(), {}
    model.bias.requires_grad_(False)
    decay, mean = 0.99, None
    for step in range(averaging.EVERY, 3000, averaging.EVERY):
        value = float(torch.sin(torch.tensor(step / 50.0, dtype=torch.float64)))
        with torch.no_grad():
            model.weight.fill_(value)
        averaging.update(averages, model, decay, step)
        kept = min(0.99**10, (1 + step) / (100 + step))
        mean = value if mean is None else kept * mean + (1 - kept) * value
        assert float(averages["weight"]) == pytest.approx(mean, abs=1e-12)
    assert set(averages) == {"weight"}


def test_the_first_mean_is_the_weights_and_never_moves_with_them():
    model, averages = nn.Linear(3, 2), {}
    averaging.update(averages, model, 0.999, 0)
    first = {name: value.clone() for name, value in averages.items()}
    assert all(torch.equal(first[name], p) for name, p in model.named_parameters())
    with torch.no_grad():
        model.weight.add_(1)
    assert all(torch.equal(averages[name], value) for name, value in first.items())
    averaging.update(averages, model, 0.999, 10)  # the second keeps 11/110 of the first
    torch.testing.assert_close(averages["weight"], first["weight"] + 0.9)


def test_the_model_has_the_means_inside_the_block_and_its_own_bits_after_it():
    model, averages = nn.Linear(3, 2), {}
    averaging.update(averages, model, 0.9, 0)
    with torch.no_grad():
        model.weight.mul_(1.7)
    own = model.weight.detach().clone()
    with pytest.raises(RuntimeError, match="within"), averaging.averaged(model, averages):
        assert torch.equal(model.weight, averages["weight"])
        raise RuntimeError("within")
    assert torch.equal(model.weight, own)
    with averaging.averaged(model, {}):
        assert torch.equal(model.weight, own)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaging")
    plain = fit(SMALL.replace(averaging=0.0), folder / "plain", quiet=True)
    return plain, fit(SMALL.replace(averaging=0.98), folder / "averaged", quiet=True)


def test_training_goes_on_from_the_weights_themselves(runs):
    newest = [checkpoint.load(run.folder / "checkpoints", "newest")[0] for run in runs]
    raw = [name for name in newest[0] if name.startswith(("model/", "optimizer/"))]
    assert len(raw) > 4
    assert all(torch.equal(newest[0][name], newest[1][name]) for name in raw)
    assert [row["train/loss"] for row in runs[0].history] == [row["train/loss"] for row in runs[1].history]
    assert not any(name.startswith("average/") for name in newest[0])


def test_evaluation_and_the_best_weights_are_those_of_the_means(runs):
    plain, averaged = runs
    assert [row["validation/loss"] for row in plain.history] != [row["validation/loss"] for row in averaged.history]
    newest, best = (checkpoint.load(averaged.folder / "checkpoints", name)[0] for name in ("newest", "best"))
    assert averaged.result["best_epoch"] == 3  # so that both are of the same step
    means = {name.removeprefix("average/"): value for name, value in newest.items() if name.startswith("average/")}
    assert means
    assert all(torch.equal(best[f"model/{name}"], value) for name, value in means.items())
    parts = averaged.parts("best")
    assert evaluate(parts, parts.validation)["loss"] == averaged.history[-1]["validation/loss"]
    assert evaluate(parts, parts.data.test)["accuracy"] == averaged.metrics["test/accuracy"]


@pytest.mark.parametrize(("batch_size", "steps"), [(243, 5), (135, 9), (122, 10), (111, 11)])
def test_before_the_tenth_step_the_weights_themselves_are_evaluated(tmp_path, batch_size, steps):
    """Of 1212 training examples: the mean begins with the weights after ten steps, not with those of the first."""
    recipe = SMALL.replace(epochs=1, batch_size=batch_size)
    plain = fit(recipe.replace(averaging=0.0), tmp_path / "plain", quiet=True)
    run = fit(recipe.replace(averaging=0.999), tmp_path / "averaged", quiet=True)
    assert run.history[-1]["step"] == steps
    newest, best = (checkpoint.load(run.folder / "checkpoints", name)[0] for name in ("newest", "best"))
    alike = [torch.equal(value, newest[name]) for name, value in best.items() if name.startswith("model/")]
    assert all(alike) == (steps <= 10)
    assert any(name.startswith("average/") for name in newest) == (steps >= 10)
    assert (run.metrics == plain.metrics) == (steps <= 10)


def test_an_interrupted_run_has_the_same_means(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    whole, original, steps = runs[1], training.Training._train_step, 0

    def dying(self, indices):
        nonlocal steps
        steps += 1
        original(self, indices)
        if steps in (7, 20, 31):
            raise KeyboardInterrupt

    monkeypatch.setattr(training.Training, "_train_step", dying)
    while not (tmp_path / "run" / "result.json").exists():
        try:
            fit(whole.recipe, tmp_path / "run", resume=True, quiet=True)
        except KeyboardInterrupt:
            continue
    assert steps > 31
    for name in ("newest", "best"):
        one, other = (checkpoint.load(run.folder / "checkpoints", name)[0] for run in (whole, Run.open(tmp_path / "run")))
        assert all(torch.equal(value, other[key]) for key, value in one.items())
