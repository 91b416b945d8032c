"""Claim: moved digits defeat a local learner on pixels long before a convolutional network."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from sklearn.svm import SVC
from torch import Tensor
from torch.nn import functional as F

from deepforward.data import Dataset, Split, load
from deepforward.data.splitting import stratified
from deepforward.engine import Recipe, fit
from deepforward.engine.assembly import Parts
from deepforward.engine.evaluation import chunks, looking
from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.lecture.image_networks import picture, picture_rows
from deepforward.report.blocks import Block, Images
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines


class Budget(NamedTuple):
    """What is measured: data, how many examples are learnt, tested, and choose the machine, farthest move, and training."""

    name: str
    learnt: int
    tested: int
    chosen_by: int
    farthest: int
    epochs: int
    batch_size: int


BUDGETS = {
    "smoke": Budget("digits", 1347, 450, chosen_by=900, farthest=1, epochs=8, batch_size=32),
    "full": Budget("mnist", 10_000, 4000, chosen_by=4000, farthest=3, epochs=8, batch_size=64),
}
#: Cost of an error, and width of the kernel in units of 1 / (features x variance), among which the machines are chosen.
COSTS, WIDTHS = (1.0, 10.0, 100.0), (0.5, 1.0, 2.0, 4.0)
MACHINE, NETWORK, BOTH = "SVM on pixels", "convolutional network", "SVM on its features"
LEARNERS = (MACHINE, NETWORK, BOTH)
#: Moved digits that are drawn.
SHOWN = 8


class LocalAndConvolutional(Claim):
    """A support vector machine of radial kernels on pixels, LeNet-5, and the machine on the network's last hidden layer.

    All learn digits that lie where they were put; they are tested on others, as they are and moved. The table has one row a
    number: a learner, `at` (moved by up to so many pixels each way) and `value` (accuracy); and rows of pictures.
    """

    says: ClassVar[str] = (
        "A machine of local kernels knows an image by its likeness to examples, pixel by pixel; where an object may lie "
        "elsewhere it needs examples of it there. A convolutional network has shared weights and pooling instead, "
        "and the features that it learns serve a machine of local kernels, too (Bengio and LeCun 2007)."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """Digits of 8 x 8 pixels moved by 1 (smoke), or 10000 digits of MNIST and 4000 others moved by up to 3 (full)."""
        facts = BUDGETS[budget]
        whole, farthest = load(facts.name), facts.farthest
        train, test = whole.train.spread(facts.learnt), whole.test.spread(facts.tested)
        moved = {most: Split(_moved(test.inputs, most, rng), test.targets) for most in range(farthest + 1)}
        progress("convolutional network")
        data = Dataset(whole.name, train, moved[0], whole.classes)
        parts = _trained(data, facts.epochs, facts.batch_size, rng)
        features = {most: _hidden(parts, split) for most, split in moved.items()}
        rows = [number(NETWORK, most, _share(outputs, test)) for most, (_, outputs) in features.items()]
        pixels = {most: _pixels(split, train) for most, split in moved.items()}
        hidden = {most: values for most, (values, _) in features.items()}
        for learner, own, others in ((MACHINE, _pixels(train, train), pixels), (BOTH, _hidden(parts, train)[0], hidden)):
            progress(learner)
            machine, chosen = _machine((own, train.targets.numpy()), facts.chosen_by, rng)
            rows += [number(f"{learner}, chosen", name, value) for name, value in chosen.items()]
            rows += [number(learner, most, machine.score(inputs, test.targets.numpy())) for most, inputs in others.items()]
        for n in range(SHOWN):
            rows += picture_rows(f"digit {n}", moved[farthest].inputs[n, 0] / train.inputs.max())
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """Accuracy on digits moved as far as they are, and as they are."""
        accuracy = {learner: numbers(table, learner) for learner in LEARNERS}
        farthest = max(accuracy[MACHINE])
        gain = {learner: 100 * (accuracy[learner][farthest] - accuracy[MACHINE][farthest]) for learner in (NETWORK, BOTH)}
        least = min(values[0] for values in accuracy.values())
        basis = "lecture.md A2.3"
        return [
            Check("moved: network above the SVM on pixels", gain[NETWORK], 10, 100, "points", basis),
            Check("moved: SVM on its features above the SVM on pixels", gain[BOTH], 10, 100, "points", basis),
            Check("as they are: the worst of the three", least, 0.95, 1, "share", "all three have learnt the digits"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """Accuracy against how far the digits are moved, and some of them."""
        accuracy = {learner: numbers(table, learner) for learner in LEARNERS}
        shown = np.stack([picture(table, f"digit {n}") for n in range(SHOWN)])
        chosen = [[learner, *numbers(table, f"{learner}, chosen").values()] for learner in (MACHINE, BOTH)]
        return [
            lines(
                list(accuracy[MACHINE]),
                {learner: list(values.values()) for learner, values in accuracy.items()},
                x_title="moved by up to so many pixels each way",
                y_title="test accuracy, share",
                caption="No learner has seen a moved digit.",
            ),
            Images(shown, caption="Test digits, moved as far as they are."),
            Cells(
                ["learner", "cost C", "width gamma", "accuracy it was chosen by"],
                chosen,
                {"cost C": ".0f", "width gamma": ".3g", "accuracy it was chosen by": ".3f"},
                "The machines, chosen by digits that lie where they were put.",
            ),
        ]

    def refutation(self) -> Table:
        """As if the three were alike and had learnt little."""
        return from_rows([number(learner, most, 0.8) for learner in LEARNERS for most in (0, 3)])


def _moved(images: Tensor, most: int, rng: torch.Generator) -> Tensor:
    """Each image moved down and right by whole pixels, drawn evenly from -most to most; zeros come in."""
    height, width = images.shape[2:]
    around = F.pad(images, (most, most, most, most))
    places = torch.randint(2 * most + 1, (len(images), 2), generator=rng).tolist()
    return torch.stack(
        [image[:, row : row + height, column : column + width] for image, (row, column) in zip(around, places, strict=True)]
    )


def _trained(data: Dataset, epochs: int, batch_size: int, rng: torch.Generator) -> Parts:
    # At the card's rate of 0.1 one of eight seeds ended at 0.92 on digits of 8 x 8 pixels instead of 0.99.
    usual: Mapping[str, Any] = {
        "learning_rate": 0.03,
        "validation": 0.0,
        "device": "cpu",
        "threads": 1,
        "probe_budget": 0.0,
        "precision": "fp32",
    }
    seed = int(torch.randint(2**31, (), generator=rng))
    recipe = Recipe(model="lenet5", data=data.name, epochs=epochs, batch_size=batch_size, compile="off", seed=seed, **usual)
    with tempfile.TemporaryDirectory() as folder:
        return fit(recipe, Path(folder) / "run", quiet=True, data=data, throwaway=True).parts()


def _hidden(parts: Parts, split: Split) -> tuple[np.ndarray, Tensor]:
    """Values of the last hidden layer for each example, and the outputs."""
    *layers, output = parts.model.children()
    hidden = []
    with looking(parts):
        for chunk in chunks(parts, split):
            values = chunk.inputs
            for layer in layers:
                values = layer(values)
            hidden.append(values)
        rows = torch.cat(hidden)
        return rows.double().numpy(), output(rows)


def _pixels(split: Split, train: Split) -> np.ndarray:
    return (split.inputs.flatten(1).double() / train.inputs.max()).numpy()


def _share(outputs: Tensor, test: Split) -> float:
    return float((outputs.argmax(1) == test.targets).double().mean())


def _machine(known: tuple[np.ndarray, np.ndarray], most: int, rng: torch.Generator) -> tuple[SVC, dict[str, float]]:
    """A machine whose cost and width did best on a fifth of a part of the examples, held out; fitted to all of them."""
    values, labels = known
    part = torch.randperm(len(values), generator=rng)[:most].numpy()
    rest, held = (part[indices.numpy()] for indices in stratified(torch.from_numpy(labels[part]), 0.2, rng, "validation"))
    unit = 1 / (values.shape[1] * values.var())
    best, chosen = -1.0, (0.0, 0.0)
    for cost, width in itertools.product(COSTS, WIDTHS):
        right = SVC(C=cost, gamma=width * unit).fit(values[rest], labels[rest]).score(values[held], labels[held])
        if right > best:
            best, chosen = right, (cost, float(width * unit))
    cost, width = chosen
    return SVC(C=cost, gamma=width).fit(values, labels), {"cost": cost, "width": width, "accuracy": float(best)}
