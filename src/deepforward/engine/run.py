"""A Run: one folder that holds all that a recipe gave."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from deepforward import catalogue
from deepforward.data import Dataset, Scaling, Split, load
from deepforward.engine import checkpoint, embedding, generation, prediction, snapshots
from deepforward.engine.assembly import Parts, assemble
from deepforward.engine.device import choose_device
from deepforward.engine.evaluation import Evaluation, evaluate_examples
from deepforward.engine.randomness import isolated
from deepforward.engine.recipe import Recipe
from deepforward.errors import CorruptRun, DeepforwardError, RunMismatch, ShapeError, UnknownName
from deepforward.files import write_whole
from deepforward.instruments.readings import Readings

_T = TypeVar("_T")


@dataclass(eq=False)
class Run:
    """A run folder.

    | in it | what |
    | --- | --- |
    | `recipe.json` | the complete recipe |
    | `checkpoints/` | `best` and `newest`: weights, and all that a run needs to go on |
    | `history.jsonl` | a row an epoch |
    | `readings.json` | what the instruments saw, if they were on |
    | `snapshots/` | what the objective showed of the model after some epochs, if it shows anything |
    | `result.json` | status, metrics and findings, once the run has ended |
    | `tensorboard/` | event files with history and readings, if they are asked for |
    | `report.html` | the report, once it is asked for |
    | `pretraining-N/` | the run of stage N of `Recipe.pretraining`, a folder like this one |

    Attributes:
        folder: Where it lies.
        recipe: The complete recipe.
        data: The data, loaded again from its name when first asked for.
    """

    folder: Path
    recipe: Recipe
    given_data: Dataset | None = None

    @classmethod
    def open(cls, folder: str | Path, data: Dataset | None = None) -> Run:
        """The run in `folder`, finished or not.

        Raises:
            RunMismatch: The folder holds no run.
        """
        path = Path(folder)
        if not (path / "recipe.json").is_file():
            raise RunMismatch(f"'{path}' is not a run folder (it has no recipe.json); give the --out of an earlier run")
        return cls(path, _read(path / "recipe.json", Recipe.from_json), data)

    @cached_property
    def data(self) -> Dataset:
        """The data of the recipe."""
        return self.given_data or load(self.recipe.data)

    @property
    def history(self) -> list[dict[str, float]]:
        """One mapping an epoch; a number that was not finite reads as NaN."""
        path = self.folder / "history.jsonl"
        return _read(path, _parse_history) if path.is_file() else []

    @property
    def result(self) -> dict[str, Any]:
        """Status, epochs, metrics, findings, seconds; {} while the run has not ended."""
        path = self.folder / "result.json"
        return _read(path, _parse_object) if path.is_file() else {}

    def update_result(self, **entries: Any) -> None:
        """Add entries to result.json, keeping the others.

        Raises:
            WriteFailed: The file could not be written; the old one is intact.
        """
        write_whole(self.folder / "result.json", (json.dumps(self.result | entries, indent=1) + "\n").encode())

    @property
    def metrics(self) -> dict[str, float]:
        """Final metrics by name, e.g. `test/accuracy` (share in [0, 1]); NaN where one was not finite."""
        return {name: math.nan if value is None else value for name, value in self.result.get("metrics", {}).items()}

    @property
    def descends(self) -> bool:
        """Whether a healthy run of this objective lowers its loss; where not, the loss tells nothing."""
        return catalogue.load("objectives", self.recipe.objective or "cross-entropy").descends

    @property
    def readings(self) -> Readings | None:
        """What the always-on instruments saw, or None if they were off."""
        path = self.folder / "readings.json"
        return _read(path, Readings.from_json) if path.is_file() else None

    @property
    def snapshots(self) -> dict[int, dict[str, Tensor]]:
        """Epoch -> name -> what the objective showed then, such as samples (examples, *shape) in scaled units."""
        return snapshots.load(self.folder)

    def parts(self, which: str = "best") -> Parts:
        """The run's parts with the weights of its checkpoint `which` ("best" by validation loss, or "newest").

        Raises:
            CorruptCheckpoint: The checkpoint is missing or damaged.
        """
        folder = self.folder / "checkpoints"
        name = which if checkpoint.exists(folder, which) else "newest"
        tensors, _ = checkpoint.load(folder, name)
        with isolated(self.recipe.seed, choose_device(self.recipe.device)):
            parts = assemble(self.recipe, self.data)
        load_tensors(parts, tensors)
        parts.model.eval()
        return parts

    def model(self, which: str = "best") -> nn.Module:
        """The trained module in evaluation mode; it takes scaled inputs (see `scaling`)."""
        return self.parts(which).model

    @property
    def scaling(self) -> Scaling:
        """The fitted scaling that the model's inputs must pass."""
        return self.parts().scaling

    def evaluation(self) -> Evaluation:
        """What the run's model says of each test example."""
        parts = self.parts()
        return evaluate_examples(parts, self.data.test)

    def sample(self, count: int = 64, steps: int = 1000, seed: int = 0) -> Tensor:
        """New examples (count, *shape) in the units of the data, by `steps` Gibbs sweeps each (`generation.sample`)."""
        return generation.sample(self.parts(), count, steps, seed)

    def complete(self, given: str = "upper", count: int = 64, steps: int = 1000, seed: int = 0) -> generation.Completions:
        """Test examples of which one half is given and the other drawn (`generation.complete`)."""
        return generation.complete(self.parts(), given, count, steps, seed)

    def embed(self, split: str = "test", data: Dataset | None = None) -> tuple[Tensor, Tensor]:
        """What the model makes of each example of a split (examples, features), and their targets (`embedding.embed`).

        Args:
            split: `test` or `train`; the latter includes what was held out for validation.
            data: Other data of the same shape than the run's own.

        Raises:
            UnknownName: Another split.
            ShapeError: `data` has examples of another shape.
        """
        if split not in ("test", "train"):
            raise UnknownName("split", split, ("test", "train"))
        if data is not None and data.shape != self.data.shape:
            raise ShapeError(
                f"got {data.name} with examples of shape {data.shape}; expected {self.data.shape} as in {self.data.name}; "
                "give data of that shape"
            )
        examples: Split = getattr(data or self.data, split)
        return embedding.embed(self.parts(), examples), examples.targets

    def predict(self, *images: str | Path | Tensor) -> list[Tensor]:
        """What the run's model says of each image, a file or a tensor in the units of the data (`prediction.predict`).

        Returns:
            For each: probabilities of the classes, a value, a mask (height, width) uint8, or an image, by the task of the data.

        Raises:
            CorruptData, DataUnavailable, InvalidData: A file is no image that can be read.
            ShapeError: An image has another shape than the data of the run.
            InvalidOption, InvalidModel: The run is not on images, or gives neither classes nor values.
        """
        parts = self.parts()
        return [
            prediction.predict(parts, image if isinstance(image, Tensor) else prediction.read_image(parts, Path(image)))
            for image in images
        ]

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report as one HTML file (default: report.html in the folder) and return its path."""
        from deepforward.engine.run_report import write_report  # noqa: PLC0415  (drawing is loaded only when a report is made)

        return write_report(self, Path(path) if path else self.folder / "report.html")


def load_tensors(parts: Parts, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put the model, objective and scaling tensors of a checkpoint into `parts`."""
    for name, module in (("model", parts.model), ("objective", parts.objective), ("scaling", parts.scaling)):
        load_module(module, tensors, name)


