"""Scaling against scikit-learn, against its bound, and back."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import load, save
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch.overrides import TorchFunctionMode

from deepforward.data import Scaling, scaling
from deepforward.errors import InvalidData, InvalidOption, ShapeError, UnknownName

_TABLES = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 40), st.integers(1, 4)), elements=st.integers(-1000, 1000).map(lambda k: k / 7)
)
_KINDS = ["none", "centre", "standardise", "min-max", "min-max?low=-1&high=1", "softmax", "softmax?r=3"]


def peer(spec):
    return {
        "centre": StandardScaler(with_std=False),
        "standardise": StandardScaler(),
        "min-max": MinMaxScaler(),
        "min-max?low=-1&high=1": MinMaxScaler((-1, 1)),
    }[spec]


@pytest.mark.parametrize("spec", ["centre", "standardise", "min-max", "min-max?low=-1&high=1"])
@given(train=_TABLES, chunk=st.integers(1, 50))
def test_features_agree_with_scikit_learn(spec, train, chunk):
    expected = peer(spec).fit_transform(train)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "_CHUNK_VALUES", chunk)  # statistics must not depend on how the data is cut
        ours = Scaling.fit(spec, torch.from_numpy(train))
    scaled = ours(torch.from_numpy(train))
    assert scaled.dtype == torch.float64
    np.testing.assert_allclose(scaled.numpy(), expected, rtol=0, atol=1e-12)


def test_nothing_cancels_far_from_zero():
    values = torch.randn(5000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e7
    expected = StandardScaler().fit(values.numpy())
    ours = Scaling.fit("standardise", values)
    np.testing.assert_allclose(ours.spread.numpy(), expected.scale_, rtol=1e-8)  # the data's own spacing is 2e-9
    np.testing.assert_allclose(ours.shift.numpy(), expected.mean_, rtol=1e-14)


@pytest.mark.parametrize("spec", ["standardise", "min-max?low=-1&high=1"])
def test_images_have_one_statistic_a_channel(spec):
    images = torch.randint(0, 256, (20, 3, 5, 4), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    images[:, 2] = 7
    pixels = images.permute(0, 2, 3, 1).reshape(-1, 3).double().numpy()
    expected = peer(spec).fit_transform(pixels).reshape(20, 5, 4, 3).transpose(0, 3, 1, 2)
    ours = Scaling.fit(spec, images)
    assert ours.shift.shape == (3, 1, 1) and ours.shift.dtype == torch.float32
    scaled = ours(images)
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled.numpy(), expected, atol=1e-6)  # float32
    assert ours(torch.zeros(2, 3, 9, 9)).shape == (2, 3, 9, 9)  # one statistic a channel fits images of any size


@pytest.mark.parametrize("spec", _KINDS)
@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e9 + 0.1])
def test_a_constant_feature_stays_constant_and_small(spec, value):
    values = torch.full((1001, 2), value, dtype=torch.float64)
    scaled = Scaling.fit(spec, values)(values)
    expected = {
        "centre": 0,
        "standardise": 0,
        "min-max": 0,
        "min-max?low=-1&high=1": -1,
        "softmax": 0.5,
        "softmax?r=3": 0.5,
        "none": value,
    }
    torch.testing.assert_close(scaled, torch.full_like(values, expected[spec]), rtol=0, atol=1e-15 * max(value, 1) * 100)


def test_none_changes_the_type_only():
    images = torch.arange(32, dtype=torch.uint8).reshape(2, 1, 4, 4)
    assert torch.equal(Scaling.fit("none", images)(images), images.float())


class Names(TorchFunctionMode):
    """The names of the functions that are called in the block."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names.append(function.__name__)
        return function(*args, **(kwargs or {}))


def bits(values):
    return values.view(torch.int64 if values.dtype == torch.float64 else torch.int32)


@pytest.mark.parametrize("spec", [*_KINDS, "min-max?high=255"])
@pytest.mark.parametrize(
    "values",
    [
        torch.tensor([[0, 255], [0, 255], [7, 0]], dtype=torch.uint8),
        torch.tensor([[0.0, 1.0], [1.0, -0.0], [0.25, 0.0]]),  # min-max leaves it as it is
        torch.tensor([[-0.0, -0.0], [1.0, -0.0]]),  # its shift is -0
        torch.tensor([[2.0, 3.0], [3.0, 2.5]], dtype=torch.float64),  # its range is 1
        torch.tensor([[1.0, 3.0], [5.0, 2.0]]),
    ],
    ids=["bytes", "unit", "negative zero", "range 1", "neither"],
)
def test_steps_that_change_nothing_are_left_out_with_the_same_bits(spec, values):
    def plain(ours):
        dtype = values.dtype if values.is_floating_point() else torch.float32
        scaled = (values.to(dtype) - ours.shift.to(dtype)) / ours.spread.to(dtype)
        return scaled.sigmoid() if spec.startswith("softmax") else scaled

    ours, before = Scaling.fit(spec, values), values.clone()
    again = copy.deepcopy(Scaling(spec, (2,)))
    again.load_state_dict(ours.state_dict())
    for scaling_ in (ours, again, copy.deepcopy(ours)):
        scaled = scaling_(values)
        assert torch.equal(bits(scaled), bits(plain(scaling_)))
        scaled.zero_()
        assert torch.equal(values, before)  # a layer may work in place on what it is given


