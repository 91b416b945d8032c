"""Generated pages of handwriting, stained, unevenly lit and bled through, with a mask of what is ink."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from deepforward.data.dataset import Split, Splits
from deepforward.data.digits import digits
from deepforward.data.mnist import mnist
from deepforward.data.spec import Range, Seed, Share
from deepforward.errors import DataUnavailable, InvalidData

#: Height and width of a glyph, and from one line to the next and one glyph to the next, in pixels.
_GLYPH, _LINE, _ADVANCE = 28, 32, 20
#: How black a glyph is where there is ink: edges are drawn so that the pen is as wide as it looks.
_INK = 0.3
#: Glyphs that are kept of each split.
_KEPT = {"train": 5000, "test": 1000}

Strength = Annotated[float, Range(0, 3)]


def pages(
    *,
    n: Annotated[int, Range(2, 10**5)] = 120,
    size: Annotated[int, Range(32, 1024)] = 256,
    glyphs: Literal["mnist", "digits"] = "mnist",
    stains: Strength = 1.0,
    bleed: Strength = 1.0,
    noise: Strength = 1.0,
    test: Share = 1 / 6,
    seed: Seed = 0,
) -> Splits:
    """Pages (1, size, size) uint8, dark on light, and masks (size, size) uint8: 1 where there is ink.

    A page is lines of handwritten digits, in an ink whose strength varies from page to page and from line to line; a lighting
    that varies slowly; stains with a darker rim; what is written on the other side, mirrored, blurred and faint; and grain.
    Ink is where a glyph is at least 30% black. Test pages are written with other glyphs than training pages.

    Args:
        n: Number of pages in both splits together.
        size: Height and width in pixels.
        glyphs: `mnist`, or `digits`, which come with scikit-learn, enlarged.
        stains: Strength of stains and lighting; 0 is none, 1 as in the card.
        bleed: Strength of what shines through.
        noise: Strength of the grain.
        test: Share of the pages in the test split.
        seed: Fixes the pages.

    Raises:
        DataUnavailable: MNIST is not on this machine.
        InvalidData: `test` of `n` pages is none, or all.
    """
    held = round(test * n)
    if not 0 < held < n:
        raise InvalidData(f"pages: got n={n} and test={test:g}, which leaves a split empty; raise n")
    rng = torch.Generator().manual_seed(seed)
    sets = _glyphs(glyphs)
    strengths = (stains, bleed, noise)
    train, tested = (_split(count, size, strengths, sets[name], rng) for name, count in (("train", n - held), ("test", held)))
    return Splits(train, tested, ("paper", "ink"))


def _glyphs(name: str) -> dict[str, Float[Tensor, "glyphs height width"]]:
    """Glyphs of 28 x 28 pixels by split, from 0 to 1."""
    try:
        source = mnist() if name == "mnist" else digits()
    except DataUnavailable as error:
        raise DataUnavailable(f"{error}, or take pages?glyphs=digits") from None
    found = {}
    for split, examples in (("train", source.train), ("test", source.test)):
        images = examples.inputs[: _KEPT[split]].float() / (255.0 if name == "mnist" else 16.0)
        if name == "digits":
            images = functional.pad(functional.interpolate(images, (20, 20), mode="bicubic"), (4, 4, 4, 4)).clamp(0, 1)
        found[split] = images[:, 0]
    return found


def _split(count: int, size: int, strengths: tuple[float, float, float], glyphs: Tensor, rng: torch.Generator) -> Split:
    made = [_page(size, strengths, glyphs, rng) for _ in range(count)]
    return Split(torch.stack([page for page, _ in made]), torch.stack([mask for _, mask in made]))


def _page(
    size: int, strengths: tuple[float, float, float], glyphs: Tensor, rng: torch.Generator
) -> tuple[UInt8[Tensor, "1 size size"], UInt8[Tensor, "size size"]]:
    stains, bleed, noise = strengths
    text = _text(size, glyphs, rng)
    behind = _blurred(_text(size, glyphs, rng)).flip(1)
    paper = _uniform(190, 235, rng) - stains * (_lighting(size, rng) + _stains(size, rng))
    contrast = _uniform(85, 140, rng) * _waver(size, rng)
    through = bleed * _uniform(0.1, 0.28, rng) * contrast * behind
    values = paper - torch.maximum(contrast * _blurred(text, 0.6), through)
    values += noise * _uniform(2, 6, rng) * torch.randn(size, size, generator=rng)
    return values.round().clamp(0, 255).to(torch.uint8)[None], (text >= _INK).to(torch.uint8)


def _text(size: int, glyphs: Tensor, rng: torch.Generator) -> Float[Tensor, "size size"]:
    """Lines of glyphs with gaps between words, how black each pixel is; a pixel under two glyphs is as black as the blacker."""
    sheet = torch.zeros(size + 2 * _GLYPH, size + 2 * _GLYPH)
    rows = range(_GLYPH + int(_uniform(-8, 8, rng)), size + _GLYPH, _LINE)
    columns = range(_GLYPH + int(_uniform(-8, 8, rng)), size + _GLYPH, _ADVANCE)
    shape = (len(rows), len(columns))
    chosen = torch.randint(len(glyphs), shape, generator=rng)
    is_gap = torch.rand(shape, generator=rng) < 0.2
    jitter = torch.randint(-2, 3, (*shape, 2), generator=rng)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if not is_gap[i, j]:
                y, x = row + int(jitter[i, j, 0]), column + int(jitter[i, j, 1])
                place = sheet[y : y + _GLYPH, x : x + _GLYPH]
                torch.maximum(place, glyphs[chosen[i, j]][: place.shape[0], : place.shape[1]], out=place)
    return sheet[_GLYPH:-_GLYPH, _GLYPH:-_GLYPH]


def _waver(size: int, rng: torch.Generator) -> Float[Tensor, "size 1"]:
    """How strong the ink of each row is: a smooth factor between 0.7 and 1."""
    knots = 0.7 + 0.3 * torch.rand(1, 1, max(size // _LINE, 2), generator=rng)
    return functional.interpolate(knots, size, mode="linear", align_corners=True)[0, 0, :, None]


def _lighting(size: int, rng: torch.Generator) -> Float[Tensor, "size size"]:
    """How much darker than in the best place it is, in grey levels: a slope and smooth waves."""
    slope = torch.linspace(0, 1, size)
    turn = torch.rand(2, generator=rng) * 35
    waves = functional.interpolate(10 * torch.randn(1, 1, 4, 4, generator=rng), (size, size), mode="bicubic")[0, 0]
    field = turn[0] * slope[:, None] + turn[1] * slope + waves
    return field - field.min()


def _stains(size: int, rng: torch.Generator) -> Float[Tensor, "size size"]:
    """How much darker stains are than the paper, in grey levels: a few ellipses with a soft and darker rim."""
    y, x = torch.meshgrid(*2 * (torch.arange(size, dtype=torch.float32),), indexing="ij")
    field = torch.zeros(size, size)
    for _ in range(int(torch.randint(2, 6, (), generator=rng))):
        (
            cy,
            cx,
        ) = (_uniform(0, size, rng) for _ in range(2))
        ry, rx = (_uniform(0.06, 0.22, rng) * size for _ in range(2))
        inside = 1 - (((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2).sqrt()  # 1 in the middle, 0 on the rim
        field += _uniform(10, 42, rng) * ((12 * inside).sigmoid() + 0.4 * (-((12 * inside) ** 2)).exp())
    return field


def _blurred(image: Float[Tensor, "size size"], sigma: float = 1.2) -> Float[Tensor, "size size"]:
    """Convolved with a Gaussian, the page going on beyond its edge as at it."""
    reach = int(3 * sigma + 0.5)
    kernel = (-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2)).exp()
    kernel /= kernel.sum()
    padded = functional.pad(image[None, None], 4 * (reach,), mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])[0, 0]


def _uniform(low: float, high: float, rng: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))
