import json
import math
import shlex
import shutil
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from deepforward.data import load
from deepforward.engine import Recipe, Run, find_learning_rate, fit
from deepforward.engine.batches import batches_per_epoch
from deepforward.errors import CorruptRun, Diverged, InvalidModel, InvalidOption, RunMismatch, ShapeError

SMALL = Recipe(model="perceptron", model_options={"depth": 1, "width": 32}, epochs=4, seed=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(SMALL, tmp_path_factory.mktemp("runs") / "small", quiet=True)


def test_a_perceptron_learns_digits_and_the_folder_tells_it(run):
    assert run.metrics["test/accuracy"] > 0.9
    assert run.result["status"] == "finished"
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4]
    assert run.history[-1]["train/loss"] < run.history[0]["train/loss"]
    assert {p.name for p in run.folder.iterdir()} >= {
        "recipe.json",
        "history.jsonl",
        "result.json",
        "readings.json",
        "checkpoints",
    }
    assert json.loads((run.folder / "recipe.json").read_text())["epochs"] == 4


def test_the_loss_in_the_history_is_that_of_a_plain_loop(tmp_path):
    """The engine against a loop written out by hand: same data, same order, same update."""
    recipe = Recipe(
        model="perceptron",
        model_options={"depth": 1, "width": 8},
        epochs=2,
        batch_size=100,
        optimizer="sgd",
        validation=0.0,
        optimizer_options={},
        learning_rate=0.1,
        schedule="constant",
        clip=0.5,
        precision="fp32",
        weight_decay=0.0,
    )
    run = fit(recipe, tmp_path / "run", quiet=True)
    data = load("digits")
    from deepforward.data import Scaling
    from deepforward.engine.building import build_model
    from deepforward.engine.randomness import isolated, stream

    inputs, targets = Scaling.fit("standardise", data.train.inputs)(data.train.inputs), data.train.targets
    with isolated(0, torch.device("cpu")):
        model = build_model("perceptron", {"depth": 1, "width": 8}, data.shape, 10)
    order = stream(0, "order")
    for row in run.history:
        total = 0.0
        for chosen in torch.randperm(len(inputs), generator=order).tensor_split(14):
            loss = nn.functional.cross_entropy(model(inputs[chosen]), targets[chosen])
            total += loss.item() * len(chosen)
            model.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.sub_(0.1 * parameter.grad)
        assert row["train/loss"] == pytest.approx(total / len(inputs), rel=1e-5)


def test_the_saved_model_scores_what_the_result_says(run):
    model, data = run.model(), run.data
    with torch.no_grad():
        right = (model(run.scaling(data.test.inputs)).argmax(1) == data.test.targets).double().mean()
    assert float(right) == pytest.approx(run.metrics["test/accuracy"], abs=1e-12)
    confusion = run.evaluation().confusion()
    assert confusion.sum() == len(data.test)
    assert confusion.diag().sum() / len(data.test) == pytest.approx(run.metrics["test/accuracy"], abs=1e-6)


def test_scaling_sees_only_the_training_split(run):
    parts = run.parts()
    mean = parts.train.inputs.double().mean()
    assert len(parts.train) + len(parts.validation) == len(run.data.train)
    scaled = parts.scaling(parts.train.inputs)
    assert float(scaled.mean()) == pytest.approx(0, abs=1e-5)
    assert abs(mean - run.data.test.inputs.double().mean()) > 1e-3


def test_early_stopping_keeps_the_best_weights(tmp_path):
    recipe = SMALL.replace(epochs=60, patience=2, learning_rate=0.2, schedule="constant")
    run = fit(recipe, tmp_path / "run", quiet=True)
    losses = [row["validation/loss"] for row in run.history]
    assert run.result["status"] == "stopped early"
    assert len(losses) < 60
    assert losses.index(min(losses)) == len(losses) - 3
    from deepforward.engine.evaluation import evaluate

    parts = run.parts("best")
    assert evaluate(parts, parts.validation)["loss"] == pytest.approx(min(losses), rel=1e-6)