def load_module(module: nn.Module, tensors: Mapping[str, torch.Tensor], name: str) -> None:
    """Put those tensors of a checkpoint that belong to its part `name` into `module`.

    Raises:
        RunMismatch: They do not fit.
    """
    prefix = f"{name}/"
    state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise RunMismatch(
            f"the checkpoint's {name} does not fit the one the recipe builds ({str(error).splitlines()[-1].strip()}); "
            "was the model's file changed since?"
        ) from error


def _read(path: Path, parse: Callable[[str], _T]) -> _T:
    """What a file of the run holds.

    Raises:
        CorruptRun: It cannot be read or parsed.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except DeepforwardError:
        raise
    except OSError as error:
        raise CorruptRun(f"{path} cannot be read ({error.strerror}); make it readable or train again") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CorruptRun(f"{path} is cut short or altered ({type(error).__name__}); restore it or train again") from error


def _parse_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, got {type(value).__name__}")
    return value


def _parse_history(text: str) -> list[dict[str, float]]:
    rows = [_parse_object(line) for line in text.splitlines()]
    return [{key: math.nan if value is None else value for key, value in row.items()} for row in rows]


def prepare_folder(folder: Path, recipe: Recipe, resume: bool) -> None:
    """Make the run folder, or check that it holds this very recipe.

    Raises:
        RunMismatch: It holds another recipe, or this one without `resume`, or foreign files.
        WriteFailed: It cannot be written.
    """
    begun = folder.is_dir() and any(path.name != "recipe.json" for path in folder.iterdir())
    if begun and (folder / "recipe.json").is_file():
        held = _read(folder / "recipe.json", Recipe.from_json)
        differing = held.differences(recipe)
        if differing:
            raise RunMismatch(f"'{folder}' holds another recipe (differs in {', '.join(differing)}); give another --out")
        if not resume:
            raise RunMismatch(f"'{folder}' already holds this run; continue it with --resume or give another --out")
        return
    if begun:
        raise RunMismatch(f"'{folder}' is not empty and holds no run; give another --out")
    write_whole(folder / "recipe.json", recipe.to_json().encode())


def versions() -> dict[str, str]:
    """Versions of what computes, for the report and result.json."""
    from deepforward import __version__  # noqa: PLC0415  (the package itself is only fully imported by now)

    own = {"deepforward": __version__, "torch": torch.__version__}
    return own | {"python": platform.python_version(), "machine": platform.machine()}
