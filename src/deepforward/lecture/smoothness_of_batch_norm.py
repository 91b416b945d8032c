"""Claim: batch normalisation helps by a smoother loss, not by less covariate shift."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepforward.data import Scaling, Split, load
from deepforward.instruments import CovariateShift, LocalSmoothness
from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.lecture.normalized_networks import NORMS, vgg
from deepforward.report.blocks import Block
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines

#: Budget -> data, examples, maps of the first stage, convolutions of a stage, steps, steps between two looks, linear networks.
BUDGETS = {"smoke": ("digits", 1347, 4, 2, 90, 18, 1), "full": ("fashion-mnist", 8_000, 8, 3, 300, 20, 5)}
#: Learning rate of the convolutional networks, and of the linear ones.
RATE, LINEAR_RATE = 0.1, 1e-3
#: What is looked at along the way, smaller being smoother -> title.
RANGES = {
    "loss variation": "highest less lowest loss along the gradient",
    "gradient predictiveness": "largest change of the gradient",
    "effective smoothness": "change of the gradient over distance",
}


class SmoothnessOfBatchNorm(Claim):
    """A VGG-like network on images: bare, batch normalised, with noise behind it, with other norms; deep linear networks.

    The table has one row a number: `quantity`, `at` (step, or batch size, or network) and `value`.
    """

    says: ClassVar[str] = (
        "Batch normalisation does not work by reducing internal covariate shift: as measured it may even increase it,"
        " and networks train as well with noise behind the normalisation that shifts it anew at every step. It makes "
        "the loss smoother: loss and gradient change less along the gradient. Other norms than the second do the "
        "same."
    )
    correction: ClassVar[str] = (
        "E47: theorem 4.1 has 1/m, not 1/sqrt(m), before both inner products; so it is an equality for the same "
        "gradient from above, and with 1/sqrt(m) it is false in every trial. E48: the paper does not say that batch "
        "normalisation does nothing to the shift, but that it may increase it: many times in the deep linear networks"
        " here, while in the convolutional one it is much the same. E49: the paper is arXiv 1805.11604; 1801.04381 is"
        " MobileNetV2."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """Smoke: the digits and few maps, 90 steps. Full: Fashion-MNIST, 300 steps."""
        rows = [*_theorem(4, rng), *_theorem(64, rng)]
        name, examples, channels, depth, steps, every, linear = BUDGETS[budget]
        train = load(name).train.spread(examples)
        images = Split(Scaling.fit("standardise", train.inputs)(train.inputs), train.targets)
        seed = int(torch.randint(2**31, (), generator=rng))
        for network in ("none", "batch", "noisy", *NORMS):
            progress(f"{steps} steps with normalisation '{network}'")
            look = every if network in ("none", "batch") else 0
            rows += _train(network, images, channels, depth, steps=steps, every=look, seed=seed)
        for seed in torch.randint(2**31, (linear,), generator=rng).tolist():
            progress(f"deep linear networks, seed {seed}")
            rows += [row for normalized in (False, True) for row in _linear(normalized, seed)]
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """The theorem's identity, and the published signs."""
        inf, sign = math.inf, "sign: Santurkar et al. 2018, "
        error, violated = (numbers(table, q) for q in ("1/m form, relative error", "1/sqrt(m) form, violated"))
        loss = numbers(table, "final loss")
        shift = {name: fmean(numbers(table, f"{name}: relative shift").values()) for name in ("none", "batch")}
        deep = {name: numbers(table, f"linear, {name}: relative shift") for name in ("none", "batch")}
        more = min(deep["batch"][seed] / value for seed, value in deep["none"].items())
        checks = [
            Check("theorem 4.1 with 1/m: error of the equality", max(error.values()), 0, 1e-10, "relative", "E47, identity"),
            Check("theorem 4.1 with 1/sqrt(m): violated", min(violated.values()), 1, 1, "share of trials", "E47"),
            Check("deep linear network: shift, with over without", more, 1, inf, "ratio", sign + "figure 3"),
            Check(
                "convolutional network: shift, with over without",
                shift["batch"] / shift["none"],
                0.5,
                inf,
                "ratio",
                sign + "figure 3: similar or more",
            ),
            Check("loss, noisy over noiseless", loss["noisy"] / loss["batch"], 0, 2, "ratio", sign + "figure 2: alike"),
            Check("loss, noisy over without", loss["noisy"] / loss["none"], 0, 1, "ratio", sign + "figure 2"),
            Check("loss, with over without", loss["batch"] / loss["none"], 0, 1, "ratio", sign + "figure 1"),
        ]
        for quantity in RANGES:
            none, batch = (_after_warm_up(table, f"{name}: {quantity}") for name in ("none", "batch"))
            checks.append(Check(f"{quantity}, with over without", fmean(batch) / fmean(none), 0, 1, "ratio", sign + "figure 4"))
        chance = math.log(10)
        checks += [
            Check(f"loss, {norm}, of that of guessing", loss[norm] / chance, 0, 0.8, "share", sign + "section 3.3: trains too")
            for norm in NORMS
        ]
        return checks

    def draw(self, table: Table) -> list[Block]:
        """Training loss, what is seen along the gradient, and the shift, by step."""
        losses = {name: numbers(table, f"{name}: loss") for name in ("none", "batch", "noisy", *NORMS)}
        charts: list[Block] = [
            lines(
                list(losses["none"]),
                {name: list(values.values()) for name, values in losses.items()},
                x_title="step",
                y_title="training loss, nats",
                caption="Noise that shifts every normalised layer anew at every step does not undo what normalisation does.",
            )
        ]
        for quantity, title in {**RANGES, "relative shift": "|G - G'| / |G|, mean over layers"}.items():
            series = {name: numbers(table, f"{name}: {quantity}") for name in ("none", "batch")}
            charts.append(
                lines(
                    list(series["none"]),
                    {name: list(values.values()) for name, values in series.items()},
                    x_title="step",
                    y_title=title,
                    log_y=True,
                    caption=quantity.capitalize(),
                )
            )
        linear = [
            [seed, value, numbers(table, "linear, batch: relative shift")[seed]]
            for seed, value in numbers(table, "linear, none: relative shift").items()
        ]
        return [
            *charts,
            Cells(["normalisation", "final training loss, nats"], list(numbers(table, "final loss").items())),
            Cells(["deep linear network, seed", "shift without", "shift with"], linear, caption="Mean of |G - G'| / |G|."),
        ]

    def refutation(self) -> Table:
        """An inequality that holds with 1/sqrt(m), less shift with normalisation, noise that undoes it, no smoother loss."""
        losses = {"none": 0.5, "batch": 0.6}
        rows = [number("1/m form, relative error", 4, 0.1), number("1/sqrt(m) form, violated", 4, 0.0)]
        rows += [number("final loss", name, losses.get(name, 2.5)) for name in ("none", "batch", "noisy", *NORMS)]
        for step in range(4):
            for quantity in (*RANGES, "relative shift"):
                less = quantity == "relative shift"
                rows += [number(f"none: {quantity}", step, 1.0), number(f"batch: {quantity}", step, 0.1 if less else 2.0)]
        rows += [number("linear, none: relative shift", 0, 1.0), number("linear, batch: relative shift", 0, 0.5)]
        return from_rows(rows)


