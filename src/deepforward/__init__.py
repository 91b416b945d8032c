"""deepforward: train deep networks, look inside them, say what is wrong, prove a cure.

Importing this module imports neither torch nor any other heavy package; a public name is imported when it is first touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: public name -> module that defines it
_PUBLIC = {
    "load": "deepforward.data",
    "Dataset": "deepforward.data",
    "Recipe": "deepforward.engine",
    "Run": "deepforward.engine",
    "fit": "deepforward.engine",
    "Probe": "deepforward.instruments",
    "diagnose": "deepforward.clinic",
    "cure": "deepforward.clinic",
}

__all__ = ["Dataset", "Probe", "Recipe", "Run", "__version__", "cure", "diagnose", "fit", "load"]

if TYPE_CHECKING:
    from deepforward.clinic import cure, diagnose
    from deepforward.data import Dataset, load
    from deepforward.engine import Recipe, Run, fit
    from deepforward.instruments import Probe


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'deepforward' has no attribute '{name}'")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
