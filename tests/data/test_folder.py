"""Folders of images: every mode a camera or a program writes, the cache, and what is refused."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepforward.data import folder as module
from deepforward.data import images, load
from deepforward.errors import CorruptData, DataUnavailable, DeepforwardWarning, InvalidData, InvalidOption


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "deepforward" / "images"


def write(root, count=4, size=(6, 5), classes=("cat", "dog"), mode="RGB"):
    for index, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new(mode, size, 10 * index + number if mode == "L" else (10 * index, number, 7)).save(
                root / name / f"{number}.png"
            )
    return root


@pytest.fixture
def pets(tmp_path):
    return write(tmp_path / "pets")


def test_pixels_names_and_split(pets):
    data = load(f"folder:{pets}")
    assert (data.shape, data.train.inputs.dtype, data.classes) == ((3, 5, 6), torch.uint8, ("cat", "dog"))
    assert torch.bincount(data.train.targets).tolist() == [3, 3] and torch.bincount(data.test.targets).tolist() == [1, 1]
    for split in (data.train, data.test):
        assert torch.equal(split.inputs[:, 0, 2, 2], (10 * split.targets).to(torch.uint8))
    greens = torch.cat((data.train.inputs[:, 1, 0, 0], data.test.inputs[:, 1, 0, 0]))
    assert sorted(greens.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_folders_train_and_test_are_kept(tmp_path):
    write(tmp_path / "pets" / "train", count=5)
    write(tmp_path / "pets" / "val", count=2, classes=("dog",))
    data = load(f"folder:{tmp_path / 'pets'}")
    assert (len(data.train), data.test.targets.tolist()) == (10, [1, 1])
    write(tmp_path / "pets" / "val", count=1, classes=("yak",))
    with pytest.raises(InvalidData, match=r"val/yak: got a class that the train folder lacks, expected one of cat, dog"):
        load(f"folder:{tmp_path / 'pets'}")


def test_a_train_folder_alone_is_split(tmp_path):
    write(tmp_path / "pets" / "train")
    assert len(load(f"folder:{tmp_path / 'pets'}").test) == 2


def test_one_grey_channel_only_if_all_are_grey(tmp_path):
    root = write(tmp_path / "grey", mode="L")
    assert load(f"folder:{root}").shape == (1, 5, 6)
    assert load(f"folder:{root}?mode=RGB").shape == (3, 5, 6)
    Image.new("RGB", (6, 5)).save(root / "cat" / "0.png")
    assert load(f"folder:{root}").shape == (3, 5, 6)
    assert load(f"folder:{root}?mode=L").shape == (1, 5, 6)


@pytest.mark.parametrize(
    ("size", "shape"), [("8", (8, 8)), ("4x9", (4, 9)), ("auto", (5, 5))], ids=["square", "oblong", "median of shorter sides"]
)
def test_sizes(pets, size, shape):
    Image.new("RGB", (40, 30)).save(pets / "cat" / "0.png")
    assert load(f"folder:{pets}?size={size}").shape[1:] == shape


def test_large_images_of_one_size_are_made_smaller(tmp_path):
    assert load(f"folder:{write(tmp_path / 'big', size=(300, 260))}").shape == (3, 224, 224)


@pytest.mark.parametrize("size", ["0", "-3", "8x", "8x0", "wide", "nan", "1025", "8x9999", "999999"])
def test_wrong_sizes(pets, size):
    with pytest.raises(InvalidOption, match=f"got size={size}, expected auto, PIXELS or HEIGHTxWIDTH"):
        load(f"folder:{pets}?size={size}")


def decode(path, is_grey=False):
    height, width, _ = images.describe(path)
    return images.decode(path, height, width, is_grey=is_grey)


def test_transparency_is_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    for name in ("rgba.png", "palette.png"):
        (image if name == "rgba.png" else image.quantize()).save(tmp_path / name)
        assert decode(tmp_path / name)[:, 0].T.tolist() == [[200, 0, 0], [255, 255, 255]]


def test_palettes_have_their_colours(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 90, 80, 70])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.gif")
    assert decode(tmp_path / "p.gif")[:, 0].T.tolist() == [[1, 2, 3], [90, 80, 70]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_become_eight(tmp_path, suffix):
    values = np.array([[0, 255, 256, 65535, 0x1234]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"i16.{suffix}")
    assert decode(tmp_path / f"i16.{suffix}", is_grey=True)[0].tolist() == [[0, 0, 1, 255, 0x12]]
    assert images.describe(tmp_path / f"i16.{suffix}") == (1, 5, True)


@pytest.mark.parametrize(("mode", "white"), [("1", 1), ("LA", (255, 255)), ("CMYK", (0, 0, 0, 0)), ("YCbCr", (255, 128, 128))])
def test_other_modes_decode(tmp_path, mode, white):
    Image.new(mode, (3, 2), white).save(tmp_path / "image.tif")
    assert (decode(tmp_path / "image.tif") == 255).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_orientation_is_applied(tmp_path, suffix):
    upright = np.zeros((40, 24), dtype=np.uint8)
    upright[:16] = 240
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rows as stored are columns as seen
    Image.fromarray(np.rot90(upright)).save(tmp_path / f"turned.{suffix}", exif=exif)
    assert images.describe(tmp_path / f"turned.{suffix}")[:2] == (40, 24)
    pixels = decode(tmp_path / f"turned.{suffix}", is_grey=True)[0].astype(int)
    assert np.abs(pixels - upright).mean() < 2  # JPEG is not exact


def test_images_are_cropped_in_the_middle(tmp_path):
    image = Image.new("L", (30, 10), 255)
    image.paste(100, (10, 0, 20, 10))
    image.save(tmp_path / "wide.png")
    assert (images.decode(tmp_path / "wide.png", 10, 10, is_grey=True) == 100).all()


def test_a_second_load_decodes_nothing(pets, monkeypatch):
    first = load(f"folder:{pets}")
    monkeypatch.setattr(module, "decode", pytest.fail)
    second = load(f"folder:{pets}")
    assert torch.equal(first.train.inputs, second.train.inputs) and torch.equal(first.test.inputs, second.test.inputs)


def test_a_changed_file_or_option_decodes_anew_and_forgets(pets, cache):
    load(f"folder:{pets}")
    load(f"folder:{pets}?size=3")
    assert len(list(cache.iterdir())) == 2
    before = set(cache.iterdir())
    Image.new("RGB", (6, 5), "white").save(pets / "dog" / "2.png")
    data = load(f"folder:{pets}")
    assert int((data.train.inputs == 255).sum() + (data.test.inputs == 255).sum()) >= 3 * 5 * 6
    assert len(list(cache.iterdir())) == 2 and len(before & set(cache.iterdir())) == 1


def test_writing_to_pixels_leaves_the_cache_alone(pets):
    load(f"folder:{pets}").train.inputs.fill_(255)
    assert not (load(f"folder:{pets}").train.inputs == 255).all()


@pytest.mark.parametrize("cut", [0, 20, 100])
def test_a_broken_cache_is_replaced(pets, cache, cut):
    whole = load(f"folder:{pets}").train.inputs.clone()
    (entry,) = cache.iterdir()
    entry.write_bytes(entry.read_bytes()[:cut])
    assert torch.equal(load(f"folder:{pets}").train.inputs, whole)


def test_without_a_cache_images_are_held_in_memory(pets, cache, monkeypatch):
    cache.parent.mkdir(parents=True)
    cache.write_text("in the way")
    with pytest.warns(DeepforwardWarning, match="cannot be cached"):
        assert len(load(f"folder:{pets}").train) == 6
    cache.unlink()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.warns(DeepforwardWarning, match=os.strerror(errno.ENOSPC)):
        assert len(load(f"folder:{pets}").train) == 6
    assert not list(cache.iterdir())


def test_a_failed_decoding_leaves_no_cache_and_names_the_file(pets, cache):
    broken = pets / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:45])
    with pytest.raises(CorruptData) as caught:
        load(f"folder:{pets}")
    assert str(broken) in str(caught.value) and "\n" not in str(caught.value)
    assert not cache.exists() or not list(cache.iterdir())


def test_a_text_called_png_is_named(pets):
    (pets / "dog" / "1.png").write_text("no image")
    with pytest.raises(CorruptData, match=r"dog/1\.png: got a file that is no image"):
        load(f"folder:{pets}")


def test_a_file_that_the_system_refuses_is_not_called_broken(pets):
    (pets / "dog" / "9.png").mkdir()
    with pytest.raises(DataUnavailable, match=r"dog/9\.png: cannot be read \(Is a directory\)"):
        load(f"folder:{pets}")


def test_32_bits_a_pixel_are_refused(pets):
    Image.new("F", (6, 5)).save(pets / "dog" / "a.tif")
    with pytest.raises(InvalidData, match=r"dog/a\.tif: got 32 bits a pixel"):
        load(f"folder:{pets}")


def test_other_files_are_left_alone(pets):
    (pets / "README.txt").write_text("read me")
    (pets / ".hidden").mkdir()
    (pets / "dog" / "notes.txt").write_text("bark")
    (pets / "dog" / "._0.png").write_text("what some systems leave behind")
    assert len(load(f"folder:{pets}").train) == 6


def test_a_missing_folder_one_class_and_no_images(tmp_path):
    with pytest.raises(DataUnavailable, match="no such folder"):
        load(f"folder:{tmp_path / 'none'}")
    with pytest.raises(InvalidData, match="got the class folder cat only, expected at least 2"):
        load(f"folder:{write(tmp_path / 'one', classes=('cat',))}")
    (tmp_path / "one" / "dog").mkdir()
    with pytest.raises(DataUnavailable, match=r"one/dog: got no images"):
        load(f"folder:{tmp_path / 'one'}")


def test_too_few_images_to_split(tmp_path):
    few = write(tmp_path / "few", count=1)
    (few / "cat" / "0.png").write_text("never decoded")
    with pytest.raises(InvalidData, match=r"got 2 examples, too few to hold out test=0\.25 of each class"):
        load(f"folder:{few}")


def test_a_cache_that_another_process_wrote_meanwhile_is_never_missing(pets, cache, monkeypatch):
    load(f"folder:{pets}")
    (written,) = cache.glob("*.npy")
    mapped, replace, misses, present = module._mapped, Path.replace, iter([True]), []

    def missed_at_first(path, count):
        if next(misses, False):
            raise ValueError
        return mapped(path, count)

    def watched(self, target):
        present.append(written.exists())
        return replace(self, target)

    monkeypatch.setattr(module, "_mapped", missed_at_first)
    monkeypatch.setattr(Path, "replace", watched)
    load(f"folder:{pets}")
    assert present == [True]


def test_two_at_once_make_one_whole_cache(pets):
    results = []
    threads = [threading.Thread(target=lambda: results.append(load(f"folder:{pets}").train.inputs.clone())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all(torch.equal(results[0], other) for other in results)
