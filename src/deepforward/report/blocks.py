"""What a page is made of: blocks as plain data, drawn by `deepforward.report.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from deepforward.errors import ShapeError

Tone: TypeAlias = Literal["good", "bad", "warn", "neutral"]


@dataclass(frozen=True)
class Verdict:
    """The conclusion, in large type.

    Attributes:
        outcome: A word or two: `cured`, `vanishing`, `healthy`.
        sentence: The conclusion in one sentence.
        numbers: Label -> number or text, the few that carry the conclusion.
        tone: Whether this is good news.
    """

    outcome: str
    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    tone: Tone = "neutral"


@dataclass(frozen=True)
class Advice:
    """One cause and what to do about it.

    Attributes:
        title: What was found, and where.
        cause: One sentence with the numbers; "" where the verdict says it.
        actions: What to try, most promising first.
        source: What the conclusion rests on.
        tone: How grave it is.
    """

    title: str
    cause: str
    actions: Sequence[str] = ()
    source: str = ""
    tone: Tone = "warn"


@dataclass(frozen=True)
class Heading:
    """Title of a section; it also stands in the list of contents."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class Code:
    """A command or a piece of code, shown as typed."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Names and values, two columns.

    Attributes:
        facts: Name -> value; a value that is a mapping or sequence is written as `key=value, ...`.
        caption: What they are the facts of.
        half: Whether half the page's width is enough on a wide screen.
    """

    facts: Mapping[str, Any]
    caption: str = ""
    half: bool = False


@dataclass(frozen=True)
class Table:
    """Rows and columns; a wide or long table scrolls inside its own box.

    Attributes:
        columns: Column titles.
        rows: Cells in the order of `columns`; None and NaN are shown as a dash.
        formats: Column title -> format specification of Python (`.3f`, `+.1%`) for the numbers in it.
        caption: What the table shows.
        half: Whether half the page's width is enough on a wide screen.
        stacks: Whether a narrow screen shows each row as a list of its cells, for few rows of many columns.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    formats: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""
    half: bool = False
    stacks: bool = False

    def __post_init__(self) -> None:
        for i, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ShapeError(
                    f"got {len(row)} cells in row {i} of a table; expected {len(self.columns)}, one for each column"
                )


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite chart.

    Attributes:
        spec: A Vega-Lite specification with its data inlined, or anything whose `to_dict` gives one (an altair chart).
        alt: What it shows, for those who cannot see it.
        caption: What to see in it.
        half: Whether half the page's width is enough on a wide screen.
    """

    spec: Any
    alt: str
    caption: str = ""
    half: bool = False


@dataclass(frozen=True)
class Images:
    """A grid of small images.

    Attributes:
        pixels: (images, channels, height, width), uint8 or floating point. One or three channels are shown as grey or colour;
            the channels of any other number are laid side by side.
        captions: One for each image, or none.
        caption: What the grid shows.
        contrast: `together` maps the range of all images to black and white, `each` that of every image (filters). uint8 is
            shown as it is.
        half: Whether half the page's width is enough on a wide screen.
        columns: Number of images in a row, on any screen; as many as fit where it is 0. A single column is as wide as the text.
        rows: Name of each row, where there are columns; or none.
    """

    pixels: np.ndarray
    captions: Sequence[str] = ()
    caption: str = ""
    contrast: Literal["together", "each"] = "together"
    half: bool = False
    columns: int = 0
    rows: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or 0 in self.pixels.shape[1:]:
            raise ShapeError(
                f"got images of shape {self.pixels.shape}; expected (images, channels, height, width); reshape them"
            )
        if self.captions and len(self.captions) != len(self.pixels):
            raise ShapeError(f"got {len(self.captions)} captions for {len(self.pixels)} images; give one for each, or none")
        if self.rows and len(self.rows) * self.columns != len(self.pixels):
            raise ShapeError(
                f"got {len(self.rows)} rows of {self.columns} columns for {len(self.pixels)} images; expected as many images"
            )


Block: TypeAlias = Verdict | Advice | Heading | Text | Code | Facts | Table | Chart | Images
