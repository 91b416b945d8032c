"""What every benchmark is made of: variants measured in turn, a table for people and a JSON file for machines.

Ours and the peer alternate within one process, so that a busy or throttled machine slows both; a ratio is taken within a round,
and its quartiles say how far rounds disagree.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import median, quantiles
from typing import Any

Row = Mapping[str, Any]


def in_turn(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call every variant once a round, and collect what each returns."""
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            taken[name].append(measure())
    return taken


def compare(
    name: str, ours: Sequence[float], peer: Sequence[float], peer_name: str, unit: str, *, less_is_better: bool = True
) -> Row:
    """A row from paired measurements; `ratio` above 1 says that ours is better."""
    pairs = zip(ours, peer, strict=True)
    ratios = [theirs / mine if less_is_better else mine / theirs for mine, theirs in pairs]
    low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return {
        "name": name,
        "ours": median(ours),
        "peer": median(peer),
        "peer_name": peer_name,
        "unit": unit,
        "ratio": median(ratios),
        "ratio_quartiles": [low, high],
        "n": len(ratios),
    }


def against_bound(name: str, ours: Sequence[float], bound: float, unit: str) -> Row:
    """A row that holds a measurement against a promised upper bound."""
    return compare(name, ours, [bound] * len(ours), "promised at most", unit)


def unavailable(name: str, peer_name: str, reason: str) -> Row:
    """A row for a peer that cannot be run here."""
    return {
        "name": name,
        "ours": None,
        "peer": None,
        "peer_name": peer_name,
        "unit": "",
        "ratio": None,
        "n": 0,
        "reason": reason,
    }


def stated(name: str, ours: float, peer: float | None, peer_name: str, unit: str, *, reason: str, **more: Any) -> Row:
    """A row of numbers whose ratio means nothing, such as likelihoods; `more` are further numbers of it."""
    return {"name": name, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": unit, "ratio": None, "n": 1,
            "reason": reason, **more}  # fmt: skip


def arguments(description: str) -> argparse.Namespace:
    """`--quick` and `--json FILE`, the same for every benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: seconds to a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    return parser.parse_args()


def publish(question: str, rows: Sequence[Row], json_file: Path | None) -> None:
    """Print the rows and, if asked, write them with the machine, the versions and the command."""
    print(f"\n{question}")
    for row in rows:
        if row["ratio"] is None and row["ours"] is not None:
            peer = "" if row["peer"] is None else f"{row['peer_name']} {row['peer']:.4g}   "
            print(f"  {row['name']:<34} {row['ours']:10.4g} {row['unit']:<12} {peer}{row['reason']}")
            continue
        if row["ratio"] is None:
            print(f"  {row['name']:<34} against {row['peer_name']}: not measured, {row['reason']}")
            continue
        low, high = row["ratio_quartiles"]
        print(
            f"  {row['name']:<34} {row['ours']:10.4g} {row['unit']:<12} {row['peer_name']} {row['peer']:.4g}"
            f"   ratio {row['ratio']:.2f} [{low:.2f}, {high:.2f}]   n={row['n']}"
        )
        if note := row.get("note"):
            print(f"    {row['peer_name']}: {note}")
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps({"question": question, **_circumstances(), "rows": list(rows)}, indent=1))


def _circumstances() -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in ("deepforward", "torch", "numpy")} | {
        "python": platform.python_version()
    }
    return {"machine": _machine(), "versions": versions, "command": " ".join(["python", *sys.argv])}


def _machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")] if cpuinfo.exists() else []
    processor = models[0].partition(": ")[2] if models else platform.processor()
    return f"{len(models) or '?'} x {processor}, {platform.system()} {platform.release()}"
