"""`deepforward lecture`: measure what the lecture claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from deepforward.lecture import Outcome


def command(
    claims: Annotated[list[str] | None, typer.Argument(help="Names from `deepforward list claims`; all if left out.")] = None,
    budget: Annotated[str, typer.Option(help="smoke (seconds) or full (what the published pattern needs).")] = "smoke",
    out: Annotated[Path, typer.Option(help="Folder for the page and for what was measured.")] = Path("runs/lecture"),
    seed: Annotated[int, typer.Option(help="Fixes every random draw.")] = 0,
    jobs: Annotated[int, typer.Option(help="Claims to measure at the same time.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the outcomes as JSON.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Measure the lecture's claims, hold the numbers against their bounds, draw them on a page. Exit code 1 if one fails."""
    from deepforward.files import write_whole
    from deepforward.lecture import run_claims

    def progress(line: str) -> None:
        if not quiet:
            typer.echo(line, err=True)

    outcomes = run_claims(claims or (), budget, out, seed=seed, jobs=jobs, progress=progress)
    _print(outcomes)
    if json_file is not None:
        write_whole(json_file, (json.dumps([outcome.record() for outcome in outcomes], indent=1) + "\n").encode())
    typer.echo(out / "lecture.html")
    if any(outcome.status == "fails" for outcome in outcomes):
        raise typer.Exit(1)


def _print(outcomes: list[Outcome]) -> None:
    from deepforward.cli import show

    table = show.table(["claim", "check"], ["value", "low", "high", "unit", ""])
    for outcome in outcomes:
        table.add_section()
        table.add_row(outcome.card.name, outcome.status, style="bold red" if outcome.status == "fails" else "bold green")
        for check in outcome.checks:
            numbers = (f"{number:.5g}" for number in (check.value, check.low, check.high))
            table.add_row("", check.name, *numbers, check.unit, "" if check.holds else "fails")
    show.console().print(table)
