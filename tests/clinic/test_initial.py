"""What the untrained network of a run shows, and what rules make of it."""

from dataclasses import replace

import pytest
import torch

from deepforward.clinic import Evidence, conclude, evidence_of
from deepforward.clinic.illnesses import STACK
from deepforward.clinic.initial import seen_at_first
from deepforward.clinic.rules.collapse import rank_collapse
from deepforward.clinic.rules.flow import exploding, vanishing
from deepforward.clinic.rules.steps import long_steps, stable_rate
from deepforward.data import load
from deepforward.engine import Recipe, fit
from tests.clinic.examples import history

CHANCE = 2.302585


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits):
    def train(name, learning_rate=0.05, epochs=1, **options):
        recipe = Recipe(
            model=STACK,
            model_options={"width": 64, **options},
            epochs=epochs,
            batch_size=128,
            learning_rate=learning_rate,
            optimizer="sgd",
            optimizer_options={"momentum": 0.9},
            threads=1,
        )
        return fit(recipe, tmp_path_factory.mktemp("runs") / name, data=digits, quiet=True)

    return train


@pytest.fixture(scope="module")
def collapsed(trained):
    return evidence_of(trained("collapsed", depth=32, weight_variance=2.0))


@pytest.fixture(scope="module")
def ordered(trained):
    return evidence_of(trained("ordered", depth=12, activation="tanh", weight_variance=0.6))


def test_the_untrained_network_is_built_anew_and_nothing_random_is_left_behind(trained):
    run = trained("twice", depth=4)
    state = torch.get_rng_state()
    first, again = seen_at_first(run), seen_at_first(run)
    assert torch.equal(torch.get_rng_state(), state)
    assert first == again
    assert first["representations"].examples == 64
    assert len(first["phase"].layers) == 5
    assert len(first["smoothness"].smoothness) == 3


def test_a_run_that_thrives_is_not_looked_at(trained):
    run = trained("thriving", depth=1, epochs=8)
    evidence = evidence_of(run)
    assert evidence.progress > 0.9
    assert evidence.phase is evidence.representations is evidence.smoothness is None


def test_a_sibling_of_the_same_recipe_is_not_looked_at_again(trained, ordered):
    run = trained("sibling", depth=12, activation="tanh", weight_variance=0.6)
    assert evidence_of(run, sibling=ordered).phase is ordered.phase


def test_order_is_named_with_prediction_measurement_and_the_weights_to_draw(ordered):
    (finding,) = conclude(ordered).findings
    assert finding.rule == "vanishing"
    assert abs(finding.evidence["predicted_decades"] - finding.evidence["measured_decades"]) < 3 * finding.evidence["band"]
    assert "sigma_w 0.77" in finding.change
    assert "-> 1," in finding.change
    assert finding.prescriptions[0] == "critical-initialization"


def test_weights_are_blamed_for_less_where_it_is_known_that_little_is_learnt(ordered):
    """The gradient shrinks 1.2 decades: within what a sound network may show, but its weights say why it should."""
    assert vanishing(ordered)
    assert vanishing(replace(ordered, history=history(1.0, 0.5))) == []  # it learns
    assert vanishing(replace(ordered, history=())) == []  # not known
    assert vanishing(replace(ordered, phase=None)) == []
    assert exploding(ordered) == []


def test_examples_made_alike_are_found_where_theory_foretells_it(collapsed):
    (finding,) = conclude(collapsed).findings
    assert finding.rule == "rank-collapse"
    assert finding.evidence["cosine"] > 0.9 > finding.evidence["input_cosine"]
    assert "relu does this within" in finding.cause
    assert finding.prescriptions == ("residual-connections",)
    assert "times 0.18" in finding.change  # 1/sqrt(32)


def test_alike_but_not_foretold_or_no_harm_done_is_no_collapse(collapsed):
    shallow = replace(collapsed, phase=replace(collapsed.phase, layers=collapsed.phase.layers[-8:]))
    assert rank_collapse(shallow) == []
    assert rank_collapse(replace(collapsed, history=history(1.5, 1.0), chance=CHANCE)) == []
    last = collapsed.representations.last_hidden
    seen = replace(collapsed.representations, last_hidden=replace(last, cosine=0.8))
    assert rank_collapse(replace(collapsed, representations=seen)) == []
    assert rank_collapse(Evidence()) == []


def test_a_network_of_unknown_activation_is_judged_by_its_rank_alone_and_only_when_it_fails(collapsed):
    unknown, last = replace(collapsed, phase=None), collapsed.representations.last_hidden
    low = replace(collapsed.representations, last_hidden=replace(last, effective_rank=2.0))
    assert rank_collapse(replace(unknown, representations=low))
    assert rank_collapse(replace(unknown, representations=replace(low, last_hidden=replace(last, effective_rank=9.0)))) == []
    assert rank_collapse(replace(unknown, representations=low, history=())) == []


def test_steps_too_long_are_held_against_the_rate_that_the_measured_curvature_bears(trained):
    evidence = evidence_of(trained("long", learning_rate=5.0, epochs=3, depth=3, activation="tanh", weight_variance=1.0))
    (finding,) = long_steps(evidence)
    limit = stable_rate(evidence)
    assert limit == pytest.approx(2 * 1.9 / max(evidence.smoothness.smoothness))  # Polyak: 2 (1 + m) / L
    assert limit < 5.0
    assert finding.evidence["stable_rate"] == limit
    assert f"the rate is 5, and from {limit:.2g} on" in finding.cause
    assert stable_rate(replace(evidence, recipe={"optimizer": "adam"})) is None
