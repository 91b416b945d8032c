"""`deepforward diagnose`: say what is wrong with a run, or with a network before it is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepforward import catalogue
from deepforward.cli.settings import Settings, recipe_from
from deepforward.errors import InvalidOption, UnknownName

if TYPE_CHECKING:
    from torch import nn

    from deepforward.clinic import Diagnosis
    from deepforward.data import Dataset
    from deepforward.engine import Recipe, Run


def command(
    patient: Annotated[str, typer.Argument(metavar="MODEL|RUN", help="A name, FILE.py:FACTORY, or the folder of a run.")],
    data: Annotated[
        str | None, typer.Option(help="For a model: a source, family[:path][?key=value&...]; digits if left out.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="For a model: fixes its initialisation; 0 if left out.")] = None,
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
    from deepforward.engine import Run

    if out is not None and not cure:
        raise InvalidOption("got --out without --cure; a diagnosis writes no folder, --json FILE writes its findings")
    judged: Run | Recipe
    if Path(patient).is_dir():
        if settings or data is not None or seed is not None:
            raise InvalidOption(f"got --set, --data or --seed with '{patient}', whose recipe is fixed; leave them out")
        judged = Run.open(patient)
    else:
        _check_name(patient)
        judged = recipe_from(patient, settings, data=data or "digits", seed=seed or 0)
    if cure:
        cured = clinic.cure(judged, out=out, quiet=quiet)
        show.cure(cured)
        _write(json_file, cured.to_dict())
        return
    diagnosis = examine(judged) if isinstance(judged, Run) else _examine_untrained(judged)
    _write(json_file, diagnosis.to_dict())


def examine(run: Run) -> Diagnosis:
    """Say what is wrong with a run, and only then write it into the run's folder, which may be read-only."""
    from deepforward import clinic
    from deepforward.cli import show
    from deepforward.clinic.diagnosis import record

    diagnosis = clinic.conclude(clinic.evidence_of(run))
    show.diagnosis(diagnosis)
    record(run, findings=diagnosis.to_dict()["findings"])
    return diagnosis


def _examine_untrained(recipe: Recipe) -> Diagnosis:
    from deepforward import clinic
    from deepforward.cli import show
    from deepforward.data import load

    data = load(recipe.data)
    recipe = recipe.complete(regression=not data.classes)
    diagnosis = clinic.diagnose(
        _untrained(recipe, data), data, objective=recipe.objective or "cross-entropy", scaling=recipe.scaling or "none"
    )
    show.diagnosis(diagnosis)
    return diagnosis


def _check_name(patient: str) -> None:
    names = [card.name for card in catalogue.cards("models")]
    if patient not in names and ":" not in patient and not patient.endswith(".py"):
        raise UnknownName("run folder or model", patient, names)


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
