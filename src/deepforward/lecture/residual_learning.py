"""Claim: plain networks train worse the deeper they get; residual ones do not."""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from deepforward.catalogue import load as build
from deepforward.data import Dataset, Scaling, load
from deepforward.engine import Recipe, fit
from deepforward.instruments import DepthCurve
from deepforward.lecture.claim import Check, Claim, Table, from_rows, to_rows
from deepforward.report.blocks import Block
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines

#: Family -> affine layers that each skip spans.
FAMILIES = {"plain": 0, "residual": 2}
#: Budget -> depths, epochs and seeds.
BUDGETS = {"smoke": ((4, 56), 3, 1), "full": ((4, 20, 56), 15, 5)}
#: Convolutional networks of the full budget: cards by family, examples of Fashion-MNIST, epochs.
IMAGES, EXAMPLES, EPOCHS = {"plain": ("plain20", "plain56"), "residual": ("resnet20", "resnet56")}, 4000, 10
#: How all of them are trained.
TRAINING: Mapping[str, Any] = {
    "scaling": "standardise",
    "validation": 0.0,
    "objective": "cross-entropy",
    "optimizer": "sgd",
    "optimizer_options": {"momentum": 0.9, "nesterov": True},
    "schedule": "one-cycle",
    "compile": "off",
    "device": "cpu",
    "threads": 1,
    "probe_budget": 0.0,
}
#: What is measured of the untrained perceptrons only.
UNTRAINED = ("gradient_decades", "trained_share", "nonlinearity", "linear_part")


