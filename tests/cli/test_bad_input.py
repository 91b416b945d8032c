"""Whatever a user gets wrong is said in one line that names it, with exit code 2, and loses nothing."""

from __future__ import annotations

import resource
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SMALL = ("--epochs", 1, "--set", "depth=1", "--set", "width=8", "--quiet")


def write_idx(path: Path, values: np.ndarray, magic: int | None = None) -> None:
    head = struct.pack(">I", 0x0800 + values.ndim if magic is None else magic)
    path.write_bytes(head + struct.pack(f">{values.ndim}I", *values.shape) + values.astype(np.uint8).tobytes())


@pytest.fixture
def idx() -> Path:
    """A sound idx source of 40 + 20 images in 2 classes."""
    folder = Path("idx")
    folder.mkdir()
    rng = np.random.default_rng(0)
    for prefix, n in (("train", 40), ("t10k", 20)):
        write_idx(folder / f"{prefix}-images-idx3-ubyte", rng.integers(0, 256, (n, 4, 4)))
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.arange(n) % 2)
    return folder


@pytest.fixture
def photos() -> Path:
    """A sound folder source of 2 classes with 10 images each."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        Path("photos", name).mkdir(parents=True)
        for number in range(10):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(Path("photos", name, f"{number}.png"))
    return Path("photos")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["perceptrn"], "unknown model 'perceptrn'; did you mean perceptron"),
        (["perceptron", "--data", "digit"], "unknown source 'digit'; did you mean digits?"),
        (["perceptron", "--set", "objective=cross-entropi"], "did you mean cross-entropy"),
        (["perceptron", "--set", "optimizer=sdg"], "did you mean sgd?"),
        (["perceptron", "--set", "activation=rellu"], "did you mean relu"),
        (["perceptron", "--set", "dpeth=3"], "unknown setting 'dpeth'; did you mean depth"),
        (["perceptron", "--set", "model.dpeth=3"], "unknown setting 'dpeth'; did you mean depth"),
        (["perceptron", "--set", "learningrate=3"], "unknown setting 'learningrate'; did you mean learning_rate"),
        (["perceptron", "--set", "lr=3"], "learning_rate"),
        (["plain20", "--set", "residul=true"], "unknown setting 'residul'; did you mean residual"),
        (["nets/a.py"], "got the file 'nets/a.py'; expected nets/a.py:FACTORY"),
        (["perceptron", "--resume"], "got --resume without --out"),
        (["perceptron", "--resume", "--cure", "--out", "run"], "got --resume with --cure"),
        (["perceptron", "--watch", "--cure"], "got --watch with --cure"),
        (["perceptron", "--tensorboard", "--cure"], "got --tensorboard with --cure"),
        (["perceptron", "--watch-port", "7007"], "got --watch-port without --watch"),
        (["perceptron", "--watch", "--watch-port", "99999"], "got port 99999"),
        (["perceptron", "--set", "depth"], "expected KEY=VALUE"),
        (["perceptron", "--set", "model_options=3"], "model_options"),
        (["perceptron", "--set", "data=3"], "unknown source '3'"),
        (["perceptron", "--set", "alterations=nonsense"], "nonsense"),
        (["perceptron", "--set", "opt.momentum=0.9"], "expected one of the groups"),
        (["perceptron", "--set", "optimizer.momentun=0.9"], "momentun"),
        (["perceptron", "--epochs", "-1"], "epochs is -1; expected a whole number at least 1"),
        (["perceptron", "--validation", "1"], "validation is 1.0"),
        (["perceptron", "--precision", "fp8"], "precision is 'fp8'"),
        (["perceptron", "--device", "abacus"], "abacus"),
        (["perceptron", "--set", "batch_size=0"], "batch_size is 0"),
        (["perceptron", "--set", "learning_rate=quick"], "learning_rate is 'quick'"),
        (["perceptron", "--set", 'alterations=["nonsense"]'], "nonsense"),
        (["perceptron", "--data", "rings?nois=1"], "unknown option of rings 'nois'; did you mean noise"),
        (["perceptron", "--data", "rings?n=0"], "n"),
        (["perceptron", "--data", "rings?test=0.0001"], "too few to hold out test=0.0001"),
        (["perceptron", "--data", "idx:nowhere"], "nowhere: no such folder"),
        (["perceptron", "--data", "npz:nowhere.npz"], "nowhere.npz"),
        (["perceptron", "--data", "table:nowhere.csv?target=y"], "nowhere.csv: no such file"),
        (["resnet20", "--data", "rings"], "(2,)"),
        (["nowhere.py:net"], "model file 'nowhere.py' does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_names_and_options(deepforward, arguments: list[str], says: str) -> None:
    assert says in deepforward("train", *arguments, *([] if "--epochs" in arguments else ["--epochs", 1]), "--quiet").complaint
    assert not Path("runs").exists()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "t10k-labels-idx1-ubyte").unlink(), "got no file t10k-labels"),
        (lambda folder: truncate(folder / "train-images-idx3-ubyte"), "got 328 bytes, expected 656"),
        (
            lambda folder: write_idx(folder / "train-images-idx3-ubyte", np.zeros((40, 4, 4)), 0xABCD0803),
            "magic number 0xabcd0803",
        ),
        (
            lambda folder: write_idx(folder / "t10k-labels-idx1-ubyte", np.arange(20) % 3),
            "got label 2 at example 2, which no training example has, expected one of 0, 1",
        ),
        (lambda folder: write_idx(folder / "train-labels-idx1-ubyte", np.zeros(39)), "40 images and 39 labels"),
        (lambda folder: write_idx(folder / "train-labels-idx1-ubyte", np.zeros(40)), "expected one of 0"),
    ],
    ids=["missing", "truncated", "wrong-magic", "label-out-of-range", "fewer-labels", "one-class"],
)
def test_idx_files(deepforward, idx: Path, spoil: Callable[[Path], object], says: str) -> None:
    spoil(idx)
    assert says in deepforward("train", "perceptron", "--data", f"idx:{idx}", *SMALL).complaint


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: truncate(folder / "cat" / "3.png"), "3.png"),
        (lambda folder: (folder / "dog" / "4.png").write_text("woof"), "4.png: got a file that is no image"),
        (lambda folder: (folder / "dog").rename("elsewhere"), "class"),
    ],
    ids=["cut-short", "no-image", "one-class"],
)
def test_image_folders(deepforward, photos: Path, spoil: Callable[[Path], object], says: str) -> None:
    spoil(photos)
    assert says in deepforward("train", "perceptron", "--data", f"folder:{photos}", *SMALL).complaint


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("a,b\n1,2\n", "target=quality", "quality"),
        ("a,b\n1,2\n", "", "target"),
        ("a,y\n1,x\nnan,z\n", "target=y", "nan"),
        ("a,y\n", "target=y", "got no rows"),
    ],
    ids=["no-target-column", "no-target", "nan", "empty"],
)
def test_tables(deepforward, text: str, options: str, says: str) -> None:
    Path("table.csv").write_text(text)
    assert says in deepforward("train", "perceptron", "--data", f"table:table.csv?{options}", *SMALL).complaint


def test_nan_in_an_array(deepforward) -> None:
    inputs = np.ones((40, 3), np.float32)
    inputs[17, 1] = np.nan
    np.savez("arrays.npz", x=inputs, y=np.arange(40) % 2)
    assert "nan" in deepforward("train", "perceptron", "--data", "npz:arrays.npz", *SMALL).complaint


FACTORIES = """
from torch import nn
def raises(): raise RuntimeError("no\\nluck")
def no_module(): return 3
def misfit(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Linear(7, 10))
def too_few(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 9))
def frozen(): return nn.Flatten()
def leaves(): raise SystemExit(3)
not_callable = 1
"""


@pytest.mark.parametrize("command", ["train", "diagnose"])
@pytest.mark.parametrize(
    ("factory", "says"),
    [
        ("raises", "raised RuntimeError: no"),
        ("no_module", "returned int; expected a torch.nn.Module"),
        ("misfit", "layer '2' (Linear) got input of shape (2, 5)"),
        ("too_few", "model gives (9,) for each example; expected (10,)"),
        ("not_callable", "no callable 'not_callable'"),
        ("missing", "no callable 'missing'"),
        ("leaves", "raised SystemExit"),
    ],
)
def test_networks_of_strangers(deepforward, command: str, factory: str, says: str) -> None:
    Path("nets.py").write_text(FACTORIES)
    assert says in deepforward(command, f"nets.py:{factory}", "--quiet").complaint


def test_a_file_that_does_not_run(deepforward) -> None:
    Path("nets.py").write_text("import nowhere_to_be_found")
    assert "raised ModuleNotFoundError" in deepforward("train", "nets.py:net").complaint


def test_a_loss_that_turns_nan_names_the_layer_and_keeps_the_run(deepforward) -> None:
    train = ("train", "perceptron", "--set", "depth=4", "--set", "learning_rate=1e6", "--epochs", 2, "--out", "run", "--quiet")
    outcome = deepforward(*train)
    assert "of layer '" in outcome.complaint
    assert "not-finite" in outcome.out
    assert "not-finite" in deepforward("diagnose", "run").out
    assert deepforward(*train, "--resume") == outcome


@pytest.fixture
def run(deepforward) -> Path:
    """A finished run of one epoch."""
    assert deepforward("train", "perceptron", *SMALL, "--out", "run").code == 0
    return Path("run")


@pytest.mark.parametrize("spoil", ["cut-short", "flipped-byte"])
def test_a_damaged_checkpoint(deepforward, run: Path, spoil: str) -> None:
    damaged = 0
    for path in run.glob("checkpoints/**/*.safetensors"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content[:-9] if spoil == "cut-short" else content)
        damaged += 1
    assert damaged
    assert "checkpoint" in deepforward("report", run).complaint


def test_a_run_folder_of_another_recipe(deepforward, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert (
        "another recipe (differs in epochs)"
        in deepforward("train", "perceptron", *SMALL, "--epochs", 2, "--out", run, "--resume").complaint
    )
    assert "--resume" in deepforward("train", "perceptron", *SMALL, "--out", run).complaint
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", ["report", "diagnose"])
def test_a_folder_that_is_no_run(deepforward, command: str) -> None:
    Path("empty").mkdir()
    assert "is not a run folder" in deepforward(command, "empty").complaint


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Let no file grow beyond a number of bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_a_run_that_can_go_on(deepforward, full_disk: Callable[[int], None]) -> None:
    train = ("train", "perceptron", *SMALL, "--out", "run", "--resume")
    full_disk(4000)
    assert "could not be written" in deepforward(*train).complaint
    full_disk(resource.RLIM_INFINITY)
    assert deepforward(*train).code == 0
    assert Path("run", "report.html").stat().st_size > 4000


def test_a_diagnosis_that_cannot_be_kept_is_said(deepforward, run: Path, full_disk: Callable[[int], None]) -> None:
    full_disk(0)
    outcome = deepforward("diagnose", run)
    assert "could not be written" in outcome.complaint
    assert "illness" in outcome.out


@pytest.mark.parametrize("option", [("--set", "depth=9"), ("--data", "digits"), ("--seed", 0)])
def test_the_recipe_of_a_run_is_not_changed_by_looking_at_it(deepforward, run: Path, option: tuple[object, ...]) -> None:
    assert "whose recipe is fixed" in deepforward("diagnose", run, *option).complaint


def test_an_output_that_cannot_be_written(deepforward, run: Path) -> None:
    Path("file").write_text("")
    for command in (["train", "perceptron", *SMALL, "--out", "file/run"], ["report", run, "--out", "file/page.html"]):
        assert "could not be written" in deepforward(*command).complaint


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fetch", "mnits"], "did you mean mnist"),
        (["fetch", "digits"], "unknown source to fetch"),
        (["lecture", "recurent-gradient"], "did you mean recurrent-gradient"),
        (["lecture", "--budget", "huge"], "expected smoke or full"),
        (["diagnose", "perceptrn"], "unknown run folder or model 'perceptrn'; did you mean perceptron"),
        (["diagnose", "runs/nothere"], "unknown run folder or model 'runs/nothere'"),
        (["diagnose", "nets.py"], "expected nets.py:FACTORY"),
        (["diagnose", "perceptron", "--out", "run"], "got --out without --cure"),
        (["watch", "nowhere"], "'nowhere' is not a run folder"),
    ],
)
def test_other_commands(deepforward, arguments: list[str], says: str) -> None:
    assert says in deepforward(*arguments).complaint
