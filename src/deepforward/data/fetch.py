"""Downloading the sources whose cards say where from."""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deepforward import catalogue
from deepforward.data.storage import cache_folder, whole_file
from deepforward.errors import CorruptData, DataUnavailable, DeepforwardError, UnknownName, WriteFailed

_CHUNK = 1 << 18
_TIMEOUT_SECONDS = 30
Progress = Callable[[str, int, int | None], None]


def fetch(name: str, folder: Path | None = None, progress: Progress | None = None, *, base: str | None = None) -> Path:
    """Download the files of a source that are not there yet.

    Checked is the SHA-256 of what a file decompresses to, so that a mirror may compress anew. A file takes its name only when
    it is whole and right; an interrupted call leaves none behind, and the next call downloads only what is missing.

    Args:
        name: A source whose card has a `url`.
        folder: Where to put the files; by default the user's cache folder, where `load` looks.
        progress: Called as `progress(file, bytes so far, bytes in all or None)` while a file comes in.
        base: Address to use instead of the card's `url`.

    Returns:
        The folder that holds the files.

    Raises:
        UnknownName: No source of that name can be downloaded.
        DataUnavailable: Offline, or the server refuses.
        CorruptData: What came in fails its checksum.
        WriteFailed: The folder cannot be written to.
    """
    fetchable = {card.name: card.details for card in catalogue.cards("sources") if "url" in card.details}
    if name not in fetchable:
        raise UnknownName("source to fetch", name, fetchable)
    target = folder or cache_folder() / name
    url = (base or str(fetchable[name]["url"])).rstrip("/")
    for file in fetchable[name]["files"]:
        path = target / file["name"]
        if not _is_right(path, file):
            _download(f"{url}/{file['name']}", path, file, progress or _silent)
    return target


def _silent(file: str, done: int, total: int | None) -> None:
    """Show nothing."""


def _is_right(path: Path, file: Mapping[str, Any]) -> bool:
    if not path.is_file():
        return False
    check = _Checksum(file)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            check.update(chunk)
    return check.is_right()


def _download(url: str, path: Path, file: Mapping[str, Any], progress: Progress) -> None:
    check = _Checksum(file)
    try:
        with whole_file(path) as partial, partial.open("wb") as stream:
            for chunk in _stream(url, path.name, progress):
                check.update(chunk)
                stream.write(chunk)
            if not check.is_right():
                raise CorruptData(
                    f"{url}: got other content than the card's sha256 {file['sha256'][:12]}..., kept nothing; try again"
                )
    except DeepforwardError:
        raise
    except OSError as error:
        raise WriteFailed(f"{path}: cannot be written ({error.strerror}); free space or choose another folder") from None


def _stream(url: str, name: str, progress: Progress) -> Iterator[bytes]:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            length = response.headers.get("Content-Length")
            total, done = int(length) if length else None, 0
            while chunk := response.read(_CHUNK):
                done += len(chunk)
                progress(name, done, total)
                yield chunk
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DataUnavailable(f"{url}: cannot be downloaded ({error}); check the connection and try again") from None


class _Checksum:
    """SHA-256 of a gzip stream's content, which is never unpacked beyond its known size."""

    def __init__(self, file: Mapping[str, Any]) -> None:
        self._expected, self._left = file["sha256"], file["bytes"]
        self._hash, self._unzip = hashlib.sha256(), zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._broken = False

    def update(self, chunk: bytes) -> None:
        """Take in the next part of the compressed file."""
        if self._broken:
            return
        try:
            content = self._unzip.decompress(chunk, self._left + 1)
        except zlib.error:
            self._broken = True
            return
        self._left -= len(content)
        self._broken = self._left < 0
        self._hash.update(content)

    def is_right(self) -> bool:
        """Whether the whole stream came in and is the one expected."""
        return not self._broken and self._unzip.eof and self._hash.hexdigest() == self._expected
