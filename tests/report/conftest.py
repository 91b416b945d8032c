"""Makes vanishing_run.py and gallery.py importable, and the run a fixture."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import vanishing_run

from deepforward.report import RunRecord


@pytest.fixture(scope="session")
def vanishing() -> RunRecord:
    return vanishing_run.record()
