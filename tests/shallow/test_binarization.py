"""Thresholds against explicit loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepforward.errors import InvalidOption
from deepforward.shallow.binarization import niblack, otsu, sauvola

PAGE = torch.randint(256, (14, 17), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
WINDOW = 5


def windows() -> dict[tuple[int, int], np.ndarray]:
    """The window around each pixel, the page mirrored at its edge."""
    padded = np.pad(PAGE.numpy().astype(np.float64), WINDOW // 2, mode="reflect")
    return {(y, x): padded[y : y + WINDOW, x : x + WINDOW] for y in range(14) for x in range(17)}


def test_niblack_is_mean_less_deviations() -> None:
    expected = [[float(PAGE[y, x]) < (w := windows()[y, x]).mean() - 0.8 * w.std() for x in range(17)] for y in range(14)]
    assert torch.equal(niblack(PAGE, WINDOW, 0.8), torch.tensor(expected))


def test_sauvola_lowers_the_mean_where_there_is_no_contrast() -> None:
    expected = [
        [float(PAGE[y, x]) < (w := windows()[y, x]).mean() * (1 + 0.2 * (w.std() / 128 - 1)) for x in range(17)]
        for y in range(14)
    ]
    assert torch.equal(sauvola(PAGE, WINDOW, 0.2), torch.tensor(expected))


def test_otsu_is_the_best_of_all_thresholds() -> None:
    values = PAGE.double().flatten()

    def between(threshold: int) -> float:
        dark, light = values[values <= threshold], values[values > threshold]
        return len(dark) * len(light) * float(dark.mean() - light.mean()) ** 2 if len(dark) and len(light) else 0.0

    best = max(range(256), key=between)
    assert between(int(PAGE[otsu(PAGE)].max())) == pytest.approx(between(best), rel=1e-12)


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_a_blank_page_has_no_ink(shade: int) -> None:
    blank = torch.full((9, 9), shade, dtype=torch.uint8)
    assert not otsu(blank).any()
    assert not sauvola(blank, 5).any()


@pytest.mark.parametrize("window", [0, 1, 4])
def test_windows_have_a_middle(window: int) -> None:
    with pytest.raises(InvalidOption, match=f"got window={window}; expected an odd number"):
        niblack(PAGE, window)
