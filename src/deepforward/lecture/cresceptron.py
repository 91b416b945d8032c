"""Claim: a network that grows by what it is shown recalls it all, recognises what is like it, and finds it in a scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from deepforward.data.photographs import faces, grey_photograph
from deepforward.data.splitting import stratified
from deepforward.lecture.claim import Check, Claim, Table, from_rows, number, numbers
from deepforward.lecture.image_networks import picture, picture_rows
from deepforward.models.cresceptron import Cresceptron, Segmentation
from deepforward.report.blocks import Block, Images
from deepforward.report.blocks import Table as Cells
from deepforward.report.figures import lines

FACE, SIZE = 1, 25
#: Photographs that faces are pasted into.
SCENES = ("grass", "gravel", "brick", "camera")
#: Budget -> share of the patches that are learnt, splits, faces of each kind pasted a split, and size of a scene.
BUDGETS = {"smoke": (0.3, 1, 2, 40), "full": (0.7, 5, 12, 100)}
#: Scenes of each kind that are drawn.
SHOWN = 2
KINDS = ("learnt", "not learnt")
LAYERS = ("level 1", "level 2", "the top")
#: Angles of the gradient in the maps of edges.
DIRECTIONS = tuple(f"{45 * direction}°" for direction in range(8))


class GrowingRecognition(Claim):
    """Faces and other patches of photographs, learnt, shown again, told apart, and faces found in other photographs.

    The table has one row a number: `quantity`, `at` (a split, a scene, images shown) and `value`; and rows of pictures.
    """

    says: ClassVar[str] = (
        "The Cresceptron (Weng, Ahuja, Huang) recognises objects in photographs and cuts them out. Edges of eight directions "
        "rise through levels of pattern detection and of maximum pooling, which it introduced. It grows: a pattern that none "
        "of its planes matches gets a plane of its own, and what is not recognised a node of its own on top. What it was "
        "recognised by is traced back to the edges of the object."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """30% of the 200 patches learnt and 4 scenes (smoke); or 70%, 5 splits, and 24 scenes of 100 x 100 each (full)."""
        share, splits, pasted, size = BUDGETS[budget]
        images, labels = faces()
        rows: list[dict[str, Any]] = []
        for split in range(splits):
            progress(f"split {split + 1} of {splits}")
            train, test = stratified(labels, 1 - share, rng, "test")
            train = train[torch.randperm(len(train), generator=rng)]
            network = Cresceptron(tuple(images.shape[1:]), 2)
            network.learn(images[train].float(), labels[train])
            rows += _recognition(network, split, (images[train], labels[train]), (images[test], labels[test]))
            for kind, indices in zip(KINDS, (train, test), strict=True):
                shown = images[indices[labels[indices] == FACE][:pasted], 0]
                rows += _scenes(network, shown, size, rng, (kind, split))
        return from_rows([*rows, *_edge_maps(network, images[0])])

    def check(self, table: Table) -> list[Check]:
        """What is grown, recalled, recognised and found."""
        accuracy, whole = numbers(table, "test accuracy"), len(numbers(table, "test accuracy")) > 1
        grown = min(sum(numbers(table, f"planes of {name}").values()) for name in LAYERS)
        mean, known = _mean(accuracy), numbers(table, "recalled").values()
        found = {kind: _mean(numbers(table, f"overlap, {kind}")) for kind in KINDS}
        checks = [
            Check("planes that grew, the level of fewest", grown, 1, float("inf"), "", "lecture.md A4.4"),
            Check("planes that grow when all is shown again", max(numbers(table, "grown again").values()), 0, 0, "", "A4.4"),
            Check("training images recalled", min(known), 1, 1, "share", "lecture.md A4.4"),
            Check("faces against others: test accuracy", mean, 0.9, 1, "share", "lecture.md A4.4; a half is chance"),
            Check("overlap of outline and pasted face, learnt", found["learnt"], 0.5, 1, "IoU", "lecture.md A4.4; mean"),
        ]
        if whole:
            checks.append(Check("the same, faces not learnt", found["not learnt"], 0.5, 1, "IoU", "lecture.md A4.4; mean"))
        return checks

    def draw(self, table: Table) -> list[Block]:
        """How it grew, edges, and what it cut out of scenes."""
        growth = {name: numbers(table, f"growth of {name}") for name in LAYERS}
        shown = list(growth["the top"])
        edges = ["a face", *DIRECTIONS, "no edge"]
        maps = np.stack([picture(table, name) for name in edges])
        scenes = [(f"{kind} {n}", f"{kind}, IoU {value:.2f}") for kind in KINDS for n, value in _first(table, kind)]
        pictures = np.stack([picture(table, name) for name, _ in scenes])
        rows = [
            [split, accuracy, *(numbers(table, f"planes of {name}")[split] for name in LAYERS)]
            for split, accuracy in numbers(table, "test accuracy").items()
        ]
        return [
            lines(
                shown,
                {name: list(values.values()) for name, values in growth.items()},
                x_title="images shown",
                y_title="planes, nodes",
                caption="Growth in the first split. All is gone through until nothing grows; then nothing ever does.",
            ),
            Images(maps, edges, "Edges by the direction of the gradient.", half=True),
            Images(
                pictures,
                [caption for _, caption in scenes],
                "Faces pasted into other photographs, and what was cut out: dark is outside of the outline, white the edges "
                "that the paths from the top led back to.",
                half=True,
            ),
            Cells(
                ["split", "test accuracy", *(f"planes of {name}" for name in LAYERS)],
                rows,
                {"test accuracy": ".3f", **{f"planes of {name}": ".0f" for name in LAYERS}},
            ),
        ]

    def refutation(self) -> Table:
        """A network that does not grow where it should, grows without end, forgets, guesses, and looks elsewhere."""
        rows = [number(f"planes of {name}", split, 0) for split in (0, 1) for name in LAYERS]
        for split in (0, 1):
            rows += [number("grown again", split, 7), number("recalled", split, 0.9), number("test accuracy", split, 0.5)]
        return from_rows([*rows, *(number(f"overlap, {kind}", "0, 0", 0.1) for kind in KINDS)])


def pasted(patch: Tensor, scene: str, size: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A piece (1, size, size) of a photograph with a patch at some place, and the mask of that place."""
    photograph = grey_photograph(scene)
    row, column = (int(torch.randint(length - size + 1, (), generator=rng)) for length in photograph.shape)
    top, left = (int(torch.randint(size - SIZE + 1, (), generator=rng)) for _ in range(2))
    image = photograph[row : row + size, column : column + size].clone()
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[top : top + SIZE, left : left + SIZE] = True
    image[mask] = patch.flatten()
    return image[None], mask


