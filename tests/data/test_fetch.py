"""Downloading from a server on this machine: whole and right files only, and one line for everything that goes wrong."""

from __future__ import annotations

import gzip
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deepforward import catalogue
from deepforward.data import fetch
from deepforward.errors import CorruptData, DataUnavailable, UnknownName, WriteFailed

CONTENTS = {"train.gz": b"train " * 70000, "labels.gz": b"labels"}


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server of two files, with a card for them."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    files = []
    for name, content in CONTENTS.items():
        (shelf / name).write_bytes(gzip.compress(content, compresslevel=0))
        files.append({"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(shelf)))
    server.asked, server.shelf, server.url = [], shelf, f"http://127.0.0.1:{server.server_port}"
    details = {"url": server.url, "files": files}
    card = catalogue.Card("sources", "toy", "", "", "", details)
    monkeypatch.setattr(catalogue, "cards", lambda kind: [card])
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_files_arrive_whole_in_the_cache(server, tmp_path):
    seen = []
    folder = fetch("toy", progress=lambda *call: seen.append(call))
    assert folder == tmp_path / "cache" / "deepforward" / "toy"
    assert names(folder) == sorted(CONTENTS)
    assert all(gzip.decompress((folder / name).read_bytes()) == content for name, content in CONTENTS.items())
    total = (folder / "train.gz").stat().st_size
    steps = [done for name, done, of in seen if name == "train.gz" and of == total]
    assert len(steps) > 1 and steps == sorted(steps) and steps[-1] == total


def test_what_is_there_and_right_is_not_asked_for_again(server, tmp_path):
    fetch("toy", tmp_path / "to")
    (tmp_path / "to" / "labels.gz").write_bytes(b"damaged")
    server.asked.clear()
    fetch("toy", tmp_path / "to")
    assert server.asked == ["/labels.gz"]
    assert gzip.decompress((tmp_path / "to" / "labels.gz").read_bytes()) == b"labels"


def test_a_mirror_may_compress_anew_and_lie_elsewhere(server, tmp_path):
    (server.shelf / "mirror").mkdir()
    for name, content in CONTENTS.items():
        (server.shelf / "mirror" / name).write_bytes(gzip.compress(content, 9))
    fetch("toy", tmp_path / "to", base=f"{server.url}/mirror/")
    assert server.asked == ["/mirror/train.gz", "/mirror/labels.gz"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: good[:-1],
        lambda good: good[:100] + b"!" + good[101:],
        lambda good: gzip.compress(b"other content"),
        lambda good: gzip.compress(gzip.decompress(good) + b"more"),
        lambda good: b"<html>Please log in</html>",
        lambda good: b"",
    ],
    ids=["cut short", "altered", "other", "longer", "a web page", "empty"],
)
def test_wrong_content_is_not_kept(server, tmp_path, damage):
    path = server.shelf / "train.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptData) as caught:
        fetch("toy", tmp_path / "to")
    assert str(caught.value).startswith(f"{server.url}/train.gz: got other content") and "\n" not in str(caught.value)
    assert names(tmp_path / "to") == []


def test_a_page_that_is_not_there(server, tmp_path):
    (server.shelf / "labels.gz").unlink()
    with pytest.raises(DataUnavailable, match=r"labels\.gz: cannot be downloaded \(HTTP Error 404"):
        fetch("toy", tmp_path / "to")
    assert names(tmp_path / "to") == ["train.gz"]


def test_offline(server, tmp_path):
    with pytest.raises(DataUnavailable, match="Connection refused"):
        fetch("toy", tmp_path / "to", base="http://127.0.0.1:9")
    with pytest.raises(DataUnavailable, match="cannot be downloaded"):
        fetch("toy", tmp_path / "to", base="no address")
    assert names(tmp_path / "to") == []


def test_an_interruption_leaves_no_part_behind(server, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch("toy", tmp_path / "to", progress=interrupt)
    assert names(tmp_path / "to") == []


def test_a_folder_that_cannot_be(server, tmp_path):
    (tmp_path / "to").write_text("a file")
    with pytest.raises(WriteFailed, match="cannot be written"):
        fetch("toy", tmp_path / "to")


def test_only_some_sources_can_be_fetched():
    with pytest.raises(UnknownName, match="unknown source to fetch 'digits'; one of: fashion-mnist, mnist"):
        fetch("digits")


def test_the_cards_know_the_files_that_users_have(data_folder):
    for card in catalogue.cards("sources"):
        for file in card.details.get("files", []):
            content = gzip.decompress((data_folder / card.name / file["name"]).read_bytes())
            assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
