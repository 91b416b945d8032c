"""`deepforward diagnose`: say what is wrong with a run, or with a network before it is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepforward.cli.settings import Settings, recipe_from

if TYPE_CHECKING:
    from torch import nn

    from deepforward.data import Dataset
    from deepforward.engine import Recipe


def command(
    patient: Annotated[str, typer.Argument(metavar="MODEL|RUN", help="A name, FILE.py:FACTORY, or the folder of a run.")],
    data: Annotated[str, typer.Option(help="For a model: a source, family[:path][?key=value&...].")] = "digits",
    seed: Annotated[int, typer.Option(help="For a model: fixes its initialisation.")] = 0,
    settings: Settings = None,
    cure: Annotated[bool, typer.Option("--cure", help="Try prescriptions, and keep the best that is proved.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the runs of --cure.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write findings and verdicts as JSON.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Say what is wrong. A run is judged by what it left; a model by a few batches forward and backward, without training."""
    from deepforward import clinic
    from deepforward.cli import show
    from deepforward.data import load
    from deepforward.engine import Run

    run = Run.open(patient) if Path(patient).is_dir() else None
    if cure:
        cured = clinic.cure(run or recipe_from(patient, settings, data=data, seed=seed), out=out, quiet=quiet)
        show.cure(cured)
        _write(json_file, cured.to_dict())
        return
    if run is not None:
        diagnosis = clinic.diagnose(run)
    else:
        dataset = load(data)
        recipe = recipe_from(patient, settings, data=data, seed=seed).complete(regression=not dataset.classes)
        diagnosis = clinic.diagnose(_untrained(recipe, dataset), dataset, objective=recipe.objective or "cross-entropy")
    show.diagnosis(diagnosis)
    _write(json_file, diagnosis.to_dict())


def _untrained(recipe: Recipe, data: Dataset) -> nn.Module:
    from deepforward.engine.assembly import assemble
    from deepforward.engine.device import choose_device
    from deepforward.engine.randomness import isolated

    with isolated(recipe.seed, choose_device(recipe.device)):
        return assemble(recipe, data).model


def _write(file: Path | None, content: dict[str, Any]) -> None:
    from deepforward.files import write_whole

    if file is not None:
        write_whole(file, (json.dumps(content, indent=1) + "\n").encode())