def _after_warm_up(table: Table, quantity: str) -> list[float]:
    values = list(numbers(table, quantity).values())
    return values[len(values) // 4 :]


def _theorem(m: int, rng: torch.Generator, trials: int = 1000) -> Iterator[dict[str, Any]]:
    """Both forms of theorem 4.1 for a batch of m values of one unit, over random values and gradients from above, in float64.

    |grad_y L|^2 against (gamma / sigma)^2 (|g|^2 - c <1, g>^2 - c <g, yhat>^2), with c = 1/m or 1/sqrt(m).
    """
    y, g = torch.randn(2, trials, m, generator=rng, dtype=torch.float64).unbind()
    y = (3 * y + 1).requires_grad_()
    gamma = 1 + torch.rand(trials, generator=rng, dtype=torch.float64)
    mean, variance = y.mean(1, keepdim=True), y.var(1, correction=0, keepdim=True)
    normalized = (y - mean) / variance.sqrt()
    (gradient,) = torch.autograd.grad((gamma[:, None] * normalized * g).sum(), y)
    left = gradient.square().sum(1)
    products = g.sum(1).square() + (g * normalized.detach()).sum(1).square()
    scale = gamma.square() / variance.detach().squeeze(1)
    right = {c: scale * (g.square().sum(1) - c * products) for c in (1 / m, 1 / math.sqrt(m))}
    yield number("1/m form, relative error", m, float((left / right[1 / m] - 1).abs().max()))
    yield number("1/sqrt(m) form, violated", m, float((left > right[1 / math.sqrt(m)]).double().mean()))


def _train(name: str, data: Split, channels: int, depth: int, *, steps: int, every: int, seed: int) -> Iterator[dict[str, Any]]:
    """Plain SGD on batches of 64; the loss by step, and every so many steps what the instruments see."""
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = vgg(tuple(data.inputs.shape[1:]), name, channels, depth, torch.Generator().manual_seed(seed))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    order = torch.cat([torch.randperm(len(data), generator=rng) for _ in range(1 + steps * 64 // len(data))])
    losses = []
    for step, index in enumerate(order.split(64)[:steps]):
        batch = data.inputs[index], data.targets[index]
        if every and step % every == 0:
            yield from _look(name, step, model, batch)
        optimizer.zero_grad()
        loss = _cross_entropy(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    width = max(1, steps // 20)
    for start in range(0, steps, width):
        yield number(f"{name}: loss", start, fmean(losses[start : start + width]))
    yield number("final loss", name, fmean(losses[-4 * width :]))


def _look(name: str, step: int, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Iterator[dict[str, Any]]:
    ray = LocalSmoothness(1, lr=RATE).measure(model, [batch], _cross_entropy)
    (low, high), (_, change) = ray.loss_ranges[0], ray.gradient_ranges[0]
    yield number(f"{name}: loss variation", step, high - low)
    yield number(f"{name}: gradient predictiveness", step, change)
    yield number(f"{name}: effective smoothness", step, ray.effective_smoothness[0])
    convolutions = [key for key, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    shift = CovariateShift(RATE, layers=convolutions[1:]).measure(model, [batch], _cross_entropy)
    yield number(f"{name}: relative shift", step, fmean(shift.relative))


def _linear(normalized: bool, seed: int, depth: int = 12, width: int = 10, steps: int = 300) -> Iterator[dict[str, Any]]:
    """The mean shift along full-batch descent of a deep linear network that regresses a linear map of Gaussian inputs."""
    name, rng = "batch" if normalized else "none", torch.Generator().manual_seed(seed)
    inputs, teacher = torch.randn(500, width, generator=rng), torch.randn(width, width, generator=rng)
    batch = inputs, inputs @ teacher
    layers: list[nn.Module] = []
    for k in range(depth):
        layer = nn.Linear(width, width, bias=False)
        nn.init.xavier_normal_(layer.weight, generator=rng)
        layers += [layer, nn.BatchNorm1d(width)] if normalized and k < depth - 1 else [layer]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=LINEAR_RATE)
    affine = [key for key, module in model.named_modules() if isinstance(module, nn.Linear)]
    instrument, shifts = CovariateShift(LINEAR_RATE, layers=affine[1::3]), []
    for step in range(steps):
        if step % 50 == 25:
            shifts.append(fmean(instrument.measure(model, [batch], _squared_error).relative))
        optimizer.zero_grad()
        loss = _squared_error(model, batch)
        loss.backward()
        optimizer.step()
    yield number(f"linear, {name}: relative shift", seed, fmean(shifts))
    yield number(f"linear, {name}: loss", seed, loss.item())


def _squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().sum(1).mean() / 2


def _cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])
