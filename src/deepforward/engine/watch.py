"""The page of a run that goes on, served to the browsers of this machine."""

from __future__ import annotations

import errno
import json
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from deepforward.data import Dataset
from deepforward.engine.live_page import LivePage
from deepforward.errors import InvalidOption, PortUnavailable
from deepforward.report import shell

_ADDRESS = "127.0.0.1"
#: Ports tried one after the other where none is given; any free one if all are taken.
_PORTS = range(7007, 7027)
#: Names by which this machine calls itself. A page elsewhere whose name was bent to this address comes with its own.
_HOSTS = ("127.0.0.1", "localhost")
#: Seconds in which a browser that looks on asks again, and that it is given at the end to fetch the last page.
_PATIENCE = 7.0


class Watch:
    """Serves the page of a run folder on localhost while the block runs.

        with Watch("runs/first") as watch:
            print(watch.url)
            fit(recipe, "runs/first", watch=watch)

    On leaving the block a browser that looks on is given a few seconds to fetch the last state. Only this machine is answered,
    with the page and nothing else. What the page is made of is read from the folder, so that another process may write it.

    Attributes:
        url: Where to look.
    """

    def __init__(self, folder: str | Path, data: Dataset | None = None, port: int | None = None) -> None:
        """Take the port; nothing is answered before `with`.

        Args:
            folder: Folder of the run, which may not be there yet.
            data: Its data, if they are at hand; else they are loaded when somebody looks.
            port: Port to serve on, 0 for any free one; by default the first free one from 7007 on.

        Raises:
            InvalidOption: `port` is none.
            PortUnavailable: The port is taken, or may not be used.
        """
        if port is not None and not 0 <= port <= 65535:
            raise InvalidOption(f"got port {port}; expected 0 to 65535, or none for the first free one from {_PORTS[0]} on")
        self.page = LivePage(Path(folder), data)
        self._server = _bind(port)
        self._server.page = self.page
        self.url = f"http://{_ADDRESS}:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        print(f"watch {self.url}", file=sys.stderr, flush=True)  # noqa: T201  (who asks to watch wants to know where)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None or issubclass(kind, Exception):  # not where somebody interrupts
                self._server.show_last()
        finally:
            self._server.shutdown()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    """Answers with one page; its threads end with the process."""

    daemon_threads = True
    block_on_close = False
    page: LivePage
    hurried = False
    asked = -_PATIENCE
    fetched = ""

    def show_last(self) -> None:
        """Wait until a browser that asked lately has fetched the page as it is now, `_PATIENCE` seconds at most."""
        begun = time.monotonic()
        if begun - self.asked > _PATIENCE:
            return
        self.hurried = True
        last = self.page.state(now=True)["tag"]
        while self.fetched != last and time.monotonic() - begun < _PATIENCE:
            time.sleep(0.05)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version, sys_version = "deepforward", ""
    timeout = 10.0  # a connection that says nothing

    def do_GET(self) -> None:
        """Answer `/` (the shell), `/state` and `/page`."""
        if self.headers.get("Host", "").rpartition(":")[0] not in _HOSTS and self.headers.get("Host") not in _HOSTS:
            self._answer(403, "text/plain", b"ask as 127.0.0.1 or localhost\n")
        elif self.path == "/":
            self._answer(200, "text/html", shell().encode())
        elif self.path == "/state":
            self.server.asked = time.monotonic()
            self._answer(200, "application/json", json.dumps(self.server.page.state(now=self.server.hurried)).encode())
        elif self.path == "/page":
            tag, content = self.server.page.state()["tag"], self.server.page.content()
            self._answer(200, "text/html", content)
            self.server.fetched = tag
        else:
            self._answer(404, "text/plain", b"there is only /\n")

    def _answer(self, code: int, kind: str, content: bytes) -> None:
        self.send_response(code)
        headers = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": "frame-ancestors 'self'",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing of each request."""


def _bind(port: int | None) -> _Server:
    if port is None:
        for candidate in _PORTS:
            with suppress(OSError):
                return _Server((_ADDRESS, candidate), _Handler)
    try:
        return _Server((_ADDRESS, port or 0), _Handler)
    except OSError as error:
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise PortUnavailable(f"port {port} {why}; give another, or none for the first free one") from error
