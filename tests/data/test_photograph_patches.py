import pytest
import torch
from scipy.ndimage import gaussian_filter

from deepforward.data import load
from deepforward.data.photograph_patches import HELD_OUT, TEXTURES, draw_patches
from deepforward.data.photographs import grey_photograph
from deepforward.errors import InvalidOption
from deepforward.shallow.image_processing import edges


def grey(name):
    return grey_photograph(name).float() / 255


def test_patches_are_parts_of_the_images_in_all_eight_positions():
    image = torch.arange(7 * 9).reshape(1, 7, 9)
    patches = draw_patches([image], 3, 500, torch.Generator().manual_seed(0))
    parts = [image[:, y : y + 3, x : x + 3] for y in range(5) for x in range(7)]
    positions = {
        tuple((turned.flip(2) if mirrored else turned).flatten().tolist())
        for part in parts
        for k in range(4)
        for turned in [torch.rot90(part, k, (1, 2))]
        for mirrored in (False, True)
    }
    drawn = {tuple(patch.flatten().tolist()) for patch in patches}
    assert drawn <= positions
    assert len(drawn) > 200  # of 280


def test_noisy_photographs_are_noisy_and_their_targets_are_tiles_of_held_out_ones():
    data = load("noisy-photographs?sigma=0.05&n=40&patch=32")
    assert data.task == "image-regression"
    assert data.train.inputs.shape == data.train.targets.shape == (40, 1, 32, 32)
    camera = grey("camera")
    assert torch.equal(data.test.targets[0, 0], camera[:32, :32])
    assert torch.equal(data.test.targets[17, 0], camera[32:64, 32:64])
    noise = data.test.inputs - data.test.targets
    inside = (data.test.targets > 0.3) & (data.test.targets < 0.7)
    assert noise[inside].std().item() == pytest.approx(0.05, rel=0.02)  # 1e5 pixels: standard error 0.2%


def test_held_out_photographs_are_in_no_training_patch():
    data = load("noisy-photographs?sigma=0&n=100&patch=64")
    levels = {tuple((255 * patch.flatten()[:64]).round().int().tolist()) for patch in data.train.targets}
    for name in HELD_OUT:
        rows = grey_photograph(name).unfold(1, 64, 1).reshape(-1, 64).int()
        assert levels.isdisjoint(map(tuple, rows[::7].tolist()))
    assert torch.equal(data.train.inputs, data.train.targets)


def test_blurred_photographs_are_blurred_as_wholes():
    data = load("noisy-photographs?sigma=0&blur=1.5&n=4&patch=32")
    blurred = torch.from_numpy(gaussian_filter(grey("camera").numpy(), 1.5, mode="nearest"))
    assert torch.equal(data.test.inputs[17, 0], blurred[32:64, 32:64])


def test_edges_are_cannys_of_the_whole_photograph():
    data = load("photograph-edges?n=20&patch=64")
    assert data.task == "segmentation"
    assert torch.equal(data.test.targets[9].bool(), edges(grey("camera"), "canny")[64:128, 64:128])


def test_mosaics_consist_of_the_textures_their_masks_name():
    data = load("texture-mosaics?size=16&n=12&test=4&places=2")
    assert data.classes == TEXTURES
    for split, side in ((data.train, slice(0, 256)), (data.test, slice(256, None))):
        for image, mask in zip(split.inputs, split.targets, strict=True):
            assert len(mask.unique()) == 2
            for texture in mask.unique().tolist():
                levels = set(grey_photograph(TEXTURES[texture])[:, side].unique().tolist())
                assert set((255 * image[0][mask == texture]).round().int().tolist()) <= levels


def test_the_same_seed_gives_the_same_patches():
    first, again, other = (load(f"noisy-photographs?n=6&patch=16&seed={seed}") for seed in (1, 1, 2))
    assert torch.equal(first.train.inputs, again.train.inputs)
    assert torch.equal(first.test.inputs, again.test.inputs)
    assert not torch.equal(first.train.inputs, other.train.inputs)


def test_patches_larger_than_a_photograph_are_refused():
    with pytest.raises(InvalidOption, match="patch=500"):
        load("noisy-photographs?patch=500")
