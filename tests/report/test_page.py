import base64
import hashlib
import itertools
import json
import os
import re
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pytest

from deepforward.errors import InvalidOption, ShapeError, WriteFailed
from deepforward.report import Advice, Chart, Code, Facts, Heading, Images, Page, Table, Text, Verdict, render, write
from deepforward.report.html import draw
from deepforward.report.plain import DASH

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\u2028é中"


class Document(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.scripts, self.text, self._script = [], [], [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attr) for attr in attrs]
        if tag == "script":
            self._script = dict(attrs).get("type", "code")
            self.scripts.append((self._script, ""))

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None

    def handle_data(self, data):
        if self._script is None:
            self.text.append(data)
        else:
            kind, text = self.scripts[-1]
            self.scripts[-1] = kind, text + data


def hostile_page() -> Page:
    spec = {"data": {"values": [{EVIL: EVIL}]}, "mark": "point", "title": EVIL}
    blocks = [
        Verdict(EVIL, EVIL, {EVIL: EVIL}, "bad"),
        Advice(EVIL, EVIL, [EVIL], EVIL),
        Heading(EVIL),
        Text(EVIL),
        Code(EVIL),
        Facts({EVIL: {EVIL: EVIL}}, EVIL),
        Table([EVIL], [[EVIL]], caption=EVIL),
        Chart(spec, EVIL, EVIL),
        Images(np.zeros((1, 1, 2, 2), np.uint8), [EVIL], EVIL),
    ]
    return Page(EVIL, EVIL, [*blocks, Heading("b"), Heading("c")])


def test_no_text_becomes_markup():
    document = Document(render(hostile_page()))
    assert [kind for kind, _ in document.scripts] == ["application/json", "code", "code"]
    assert document.tags.count("img") == 1
    assert not [name for _, name, _ in document.attributes if name.startswith("on")]
    seen = "".join(document.text)
    assert seen.count(EVIL) >= 15


def test_chart_data_survives_as_it_was():
    (_, payload), *_ = Document(render(hostile_page())).scripts
    assert json.loads(payload) == {"data": {"values": [{EVIL: EVIL}]}, "mark": "point", "title": EVIL}


def test_numbers_that_json_lacks_become_null():
    values = [{"x": float("nan")}, {"x": np.float32("inf")}, {"x": np.int64(3)}, {"x": np.array([1.5])}]
    (_, payload), *_ = Document(render(Page("p", blocks=[Chart({"data": {"values": values}}, "")]))).scripts
    assert json.loads(payload)["data"]["values"] == [{"x": None}, {"x": None}, {"x": 3}, {"x": [1.5]}]


def test_policy_allows_exactly_the_scripts_of_the_page_and_no_network():
    document = Document(render(hostile_page()))
    policy = next(
        value for tag, name, value in document.attributes if tag == "meta" and name == "content" and "default-src" in value
    )
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    digests = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for kind, text in document.scripts if kind == "code"
    ]
    assert rules["default-src"] == "'none'"
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    assert rules["img-src"] == "data:"


def test_every_reference_is_inside_the_file():
    references = [value for _, name, value in Document(render(hostile_page())).attributes if name in ("src", "href", "action")]
    assert references
    assert all(value.startswith(("data:", "#")) for value in references)


def test_headings_skip_no_level():
    levels = [int(tag[1]) for tag in Document(render(hostile_page())).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_links_of_contents_have_targets():
    document = Document(render(hostile_page()))
    ids = {value for _, name, value in document.attributes if name == "id"}
    links = [value[1:] for tag, name, value in document.attributes if (tag, name) == ("a", "href")]
    assert len(links) == 3
    assert set(links) <= ids


def test_page_without_charts_carries_no_chart_library():
    assert len(render(Page("p", blocks=[Text("t")]))) < 30_000


def test_page_with_charts_stays_far_below_the_limit():
    assert len(render(Page("p", blocks=[Chart({"mark": "point"}, "")])).encode()) < 1_000_000


def test_table_shows_missing_numbers_as_a_dash_and_applies_formats():
    html = render(Page("p", blocks=[Table(["a", "b"], [[0.12345, None], [float("nan"), "x"]], {"a": ".1%"})]))
    assert re.findall(r"<td[^>]*>([^<]*)</td>", html) == ["12.3%", DASH, DASH, "x"]


def test_altair_charts_are_taken():
    altair = pytest.importorskip("altair")
    chart = altair.Chart(altair.Data(values=[{"x": 1}])).mark_point().encode(x="x:Q")
    (_, payload), *_ = Document(render(Page("p", blocks=[Chart(chart, "")]))).scripts
    assert json.loads(payload)["encoding"]["x"] == {"field": "x", "type": "quantitative"}


@pytest.mark.parametrize(
    "block",
    [
        "text",
        {"mark": "point"},
        Chart({"data": {"url": "https://example.org/data.csv"}}, ""),
        Chart({"layer": [{"data": {"url": "data.csv"}}]}, ""),
    ],
)
def test_what_is_no_block_or_would_fetch_is_refused(block):
    with pytest.raises(InvalidOption, match="expected"):
        draw(block)


def test_blocks_refuse_what_does_not_fit():
    with pytest.raises(ShapeError, match="row 1"):
        Table(["a", "b"], [[1, 2], [1]])
    with pytest.raises(ShapeError, match="captions"):
        Images(np.zeros((2, 1, 2, 2)), ["one"])
    with pytest.raises(ShapeError, match="reshape"):
        Images(np.zeros((2, 2)))


def test_written_file_is_what_was_rendered(tmp_path):
    page = Page("é", blocks=[Text("中")])
    path = write(page, tmp_path / "new" / "report.html")
    assert path.read_bytes() == render(page).encode()
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = write(Page("old"), tmp_path / "report.html")
    old = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteFailed, match="No space left") as failure:
        write(Page("new"), path)
    assert "\n" not in str(failure.value)
    assert path.read_bytes() == old
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def palette() -> dict[str, tuple[str, str]]:
    css = resources.files("deepforward.report").joinpath("page.css").read_text(encoding="utf-8")
    return {name: (light, dark) for name, light, dark in re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", css)}


def contrast(a: str, b: str) -> float:
    """Contrast ratio of WCAG 2.2, 1 to 21."""

    def luminance(color: str) -> float:
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read(theme):
    colors = {name: pair[theme] for name, pair in palette().items()}
    for text in ("ink", "quiet", "link", "good", "bad", "warn", "c1", "c2", "c3", "c4", "c5", "c6"):
        assert contrast(colors[text], colors["paper"]) >= 4.5, text
    for text in ("ink", "quiet", "good", "bad", "warn"):
        assert contrast(colors[text], colors["raised"]) >= 4.5, text


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("side", ["low", "high"])
def test_classes_of_the_heat_map_differ_in_lightness(theme, side):
    colors = {name: pair[theme] for name, pair in palette().items()}
    ramp = [colors["level"], *(colors[f"{side}{i}"] for i in range(1, 6))]
    from_paper = [contrast(color, colors["paper"]) for color in ramp]
    assert from_paper == sorted(from_paper)
    assert all(contrast(a, b) > 1.1 for a, b in itertools.pairwise(ramp))
