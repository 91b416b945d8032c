import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepforward.clinic.flow import gradient_flow
from deepforward.instruments import Readings
from tests.clinic.examples import NAN, geometric, readings


@given(rate=st.floats(-1, 1), layers=st.integers(3, 40), scale=st.floats(1e-6, 1e6))
def test_a_constant_factor_per_layer_is_read_exactly_whatever_the_scale(rate, layers, scale):
    flow = gradient_flow(readings([scale * g for g in geometric(rate, layers)]))
    assert flow.rate == pytest.approx(rate, abs=1e-9)
    assert flow.decades == pytest.approx(rate * (layers - 1), abs=1e-7)


def test_one_odd_layer_changes_the_total_but_not_the_rate():
    gradients = geometric(-0.1, 20)
    gradients[:5] = [g * 1e-4 for g in gradients[:5]]
    flow = gradient_flow(readings(gradients))
    assert flow.decades == pytest.approx(-0.1 * 19 - 4)
    assert flow.rate == pytest.approx(-0.1)  # that of 115 of the 190 pairs
    assert gradient_flow(readings(geometric(-0.3, 20))).is_gradual


def test_a_single_bad_layer_is_the_origin():
    flow = gradient_flow(readings([1e-5] * 3 + [1.0] * 9))
    assert flow.origin == "c#0"
    assert not flow.is_gradual


def test_the_step_into_the_output_layer_and_between_convolution_and_affine_does_not_count():
    kinds = ["Conv2d", "Conv2d", "Conv2d", "Linear", "Linear", "Linear"]
    flow = gradient_flow(readings([1e-3, 1e-3, 1e-3, 1.0, 1.0, 50.0], kinds))
    assert flow.decades == pytest.approx(0.0)


def test_layers_without_weights_are_passed_over():
    gradients = [1e-2, 7.0, 1e-1, 7.0, 1.0]
    kinds = ["Linear", "ReLU", "Linear", "BatchNorm1d", "Linear"]
    assert gradient_flow(readings(gradients, kinds)).decades == pytest.approx(-2.0)


def test_a_gradient_that_underflows_is_a_bound_and_leaves_the_rate_alone():
    flow = gradient_flow(readings([0.0, 0.0, 1e-40, 1e-30, 1e-20, 1e-10, 1.0]))
    assert flow.decades == pytest.approx(-45)  # the smallest float32 below the last layer's 1
    assert flow.rate == pytest.approx(-10)


@pytest.mark.parametrize(
    "unreadable",
    [
        None,
        Readings((), (), (), {}),
        readings([1.0, 1.0]),
        readings([1.0, NAN, NAN]),
        readings([1.0, 1.0, 0.0]),
        Readings(("a#0",), ("Linear",), (0,), {"activation_rms": np.ones((1, 1))}),
    ],
)
def test_where_there_is_too_little_to_see_there_is_no_flow(unreadable):
    assert gradient_flow(unreadable) is None


def test_a_branch_whose_gradient_a_sum_passes_by_does_not_count():
    """Queries, keys and values of an attention, and what lies before a scale that is zero at first."""
    kinds = ["Embedding", *["Linear"] * 10]
    attention = [1.0, 1e-4, 1e-4, 1e-2, 1.0, 0.0, 1.0, 1e-4, 1e-2, 1.0, 1.0]
    assert gradient_flow(readings(attention, kinds)).decades == pytest.approx(0.0)
    falling = gradient_flow(readings([1e-3, 1e-7, 1e-3, 1e-2, 1e-7, 1e-2, 1e-1, 1.0, 1.0]))
    assert falling.decades == pytest.approx(-3.0)
    assert gradient_flow(readings([1e-7, 1e-7, 1e-7, 1e-2, 1e-7, 1e-2, 1e-1, 1.0, 1.0])).decades == pytest.approx(-7.0)


def test_a_closed_branch_before_the_output_is_passed_over_and_a_gradient_that_never_arrives_is_not():
    """The last block of a residual network whose last scales are zero at first, and a chain that underflows."""
    kinds = ["Conv2d"] * 6 + ["Linear"]
    assert gradient_flow(readings([1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 5.0], kinds)).decades == pytest.approx(0.0)
    assert gradient_flow(readings([0.0, 0.0, 1e-3, 1e-2, 1e-1, 1.0, 5.0], kinds)).decades < -30


def test_a_branch_before_the_output_ends_in_the_block_that_closes_it():
    """Two blocks of a ConvNeXt, whose last scale is 1e-6 at first; a chain without blocks has no branches."""
    kinds = ["Conv2d", *["Conv2d", "Linear", "Linear", "Block"] * 2, "LayerNorm", "Linear"]
    gradients = [1.0, *[1e-6, 1e-6, 1e-6, 1.0] * 2, 1.0, 5.0]
    assert gradient_flow(readings(gradients, kinds)).decades == pytest.approx(0.0)
    chain = [*["Linear"] * 9, "LayerNorm", "Linear"]
    assert gradient_flow(readings([1.0, *[1e-6] * 8, 1.0, 5.0], chain)).decades == pytest.approx(6.0)


def test_the_affine_layer_of_transformers_is_one():
    flow = gradient_flow(readings(geometric(-0.5, 6), ["Conv1D", "Linear"] * 3))
    assert flow.decades == pytest.approx(-2.5)


@pytest.mark.parametrize("kinds", [None, ["Conv2d"] * 6 + ["Linear"] * 2])
def test_few_units_of_the_output_do_not_hide_what_grows_before_it(kinds):
    """The gradient of an element of the output is as many times greater as the layer has fewer of them."""
    rising = [*geometric(0.5, 6), *([30.0] if kinds else []), 30.0]
    assert gradient_flow(readings(rising, kinds)).decades == pytest.approx(3.0 if kinds is None else 3.5)
