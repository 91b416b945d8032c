"""Filters that never answer, and a view too narrow for the objects, on evidence made by hand."""

import pytest

from deepforward.clinic import Evidence, conclude, evidence_of_case
from deepforward.clinic.case import case_of
from deepforward.clinic.planted import stack
from deepforward.clinic.rules.convolution import dead_filters, small_receptive_field
from deepforward.instruments.field_of_view import View
from tests.clinic.examples import NAN, history, readings, stuck

KINDS = ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "ReLU", "Linear", "ReLU", "Linear"]
EVEN = [1.0] * len(KINDS)


def dying(first: float, second: float, dense: float = 0.0):
    return readings(EVEN, KINDS, dead_share=[NAN, NAN, first, NAN, second, NAN, dense, NAN])


def test_the_layer_with_most_dead_filters_is_named_if_it_lives_as_a_whole():
    (finding,) = dead_filters(stuck(readings=dying(0.65, 0.8)))
    assert finding.layer == "e#0"
    assert finding.evidence == {"share": pytest.approx(0.8), "layers": ["c#0", "e#0"]}
    assert conclude(stuck(readings=dying(0.65, 0.8))).rules == ("dead-filters",)
    assert conclude(stuck(readings=dying(0.65, 0.95))).rules == ("dead-units",)


def test_dense_layers_and_the_half_that_chance_gives_are_no_finding():
    assert dead_filters(stuck(readings=dying(0.5, 0.5, dense=0.8))) == []


def test_a_network_that_thrives_may_have_dead_filters():
    assert dead_filters(Evidence(readings=dying(0.8, 0.8), history=history(1.0, 0.1), chance=2.3)) == []


def test_a_field_smaller_than_the_object_is_found_and_one_as_large_is_not():
    def seen(field: int) -> Evidence:
        return stuck(view=View("conv", (field, 30), (32, 32), 12.0))

    (finding,) = small_receptive_field(seen(7))
    assert (finding.rule, finding.layer) == ("small-receptive-field", "conv")
    assert finding.evidence == {"field": [7, 30], "object": 12.0, "image": [32, 32]}
    assert "7 x 30 pixels" in finding.cause
    assert finding.prescriptions == ("growing-dilation",)
    assert conclude(seen(7)).rules == ("small-receptive-field",)  # it explains why the loss stays at chance
    assert small_receptive_field(seen(12)) == []
    assert small_receptive_field(Evidence(view=seen(7).view, history=history(1.0, 0.1), chance=2.3)) == []
    assert small_receptive_field(stuck()) == []


def test_a_bare_module_is_told_before_it_is_trained():
    def rules(**options: object) -> tuple[str, ...]:
        model = stack((1, 20, 20), 2, kind="convolutional", depth=3, width=8, **options)
        return conclude(evidence_of_case(case_of(model, "bar-pairs?n=200", scaling="standardise"))).rules

    assert "small-receptive-field" in rules(cells=1)
    assert "small-receptive-field" not in rules(cells=4)
