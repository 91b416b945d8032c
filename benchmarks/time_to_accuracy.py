"""How long until a network reads Fashion-MNIST with 91% test accuracy? Goal: a quarter of the time of a plain PyTorch loop.

The network is the same for all, `convnet`, on two threads. Ours is `deepforward.fit` from the call to its result, everything
included: the fused kernel, checkpoints, the probe, the test at the end. It trains one epoch by Adam under one-cycle, at a rate
that was chosen with seed 0, and where that misses the accuracy the time of another run with an epoch more is added. Plain is
what tutorials show: float32, DataLoader, Adam at its usual constant rate of 0.001; it stops after the first epoch whose test
accuracy is high enough, and its testing is not counted. By hand adds bf16 autocast, channels last and the fused optimizer to
that. Chance decides how many epochs it takes, so seeds differ from round to round, beginning at 1.
Usage: python benchmarks/time_to_accuracy.py [--quick] [--json FILE]     (needs Fashion-MNIST, see DEEPFORWARD_DATA)
"""

from __future__ import annotations

import itertools
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from comparison import arguments, compare, in_turn, publish
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from deepforward import Dataset, Recipe, catalogue, fit, load

TARGET, THREADS, BATCH = 0.91, 2, 128
OURS = {"validation": 0.0, "augmentation": (), "batch_size": 64, "optimizer": "adam", "learning_rate": 0.004}
#: Of a plain loop: it would be said not to arrive.
MOST_EPOCHS = 12


def ours(data: Dataset, seed: int) -> float:
    """Seconds of the runs until one reaches the accuracy."""
    seconds = 0.0
    for epochs in itertools.count(1):
        recipe = Recipe(model="convnet", data=data.name, epochs=epochs, seed=seed, **OURS)
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            run = fit(recipe, Path(folder) / "run", data=data, quiet=True)
            seconds += time.perf_counter() - begun
            accuracy = run.metrics["test/accuracy"]
        print(f"  ours, seed {seed}: {accuracy:.4f} after {epochs} epochs, {seconds:.1f} s", flush=True)
        if accuracy >= TARGET:
            return seconds
    raise AssertionError


def plain(data: Dataset, seed: int, *, by_hand: bool = False) -> float:
    """Seconds of training until an epoch ends with the accuracy."""
    torch.manual_seed(seed)
    model = catalogue.load("models", "convnet")(data.shape, len(data.classes))
    layout = torch.channels_last if by_hand else torch.contiguous_format
    model = model.to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001, fused=by_hand)
    splits = [TensorDataset((split.inputs / 255 - 0.286) / 0.353, split.targets) for split in (data.train, data.test)]
    train, test = (DataLoader(split, batch_size=BATCH, shuffle=number == 0) for number, split in enumerate(splits))
    seconds, name = 0.0, "by hand" if by_hand else "plain"
    for epoch in range(1, MOST_EPOCHS + 1):
        model.train()
        begun = time.perf_counter()
        for inputs, targets in train:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16) if by_hand else nullcontext():
                loss = nn.functional.cross_entropy(model(inputs.to(memory_format=layout)), targets)
            loss.backward()
            optimizer.step()
        seconds += time.perf_counter() - begun
        model.eval()
        with torch.no_grad():
            hits = sum(int((model(inputs).argmax(1) == targets).sum()) for inputs, targets in test)
        accuracy = hits / len(data.test)
        print(f"  {name}, seed {seed}: {accuracy:.4f} after {epoch} epochs, {seconds:.1f} s", flush=True)
        if accuracy >= TARGET:
            return seconds
    return float("inf")


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__.splitlines()[0])
    torch.set_num_threads(THREADS)
    data = load("fashion-mnist")
    seeds = {name: itertools.count(1) for name in ("ours", "plain", "by hand")}
    variants = {
        "ours": lambda: ours(data, next(seeds["ours"])),
        "plain": lambda: plain(data, next(seeds["plain"])),
        "by hand": lambda: plain(data, next(seeds["by hand"]), by_hand=True),
    }
    taken = in_turn(variants, 1 if options.quick else 5)
    rows = [
        compare("fit", taken["ours"], taken["plain"], "plain fp32 loop", "s"),
        compare("fit", taken["ours"], taken["by hand"], "bf16, channels last by hand", "s"),
    ]
    publish(f"Seconds to {TARGET:.0%} test accuracy on Fashion-MNIST", rows, options.json)


if __name__ == "__main__":
    main()
