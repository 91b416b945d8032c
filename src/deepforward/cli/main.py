"""The command line: what the commands share, which is how they fail."""

from __future__ import annotations

import sys
import traceback
import warnings
from importlib import import_module
from typing import Annotated

import typer

import deepforward
from deepforward.errors import DeepforwardError

app = typer.Typer(
    name="deepforward",
    help="Train deep networks, look inside them, say what is wrong, prove a cure.",
    epilog="Every command takes --debug, which shows where an error comes from.",
    add_completion=False,
    rich_markup_mode="rich",
)

_COMMANDS = ("train", "diagnose", "lecture", "list", "report", "watch", "sample", "embed", "features", "predict", "fetch")
for _command in _COMMANDS:
    app.command(_command)(import_module(f"deepforward.cli.{_command}").command)


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(deepforward.__version__)
        raise typer.Exit
    return wanted


@app.callback()
def _shared(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and leave with its exit code.

    0: done. 1: a bug of ours. 2: something the user can put right, said in one line. 130: interrupted.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        with warnings.catch_warnings():  # restores how warnings are shown
            warnings.showwarning = _warn
            code = app(arguments or ["--help"], standalone_mode=False)
    except DeepforwardError as error:
        code = _complain(str(error), 2, debug)
    except typer.TyperException as error:
        code = _complain(error.format_message(), 2, debug)
    except typer.Abort:
        code = _complain("interrupted", 130, debug)
    except Exception as error:  # whatever it is, the user gets a sentence and a way on
        code = _complain(f"{type(error).__name__}: {error}; this is a bug of deepforward, --debug shows where", 1, debug)
    sys.exit(code or 0)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)  # noqa: T201 - for the user to read, like an error


def _complain(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201 - this is what the user is here to read
    return code
