"""`deepforward features`: what the layers of a trained network respond to, from simple to complex."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run of a convolutional network.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write; RUN/features.html if left out.")] = None,
) -> None:
    """Write a page of filters, receptive fields, what excites channels most and where the network looks, and print its path."""
    from deepforward.engine import Run
    from deepforward.engine.feature_page import write_features

    typer.echo(write_features(Run.open(run), out or run / "features.html"))