def test_only_the_steps_that_are_needed_are_taken():
    bytes_ = torch.tensor([[0], [255]], dtype=torch.uint8)
    taken = {}
    for spec in ("none", "min-max", "min-max?low=-1&high=254", "standardise"):
        ours = Scaling.fit(spec, bytes_)
        with Names() as seen:
            ours(bytes_)
        taken[spec] = [name for name in seen.names if name in ("sub_", "div_")]
    expected = {"none": [], "min-max": ["div_"], "min-max?low=-1&high=254": ["sub_"], "standardise": ["sub_", "div_"]}
    assert taken == expected


def test_softmax_scaling_is_a_logistic_close_to_its_line():
    values = torch.linspace(-3, 3, 2001, dtype=torch.float64).unsqueeze(1)
    ours = Scaling.fit("softmax?r=2", values)
    y = (values - values.mean()) / (2 * values.std(correction=0))
    scaled = ours(values)
    torch.testing.assert_close(scaled, 1 / (1 + torch.exp(-y)), rtol=0, atol=1e-14)
    gap = (scaled - (0.5 + y / 4)).abs()
    assert (gap <= y.abs() ** 3 / 48 + 1e-14).all()
    near = y.abs() <= 0.01
    assert (gap[near] >= 0.99 * (y[near].abs() ** 3 / 48) - 1e-14).all()  # 48 is the right constant, not only large enough


def test_the_linear_region_of_softmax_scaling():
    y = torch.linspace(-1, 1, 20001, dtype=torch.float64)
    assert float((y.sigmoid() - (0.5 + y / 4)).abs().max()) == pytest.approx(0.01894, abs=5e-6)
    scaled = Scaling("softmax", (1,)).double()(y.unsqueeze(1))[:, 0]  # unfitted: shift 0, spread 1
    assert torch.equal(scaled, y.sigmoid())


@pytest.mark.parametrize("spec", _KINDS)
def test_inverse_gives_the_inputs_back(spec):
    values = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 5 + 2
    ours = Scaling.fit(spec, values)
    torch.testing.assert_close(ours.inverse(ours(values)), values, rtol=0, atol=1e-10)


def test_a_saturated_logistic_has_a_finite_inverse():
    assert Scaling("softmax", (2,)).inverse(torch.tensor([[0.0, 1.0]])).isfinite().all()


@pytest.mark.parametrize("spec", _KINDS)
def test_state_survives_safetensors(spec):
    images = torch.randint(0, 256, (9, 2, 3, 3), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    ours = Scaling.fit(spec, images)
    again = Scaling(ours.spec, ours.shape)
    again.load_state_dict(load(save(ours.state_dict())))
    assert torch.equal(again(images), ours(images))
    assert not list(ours.parameters())
    assert repr(ours) == f"Scaling({spec}, shape=(2, 3, 3))"


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ("standardize", UnknownName, "unknown scaling 'standardize'; did you mean standardise"),
        ("min-max?low=1", InvalidOption, "got low=1 and high=1, expected low below high"),
        ("softmax?r=0", InvalidOption, "scaling softmax: got r=0, expected a number above 0"),
        ("standardise?r=1", InvalidOption, "scaling standardise: got option 'r', expected none"),
    ],
)
def test_wrong_specifications(spec, error, says):
    with pytest.raises(error, match=says):
        Scaling.fit(spec, torch.zeros(3, 2))


def test_wrong_inputs():
    with pytest.raises(InvalidData, match="got no examples"):
        Scaling.fit("standardise", torch.zeros(0, 2))
    with pytest.raises(ShapeError, match=r"got examples of shape \(3,\), expected \(2,\)"):
        Scaling("standardise", (2,))(torch.zeros(1, 3))
    with pytest.raises(ShapeError, match=r"got examples of shape \(1, 4, 4\), expected \(3, 4, 4\)"):
        Scaling("standardise", (3, 4, 4))(torch.zeros(1, 1, 4, 4))
