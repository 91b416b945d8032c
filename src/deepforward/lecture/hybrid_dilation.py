"""Claim: dilated convolutions of one rate leave holes, hybrid rates leave none, and masks are the better for it."""

from __future__ import annotations

import math
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor
from torch.nn import functional as F

from deepforward.data import Dataset, load
from deepforward.engine import Recipe, fit
from deepforward.errors import GriddingWarning
from deepforward.layers.dilation import check_rates, touched
from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.report.blocks import Block, Images
from deepforward.report.blocks import Table as Cells

Rates = tuple[int, ...]

#: Rates -> pixels touched of those in the field, for kernels of three taps (lecture item A4.7).
TOUCHED: Mapping[Rates, tuple[int, int]] = {
    (2, 2, 2): (49, 169),
    (1, 2, 3): (169, 169),
    (1, 2, 5): (289, 289),
    (1, 2, 9): (441, 625),
    (1, 2, 5, 9): (1225, 1225),
}
#: Rates -> M_2 of the rule, for which at most 3 is asked.
SECOND: Mapping[Rates, int] = {(2, 2, 2): 2, (1, 2, 5): 2, (1, 2, 9): 5}
#: Rates that obey the rule, which takes for granted that the first is 1, and leave holes.
SLIPS = (2, 3)
#: Equal rates -> hybrid ones of the same receptive field, number of weights and cost.
PAIRS: Mapping[Rates, Rates] = {(2, 2, 2): (1, 2, 3), (4, 4, 4): (1, 3, 8)}
#: Budget -> pairs, data, epochs and seeds of the networks.
BUDGETS = {
    "smoke": (((4, 4, 4),), "shapes?n=160&classes=2&noise=0.2", 4, 1),
    "full": (tuple(PAIRS), "shapes?n=1000", 30, 5),
}


