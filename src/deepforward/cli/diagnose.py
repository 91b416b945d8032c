"""`deepforward diagnose`: say what is wrong with a run, or with a network before it is trained."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deepforward import catalogue
from deepforward.cli.settings import Settings, recipe_from
from deepforward.errors import InvalidModel, InvalidOption, UnknownName

if TYPE_CHECKING:
    from deepforward.clinic import Case, Diagnosis
    from deepforward.engine import Recipe, Run


def command(
    patient: Annotated[str, typer.Argument(metavar="MODEL|RUN", help="A name, FILE.py:FACTORY, or the folder of a run.")],
    data: Annotated[
        str | None, typer.Option(help="For a model: a source, family[:path][?key=value&...]; digits if left out.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="For a model: fixes its initialisation; 0 if left out.")] = None,
    settings: Settings = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write an HTML page; of a model with all that passes of their own show."),
    ] = None,
    cure: Annotated[bool, typer.Option("--cure", help="Try prescriptions, and keep the best that is proved.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the runs of --cure.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write findings and verdicts as JSON.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Say what is wrong. A run is judged by what it left; a model by a few batches forward and backward, without training.

    A factory of a model that takes or gives more than one tensor returns (model, batches, loss): batches of any kind, and
    loss(model, batch) -> one number.
    """
    from deepforward import clinic
    from deepforward.cli import show
    from deepforward.engine import Run

    if out is not None and not cure:
        raise InvalidOption("got --out without --cure; a diagnosis writes no folder, --json FILE writes its findings")
    if report is not None and cure:
        raise InvalidOption("got --report with --cure, whose runs have reports of their own; leave one out")
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
    if isinstance(judged, Run):
        diagnosis = examine(judged)
        if report is not None:
            typer.echo(judged.report(report))
    else:
        case = _case(judged, own_data=data is not None)
        diagnosis = clinic.conclude(clinic.evidence_of_case(case))
        show.diagnosis(diagnosis)
        if report is not None:
            typer.echo(_page(diagnosis, case, judged, report))
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


def _case(recipe: Recipe, own_data: bool) -> Case:
    """A model of the catalogue or of a factory, untrained, with what to look at it by."""
    from torch import nn

    from deepforward.clinic import case_of
    from deepforward.data import load
    from deepforward.engine.assembly import assemble, build
    from deepforward.engine.device import choose_device
    from deepforward.engine.randomness import isolated

    data = load(recipe.data)
    given, recipe = recipe, recipe.complete(data.task)
    objective, scaling = recipe.objective or "cross-entropy", recipe.scaling or "none"
    with isolated(recipe.seed, choose_device(recipe.device)):
        made = build(recipe, data)
        if isinstance(made, tuple):
            return _own_case(made, given, own_data)
        # What is no module at all is built again, which says so.
        module = assemble(recipe, data, made if isinstance(made, nn.Module) else None).model
    return case_of(module, data, objective=objective, scaling=scaling)


def _own_case(made: tuple[Any, ...], recipe: Recipe, own_data: bool) -> Case:
    """A case that a factory brought along.

    Raises:
        InvalidModel: It is not (model, batches, loss).
        InvalidOption: Options that its own batches and loss leave without effect.
    """
    from torch import nn

    from deepforward.clinic import case_of
    from deepforward.engine import Recipe

    if len(made) != 3 or not isinstance(made[0], nn.Module) or not callable(made[2]):
        kinds = ", ".join(type(part).__name__ for part in made)
        raise InvalidModel(f"factory of '{recipe.model}' returned ({kinds}); expected a module, or (model, batches, loss)")
    plain = Recipe(model=recipe.model, model_options=recipe.model_options, data=recipe.data, seed=recipe.seed)
    idle = [field.name for field in fields(Recipe) if getattr(recipe, field.name) != getattr(plain, field.name)]
    if own_data or idle:
        named = "--data" if own_data else f"--set {idle[0]}=..."
        raise InvalidOption(f"got {named} with '{recipe.model}', which brings its own batches and loss; leave it out")
    return case_of(made[0], made[1], objective=made[2])


def _page(diagnosis: Diagnosis, case: Case, recipe: Recipe, file: Path) -> Path:
    from deepforward import report
    from deepforward.clinic import diagnosis_page, look_closely

    where = {"data": recipe.data} if case.input_scale is not None else {}
    options = [f"--set {key}={json.dumps(value)}" for key, value in recipe.model_options.items()]
    command = " ".join(["deepforward diagnose", recipe.model, *(f"--data {name}" for name in where.values()), *options])
    facts = {"model": recipe.model, **where, "seed": recipe.seed, "objective": case.objective, "batches": len(case.batches)}
    title = " on ".join([recipe.model, *where.values()])
    return report.write(diagnosis_page(diagnosis, look_closely(case), title, command=command, facts=facts), file)


def _check_name(patient: str) -> None:
    names = [card.name for card in catalogue.cards("models")]
    if patient not in names and ":" not in patient and not patient.endswith(".py"):
        raise UnknownName("run folder or model", patient, names)


def _write(file: Path | None, content: dict[str, Any]) -> None:
    from deepforward.files import write_whole

    if file is not None:
        write_whole(file, (json.dumps(content, indent=1) + "\n").encode())
