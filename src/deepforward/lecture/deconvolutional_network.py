"""Claim: images are sums of few filters; learnt from photographs these are edges, and layers of them stack."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from deepforward.data import Dataset, load
from deepforward.data.photographs import grey_photograph
from deepforward.engine import Recipe, fit
from deepforward.layers.filter_learning import learn_filters, unit_norm
from deepforward.layers.sparse_coding import SparseCode, sparse_code
from deepforward.layers.synthesis import operator_norm
from deepforward.lecture.claim import Check, Claim, Table, entries, from_rows, number, numbers
from deepforward.models.deconvolutional import DeconvolutionalNetwork
from deepforward.report.blocks import Block, Images
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines

#: Photographs that filters are learnt from; `camera`, which is coded, is not among them.
LEARNT_FROM = ("astronaut", "coffee", "cat", "rocket", "clock", "grass")


@dataclass(frozen=True)
class Budget:
    """Photographs: patches, their side, side and numbers of filters, turns; side of `camera`. Digits: how many, filters."""

    patches: int
    side: int
    kernel: int
    maps: tuple[int, ...]
    rounds: int
    camera: int
    data: str
    examples: int
    digit_maps: tuple[int, int]
    kernels: tuple[int, int]


BUDGETS = {
    "smoke": Budget(24, 28, 7, (4, 8, 16), 12, 128, "digits", 300, (8, 16), (3, 3)),
    "full": Budget(120, 36, 9, (4, 8, 16, 32), 40, 512, "mnist", 4000, (16, 32), (7, 5)),
}


class Deconvolutional(Claim):
    """Inference by two methods, filters of photographs and of digits, and what is left of an image in a sparse code.

    The table has one row a number: `quantity`, `at` (a step, a number of filters, a layer) and `value`.
    """

    says: ClassVar[str] = (
        "The lecture only names the deconvolutional network, in its chart of further networks (van Veen's Neural Network Zoo, "
        "2016). What is known of it (Zeiler et al. 2010): an image is a sum of filters placed by maps that are mostly zero, "
        "found by descending lambda/2 |sum z * f - y|^2 + |z|_1; filters learnt in turn with the maps become oriented edges on "
        "photographs and strokes on digits; more of them explain more; and the pooled maps are explained by filters again."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """16 filters from 24 patches, a part of `camera`, 300 small digits (smoke); or 32 from 120, all of it, MNIST (full)."""
        size, rows = BUDGETS[budget], []
        patches = _patches(size, rng)
        filters = {}
        for count in size.maps:
            progress(f"{count} filters from photographs")
            filters[count] = _learnt(patches, count, size, rng)
            rows.append(number("unexplained by filters", count, _unexplained(patches, filters[count])))
        best = filters[size.maps[-1]]
        random = unit_norm(torch.randn(best.shape, generator=rng))
        for name, found in (("learnt", best), ("random", random)):
            rows.append(number("orientation", name, statistics.median(_orientation(found))))
        rows += [_picture("filter", k, best[k]) for k in range(len(best))]
        progress("inference")
        strongest = patches.flatten(1).norm(dim=1).argsort(descending=True)[:3]
        rows += _inference(patches[strongest, :, :20, :20].double(), best.double())
        progress("camera")
        rows += _camera(best, size.camera)
        progress("digits")
        return from_rows([*rows, *_digits(size)])

    def check(self, table: Table) -> list[Check]:
        """Theorems of the two methods, the lecture's numbers of `camera`, and comparisons with filters that were not learnt."""
        inference, camera = numbers(table, "inference"), numbers(table, "camera")
        left = list(numbers(table, "unexplained by filters").values())
        falls = max(after / before for before, after in itertools.pairwise(left))
        orientation, digits = numbers(table, "orientation"), numbers(table, "digits")
        turned = orientation["learnt"] / orientation["random"]
        zeiler, told = "Zeiler et al. 2010", "most is kept, and no more than layer 1 tells"
        return [
            Check("ISTA: steps that raise the objective", inference["rises of ista"], 0, 0, "", "majorisation, in float64"),
            Check("FISTA: steps that raise the objective", inference["rises of fista"], 0, 0, "", "restarted where one would"),
            Check("FISTA against its bound", inference["share of the bound"], 0, 1, "", "Beck and Teboulle 2009, theorem 4.4"),
            Check("above the least after 100 steps, FISTA over ISTA", inference["left"], 0, 0.3, "", "1/k² against 1/k"),
            Check("camera: zeros in the maps", camera["zeros"], 0.7, 1, "share", "shared/lecture.md, A8"),
            Check("camera: reconstruction", camera["psnr"], 25, float("inf"), "dB", "shared/lecture.md, A8"),
            Check("error with more filters over that with fewer", falls, 0, 0.97, "", f"{zeiler}: each doubling"),
            Check("orientation, learnt over random", turned, 1.5, 100, "", f"{zeiler}: edges"),
            Check("digits: error, learnt over random", digits["learnt"] / digits["random"], 0, 0.8, "", f"{zeiler}: strokes"),
            Check("digits: zeros in the maps", digits["zeros"], 0.7, 1, "share", f"{zeiler}: sparse at every layer"),
            Check("digits: layer 2, of its input", digits["second"], 0, 0.5, "share unexplained", "filters of maps are learnt"),
            Check("digits: pixels from layer 2", digits["pixels 2"], digits["pixels 1"], 0.6, "share unexplained", told),
        ]

    def draw(self, table: Table) -> list[Block]:
        """Filters, the two descents, the error by the number of filters, and digits from each layer."""
        filters, atoms = entries(table, "filter"), entries(table, "atom")
        descents = {name: numbers(table, f"above the least, {name}") for name in ("ista", "fista")}
        left = numbers(table, "unexplained by filters")
        shown = entries(table, "digit")
        return [
            Images(
                np.array(list(filters.values()))[:, None],
                caption="Filters learnt from photographs (not from camera): edges and lines of some orientation.",
                contrast="each",
            ),
            *(
                Images(
                    np.array([picture for name, picture in atoms.items() if name.startswith(f"{depth}/")])[:, None],
                    caption=f"What a unit of layer {depth} of the network of digits adds to an image.",
                    contrast="each",
                    half=True,
                )
                for depth in (1, 2)
            ),
            Images(
                np.array(list(shown.values()))[:, None],
                caption="Test digits, and their reconstructions from the maps of each layer.",
                columns=len(shown) // 3,
                rows=["digit", "from layer 1", "from layer 2"],
            ),
            lines(
                list(descents["ista"]),
                {name.upper(): list(values.values()) for name, values in descents.items()},
                x_title="step",
                y_title="objective above the least, share",
                log_y=True,
                caption="Neither rises; with momentum it falls as 1/k² at least.",
            ),
            lines(
                list(left),
                {"": list(left.values())},
                x_title="number of filters",
                y_title="squared error, share of the squared image",
                log_x=True,
                caption="More filters explain more at the same weight of the error.",
            ),
            Cells(
                ["of camera", "number"],
                [[name, value] for name, value in numbers(table, "camera").items()],
                {"number": ".4g"},
                "psnr in dB; filters of photographs and a flat one.",
                half=True,
            ),
        ]

    def refutation(self) -> Table:
        """Descents that climb, filters that explain no more for being learnt, dense maps."""
        rows = [number("inference", name, 3) for name in ("rises of ista", "rises of fista", "share of the bound", "left")]
        rows += [number("camera", "zeros", 0.2), number("camera", "psnr", 15.0)]
        rows += [number("unexplained by filters", count, 0.5) for count in (4, 8)]
        rows += [number("orientation", name, 0.2) for name in ("learnt", "random")]
        digits = {"learnt": 0.5, "random": 0.5, "zeros": 0.2, "second": 0.9, "pixels 1": 0.5, "pixels 2": 0.4}
        return from_rows([*rows, *(number("digits", name, value) for name, value in digits.items())])