class HybridDilatedConvolution(Claim):
    """What stacks of dilated convolutions touch, and segmentation networks with equal and with hybrid rates.

    The table has one row a number: `quantity`, `at` (rates, or the seed of a network) and `value`.
    """

    says: ClassVar[str] = (
        "Dilated convolutions of equal rates touch only part of their receptive field, (2, 2, 2) of three taps 49 of 169 "
        "pixels: gridding. Hybrid rates r_1 = 1, ..., r_n with M_2 <= K and no common factor touch all of it, where M_n = r_n "
        "and M_i = max(M_{i+1} - 2 r_i, M_{i+1} - 2 (M_{i+1} - r_i), r_i). On generated shapes networks with hybrid rates of "
        "the same receptive field have a higher mean intersection over union. Dense upsampling, a convolution to d^2 L "
        "channels and a pixel shuffle, loses nothing on the way to a class for each pixel."
    )
    correction: ClassVar[str] = (
        "M_2 <= K alone lets (2, 2, 2) pass: the rates must have no common factor either; and the rule takes for granted that "
        "r_1 = 1, else (2, 3) passes, which touches 81 of 121 pixels. E13: the sum of a convolution runs from -n to +n, and "
        "what code calls convolution is the correlation, which touches the same pixels."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """One pair of networks for 4 epochs on 128 discs in noise (smoke); two pairs, 5 seeds, 30 epochs, 800 images (full).

        The full budget takes about six minutes of one thread.
        """
        equal, spec, epochs, repeats = BUDGETS[budget]
        rows = [row for rates in (*TOUCHED, SLIPS) for row in _stack(rates)]
        rows.append(number("dense upsampling and back", 0, _round_trip(rng)))
        data = load(spec)
        for seed in torch.randint(2**31, (repeats,), generator=rng).tolist():
            for rates in (rates for pair in equal for rates in (pair, PAIRS[pair])):
                progress(f"rates {rates}, seed {seed}")
                rows.append(number(f"mean IoU of {rates}", seed, mean_iou(rates, data, epochs, seed)))
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """Counts exactly; networks by the mean difference over seeds and, of several, by its interval."""
        share, second = numbers(table, "share touched"), numbers(table, "M_2")
        exact = "exact: enumeration"
        basis = "lecture A4.7; Wang et al. 2018, section 3.2"
        checks = [
            Check(f"{rates}: share touched", share[str(rates)], hits / field, hits / field, "", basis)
            for rates, (hits, field) in TOUCHED.items()
        ]
        checks += [Check(f"{rates}: M_2", second[str(rates)], value, value, "pixels", basis) for rates, value in SECOND.items()]
        checks += [
            Check(f"{SLIPS}: share touched", share[str(SLIPS)], 81 / 121, 81 / 121, "", "exact: 81 of 121, though M_2 = 3"),
            Check("pixels on which gradients and counts differ", sum(numbers(table, "gradient").values()), 0, 0, "", exact),
            Check("pixels that only the flipped kernel touches", sum(numbers(table, "flipped").values()), 0, 0, "", "E13"),
            Check(
                "dense upsampling and back: difference",
                numbers(table, "dense upsampling and back")[0],
                0,
                0,
                "",
                "a permutation",
            ),
        ]
        for equal, hybrid in PAIRS.items():
            gains = _gains(table, equal)
            if not gains:
                continue
            name, sign = f"mean IoU of {hybrid} less that of {equal}", "sign: Wang et al. 2018, table 3"
            checks.append(Check(name, statistics.mean(gains), 1e-9, 1, "", sign))
            if len(gains) > 1:
                low = statistics.mean(gains) - _half_width(gains)
                checks.append(Check(f"{name}: lower end of its 95% interval", low, 1e-9, 1, "", f"paired, {len(gains)} seeds"))
        return checks

    def draw(self, table: Table) -> list[Block]:
        """The pixels that each stack touches, and the score of every network."""
        offsets, share = {rates: touched(rates) for rates in (*TOUCHED, SLIPS)}, numbers(table, "share touched")
        side = max(map(len, offsets.values()))
        images = [_centred(np.outer(hits, hits), side) for hits in offsets.values()]
        captions = [f"{rates}: {share[str(rates)]:.1%} of {len(hits)} x {len(hits)}" for rates, hits in offsets.items()]
        rows: list[list[Any]] = []
        for equal, hybrid in PAIRS.items():
            for rates in (equal, hybrid):
                scores = list(numbers(table, f"mean IoU of {rates}").values())
                rows += [[str(rates), min(scores), statistics.mean(scores), max(scores), len(scores)]] if scores else []
        columns = ["rates", "least", "mean IoU", "most", "seeds"]
        formats = dict.fromkeys(columns[1:4], ".3f")
        told = [
            f"{hybrid} over {equal}: {statistics.mean(gains):+.3f}"
            + (f" ± {_half_width(gains):.3f} (95%)" if len(gains) > 1 else "")
            for equal, hybrid in PAIRS.items()
            if (gains := _gains(table, equal))
        ]
        return [
            Images(
                np.stack(images)[:, None],
                captions,
                "Pixels that the middle of the output depends on (white), others of its receptive field (black).",
            ),
            Cells(columns, rows, formats, f"Segmentation networks on test images of generated shapes. {'; '.join(told)}."),
        ]

    def refutation(self) -> Table:
        """As if every stack touched all, the rule were another, gradients told otherwise, and holes did no harm."""
        rows = []
        for rates in (*TOUCHED, SLIPS):
            full = check_rates(rates).coverage == 1.0
            rows += [number("share touched", str(rates), 0.5 if full else 1.0), number("M_2", str(rates), 4)]
            rows += [number("gradient", str(rates), 1), number("flipped", str(rates), 1)]
        rows.append(number("dense upsampling and back", 0, 1.0))
        for equal, hybrid in PAIRS.items():
            rows += [number(f"mean IoU of {equal}", seed, 0.5) for seed in (0, 1)]
            rows += [number(f"mean IoU of {hybrid}", seed, 0.4 - seed / 100) for seed in (0, 1)]
        return from_rows(rows)


def mean_iou(rates: Sequence[int], data: Dataset, epochs: int, seed: int, *, stride: int = 1, width: int = 16) -> float:
    """Mean intersection over union, on test images, of a network of dilated convolutions trained from a seed.

    Args:
        rates: Dilation of each layer.
        data: Images and masks.
        epochs: Passes over the training images.
        seed: Fixes weights and order.
        stride: By how much the encoder before the dilated layers shrinks the image; 1 is no encoder, so that nothing else mixes
            pixels.
        width: Maps of each layer.
    """
    options = {"rates": list(rates), "width": width, "stride": stride}
    fixed: dict[str, Any] = {"validation": 0.0, "precision": "fp32", "device": "cpu", "threads": 1, "compile": "off"}
    recipe = Recipe(model="hdc-duc", model_options=options, data=data.name, epochs=epochs, seed=seed, probe_budget=0.0, **fixed)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", GriddingWarning)  # that the rates leave holes is what is measured
        return fit(recipe, Path(folder) / "run", quiet=True, data=data, throwaway=True).metrics["test/mean_iou"]


def _stack(rates: Rates) -> Iterator[dict[str, Any]]:
    found, hits = check_rates(rates), touched(rates)
    plain, flipped = (_reached_by_gradient(rates, flip=flip) for flip in (False, True))
    yield number("share touched", str(rates), found.coverage)
    yield number("M_2", str(rates), found.distances[1])
    yield number("gradient", str(rates), int((plain != np.outer(hits, hits)).sum()))
    yield number("flipped", str(rates), int((plain != flipped[::-1, ::-1]).sum()))


def _reached_by_gradient(rates: Rates, *, flip: bool) -> np.ndarray:
    """Pixels on which the middle of the output depends, by autograd through convolutions with positive weights."""
    side = check_rates(rates).field
    image = torch.zeros(1, 1, side, side, dtype=torch.float64, requires_grad=True)
    kernel = torch.arange(1.0, 10.0, dtype=torch.float64).reshape(1, 1, 3, 3)
    outputs: Tensor = image
    for rate in rates:
        outputs = F.conv2d(outputs, kernel.flip(2, 3) if flip else kernel, dilation=rate)
    (gradient,) = torch.autograd.grad(outputs.sum(), image)
    return (gradient[0, 0] > 0).numpy()


def _round_trip(rng: torch.Generator) -> float:
    channels = torch.randn(2, 5 * 4**2, 7, 6, generator=rng)
    return float((F.pixel_unshuffle(F.pixel_shuffle(channels, 4), 4) - channels).abs().max())


def _gains(table: Table, equal: Rates) -> list[float]:
    """Mean IoU of the hybrid rates less that of the equal ones, seed by seed; empty where they were not trained."""
    before, after = (numbers(table, f"mean IoU of {rates}") for rates in (equal, PAIRS[equal]))
    return [after[seed] - score for seed, score in before.items()]


def _half_width(gains: Sequence[float]) -> float:
    """Half of the 95% Student interval of their mean."""
    return float(student.ppf(0.975, len(gains) - 1)) * statistics.stdev(gains) / math.sqrt(len(gains))


def _centred(hits: np.ndarray, side: int) -> np.ndarray:
    """White where touched, black where not, grey around the receptive field."""
    picture = np.full((side, side), 128, np.uint8)
    margin = (side - len(hits)) // 2
    picture[margin : margin + len(hits), margin : margin + len(hits)] = 255 * (hits > 0)
    return picture
