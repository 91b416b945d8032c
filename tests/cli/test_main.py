"""What all commands share: help, version, and how they fail."""

from __future__ import annotations

import warnings

import pytest

import deepforward as package
from deepforward.cli import list as list_command
from deepforward.cli import main as command_line
from deepforward.errors import ProbeWarning

COMMANDS = ("train", "diagnose", "lecture", "list", "report", "watch", "sample", "embed", "features", "predict", "fetch")


def test_no_arguments_show_the_help(deepforward) -> None:
    outcome = deepforward()
    assert outcome.code == 0
    assert all(command in outcome.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(deepforward, command: str) -> None:
    outcome = deepforward(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"deepforward {command}" in outcome.out


def test_version(deepforward) -> None:
    assert deepforward("--version").out == f"{package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train"], "Missing argument 'model'"),
        (["train", "perceptron", "--epoch", "3"], "No such option: --epoch"),
        (["train", "perceptron", "--epochs", "many"], "Invalid value for '--epochs'"),
        (["train", "perceptron", "lenet5"], "unexpected extra argument"),
    ],
)
def test_a_slip_on_the_command_line_is_said_in_one_line(deepforward, arguments: list[str], says: str) -> None:
    assert says in deepforward(*arguments).complaint


def test_debug_shows_where_an_error_comes_from(deepforward) -> None:
    outcome = deepforward("list", "nonsense", "--debug")
    assert outcome.code == 2
    assert outcome.err.startswith("Traceback")
    assert outcome.err.splitlines()[-1].startswith("error: unknown kind")


def test_a_bug_is_called_a_bug(deepforward, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(kind: str) -> None:
        raise KeyError(f"two\nlines about {kind}")

    monkeypatch.setattr(list_command.catalogue, "cards", broken)
    outcome = deepforward("list", "models")
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "bug of deepforward, --debug" in outcome.err


def test_an_interrupt_is_no_bug(deepforward, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(kind: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(list_command.catalogue, "cards", interrupted)
    assert deepforward("list", "models").code == 130


@pytest.mark.filterwarnings("always::deepforward.errors.ProbeWarning")
def test_a_warning_is_one_plain_line(deepforward, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(kind: str) -> list[object]:
        warnings.warn("the probe\nsees nothing", ProbeWarning, stacklevel=1)
        return []

    monkeypatch.setattr(list_command.catalogue, "cards", warn)
    shown = warnings.showwarning
    outcome = deepforward("list", "models")
    assert (outcome.code, outcome.err) == (0, "warning: the probe sees nothing\n")
    assert warnings.showwarning is shown


def test_every_command_is_registered() -> None:
    assert tuple(command.name for command in command_line.app.registered_commands) == COMMANDS
