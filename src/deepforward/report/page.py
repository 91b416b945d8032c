"""A page as data -> one HTML file that needs no network, works without scripts and forbids itself to fetch anything."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from pathlib import Path

from deepforward.files import write_whole
from deepforward.report.blocks import Block, Chart, Heading
from deepforward.report.html import draw


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: What the page is about.
        subtitle: One line of facts below it.
        blocks: The content, in reading order.
        language: Language of the texts.
    """

    title: str
    subtitle: str = ""
    blocks: Sequence[Block] = ()
    language: str = "en"


def render(page: Page) -> str:
    """The page as one HTML document.

    Text, tables and images need no script; charts do. The policy in its head lets only the two scripts of this package run,
    known by their hashes, and lets nothing be fetched.

    Raises:
        InvalidOption: Something in `page.blocks` is not a block, or a chart takes its data from a URL.
    """
    charted = any(isinstance(block, Chart) for block in page.blocks)
    scripts = [_vega(), resource("page.js")] if charted else [resource("page.js")]
    title = escape(page.title)
    subtitle = f'<p class="subtitle">{escape(page.subtitle)}</p>' if page.subtitle else ""
    no_script = "<noscript><p>The charts on this page need JavaScript; all else is here.</p></noscript>" if charted else ""
    return f"""<!DOCTYPE html>
<html lang="{escape(page.language)}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy(scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="deepforward">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{resource("page.css")}</style>
</head>
<body>
<header><h1>{title}</h1>{subtitle}<button id="theme" type="button" hidden>Dark</button></header>
<main>
{no_script}{_body(page.blocks)}
</main>
{"".join(f"<script>{script}</script>" for script in scripts)}
</body>
</html>
"""


def write(page: Page, path: str | Path) -> Path:
    """Write the page to `path`, whole or not at all.

    Returns:
        The path written.

    Raises:
        WriteFailed: The disk is full, or the folder cannot be written; an older file is as it was.
    """
    path = Path(path)
    write_whole(path, render(page).encode())
    return path


def _body(blocks: Sequence[Block]) -> str:
    headings = [block for block in blocks if isinstance(block, Heading)]
    parts: list[str] = []
    section = 0
    for block in blocks:
        if isinstance(block, Heading):
            if section == 0 and len(headings) > 2:
                parts.append(_contents(headings))
            parts.append(f'<h2 id="s{section}">{escape(block.text)}</h2>')
            section += 1
        else:
            parts.append(draw(block))
    return "\n".join(parts)


def _contents(headings: Sequence[Heading]) -> str:
    links = "".join(f'<li><a href="#s{i}">{escape(heading.text)}</a></li>' for i, heading in enumerate(headings))
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>'


@cache
def _vega() -> str:
    import vl_convert  # noqa: PLC0415 - only a page with charts needs it

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("\r", "").replace("</script", "<\\/script")


@cache
def resource(name: str) -> str:
    """Text of a file of this package."""
    return resources.files("deepforward.report").joinpath(name).read_text(encoding="utf-8")


def policy(scripts: Sequence[str]) -> str:
    """The Content-Security-Policy that lets these scripts run, known by their hashes, and nothing else."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    rest = "img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {hashes}; {rest}"
