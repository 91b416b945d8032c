"""Claim: batch normalisation is what its formulas say, and lets a network of sigmoids learn that hardly does without it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.catalogue import load as build
from deepforward.data import Dataset, Scaling, load
from deepforward.engine.device import threads
from deepforward.layers.normalization import (
    Population,
    covariance,
    folded_affine,
    naive_descent,
    normalize_batch,
    normalize_batch_backward,
    population_statistics,
    whiten,
    whiten_backward,
)
from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.report.blocks import Block
from deepforward.report.figures import lines

KINDS = {"without": "none", "with": "batch"}
#: Budget -> data, steps, steps between two looks.
BUDGETS = {"smoke": ("digits", 400, 20), "full": ("mnist", 10_000, 200)}
QUANTILES = (0.15, 0.5, 0.85)
BATCH, RATE = 60, 0.1


class BatchNormalization(Claim):
    """The identities of both passes and of inference in float64, and three hidden layers of 100 sigmoids trained twice.

    The table has one row a number: `quantity`, `at` (the identity, or the step) and `value`.
    """

    says: ClassVar[str] = (
        "Each column of a mini-batch is brought to mean 0 and variance 1, then scaled and shifted by what is learnt; gradients "
        "pass through mean and variance, without which descent is in vain; at inference it is an affine map. A network of "
        "sigmoids learns sooner and better with it, and the inputs of its units wander less (Ioffe, Szegedy 2015, figure 1)."
    )
    correction: ClassVar[str] = (
        "E42: Cov[x] = E[xx'] - E[x]E[x]'. E43: X = {x_1, ..., x_N}. E44: step 2 takes mu_B, and gamma^(k), beta^(k) belong to "
        "a dimension, not to an example. E45: the fourth backward line has dl/dx_hat, not dl/dy, and the last is dl/d beta. "
        "E46: at inference gamma stays in the numerator, and E_B averages over batches. "
        "E54: it is not mini-batches that shift the inputs of a layer, but changes of the parameters before it."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """400 steps on the digits (smoke) or 10000 on MNIST (full), with and without, after the identities."""
        name, steps, every = BUDGETS[budget]
        data = load(name)
        rows = [*_forward(rng), *_backward(rng), *_inference(rng), *_alternatives(rng)]
        with threads(1):
            progress("what shifts the inputs of a layer")
            rows += _shifts(data, rng)
            seed = int(torch.randint(2**31, (), generator=rng))
            for kind in KINDS:
                progress(f"{steps} steps on {name} {kind} batch normalisation")
                rows += _trained(kind, data, steps, every, seed)
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """Identities to rounding, formulas as misprinted far from them, and two networks against each other."""
        exact, wrong, shift = (numbers(table, quantity) for quantity in ("identity", "misprint", "shift"))
        accuracy = {kind: numbers(table, f"test accuracy {kind}") for kind in KINDS}
        moved = {kind: numbers(table, f"wandering {kind}")[0] for kind in KINDS}
        last = max(accuracy["with"])
        paper, inf = "Ioffe & Szegedy 2015", math.inf
        errors = [Check(name, error, 0, 1e-11, "", "identity, float64") for name, error in exact.items()]
        misprints = [Check(name, error, 1e-2, inf, "", "as the lecture prints it") for name, error in wrong.items()]
        gains = {step: accuracy["with"][step] - accuracy["without"][step] for step in (last // 10, last)}
        steadier, bias = moved["without"] / moved["with"], numbers(table, "naive bias")[200]
        swelling = numbers(table, "swelling with")[0]
        return [
            *errors,
            *misprints,
            Check("naive: bias after 200 steps", bias, 10, inf, "", f"{paper}, section 2: unbounded"),
            Check("shift: 20 mini-batches, weights held", shift["mini-batches"], 0, 0, "deviations", "E54"),
            Check("shift: 20 steps on all data at once", shift["weights"], 0.05, inf, "deviations", "E54"),
            Check("after a tenth of the steps: gain", gains[last // 10], 0.3, 1, "share", f"{paper}, figure 1a"),
            Check("at the end: gain", gains[last], 0.02, 1, "share", f"{paper}, figure 1a"),
            Check("at the end: with", accuracy["with"][last], 0.9, 1, "share", "0.97 after 10000 steps on MNIST"),
            Check("wandering of inputs, without over with", steadier, 1.5, inf, "ratio", f"{paper}, figures 1b and 1c"),
            Check("spread of inputs, largest over smallest, with", swelling, 1, 4, "ratio", f"{paper}, figures 1b and 1c"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """Test accuracy, quantiles of a unit's input over the steps, and the bias that grows in vain."""
        accuracy = {kind: numbers(table, f"test accuracy {kind}") for kind in KINDS}
        curves: list[Block] = [
            lines(
                list(accuracy["with"]),
                {f"{kind} batch normalisation": list(values.values()) for kind, values in accuracy.items()},
                x_title="step",
                y_title="test accuracy, share",
            )
        ]
        for kind in KINDS:
            low, middle, high = (numbers(table, f"input at {quantile:.0%} {kind}") for quantile in QUANTILES)
            curves.append(
                lines(
                    list(middle),
                    {"median": list(middle.values())},
                    bands={"median": (list(low.values()), list(high.values()))},
                    x_title="step",
                    y_title="input of a sigmoid",
                    caption=f"A unit of the last hidden layer {kind} batch normalisation, from 15 to 85% of the test examples.",
                )
            )
        bias, loss = numbers(table, "naive bias"), numbers(table, "naive loss")
        return [
            *curves,
            lines(
                list(bias),
                {"bias": list(bias.values()), "loss": list(loss.values())},
                x_title="step",
                y_title="value",
                caption="A mean that is subtracted but taken for a constant: the bias before it grows, the loss stays.",
            ),
        ]

    def refutation(self) -> Table:
        """As if formulas were wrong and their misprints right, and normalisation held the network back."""
        rows = [number("identity", "y against torch", 0.1), number("misprint", "E45: dl/dy for dl/dx_hat, line 4", 0.0)]
        rows += [number("naive bias", 200, 0.0), number("shift", "mini-batches", 1.0), number("shift", "weights", 0.0)]
        for kind, values in {"without": (0.9, 0.97, 0.5), "with": (0.1, 0.8, 2.0)}.items():
            rows += [number(f"test accuracy {kind}", step, values[i]) for i, step in enumerate((40, 400))]
            rows += [number(f"wandering {kind}", 0, values[2]), number(f"swelling {kind}", 0, 100.0)]
        return from_rows(rows)