def test_a_loss_that_turns_nan_names_layer_and_step_and_keeps_the_evidence(tmp_path):
    recipe = SMALL.replace(learning_rate=1e18, schedule="constant", optimizer_options={})
    with pytest.raises(Diverged, match=r"loss or gradient became (nan|inf) at step \d+ .*layer '") as caught:
        fit(recipe, tmp_path / "run", quiet=True)
    assert "\n" not in str(caught.value)
    run = Run.open(caught.value.folder)
    assert run.result["status"] == "diverged"
    assert len(run.readings.origins) == 1
    assert not math.isfinite(run.history[-1]["train/loss"])


@given(examples=st.integers(2, 5000), batch_size=st.integers(1, 300))
def test_batches_are_near_equal_and_no_larger_than_asked(examples, batch_size):
    batches = torch.arange(examples).tensor_split(batches_per_epoch(examples, batch_size))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max(batch_size, 3)
    assert min(sizes) >= min(batch_size, 2)
    assert len(batches) >= examples // max(batch_size, 3)


def test_the_finder_advises_a_rate_that_trains(tmp_path):
    found = find_learning_rate(SMALL)
    assert 1e-3 < found.learning_rate < 1
    assert list(found.rates) == sorted(found.rates)
    run = fit(SMALL.replace(learning_rate="find"), tmp_path / "run", quiet=True)
    assert run.result["learning_rate"] == found.learning_rate
    assert run.metrics["test/accuracy"] > 0.9


@pytest.mark.parametrize(("field", "value"), [("learning_rate", "find"), ("patience", 2)])
def test_a_loss_that_tells_nothing_is_not_read_as_progress(tmp_path, field, value):
    recipe = Recipe(model="rbm", model_options={"hidden": 4}, epochs=1, **{field: value})
    with pytest.raises(InvalidOption, match=f"{field} is {value!r}, but the loss of 'contrastive-divergence'") as caught:
        fit(recipe, tmp_path / "run", quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    with pytest.raises(InvalidOption, match="does not tell progress"):
        find_learning_rate(recipe.replace(**{field: None}))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("raise RuntimeError('out of paint')", InvalidModel, "model file .* raised RuntimeError: out of paint"),
        ("def factory(): raise ValueError('no width')", InvalidModel, "factory .* raised ValueError: no width"),
        ("def factory(): return 3", InvalidModel, "returned int; expected a torch.nn.Module"),
        ("factory = 3", InvalidModel, "has no callable 'factory'"),
        ("def factory(", InvalidModel, "raised SyntaxError"),
        (
            "from torch import nn\ndef factory(): return nn.Sequential(nn.Flatten(), nn.Linear(65, 10))",
            ShapeError,
            r"layer '1' \(Linear\) got input of shape \(2, 64\)",
        ),
        (
            "from torch import nn\ndef factory(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))",
            ShapeError,
            r"gives \(7,\) .* expected \(10,\)",
        ),
        ("from torch import nn\ndef factory(): return nn.Flatten()", ShapeError, "expected"),
        ("import sys\nsys.exit(3)", InvalidModel, "raised SystemExit: 3"),
        ("def factory(): raise SystemExit", InvalidModel, "raised SystemExit"),
        ("from torch import nn\ndef factory(width): return nn.Linear(64, width)", InvalidOption, "width"),
    ],
)
def test_a_strangers_factory_that_does_not_fit_is_refused_in_one_line(tmp_path, source, error, message):
    file = tmp_path / "mine.py"
    file.write_text(source)
    with pytest.raises(error, match=message) as caught:
        fit(Recipe(model=f"{file}:factory"), tmp_path / "run", quiet=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_bf16_and_channels_last_train_like_fp32(tmp_path):
    recipe = Recipe(model="lenet5", data="digits", epochs=6)
    fast = fit(recipe.replace(precision="bf16", channels_last="on"), tmp_path / "fast", quiet=True)
    plain = fit(recipe.replace(precision="fp32", channels_last="off"), tmp_path / "plain", quiet=True)
    assert fast.result["arithmetic"]["precision"] == "bf16"
    assert plain.metrics["test/accuracy"] > 0.9
    assert abs(fast.metrics["test/accuracy"] - plain.metrics["test/accuracy"]) < 0.05
    assert fast.history[0]["train/loss"] == pytest.approx(plain.history[0]["train/loss"], rel=0.05)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("device", "cuda:7", "not on this machine"),
        ("device", "gpu", "not on this machine"),
        ("precision", "fp16", "use bf16 or fp32"),
    ],
)
def test_devices_that_are_not_there_are_refused(tmp_path, field, value, message):
    with pytest.raises(InvalidOption, match=message):
        fit(SMALL.replace(**{field: value}), tmp_path / "run", quiet=True)


