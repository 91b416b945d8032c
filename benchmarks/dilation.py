"""Do hybrid rates of dilated convolutions segment better than equal rates of the same receptive field, weights and cost?

Networks `hdc-duc` of three dilated convolutions on generated shapes of five classes, without an encoder (nothing but the
dilated convolutions mixes pixels) and behind one of stride 2, in two strengths of noise. `ours` is the mean intersection over
union on 200 test images of the hybrid rates, `peer` that of the equal ones, the median over seeds; `ratio` is taken seed by
seed, from the same data, weights of the same seed and the same order of the batches.
Usage: python benchmarks/dilation.py [--quick] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from comparison import Row, arguments, compare, publish

from deepforward.data import load
from deepforward.layers.dilation import coverage
from deepforward.lecture.hybrid_dilation import PAIRS, mean_iou


@dataclass(frozen=True)
class Task:
    """Data, and the stride of the encoder before the dilated convolutions."""

    name: str
    data: str
    stride: int


TASKS = (
    Task("no encoder, noise 0.1", "shapes?n=1000", 1),
    Task("no encoder, noise 0.2", "shapes?n=1000&noise=0.2", 1),
    Task("stride 2, noise 0.2", "shapes?n=1000&size=64&noise=0.2", 2),
)


def measured(epochs: int, seeds: range) -> Iterator[Row]:
    """A row for each task and pair of rates."""
    for task in TASKS:
        data = load(task.data)
        for equal, hybrid in PAIRS.items():
            scores = {
                rates: [mean_iou(rates, data, epochs, seed, stride=task.stride) for seed in seeds] for rates in (hybrid, equal)
            }
            print(task.name, {rates: [round(score, 3) for score in found] for rates, found in scores.items()}, flush=True)
            row = compare(f"{hybrid}, {task.name}", scores[hybrid], scores[equal], f"{equal}", "mean IoU", less_is_better=False)
            yield {**row, "note": f"touch {coverage(equal):.0%} of their field, ours {coverage(hybrid):.0%}", "epochs": epochs}


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    torch.set_num_threads(1)
    epochs, seeds = (4, range(1)) if options.quick else (30, range(5))
    publish("hybrid dilation", list(measured(epochs, seeds)), options.json)


if __name__ == "__main__":
    main()
