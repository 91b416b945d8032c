import math

import pytest
import torch

from deepforward.data.noise import gaussian_noise, salt_and_pepper
from deepforward.errors import InvalidOption


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_gaussian_noise_has_its_deviation_and_stays_within_black_and_white():
    grey = torch.full((100, 100), 0.5)
    noisy = gaussian_noise(grey, 0.1, generator())
    assert noisy.mean().item() == pytest.approx(0.5, abs=0.1 * 5 / 100)  # five standard errors
    assert noisy.std().item() == pytest.approx(0.1, rel=5 / math.sqrt(2 * 10_000))
    bright = gaussian_noise(torch.ones(100, 100), 0.1, generator())
    assert bright.max() == 1
    assert bright.mean().item() == pytest.approx(1 - 0.1 / math.sqrt(2 * math.pi), abs=5 * 0.0584 / 100)  # of min(1, 1 + 0.1 z)


def test_salt_and_pepper_replace_a_share_and_leave_the_rest():
    grey = torch.full((200, 200), 0.5)
    noisy = salt_and_pepper(grey, 0.1, generator())
    shares = {value: (noisy == value).double().mean().item() for value in (0.0, 0.5, 1.0)}
    assert sum(shares.values()) == pytest.approx(1)
    for value in (0.0, 1.0):
        assert shares[value] == pytest.approx(0.05, abs=5 * math.sqrt(0.05 * 0.95 / 40_000))
    assert torch.equal(salt_and_pepper(grey, 0.0, generator()), grey)


@pytest.mark.parametrize("noise", [gaussian_noise, salt_and_pepper])
def test_the_generator_decides(noise):
    grey = torch.full((8, 8), 0.5)
    assert torch.equal(noise(grey, 0.3, generator(1)), noise(grey, 0.3, generator(1)))
    assert not torch.equal(noise(grey, 0.3, generator(1)), noise(grey, 0.3, generator(2)))


def test_impossible_strengths_are_refused():
    with pytest.raises(InvalidOption, match="sigma=-1"):
        gaussian_noise(torch.zeros(2, 2), -1.0, generator())
    with pytest.raises(InvalidOption, match=r"amount=1\.5"):
        salt_and_pepper(torch.zeros(2, 2), 1.5, generator())
