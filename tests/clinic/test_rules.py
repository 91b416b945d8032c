from dataclasses import replace

import numpy as np
import pytest

from deepforward.clinic import Evidence, conclude
from deepforward.clinic.rules.flow import exploding, vanishing
from deepforward.clinic.rules.inputs import unscaled_inputs
from deepforward.clinic.rules.not_finite import not_finite
from deepforward.clinic.rules.progress import degradation, no_progress
from deepforward.clinic.rules.steps import long_steps
from deepforward.clinic.rules.units import dead_units, saturation
from deepforward.instruments import Readings
from tests.clinic.examples import NAN, geometric, history, readings, stuck

KINDS = ["Linear", "ReLU", "Linear", "ReLU", "Linear", "Linear"]
EVEN = [1.0] * len(KINDS)
CHANCE = 2.302585


def test_nothing_to_look_at_is_no_finding():
    assert conclude(Evidence()).findings == ()
    unused = Evidence(readings=Readings((), (), (), {}))
    assert (
        str(conclude(Evidence())) == str(conclude(unused)) == "nothing was seen yet: no step was sampled and no epoch has ended"
    )


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


def test_units_that_recover_are_not_ill():
    ill = readings(EVEN, KINDS, dead_share=[NAN, 1.0, NAN, 1.0, NAN, NAN])
    assert dead_units(stuck(readings=ill))
    recovered = ill.values["dead_share"].copy()
    recovered[1:] *= 0.2
    healed = replace(ill, steps=(0, 50, 100), values={**ill.values, "dead_share": recovered})
    assert conclude(Evidence(readings=healed)).rules == ()


@pytest.mark.parametrize(("statistic", "kind"), [("dead_share", "ReLU"), ("saturated_share", "Tanh")])
def test_units_that_die_in_training_were_killed_by_its_steps(statistic, kind):
    """Alive at the first step: neither their initialisation nor their bias is at fault."""
    kinds = [each.replace("ReLU", kind) for each in KINDS]
    driven = readings(EVEN, kinds, born=False, **{statistic: [NAN, 0.99, NAN, 0.95, NAN, NAN]})
    (finding,) = conclude(stuck(readings=driven)).findings
    assert (finding.rule, finding.layer, finding.evidence["share_at_first"]) == ("long-steps", "b#0", 0.0)
    assert finding.prescriptions[0] == "learning-rate"


def test_what_is_wrong_at_the_first_step_explains_what_comes_later():
    driven = readings(geometric(0.5, 6), KINDS, born=False, dead_share=[NAN, 0.99, NAN, 0.95, NAN, NAN], update_ratio=[0.5] * 6)
    assert long_steps(stuck(readings=driven))
    assert conclude(stuck(readings=driven)).rules == ("exploding",)


@pytest.mark.parametrize(("ratio", "rules"), [(0.3, ("long-steps",)), (0.003, ("no-progress",))])
def test_long_updates_without_progress_are_long_steps(ratio, rules):
    diagnosis = conclude(stuck(readings=readings(EVEN, KINDS, update_ratio=[ratio, NAN] * 3)))
    assert diagnosis.rules == rules
    learning = Evidence(history=history(1.0, 0.5), chance=CHANCE, readings=readings(EVEN, KINDS, update_ratio=[ratio, NAN] * 3))
    assert conclude(learning).rules == ()


def test_a_loss_that_ends_far_above_guessing_is_told():
    (finding,) = conclude(Evidence(history=history(9.0, 7.0, 6.0), chance=CHANCE)).findings
    assert finding.rule == "long-steps"
    assert "ends at 6, though guessing gives 2.3" in finding.cause


def test_a_loss_that_began_above_guessing_and_hardly_moves_is_not_told_to_move_less():
    still = readings(EVEN, KINDS, update_ratio=[1e-6, NAN] * 3)
    assert long_steps(Evidence(history=history(9.0, 9.0, 9.0), chance=CHANCE, readings=still)) == []
    assert long_steps(Evidence(history=history(9.0, 9.0, 9.0), chance=CHANCE))


