"""What is imported before anything is asked for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import deepforward

HEAVY = {"torch", "numpy", "scipy", "sklearn", "PIL", "altair", "vl_convert", "pandas", "jaxtyping"}
CLI = "import sys; sys.argv[1:] = {arguments}; from deepforward.cli.main import main\ntry: main()\nexcept SystemExit: pass"


def modules_after(statement: str) -> set[str]:
    """Top-level packages in sys.modules of a fresh interpreter after a statement."""
    code = f"import sys, json\n{statement}\nprint(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(outcome.stderr)}


def test_the_package_alone_imports_nothing_heavy() -> None:
    assert modules_after("import deepforward; dir(deepforward)").isdisjoint(HEAVY | {"rich", "typer"})


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["train", "--help"], ["list"], ["list", "models", "--json"]], ids=" ".join
)
def test_help_and_list_import_nothing_heavy(arguments: list[str]) -> None:
    assert modules_after(CLI.format(arguments=arguments)).isdisjoint(HEAVY)


@pytest.mark.parametrize("name", deepforward.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(deepforward, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = deepforward.nonsense
