"""`deepforward watch`: look at a run that another process trains."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

#: Ends with an interrupt only.
wait = threading.Event().wait


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    port: Annotated[int | None, typer.Option(help="Port on localhost; the first free one from 7007 if left out.")] = None,
) -> None:
    """Serve the report of a run on localhost, as far as it has come, until interrupted."""
    from deepforward.engine import Run, Watch

    Run.open(run)
    with suppress(KeyboardInterrupt), Watch(run, port=port):
        wait()
