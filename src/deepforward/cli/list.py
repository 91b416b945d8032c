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
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:  # one line a card, for grep and cut
        for card in cards:
            typer.echo("\t".join([card.kind, card.name, card.summary, card.source, "; ".join(_details(card))]))
        return
    for kind in dict.fromkeys(card.kind for card in cards):
        table = Table(title=kind, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_lines=True, expand=True)
        table.add_column("name", style="cyan", no_wrap=True)
        table.add_column("what it is, and its source", ratio=5)
        table.add_column("details", ratio=4)
        for card in cards:
            if card.kind == kind:
                text = Text.assemble(card.summary, "\n", (card.source, "dim"))
                table.add_row(card.name, text, Text("\n".join(_details(card))))
        console.print(table)


def _details(card: catalogue.Card) -> list[str]:
    """The card's other facts; nested tables, addresses and full citations are left to `--json`."""
    return [
        f"{key} {_inline(value)}"
        for key, value in card.details.items()
        if value and key not in {"citation", "url"} and not (isinstance(value, list) and isinstance(value[0], dict))
    ]


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_inline(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