def test_steps_too_short_are_named():
    (finding,) = conclude(stuck(readings=readings(EVEN, KINDS, update_ratio=[1e-6, NAN] * 3))).findings
    assert finding.rule == "no-progress"
    assert "too short" in finding.cause
    assert finding.prescriptions == ("learning-rate",)


@pytest.mark.parametrize(
    ("scale", "found"), [(0.01, True), (0.5, False), (1.0, False), (8.0, True), (NAN, False), (None, False)]
)
def test_inputs_are_judged_by_their_scale(scale, found):
    assert bool(unscaled_inputs(Evidence(input_scale=scale))) == found
    assert unscaled_inputs(Evidence(input_scale=scale, history=history(1.0, 0.1), chance=CHANCE)) == []


def test_unscaled_inputs_explain_what_they_do():
    kinds = [kind.replace("ReLU", "Tanh") for kind in KINDS]
    evidence = stuck(
        readings=readings([1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1.0], kinds, saturated_share=[NAN, 0.99, NAN, 0.95, NAN, NAN]),
        input_scale=8.0,
    )
    assert saturation(evidence)
    (finding,) = conclude(evidence).findings
    assert (finding.rule, finding.prescriptions[0]) == ("unscaled-inputs", "standardise-data")
    assert conclude(Evidence(history=history(2.3, float("inf")), input_scale=9.0)).rules == ("unscaled-inputs",)


def test_saturation_explains_what_it_does_to_the_gradient():
    kinds = [kind.replace("ReLU", "Tanh") for kind in KINDS]
    gradients = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1.0]
    evidence = stuck(readings=readings(gradients, kinds, saturated_share=[NAN, 0.99, NAN, 0.95, NAN, NAN]))
    assert conclude(evidence).rules == ("saturation",)


def test_a_run_that_ends_in_nan_has_one_finding_which_names_the_producer():
    origin = {"step": 7, "layer": "c#0", "kind": "Linear", "place": "output"}
    seen = replace(readings(geometric(0.0, 12)), origins=(origin,))
    evidence = Evidence(readings=seen, history=history(2.3, NAN), chance=CHANCE)
    (finding,) = conclude(evidence).findings
    assert (finding.rule, finding.layer, finding.severity) == ("not-finite", "c#0", 1.0)
    assert "in the output of c#0 at step 7" in finding.cause
    growing = replace(seen, values=readings(geometric(0.5, 12)).values)
    (finding,) = conclude(replace(evidence, readings=growing)).findings
    assert finding.rule == "exploding"
    assert "NaN or infinity arose at step 7, first in c#0" in finding.cause
    assert finding.prescriptions[0] == "critical-initialization"


def test_nan_without_readings_is_found_in_the_history():
    (finding,) = not_finite(Evidence(history=history(2.3, NAN)))
    assert finding.prescriptions[0] == "learning-rate"
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


def test_a_short_run_may_still_begin_to_learn():
    """20 steps are too few to judge by, and so is a loss that falls; 100 steps, or three epochs without a fall, are enough."""
    short = [{"epoch": 1, "step": 20, "train/loss": 2.28}]
    assert conclude(Evidence(history=short, chance=CHANCE)).findings == ()
    assert conclude(Evidence(history=history(2.32, 2.29, 2.25), chance=CHANCE)).findings == ()
    assert conclude(Evidence(history=[row | {"step": 100} for row in short], chance=CHANCE)).rules == ("no-progress",)
    assert conclude(stuck()).rules == ("no-progress",)


@pytest.mark.parametrize(("ratio", "found"), [(0.0, ("no-progress",)), (1e-9, ("no-progress",)), (1e-6, ())])
def test_weights_that_do_not_move_are_seen_without_any_loss(ratio, found):
    diagnosis = conclude(Evidence(readings=readings(EVEN, KINDS, update_ratio=[ratio, NAN] * 3)))
    assert diagnosis.rules == found


