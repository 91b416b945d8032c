"""Compiles C++ that comes with the package, once for a machine, with whatever compiler there is."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

FLAGS = (
    *("-O3", "-std=c++17", "-march=native", "-fno-math-errno", "-ffp-contract=fast"),
    *("-fopenmp", "-shared", "-fPIC"),
)
_SECONDS = 120


@functools.cache
def compiled(source: Path) -> ctypes.CDLL | None:
    """The library that `source` compiles to, from the user's cache or built now.

    The compiler is `$CXX`, else the first of g++, clang++ and c++; the cache is `deepforward/kernels` in `$XDG_CACHE_HOME` or
    `~/.cache`. A library is named after everything it depends on: source, flags, compiler and processor.

    Args:
        source: A C++ file.

    Returns:
        The library, or None where it cannot be built or loaded.
    """
    try:
        compiler = _compiler()
        library = _cache() / f"{source.stem}-{_fingerprint(source, compiler)}.so"
        if not library.exists():
            _build(compiler, source, library)
        return ctypes.CDLL(str(library))
    except (OSError, RuntimeError, subprocess.SubprocessError):
        return None


def _compiler() -> Sequence[str]:
    wanted = os.environ.get("CXX", "").split()
    if wanted:
        return wanted
    return [next((name for name in ("g++", "clang++", "c++") if shutil.which(name)), "c++")]


def _cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "deepforward" / "kernels"


def _fingerprint(source: Path, compiler: Sequence[str]) -> str:
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=True, timeout=_SECONDS).stdout
    parts = (source.read_bytes(), version, " ".join([*compiler, *FLAGS]).encode(), _processor().encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    """What `-march=native` goes by; a home folder may be shared by unlike machines."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    kinds = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
    return " ".join([platform.machine(), *sorted({line for line in lines if line.startswith(kinds)})])


def _build(compiler: Sequence[str], source: Path, library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder, library.name)
        command = [*compiler, *FLAGS, str(source), "-o", str(made)]
        subprocess.run(command, capture_output=True, check=True, timeout=_SECONDS)
        made.replace(library)  # at once, since another process may be building or loading the same
