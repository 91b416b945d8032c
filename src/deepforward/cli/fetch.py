"""`deepforward fetch`: download a data source once, for all later runs."""

from __future__ import annotations

from typing import Annotated

import typer


def command(name: Annotated[str, typer.Argument(help="A source that can be downloaded, such as mnist.")]) -> None:
    """Download a data source into the user's cache folder, check it, and print where it lies."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    from deepforward.data import fetch

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    stderr = Console(stderr=True)
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bars.add_task(file)
                if bars.disable:
                    typer.echo(f"downloading {file}", err=True)
            bars.update(tasks[file], completed=done, total=total)

        folder = fetch(name, progress=show)
    typer.echo(folder)
