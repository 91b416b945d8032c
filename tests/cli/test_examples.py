"""The examples, and the Python in the README, run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(folder: Path, *arguments: str) -> str:
    outcome = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def test_a_probe_in_a_loop_of_ones_own(tmp_path: Path) -> None:
    assert run(tmp_path, str(ROOT / "examples" / "own_loop.py")).startswith("vanishing from ")


def test_a_cure_from_python(tmp_path: Path) -> None:
    out = run(tmp_path, str(ROOT / "examples" / "cure.py"))
    assert "cured by " in out
    assert (tmp_path / out.splitlines()[-1]).is_file()


def test_features_of_a_machine_in_a_pipeline(tmp_path: Path) -> None:
    lines = run(tmp_path, "-W", "error", str(ROOT / "examples" / "rbm_features.py")).splitlines()
    raw, features = (float(line.split()[-1].rstrip("%")) for line in lines[:2])
    assert features > raw + 5


def test_the_readme(tmp_path: Path) -> None:
    (block,) = (b for b in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if b.startswith("import deepforward"))
    accuracy, *diagnosis, page = run(tmp_path, "-c", block).splitlines()
    assert 0.8 < float(accuracy) <= 1
    assert diagnosis
    assert (tmp_path / page).is_file()


def test_the_readme_adds_the_lines_of_the_example() -> None:
    (diff,) = re.findall(r"```diff\n(.*?)```", README, re.DOTALL)
    example = (ROOT / "examples" / "own_loop.py").read_text(encoding="utf-8")
    added = [line.removeprefix("+") for line in diff.splitlines() if line.startswith("+")]
    assert len(added) == 3
    assert all(line in example for line in added)
