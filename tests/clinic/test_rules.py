from dataclasses import replace

import pytest

from deepforward.clinic import Evidence, conclude
from deepforward.clinic.rules.flow import exploding, vanishing
from deepforward.clinic.rules.not_finite import not_finite
from deepforward.clinic.rules.progress import degradation, no_progress
from deepforward.clinic.rules.units import dead_units, saturation
from tests.clinic.examples import NAN, geometric, history, readings, stuck

KINDS = ["Linear", "ReLU", "Linear", "ReLU", "Linear", "Linear"]
EVEN = [1.0] * len(KINDS)
CHANCE = 2.302585


def test_nothing_to_look_at_is_no_finding():
    assert conclude(Evidence()).findings == ()
    assert "nothing to look at" in str(conclude(Evidence()))


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e12])
def test_flow_is_judged_by_rates_not_by_size(factor):
    shrinking = stuck(readings=readings([factor * g for g in geometric(-0.2, 20)]))
    (finding,) = vanishing(shrinking)
    assert finding.evidence["rate_per_layer"] == pytest.approx(-0.2)
    assert finding.evidence["decades"] == pytest.approx(-3.8)
    assert exploding(shrinking) == []
    growing = stuck(readings=readings([factor * g for g in geometric(0.2, 20)]))
    assert [f.rule for f in exploding(growing)] == ["exploding"]
    assert vanishing(growing) == []


def test_a_vanishing_network_that_learns_nothing_has_one_finding():
    evidence = stuck(readings=readings(geometric(-0.4, 30)), twin=Evidence(history=history(0.1), chance=CHANCE))
    assert no_progress(evidence)
    assert degradation(evidence)
    assert conclude(evidence).rules == ("vanishing",)


def test_the_cause_speaks_of_one_layer_where_one_layer_is_the_cause():
    (finding,) = vanishing(stuck(readings=readings([1e-5] * 3 + [1.0] * 9)))
    assert finding.layer == "c#0"
    assert "most of it from c#0 on" in finding.cause
    assert "per layer" in vanishing(stuck(readings=readings(geometric(-0.2, 20))))[0].cause


def test_depth_puts_skips_first_and_normalisation_is_not_prescribed_against_itself():
    assert vanishing(stuck(readings=readings(geometric(-0.4, 26))))[0].prescriptions[0] == "residual-connections"
    assert vanishing(stuck(readings=readings(geometric(-0.4, 8))))[0].prescriptions[0] == "critical-initialization"
    normed = readings([g for g in geometric(0.4, 10) for _ in "xx"], ["Linear", "BatchNorm1d"] * 10)
    assert "batch-normalization" not in exploding(stuck(readings=normed))[0].prescriptions


def test_a_network_that_thrives_is_not_ill_whatever_it_looks_like_inside():
    thriving = Evidence(readings=readings(geometric(-0.4, 30)), history=history(1.0, 0.1), chance=CHANCE)
    assert conclude(thriving).findings == ()
    assert conclude(replace(thriving, history=())).rules == ("vanishing",)


def test_dead_units_name_the_first_ill_layer():
    late = stuck(readings=readings(EVEN, KINDS, dead_share=[NAN, 0.2, NAN, 0.95, NAN, NAN]))
    (finding,) = dead_units(late)
    assert (finding.layer, finding.evidence["share"]) == ("d#0", pytest.approx(0.95))
    assert "1 of 2" in finding.cause
    assert conclude(late).rules == ("dead-units",)


def test_half_dead_is_what_collapsed_inputs_give_and_no_finding():
    assert dead_units(stuck(readings=readings(EVEN, KINDS, dead_share=[NAN, 0.6, NAN, 0.7, NAN, NAN]))) == []


def test_what_counts_is_late_in_training():
    only_first = readings(EVEN, KINDS, dead_share=[NAN, 1.0, NAN, 1.0, NAN, NAN])
    flipped = only_first.values["dead_share"][::-1].copy()
    assert dead_units(stuck(readings=only_first))
    healed = replace(only_first, steps=(0, 1, 100), values={**only_first.values, "dead_share": flipped})
    assert dead_units(stuck(readings=healed)) == []


def test_saturation_explains_what_it_does_to_the_gradient():
    kinds = [kind.replace("ReLU", "Tanh") for kind in KINDS]
    gradients = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1.0]
    evidence = stuck(readings=readings(gradients, kinds, saturated_share=[NAN, 0.99, NAN, 0.95, NAN, NAN]), input_scale=8.0)
    assert saturation(evidence)[0].prescriptions[0] == "standardise-data"
    assert conclude(evidence).rules == ("saturation",)


def test_a_run_that_ends_in_nan_has_one_finding_which_names_the_producer():
    origin = {"step": 7, "layer": "c#0", "kind": "Linear", "place": "output"}
    seen = replace(readings(geometric(0.5, 12)), origins=(origin,))
    evidence = Evidence(readings=seen, history=history(2.3, NAN), chance=CHANCE)
    (finding,) = conclude(evidence).findings
    assert (finding.rule, finding.layer, finding.severity) == ("not-finite", "c#0", 1.0)
    assert "in the output of c#0 at step 7" in finding.cause
    assert finding.prescriptions[0] == "critical-initialization"


@pytest.mark.parametrize(
    ("evidence", "first"),
    [
        (Evidence(history=history(2.3, NAN)), "learning-rate"),
        (Evidence(history=history(2.3, float("inf")), input_scale=9.0), "standardise-data"),
    ],
)
def test_nan_without_readings_is_found_in_the_history(evidence, first):
    (finding,) = not_finite(evidence)
    assert finding.prescriptions[0] == first
    assert "in epoch 2" in finding.cause


def test_degradation_needs_a_twin_that_fits_better():
    own = Evidence(history=history(1.8), chance=CHANCE)
    assert degradation(own) == []
    assert degradation(replace(own, twin=Evidence(history=history(1.7), chance=CHANCE))) == []
    (finding,) = degradation(replace(own, twin=Evidence(history=history(0.2), chance=CHANCE)))
    assert finding.evidence["lag"] == pytest.approx(1.6 / CHANCE)
    assert finding.prescriptions[0] == "residual-connections"


def test_no_progress_is_judged_against_guessing():
    assert no_progress(stuck())[0].evidence["chance"] == CHANCE
    assert no_progress(Evidence(history=history(2.3, 1.9), chance=CHANCE)) == []
    assert no_progress(stuck(input_scale=100.0))[0].prescriptions[0] == "standardise-data"


@pytest.mark.parametrize("unknown", [{"descends": False}, {"chance": None}, {"history": ()}])
def test_progress_is_unknown_where_the_loss_does_not_tell_it(unknown):
    evidence = replace(stuck(), **unknown)
    assert evidence.progress is None
    assert conclude(evidence).findings == ()
