"""Files are written whole, and an error says what to do about it."""

import errno
import os
import stat

import pytest

from deepforward.errors import WriteFailed
from deepforward.files import write_whole


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("folder", "Is a directory); give the path of a file"),
        ("file/page.html", "a file stands where a folder is wanted"),
        ("file/deeper/page.html", "a file stands where a folder is wanted"),
    ],
)
def test_the_advice_fits_what_went_wrong(tmp_path, path, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(WriteFailed) as caught:
        write_whole(tmp_path / path, b"new")
    assert says in str(caught.value)
    assert "free space" not in str(caught.value)
    assert [entry.name for entry in sorted(tmp_path.iterdir())] == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "kept"


def test_the_content_is_on_the_disk_before_its_name_and_the_name_before_it_returns(tmp_path, monkeypatch):
    content, events, replace = b"new" * 1000, [], os.replace

    def sync(descriptor):
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            events.append(("sync folder", os.path.samestat(found, tmp_path.stat()), (tmp_path / "page.html").read_bytes()))
        else:
            events.append(("sync file", found.st_size, (tmp_path / "page.html").read_bytes()))

    def move(source, target):
        events.append(("replace", source.read_bytes(), target))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", move)
    (tmp_path / "page.html").write_bytes(b"old")
    write_whole(tmp_path / "page.html", content)
    assert events == [
        ("sync file", len(content), b"old"),
        ("replace", content, tmp_path / "page.html"),
        ("sync folder", True, content),
    ]


@pytest.mark.parametrize(("number", "is_told"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_synced_is_told_unless_there_is_nothing_to_sync(tmp_path, monkeypatch, number, is_told):
    def sync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", sync)
    if is_told:
        with pytest.raises(WriteFailed, match="could not be written"):
            write_whole(tmp_path / "page.html", b"new")
    else:
        write_whole(tmp_path / "page.html", b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]
