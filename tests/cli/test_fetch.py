"""`deepforward fetch`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


def test_what_is_there_and_right_is_not_downloaded_again(
    deepforward, data_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached = shutil.copytree(data_folder / "mnist", tmp_path / "deepforward" / "mnist")
    monkeypatch.setattr("urllib.request.urlopen", None)  # a download would fail
    outcome = deepforward("fetch", "mnist")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"{cached}\n", "")
