"""Rules of models that learn from their own samples."""

import math

import pytest
import torch

from deepforward.clinic import Evidence, conclude, diagnose
from deepforward.clinic.rules.energy import (
    ALIKE,
    CARRIED,
    IDLE,
    MEMORISED,
    STILL,
    idle_units,
    overfitting,
    stuck_chains,
    unstable_learning,
)
from deepforward.clinic.rules.not_finite import not_finite
from deepforward.clinic.rules.progress import no_progress
from deepforward.clinic.rules.steps import JUMP
from deepforward.models.energy import RBM
from tests.clinic.energy_examples import CHANCE, FLOOR, HEALTHY, ILL, machine, rows
from tests.clinic.examples import history

#: Severity where progress is unknown: 1 - mixing, the share of idle units, the share of the span memorised, mixing - 1 up to 1.
ALONE = {stuck_chains: 0.95, idle_units: 0.7, overfitting: 9.5 / 20, unstable_learning: 1.0}


@pytest.mark.parametrize("rule", ILL)
def test_a_rule_fires_on_its_illness_alone_and_is_the_only_one(rule):
    """What is left to learn is the severity; where that is unknown, the number that the rule judges is."""
    assert conclude(machine()).rules == ()
    (finding,) = conclude(machine(ILL[rule])).findings
    assert finding.rule == rule.__name__.replace("_", "-")
    assert finding.severity == pytest.approx(0.75)
    (unmeasured,) = conclude(machine(ILL[rule], reached=None)).findings
    assert unmeasured.severity == pytest.approx(ALONE[rule])


@pytest.mark.parametrize("rule", ILL)
def test_what_was_ill_at_first_and_has_recovered_is_not_ill(rule):
    begun_ill = [row | ILL[rule] for row in rows({}, first=1)] + rows({}, {}, {}, first=0)
    assert rule(machine(history=begun_ill)) == []


@pytest.mark.parametrize("rule", ILL)
def test_a_rule_is_silent_where_its_columns_are_missing_or_not_numbers(rule):
    assert rule(Evidence()) == []
    assert rule(Evidence(history=history(2.3, 2.2), chance=2.3)) == []
    nothing = dict.fromkeys(HEALTHY, math.nan)
    assert rule(machine(nothing, history=[row | nothing for row in rows({})])) == []


@pytest.mark.parametrize("rule", ILL)
def test_a_machine_that_thrives_is_not_ill_whatever_its_chains_do(rule):
    assert rule(machine(ILL[rule] | {"validation/free_energy": -20.0}, reached=FLOOR + 1.0)) == []


@pytest.mark.parametrize(
    ("rule", "column", "ill", "well"),
    [
        (stuck_chains, "chains/mixing", STILL - 0.01, STILL),
        (stuck_chains, "chains/diversity", ALIKE - 0.01, ALIKE),
        (idle_units, "units/dead", IDLE + 0.01, IDLE),
        (idle_units, "units/always_on", IDLE + 0.01, IDLE),
        (unstable_learning, "chains/mixing", CARRIED + 0.01, CARRIED),
        (unstable_learning, "validation/pseudo_log_likelihood", -CHANCE - JUMP * 20 - 0.01, -CHANCE - JUMP * 20),
        (overfitting, "validation/free_energy", -49.5 + 0.251 * 20, -49.5 + 0.25 * 20),
    ],
)
def test_the_threshold_itself_is_still_well(rule, column, ill, well):
    """Progress is 0.25 here, which is above MEMORISED, so that the gap must exceed 0.25 of a span of 20 nats."""
    assert [finding.rule for finding in rule(machine({column: ill}))] == [rule.__name__.replace("_", "-")]
    assert rule(machine({column: well})) == []


def test_little_that_is_memorised_is_no_overfitting_though_nothing_else_was_learnt():
    just = MEMORISED * (CHANCE - FLOOR)
    assert overfitting(machine({"validation/free_energy": -49.5 + just}, reached=CHANCE)) == []
    (finding,) = overfitting(machine({"validation/free_energy": -49.4 + just}, reached=CHANCE))
    assert finding.evidence["memorised"] == pytest.approx(MEMORISED + 0.1 / 20)


def test_a_gap_is_that_of_log_likelihoods_and_blind_to_a_shift_of_all_energies():
    shifted = [{k: v - 1e4 if "free_energy" in k else v for k, v in row.items()} for row in machine(ILL[overfitting]).history]
    (one,), (other,) = overfitting(machine(ILL[overfitting])), overfitting(machine(history=shifted))
    assert one.evidence["memorised"] == pytest.approx(other.evidence["memorised"]) == pytest.approx(9.5 / 20)
    assert overfitting(machine(ILL[overfitting], chance=None)) == []  # nothing to hold the gap against


def test_chains_that_start_at_the_data_need_not_mix():
    fresh = {"objective": "contrastive-divergence", "objective_options": {}}
    for rule, mixing in ((stuck_chains, 0.05), (unstable_learning, 3.0)):
        assert [finding.evidence["mixing"] for finding in rule(machine(ILL[rule]))] == [mixing]
        assert rule(machine(ILL[rule], recipe=fresh)) == []
        own_loop = rule(machine(ILL[rule], recipe={}))  # somebody's, which watched its chains
        assert [finding.evidence["mixing"] for finding in own_loop] == [mixing]


def test_chains_that_are_carried_along_together_are_not_called_stuck():
    together = {"chains/mixing": 2.0, "chains/diversity": 0.3}
    assert stuck_chains(machine(together)) == []
    assert conclude(machine(together)).rules == ("unstable-learning",)
    assert conclude(machine({"chains/mixing": 0.9, "chains/diversity": 0.3})).rules == ("stuck-chains",)


def test_a_step_that_is_too_long_explains_what_it_does_to_the_units():
    both = ILL[unstable_learning] | ILL[idle_units] | ILL[overfitting]
    assert [finding.evidence for finding in idle_units(machine(both))] == [{"dead": 0.4, "always_on": 0.3}]
    assert [finding.evidence["gap"] for finding in overfitting(machine(both))] == [10.0]
    assert conclude(machine(both)).rules == ("unstable-learning",)


def test_a_machine_at_chance_is_found_once_it_has_had_enough_steps():
    (finding,) = conclude(machine(reached=CHANCE)).findings
    assert (finding.rule, finding.prescriptions) == ("no-progress", ("faster-learning", "slower-learning"))
    assert "independent units with the rates of the data have 30" in finding.cause
    early = [row | {"step": 50} for row in machine().history]
    assert no_progress(machine(reached=CHANCE, history=early)) == []
    assert conclude(machine(ILL[stuck_chains], reached=CHANCE)).rules == ("stuck-chains",)


def test_a_gap_of_energies_that_jumps_is_no_jump_of_a_loss():
    jumping = [row | {"train/loss": 100.0 * (-1) ** i} for i, row in enumerate(machine().history)]
    assert conclude(machine(history=jumping)).rules == ()


def test_energies_that_overflow_are_met_with_shorter_steps_not_with_a_finder_that_reads_the_loss():
    (finding,) = not_finite(machine(history=[*rows({}), {"epoch": 4, "train/loss": math.nan}], reached=math.nan))
    assert finding.prescriptions == ("slower-learning",)


def test_an_untrained_machine_is_looked_at_and_left_as_found():
    model = RBM((1, 8, 8), hidden=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = diagnose(model, "digits", objective="contrastive-divergence", scaling="min-max")
    assert found.rules == ()
    assert found.evidence.readings.steps
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
