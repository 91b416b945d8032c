"""Claim: with shared weights, a network of 9760 parameters learns to read digits from their pixels."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from deepforward.data import Dataset, load
from deepforward.data.dataset import Split
from deepforward.data.images import resize
from deepforward.engine import Recipe, Run, fit
from deepforward.lecture.claim import Check, Claim, Table, entries, from_rows, number, numbers
from deepforward.models.lecun1989 import LeCun1989, SharedKernels
from deepforward.report.blocks import Block, Images
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines

SIZE = 16
#: Budget -> passes over the training digits.
PASSES = {"smoke": 1, "full": 23}
#: Digits of scikit-learn that the smoke budget trains on.
FEW = 1000
#: What is measured -> data -> least and largest share misread, and where the bounds come from.
BOUNDS = {
    "test error": {
        "digits": (0.0, 0.25, "three in four of 450 digits after one pass of 1000; chance is 0.9"),
        "mnist": (0.035, 0.065, "LeCun et al. 1989: 0.050 of zip codes; lecture.md A4.5: 3.5 to 6.5%"),
    },
    "training error": {
        "digits": (0.0, 0.25, "after one pass; chance is 0.9"),
        "mnist": (0.0, 0.02, "LeCun et al. 1989: 0.0014 of zip codes; lecture.md A4.5: 0.0099"),
    },
}


class LeCun1989Digits(Claim):
    """The network's size, counted layer by layer, and its errors after training on one digit at a time.

    The table has one row a number: `quantity`, `at` (a layer, a pass, a kernel) and `value`.
    """

    says: ClassVar[str] = (
        "A network of local receptive fields with shared weights, two layers of maps that halve the resolution and two of all "
        "connections, reads handwritten digits of 16x16 pixels: 1256 units and 64660 connections, but 9760 parameters; 5.0% "
        "of 2007 zip code digits are misread after 23 passes over 7291 (LeCun et al. 1989)."
    )
    correction: ClassVar[str] = "E14: the name is Yann LeCun."

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """One pass over 1000 digits of scikit-learn, enlarged (smoke), or 23 over 7291 of MNIST, minutes (full)."""
        data = _enlarged(load("digits")) if budget == "smoke" else load(f"mnist?train=7291&test=2007&size={SIZE}")
        family = data.name.partition("?")[0]
        progress(f"{PASSES[budget]} passes over {len(data.train)} digits")
        recipe = Recipe(
            model="lecun1989",
            data=data.name,
            epochs=PASSES[budget],
            precision="fp32",
            compile="off",
            device="cpu",
            threads=1,
            probe_budget=0.0,
            seed=int(torch.randint(2**31, (), generator=rng)),
        )
        with tempfile.TemporaryDirectory() as folder:
            run = fit(recipe, Path(folder) / "run", quiet=True, data=data, throwaway=True)
            model = run.model()
            assert isinstance(model, LeCun1989)
            rows = [*_size(model), *_errors(run, model, family)]
            rows += [number("training loss", entry["epoch"], entry["train/loss"]) for entry in run.history]
        kernels = model.get_parameter("h1.weight").detach()
        rows += [{"quantity": "kernel of H1", "at": i, "value": kernel.tolist()} for i, kernel in enumerate(kernels)]
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """Parameters, units, connections; errors on digits not seen."""
        total = {of: sum(numbers(table, of).values()) for of in ("parameters", "units", "connections")}
        counted = "LeCun et al. 1989, counted layer by layer"
        errors = [(name, *next(iter(numbers(table, name).items()))) for name in BOUNDS]
        return [
            Check("parameters", total["parameters"], 9760, 9760, "", counted),
            Check("units, pixels included", total["units"], 1256, 1256, "", counted),
            Check("connections", total["connections"], 64660, 64660, "", counted),
            *(
                Check(f"{name} on {family}", share, low, high, "share", basis)
                for name, family, share in errors
                for low, high, basis in [BOUNDS[name][family]]
            ),
        ]

    def draw(self, table: Table) -> list[Block]:
        """The layers, the kernels of the first, and the loss by pass."""
        sizes = [numbers(table, of) for of in ("units", "connections", "parameters")]
        loss = numbers(table, "training loss")
        kernels = np.array(list(entries(table, "kernel of H1").values()), np.float32).reshape(-1, 1, 5, 5)
        blocks: list[Block] = [
            Cells(
                ["layer", "units", "connections", "parameters"],
                [[layer, *(of.get(layer) for of in sizes)] for layer in sizes[0]],
                caption="Sharing weights leaves 9760 parameters for 64660 connections.",
            ),
            Images(kernels, caption="Kernels of H1: 12 features, each looked for at all places.", contrast="each", columns=6),
        ]
        if len(loss) > 1:
            blocks.append(
                lines(list(loss), {"training": list(loss.values())}, x_title="pass", y_title="mean squared error", log_y=True)
            )
        return blocks

    def refutation(self) -> Table:
        """A network of another size that reads nothing."""
        rows = [number(of, "h1", 1) for of in ("parameters", "units", "connections")]
        return from_rows([*rows, number("test error", "mnist", 0.9), number("training error", "mnist", 0.9)])


def _enlarged(data: Dataset) -> Dataset:
    train, test = (Split(resize(split.inputs, SIZE), split.targets) for split in (data.train.spread(FEW), data.test))
    return Dataset(data.name, train, test, data.classes)


def _size(model: LeCun1989) -> Iterator[dict[str, Any]]:
    """Of each layer: units, one a value; connections, one a bias and weight that a unit sees; parameters."""
    yield number("units", "pixels", SIZE**2)
    for name, layer in model.named_children():
        if isinstance(layer, SharedKernels | nn.Linear):
            units = layer.bias.numel()
            yield number("units", name, units)
            yield number("connections", name, units * (layer.weight.shape[1] + 1))
            yield number("parameters", name, sum(p.numel() for p in layer.parameters()))


@torch.no_grad()
def _errors(run: Run, model: LeCun1989, family: str) -> Iterator[dict[str, Any]]:
    """Shares of the training and test digits that are misread."""
    for name, split in (("training error", run.data.train), ("test error", run.data.test)):
        batch = run.parts().batch(split)
        yield number(name, family, float((model(batch.inputs).argmax(1) != batch.targets).double().mean()))