def _normal(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def _apart(quantity: str, name: str, one: Tensor, other: Tensor) -> dict[str, Any]:
    return number(quantity, name, float((one - other).abs().max()))


def _forward(rng: torch.Generator) -> list[dict[str, Any]]:
    x, gamma, beta = 3 * _normal(rng, 64, 8) + 1, _normal(rng, 8), _normal(rng, 8)
    mean = x.mean(0)
    theirs = F.batch_norm(x, None, None, gamma, beta, training=True)
    itself = normalize_batch(x, x.var(0, correction=0).sqrt(), mean, eps=0.0).y
    cov = torch.cov(x.T, correction=0)
    return [
        _apart("identity", "y against torch", normalize_batch(x, gamma, beta).y, theirs),
        _apart("identity", "gamma = sqrt(Var), beta = E: y against x", itself, x),
        _apart("identity", "E42: covariance against torch", covariance(x), cov),
        _apart("misprint", "E42: plus for minus", x.T @ x / len(x) + torch.outer(mean, mean), cov),
    ]


def _backward(rng: torch.Generator) -> list[dict[str, Any]]:
    x, gamma, dl_dy = _normal(rng, 64, 8), _normal(rng, 8), _normal(rng, 64, 8)
    given = [t.clone().requires_grad_() for t in (x, gamma, torch.zeros_like(gamma))]
    y = F.batch_norm(given[0], None, None, given[1], given[2], training=True)
    expected = torch.autograd.grad((y * dl_dy).sum(), given)
    ours = normalize_batch_backward(dl_dy, x, gamma)
    names = ("dl/dx", "dl/d gamma", "dl/d beta")
    rows = [_apart("identity", f"{n} against autograd", a, b) for n, a, b in zip(names, ours, expected, strict=True)]
    # the misprint changes the term through the variance alone: x_hat_i reaches x_i by dl/dy instead of gamma dl/dy
    scale = 1 / torch.sqrt(x.var(0, correction=0) + 1e-5)
    misprinted = ours.x + (dl_dy - gamma * dl_dy) * scale
    return [*rows, _apart("misprint", "E45: dl/dy for dl/dx_hat, line 4", misprinted, expected[0])]


def _inference(rng: torch.Generator) -> list[dict[str, Any]]:
    batches, gamma, beta = 2 * _normal(rng, 10, 32, 8) + 1, _normal(rng, 8), _normal(rng, 8)
    norm = nn.BatchNorm1d(8, momentum=None, dtype=torch.float64)
    with torch.no_grad():
        norm.weight.copy_(gamma)
        norm.bias.copy_(beta)
        for batch in batches:
            norm(batch)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        kept = Population(norm.running_mean, norm.running_var)
        x, ours = batches[0], population_statistics(batches)
        theirs, (scale, shift) = norm.eval()(x), folded_affine(ours, gamma, beta)
        without_gamma = folded_affine(ours, torch.ones_like(gamma), beta)
        return [
            _apart("identity", "Algorithm 2: E against torch, momentum=None", ours.mean, kept.mean),
            _apart("identity", "Algorithm 2: Var against torch, momentum=None", ours.variance, kept.variance),
            _apart("identity", "folded affine map against torch, evaluated", scale * x + shift, theirs),
            _apart("misprint", "E46: gamma lost", without_gamma.scale * x + without_gamma.shift, theirs),
        ]


def _alternatives(rng: torch.Generator) -> list[dict[str, Any]]:
    """Descent through a mean taken for a constant, and the full whitening."""
    u, targets = _normal(rng, 50, 1), _normal(rng, 50, 1) + 1
    naive = naive_descent(u, lambda y: ((y - targets) ** 2).mean() / 2, 0.5, 200)
    x, dl_dy = _normal(rng, 64, 8), _normal(rng, 64, 8)
    given = x.clone().requires_grad_()
    white = whiten(given)
    (expected,) = torch.autograd.grad((white * dl_dy).sum(), given)
    eye = torch.eye(8, dtype=torch.float64)
    return [
        _apart("identity", "naive: outputs after 200 steps against before", naive.outputs[1], naive.outputs[0]),
        *(number("naive bias", step, float(naive.biases[step, 0].abs())) for step in range(0, 201, 10)),
        *(number("naive loss", step, float(naive.losses[step])) for step in range(0, 201, 10)),
        _apart("identity", "whitened: covariance against 1", covariance(white.detach()), eye),
        _apart("identity", "whitening backward against autograd", whiten_backward(dl_dy, x), expected),
    ]


def _network(kind: str, data: Dataset, seed: int) -> nn.Module:
    """Three hidden layers of 100 sigmoids, weights N(0, 0.05^2), biases 0."""
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        model = build("models", "perceptron")(
            data.shape, len(data.classes), depth=3, width=100, activation="sigmoid", normalization=KINDS[kind]
        )
    with torch.no_grad():
        for child in model.modules():
            if isinstance(child, nn.Linear):
                child.weight.normal_(0, 0.05, generator=rng)
                child.bias.zero_()
    return model


@torch.no_grad()
def _last_inputs(model: nn.Module, inputs: Tensor) -> Tensor:
    """What the last hidden layer's sigmoids are given in training, all inputs being the batch; the model stays as it is."""
    kept: list[Tensor] = []
    twin = copy.deepcopy(model)
    twin.get_submodule("hidden3.activation").register_forward_hook(lambda _, given, __: kept.append(given[0]))
    twin(inputs)
    return kept[0]


@torch.no_grad()
def _accuracy(model: nn.Module, inputs: Tensor, targets: Tensor) -> float:
    outputs = model.eval()(inputs)
    model.train()
    return float((outputs.argmax(1) == targets).double().mean())


def _step(model: nn.Module, inputs: Tensor, targets: Tensor, rate: float) -> None:
    gradients = torch.autograd.grad(F.cross_entropy(model(inputs), targets), list(model.parameters()))
    with torch.no_grad():
        torch._foreach_add_(list(model.parameters()), gradients, alpha=-rate)


def _shifts(data: Dataset, rng: torch.Generator) -> list[dict[str, Any]]:
    """Shift of the last hidden layer's inputs, in their deviations over the examples: the mean over units."""
    inputs, targets = Scaling.fit("min-max", data.train.inputs)(data.train.inputs[:2000]), data.train.targets[:2000]
    rows = []
    for cause in ("mini-batches", "weights"):
        model = _network("without", data, seed=1)
        before = _last_inputs(model, inputs)
        for _ in range(20):
            chosen = torch.randint(len(inputs), (BATCH,), generator=rng) if cause == "mini-batches" else slice(None)
            _step(model, inputs[chosen], targets[chosen], 0.0 if cause == "mini-batches" else RATE)
        moved = (_last_inputs(model, inputs).mean(0) - before.mean(0)).abs() / before.std(0)
        rows.append(number("shift", cause, float(moved.mean())))
    return rows


def _trained(kind: str, data: Dataset, steps: int, every: int, seed: int) -> list[dict[str, Any]]:
    """Accuracy and quantiles while training, how far the median of an input wanders in its spread, and how the spread swells.

    Inputs are normalised by their batch, as training normalises them: running statistics, which remember ten steps, jitter.
    """
    scaling, rng = Scaling.fit("min-max", data.train.inputs), torch.Generator().manual_seed(seed)
    inputs, test = scaling(data.train.inputs), scaling(data.test.inputs)
    model, rows, order, medians, spreads = _network(kind, data, seed), [], torch.empty(0).long(), [], []
    for step in range(steps + 1):
        if step % every == 0:
            low, middle, high = torch.quantile(_last_inputs(model, test), torch.tensor(QUANTILES), dim=0)
            medians.append(middle)
            spreads.append(high - low)
            rows.append(number(f"test accuracy {kind}", step, _accuracy(model, test, data.test.targets)))
            for quantile, values in zip(QUANTILES, (low, middle, high), strict=True):
                rows.append(number(f"input at {quantile:.0%} {kind}", step, float(values[0])))
        if len(order) < BATCH:
            order = torch.randperm(len(inputs), generator=rng)
        chosen, order = order[:BATCH], order[BATCH:]
        _step(model, inputs[chosen], data.train.targets[chosen], RATE)
    spread = torch.stack(spreads)
    path, swelling = torch.stack(medians).diff(dim=0).abs().sum(0) / spread.mean(0), spread.amax(0) / spread.amin(0)
    return [
        *rows,
        number(f"wandering {kind}", 0, float(path.mean())),
        number(f"swelling {kind}", 0, float(swelling.median())),
    ]
