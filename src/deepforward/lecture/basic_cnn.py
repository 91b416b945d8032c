"""Claim: a small convolutional network reads digits after one look at each, and its maps move with what they show."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from deepforward.data import load
from deepforward.engine import Recipe, Run, fit
from deepforward.lecture.claim import Check, Claim, Table, entries, from_rows, number, numbers
from deepforward.models.convolutional import LeNet5
from deepforward.report.blocks import Block, Images
from deepforward.report.figures import confusion_matrix

#: Budget -> data, epochs and examples a step.
BUDGETS = {"smoke": ("digits", 4, 32), "full": ("mnist", 1, 128)}
#: Data -> least accuracy on the test digits, and where the bound comes from.
LEAST = {
    "digits": (0.9, "450 digits, after four epochs; chance is 0.1"),
    "mnist": (0.98, "lecture.md A4.9: 0.98 after one epoch"),
}
#: Pixels by which an image is moved: both poolings together halve the resolution twice.
SHIFT = 4
#: Wrongly read digits that are shown.
SHOWN = 12


class BasicCNN(Claim):
    """LeNet-5 as it is built today, trained, its confusions, and its maps of an image that is moved.

    The table has one row a number: `quantity`, `at` (the data, a class, a place) and `value`.
    """

    says: ClassVar[str] = (
        "A basic convolutional network (LeNet-5: convolution, pooling, convolution, pooling, affine layers) reads 98% of the "
        "MNIST test digits after a single epoch. Its maps show what lies where: if the image moves, so do they."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """Four epochs on the digits of scikit-learn (smoke), or one on all of MNIST (full)."""
        name, epochs, batch_size = BUDGETS[budget]
        data = load(name)
        progress(f"{epochs} epochs of {name}")
        recipe = Recipe(
            model="lenet5",
            data=name,
            epochs=epochs,
            batch_size=batch_size,
            validation=0.0,
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
            assert isinstance(model, LeNet5)
            rows = [number("accuracy", name, run.metrics["test/accuracy"]), *_confusions(run, model)]
        kernels = model.get_parameter("conv1.conv.weight").detach()[:, 0]
        rows += [{"quantity": "kernel", "at": i, "value": kernel.tolist()} for i, kernel in enumerate(kernels)]
        return from_rows([*rows, number("moved maps", SHIFT, _difference_when_moved(model, rng))])

    def check(self, table: Table) -> list[Check]:
        """Accuracy on digits not seen; maps of a moved image against moved maps."""
        ((name, accuracy),) = numbers(table, "accuracy").items()
        least, basis = LEAST[name]
        moved = numbers(table, "moved maps")[SHIFT]
        return [
            Check(f"test accuracy on {name}", accuracy, least, 1, "share", basis),
            Check("maps of a moved image against moved maps", moved, 0, 1e-12, "relative", "identity, float64"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """Kernels, confusions, and digits that are misread."""
        kernels = np.array(list(entries(table, "kernel").values()), np.float32)[:, None]
        wrong = entries(table, "misread")
        blocks: list[Block] = [
            Images(kernels, caption="Kernels of the first convolution.", contrast="each", half=True, columns=8),
            confusion_matrix(np.array(list(entries(table, "confusions").values())), [], "Test digits by class and answer."),
        ]
        if wrong:
            captions = [caption for caption, _ in wrong.values()]
            pixels = np.array([image for _, image in wrong.values()], np.float32)[:, None]
            blocks.append(Images(pixels, captions, "Test digits that are misread.", contrast="each"))
        return blocks

    def refutation(self) -> Table:
        """A network that guesses, whose maps stay where they are."""
        rows = [number("accuracy", "mnist", 0.1), number("moved maps", SHIFT, 1.0)]
        return from_rows(rows)


@torch.no_grad()
def _confusions(run: Run, model: LeNet5) -> Iterator[dict[str, Any]]:
    """Test digits by class and answer, and some that are misread, as they are stored."""
    split, batch = run.data.test, run.parts().batch(run.data.test)
    answers = torch.cat([model(some).argmax(1) for some in batch.inputs.split(500)])
    counts = torch.zeros(10, 10, dtype=torch.int64).index_put_((split.targets, answers), torch.tensor(1), accumulate=True)
    for label, row in enumerate(counts.tolist()):
        yield {"quantity": "confusions", "at": label, "value": row}
    for i in (answers != split.targets).nonzero().flatten()[:SHOWN].tolist():
        caption = f"{split.targets[i]} read as {answers[i]}"
        yield {"quantity": "misread", "at": i, "value": [caption, split.inputs[i, 0].tolist()]}


@torch.no_grad()
def _difference_when_moved(model: LeNet5, rng: torch.Generator) -> float:
    """Largest difference between the maps of a moved image and the moved maps, relative to the largest value; in float64.

    The image is dark but for its middle, which neither it nor its maps' surroundings lose at the border.
    """
    image = torch.zeros(1, 1, 48, 48, dtype=torch.float64)
    image[..., 16:28, 16:28] = torch.rand(12, 12, generator=rng, dtype=torch.float64)
    one, other = (_maps(model, picture) for picture in (image, image.roll((SHIFT, SHIFT), (2, 3))))
    inner = slice(3, -3)  # what the zeros around the image change stays outside
    steps = SHIFT // 4
    moved = one.roll((steps, steps), (2, 3))
    return float((other - moved)[..., inner, inner].abs().max() / one.abs().max())


def _maps(model: LeNet5, image: Tensor) -> Tensor:
    """What the second pooling gives, of images of any size."""
    maps = image
    for stage in list(model.double().eval().children())[:2]:
        maps = stage(maps)
    return maps
