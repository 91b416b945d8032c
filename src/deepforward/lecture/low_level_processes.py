"""Claim: what low-level image processing does by formula, a convolutional network learns from examples, and does better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from deepforward.data import load
from deepforward.data.noise import gaussian_noise, salt_and_pepper
from deepforward.data.photograph_patches import HELD_OUT
from deepforward.data.photographs import grey_photograph
from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.lecture.image_networks import Network, picture, picture_rows, trained
from deepforward.metrics.edges import edge_agreement
from deepforward.report.blocks import Block, Images
from deepforward.report.blocks import Table as Cells
from deepforward.shallow.image_processing import denoise, edges, sharpen, skimage

#: Budget -> how networks are trained, if otherwise than their cards say, and patches and epochs of each.
BUDGETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "fields": {"model_options": {"depth": 5, "width": 16}, "learning_rate": 1e-2},
        "denoiser": ("n=1920&patch=24", 1),
        "sharpener": ("n=1440&patch=24", 1),
        "edges": ("n=1680&patch=24", 1),
    },
    "full": {
        "fields": {},
        "denoiser": ("n=12000", 2),
        "sharpener": ("n=12000", 1),
        "edges": ("n=6000", 3),
    },
}
#: Share of pixels that salt and pepper replace; standard deviation of the Gaussian noise; that of the blur, pixels.
AMOUNT, SIGMA, BLUR = 0.1, 0.1, 1.5
#: PSNR on `camera` (dB): that of the lecture's notes, and mean and standard deviation of 20 draws of the noise.
NOTED_SALT = {"noisy": (14.79, 14.772, 0.033), "median": (29.46, 29.519, 0.059)}
NOTED_NOISE = {
    "noisy": (20.43, 20.434, 0.010),
    "gaussian": (27.20, 27.175, 0.017),
    "total-variation": (28.31, 28.298, 0.021),
    "non-local-means": (28.82, 28.816, 0.023),
}
#: Part of `camera` that is shown.
SHOWN = (slice(70, 198), slice(170, 298))


class LowLevelProcesses(Claim):
    """Noise removal, sharpening and edges on `camera`, by formula and by networks trained on other photographs.

    The table has one row a number: `quantity`, `at` (a method or photograph) and `value`; those of pictures are rows of bytes.
    """

    says: ClassVar[str] = (
        "A digital image is a matrix of measured values. Low-level processes make an image of an image: they remove noise, "
        "sharpen, find edges. It would be nice to have these processes automated, and neural networks can: each is replicated "
        "by a convolutional network that learns it from data."
    )
    correction: ClassVar[str] = ""

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """Networks of 5 layers trained for some seconds (smoke), or those of the cards for five minutes (full)."""

        def learnt(what: str, model: str, source: str) -> Network:
            patches, epochs = BUDGETS[budget][what]
            data = load(f"{source}{'&' if '?' in source else '?'}{patches}")
            return trained(model, data, rng, epochs=epochs, **BUDGETS[budget]["fields"])

        camera = grey_photograph("camera").float() / 255
        rows = [number("whole training", 0, float(budget == "full")), *picture_rows("camera", camera[SHOWN])]
        progress("noise removal")
        rows += _salt_and_pepper(camera, rng)
        rows += _noise(camera, learnt("denoiser", "denoiser", "noisy-photographs"), rng)
        progress("sharpening")
        rows += _sharpening(camera, learnt("sharpener", "denoiser", f"noisy-photographs?sigma=0&blur={BLUR}"))
        progress("edges")
        rows += _edges(learnt("edges", "edge-detector", "photograph-edges"))
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """The classical numbers are those of the lecture's notes, and the networks do at least as well as the formulas."""
        salt, noise, sharp = (numbers(table, f"{what}, PSNR") for what in ("salt and pepper", "Gaussian noise", "blur"))
        whole, f1 = bool(numbers(table, "whole training")[0]), numbers(table, "F1")
        least = max(28.3, noise["total-variation"], noise["non-local-means"]) if whole else noise["mean"]
        return [
            *(_noted(f"salt and pepper, {at}", salt[at], *numbers_of) for at, numbers_of in NOTED_SALT.items()),
            *(_noted(f"Gaussian noise, {at}", noise[at], *numbers_of) for at, numbers_of in NOTED_NOISE.items()),
            Check("Gaussian noise, network", noise["network"], least, math.inf, "dB", "as good as the formulas, camera unseen"),
            Check("blurred", sharp["blurred"], 27.32, 27.34, "dB", "lecture.md A4.1: 27.33"),
            Check("blurred, unsharp mask", sharp["unsharp"], 29.29, 29.31, "dB", "lecture.md A4.1: 29.30"),
            Check("blurred, network", sharp["network"], sharp["unsharp" if whole else "blurred"], math.inf, "dB", "as above"),
            Check("edges, F1 against Canny", f1["network"], 0.85 if whole else f1["sobel"], 1, "", "exact pixels, unseen"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """The processes side by side, classical and learned, with what they reach."""
        f1 = numbers(table, "F1")
        photographs, near = numbers(table, "F1, exact"), numbers(table, "F1, 1 pixel")
        noise = ("noisy", "mean", "gaussian", "total-variation", "non-local-means", "network")
        return [
            _pictures(table, "salt and pepper", ("noisy", "median"), "10% salt and pepper, and the median of 3x3 pixels."),
            _pictures(table, "Gaussian noise", noise, "Gaussian noise of variance 0.01, and what removes it."),
            _pictures(table, "blur", ("blurred", "unsharp", "laplacian", "network"), "A blur of 1.5 pixels, sharpened."),
            Images(
                np.stack([picture(table, f"edges, {name}") for name in ("sobel", "laplacian-of-gaussian", "canny", "network")]),
                ["Sobel", "Laplacian of Gaussian", "Canny", f"network, F1 {f1['network']:.3f}"],
                caption="Edges. The network was shown those of Canny's detector on other photographs.",
                columns=2,
            ),
            Cells(
                ["photograph", "exact", "within 1 pixel"],
                [[name, photographs[name], near[name]] for name in photographs],
                {"exact": ".3f", "within 1 pixel": ".3f"},
                "F1 of the network's edge pixels against Canny's, on photographs that it was not trained on.",
            ),
        ]

    def refutation(self) -> Table:
        """As if formulas gave other numbers than noted, and networks, trained to the end, did worse than formulas."""
        rows = [number("whole training", 0, 1.0), number("F1", "network", 0.5), number("F1", "sobel", 0.6)]
        for what, methods in (
            ("salt and pepper", ("noisy", "median")),
            ("Gaussian noise", ("noisy", "mean", "gaussian", "total-variation", "non-local-means", "network")),
            ("blur", ("blurred", "unsharp", "network")),
        ):
            rows += [number(f"{what}, PSNR", method, 25.0 if method == "network" else 26.0) for method in methods]
        return from_rows(rows)


def _noted(name: str, value: float, noted: float, mean: float, deviation: float) -> Check:
    """A PSNR within four standard deviations of the mean over draws of the noise, as the notes' is within two."""
    basis = f"lecture.md A4.1: {noted:.2f}; 20 draws: {mean:.2f} ± {deviation:.2f}"
    return Check(name, value, mean - 4 * deviation, mean + 4 * deviation, "dB", basis)


def _salt_and_pepper(image: Tensor, rng: torch.Generator) -> Iterator[dict[str, Any]]:
    noisy = salt_and_pepper(image, AMOUNT, rng)
    yield from _judged("salt and pepper", image, {"noisy": noisy, "median": denoise(noisy, "median")})


def _noise(image: Tensor, network: Network, rng: torch.Generator) -> Iterator[dict[str, Any]]:
    noisy = gaussian_noise(image, SIGMA, rng)
    methods = ("mean", "gaussian", "total-variation", "non-local-means")
    by_formula = {method: denoise(noisy, method) for method in methods}
    yield from _judged("Gaussian noise", image, {"noisy": noisy, **by_formula, "network": _restored(network, noisy)})


def _sharpening(image: Tensor, network: Network) -> Iterator[dict[str, Any]]:
    blurred = denoise(image, "gaussian", sigma=BLUR)
    by_formula = {method: sharpen(blurred, method) for method in ("unsharp", "laplacian")}
    yield from _judged("blur", image, {"blurred": blurred, **by_formula, "network": _restored(network, blurred)})


def _restored(network: Network, image: Tensor) -> Tensor:
    return network(image[None, None])[0, 0].clamp(0, 1)


def _judged(what: str, image: Tensor, made: dict[str, Tensor]) -> Iterator[dict[str, Any]]:
    """PSNR, in dB, and pictures of images that should be `image`."""
    psnr = skimage("metrics").peak_signal_noise_ratio
    for method, result in made.items():
        yield number(f"{what}, PSNR", method, float(psnr(image.double().numpy(), result.double().numpy(), data_range=1)))
        yield from picture_rows(f"{what}, {method}", result[SHOWN])


def _edges(network: Network) -> Iterator[dict[str, Any]]:
    """Agreement of the network's edges with Canny's on photographs that it has not seen, and pictures."""
    found, right, norms = [], [], []
    for name in HELD_OUT:
        image = grey_photograph(name).float() / 255
        logits = network(image[None, None])[0]
        found.append(logits[1] > logits[0])
        right.append(edges(image, "canny"))
        norms.append(edges(image, "sobel"))
        for label, tolerance in (("exact", 0), ("1 pixel", 1)):
            yield number(f"F1, {label}", name, edge_agreement(found[-1], right[-1], tolerance).f1)
        if name == "camera":
            relief = edges(image, "laplacian-of-gaussian")
            shown = {"sobel": norms[-1] / norms[-1].max(), "laplacian-of-gaussian": 0.5 + relief / (2 * relief.abs().max())}
            for method, result in {**shown, "canny": right[-1], "network": found[-1]}.items():
                yield from picture_rows(f"edges, {method}", result[SHOWN])
    every, canny = _flat(found), _flat(right)
    yield number("F1", "network", edge_agreement(every, canny).f1)
    # The threshold is chosen on the very pixels that judge it, which flatters Sobel.
    steep = _flat(norms)
    yield number("F1", "sobel", max(edge_agreement(steep > level / 100, canny).f1 for level in range(1, 40)))


def _flat(maps: Sequence[Tensor]) -> Tensor:
    """The pixels of several maps as one map of a single row."""
    return torch.cat([values.flatten() for values in maps])[None]


def _pictures(table: Table, what: str, methods: Sequence[str], caption: str) -> Images:
    reached = numbers(table, f"{what}, PSNR")
    shown = [picture(table, "camera"), *(picture(table, f"{what}, {method}") for method in methods)]
    captions = ["as it was", *(f"{method}, {reached[method]:.2f} dB" for method in methods)]
    return Images(np.stack(shown), captions, caption=f"{caption} PSNR of the whole of camera.")
