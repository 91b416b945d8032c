"""Files are written whole, and an error says what to do about it."""

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
