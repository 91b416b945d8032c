"""Seven networks with a known disease, and a healthy one: cause, place and the number to change, before any training.

The seven are those that six other tools were shown, none of which named a cause, a layer where it begins, or what to do.
"""

import math

import pytest
import torch
from torch import nn

from deepforward.clinic import diagnose
from deepforward.clinic.planted import stack


def built(seed=0, **options):
    torch.manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return stack((1, 8, 8), 10, width=256, **options)


class Logarithm(nn.Module):
    """NaN wherever its input is negative."""

    def forward(self, inputs):
        return inputs.log()


def found(model):
    (finding,) = diagnose(model, "digits").findings
    return finding


def test_a_healthy_network_is_left_alone():
    assert diagnose(built(depth=10, weight_variance=2.0), "digits").findings == ()


@pytest.mark.parametrize(
    ("options", "rule", "sigma_w", "critical", "first"),
    [
        ({"depth": 50}, "vanishing", 1 / math.sqrt(3), math.sqrt(2), "residual-connections"),
        ({"depth": 50, "activation": "tanh"}, "vanishing", 1 / math.sqrt(3), 1.0, "critical-initialization"),
        ({"depth": 30, "weight_variance": 4.0}, "exploding", 2.0, math.sqrt(2), "critical-initialization"),
        ({"depth": 30, "activation": "tanh", "weight_variance": 9.0}, "exploding", 3.0, 1.0, "critical-initialization"),
    ],
    ids=["default ReLU", "default tanh", "large ReLU", "chaotic tanh"],
)
def test_weights_off_the_edge_are_named_with_phase_place_and_numbers(options, rule, sigma_w, critical, first):
    """Sigmas come out within 1%: a mean square of 65536 weights is known to 0.6%; growth lies within three bands."""
    finding = found(built(**options))
    numbers = finding.evidence
    assert finding.rule == rule
    assert numbers["sigma_w"] == pytest.approx(sigma_w, rel=0.01)
    assert numbers["critical_sigma_w"] == pytest.approx(critical, rel=1e-6)
    assert abs(numbers["predicted_decades"] - numbers["measured_decades"]) < 3 * numbers["band"]
    assert numbers["trainable_depth"] < options["depth"]
    assert f"sigma_w {numbers['sigma_w']:.3g} -> {critical:.3g}" in finding.change
    assert f"{'ordered' if rule == 'vanishing' else 'chaotic'} phase" in finding.cause
    assert finding.prescriptions[0] == first
    # walking back from the output, one of the last layers: at these rates the gradient is off by a decade within a few of them
    place = int(finding.layer.split(".")[0])
    assert options["depth"] - 15 <= place <= options["depth"]


def test_skips_are_added_to_the_weights_only_where_the_edge_is_not_enough():
    assert "skips" in found(built(depth=50)).change
    assert "skips" not in found(built(depth=50, activation="tanh")).change
    assert "skips" not in found(built(depth=15)).change


def test_dead_layers_are_traced_to_the_first_with_the_bias_that_kills_it():
    """Three layers are killed; what comes behind them gets nothing, and is dead as well."""
    model = built(depth=6, weight_variance=2.0)
    for number in (1, 2, 3):
        nn.init.constant_(model[number][0].bias, -30.0)
    finding = found(model)
    assert (finding.rule, finding.layer) == ("dead-units", "1.1#0")
    assert finding.change == "draw the biases at sigma_b 30 -> 0 in 1.0"


def test_nan_is_traced_to_the_module_that_makes_it():
    layers = list(built(depth=6, weight_variance=2.0))
    layers.insert(4, Logarithm())
    model = nn.Sequential(*layers)
    finding = found(model)
    assert (finding.rule, finding.layer, finding.evidence["place"]) == ("not-finite", "4#0", "output")
    assert finding.change.startswith("keep what 4#0 divides by")