@pytest.mark.parametrize("setting", ["learning_rate", "clip"])
def test_a_setting_of_zero_is_named_as_the_reason(setting):
    still = readings(EVEN, KINDS, update_ratio=[0.0, NAN] * 3)
    (finding,) = no_progress(Evidence(readings=still, recipe={setting: 0.0}))
    assert finding.cause == f"no step changes any weight, for {setting} is 0"


def test_a_loss_that_jumps_is_found_though_it_ends_below_chance():
    (finding,) = conclude(Evidence(history=history(8.0, 1.9, 9.0, 4.9), chance=9.0)).findings
    assert finding.rule == "long-steps"
    assert "jumps, from 1.9 in one epoch to 9" in finding.cause
    assert conclude(Evidence(history=history(8.0, 3.0, 4.0, 2.9), chance=9.0)).findings == ()
    assert conclude(Evidence(history=history(8.0, 1.9, 9.0, 0.4), chance=9.0)).findings == ()


def test_the_level_of_guessing_is_called_by_what_it_is():
    assert "guessing by class frequency gives 2.3" in no_progress(stuck())[0].cause
    assert "guessing by the mean gives 2.3" in no_progress(stuck(recipe={"objective": "squared-error"}))[0].cause


@pytest.mark.parametrize(
    ("setting", "dropped"),
    [
        ({"scaling": "standardise"}, "standardise-data"),
        ({"alterations": ("activation?name=selu",)}, "activation-swap"),
        ({"alterations": ("batch-normalization",)}, "batch-normalization"),
    ],
)
def test_what_the_recipe_has_already_is_not_prescribed(setting, dropped):
    assert dropped in conclude(stuck()).findings[0].prescriptions
    assert dropped not in conclude(stuck(recipe=setting)).findings[0].prescriptions


@pytest.mark.parametrize("place", ["output", "gradient", "parameter"])
def test_before_the_first_step_ends_the_steps_are_not_blamed(place):
    seen = replace(readings(EVEN, KINDS), origins=({"step": 0, "layer": "c#0", "kind": "Log", "place": place},))
    (finding,) = not_finite(Evidence(readings=seen))
    assert "log(0)" in finding.cause
    assert finding.prescriptions == ()
    later = replace(seen, origins=(dict(seen.origins[0]) | {"step": 3},))
    assert "log(0)" in not_finite(Evidence(readings=later))[0].cause  # a module that is only looked at
    moved = replace(later, values={**later.values, "update_ratio": np.full((3, len(KINDS)), 0.1)})
    assert "steps are too long" in not_finite(Evidence(readings=moved))[0].cause


def test_a_gradient_that_is_cut_off_is_traced_to_where_it_ends():
    """Exactly zero from one layer down to the input; not a gradient that shrank until it was lost in rounding."""
    cut = readings([0.0, 0.0, 1e-3, 1e-3])
    (finding,) = conclude(Evidence(readings=cut)).findings
    assert (finding.rule, finding.layer) == ("dead-units", "b#0")
    assert dead_units(Evidence(readings=readings([0.0, 1e-40, 1e-3, 1.0]))) == []
    assert dead_units(Evidence(readings=readings([1.0, 0.0, 1.0, 1.0]))) == []  # a branch that starts at zero
    assert dead_units(Evidence(readings=readings([0.0, 0.0]))) == []  # nothing left to learn


def test_a_cut_at_a_squashing_module_is_left_to_saturation():
    saturated = readings([0.0, 1e-3, 1e-3], ["Linear", "Tanh", "Linear"], saturated_share=[NAN, 0.99, NAN])
    assert conclude(Evidence(readings=saturated)).rules == ("saturation",)


@pytest.mark.parametrize("unknown", [{"descends": False}, {"chance": None}, {"history": ()}])
def test_progress_is_unknown_where_the_loss_does_not_tell_it(unknown):
    evidence = replace(stuck(), **unknown)
    assert evidence.progress is None
    assert conclude(evidence).findings == ()