def test_the_report_is_written_and_its_command_makes_the_same_recipe(run):
    from deepforward.cli.settings import recipe_from
    from deepforward.engine.run_report import record_of

    record = record_of(run)
    assert record.findings is None
    assert record.confusion.sum() == len(run.data.test)
    assert record.filters.shape == (32, 1, 8, 8)
    words = shlex.split(record.command)
    flags = {words[i].removeprefix("--"): words[i + 1] for i in range(3, len(words), 2) if words[i] != "--set"}
    settings = [words[i + 1] for i in range(3, len(words), 2) if words[i] == "--set"]
    again = recipe_from(words[2], settings, data=flags["data"], epochs=int(flags["epochs"]), seed=int(flags["seed"]))
    assert again.complete() == run.recipe
    page = run.report()
    assert page == run.folder / "report.html"
    assert 100_000 < page.stat().st_size < 3_000_000


def test_a_file_finds_its_siblings(tmp_path):
    (tmp_path / "parts_of_mine.py").write_text("from torch import nn\ndef head(): return nn.Linear(64, 10)")
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nfrom parts_of_mine import head\ndef factory(): return nn.Sequential(nn.Flatten(), head())"
    )
    path = list(sys.path)
    run = fit(Recipe(model=f"{tmp_path}/mine.py:factory", epochs=1), tmp_path / "run", quiet=True)
    assert run.result["parameters"] == 650
    assert sys.path == path


def test_a_model_that_raises_only_while_it_trains_is_named(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Moody(nn.Linear):\n"
        "    def forward(self, x):\n"
        "        if self.training: raise RuntimeError('not today')\n"
        "        return super().forward(x.flatten(1))\n"
        "def factory(): return Moody(64, 10)"
    )
    recipe = Recipe(model=f"{tmp_path}/mine.py:factory", epochs=1)
    with pytest.raises(InvalidModel, match=r"training step 0 of .* raised RuntimeError: not today"):
        fit(recipe, tmp_path / "run", quiet=True)
    mended = recipe.replace(model="perceptron")  # the folder holds nothing but a recipe: nothing is lost by using it again
    assert fit(mended, tmp_path / "run", quiet=True).result["status"] == "finished"


def test_a_diverged_run_diverges_again_when_resumed(tmp_path):
    recipe = SMALL.replace(learning_rate=1e18, schedule="constant", optimizer_options={})
    messages = []
    for resume in (False, True):
        with pytest.raises(Diverged) as caught:
            fit(recipe, tmp_path / "run", resume=resume, quiet=True)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "clipped-gd", "normalized-gd"])
def test_every_optimizer_learns(tmp_path, optimizer):
    run = fit(SMALL.replace(optimizer=optimizer, learning_rate=None), tmp_path / "run", quiet=True)
    assert run.history[-1]["train/loss"] < 0.9 * run.history[0]["train/loss"]


@pytest.mark.parametrize("file", ["history.jsonl", "result.json", "readings.json", "recipe.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null", b"[1, 2]", b'{"model": 3}'])
def test_a_damaged_file_of_a_run_is_said_in_one_line(run, tmp_path, file, content):
    copy = tmp_path / "run"
    shutil.copytree(run.folder, copy)
    (copy / file).write_bytes(content)
    if (file, content) in {("history.jsonl", b""), ("history.jsonl", b'{"model": 3}'), ("result.json", b'{"model": 3}')}:
        return  # an object is what these files hold, and no lines are no epochs
    with pytest.raises((CorruptRun, RunMismatch, InvalidOption)) as caught:
        damaged = Run.open(copy)
        assert damaged.history and damaged.result and damaged.readings
    assert "\n" not in str(caught.value)
