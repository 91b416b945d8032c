"""`deepforward train`: fit, diagnose and, if asked, cure."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from deepforward.cli.diagnose import examine
from deepforward.cli.settings import Settings, recipe_from
from deepforward.errors import Diverged, InvalidOption


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
    watch: Annotated[bool, typer.Option("--watch", help="Serve the report on localhost while the run goes on.")] = False,
    watch_port: Annotated[int | None, typer.Option(help="Port for --watch; the first free one from 7007 if left out.")] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard event files.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train MODEL on a data source, say what is wrong with it, and write a report."""
    if resume and (cure or out is None):
        given = "with --cure, which begins anew" if cure else "without --out"
        raise InvalidOption(f"got --resume {given}; expected --out RUN --resume, RUN being the folder to go on in")
    if cure and (watch or tensorboard):
        given = "--watch" if watch else "--tensorboard"
        raise InvalidOption(f"got {given} with --cure, whose trials leave no folders; train first, then diagnose RUN --cure")
    if watch_port is not None and not watch:
        raise InvalidOption("got --watch-port without --watch; give both")
    recipe = recipe_from(
        model, settings, data=data, epochs=epochs, seed=seed, validation=validation, precision=precision, device=device
    )
    from deepforward import clinic
    from deepforward.cli import show
    from deepforward.data import load
    from deepforward.engine import Run, Watch, default_folder, fit

    folder = out or default_folder(recipe)
    try:
        if cure:
            cured = clinic.cure(recipe, out=out, quiet=quiet)
            show.cure(cured)
            typer.echo((cured.run or cured.baseline).report())
            return
        source = load(recipe.data)
        with ExitStack() as stack:
            watching = stack.enter_context(Watch(folder, source, watch_port)) if watch else False
            run = fit(recipe, folder, resume=resume, quiet=quiet, data=source, watch=watching, tensorboard=tensorboard)
            show.run(run)
            examine(run)
            typer.echo(run.report())
    except KeyboardInterrupt:
        way_on = "a cure begins anew" if cure else f"the same command with --out {folder} --resume goes on"
        typer.echo(f"interrupted; {way_on}", err=True)
        raise typer.Exit(130) from None
    except Diverged as error:
        if error.folder is not None:
            examine(Run.open(error.folder))
        raise
