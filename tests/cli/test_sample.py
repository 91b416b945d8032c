"""`deepforward sample`: files, paths on stdout, and one line for what cannot be done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepforward.engine import Recipe, fit


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe(model="rbm", model_options={"hidden": 8}, epochs=2)
    return fit(recipe, tmp_path_factory.mktemp("runs") / "run", quiet=True).folder


def test_samples_go_into_the_run_as_picture_and_arrays(deepforward, run: Path) -> None:
    outcome = deepforward("sample", "run", "--count", 9, "--steps", 3)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "run/samples.png\nrun/samples.npz\n"
    assert np.load("run/samples.npz", allow_pickle=False)["samples"].shape == (9, 1, 8, 8)
    with Image.open("run/samples.png") as picture:
        assert picture.size == (3 * 34 - 2, 3 * 34 - 2)

    first = Path("run/samples.npz").read_bytes()
    deepforward("sample", "run", "--count", 9, "--steps", 3, "--out", "again.npz")
    assert Path("again.npz").read_bytes() == first
    deepforward("sample", "run", "--count", 9, "--steps", 3, "--seed", 1, "--out", "again.npz")
    assert Path("again.npz").read_bytes() != first

    halves = deepforward("sample", "run", "--given", "left", "--count", 5, "--steps", 3, "--out", "here")
    assert halves.out == "here/completions.png\nhere/completions.npz\n"
    assert np.load("here/completions.npz", allow_pickle=False)["completed"].shape == (5, 1, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--count", 0), "got count=0; expected a whole number of at least 1"),
        (("--steps", 0), "got steps=0"),
        (("--given", "uper"), "unknown half 'uper'; did you mean upper?"),
        (("--out", "samples.jpg"), "ends in .png or .npz"),
        (("--steps", 1, "--out", "run/recipe.json/x"), "a file stands where a folder is wanted"),
    ],
    ids=["count", "steps", "given", "suffix", "unwritable"],
)
def test_what_cannot_be_is_said_in_one_line(deepforward, run: Path, arguments, says) -> None:
    assert says in deepforward("sample", "run", *arguments).complaint
    assert not list(Path("run").glob("samples*"))


def test_a_run_without_chains_and_no_run_at_all(deepforward) -> None:
    deepforward("train", "perceptron", "--set", "depth=1", "--epochs", 1, "--quiet", "--out", "run")
    assert "'perceptron' has no chains to sample from; expected a run of one of: rbm" in deepforward("sample", "run").complaint
    assert "'nowhere' is not a run folder" in deepforward("sample", "nowhere").complaint


def test_what_is_said_on_the_way_and_at_the_end_means_something(deepforward) -> None:
    outcome = deepforward("train", "rbm", "--set", "hidden=8", "--epochs", 2, "--out", "run")
    lines = [line for line in outcome.err.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 2
    assert all("reconstruction" in line and "free energy train" in line and "loss" not in line for line in lines)
    assert "train/loss" not in outcome.out
    assert "test/log_likelihood_low" not in outcome.out
    likelihood = next(line for line in outcome.out.splitlines() if "test/log_likelihood" in line)
    assert likelihood.split()[-2:] == ["exact", "nats"]
