import base64
import io

import numpy as np
import pytest
from PIL import Image

from deepforward.errors import ShapeError
from deepforward.report import Images
from deepforward.report.images import MAX_IMAGES, PIXEL_BUDGET, data_uris, montage


def decoded(grid: Images) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))) for uri, _ in data_uris(grid)]


def test_bytes_are_kept_exactly():
    rng = np.random.default_rng(0)
    grey, color = (rng.integers(0, 256, (3, channels, 5, 7), dtype=np.uint8) for channels in (1, 3))
    assert all((image == pixels[0]).all() for image, pixels in zip(decoded(Images(grey)), grey, strict=True))
    assert all((image == pixels.transpose(1, 2, 0)).all() for image, pixels in zip(decoded(Images(color)), color, strict=True))


def test_contrast_together_and_each():
    pixels = np.array([[[[0.0, 1.0]]], [[[2.0, 4.0]]]])
    assert [image.tolist() for image in decoded(Images(pixels))] == [[[0, 64]], [[128, 255]]]
    assert [image.tolist() for image in decoded(Images(pixels, contrast="each"))] == [[[0, 255]], [[0, 255]]]


def test_other_numbers_of_channels_are_laid_side_by_side():
    pixels = np.arange(8, dtype=np.uint8).reshape(1, 2, 2, 2)
    assert decoded(Images(pixels))[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_what_is_not_finite_is_black():
    pixels = np.array([[[[np.nan, np.inf, -np.inf, 1.0, 3.0]]]])
    assert decoded(Images(pixels))[0].tolist() == [[0, 0, 0, 0, 255]]
    assert decoded(Images(np.full((1, 1, 1, 2), np.nan), contrast="each"))[0].tolist() == [[0, 0]]


def test_constant_images_and_empty_grids():
    assert decoded(Images(np.ones((1, 1, 1, 2))))[0].tolist() == [[0, 0]]
    assert decoded(Images(np.zeros((0, 1, 2, 2)))) == []


def test_many_large_photographs_stay_within_the_budget():
    pixels = np.random.default_rng(0).integers(0, 256, (200, 3, 160, 240), dtype=np.uint8)
    uris = [uri for uri, _ in data_uris(Images(pixels))]
    assert len(uris) == MAX_IMAGES
    assert sum(map(len, uris)) < 1.6 * PIXEL_BUDGET  # noise does not compress; base64 and headers add to it
    (_, (width, height)), *_ = data_uris(Images(pixels))
    assert abs(width / height - 1.5) < 0.05


def test_a_montage_lays_images_in_rows_with_grey_between():
    pixels = np.stack([np.full((1, 32, 40), value, np.uint8) for value in (10, 20, 30)])
    sheet = np.asarray(Image.open(io.BytesIO(montage(pixels, 2))))
    assert sheet.shape == (32 + 2 + 32, 40 + 2 + 40)
    assert [sheet[0, 0], sheet[0, 42], sheet[34, 0], sheet[34, 42], sheet[0, 41], sheet[33, 0]] == [10, 20, 30, 128, 128, 128]


def test_small_images_of_a_montage_are_magnified_and_colour_is_kept():
    pixels = np.arange(2 * 3 * 8 * 8, dtype=np.uint8).reshape(2, 3, 8, 8)
    sheet = np.asarray(Image.open(io.BytesIO(montage(pixels, 9))))
    assert sheet.shape == (32, 32 + 2 + 32, 3)
    assert (sheet[4:8, 8:12] == pixels[0, :, 1, 2]).all()


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (2, 2, 8, 8), (8, 8)])
def test_what_is_no_row_of_images_makes_no_montage(shape):
    with pytest.raises(ShapeError, match="expected"):
        montage(np.zeros(shape, np.uint8), 2)
