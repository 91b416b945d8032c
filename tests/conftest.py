"""What all tests share: shape checks at run time, one thread, and the folder with the downloaded data sets."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from jaxtyping import config, install_import_hook

sys.path.insert(0, str(Path(__file__).parent))  # for typecheck.py
install_import_hook("deepforward", "typecheck.check")  # before anything imports deepforward

import torch  # noqa: E402 - the hook comes first


def pytest_configure() -> None:
    os.fsync = lambda descriptor: None  # what tests write need not survive a crash of the machine, and waiting costs minutes
    torch.set_num_threads(1)  # sums depend on the number of threads, and tests run side by side


#: Files with the longest tests, begun first: a long test that is begun last leaves all other workers idle.
LONG = tuple(
    f"tests/{name}.py" for name in ("contracts/test_clinic", "contracts/test_claims", "clinic/test_energy_prescriptions")
)

#: Steps of a training whose shapes are checked.
CHECKED_STEPS = 30


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))  # stable: the order within a file is kept


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Where MNIST and Fashion-MNIST lie, or skip."""
    folder = os.environ.get("DEEPFORWARD_DATA")
    if not folder or not Path(folder, "mnist").is_dir():
        pytest.skip("needs MNIST: set DEEPFORWARD_DATA to the folder that holds mnist/ and fashion-mnist/")
    return Path(folder)


@contextmanager
def _unchecked() -> Iterator[None]:
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def unchecked() -> Callable[[], AbstractContextManager[None]]:
    """A block whose shapes are not checked, four times as fast in small networks: for what has run checked in the same test."""
    return _unchecked


@pytest.fixture(scope="session", autouse=True)
def check_first_steps_only() -> Iterator[None]:
    """Check shapes in the first steps of a training: those of the later ones are the same."""
    from deepforward.engine.step import Stepper

    original, taken = Stepper.step, WeakKeyDictionary[Stepper, int]()

    def step(self: Stepper, *arguments: Any, **options: Any) -> Any:
        taken[self] = taken.get(self, 0) + 1
        with nullcontext() if taken[self] <= CHECKED_STEPS else _unchecked():
            return original(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "step", step)
        yield
