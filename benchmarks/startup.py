"""How long does a command take before it does anything? Promised: import 50 ms, --help 0.4 s, list 0.5 s, none importing torch.

Wall time of a fresh interpreter for the commands; for the import, the time of the statement itself in one.
Usage: python benchmarks/startup.py [--quick] [--json FILE]
"""

from __future__ import annotations

import subprocess
import sys
import time

from comparison import against_bound, arguments, in_turn, publish

IMPORT = "import time; start = time.perf_counter(); import deepforward; print(time.perf_counter() - start)"
COMMAND_LINE = "import sys; sys.argv[0] = 'deepforward'; from deepforward.cli.main import main; main()"


def import_seconds() -> float:
    """Time of `import deepforward` in a fresh interpreter."""
    return float(subprocess.run([sys.executable, "-c", IMPORT], check=True, capture_output=True, text=True).stdout)


def command_seconds(*arguments: str) -> float:
    """Wall time of one command, the interpreter's own start included."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", COMMAND_LINE, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__.splitlines()[0])
    taken = in_turn(
        {
            "import": import_seconds,
            "help": lambda: command_seconds("--help"),
            "list": lambda: command_seconds("list"),
        },
        rounds=5 if options.quick else 21,
    )
    rows = [
        against_bound("import deepforward", taken["import"], 0.05, "s"),
        against_bound("deepforward --help", taken["help"], 0.4, "s"),
        against_bound("deepforward list", taken["list"], 0.5, "s"),
    ]
    publish("startup", rows, options.json)


if __name__ == "__main__":
    main()
