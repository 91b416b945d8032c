"""Where data lies on this machine, and how a file appears there whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """The user's cache of deepforward: `$XDG_CACHE_HOME/deepforward`, else `~/.cache/deepforward`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "deepforward"


def data_folders(name: str, *aliases: str) -> list[Path]:
    """Folders in which a named data set may lie, best first.

    `$DEEPFORWARD_DATA` holds a folder of that name or is that folder itself (told by its name: MNIST and Fashion-MNIST have the
    same file names); then come the user's cache and the folder of Debian's dataset packages.
    """
    folders = []
    if os.environ.get("DEEPFORWARD_DATA"):
        base = Path(os.environ["DEEPFORWARD_DATA"]).expanduser()
        folders += [base / alias for alias in (name, *aliases)]
        folders += [base] if base.resolve().name == name else []
    return [*folders, cache_folder() / name, Path("/usr/share/datasets") / name]


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; it takes its place when the block ends well, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
