"""The page in a real browser: it draws, is quiet, fetches nothing, fits a phone, and follows the theme."""

import itertools
import json
import re
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import energy_run
import pytest
from gallery import CHARTS

from deepforward.report import Heading, Page, RunRecord, Text, figures, render, run_page, shell, write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = shutil.which("chromedriver")
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield running
    running.quit()


@pytest.fixture(scope="session")
def address(vanishing: RunRecord, tmp_path_factory) -> str:
    return write(run_page(vanishing), tmp_path_factory.mktemp("page") / "report.html").as_uri()


def show(browser, address: str, width: int = 1200) -> None:
    """Open the page in the light theme at a width and wait until the charts are drawn."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    emulate(browser, theme="light")
    browser.get(address)
    deadline = time.monotonic() + 30
    while not browser.execute_script("return document.documentElement.dataset.drawn"):
        assert time.monotonic() < deadline, "the charts were not drawn within 30 s"
        time.sleep(0.05)


def emulate(browser, theme: str, media: str = "") -> None:
    """Let the system prefer a theme, or print."""
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


@pytest.fixture(scope="session")
def first_look(browser, address) -> dict:
    """What one visit tells: marks in each chart, words on the console, addresses requested."""
    browser.get_log("performance")
    show(browser, address)
    marks = """const marks = (figure) => figure.querySelectorAll("svg [class*=mark-] :is(path, line, text)").length;
        return [...document.querySelectorAll("figure.chart")].map(marks);"""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return {"marks": browser.execute_script(marks), "console": browser.get_log("browser"), "requests": requests}


@pytest.fixture
def page(first_look, browser, address):
    """The browser with the page open."""
    emulate(browser, theme="light")
    return browser


def test_charts_are_drawn_without_a_word_on_the_console(first_look):
    assert len(first_look["marks"]) == 8
    assert min(first_look["marks"]) > 10
    assert first_look["console"] == []


def test_nothing_but_the_file_itself_is_requested(first_look, address):
    own = ("data:", "chrome:")  # inlined images, and the browser's own icons
    assert {url for url in first_look["requests"] if not url.startswith(own)} == {address}


def test_policy_stops_foreign_scripts_and_requests(page):
    stopped = page.execute_async_script(
        """const done = arguments[0];
        const script = document.createElement("script");
        script.textContent = "window.intruder = true";
        document.body.append(script);
        fetch("https://example.org/").then(() => done("fetched"), () => done(window.intruder ? "ran" : "stopped"));"""
    )
    assert stopped == "stopped"


def colors(browser) -> list[str]:
    return browser.execute_script(
        """const color = (selector, property) => getComputedStyle(document.querySelector(selector))[property];
        return [color("body", "backgroundColor"), color("body", "color"), color("figure.chart .role-axis-title text", "fill"),
                color("figure.chart .mark-rect path", "fill"), color("figure.chart .mark-line path", "stroke")];"""
    )


def test_theme_follows_the_system_the_toggle_and_the_printer(page):
    light = colors(page)
    emulate(page, theme="dark")
    dark = colors(page)
    assert all(a != b for a, b in zip(light, dark, strict=True))
    emulate(page, theme="dark", media="print")
    assert colors(page) == light
    emulate(page, theme="light")
    toggle = page.find_element("id", "theme")
    toggle.click()
    assert colors(page) == dark
    toggle.click()
    assert colors(page) == light


def test_hovering_a_cell_names_layer_and_step(page):
    webdriver = pytest.importorskip("selenium.webdriver")
    cells = page.find_element("css selector", "figure.chart .mark-rect")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", cells)
    webdriver.ActionChains(page).move_to_element(cells).perform()
    tooltip = page.find_element("id", "vg-tooltip-element").text
    assert "body." in tooltip
    assert "step" in tooltip


@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_of_a_model_with_an_energy_is_quiet_and_fits(page, tmp_path, width):
    page.get_log("browser")
    record = energy_run.record()
    show(page, write(run_page(record), tmp_path / "energy.html").as_uri(), width)
    assert [entry["message"] for entry in page.get_log("browser")] == []
    assert len(page.find_elements("css selector", "figure.chart svg")) == 10
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    outside = """return [...document.querySelectorAll('.grid img')].map(image => image.getBoundingClientRect())
        .filter(box => box.left < 0 || box.right > arguments[0] || box.width < 20).length"""
    assert page.execute_script(outside, width) == 0
    # The images of a row stand beside each other, on a phone too.
    tops = """return [...document.querySelectorAll('.fixed.named')].map(grid =>
        new Set([...grid.querySelectorAll('img')].map(image => image.getBoundingClientRect().top)).size)"""
    assert page.execute_script(tops) == [8, len(record.snapshots), 2, 3]


@pytest.mark.parametrize("width", [360, 1200])
def test_page_never_scrolls_sideways(page, address, width):
    show(page, address, width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    wide = "return [...document.querySelectorAll('figure.chart .plot')].filter(p => p.scrollWidth > p.clientWidth + 1).length"
    assert page.execute_script(wide) == 0


def test_trials_fit_a_phone(page, address):
    show(page, address, 360)
    cells = """return [...document.querySelectorAll('figure.stacks td')].map(cell => cell.getBoundingClientRect())
        .filter(box => box.left < 0 || box.right > 360 || !box.height).length"""
    assert page.find_elements("css selector", "figure.stacks td")
    assert page.execute_script(cells) == 0


def test_the_legend_of_bands_is_as_strong_as_their_lines(page, tmp_path):
    series = {name: [1, 2] for name in "ab"}
    chart = figures.lines([1, 2], series, bands={name: ([0, 1], [2, 3]) for name in "ab"}, x_title="x", y_title="y")
    show(page, write(Page("bands", blocks=[chart]), tmp_path / "bands.html").as_uri())
    symbols = page.find_elements("css selector", "figure.chart .role-legend-symbol path")
    assert len(symbols) > 1
    assert all(symbol.value_of_css_property(name) == "1" for symbol in symbols for name in ("opacity", "stroke-opacity"))


def test_neighbouring_colours_of_a_heat_map_differ(page):
    def luminance(color: str) -> float:
        channels = [int(x) / 255 for x in re.findall(r"\d+", color)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    shown = """const cell = document.body.appendChild(document.createElement("i"));
        return arguments[0].map(name => { cell.style.color = `var(--${name})`; return getComputedStyle(cell).color; });"""
    for theme in ("light", "dark"):
        emulate(page, theme=theme)
        for side in ("low", "high"):
            values = page.execute_script(shown, ["level", *(f"{side}{i}" for i in range(1, 6))])
            steps = itertools.pairwise(sorted(luminance(value) for value in values))
            assert all((b + 0.05) / (a + 0.05) > 1.25 for a, b in steps), (theme, side)


def test_text_tables_and_images_need_no_script(page, address):
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.get(address)
        body = page.find_element("css selector", "body").text
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert "The gradient shrinks 7.2 times per layer" in body
    assert "need JavaScript" in body
    assert "Most frequent confusions" in body


def test_charts_of_every_kind_are_drawn_without_a_word(page, tmp_path):
    page.get_log("browser")
    show(page, write(Page("gallery", blocks=list(CHARTS.values())), tmp_path / "gallery.html").as_uri())
    empty = [name for name in CHARTS if name.startswith("no ") or name.endswith("of nothing")]
    assert len(page.find_elements("css selector", "figure.empty")) == len(empty)
    assert len(page.find_elements("css selector", "figure.chart svg")) == len(CHARTS) - len(empty)
    assert [entry["message"] for entry in page.get_log("browser")] == []


class _Changing(BaseHTTPRequestHandler):
    """What the shell asks for; the page is that of the server's `turn`."""

    def do_GET(self):
        turn = self.server.turn
        page = Page(f"turn {turn}", blocks=[Heading("long"), *[Text(f"turn {turn}")] * 200])
        answers = {"/": shell(), "/state": json.dumps({"tag": str(turn), "status": "live"}), "/page": render(page)}
        content = answers[self.path].encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if self.path == "/state" else "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *given):
        pass


