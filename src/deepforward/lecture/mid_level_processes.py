"""Claim: segmentation and recognition, which take attributes of regions that someone thinks out, are learned from examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import Tensor
from torch.nn import functional as F

from deepforward.data import Dataset, Split, load
from deepforward.data.photograph_patches import draw_patches
from deepforward.data.photographs import grey_photograph
from deepforward.lecture.claim import Check, Claim, Table, entries, from_rows, number, numbers
from deepforward.lecture.image_networks import picture, picture_rows, trained
from deepforward.metrics.segmentation import confusion_of, mean_iou
from deepforward.report.blocks import Block, Images
from deepforward.report.blocks import Table as Cells
from deepforward.shallow.image_processing import edges
from deepforward.shallow.regions import attributes, objects_of, otsu_threshold, superpixels, watershed_objects

_SMALL = {"model_options": {"depth": 6, "width": 16}, "learning_rate": 1e-2}
#: Budget -> patches of coins, mosaics for network and for superpixels, digits, and fields of the recipes.
BUDGETS: Mapping[str, Mapping[str, Any]] = {
    "smoke": {
        "coins": (240, _SMALL | {"epochs": 1}),
        "textures": ("n=320&test=12", 16, _SMALL | {"epochs": 1}),
        "digits": ("digits", 250, {"epochs": 6, "batch_size": 32, "learning_rate": 0.05}),
    },
    "full": {
        "coins": (2400, {"epochs": 1}),
        "textures": ("n=2400&test=100", 200, {"epochs": 2}),
        "digits": ("mnist?train=6000&test=2000", 2000, {"epochs": 5}),
    },
}
#: Grey levels that are background, and coin, for certain; row between upper and lower coins; pixels that a coin has at
#: least, half of what the smallest has.
BACKGROUND, COIN, MIDDLE, SMALLEST = 30, 150, 150, 500
#: Largest change of the light of a training patch of coins, of [0, 1]: the upper half of the photograph is lit more brightly.
LIGHT = 0.3


class MidLevelProcesses(Claim):
    """Coins counted, textures parted, digits read: by thresholds, watersheds, superpixels and attributes, and by networks.

    The table has one row a number: `quantity`, `at` (a method) and `value`; those of pictures are rows of bytes.
    """

    says: ClassVar[str] = (
        "Mid-level processes make attributes of an image: segmentation parts it into objects, recognition tells what they are. "
        "It would be nice to have these processes automated, and neural networks can: each is replicated by a convolutional "
        "network that learns it from data, where otherwise attributes have to be thought out."
    )
    correction: ClassVar[str] = ""

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """Small networks trained for a second each (smoke), or those of the cards for minutes, on MNIST as well (full)."""
        sizes = BUDGETS[budget]
        rows = [number("whole training", 0, float(budget == "full"))]
        progress("coins")
        rows += _coins(rng, *sizes["coins"])
        progress("textures")
        rows += _textures(rng, *sizes["textures"])
        progress("recognition")
        rows += _recognition(rng, *sizes["digits"])
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """The classical numbers are those of the lecture's notes, and the networks do better than they on what is held out."""
        whole, inf = bool(numbers(table, "whole training")[0]), math.inf
        coins, overlap = numbers(table, "coins"), numbers(table, "IoU of coins with the watershed's")
        textures, read = numbers(table, "textures, mean IoU"), numbers(table, "digits read")
        notes, held = "lecture.md A4.1", "each half of the photograph by the network that learned from the other"
        least = max(0.9, overlap["otsu"]) if whole else 0.5
        return [
            Check("Otsu's threshold on coins", numbers(table, "threshold")["otsu"], 107, 107, "grey level", notes),
            Check("watershed's regions", coins["watershed, all regions"], 25, 25, "", f"{notes}: 25 labels"),
            Check("watershed's coins", coins["watershed"], 24, 24, "", f"{notes}: one region has 2 pixels"),
            Check("network's coins", coins["network"], *((24, 24) if whole else (18, 30)), "", held),
            Check("network's coins, IoU with watershed's", overlap["network"], least, 1, "", held),
            Check("textures, superpixels by attributes", textures["superpixels"], 0.4, 1, "mean IoU", "chance: 0.2"),
            Check("textures, network", textures["network"], textures["superpixels"] if whole else 0.4, 1, "mean IoU", "sign"),
            Check("digits, attributes", read["attributes"], 0.6, 1, "share", "chance: 0.1"),
            Check("digits, network less attributes", read["network"] - read["attributes"], 0.02, inf, "share", "sign"),
        ]

    def draw(self, table: Table) -> list[Block]:
        """Masks side by side, the coins' attributes, and what was read."""
        coins, overlap = numbers(table, "coins"), numbers(table, "IoU of coins with the watershed's")
        textures, read = numbers(table, "textures, mean IoU"), numbers(table, "digits read")
        names = ("mosaic", "right", "superpixels", "network")
        found = [f"{name}, {coins[name]:.0f} regions" for name in ("otsu", "watershed", "network")]
        return [
            Images(
                np.stack([picture(table, f"coins, {name}") for name in ("photograph", "otsu", "watershed", "network")]),
                ["photograph", *found],
                caption="Coins by Otsu's threshold, by watersheds of the Sobel norm, and by networks that learned from the "
                f"watersheds of the other half (overlap with them {overlap['network']:.3f}, Otsu's {overlap['otsu']:.3f}).",
                columns=2,
            ),
            Cells(
                ["coin", "area, pixels", "eccentricity", "solidity", "mean grey"],
                [[coin, *values] for coin, values in entries(table, "attributes of a coin").items()],
                {"area, pixels": ".0f", "eccentricity": ".2f", "solidity": ".3f", "mean grey": ".2f"},
                "Attributes of the watershed's regions.",
            ),
            Images(
                np.stack([picture(table, f"texture {k}, {name}") for k in range(3) for name in names]),
                caption="Mosaics of brick, grass and gravel; their pieces; superpixels classified by their attributes "
                f"(mean IoU {textures['superpixels']:.3f}); a network (mean IoU {textures['network']:.3f}).",
                columns=len(names),
            ),
            Cells(
                ["recognised by", "digits read rightly"],
                [["attributes of their shape and a support vector machine", read["attributes"]], ["LeNet-5", read["network"]]],
                {"digits read rightly": ".1%"},
                "The same training and test digits for both.",
            ),
        ]

    def refutation(self) -> Table:
        """As if the notes' numbers were others, and networks, trained to the end, learned nothing."""
        rows = [number("whole training", 0, 1.0), number("threshold", "otsu", 100)]
        rows += [number("coins", at, 20) for at in ("watershed, all regions", "watershed", "network")]
        rows += [number("IoU of coins with the watershed's", at, 0.5) for at in ("otsu", "network")]
        rows += [number("textures, mean IoU", "superpixels", 0.3), number("textures, mean IoU", "network", 0.2)]
        return from_rows([*rows, number("digits read", "attributes", 0.3), number("digits read", "network", 0.3)])


