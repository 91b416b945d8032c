"""Recipe -> run folder."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from torch import nn

from deepforward.data import Dataset, load
from deepforward.engine import checkpoint
from deepforward.engine.assembly import Parts, assemble
from deepforward.engine.device import choose_device, threads
from deepforward.engine.event_files import check_installed
from deepforward.engine.outlets import Outlets
from deepforward.engine.randomness import isolated
from deepforward.engine.recipe import Recipe
from deepforward.engine.run import Run, load_module, prepare_folder
from deepforward.engine.training import Training
from deepforward.engine.watch import Watch
from deepforward.errors import Diverged, InvalidOption


def fit(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    resume: bool = False,
    quiet: bool = False,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    throwaway: bool = False,
    watch: bool | Watch = False,
    tensorboard: bool = False,
) -> Run:
    """Train what the recipe names and keep everything in one folder.

    Args:
        recipe: What to train, on what, how; open fields are filled (`Recipe.complete`).
        out: Run folder; default `runs/MODEL-DATA-N`, N being the first free number.
        resume: Continue the run in `out` from its newest checkpoint (or begin it, if there is none); it gives the same bits
            as a run that was never interrupted. A finished run is returned as it is.
        quiet: Show no progress.
        data: Data to use instead of loading `recipe.data`.
        model: A built module to train in place instead of building `recipe.model`.
        throwaway: The folder will not stay, as that of a trial: no snapshots are kept, and the history is written once, at the
            end. It changes nothing of what the run computes.
        watch: Serve the run's page on localhost while it goes on, and say where on stderr; or a `Watch` that does so for
            longer, or on another port.
        tensorboard: Write history and readings to TensorBoard event files too, in `tensorboard/` of the folder.

    Returns:
        The finished run.

    Raises:
        Diverged: The loss became NaN or infinite; `folder` of the error is the run folder, whose readings name the origin.
        RunMismatch: The folder holds another run, or this one and `resume` is False.
        CorruptCheckpoint: The checkpoint to resume from is damaged.
        WriteFailed: The disk is full; the last checkpoint is intact.
        MissingExtra: `tensorboard` is asked for and not installed.
        DeepforwardError: Anything in the recipe that does not fit.
    """
    if not isinstance(recipe, Recipe):
        raise InvalidOption(
            f"fit got {type(recipe).__name__}; expected a deepforward.Recipe, for example Recipe(model='lenet5')"
        )
    outlets = Outlets(quiet=quiet, throwaway=throwaway, watch=bool(watch), tensorboard=tensorboard)
    if tensorboard:
        check_installed()  # that it is missing should be said before anything is loaded
    data = data or load(recipe.data)
    recipe = recipe.complete(data.task)
    folder = Path(out) if out is not None else default_folder(recipe)
    with Watch(folder, data) if watch is True else nullcontext():
        return _fit(recipe, folder, data, model, outlets, resume=resume)


def _fit(
    recipe: Recipe,
    folder: Path,
    data: Dataset,
    model: nn.Module | None,
    outlets: Outlets,
    *,
    resume: bool,
    altered: bool = False,
) -> Run:
    """`fit` of a complete recipe; `altered` says that the module given has the recipe's alterations already."""
    device = choose_device(recipe.device)
    with isolated(recipe.seed, device):
        parts = assemble(recipe, data, model, altered=altered)
        prepare_folder(folder, recipe, resume)
        run = Run(folder, recipe, data)
        if "status" not in run.result:
            if recipe.pretraining and not checkpoint.exists(folder / "checkpoints", "newest"):
                _pretrain(parts, folder, outlets)
                parts = assemble(recipe, data, parts.model, altered=True)
            with threads(parts.arithmetic.threads):
                Training(parts, run, outlets).run_through()
    if run.result["status"] == "diverged":
        raise Diverged(run.result["error"], folder)
    return run


def _pretrain(parts: Parts, folder: Path, outlets: Outlets) -> None:
    """Train the model in the stages that come first, each a run of its own below `folder`, and leave it with their weights."""
    data, model = parts.data, parts.model
    for number, stage in enumerate(parts.recipe.stages(), start=1):
        recipe, place = stage.complete(data.task), folder / f"pretraining-{number}"
        run = _fit(recipe, place, data, model, outlets, resume=True, altered=True)
        tensors = checkpoint.load(run.folder / "checkpoints", "best")[0]
        load_module(model, tensors, "model")


def default_folder(recipe: Recipe) -> Path:
    """The folder of a run that was given none: `runs/MODEL-DATA-N`, N being the first free number."""
    stem = "".join(c if c.isalnum() else "-" for c in f"{Path(recipe.model.partition(':')[0]).stem}-{recipe.data}").strip("-")
    number = 1
    while Path("runs", f"{stem}-{number}").exists():
        number += 1
    return Path("runs", f"{stem}-{number}")
