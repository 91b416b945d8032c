import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from deepforward.clinic import Evidence
from deepforward.clinic.edge import cosine_of_inputs, depth_kept_apart, edge_of
from deepforward.clinic.planted import stack
from deepforward.instruments.phase import Phase
from deepforward.instruments.rank_collapse import Representation, Representations


def phase(depth=20, width=256, output=None, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = stack((64,), 10, depth=depth, width=width, **options)
        if output is not None:
            nn.init.normal_(model[-1].weight, std=output)
        batch = (torch.randn(64, 64), torch.arange(64) % 10)
    return Phase().measure(model, [batch], lambda m, b: cross_entropy(m(b[0]), b[1]))


def test_the_distance_from_the_edge_of_relu_is_what_its_gradient_shows():
    """Homogeneous: a factor in all weights is a factor in all gradients, so departure and growth are the same number."""
    edge = edge_of(phase(weight_variance=1.0))
    assert edge.layers == 19
    assert edge.sigma_w == pytest.approx(1.0, rel=0.01)
    assert edge.departure == pytest.approx(-19 * math.log10(2) / 2, rel=0.02)
    assert abs(edge.measured - edge.departure) < 3 * edge.band + 0.1
    assert edge.trainable_depth == pytest.approx(6 / math.log(2), rel=0.03)
    assert edge.change.startswith("draw the weights at sigma_w 1 -> 1.41")


def test_the_output_layer_is_no_part_of_the_depth():
    small, large = (edge_of(phase(weight_variance=2.0, output=std)) for std in (0.01, 1.0))
    assert small.measured == pytest.approx(large.measured, abs=0.3)
    assert abs(small.departure) < 0.2


@pytest.mark.parametrize("options", [{"normalized": True}, {"residual": True}])
def test_no_edge_is_claimed_where_mean_field_theory_does_not_hold(options):
    assert edge_of(phase(**options)) is None


def test_nothing_is_concluded_of_a_gradient_that_does_not_arrive():
    assert edge_of(None) is None
    seen = phase(depth=4)
    assert edge_of(replace(seen, layers=tuple(replace(layer, growth=None) for layer in seen.layers))) is None


def test_relu_draws_inputs_together_as_its_arc_cosine_map_says_and_tanh_does_not():
    """c' = (sqrt(1 - c^2) + (pi - arccos c) c) / pi (Cho and Saul 2009), iterated by hand from the first pre-activation on."""
    c, depth = 0.5, 1
    while c <= 0.95:
        c, depth = (math.sqrt(1 - c * c) + (math.pi - math.acos(c)) * c) / math.pi, depth + 1
    assert depth_kept_apart("relu", 0.5) == depth
    assert depth_kept_apart("tanh", 0.5) == math.inf
    assert depth_kept_apart("relu", 0.5, alike=0.9) < depth


@pytest.mark.parametrize(("cosine", "told"), [(0.4999, 0.5), (-0.2, 0.0), (None, 0.0), (1.0, 1.0)])
def test_the_cosine_of_the_inputs_is_told_in_tenths(cosine, told):
    seen = Representations(2, Representation("input", "", cosine, 1.0, 2), (), None)
    assert cosine_of_inputs(Evidence(representations=seen)) == told
    assert cosine_of_inputs(Evidence()) == 0.0
