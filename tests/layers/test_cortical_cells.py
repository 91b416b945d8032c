import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepforward.errors import InvalidOption, ShapeError
from deepforward.layers.cortical_cells import ComplexCells, SimpleCells, gabor, grating, orientation_tuning, tuning_width

DOUBLE = torch.float64


def phases(cells, orientation, count=16, wavelength=8.0):
    side = 25
    waves = [grating(side, wavelength, orientation, 2 * math.pi * p / count, DOUBLE) for p in range(count)]
    return cells(torch.stack(waves)[:, None], padding="valid")[..., 0, 0]


@settings(deadline=None, max_examples=30)
@given(st.floats(2.5, 12), st.floats(0, math.pi), st.floats(-math.pi, math.pi), st.floats(1, 5))
def test_a_receptive_field_sums_to_zero_and_is_a_wave_under_a_gaussian(wavelength, orientation, phase, width):
    field = gabor(wavelength, orientation, phase, width, DOUBLE)
    reach = len(field) // 2
    assert field.shape == (2 * math.ceil(3 * width) + 1,) * 2
    assert abs(float(field.sum())) < 1e-15 * field.numel()  # float64
    # at the formula, by hand, but for the constant that makes the sum zero: differences to the middle, without the Gaussian
    scale = 2 * math.pi * width**2
    for y, x in ((0, 1), (1, 0), (-1, 2)):
        across = x * math.cos(orientation) + y * math.sin(orientation)
        without = float(field[reach + y, reach + x]) * scale * math.exp((x * x + y * y) / (2 * width**2))
        middle = float(field[reach, reach]) * scale
        wanted = math.cos(2 * math.pi * across / wavelength - phase) - math.cos(phase)
        assert without - middle == pytest.approx(wanted, abs=1e-12)


def test_even_fields_are_even_and_odd_ones_odd():
    even, odd = (gabor(8, 0.3, phase, 4, DOUBLE) for phase in (0, math.pi / 2))
    assert torch.allclose(even, even.flip(0, 1), rtol=0, atol=1e-15)
    assert torch.allclose(odd, -odd.flip(0, 1), rtol=0, atol=1e-15)


def test_simple_cells_follow_the_phase_and_complex_ones_do_not():
    simple, complex_ = SimpleCells(4, 4, dtype=DOUBLE), ComplexCells(4, dtype=DOUBLE)
    for k in range(4):
        linear = phases(simple.linear, k * math.pi / 4)[:, k, 0]
        wanted = 0.4973 * torch.cos(2 * math.pi * torch.arange(16, dtype=DOUBLE) / 16)
        # half the Gaussian's mass within three widths, 0.9973^2 / 2; sums over pixels, not an integral
        assert torch.allclose(linear, wanted, rtol=0, atol=2e-3)
        energy = phases(complex_, k * math.pi / 4)[:, k]
        assert float(energy.std() / energy.mean()) < 1e-3


def test_firing_is_the_rectified_response_of_the_field():
    images = torch.randn(2, 1, 30, 26, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    cells = SimpleCells(3, 4, wavelength=4.0, dtype=DOUBLE)
    found = cells(images)
    assert found.shape == (2, 3, 4, 30, 26)
    field = gabor(4.0, math.pi / 3, math.pi / 2, 2.0, DOUBLE)
    middle = (images[1, 0, 15 - 6 : 15 + 7, 12 - 6 : 12 + 7] * field).sum().clamp(min=0)
    assert float(found[1, 1, 1, 15, 12]) == pytest.approx(float(middle), abs=1e-14)
    assert torch.allclose(cells(images, padding="valid"), found[..., 6:-6, 6:-6], rtol=0, atol=1e-14)


def test_energy_is_that_of_an_even_and_an_odd_field():
    images = torch.randn(1, 1, 20, 20, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    cells = ComplexCells(3, wavelength=5.0, dtype=DOUBLE)
    linear = cells.simple.linear(images)
    wanted = (linear[:, :, 0] ** 2 + linear[:, :, 1] ** 2).sqrt()
    assert torch.allclose(cells(images), wanted, rtol=0, atol=1e-13)


def test_uniform_light_excites_nobody_and_has_a_gradient():
    light = torch.ones(1, 1, 31, 31, dtype=DOUBLE, requires_grad=True)
    middle = ComplexCells(4, dtype=DOUBLE)(light)[..., 15, 15]
    assert float(middle.detach().abs().max()) < 1e-15
    dark = torch.zeros(1, 1, 31, 31, requires_grad=True)
    ComplexCells(4)(dark).sum().backward()
    assert bool(dark.grad.isfinite().all())


@pytest.mark.parametrize(("wavelength", "width"), [(8.0, 4.0), (8.0, 3.0), (10.0, 6.0)])
def test_tuning_has_the_width_of_its_closed_form(wavelength, width):
    cells = ComplexCells(8, wavelength, width, dtype=DOUBLE)
    half = tuning_width(wavelength, width)
    response = orientation_tuning(cells, [-half, 0.0, half, math.pi / 2])[:, 0] / orientation_tuning(cells, [0.0])[0, 0]
    assert response.tolist() == pytest.approx([0.5, 1.0, 0.5, 0.0], abs=0.01)  # tails cut at three widths: 0.003


def test_each_cell_prefers_its_own_orientation():
    angles = [math.pi * k / 8 for k in range(8)]
    for cells in (SimpleCells(8), ComplexCells(8)):
        assert orientation_tuning(cells, angles).argmax(0).tolist() == list(range(8))


def test_one_clear_line(unchecked):
    with pytest.raises(InvalidOption, match="wavelength = 1"):
        gabor(1.0, 0.0, 0.0, 2.0)
    with pytest.raises(InvalidOption, match="width = 0"):
        SimpleCells(width=0.0)
    with pytest.raises(InvalidOption, match="0 orientations"):
        SimpleCells(0)
    with unchecked(), pytest.raises(ShapeError, match="make them grey"):
        SimpleCells()(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ShapeError, match="at least 25x25"):
        ComplexCells()(torch.zeros(1, 1, 24, 32), padding="valid")
