"""`deepforward train --watch` and `deepforward watch`: what is served, until when."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from deepforward.cli import watch as watch_command

SMALL = ("--set", "depth=1", "--set", "width=16", "--epochs", 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from deepforward.engine import Recipe, fit

    recipe = Recipe(model="perceptron", model_options={"depth": 1, "width": 4}, epochs=1)
    return fit(recipe, tmp_path_factory.mktemp("runs") / "run", quiet=True).folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_who_looks_on_sees_the_report_with_its_findings(deepforward) -> None:
    port, pages = free_port(), [""]

    def browse() -> None:
        tag = ""
        while "report of the end" not in pages:
            with suppress(URLError, ConnectionError):
                state = urlopen(f"http://127.0.0.1:{port}/state").read().decode()
                if state != tag:
                    tag = state
                    pages.append(urlopen(f"http://127.0.0.1:{port}/page").read().decode())
            time.sleep(0.05)

    threading.Thread(target=browse, daemon=True).start()
    outcome = deepforward("train", "perceptron", *SMALL, "--out", "run", "--quiet", "--watch", "--watch-port", port)
    pages.append("report of the end")
    assert (outcome.code, outcome.err) == (0, f"watch http://127.0.0.1:{port}/\n")
    assert outcome.out.splitlines()[-1] == "run/report.html"
    assert pages[-2] == Path("run/report.html").read_text()


def test_a_taken_port_is_said_before_anything_is_trained(deepforward) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        train = ("train", "perceptron", *SMALL, "--out", "run", "--watch", "--watch-port", port)
        assert f"port {port} is taken; give another" in deepforward(*train).complaint
    assert not Path("run").exists()


def test_a_run_of_another_process_is_served_until_interrupted(deepforward, run: Path, monkeypatch, capsys) -> None:
    pages = []

    def look_and_interrupt() -> None:
        url = re.search(r"http://\S+", capsys.readouterr().err)[0]
        pages.extend(urlopen(url + path).read().decode() for path in ("state", "page"))
        raise KeyboardInterrupt

    monkeypatch.setattr(watch_command, "wait", look_and_interrupt)
    assert deepforward("watch", run, "--port", 0).code == 0
    assert '"status": "ended"' in pages[0]
    assert "perceptron on digits" in pages[1]