def _coins(rng: torch.Generator, patches: int, fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Coins by Otsu, watershed and network; the network learns from the watershed of one half and finds those of the other."""
    image = grey_photograph("coins")
    every = watershed_objects(image, BACKGROUND, COIN)
    coins = watershed_objects(image, BACKGROUND, COIN, SMALLEST)
    threshold = otsu_threshold(image)
    grey = image.float() / 255
    both = torch.stack((grey, (coins > 0).float()))
    halves = both[:, :MIDDLE], both[:, MIDDLE:]
    learned = [_coin_mask(halves[1 - k], halves[k], patches, fields, rng) for k in (0, 1)]
    found = {"otsu": image > threshold, "watershed": coins > 0, "network": torch.cat(learned)}
    yield number("threshold", "otsu", threshold)
    yield number("coins", "watershed, all regions", int(every.max()))
    yield from picture_rows("coins, photograph", grey[::2, ::2])
    for method, mask in found.items():
        objects = objects_of(mask, SMALLEST)
        yield number("coins", method, int(objects.max()))
        common, either = (objects > 0) & (coins > 0), (objects > 0) | (coins > 0)
        yield number("IoU of coins with the watershed's", method, float(common.sum() / either.sum()))
        yield from picture_rows(f"coins, {method}", mask[::2, ::2])
    named = attributes(coins, ("area", "eccentricity", "solidity", "intensity_mean"), grey)
    for coin, values in enumerate(named.tolist(), start=1):
        yield {"quantity": "attributes of a coin", "at": coin, "value": [round(value, 3) for value in values]}


def _coin_mask(learn: Tensor, judge: Tensor, patches: int, fields: dict[str, Any], rng: torch.Generator) -> Tensor:
    """Coins of the photograph in `judge`, by a network that learned from photograph and mask in `learn`."""
    drawn, others = draw_patches([learn], 48, patches, rng), draw_patches([judge], 48, 16, rng)
    drawn[:, 0] += LIGHT * (2 * torch.rand(patches, 1, 1, generator=rng) - 1)
    train, test = (Split(part[:, :1], part[:, 1].to(torch.uint8)) for part in (drawn, others))
    network = trained("segmenter", Dataset("coins", train, test, ("background", "coin")), rng, **fields)
    logits = network(judge[None, :1])[0]
    return logits[1] > logits[0]


def _textures(rng: torch.Generator, options: str, mosaics: int, fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Mean IoU of test mosaics, from the other halves of the photographs, by superpixels' attributes and by a network."""
    data = load(f"texture-mosaics?{options}")
    network = trained("segmenter", data, rng, **fields)
    outputs = [network(images) for images in data.test.inputs.split(50)]
    by_attributes = _superpixel_classifier(data.train.spread(mosaics))
    found = {"superpixels": by_attributes(data.test.inputs), "network": torch.cat(outputs).argmax(1)}
    for method, masks in found.items():
        confusion = confusion_of(masks, data.test.targets.long(), len(data.classes))
        yield number("textures, mean IoU", method, mean_iou(confusion))
    for k in range(3):
        yield from picture_rows(f"texture {k}, mosaic", data.test.inputs[k, 0])
        for method, masks in {"right": data.test.targets, **found}.items():
            yield from picture_rows(f"texture {k}, {method}", masks[k] / (len(data.classes) - 1))


def _superpixel_classifier(split: Split) -> Callable[[Tensor], Tensor]:
    """A function from images (batch, 1, height, width) to masks, a class for each superpixel by its attributes."""
    described, classes = [], []
    for image, mask in zip(split.inputs[:, 0], split.targets, strict=True):
        regions, values = _described(image)
        described.append(values)
        votes = torch.stack([torch.bincount(regions[mask == c], minlength=len(values) + 1) for c in range(3)])
        classes.append(votes[:, 1:].argmax(0))
    classifier = _classifier().fit(torch.cat(described).numpy(), torch.cat(classes).numpy())

    def masks_of(images: Tensor) -> Tensor:
        masks = []
        for image in images[:, 0]:
            regions, values = _described(image)
            masks.append(torch.from_numpy(classifier.predict(values.numpy()))[regions - 1])
        return torch.stack(masks)

    return masks_of


def _described(image: Tensor) -> tuple[Tensor, Tensor]:
    """Superpixels, and of each mean and deviation of grey, of the gradient's norm, and of two Laplacians."""
    regions = superpixels(image, count=30)
    fine, coarse = (edges(image, "laplacian-of-gaussian", sigma=sigma).abs() for sigma in (1.0, 2.0))
    channels = torch.stack((image, edges(image, "sobel"), fine, coarse), 2)
    return regions, attributes(regions, ("intensity_mean", "intensity_std"), channels)


def _recognition(rng: torch.Generator, source: str, count: int, fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Share of test digits that are read rightly by attributes of their shape, and by a network; both learn from the same."""
    data = load(source)
    chosen = Dataset(data.name, data.train.spread(3 * count), data.test.spread(count), data.classes)
    classifier = _classifier().fit(_shapes(chosen.train.inputs), chosen.train.targets.numpy())
    read = {"attributes": torch.from_numpy(classifier.predict(_shapes(chosen.test.inputs)))}
    read["network"] = trained("lenet5", chosen, rng, **fields)(chosen.test.inputs).argmax(1)
    for method, labels in read.items():
        yield number("digits read", method, (labels == chosen.test.targets).double().mean().item())


def _shapes(images: Tensor) -> np.ndarray:
    """Attributes of the brighter part, by Otsu's threshold, of each image; small images are enlarged fourfold first."""
    values = 255 * images.float() / images.max()
    if values.shape[-1] < 20:
        values = F.interpolate(values, scale_factor=4, mode="bilinear")
    grey = values.round().clamp(0, 255).to(torch.uint8)[:, 0]
    # One below the other, each under its own number, so that the parts of a digit are one region.
    numbered = [(image > otsu_threshold(image)).long() * k for k, image in enumerate(grey, start=1)]
    return attributes(torch.cat(numbered)).numpy()


def _classifier() -> Pipeline:
    return make_pipeline(StandardScaler(), SVC(C=10))
