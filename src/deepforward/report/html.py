"""Block -> HTML. Every text is escaped here, and only here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import singledispatch
from html import escape
from typing import Any

import numpy as np

from deepforward.errors import InvalidOption
from deepforward.report.blocks import Advice, Chart, Code, Facts, Images, Table, Text, Tone, Verdict
from deepforward.report.images import data_uris
from deepforward.report.plain import plain

#: A sign for each tone, so that nothing is said by colour alone.
SIGNS: Mapping[Tone, str] = {"good": "✓", "bad": "✕", "warn": "!", "neutral": "·"}


def script_safe(value: Any) -> str:
    """JSON that can stand inside a script element: no string in it can end the element; what is not finite becomes null."""
    text = json.dumps(_finite(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _finite(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


@singledispatch
def draw(block: object) -> str:
    """One block as an HTML element.

    Raises:
        InvalidOption: `block` is not one of the blocks, or a chart takes its data from a URL.
    """
    raise InvalidOption(f"got {type(block).__name__} as a block of a page; expected one of deepforward.report.blocks")


@draw.register
def _(block: Verdict) -> str:
    numbers = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(plain(x))}</dd></div>" for name, x in block.numbers.items())
    outcome = block.outcome[:1].upper() + block.outcome[1:]
    return (
        f'<section class="verdict {block.tone}" aria-label="Verdict">'
        f'<p class="outcome"><span class="sign" aria-hidden="true">{SIGNS[block.tone]}</span>{escape(outcome)}</p>'
        f'<p class="sentence">{escape(block.sentence)}</p>' + (f"<dl>{numbers}</dl>" if numbers else "") + "</section>"
    )


@draw.register
def _(block: Advice) -> str:
    actions = "".join(f"<li>{escape(action)}</li>" for action in block.actions)
    return (
        f'<article class="advice {block.tone}">'
        f'<h2><span class="sign" aria-hidden="true">{SIGNS[block.tone]}</span>{escape(block.title)}</h2>'
        + (f"<p>{escape(block.cause)}</p>" if block.cause else "")
        + (f'<p class="try">Try, in this order:</p><ol>{actions}</ol>' if actions else "")
        + (f'<p class="source">{escape(block.source)}</p>' if block.source else "")
        + "</article>"
    )


@draw.register
def _(block: Text) -> str:
    return f"<p>{escape(block.text)}</p>"


@draw.register
def _(block: Code) -> str:
    return f'<pre tabindex="0"><code>{escape(block.text)}</code></pre>'


@draw.register
def _(block: Facts) -> str:
    rows = "".join(
        f'<tr><th scope="row">{_breakable(name)}</th><td>{escape(plain(value))}</td></tr>'
        for name, value in block.facts.items()
    )
    caption = f"<caption>{escape(block.caption)}</caption>" if block.caption else ""
    return f'<div class="facts{_half(block.half)}"><table>{caption}<tbody>{rows}</tbody></table></div>'


@draw.register
def _(block: Table) -> str:
    numeric = [_is_numeric(block, i) for i in range(len(block.columns))]
    align = [' class="n"' if is_numeric else "" for is_numeric in numeric]
    labels = [f' data-label="{escape(column)}"' if block.stacks else "" for column in block.columns]
    specs = [block.formats.get(column, "") for column in block.columns]
    head = "".join(f'<th scope="col"{a}>{escape(column)}</th>' for a, column in zip(align, block.columns, strict=True))
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{a}{label}>{escape(plain(x, spec))}</td>" for x, a, label, spec in zip(row, align, labels, specs, strict=True)
        )
        + "</tr>"
        for row in block.rows
    )
    caption = f"<figcaption>{escape(block.caption)}</figcaption>" if block.caption else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    scroll = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(block.caption or "Table")}">{table}</div>'
    stacks = " stacks" if block.stacks else ""
    return f'<figure class="table{stacks}{_half(block.half)}">{caption}{scroll}</figure>'


def _is_numeric(table: Table, column: int) -> bool:
    cells = [row[column] for row in table.rows if row[column] is not None]
    return bool(cells) and all(isinstance(x, int | float | np.number) and not isinstance(x, bool) for x in cells)


@draw.register
def _(block: Chart) -> str:
    spec = block.spec.to_dict() if hasattr(block.spec, "to_dict") else block.spec
    if _fetches(spec):
        raise InvalidOption(
            "got a chart whose data is a URL; expected data inlined, as a page fetches nothing; put the values in"
        )
    caption = f"<figcaption>{escape(block.caption)}</figcaption>" if block.caption else ""
    if _is_empty(spec):
        return f'<figure class="empty{_half(block.half)}"><p>{escape(block.alt)}: nothing finite to draw.</p>{caption}</figure>'
    return (
        f'<figure class="chart{_half(block.half)}"><div class="plot" role="img" aria-label="{escape(block.alt)}"></div>'
        f'<script type="application/json">{script_safe(spec)}</script>{caption}</figure>'
    )


def _is_empty(spec: Any) -> bool:
    data = spec.get("data")
    return isinstance(data, Mapping) and data.get("values") == []


def _fetches(spec: Any) -> bool:
    if isinstance(spec, Mapping):
        data = spec.get("data")
        return (isinstance(data, Mapping) and "url" in data) or any(
            _fetches(part) for key, part in spec.items() if key != "data"
        )
    return isinstance(spec, list | tuple) and any(_fetches(part) for part in spec)


@draw.register
def _(block: Images) -> str:
    pictures = []
    for i, (uri, (width, height)) in enumerate(data_uris(block)):
        caption = block.captions[i] if block.captions else ""
        crisp = ' class="crisp"' if max(width, height) <= 64 or block.columns == 1 else ""
        row = block.rows[i // block.columns] if block.rows else ""
        alt = escape(caption or (f"{row}, image {i % block.columns + 1}" if row else f"image {i + 1}"))
        below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        name = f'<p class="row">{escape(row)}</p>' if row and i % block.columns == 0 else ""
        pictures.append(f'{name}<figure><img src="{uri}" width="{width}" height="{height}" alt="{alt}"{crisp}>{below}</figure>')
    left = len(block.pixels) - len(pictures)
    caption = block.caption + (f" {left} more are not shown." if left else "")
    below = f"<figcaption>{escape(caption.strip())}</figcaption>" if caption else ""
    captioned = " captioned" if max(map(len, block.captions), default=0) > 8 else ""
    grid = f"<div{_columns(block)}>{''.join(pictures)}</div>"
    return f'<figure class="images{captioned}{_half(block.half)}">{grid}{below}</figure>'


def _columns(grid: Images) -> str:
    """The class of a grid, and the number of its columns where that is fixed."""
    if not grid.columns:
        return ' class="grid"'
    named, widest = " named" if grid.rows else "", "42rem" if grid.columns == 1 else "4rem"
    return f' class="grid fixed{named}" style="--columns: {grid.columns}; --widest: {widest}"'


def _breakable(name: str) -> str:
    """A name with underscores, which may be broken at them."""
    return escape(name).replace("_", "_<wbr>")


def _half(half: bool) -> str:
    return " half" if half else ""