def overlap(one: Tensor, other: Tensor) -> float:
    """Intersection over union of two masks."""
    return float((one & other).sum() / (one | other).sum())


def _recognition(
    network: Cresceptron, split: int, known: tuple[Tensor, Tensor], unknown: tuple[Tensor, Tensor]
) -> Iterator[dict[str, Any]]:
    """How much has grown and grows when all is shown again; shares of the images that are recognised."""
    for column, name in enumerate(LAYERS):
        yield number(f"planes of {name}", split, network.planes[column])
        if split == 0:
            for row in network.growth.tolist():
                yield number(f"growth of {name}", row[0], row[1 + column])
    yield number("grown again", split, sum(network.learn(known[0].float(), known[1])))
    for quantity, (images, labels) in (("recalled", known), ("test accuracy", unknown)):
        right = network.recognise(images.float()).labels == labels
        yield number(quantity, split, float(right.double().mean()))


def _scenes(
    network: Cresceptron, patches: Tensor, size: int, rng: torch.Generator, at: tuple[str, int]
) -> Iterator[dict[str, Any]]:
    """Overlap of what is cut out with what was pasted, face by face; the first of the first split are drawn."""
    kind, split = at
    for n, patch in enumerate(patches):
        image, mask = pasted(patch, SCENES[n % len(SCENES)], size, rng)
        found = network.segment(image.float(), FACE)
        yield number(f"overlap, {kind}", f"{split}, {n}", overlap(found.mask, mask))
        if split == 0 and n < SHOWN:
            yield from picture_rows(f"{kind} {n}", _cut_out(image[0] / 255, found))


def _cut_out(image: Tensor, found: Segmentation) -> Tensor:
    """The image, dark outside of the outline, with the edges that were traced back in white."""
    return torch.where(found.edges, 1.0, torch.where(found.mask, image, image / 3))


def _edge_maps(network: Cresceptron, face: Tensor) -> Iterator[dict[str, Any]]:
    yield from picture_rows("a face", face[0] / 255)
    for name, edges in zip((*DIRECTIONS, "no edge"), network.edges(face[None].float())[0], strict=True):
        yield from picture_rows(name, edges)


def _first(table: Table, kind: str) -> list[tuple[int, float]]:
    """Number of each scene that is drawn, and the overlap there."""
    overlaps = numbers(table, f"overlap, {kind}")
    return [(n, overlaps[f"0, {n}"]) for n in range(SHOWN)]


def _mean(values: Mapping[Any, float]) -> float:
    return sum(values.values()) / len(values)
