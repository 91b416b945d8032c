"""A run folder that is being written -> its page, made anew when the folder has changed and somebody asks."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from deepforward import report
from deepforward.data import Dataset
from deepforward.engine.outlets import Pace
from deepforward.engine.run import Run
from deepforward.engine.run_report import record_so_far
from deepforward.errors import DeepforwardError, first_line

#: Seconds between two pages at least, and the share of the time that making them may take.
_SECONDS, _SHARE = 4.0, 0.01
#: What of a run folder is on its page.
_SHOWN = ("recipe.json", "history.jsonl", "readings.json", "result.json", "report.html", "snapshots")


class LivePage:
    """The page of the run in a folder as it stands.

    Nothing is made unless somebody asks, and then at most so often that it takes 1% of the time.

    Args:
        folder: Folder of the run, which may not be there yet.
        data: Its data, if they are at hand; else they are loaded.
    """

    def __init__(self, folder: Path, data: Dataset | None = None) -> None:
        self.folder, self.data = folder, data
        self._lock = threading.Lock()
        self._pace: Pace | None = None
        self._stamp: object = None
        self._runs: dict[Path, Run] = {}
        self._content, self._status = _notice("The run has not begun yet."), "waiting"

    def state(self, now: bool = False) -> dict[str, str]:
        """`tag` of the page, another whenever the page is, and `status`: waiting, live or ended.

        Args:
            now: Whether a page that is out of date is made anew although it is not time yet.
        """
        with self._lock:
            stamp = [*self._stamps()]
            if stamp != self._stamp and (now or self._pace is None or self._pace.due):
                self._stamp = stamp
                self._make()
            return {"tag": hashlib.sha256(self._content).hexdigest()[:16], "status": self._status}

    def content(self) -> bytes:
        """The page itself."""
        with self._lock:
            return self._content

    def _stamps(self) -> Iterator[tuple[str, int, int]]:
        for folder in (self.folder, *sorted(self.folder.glob("pretraining-*"))):
            for name in _SHOWN:
                try:
                    found = (folder / name).stat()
                except OSError:
                    continue
                yield str(folder / name), found.st_mtime_ns, found.st_size

    def _make(self) -> None:
        begun = time.thread_time()
        if not (self.folder / "recipe.json").is_file():
            return
        try:
            run = self._run(self.folder)
            ended = "status" in run.result
            self._status = "ended" if ended else "live"
            drawn = self.folder / "report.html"
            if ended and drawn.is_file() and drawn.stat().st_mtime_ns >= (self.folder / "result.json").stat().st_mtime_ns:
                self._content = drawn.read_bytes()
            else:
                self._content = report.render(report.run_page(record_so_far(self._at_work(run)))).encode()
        except (DeepforwardError, OSError) as error:  # a checkpoint replaced while it was read, data that cannot be loaded
            self._stamp = None
            if self._pace is None:
                self._content = _notice(str(error))
        except Exception as error:  # whatever befalls its page, the training goes on
            self._content = _notice(f"{type(error).__name__}: {first_line(error)}; this is a bug of deepforward")
        # What the first page loads is needed at the end of the run anyway.
        cost = time.thread_time() - begun if self._pace is not None else 0.0
        self._pace = self._pace or Pace(_SECONDS, _SHARE)
        self._pace.done(cost)

    def _at_work(self, run: Run) -> Run:
        """The stage of pretraining that goes on, where the run itself has not begun."""
        stages = [*self.folder.glob("pretraining-*/recipe.json")]
        if not stages or run.history or run.result:
            return run
        return self._run(max(stages, key=lambda path: path.stat().st_mtime_ns).parent)

    def _run(self, folder: Path) -> Run:
        if folder not in self._runs:
            self._runs[folder] = Run.open(folder, self.data)
        return self._runs[folder]


def _notice(text: str) -> bytes:
    return report.render(report.Page("deepforward", blocks=[report.Text(text)])).encode()
