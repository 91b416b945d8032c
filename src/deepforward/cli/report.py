"""`deepforward report`: draw the page of a finished run again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path | None, typer.Option(help="File to write; RUN/report.html if left out.")] = None,
) -> None:
    """Write the report of a run as one HTML file that needs no network, and print its path."""
    from deepforward.engine import Run

    typer.echo(Run.open(run).report(out))
