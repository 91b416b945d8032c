"""`deepforward embed`: examples as a trained model sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    data: Annotated[str | None, typer.Option(help="A source of the same shape; the run's own data if left out.")] = None,
    split: Annotated[str, typer.Option(help="test, or train.")] = "test",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR|FILE", help="A folder, or a file .npz or .csv; RUN if left out.")
    ] = None,
) -> None:
    """Write the features that the model of a run gives each example, with the targets, and print their shape and the path."""
    from deepforward.data import load
    from deepforward.engine import Run, exports

    opened = Run.open(run)
    path, *_ = exports.output_paths(out or run, f"features-{split}", (".npz", ".csv"))  # one kind is enough in a folder
    source = opened.data if data is None else load(data)
    features, targets = opened.embed(split, source)
    exports.write_features(path, features, targets, source)
    typer.echo(f"{features.shape[0]} examples of {features.shape[1]} features")
    typer.echo(path)
