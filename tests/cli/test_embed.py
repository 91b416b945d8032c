"""`deepforward embed`: features of any run, and one line for what cannot be done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deepforward.engine import Recipe, fit


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe(model="perceptron", model_options={"depth": 1, "width": 32}, epochs=3)
    return fit(recipe, tmp_path_factory.mktemp("runs") / "run", quiet=True).folder


def test_features_and_targets_of_each_split(deepforward, run: Path) -> None:
    outcome = deepforward("embed", "run")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "450 examples of 10 features\nrun/features-test.npz\n"
    stored = np.load("run/features-test.npz", allow_pickle=False)
    assert (stored["features"].argmax(1) == stored["targets"]).mean() > 0.5  # a classifier's features are its outputs

    table = deepforward("embed", "run", "--split", "train", "--out", "here/table.csv")
    assert table.out == "1347 examples of 10 features\nhere/table.csv\n"
    assert len(Path("here/table.csv").read_text().splitlines()) == 1348

    Path("folder").mkdir()
    for folder in ("folder", "new"):
        assert deepforward("embed", "run", "--out", folder).out.splitlines()[-1] == f"{folder}/features-test.npz"
        assert Path(folder, "features-test.npz").read_bytes() == Path("run/features-test.npz").read_bytes()

    other = deepforward("embed", "run", "--data", "digits?test=0.1", "--out", "other.npz")
    assert other.out.splitlines()[-1] == "other.npz"
    assert len(np.load("other.npz", allow_pickle=False)["features"]) < 450


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--split", "validation"), "unknown split 'validation'; one of: test, train"),
        (("--data", "rings"), "rings with examples of shape (2,); expected (1, 8, 8)"),
        (("--data", "digit"), "did you mean digits?"),
        (("--out", "features.txt"), "ends in .npz or .csv"),
        (("--out", "run/recipe.json/x.npz"), "a file stands where a folder is wanted"),
    ],
    ids=["split", "shape", "source", "suffix", "unwritable"],
)
def test_what_cannot_be_is_said_in_one_line(deepforward, run: Path, arguments, says) -> None:
    assert says in deepforward("embed", "run", *arguments).complaint
    assert not list(Path("run").glob("features*"))


def test_no_run_at_all(deepforward) -> None:
    assert "'nowhere' is not a run folder" in deepforward("embed", "nowhere").complaint
