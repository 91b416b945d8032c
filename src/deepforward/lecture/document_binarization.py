"""Claim: an encoder-decoder tells ink from paper better than thresholds do."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from deepforward.data import Split, load
from deepforward.data.photographs import grey_photograph
from deepforward.engine import Recipe, Run, fit
from deepforward.engine.prediction import predict
from deepforward.lecture.claim import Check, Claim, Table, entries, from_rows, number, numbers
from deepforward.metrics.binarization import binarization_scores, f_measure
from deepforward.report.blocks import Block, Images
from deepforward.report.blocks import Table as Cells
from deepforward.shallow.binarization import THRESHOLDS, sauvola

#: Method -> ink of a page (height, width).
Method = Callable[[Tensor], Tensor]
#: Budget -> pages, and what differs from the network's card.
BUDGETS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "smoke": (
        "pages?n=40&size=64&glyphs=digits&test=0.2",
        {"model_options": {"channels": (16, 16), "depth": 1}, "epochs": 20, "learning_rate": 0.01, "validation": 0.0},
    ),
    "full": ("pages", {}),
}
NETWORK = "encoder-decoder"
#: What a threshold may be tuned in.
WINDOWS, FACTORS = (25, 41, 61), {"Niblack": (0.6, 0.8, 1.0, 1.2), "Sauvola": (0.1, 0.15, 0.2, 0.25)}
#: Measure -> its name in tables; the last one is the less the better.
MEASURES = {"f_measure": "F, %", "pseudo_f_measure": "pseudo-F, %", "psnr": "PSNR, dB", "drd": "DRD"}
#: Pixels a side of what is shown of a page.
SHOWN = 192


class DocumentBinarization(Claim):
    """A network trained on generated pages against Otsu, Niblack and Sauvola on others, and on a photograph of a page.

    The table has one row a number, `quantity` being the measure and `at` the method, and one row a picture, whose value is the
    bytes of its pixels in hexadecimal digits.
    """

    says: ClassVar[str] = (
        "A convolutional encoder and a decoder of transposed convolutions tell ink from paper at each pixel, comparably to "
        "methods made by hand (Peng et al. 2017); on stained pages with text shining through, better than thresholds."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """40 small pages and a small network (smoke), or the card's network on 100 pages, scored on 20 (full).

        The full budget also tunes window and factor of Niblack's and Sauvola's thresholds on the training pages.
        """
        source, changes = BUDGETS[budget]
        data = load(source)
        seed = int(torch.randint(2**31, (), generator=rng))
        methods: dict[str, Method] = dict(THRESHOLDS)
        if budget == "full":
            progress("tuning thresholds")
            methods |= {f"{name}, tuned": tuned(name, data.train.spread(20)) for name in FACTORS}
        progress(f"training on {len(data.train)} pages")
        recipe = Recipe(
            model="binarization-network", data=data.name, seed=seed, device="cpu", threads=1, probe_budget=0, **changes
        )
        with tempfile.TemporaryDirectory() as folder:
            run = fit(recipe, Path(folder) / "run", quiet=True, data=data, throwaway=True)
            methods[NETWORK] = _network(run)
        progress("scoring")
        rows = [number("pages", "test", len(data.test)), number("size", "test", data.shape[1])]
        pages, truth = data.test.inputs[:, 0], data.test.targets.bool()
        for name, method in methods.items():
            scores = binarization_scores(torch.stack([method(page) for page in pages]), truth)
            rows += [number(measure, name, value) for measure, value in asdict(scores).items()]
        rows += _pictures("generated page", pages[0], methods, truth[0])
        photograph = grey_photograph("page")
        rows += _pictures("photograph", photograph, methods)
        agreement = f_measure(methods[NETWORK](photograph), sauvola(photograph))
        return from_rows([*rows, number("agreement with Sauvola", "photograph", agreement)])

    def check(self, table: Table) -> list[Check]:
        """The network against the thresholds in every measure, and the thresholds against those of the lecture's pages."""
        of = {measure: numbers(table, measure) for measure in MEASURES}
        f, inf = of["f_measure"], math.inf
        full = numbers(table, "size")["test"] >= 256
        held = "the same held-out pages"
        checks = [
            Check("F-measure of the network", f[NETWORK], 96 if full else 90, 100, "%", "A4.7, at least 96"),
            *(
                Check(f"{said}: network less best threshold", _gain(of[measure]), 0, inf, "", held)
                for measure, said in MEASURES.items()
                if measure != "drd"
            ),
            Check("DRD: best threshold less network", _gain({k: -v for k, v in of["drd"].items()}), 0, inf, "", held),
            Check(
                "photograph: F-measure of the network if Sauvola were the truth",
                numbers(table, "agreement with Sauvola")["photograph"],
                85 if full else 50,
                100,
                "%",
                "no truth is known; by eye Sauvola reads best of the thresholds",
            ),
        ]
        near = {"Otsu": (80.1, 4), "Niblack": (94.8, 2), "Sauvola": (92.7, 3)} if full else {}
        return checks + [
            Check(f"F-measure of {name}", f[name], middle - far, middle + far, "%", f"A4.7: {middle} on its 20 pages")
            for name, (middle, far) in near.items()
        ]

    def draw(self, table: Table) -> list[Block]:
        """Methods by measures, and what each makes of a generated page and of a photograph."""
        of = {measure: numbers(table, measure) for measure in MEASURES}
        count = numbers(table, "pages")["test"]
        cells = Cells(
            ["method", *MEASURES.values()],
            [[name, *(of[measure][name] for measure in MEASURES)] for name in of["f_measure"]],
            {"F, %": ".1f", "pseudo-F, %": ".1f", "PSNR, dB": ".1f", "DRD": ".2f"},
            f"Means over {count:.0f} held-out pages; less DRD is better. Tuned: window and factor chosen on training pages.",
        )
        return [cells, *(block for name in ("generated page", "photograph") for block in _shown(table, name))]

    def refutation(self) -> Table:
        """As if the network were no better than Otsu, which was the best, and read nothing on the photograph."""
        rows = [number("pages", "test", 20), number("size", "test", 256)]
        for name in (*THRESHOLDS, NETWORK):
            worse = {"f_measure": 50.0, "pseudo_f_measure": 50.0, "psnr": 5.0, "drd": 20.0}
            best = {"f_measure": 90.0, "pseudo_f_measure": 90.0, "psnr": 15.0, "drd": 1.0}
            rows += [number(measure, name, value) for measure, value in (best if name == "Otsu" else worse).items()]
        return from_rows([*rows, number("agreement with Sauvola", "photograph", 10.0)])


