"""`deepforward train`: fit, diagnose and, if asked, cure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepforward.cli.settings import Settings, recipe_from


def command(
    model: Annotated[str, typer.Argument(help="A name from `deepforward list models`, or FILE.py:FACTORY.")],
    data: Annotated[str, typer.Option(help="A source, family[:path][?key=value&...].")] = "digits",
    epochs: Annotated[int | None, typer.Option(help="Passes over the training examples.")] = None,
    seed: Annotated[int, typer.Option(help="Fixes every random draw.")] = 0,
    validation: Annotated[float | None, typer.Option(help="Share of the training examples held out to choose by.")] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
    cure: Annotated[bool, typer.Option("--cure", help="Try prescriptions, and keep the best that is proved.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train MODEL on a data source, say what is wrong with it, and write a report."""
    recipe = recipe_from(
        model, settings, data=data, epochs=epochs, seed=seed, validation=validation, precision=precision, device=device
    )
    from deepforward import clinic
    from deepforward.cli import show
    from deepforward.engine import Run, fit
    from deepforward.errors import Diverged

    try:
        if cure:
            cured = clinic.cure(recipe, out=out, quiet=quiet)
            show.cure(cured)
            typer.echo((cured.run or cured.baseline).report())
            return
        run = fit(recipe, out, resume=resume, quiet=quiet)
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {_way_on(out, cure)}", err=True)
        raise typer.Exit(130) from None
    except Diverged as error:
        if error.folder is not None:
            show.diagnosis(clinic.diagnose(Run.open(error.folder)))
        raise
    show.run(run)
    show.diagnosis(clinic.diagnose(run))
    typer.echo(run.report())


def _way_on(out: Path | None, cure: bool) -> str:
    if cure:
        return "what was finished lies in the folder of the run; a cure begins anew"
    if out is None:
        return "the same command with --resume and --out, the newest folder below runs, goes on"
    return f"the same command with --out {out} --resume goes on"
