"""The cells against explicit sums, the learning rule against one written out, and the threshold against its closed form."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepforward.layers.neocognitron import CLayer, SLayer, representatives

F64 = torch.float64


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def at(values, k, i, j):
    """A cell, or silence outside of the plane."""
    rows, columns = values.shape[1:]
    return values[k, i, j].item() if 0 <= i < rows and 0 <= j < columns else 0.0


def offsets(height, width):
    return list(itertools.product(range(height), range(width)))


def norm_by_sums(u, c, i, j, p):
    seen = ((c[di, dj].item(), at(u, k, i + di - p, j + dj - p)) for k in range(len(u)) for di, dj in offsets(*c.shape))
    return math.sqrt(sum(weight * value**2 for weight, value in seen))


def s_by_sums(layer, u):
    """Equation E12, cell by cell, as it is printed."""
    planes, below, size, _ = layer.a.shape
    r, p = layer.selectivity, layer.padding
    rows, columns = (length + 2 * p - size + 1 for length in u.shape[1:])
    result = torch.zeros(planes, rows, columns, dtype=F64)
    for k, i, j in itertools.product(range(planes), range(rows), range(columns)):
        excitation = sum(
            layer.a[k, kk, di, dj].item() * at(u, kk, i + di - p, j + dj - p)
            for kk in range(below)
            for di, dj in offsets(size, size)
        )
        inhibition = 2 * r / (1 + r) * layer.b[k].item() * norm_by_sums(u, layer.c, i, j, p)
        result[k, i, j] = r * max(0.0, (1 + excitation) / (1 + inhibition) - 1)
    return result


def c_by_sums(layer, u):
    height, width = layer.d.shape
    left, right, above, below = layer.padding
    rows = (u.shape[1] + above + below - height) // layer.stride + 1
    columns = (u.shape[2] + left + right - width) // layer.stride + 1
    result = torch.zeros(len(u), rows, columns, dtype=F64)
    for i, j in offsets(rows, columns):
        sums = [
            sum(
                layer.d[di, dj].item() * at(u, k, i * layer.stride + di - above, j * layer.stride + dj - left)
                for di, dj in offsets(height, width)
            )
            for k in range(len(u))
        ]
        mean = sum(sums) / len(sums)
        for k, value in enumerate(sums):
            x = max(0.0, (1 + value) / (1 + mean) - 1)
            result[k, i, j] = x / (layer.saturation + x)
    return result


def s_layer(below=2, planes=3, **options):
    layer = SLayer(below, planes, **options).double()
    layer.a.copy_(random(*layer.a.shape, seed=1) * layer.c)
    layer.b.copy_(0.3 * random(planes, seed=2))
    return layer


@pytest.mark.parametrize("options", [{}, {"padding": 2, "selectivity": 1.5}, {"kernel": 3, "padding": 1, "decay": 0.9}])
def test_s_cells_are_the_formula_cell_by_cell(options):
    layer, u = s_layer(**options), random(2, 6, 7)
    responses = layer(u[None])[0]
    assert 0 < (responses > 0).float().mean() < 1
    assert torch.allclose(responses, s_by_sums(layer, u), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("window", "options"), [((5, 5), {"stride": 2, "padding": (4, 3, 4, 4)}), ((2, 3), {"saturation": 0.25, "decay": 0.5})]
)
def test_c_cells_are_the_formula_cell_by_cell(window, options):
    layer, u = CLayer(window, **options).double(), random(4, 5, 6) * (random(4, 5, 6, seed=1) < 0.3)
    responses = layer(u[None])[0]
    assert (responses == 0).any()
    assert torch.allclose(responses, c_by_sums(layer, u), rtol=0, atol=1e-14)


def test_fixed_weights_fall_with_distance_and_c_sums_to_one_over_window_and_planes_below():
    layer = SLayer(7, 2, decay=0.7)
    assert 7 * layer.c.sum().item() == pytest.approx(1, abs=1e-6)
    assert layer.c[2, 3] / layer.c[2, 2] == pytest.approx(0.7)
    assert layer.c[0, 0] / layer.c[2, 2] == pytest.approx(0.7 ** math.sqrt(8))
    assert torch.equal(CLayer((2, 2)).d, CLayer((2, 2)).d[:1, :1].expand(2, 2))


def representatives_by_search(responses, column):
    """Columns one after the other, then planes one after the other."""
    planes, rows, columns = responses.shape
    half, candidates = column // 2, {}
    for i, j in itertools.product(range(0, rows, 2), range(0, columns, 2)):
        places = itertools.product(
            range(planes), range(max(0, i - half), min(rows, i + half + 1)), range(max(0, j - half), min(columns, j + half + 1))
        )
        best = max(places, key=lambda place: responses[place].item())
        if responses[best] > 0:
            candidates.setdefault(best[0], set()).add(best)
    return {k: max(cells, key=lambda place: responses[place].item()) for k, cells in candidates.items()}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.sampled_from([3, 5]), st.integers(0, 2**20))
def test_representatives_are_the_most_active_of_their_columns_and_planes(planes, rows, columns, column, seed):
    responses = (random(planes, rows, columns, seed=seed) - 0.7).relu()  # values of different cells differ
    found = representatives(responses, column)
    cells = zip(*(part.tolist() for part in found), strict=True)
    assert {cell[0]: cell for cell in cells} == representatives_by_search(responses, column)


def test_one_step_of_learning_is_the_rule_written_out():
    layer, u = s_layer(padding=1, reinforcement=16.0), random(2, 9, 9, seed=3)
    before_a, before_b, q, c = layer.a.clone(), layer.b.clone(), 16.0, layer.c
    responses = layer(u[None])
    chosen = representatives_by_search(responses[0], 5)
    assert chosen
    layer.learn(u[None], responses)
    for k in range(3):
        a, b = before_a[k].clone(), before_b[k].clone()
        if k in chosen:
            _, i, j = chosen[k]
            for kk in range(2):
                for di, dj in offsets(5, 5):
                    a[kk, di, dj] += q * c[di, dj] * at(u, kk, i + di - 1, j + dj - 1)
            b += q / 2 * norm_by_sums(u, c, i, j, 1)
        assert torch.allclose(layer.a[k], a, rtol=1e-14, atol=0)
        assert torch.allclose(layer.b[k], b, rtol=1e-14, atol=0)


def trained(r, below, learnt, times):
    """A cell that knew nothing and was shown one pattern."""
    cell = SLayer(below, 1, selectivity=r).double()
    cell.a.zero_()
    for _ in range(times):
        cell.learn(learnt, torch.ones(1, 1, 1, 1, dtype=F64))
    return cell


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1.5, 4.0, 0.3, 11.0]), st.integers(1, 3), st.integers(1, 20), st.integers(0, 2**20))
def test_a_cell_fires_exactly_above_a_cosine_of_r_over_one_plus_r(r, below, times, seed):
    learnt, other = random(2, 1, below, 5, 5, seed=seed)
    cell = trained(r, below, learnt, times)

    def inner(x, y):
        return (cell.c * x * y).sum()

    other = other - inner(other, learnt) / inner(learnt, learnt) * learnt
    other = other * (inner(learnt, learnt) / inner(other, other)).sqrt()
    low, high = 0.0, math.pi / 2
    for _ in range(55):
        middle = (low + high) / 2
        fires = cell(math.cos(middle) * learnt + math.sin(middle) * other).item() > 0
        low, high = (middle, high) if fires else (low, middle)
    assert abs(math.cos(low) - r / (1 + r)) < 1e-12  # rounding of sums of 75 terms is below 1e-14
    shown = random(50, below, 5, 5, seed=seed + 1) * (random(50, below, 5, 5, seed=seed + 2) < 0.5) + learnt
    cosines = torch.stack([inner(x, learnt[0]) / (inner(x, x) * inner(learnt[0], learnt[0])).sqrt() for x in shown])
    clear = (cosines - r / (1 + r)).abs() > 1e-12
    assert torch.equal((cell(shown).flatten() > 0)[clear], (cosines > r / (1 + r))[clear])


@pytest.mark.parametrize("r", [1.5, 4.0])
def test_whether_a_trained_cell_fires_does_not_depend_on_contrast(r):
    learnt = random(1, 1, 5, 5)
    cell, shown = trained(r, 1, learnt, 1), learnt + 0.6 * random(200, 1, 5, 5, seed=1)
    fires = cell(shown) > 0
    assert 0 < fires.double().mean() <= 1
    for contrast in (1e-3, 50.0):
        assert torch.equal(cell(contrast * shown) > 0, fires)


def test_an_unlearnt_layer_prefers_orientations_that_turn_from_plane_to_plane():
    layer = SLayer(1, 24, padding=2)
    upright, flat = torch.zeros(2, 1, 1, 9, 9).unbind()
    upright[..., 4] = 1
    flat[..., 4, :] = 1
    best = [layer(x)[0, :, 4, 4].argmax().item() for x in (upright, flat)]
    assert best == [12, 0]


def test_silence_has_finite_gradients():
    layer, inputs = s_layer(padding=2), torch.zeros(1, 2, 9, 9, dtype=F64)
    inputs[..., :2, :2] = 1
    inputs.requires_grad_()
    CLayer((5, 5)).double()(layer(inputs)).sum().backward()
    assert inputs.grad.isfinite().all()
    assert inputs.grad.any()