def _gain(of: Mapping[str, float]) -> float:
    return of[NETWORK] - max(value for name, value in of.items() if name != NETWORK)


def _network(run: Run) -> Method:
    """The run's mask of a page; its model is read once, while its folder is there."""
    parts = run.parts()
    return lambda page: predict(parts, page[None]).bool()


def tuned(name: str, pages: Split) -> Method:
    """A threshold with the window and the factor that give the highest mean F-measure on some pages.

    Args:
        name: `Niblack` or `Sauvola`.
        pages: Pages and masks.
    """
    inputs, masks = pages.inputs[:, 0], pages.targets.bool()
    choices = [partial(THRESHOLDS[name], window=window, k=k) for window in WINDOWS for k in FACTORS[name]]

    def mean(method: Method) -> float:
        return float(np.mean([f_measure(method(page), mask) for page, mask in zip(inputs, masks, strict=True)]))

    return max(choices, key=mean)


def _pictures(of: str, page: Tensor, methods: Mapping[str, Method], truth: Tensor | None = None) -> Iterator[dict[str, Any]]:
    found = {name: method(page) for name, method in methods.items()} | ({} if truth is None else {"truth": truth})
    pictures = {"page": page} | {name: ~ink * torch.tensor(255, dtype=torch.uint8) for name, ink in found.items()}
    for name, picture in pictures.items():
        corner = picture[:SHOWN, :SHOWN].numpy().astype(np.uint8)
        yield {"quantity": of, "at": f"{name}, width {corner.shape[1]}", "value": corner.tobytes().hex()}


def _shown(table: Table, of: str) -> list[Block]:
    pictures = {}
    for at, value in entries(table, of).items():
        name, _, width = at.rpartition(", width ")
        pictures[name] = np.frombuffer(bytes.fromhex(value), np.uint8).reshape(1, -1, int(width))
    if not pictures:
        return []
    caption = f"A corner of a {of}, and what each method takes for ink."
    return [Images(np.stack(list(pictures.values())), list(pictures), caption)]
