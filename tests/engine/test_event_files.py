"""History and readings in TensorBoard event files, read back by TensorBoard itself."""

import contextlib
import math
import resource
import sys

import numpy as np
import pytest
import torch

from deepforward.engine import Recipe, checkpoint, fit, training
from deepforward.engine.event_files import EventFiles
from deepforward.errors import Diverged, MissingExtra, WriteFailed

RECIPE = Recipe(model="perceptron", model_options={"depth": 2, "width": 8}, epochs=4, batch_size=256, probe_budget=1.0)


@pytest.fixture
def scalars():
    """Folder -> tag -> [(step, value)], as TensorBoard shows them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def read(folder):
        events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}

    return read


def same(found, wanted):
    """Equal up to float32, in which event files keep numbers; NaN equals NaN."""
    assert [step for step, _ in found] == [step for step, _ in wanted]
    np.testing.assert_array_equal([x for _, x in found], np.float32([x for _, x in wanted]))


def check(run, found):
    curves = {name for row in run.history for name in row} - {"epoch", "step"}
    for name in curves:
        same(found[name], [(row["step"], row[name]) for row in run.history if name in row])
    readings = run.readings
    for statistic, array in readings.values.items():
        for j, layer in enumerate(readings.layers):
            wanted = [(step, array[i, j]) for i, step in enumerate(readings.steps) if not math.isnan(array[i, j])]
            if wanted:
                same(found.pop(f"{statistic}/{layer}"), wanted)
            else:
                assert f"{statistic}/{layer}" not in found
    assert {name for name in found if "#" in name} == set()


def rounded(monkeypatch):
    """Readings as they are in the folder, to six digits, so that both can be compared to the last bit."""
    monkeypatch.setattr(training, "_LOOK_SECONDS", 1e9)
    original = EventFiles.readings
    monkeypatch.setattr(EventFiles, "readings", lambda self, given: original(self, type(given).from_json(given.to_json())))


def test_event_files_hold_history_and_readings_and_change_no_bit(tmp_path, scalars, monkeypatch):
    rounded(monkeypatch)
    plain = fit(RECIPE, tmp_path / "plain", quiet=True)
    run = fit(RECIPE, tmp_path / "run", quiet=True, tensorboard=True)
    found = scalars(run.folder / "tensorboard")
    check(run, found)
    last = run.history[-1]["step"]
    same(found["test/accuracy"], [(last, run.metrics["test/accuracy"])])
    one, other = (checkpoint.load(r.folder / "checkpoints", "newest")[0] for r in (plain, run))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert not (plain.folder / "tensorboard").exists()


def test_a_resumed_run_repeats_nothing(tmp_path, scalars, monkeypatch):
    """Killed in the third epoch, after a checkpoint in the second: steps in between were written by both processes."""
    rounded(monkeypatch)
    monkeypatch.setattr(training, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(training, "_LOOK_SHARE", 1e9)
    monkeypatch.setattr(training.Training, "_due", property(lambda self: self.step == 8))
    original = training.Training._train_step

    def dies(self, indices):
        if self.step == 13:
            raise KeyboardInterrupt
        original(self, indices)

    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "_train_step", dies)
        with pytest.raises(KeyboardInterrupt):
            fit(RECIPE, tmp_path / "run", quiet=True, tensorboard=True)
    before = scalars(tmp_path / "run" / "tensorboard")
    assert max(step for step, _ in before["gradient_rms/output#0"]) > 8
    run = fit(RECIPE, tmp_path / "run", quiet=True, tensorboard=True, resume=True)
    found = scalars(run.folder / "tensorboard")
    check(run, found)
    assert len(found["train/loss"]) == 4


def test_a_run_resumed_with_event_files_has_all_of_its_history_there(tmp_path, scalars, monkeypatch):
    rounded(monkeypatch)
    monkeypatch.setattr(training.Training, "_due", property(lambda self: True))
    original = training.Training._train_step

    def dies(self, indices):
        if self.step == 13:
            raise KeyboardInterrupt
        original(self, indices)

    with monkeypatch.context() as patch:
        patch.setattr(training.Training, "_train_step", dies)
        with pytest.raises(KeyboardInterrupt):
            fit(RECIPE, tmp_path / "run", quiet=True)
    run = fit(RECIPE, tmp_path / "run", quiet=True, tensorboard=True, resume=True)
    check(run, scalars(run.folder / "tensorboard"))


def test_a_number_that_is_none_is_shown_as_such(tmp_path, scalars):
    with pytest.raises(Diverged):
        fit(RECIPE.replace(optimizer="sgd", learning_rate=1e30), tmp_path / "run", quiet=True, tensorboard=True)
    (*_, (_, loss)) = scalars(tmp_path / "run" / "tensorboard")["train/loss"]
    assert math.isnan(loss)


def test_without_the_extra_it_is_said_in_one_line_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtra, match=r"deepforward\[tensorboard\]"):
        fit(RECIPE, tmp_path / "run", quiet=True, tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path, scalars):
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.raises(WriteFailed, match="could not be written"):
        EventFiles(tmp_path / "tensorboard")


def test_a_full_disk_is_said(tmp_path, scalars):
    events = EventFiles(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(WriteFailed, match="File too large"):
            events.history({"step": step, "train/loss": 1.0} for step in range(1000))
        with contextlib.suppress(WriteFailed):
            events.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    steps = [step for step, _ in scalars(tmp_path)["train/loss"]]
    assert steps == list(range(len(steps)))  # what came before is whole
    assert steps
