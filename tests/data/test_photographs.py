import numpy as np
import pytest
import torch
from PIL import Image

from deepforward.data.photographs import PHOTOGRAPHS, faces, grey_photograph, photograph
from deepforward.errors import MissingExtra, UnknownName


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_every_photograph_is_there_without_a_download(name):
    pixels = photograph(name)
    assert pixels.dtype == torch.uint8
    assert pixels.shape[0] in (1, 3)
    assert min(pixels.shape[1:]) > 100


def test_grey_is_luminance_as_pillow_has_it():
    pixels = photograph("astronaut")
    pillow = np.asarray(Image.fromarray(pixels.permute(1, 2, 0).numpy()).convert("L"))
    apart = (grey_photograph("astronaut").int() - torch.from_numpy(pillow.copy()).int()).abs()
    assert apart.max() <= 1  # Pillow cuts what we round
    assert torch.equal(grey_photograph("camera"), photograph("camera")[0])


def test_faces_come_first():
    patches, labels = faces()
    assert patches.shape == (200, 1, 25, 25)
    assert labels.tolist() == [1] * 100 + [0] * 100


def test_unknown_names_get_their_neighbours():
    with pytest.raises(UnknownName, match="camera"):
        photograph("kamera")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage.data", None)
    with pytest.raises(MissingExtra, match="deepforward\\[images\\]"):
        photograph("camera")