def _patches(size: Budget, rng: torch.Generator) -> Tensor:
    """Squares of photographs of equal local contrast, as many of each."""
    found = []
    for name in LEARNT_FROM:
        image = _of_equal_contrast(grey_photograph(name))
        for _ in range(size.patches // len(LEARNT_FROM)):
            top, left = (int(torch.randint(extent - size.side, (1,), generator=rng)) for extent in image.shape)
            found.append(image[top : top + size.side, left : left + size.side])
    return torch.stack(found)[:, None]


def _of_equal_contrast(image: Tensor, sigma: float = 4.0) -> Tensor:
    """Less the local mean, over the local standard deviation where that is above its mean (Zeiler et al. 2010, section 4)."""
    values = image.double().numpy()
    values = values - gaussian_filter(values, sigma)
    spread = np.sqrt(gaussian_filter(values**2, sigma))
    return torch.from_numpy(values / np.maximum(spread, spread.mean())).float()


#: lambda on photographs of equal contrast, whose pixels have a variance near 0.5.
WEIGHT = 1.0


def _learnt(patches: Tensor, count: int, size: Budget, rng: torch.Generator) -> Tensor:
    start = torch.randn(count, 1, size.kernel, size.kernel, generator=rng)
    return learn_filters(patches, start, WEIGHT, rounds=size.rounds, steps=8)


def _unexplained(images: Tensor, filters: Tensor) -> float:
    return _share(sparse_code(images, filters, WEIGHT, steps=40, tolerance=0), images)


def _share(code: SparseCode, images: Tensor) -> float:
    return float((code.fit - images).square().sum() / images.square().sum())


def _orientation(filters: Tensor) -> list[float]:
    """How much the slopes of each filter share one direction, 0 to 1: (a - b) / (a + b) of their covariance's eigenvalues."""
    down, right = torch.gradient(filters[:, 0], dim=(1, 2))
    straight, slanted = (down.square() - right.square()).sum((1, 2)), 2 * (down * right).sum((1, 2))
    return (torch.hypot(straight, slanted) / (down.square() + right.square()).sum((1, 2))).tolist()


def _inference(images: Tensor, filters: Tensor, steps: int = 100, bounded: int = 50) -> list[dict[str, Any]]:
    """Both descents from zero, in float64, against the least objective, and against what the theorem allows FISTA."""
    least = sparse_code(images, filters, WEIGHT, steps=500, tolerance=1e-7)
    lowest = least.objective[-1] - least.gap  # no objective is below it
    rows, last = [], {}
    for method in ("ista", "fista"):
        code = sparse_code(images, filters, WEIGHT, method=method, steps=steps, tolerance=0)
        rows.append(number("inference", f"rises of {method}", int((code.objective.diff(dim=0) > 1e-11).sum())))
        above = ((code.objective - lowest) / code.objective[0]).mean(1)
        rows += [number(f"above the least, {method}", k, float(above[k])) for k in range(0, steps + 1, 2)]
        last[method] = float(above[-1])
    norm = operator_norm(filters, *least.maps.shape[2:])
    k = torch.arange(1, bounded + 1, dtype=torch.float64)[:, None]
    allowed = 2 * WEIGHT * norm**2 * least.maps.square().sum((1, 2, 3)) / (k + 1) ** 2
    share = float(((code.objective[1 : bounded + 1] - lowest) / allowed).max())
    return [*rows, number("inference", "share of the bound", share), number("inference", "left", last["fista"] / last["ista"])]


def _camera(filters: Tensor, side: int) -> list[dict[str, Any]]:
    """The middle of `camera` coded with the filters and a flat one, since those have no mean."""
    whole = grey_photograph("camera").float() / 255
    top, left = ((extent - side) // 2 for extent in whole.shape)
    image = whole[None, None, top : top + side, left : left + side] - 0.5
    code = sparse_code(image, torch.cat((filters, unit_norm(torch.ones_like(filters[:1])))), 20.0, steps=60)
    error = (code.fit - image).square().mean()
    zeros = (code.maps == 0).double().mean()
    return [number("camera", "psnr", float(-10 * error.log10())), number("camera", "zeros", float(zeros))]


def _digits(size: Budget) -> list[dict[str, Any]]:
    """A network of two layers trained on digits by the engine, against one that is not."""
    whole = load(size.data)
    data = Dataset(whole.name, whole.train.spread(size.examples), whole.test.spread(200), whole.classes)
    options: dict[str, Any] = {"maps": list(size.digit_maps), "kernels": list(size.kernels), "steps": 15}
    recipe = Recipe(
        model="deconvolutional-network", model_options=options, batch_size=25, epochs=1, probe_budget=0.0, validation=0.0
    )
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        with torch.inference_mode(False):
            run = fit(recipe, Path(folder) / "run", data=data, quiet=True, throwaway=True)
        parts = run.parts()
        learnt, images = cast(DeconvolutionalNetwork, parts.model), parts.batch(data.test).inputs
        first, second = learnt.infer(images)
        untrained = DeconvolutionalNetwork(data.shape, **options)
        untrained.layers[0].filters.copy_(_standing(untrained.layers[0].filters.shape))
        untrained.layers[0].patch_norm.copy_(learnt.layers[0].patch_norm)  # the same lambda
        told = {
            "learnt": _share(first.code, images),
            "random": _share(untrained.infer(images, 1)[0].code, images),
            "zeros": min(float((code.maps == 0).double().mean()) for code in (first.code, second.code)),
            "second": _share(second.code, first.pooled),
        }
        pictures = [images[:10], *(learnt.reconstruct(images[:10], depth) for depth in (1, 2))]
        for depth in (1, 2):
            rest = (learnt.reconstruct(images, depth) - images).square().sum() / images.square().sum()
            told[f"pixels {depth}"] = float(rest)
        atoms = {f"{depth}/{k}": atom for depth in (1, 2) for k, atom in enumerate(learnt.atoms(depth))}
    rows = [number("digits", name, value) for name, value in told.items()]
    rows += [_picture("digit", k, picture) for k, picture in enumerate(torch.cat(pictures))]
    return [*rows, *(_picture("atom", name, picture) for name, picture in atoms.items())]


def _picture(quantity: str, at: object, image: Tensor) -> dict[str, Any]:
    return {"quantity": quantity, "at": at, "value": image[0].tolist()}


def _standing(shape: Sequence[int]) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0))
