"""`deepforward sample`: what a trained model dreams, or how it completes what it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run of a model with an energy.")],
    count: Annotated[int, typer.Option(help="Number of examples.")] = 64,
    steps: Annotated[int, typer.Option(help="Gibbs sweeps of each.")] = 1000,
    seed: Annotated[int, typer.Option(help="Fixes the draws.")] = 0,
    given: Annotated[
        str | None,
        typer.Option(metavar="HALF", help="Complete test images of which one half is given: upper, lower, left or right."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR|FILE", help="A folder, or a file .png or .npz; RUN if left out.")
    ] = None,
) -> None:
    """Draw examples from the model of a run, write them as a picture and as arrays, and print the paths."""
    from deepforward.engine import Run, exports

    opened = Run.open(run)
    paths = exports.output_paths(out or run, "completions" if given else "samples", (".png", ".npz"))
    if given is None:
        written = exports.write_samples(paths, opened.sample(count, steps, seed), opened.data)
    else:
        written = exports.write_completions(paths, opened.complete(given, count, steps, seed), opened.data)
    for path in written:
        typer.echo(path)
