"""The page of a run while it goes on: it advances, costs the run no bit, and nobody but this machine is answered."""

import http.client
import json
import re
import socket
import threading
import time

import pytest
import torch

from deepforward.engine import Recipe, Run, Watch, checkpoint, fit, live_page, outlets, run_report, training, watch
from deepforward.engine.live_page import LivePage
from deepforward.engine.outlets import Pace
from deepforward.engine.run_report import record_of, record_so_far
from deepforward.errors import InvalidOption, PortUnavailable

#: Dropout and noise of the global generator, which a thread beside the training must not touch.
FACTORY = """
import torch
from torch import nn

class Noisy(nn.Module):
    def forward(self, x):
        return x + 0.01 * torch.randn_like(x) if self.training else x

def factory(num_classes):
    return nn.Sequential(nn.Flatten(), Noisy(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, num_classes))
"""


def get(url: str, path: str = "", host: str | None = None, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=60)
    connection.request(method, f"/{path}", headers={"Host": host} if host else {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def epochs_done(page: str) -> int:
    return int(re.search(r"<dt>epochs done</dt><dd>(\d+) of", page)[1])


@pytest.fixture
def at_once(monkeypatch):
    """Pages are made and readings written as often as they are asked for."""
    monkeypatch.setattr(live_page, "_SECONDS", 0.0)
    monkeypatch.setattr(live_page, "_SHARE", 1e9)
    monkeypatch.setattr(training, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(training, "_LOOK_SHARE", 1e9)


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "noisy.py").write_text(FACTORY)
    return Recipe(model=f"{tmp_path}/noisy.py:factory", epochs=3, batch_size=256, optimizer="adam", seed=5)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    recipe = Recipe(model="perceptron", model_options={"depth": 1, "width": 4}, epochs=2)
    return fit(recipe, tmp_path_factory.mktemp("runs") / "run", quiet=True)


def test_numbers_advance_while_it_trains_and_no_bit_changes(tmp_path, recipe, at_once, monkeypatch):
    plain = fit(recipe, tmp_path / "plain", quiet=True)
    seen, pages = [], []
    end_epoch = training.Training._end_epoch

    def look_after_each_epoch(self, speed):
        end_epoch(self, speed)
        seen.append(json.loads(get(watching.url, "state")[1]))
        pages.append(get(watching.url, "page")[1])

    monkeypatch.setattr(training.Training, "_end_epoch", look_after_each_epoch)
    with Watch(tmp_path / "watched", port=0) as watching:
        assert json.loads(get(watching.url, "state")[1])["status"] == "waiting"
        watched = fit(recipe, tmp_path / "watched", quiet=True, watch=watching)
        end = json.loads(get(watching.url, "state")[1])
        last = get(watching.url, "page")[1]
    assert [epochs_done(page) for page in pages] == [1, 2, 3]
    assert len({state["tag"] for state in seen}) == 3
    assert {state["status"] for state in seen} == {"live"}
    assert all("Inside the network" in page for page in pages)  # readings, long before the first checkpoint
    assert end["status"] == "ended"
    assert "Final metrics" in last
    one, other = (checkpoint.load(run.folder / "checkpoints", "newest")[0] for run in (plain, watched))
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_fit_serves_by_itself_and_says_where(tmp_path, recipe, at_once, monkeypatch, capsys):
    answers = []
    end_epoch = training.Training._end_epoch

    def look(self, speed):
        end_epoch(self, speed)
        url = re.search(r"watch (http://127\.0\.0\.1:\d+/)", capsys.readouterr().err)[1] if not answers else answers[0][0]
        answers.append((url, get(url)))

    monkeypatch.setattr(training.Training, "_end_epoch", look)
    monkeypatch.setattr(watch, "_PORTS", ())
    fit(recipe, tmp_path / "run", quiet=True, watch=True)
    assert [status for _, (status, _) in answers] == [200, 200, 200]
    assert "/state" in answers[0][1][1]
    with pytest.raises(OSError):
        get(answers[0][0])


@pytest.mark.parametrize("host", ["evil.example:7007", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80"])
def test_only_names_of_this_machine_are_answered(finished, host):
    with Watch(finished.folder, port=0) as watching:
        assert get(watching.url, host=host)[0] == 403
        assert get(watching.url, "page", host=host)[0] == 403
        assert get(watching.url, host="localhost:80")[0] == 200  # as through a tunnel


def test_nothing_but_the_page_is_given(finished):
    with Watch(finished.folder, port=0) as watching:
        assert {get(watching.url, path)[0] for path in ("recipe.json", "../recipe.json", "page/", "state?x")} == {404}
        assert {get(watching.url, method=method)[0] for method in ("POST", "PUT", "DELETE", "HEAD", "OPTIONS")} == {501}
        bound = watching._server.socket.getsockname()
    assert bound[0] == "127.0.0.1"


def test_a_taken_port_is_an_error_where_it_was_asked_for_and_else_passed_over(tmp_path, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortUnavailable, match=f"port {port} is taken"):
            Watch(tmp_path, port=port)
        monkeypatch.setattr(watch, "_PORTS", (port,))
        with Watch(tmp_path) as watching:
            assert watching.url != f"http://127.0.0.1:{port}/"
    with pytest.raises(InvalidOption, match="0 to 65535"):
        Watch(tmp_path, port=70000)


def test_an_interrupt_closes_at_once_and_frees_the_port(finished):
    with pytest.raises(KeyboardInterrupt), Watch(finished.folder, port=0) as watching:
        get(watching.url, "state")  # somebody looks on, and is not waited for
        watching._server.show_last = lambda: pytest.fail("waited")
        raise KeyboardInterrupt
    Watch(finished.folder, port=int(watching.url.split(":")[2].strip("/")))._server.server_close()


def test_who_looks_on_is_given_the_last_page(tmp_path, finished):
    """The run ends between two looks; the block stays until the browser has asked again."""
    folder = tmp_path / "run"
    pages = []

    def browse(url):
        tag = ""
        while not pages or "No rule finds" not in pages[-1]:
            state = json.loads(get(url, "state")[1])
            if state["tag"] != tag:
                tag = state["tag"]
                pages.append(get(url, "page")[1])
            looked.set()
            time.sleep(0.1)

    looked = threading.Event()
    with Watch(folder, port=0) as watching:
        browser = threading.Thread(target=browse, args=(watching.url,), daemon=True)
        browser.start()
        looked.wait(60)
        run = fit(finished.recipe, folder, quiet=True)
        run.update_result(findings=[])
        run.report()
    browser.join(60)
    assert pages[-1] == (folder / "report.html").read_text()


def test_nothing_is_drawn_unless_something_changed(finished, at_once, monkeypatch):
    drawn = []
    original = live_page.record_so_far
    monkeypatch.setattr(live_page, "record_so_far", lambda run: drawn.append(run) or original(run))
    page = LivePage(finished.folder)
    assert drawn == []
    tags = {page.state()["tag"] for _ in range(3)}
    assert (len(tags), len(drawn)) == (1, 1)
    finished.update_result(seed=0)
    page.state()
    assert len(drawn) == 2


def test_a_page_that_cannot_be_drawn_leaves_the_last_one(tmp_path, finished, at_once):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("recipe.json", "history.jsonl"):
        (folder / name).write_bytes((finished.folder / name).read_bytes())
    page = LivePage(folder, finished.data)
    first = page.state()["tag"]
    rows = (folder / "history.jsonl").read_text()
    (folder / "history.jsonl").write_text(rows[:30])
    assert page.state()["tag"] == first
    (folder / "history.jsonl").write_text(rows.splitlines()[0])
    assert page.state()["tag"] != first
    assert epochs_done(page.content().decode()) == 1


def test_a_bug_in_the_page_is_shown_and_does_not_stop_the_server(finished, monkeypatch):
    monkeypatch.setattr(live_page, "record_so_far", lambda run: 1 / 0)
    page = LivePage(finished.folder)
    page.state()
    assert "ZeroDivisionError" in page.content().decode()


def test_a_stage_of_pretraining_is_shown_while_it_goes_on(tmp_path, at_once, monkeypatch):
    titles = []
    end_epoch = training.Training._end_epoch

    def look(self, speed):
        end_epoch(self, speed)
        page.state()
        titles.append(re.search(r"epochs done</dt><dd>(.*?)</dd>", page.content().decode())[1])

    monkeypatch.setattr(training.Training, "_end_epoch", look)
    stages = ({"epochs": 2, "learning_rate": 0.001},)
    recipe = Recipe(model="perceptron", model_options={"depth": 1, "width": 4}, epochs=1, pretraining=stages)
    page = LivePage(tmp_path / "run")
    fit(recipe, tmp_path / "run", quiet=True)
    assert titles == ["1 of 2", "2 of 2", "1 of 1"]


def test_a_run_that_goes_on_shows_its_snapshots_and_builds_nothing(tmp_path, monkeypatch):
    recipe = Recipe(model="rbm", model_options={"hidden": 8}, epochs=3, objective_options={"ais_chains": 0})
    run = fit(recipe, tmp_path / "run", quiet=True)
    whole = record_of(run)
    (run.folder / "result.json").unlink()
    state = torch.get_rng_state()
    for name in ("portrait", "evaluate_examples"):
        monkeypatch.setattr(run_report, name, lambda *given: pytest.fail("looked into the model"))
    monkeypatch.setattr(Run, "parts", lambda *given: pytest.fail("built a network"))
    record = record_so_far(run)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(record.snapshots) == list(whole.snapshots) == [1, 2, 3]
    for epoch, shown in whole.snapshots.items():
        assert all((record.snapshots[epoch][name] == images).all() for name, images in shown.items())
    assert record.progress["epochs done"] == "3 of 3"


def test_what_is_costly_takes_its_share_of_the_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(outlets.time, "monotonic", lambda: now[0])
    pace, spent = Pace(2.0, 0.02), 0.0
    while now[0] < 1000:
        if pace.due:
            spent += 0.5
            now[0] += 0.5
            pace.done(0.5)
        now[0] += 0.1
    assert 0.015 < spent / now[0] < 0.02
    pace.done(0.001)
    now[0] += 1.9
    assert not pace.due
    now[0] += 0.2
    assert pace.due


def test_a_folder_that_is_thrown_away_is_not_watched(tmp_path, recipe):
    with pytest.raises(InvalidOption, match="thrown away"):
        fit(recipe, tmp_path / "run", quiet=True, throwaway=True, watch=True)
