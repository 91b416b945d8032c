"""Pictures of a run's way: at fixed epochs, the same bits whether interrupted or not, and training never notices."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepforward.engine import Recipe, Run, checkpoint, fit, snapshots, training
from deepforward.engine import step as step_module
from deepforward.engine.evaluation import snapshot
from deepforward.errors import CorruptRun, Diverged

SMALL = Recipe(
    model="rbm",
    model_options={"hidden": 8},
    epochs=5,
    batch_size=250,
    learning_rate=0.5,
    averaging=0.0,
    objective_options={"persistent": True, "chains": 50, "ais_temperatures": 50, "ais_chains": 5},
    seed=3,
)


class Killed(BaseException):
    """Stands for SIGKILL."""


def files(run):
    return {path.name: path.read_bytes() for path in (run.folder / "snapshots").iterdir()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(SMALL, tmp_path_factory.mktemp("runs") / "small", quiet=True)


@given(st.integers(1, 10_000))
def test_a_dozen_epochs_from_the_first_to_the_last_at_growing_distances(epochs):
    chosen = snapshots.snapshot_epochs(epochs)
    assert (chosen[0], chosen[-1]) == (1, epochs)
    assert len(chosen) <= 12
    ratio = epochs ** (1 / 11)  # what a step of the geometric series multiplies by, one epoch of rounding aside
    assert all(a < b <= math.ceil(a * ratio) + 1 for a, b in itertools.pairwise(chosen))


def test_few_epochs_are_all_pictured():
    assert snapshots.snapshot_epochs(4) == [1, 2, 3, 4]
    assert snapshots.snapshot_epochs(100) == [1, 2, 4, 5, 8, 12, 19, 28, 43, 66, 100]


def test_a_run_keeps_them_and_the_last_is_that_of_its_model(run):
    assert list(run.snapshots) == snapshots.snapshot_epochs(5)
    expected = snapshot(run.parts("newest"))["samples"]
    kept = run.snapshots[5]["samples"]
    assert kept.shape == (40, 1, 8, 8)
    assert torch.allclose(kept, expected.float(), atol=1 / 510 + 1e-6)  # a byte a value
    assert not torch.allclose(kept, run.snapshots[1]["samples"], atol=0.02)


def test_persistent_chains_are_shown_as_they_stand(run):
    parts = run.parts("newest")
    visible = parts.model.mean_visible(tuple(values[:40].float() for values in parts.objective.persistent_chains))
    assert torch.allclose(run.snapshots[5]["samples"].flatten(1), visible, atol=1 / 510 + 1e-6)


def test_interrupted_and_resumed_gives_the_same_files(run, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    steps, original = 0, step_module.Stepper.step

    def dying(self, *arguments, **options):
        nonlocal steps
        steps += 1
        if steps % 4 == 0:
            raise Killed
        return original(self, *arguments, **options)

    monkeypatch.setattr(step_module.Stepper, "step", dying)
    lives = 0
    while True:
        lives += 1
        try:
            broken = fit(SMALL, tmp_path / "broken", quiet=True, resume=True)
            break
        except Killed:
            pass
    assert lives > 2
    assert files(broken) == files(run)


def test_training_does_not_notice(run, tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, "keep", lambda *_: None)
    blind = fit(SMALL, tmp_path / "blind", quiet=True)
    assert blind.snapshots == {}
    one, other = (checkpoint.load(r.folder / "checkpoints", "newest")[0] for r in (run, blind))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert run.metrics == blind.metrics


@pytest.mark.parametrize("persistent", [True, False])
def test_a_run_that_is_thrown_away_has_none_and_the_same_bits(tmp_path, monkeypatch, persistent):
    """Chains that are begun for a picture draw from a stream of their own; a stage is thrown away with its run."""
    options = {**SMALL.objective_options, "persistent": persistent}
    recipe = SMALL.replace(objective_options=options, pretraining=({"epochs": 2},))
    kept = fit(recipe, tmp_path / "kept", quiet=True)
    drawn = []
    monkeypatch.setattr(snapshots, "snapshot", drawn.append)
    fleeting = fit(recipe, tmp_path / "fleeting", quiet=True, throwaway=True)
    assert drawn == []
    for part in ("", "pretraining-1"):
        one, other = (Run.open(run.folder / part) for run in (kept, fleeting))
        assert one.snapshots
        assert not (other.folder / "snapshots").exists()
        timed = ("seconds", "examples_per_second")
        rows = [[{k: v for k, v in row.items() if k not in timed} for row in run.history] for run in (one, other)]
        assert rows[0] == rows[1]
        assert one.metrics == other.metrics
        for name in ("best", "newest"):
            first, second = (checkpoint.load(run.folder / "checkpoints", name)[0] for run in (one, other))
            assert first.keys() == second.keys()
            assert all(torch.equal(first[key], second[key]) for key in first)


def test_what_is_thrown_away_writes_its_history_once(tmp_path, monkeypatch):
    written, original = [], training.write_whole

    def recording(path, content):
        written.append(path.name)
        original(path, content)

    monkeypatch.setattr(training, "write_whole", recording)
    recipe = Recipe(model="perceptron", model_options={"depth": 1, "width": 4}, epochs=3)
    assert len(fit(recipe, tmp_path / "run", quiet=True, throwaway=True).history) == 3
    assert written.count("history.jsonl") == 1
    steep = recipe.replace(learning_rate=1e18, schedule="constant", optimizer_options={})
    written.clear()
    with pytest.raises(Diverged) as caught:
        fit(steep, tmp_path / "diverged", quiet=True, throwaway=True)
    assert not math.isfinite(Run.open(caught.value.folder).history[-1]["train/loss"])
    assert written.count("history.jsonl") == 1


def test_a_classifier_has_none(tmp_path):
    recipe = Recipe(model="perceptron", model_options={"depth": 1, "width": 4}, epochs=1)
    classifier = fit(recipe, tmp_path / "run", quiet=True)
    assert classifier.snapshots == {}
    assert not (classifier.folder / "snapshots").exists()


def test_values_outside_0_to_1_are_kept_as_they_are(run, tmp_path, monkeypatch):
    values = torch.tensor([[-1.5, 2.25], [0.1, 0.2]])
    monkeypatch.setattr(snapshots, "snapshot", lambda parts: {"samples": values, "shares": values[1:]})
    snapshots.keep(tmp_path, run.parts(), 1, 5)
    kept = snapshots.load(tmp_path)[1]
    assert torch.equal(kept["samples"], values)
    assert torch.equal(kept["shares"], torch.tensor([[26.0, 51.0]]) / 255)
    snapshots.keep(tmp_path, run.parts(), 6, 100)  # not an epoch to picture
    assert list(snapshots.load(tmp_path)) == [1]


def test_a_damaged_file_is_named(run, tmp_path):
    (tmp_path / "snapshots").mkdir()
    content = next(iter(files(run).values()))
    (tmp_path / "snapshots" / "epoch-00007.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptRun, match=r"epoch-00007\.safetensors cannot be read"):
        snapshots.load(tmp_path)
