"""`deepforward fetch`: download a data source once, for all later runs."""

from __future__ import annotations

from typing import Annotated

import typer


def command(name: Annotated[str, typer.Argument(help="A source that can be downloaded, such as mnist.")]) -> None:
    """Download a data source into the user's cache folder, checking its checksum."""
    from deepforward.data import fetch

    typer.echo(fetch(name))
