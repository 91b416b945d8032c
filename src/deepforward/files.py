"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path

from deepforward.errors import WriteFailed

#: Error number -> what to do about it.
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free space or give another folder"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "give a folder that you may write to"),
    errno.EISDIR: "give the path of a file",
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file stands where a folder is wanted; give another path"),
}


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader, or a crash, sees the old file or the new one, never a part.

    On return the new one is on the disk, also where the machine itself crashes: what is written next comes after it.

    Raises:
        WriteFailed: The disk is full or the path cannot be written; the file that is there is whole.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        advice = _ADVICE.get(error.errno or 0, "give another path")
        raise WriteFailed(f"{path} could not be written ({error.strerror}); {advice}") from error


def _sync_folder(folder: Path) -> None:
    """Put the names of the files in a folder on the disk, where the system knows of that."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # what file systems say that have nothing to sync in a folder
            raise
    finally:
        os.close(descriptor)