def test_a_live_page_takes_the_place_of_the_last_where_the_reader_stands(page):
    server = HTTPServer(("127.0.0.1", 0), _Changing)
    server.turn = 1
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def until(expression, wanted):
        deadline = time.monotonic() + 30
        while (found := page.execute_script(f"return {expression}")) != wanted:
            assert time.monotonic() < deadline, (found, wanted)
            time.sleep(0.05)

    try:
        page.get_log("browser")
        page.get(f"http://127.0.0.1:{server.server_address[1]}/")
        until("document.title", "turn 1")
        frame = "document.querySelector('iframe').contentWindow"
        page.execute_script(f"{frame}.scrollTo({{top: 500, behavior: 'instant'}})")
        page.execute_script(f"{frame}.document.getElementById('theme').click()")
        until("document.documentElement.style.colorScheme", "dark")  # the note follows
        server.turn = 2
        until("document.title", "turn 2")
        until(f"{frame}.document.querySelector('h1').textContent", "turn 2")
        until("document.querySelectorAll('iframe').length", 1)
        assert page.execute_script(f"return [{frame}.scrollY, {frame}.document.documentElement.dataset.theme]") == [500, "dark"]
        until("document.getElementById('note').textContent", "Live")
        assert page.execute_script("return document.documentElement.dataset.swaps") == "2"  # none without a change
        assert page.get_log("browser") == []
    finally:
        server.shutdown()
        server.server_close()
    until("document.getElementById('note').dataset.state", "gone")
    assert page.execute_script(f"return {frame}.document.querySelector('h1').textContent") == "turn 2"
