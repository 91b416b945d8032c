"""How well, and how fast, is ink told from paper? Goal: F of at least 96% after less than five minutes of training on this CPU.

The source `pages`: 100 pages of 256 x 256 to train on, 20 others to score on, written with other digits. Thresholds have the
windows and factors of `deepforward.shallow.binarization`; those called tuned have the ones that are best on 20 training pages.
Times are those of one thread, processor time for training and the median of a page for the rest.
Usage: python benchmarks/binarization.py [--quick] [--json FILE]
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from comparison import against_bound, arguments, publish, stated
from torch import Tensor

from deepforward import Recipe, fit, load
from deepforward.engine.prediction import predict
from deepforward.lecture.document_binarization import FACTORS, tuned
from deepforward.metrics.binarization import binarization_scores
from deepforward.shallow.binarization import THRESHOLDS

#: Seconds that the training may take.
BOUND = 300.0


def main() -> None:
    """Train, score, print, write."""
    options = arguments(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    data = load("pages?n=48&test=0.25" if options.quick else "pages")
    methods: dict[str, Callable[[Tensor], Tensor]] = dict(THRESHOLDS)
    methods |= {f"{name}, tuned": tuned(name, data.train.spread(20)) for name in FACTORS}
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe(model="binarization-network", data=data.name, epochs=5 if options.quick else None, threads=1)
        run = fit(recipe, Path(folder) / "run", data=data)
        seconds = time.process_time() - begun
        parts, arithmetic = run.parts(), run.result["arithmetic"]
    methods["encoder-decoder"] = lambda page: predict(parts, page[None]).bool()
    rows = [against_bound(f"training, {arithmetic['precision']}", [seconds], BOUND, "s")]
    for name, method in methods.items():
        found, taken = zip(*(timed(method, page) for page in data.test.inputs[:, 0]), strict=True)
        scores = binarization_scores(torch.stack(found), data.test.targets.bool())
        told = f"pseudo-F {scores.pseudo_f_measure:.2f}%  PSNR {scores.psnr:.2f} dB  DRD {scores.drd:.3f}"
        milliseconds = 1000 * median(taken)
        rows.append(
            stated(
                name,
                scores.f_measure,
                None,
                "",
                "% F",
                reason=f"{told}  {milliseconds:.1f} ms a page",
                **vars(scores),
                milliseconds=milliseconds,
            )
        )
    publish("Ink told from paper on held-out pages", rows, options.json)


def timed(method: Callable[[Tensor], Tensor], page: Tensor) -> tuple[Tensor, float]:
    """What a method finds, and the processor time that it takes, in seconds."""
    begun = time.process_time()
    found = method(page)
    return found, time.process_time() - begun


if __name__ == "__main__":
    main()
