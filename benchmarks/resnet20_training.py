"""How many examples a second does a ResNet-20 train on? Goal: 2.5 times those of a plain PyTorch loop on the same CPU.

3 x 32 x 32 images, batches of 128, two threads, wall time. Ours is the engine with its defaults and all it does besides:
indexing and scaling of raw bytes, the schedule, gradient norms, the probe with its budget of 2 %. Plain is float32 with a
DataLoader, as most loops are written; by hand adds bf16 autocast, channels last and the fused optimizer to that. The engine
without its fused kernel shows what remains where there is no compiler. All take turns in blocks of steps.
Usage: python benchmarks/resnet20_training.py [--quick] [--json FILE]
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from comparison import arguments, compare, in_turn, publish
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from deepforward import Recipe, catalogue
from deepforward.data import Dataset, Split
from deepforward.engine.assembly import assemble
from deepforward.engine.randomness import stream
from deepforward.engine.schedule import rate
from deepforward.engine.step import Stepper
from deepforward.instruments import Probe

BATCH, THREADS, EXAMPLES = 128, 2, 6400
SHAPE, CLASSES = (3, 32, 32), 10
#: Steps before measuring: the probe's dense start is over.
WARM = 10


class Engine:
    """The engine's training steps without its progress bar and run folder."""

    def __init__(self, data: Dataset, fuse: str) -> None:
        # As many epochs as a real run on CIFAR-10 would take, so that `auto` chooses for such a run.
        recipe = Recipe(model="resnet20", data="random", validation=0.0, epochs=200, batch_size=BATCH, fuse=fuse).complete()
        self.recipe, self.parts = recipe, assemble(recipe, data)
        self.order, self.done = stream(0, "order"), 0
        self.probe = Probe(self.parts.model, optimizer=self.parts.optimizers[""], budget=recipe.probe_budget)
        self.stepper = Stepper(self.parts, stream(0, "objective"), self.probe)
        self.probe.__enter__()
        self.parts.model.train()

    def steps(self) -> Iterator[None]:
        """A training step at every `next`, epoch after epoch."""
        recipe, parts = self.recipe, self.parts
        total = recipe.epochs * len(parts.train) // BATCH
        while True:
            for indices in torch.randperm(len(parts.train), generator=self.order).split(BATCH):
                self.stepper.set_rate(rate(recipe.schedule, recipe.schedule_options, recipe.learning_rate, self.done, total))
                self.stepper.step(parts.batch(parts.train, indices), _require_finite, measure=self.done % 10 == 0)
                self.done += 1
                yield


def plain(data: Dataset) -> Iterator[None]:
    """The loop that people write."""
    model, loader = _model_and_loader(data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    while True:
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            yield


def by_hand(data: Dataset) -> Iterator[None]:
    """The same by someone who knows the switches."""
    model, loader = _model_and_loader(data)
    model = model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True)
    while True:
        for inputs, targets in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.cross_entropy(model(inputs.to(memory_format=torch.channels_last)), targets)
            loss.backward()
            optimizer.step()
            yield


def _model_and_loader(data: Dataset) -> tuple[nn.Module, DataLoader[tuple[Tensor, ...]]]:
    inputs = (data.train.inputs / 255 - 0.5) / 0.29
    loader = DataLoader(TensorDataset(inputs, data.train.targets), batch_size=BATCH, shuffle=True)
    return catalogue.load("models", "resnet20")(SHAPE, CLASSES).train(), loader


def _require_finite(number: Tensor) -> None:
    if not number.isfinite():
        raise FloatingPointError(f"loss or gradient became {number.item()}")


def random_images() -> Dataset:
    """Noise with labels: speed does not depend on what is learnt."""
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randint(256, (EXAMPLES, *SHAPE), dtype=torch.uint8, generator=rng)
    split = Split(inputs, torch.arange(EXAMPLES) % CLASSES)
    return Dataset("random", split, split, tuple(map(str, range(CLASSES))))


def examples_per_second(training: Iterator[None], steps: int) -> float:
    """Speed over a block of steps."""
    start = time.perf_counter()
    for _ in range(steps):
        next(training)
    return steps * BATCH / (time.perf_counter() - start)


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__.splitlines()[0])
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    data = random_images()
    engine, unfused = Engine(data, "auto"), Engine(data, "off")
    trainings = {"engine": engine.steps(), "unfused": unfused.steps(), "plain": plain(data), "by hand": by_hand(data)}
    print(f"engine: {engine.parts.arithmetic}")
    for training in trainings.values():
        examples_per_second(training, WARM)
    steps, rounds = (5, 7) if options.quick else (10, 15)
    variants = {name: lambda training=training: examples_per_second(training, steps) for name, training in trainings.items()}
    taken = in_turn(variants, rounds)
    print(f"the probe sampled {len(engine.probe.readings().steps)} of {engine.done} steps")

    def row(name: str, variant: str, peer: str, peer_name: str) -> dict[str, object]:
        return dict(compare(name, taken[variant], taken[peer], peer_name, "examples/s", less_is_better=False))

    rows = [
        row("engine", "engine", "plain", "plain fp32 loop"),
        row("engine", "engine", "by hand", "bf16, channels last by hand"),
        row("engine without a compiler", "unfused", "plain", "plain fp32 loop"),
        row("bf16, channels last by hand", "by hand", "plain", "plain fp32 loop"),
    ]
    publish("ResNet-20 training speed on a CPU", rows, options.json)


if __name__ == "__main__":
    main()