class ResidualLearning(Claim):
    """Perceptrons of width 64 with batch normalisation on the digits, plain and residual, of three depths.

    The full budget adds the networks of the paper for small images, of 20 and 56 layers, on a part of Fashion-MNIST.
    """

    says: ClassVar[str] = (
        "As plain networks get deeper, accuracy degrades, and not by overfitting: their training loss rises too. "
        "With F(x) = W2 relu(W1 x) and y = relu(F(x) + x), depth no longer hurts."
    )
    correction: ClassVar[str] = (
        "E50: F(x) = W2 relu(W1 x); without the relu between them, A2 A1 collapses into one linear map. "
        "E51: the degradation is not a vanishing gradient: with batch normalisation the gradient reaches the first layer. "
        "E52: the blocks are those of the ResNet, not of an RNN. E53: all weights train, not only those of the adjacent layer."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """Train both families: depths 4 and 56 for 3 epochs (smoke), or 4, 20 and 56 for 15 epochs with 5 seeds (full).

        The convolutional networks take about nine minutes of one thread.
        """
        depths, epochs, repeats = BUDGETS[budget]
        data = load("digits")
        rows = []
        for seed in torch.randint(2**31, (repeats,), generator=rng).tolist():
            for family, skips in FAMILIES.items():
                for depth in depths:
                    progress(f"{family} network of depth {depth}, seed {seed}")
                    options = {"depth": depth, "width": 64, "normalization": "batch", "residual": skips}
                    facts = {"network": "perceptron", "family": family, "depth": depth, "seed": seed}
                    rows.append(facts | _train(options, data, epochs, seed) | _untrained(options, data, seed))
        if budget == "full":
            rows += [row for family, names in IMAGES.items() for row in _convolutional(family, names, seed, progress)]
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """Training loss against depth, in both families, and what the corrections say."""
        images = table
        table = _of(table, "perceptron")
        rows, deepest = to_rows(table), max(table["depth"])

        def deep(family: str, column: str) -> list[float]:
            return [row[column] for row in rows if row["family"] == family and row["depth"] == deepest]

        reached, bend, without = (deep("residual", column) for column in ("trained_share", "nonlinearity", "linear_part"))
        plain = _medians(table, "plain", "train_loss")
        rise = min(after / before for before, after in itertools.pairwise(plain))
        share = max(deep("residual", "train_loss")) / min(deep("plain", "train_loss"))
        reach = min(deep("plain", "gradient_decades"))
        inf = math.inf
        sign = "sign: He et al. 2016, figure 6"
        return [
            Check("plain: training loss, each depth against the next shallower", rise, 2, inf, "ratio", sign),
            Check("residual against plain: training loss at the deepest", share, 0, 0.2, "ratio", sign),
            Check("plain: best test accuracy at the deepest", max(deep("plain", "accuracy")), 0, 0.6, "share", "near chance"),
            Check(
                "residual: worst test accuracy at the deepest",
                min(deep("residual", "accuracy")),
                0.92,
                1,
                "share",
                "plain: near chance",
            ),
            Check("plain, untrained: gradient of first over last layer", reach, 0, inf, "decades", "E51: it does not vanish"),
            Check("residual: weights with a gradient", min(reached), 1, 1, "share", "E53: all train"),
            Check("residual: departure from linearity", min(bend), 1e-3, inf, "relative", "E50: W2 relu(W1 x)"),
            Check("residual: the same without relu", max(without), 0, 1e-9, "relative", "E50: collapse"),
            *_order(images),
        ]

    def draw(self, table: Table) -> list[Block]:
        """Training loss and test accuracy against depth, the range over seeds as a band."""
        titles = {"train_loss": "training loss, nats per example", "accuracy": "test accuracy, share"}
        charts: list[Block] = []
        for network in dict.fromkeys(table["network"]):
            of = _of(table, network)
            charts += [
                lines(
                    sorted(set(of["depth"])),
                    {family: _medians(of, family, column) for family in FAMILIES},
                    bands={
                        family: (_by_depth(of, family, column, min), _by_depth(of, family, column, max)) for family in FAMILIES
                    },
                    x_title="hidden layers" if network == "perceptron" else "layers with weights",
                    y_title=titles[column],
                    log_y=column == "train_loss",
                    caption=f"{network.capitalize()} networks. "
                    + ("Plain ones do not even fit what they are shown." if column == "train_loss" else ""),
                )
                for column in titles
            ]
        shown = ["network", "family", "depth", "seed", "train_loss", "accuracy", "gradient_decades"]
        return [*charts, Cells(shown, [[row[key] for key in shown] for row in to_rows(table)], caption="Every run.")]

    def refutation(self) -> Table:
        """As if depth helped plain networks, gradients vanished, and relu did nothing; on images it hurts residual ones."""
        untrained = {"gradient_decades": -9.0, "trained_share": 0.5, "nonlinearity": 0.0, "linear_part": 1.0}
        rows = []
        for family in FAMILIES:
            facts = {"family": family, "seed": 0, "accuracy": 0.9, **untrained}
            rows += [{"network": "perceptron", "depth": depth, "train_loss": 1 / depth, **facts} for depth in (4, 56)]
            for depth in (20, 56):
                loss = float(depth) if family == "residual" else 1 / depth
                rows.append({"network": "convolutional", "depth": depth, "train_loss": loss, **facts})
        return from_rows(rows)


def _of(table: Table, network: str) -> Table:
    """The rows of one kind of network."""
    return from_rows([row for row in to_rows(table) if row["network"] == network])


def _order(table: Table) -> list[Check]:
    """The order of the convolutional networks in training loss, if they were trained."""
    rows = [row for row in to_rows(table) if row["network"] == "convolutional"]
    if not rows:
        return []
    loss = {(row["family"], row["depth"]): row["train_loss"] for row in rows}
    basis = "sign: He et al. 2016, figure 6"
    plain, residual = (DepthCurve((20, 56), (loss[family, 20], loss[family, 56])) for family in FAMILIES)
    return [
        Check("plain-56 less plain-20: training loss", plain.excess, 1e-9, math.inf, "nats", basis),
        Check("plain-20 less ResNet-20: training loss", plain.losses[0] - residual.losses[0], 0, math.inf, "nats", basis),
        Check("ResNet-56 less ResNet-20: training loss", residual.excess, -math.inf, 0, "nats", basis),
    ]


def _convolutional(family: str, names: Sequence[str], seed: int, progress: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    whole = load("fashion-mnist")
    data = Dataset(whole.name, whole.train.spread(EXAMPLES), whole.test, whole.classes)
    for name in names:
        progress(f"{name} on {EXAMPLES} examples of Fashion-MNIST")
        # At a rate of 0.1 the loss of ResNet-56 leaps once within 16 epochs, and the order of the two ResNets is another.
        options: dict[str, Any] = {"batch_size": 64, "epochs": EPOCHS, "learning_rate": 0.03, "weight_decay": 1e-4}
        recipe = Recipe(model=name, data=whole.name, seed=seed, **options, **TRAINING)
        facts = {"network": "convolutional", "family": family, "depth": int(name[-2:]), "seed": seed}
        yield facts | _trained(recipe, data) | dict.fromkeys(UNTRAINED)


def _medians(table: Table, family: str, column: str) -> list[float]:
    return _by_depth(table, family, column, statistics.median)


def _by_depth(table: Table, family: str, column: str, summary: Callable[[list[float]], float]) -> list[float]:
    rows = [row for row in to_rows(table) if row["family"] == family]
    return [summary([row[column] for row in rows if row["depth"] == depth]) for depth in sorted(set(table["depth"]))]


def _train(options: Mapping[str, Any], data: Dataset, epochs: int, seed: int) -> dict[str, float]:
    # Batches of 50 leave a last one of 47: batch normalisation over the 3 that 64 would leave spoils the residual runs.
    fields: dict[str, Any] = {"batch_size": 50, "epochs": epochs, "learning_rate": 0.05, "weight_decay": 5e-4}
    recipe = Recipe(model="perceptron", model_options=options, data="digits", precision="fp32", seed=seed, **fields, **TRAINING)
    return _trained(recipe, data)


def _trained(recipe: Recipe, data: Dataset) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        run = fit(recipe, Path(folder) / "run", quiet=True, data=data, throwaway=True)
        return {"train_loss": run.history[-1]["train/loss"], "accuracy": run.metrics["test/accuracy"]}


def _untrained(options: Mapping[str, Any], data: Dataset, seed: int) -> dict[str, float]:
    """How the gradient of the untrained network spreads over its layers, and how linear it is with and without its relu."""
    inputs = Scaling.fit("standardise", data.train.inputs)(data.train.inputs[:256])
    model = _network(options, data, seed)
    F.cross_entropy(model(inputs), data.train.targets[:256]).backward()
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    norms = [0.0 if weight.grad is None else weight.grad.norm().item() for weight in weights]
    return {
        "gradient_decades": math.log10(norms[0] / norms[-2]),  # the last hidden layer stands before the output layer
        "trained_share": sum(norm > 0 for norm in norms) / len(norms),
        "nonlinearity": _departure_from_linearity(model, inputs),
        "linear_part": _departure_from_linearity(_network({**options, "activation": "identity"}, data, seed), inputs),
    }


def _network(options: Mapping[str, Any], data: Dataset, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build("models", "perceptron")(data.shape, len(data.classes), **options)


@torch.no_grad()
def _departure_from_linearity(model: nn.Module, inputs: torch.Tensor) -> float:
    """|f(x) + f(y) - f(x + y) - f(0)| against |f(x) - f(0)|, which is 0 for an affine map; in float64, evaluation mode."""
    f = model.double().eval()
    x, y = inputs.double().chunk(2)
    origin = f(torch.zeros_like(x))
    return ((f(x) + f(y) - f(x + y) - origin).norm() / (f(x) - origin).norm()).item()
