"""`deepforward list`: every card, without importing what it stands for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from deepforward import catalogue
from deepforward.errors import UnknownName


def command(
    kind: Annotated[str | None, typer.Argument(help="models, sources, objectives, ...; all kinds if left out")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the cards as JSON.")] = False,
) -> None:
    """List every named thing: what it is, where it comes from, what it takes."""
    if kind is not None and kind not in catalogue.KINDS:
        raise UnknownName("kind of card", kind, catalogue.KINDS)
    cards = [card for each in ([kind] if kind else catalogue.KINDS) for card in catalogue.cards(each)]
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(card) for card in cards], indent=1))
    else:
        _print(cards)


def _print(cards: list[catalogue.Card]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:  # one line a card, for grep and cut
        for card in cards:
            typer.echo("\t".join([card.kind, card.name, card.summary, card.source, _details(card.details)]))
        return
    for kind in dict.fromkeys(card.kind for card in cards):
        table = Table(title=kind, title_justify="left", title_style="bold", expand=True)
        table.add_column("name", style="cyan", no_wrap=True)
        for column in ("what it is", "source", "details"):
            table.add_column(column, ratio=1)
        for card in cards:
            if card.kind == kind:
                table.add_row(card.name, card.summary, card.source, _details(card.details))
        console.print(table)


def _details(details: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key}={json.dumps(value) if isinstance(value, (dict, list)) else value}" for key, value in details.items()
    )
