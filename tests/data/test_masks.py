"""Folders of images and masks: every way in which a class is written, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from deepforward.data import load
from deepforward.errors import CorruptData, DataUnavailable, InvalidData, InvalidOption


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


INDICES = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [2, 2, 255, 1]], np.uint8)
COLOURS = np.array([[10, 20, 30], [255, 0, 0], [0, 0, 255]], np.uint8)


def palette(indices):
    image = Image.fromarray(indices)
    image.putpalette([value % 256 for value in range(0, 768)])
    assert image.mode == "P"
    return image


def write(root, masks, image_size=None):
    """An image (of its own brightness) for each mask."""
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    for number, mask in enumerate(masks):
        mask.save(root / "masks" / f"{number}.png")
        Image.new("L", image_size or mask.size, 10 * number).save(root / "images" / f"{number}.bmp")
    return root


def loaded(root, options="?size=3x4"):
    data = load(f"masks:{root}{options}")
    inputs, masks = (torch.cat((getattr(data.train, a), getattr(data.test, a))) for a in ("inputs", "targets"))
    order = inputs[:, 0, 0, 0].argsort()
    return data, masks[order].numpy()


@pytest.mark.parametrize("kind", ["palette", "grey", "sixteen bits", "grey with alpha"])
def test_class_indices_of_every_kind_of_file(tmp_path, kind):
    make = {
        "palette": palette,
        "grey": Image.fromarray,
        "sixteen bits": lambda indices: Image.fromarray(indices.astype(np.uint16)),
        "grey with alpha": lambda indices: Image.merge("LA", (Image.fromarray(indices), Image.new("L", (4, 3), 90))),
    }[kind]
    masks = [INDICES, INDICES[::-1].copy(), INDICES.clip(max=2)]
    data, found = loaded(write(tmp_path / "d", [make(mask) for mask in masks]))
    assert (data.task, data.classes, data.shape) == ("segmentation", ("0", "1", "2"), (1, 3, 4))
    assert np.array_equal(found, np.stack(masks))


def test_values_that_are_far_apart_are_classes_in_their_order(tmp_path):
    values = np.array([[0, 1000, 40000, 255]] * 3, np.uint16)
    data, found = loaded(write(tmp_path / "d", [Image.fromarray(values)] * 3))
    assert data.classes == ("0", "1000", "40000")
    assert found[0].tolist() == [[0, 1, 2, 255]] * 3


@pytest.mark.parametrize("has_names", [False, True])
def test_black_and_white_are_two_classes(tmp_path, has_names):
    root = write(tmp_path / "d", [Image.fromarray(np.uint8([[0, 255, 255, 0]] * 3))] * 3)
    if has_names:
        (root / "classes.txt").write_text("paper\nink\n")
    data, found = loaded(root)
    assert data.classes == (("paper", "ink") if has_names else ("0", "255"))
    assert found[0].tolist() == [[0, 1, 1, 0]] * 3
    bits = write(tmp_path / "e", [Image.fromarray(np.uint8([[0, 255, 255, 0]] * 3)).convert("1")] * 3)
    assert np.array_equal(loaded(bits)[1], found)


def test_colours_are_classes_by_name_or_as_they_occur(tmp_path):
    which = np.array([[0, 1, 2, 1]] * 3)
    root = write(tmp_path / "d", [Image.fromarray(COLOURS[which])] * 3)
    data, found = loaded(root)
    assert data.classes == ("#0000ff", "#0a141e", "#ff0000")
    assert found[0].tolist() == [[1, 2, 0, 2]] * 3
    (root / "classes.txt").write_text("road way #0A141E\nignored #ff0000\n\nsky #0000ff\n")
    data, found = loaded(root)
    assert data.classes == ("road way", "sky")
    assert found[0].tolist() == [[0, 255, 1, 255]] * 3
    (root / "classes.txt").write_text("road\nsky\n")
    with pytest.raises(InvalidData, match=r"classes.txt: got 'road', expected NAME #RRGGBB since masks are in colours"):
        loaded(root)
    (root / "classes.txt").write_text("road #0a141e\nsky #0000ff\n")
    with pytest.raises(InvalidData, match=r"masks/0.png: got the colour #ff0000, expected a colour that classes.txt has"):
        loaded(root)


def test_names_and_an_index_without_one(tmp_path):
    root = write(tmp_path / "d", [Image.fromarray(INDICES)] * 3)
    (root / "classes.txt").write_text("ground\ncat\nsmall dog\nhorse\n", encoding="utf-8")
    data, found = loaded(root)
    assert data.classes == ("ground", "cat", "small dog", "horse") and np.array_equal(found[0], INDICES)
    (root / "classes.txt").write_text("ground\ncat\n")
    with pytest.raises(InvalidData, match=r"got the value 2, expected 0 to 1 for the lines of classes.txt, or 255; correct"):
        loaded(root)
    (root / "classes.txt").write_text("ground\n")
    with pytest.raises(InvalidData, match="got 1 classes, expected 2 to 255"):
        loaded(root)


def test_masks_are_cropped_and_resized_as_their_images_are(tmp_path):
    """Each image shows its own mask, so that resized image and resized mask must tell the same."""
    rng = np.random.default_rng(0)
    masks = [np.kron(rng.integers(0, 2, (4, 8)), np.ones((5, 5), int)).astype(np.uint8) for _ in range(4)]
    root = write(tmp_path / "d", [Image.fromarray(mask) for mask in masks])
    for number, mask in enumerate(masks):
        Image.fromarray(200 * mask).save(root / "images" / f"{number}.bmp")
    data = load(f"masks:{root}?size=60x60&mode=RGB")  # a square from the middle, three times as large
    assert data.shape == (3, 60, 60)
    agree = ((data.train.inputs[:, 0] > 100) == data.train.targets.bool()).float().mean()
    assert agree > 0.97  # at edges a pixel between two is rounded


def test_folders_train_and_test_are_kept_and_names_may_have_folders(tmp_path):
    for part, count in (("train", 3), ("val", 2)):
        write(tmp_path / "d" / part, [Image.fromarray(INDICES.clip(max=2))] * count)
    for part in ("images", "masks"):
        deep = tmp_path / "d" / "train" / part / "town"
        deep.mkdir()
        Image.fromarray(INDICES).save(deep / "0.png")
    data = load(f"masks:{tmp_path / 'd'}")
    assert (len(data.train), len(data.test)) == (4, 2)


def test_what_does_not_fit_is_refused_in_a_line(tmp_path):
    root = write(tmp_path / "d", [Image.fromarray(INDICES)] * 3)
    (root / "masks" / "1.png").rename(root / "masks" / "one.png")
    with pytest.raises(InvalidData, match=r"images/1.bmp: got no mask '1' in .*masks, expected one; add it or remove the file"):
        loaded(root)
    (root / "images" / "1.bmp").unlink()
    with pytest.raises(InvalidData, match=r"masks/one.png: got no image 'one' in .*images"):
        loaded(root)
    (root / "masks" / "one.png").unlink()
    Image.fromarray(INDICES[:2]).save(root / "masks" / "2.png")
    with pytest.raises(InvalidData, match=r"2.png: got a mask of 2x4 pixels, expected 3x4 as 2.bmp has; make it the size"):
        loaded(root)
    Image.fromarray(INDICES).save(root / "images" / "2.png")
    with pytest.raises(InvalidData, match=r"2.png: got a second file named '2', expected one beside 2.bmp"):
        loaded(root)
    (root / "images" / "2.png").unlink()
    (root / "masks" / "2.png").write_bytes(b"no image")
    with pytest.raises(CorruptData, match=r"2.png: got a file that is no image"):
        loaded(root)


def test_a_lossy_mask_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    root = write(tmp_path / "d", [Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8))] * 3)
    with pytest.raises(InvalidData, match=r"got \d+ colours in masks, expected at most 255 classes; save masks without loss"):
        loaded(root)


def test_missing_folders_and_sizes_that_are_none(tmp_path):
    with pytest.raises(DataUnavailable, match="no such folder; write masks:DIR"):
        load(f"masks:{tmp_path / 'nowhere'}")
    (tmp_path / "d" / "images").mkdir(parents=True)
    with pytest.raises(DataUnavailable, match="d/images: got no images"):
        load(f"masks:{tmp_path / 'd'}")
    with pytest.raises(InvalidOption, match="masks: got size=big"):
        load(f"masks:{tmp_path / 'd'}?size=big")
