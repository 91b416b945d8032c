"""`deepforward predict`: clean pages, classes, and one line for what cannot be done."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepforward.data import load
from deepforward.engine import Recipe, Run, fit

PAGES = "pages?n=10&size=64&glyphs=digits&test=0.2"
SMALL = {"channels": [8, 8], "depth": 1}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = Recipe(model="binarization-network", model_options=SMALL, data=PAGES, epochs=6, learning_rate=0.02, validation=0.0)
    return fit(recipe, tmp_path_factory.mktemp("runs") / "run", quiet=True).folder


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Runs that are no binarisation, by the model."""
    folder = tmp_path_factory.mktemp("others")
    recipes = {
        "digits": Recipe(model="perceptron", model_options={"depth": 1, "width": 32}, epochs=3),
        "rings": Recipe(model="perceptron", model_options={"depth": 1, "width": 4}, data="rings?n=40", epochs=1),
        "rbm": Recipe(model="rbm", model_options={"hidden": 4}, epochs=1),
    }
    return lambda name: fit(recipes[name], folder / name, quiet=True, resume=True).folder


def page() -> Image.Image:
    """A page that the run has not seen, larger than those that it has."""
    return Image.fromarray(load(PAGES.replace("64", "90") + "&seed=5").test.inputs[0, 0].numpy())


def ink(path: Path) -> np.ndarray:
    """What is black in a picture of black and white."""
    with Image.open(path) as picture:
        assert picture.mode == "1"
        return ~np.asarray(picture)


def test_the_clean_page_is_beside_the_page_and_mostly_right(deepforward, run: Path) -> None:
    Path("in").mkdir()
    page().save("in/page.png")
    outcome = deepforward("predict", "run", "in/page.png")
    assert (outcome.code, outcome.err, outcome.out) == (0, "", "in/page.clean.png\n")
    assert ink(Path("in/page.clean.png")).shape == (90, 90)
    truth = load(PAGES.replace("64", "90") + "&seed=5").test.targets[0].bool().numpy()
    assert (ink(Path("in/page.clean.png")) == truth).mean() > 0.9
    mask = Run.open("run").predict("in/page.png")[0]
    assert np.array_equal(mask.bool().numpy(), ink(Path("in/page.clean.png")))

    again = deepforward("predict", "run", "in/page.png")
    assert again.complaint == "in/page.clean.png exists; remove it, or give another folder as --out"
    elsewhere = deepforward("predict", "run", "in/page.png", "--out", "clean/here")
    assert elsewhere.out == "clean/here/page.clean.png\n"
    assert Path("clean/here/page.clean.png").read_bytes() == Path("in/page.clean.png").read_bytes()


def test_pages_of_every_mode_give_the_same(deepforward, run: Path) -> None:
    grey = page()
    alpha = grey.convert("RGBA")
    alpha.putalpha(255)
    black = np.dstack((np.zeros((90, 90, 3)), 255 - np.asarray(grey))).astype(np.uint8)  # where light, transparent
    images = {
        "grey": grey,
        "colour": grey.convert("RGB"),
        "alpha": alpha,
        "transparent": Image.fromarray(black),
        "palette": grey.convert("P"),
        "sixteen": Image.fromarray(np.asarray(grey).astype(np.uint16) * 257),
    }
    for name, image in images.items():
        image.save(f"{name}.png")
    outcome = deepforward("predict", "run", *(f"{name}.png" for name in images))
    assert outcome.out.splitlines() == [f"{name}.clean.png" for name in images]
    whole = ink(Path("grey.clean.png"))
    assert 0 < whole.mean() < 0.5
    # Compositing rounds, by a grey level at most.
    assert all((ink(Path(f"{name}.clean.png")) == whole).mean() > 0.99 for name in images)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (63, 65)])
def test_pages_of_any_size(deepforward, run: Path, size: tuple[int, int]) -> None:
    page().resize(size).save("x.png")
    assert deepforward("predict", "run", "x.png").out == "x.clean.png\n"
    assert ink(Path("x.clean.png")).shape == size[::-1]


def test_a_classifier_prints_a_class_and_its_probability(deepforward, others) -> None:
    run = Run.open(others("digits"))
    images, targets = run.data.test.inputs[:20], run.data.test.targets[:20]
    for number, image in enumerate(images):
        Image.fromarray((image[0].numpy() * 255.0 / 16).round().astype(np.uint8)).save(f"{number}.png")
    outcome = deepforward("predict", run.folder, *(f"{number}.png" for number in range(20)))
    assert outcome.code == 0
    rows = [line.split() for line in outcome.out.splitlines() if ".png" in line]
    assert [row[0] for row in rows] == [f"{number}.png" for number in range(20)]
    assert np.mean([int(row[1]) == target for row, target in zip(rows, targets.tolist(), strict=True)]) > 0.7
    expected = torch.stack(run.predict(*images)).max(1).values
    assert [float(row[2]) for row in rows] == pytest.approx(expected.tolist(), abs=0.05)  # pictures have 256 levels of 17


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("missing.png",), "missing.png: cannot be read (No such file or directory)"),
        (("text.png",), "text.png: got a file that is no image"),
        (("cut.png",), "cut.png: does not decode as an image"),
        (("floats.tif",), "floats.tif: got 32 bits a pixel"),
        (("folder",), "folder: cannot be read (Is a directory)"),
        (("page.png", "folder/page.png"), "folder/page.png: cannot be read"),
        (("page.png", "page.png"), "got two files of one name"),
        (("page.png", "--out", "text.png"), "got --out text.png, which is a file; give a folder"),
    ],
    ids=["missing", "text", "cut", "floats", "folder", "second", "twice", "out"],
)
def test_what_cannot_be_read_is_said_in_one_line(deepforward, run: Path, arguments, says) -> None:
    page().save("page.png")
    Path("folder").mkdir()
    Path("text.png").write_text("no image")
    Path("cut.png").write_bytes(Path("page.png").read_bytes()[:400])
    Image.fromarray(np.zeros((9, 9), np.float32)).save("floats.tif")
    assert says in deepforward("predict", "run", *arguments).complaint


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("rings", (), "examples have shape (2,); predict takes runs on images"),
        ("rbm", (), "a run of 'rbm' with 'contrastive-divergence' gives features, not classes; use embed"),
        ("digits", ("--out", "here"), "got --out, but a run on these data writes no pictures; leave it out"),
    ],
)
def test_runs_that_say_nothing_of_pictures(deepforward, others, name, arguments, says) -> None:
    page().save("page.png")
    assert says in deepforward("predict", others(name), "page.png", *arguments).complaint


def test_no_run_at_all(deepforward) -> None:
    assert "'nowhere' is not a run folder" in deepforward("predict", "nowhere", "x.png").complaint


def test_a_run_that_is_moved_still_predicts(deepforward, run: Path) -> None:
    shutil.move("run", "elsewhere")
    page().save("page.png")
    assert deepforward("predict", "elsewhere", "page.png").code == 0
