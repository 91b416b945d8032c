"""A run killed at any moment and resumed gives the same bits as one never killed."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from deepforward.engine import Recipe, Run, checkpoint, fit, training
from deepforward.engine import step as step_module
from deepforward.errors import CorruptCheckpoint, RunMismatch, WriteFailed

#: Dropout from the global generator, augmentation, batch statistics, momentum, a validation split: every kind of state.
FACTORY = """
import random
import numpy as np
import torch
from torch import nn

class Noisy(nn.Module):
    def forward(self, x):
        if self.training:
            x = x * (1 + 0.01 * random.random() + 0.01 * np.random.rand()) + 0.01 * torch.randn_like(x)
        return x

def factory(num_classes):
    hidden = [nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(nn.Flatten(), Noisy(), *hidden, nn.Linear(16, num_classes))
"""


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the engine may catch it and clean up."""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "noisy.py").write_text(FACTORY)
    return Recipe(
        model=f"{tmp_path}/noisy.py:factory", epochs=3, batch_size=256, optimizer="adam", seed=5, augmentation=("flip", "shift")
    )


def global_states():
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


def weights(run):
    return checkpoint.load(run.folder / "checkpoints", "newest")[0]


def same_bits(one, other):
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    unlike = [name for name in first if not torch.equal(first[name], second[name])]
    timing = {"seconds", "examples_per_second"}
    rows = [[{k: v for k, v in row.items() if k not in timing} for row in run.history] for run in (one, other)]
    return unlike == [] and rows[0] == rows[1] and one.metrics == other.metrics


@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["checkpoint every step", "checkpoint at the end only"])
def test_interrupted_at_every_step_gives_the_same_bits(recipe, tmp_path, monkeypatch, seconds):
    whole = fit(recipe, tmp_path / "whole", quiet=True)
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", seconds)
    steps, original = 0, step_module.Stepper.step

    def dying(self, *arguments, **options):
        nonlocal steps
        steps += 1
        result = original(self, *arguments, **options)
        if steps % 4 == 3:
            raise Killed
        return result

    broken = tmp_path / "broken"
    if seconds:  # nothing is saved before the end, so one interruption is all that there can be
        with pytest.raises(Killed), monkeypatch.context() as patch:
            patch.setattr(step_module.Stepper, "step", dying)
            fit(recipe, broken, quiet=True)
    with monkeypatch.context() as patch:
        if not seconds:
            patch.setattr(step_module.Stepper, "step", dying)
        interruptions = 0
        while not (broken / "result.json").exists():
            try:
                fit(recipe, broken, resume=True, quiet=True)
            except Killed:
                interruptions += 1
    assert interruptions >= (3 if not seconds else 0)
    assert same_bits(whole, Run.open(broken))


def test_interrupted_at_any_write_gives_the_same_bits(recipe, tmp_path, monkeypatch):
    recipe = recipe.replace(epochs=2, patience=1, learning_rate=0.5)  # so steep that the best epoch is not the last
    whole = fit(recipe, tmp_path / "whole", quiet=True)
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    original, chance, interruptions = os.fsync, random.Random(3), 0

    def dying(handle):
        original(handle)
        if chance.random() < 0.12:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", dying)
        while not (tmp_path / "broken" / "result.json").exists():
            try:
                fit(recipe, tmp_path / "broken", resume=True, quiet=True)
            except Killed:
                interruptions += 1
    assert interruptions > 3
    assert same_bits(whole, Run.open(tmp_path / "broken"))


def test_killed_by_sigkill_at_random_moments_gives_the_same_bits(recipe, tmp_path):
    script = (
        "import sys; from deepforward.engine import Recipe, fit, training\n"
        "import torch; torch.set_num_threads(1)\n"
        "training._CHECKPOINT_SECONDS = 0.0\n"
        "print('ready', flush=True)\n"
        "fit(Recipe.from_json(sys.argv[1]), sys.argv[2], resume=True, quiet=True)\n"
    )
    recipe = recipe.replace(epochs=8)
    whole = fit(recipe, tmp_path / "whole", quiet=True)
    delays = random.Random(0)
    kills = 0
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", script, recipe.to_json(), str(tmp_path / "killed")], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        if kills < 2:
            time.sleep(0.1 + 0.3 * delays.random())
            os.kill(process.pid, signal.SIGKILL)
        code = process.wait()
        process.stdout.close()
        kills += code == -signal.SIGKILL
        if code == 0:
            break
    assert code == 0
    assert kills >= 1
    assert same_bits(whole, Run.open(tmp_path / "killed"))


def test_the_same_recipe_gives_the_same_bits_and_leaves_the_callers_generators_alone(recipe, tmp_path):
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the legacy generator is what a stranger's module draws from
    before = global_states()
    first = fit(recipe, tmp_path / "first", quiet=True)
    after = global_states()
    assert before == after
    torch.manual_seed(2)
    assert same_bits(first, fit(recipe, tmp_path / "second", quiet=True))
    assert not same_bits(first, fit(recipe.replace(seed=6), tmp_path / "third", quiet=True))


def test_a_finished_run_is_returned_as_it_is(recipe, tmp_path):
    first = fit(recipe.replace(epochs=1), tmp_path / "run", quiet=True)
    times = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*")}
    again = fit(recipe.replace(epochs=1), tmp_path / "run", resume=True, quiet=True)
    assert again.result == first.result
    assert times == {p: p.stat().st_mtime_ns for p in first.folder.rglob("*")}


def test_a_folder_with_another_recipe_or_foreign_files_is_refused_and_left_alone(recipe, tmp_path):
    run = fit(recipe.replace(epochs=1), tmp_path / "run", quiet=True)
    held = (run.folder / "recipe.json").read_bytes()
    with pytest.raises(RunMismatch, match=r"another recipe \(differs in batch_size, seed"):
        fit(recipe.replace(epochs=1, seed=9, batch_size=32), run.folder, resume=True, quiet=True)
    with pytest.raises(RunMismatch, match="--resume"):
        fit(recipe.replace(epochs=1), run.folder, quiet=True)
    assert (run.folder / "recipe.json").read_bytes() == held
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.jpg").write_bytes(b"x")
    with pytest.raises(RunMismatch, match="not empty"):
        fit(recipe, foreign, quiet=True)
    assert [p.name for p in foreign.iterdir()] == ["cat.jpg"]
    with pytest.raises(RunMismatch, match="not a run folder"):
        Run.open(foreign)


def test_a_damaged_checkpoint_is_refused_and_kept(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    run = fit(recipe.replace(epochs=1), tmp_path / "run", quiet=True)
    (run.folder / "result.json").unlink()
    file = next((run.folder / "checkpoints").glob("newest-*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CorruptCheckpoint):
        fit(recipe.replace(epochs=1), run.folder, resume=True, quiet=True)
    assert file.exists()


def test_a_full_disk_stops_the_run_and_it_continues_when_there_is_space_again(recipe, tmp_path, monkeypatch):
    whole = fit(recipe, tmp_path / "whole", quiet=True)
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    original, calls = os.fsync, iter(range(1000))

    def full(handle):
        if next(calls) >= 12:
            raise OSError(28, "No space left on device")
        original(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WriteFailed, match="No space left"):
            fit(recipe, tmp_path / "full", quiet=True)
    assert checkpoint.load(tmp_path / "full" / "checkpoints", "newest")[1]["standing"]["epoch"] >= 0
    assert same_bits(whole, fit(recipe, tmp_path / "full", resume=True, quiet=True))
