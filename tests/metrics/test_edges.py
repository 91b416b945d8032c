import itertools

import pytest
import torch

from deepforward.metrics.edges import edge_agreement


def share_near(edges, others, tolerance):
    """Slow oracle: every pair of edge pixels."""
    pixels, targets = edges.nonzero().tolist(), others.nonzero().tolist()
    near = [any(max(abs(y - v), abs(x - u)) <= tolerance for v, u in targets) for y, x in pixels]
    return sum(near) / max(len(near), 1)


@pytest.mark.parametrize(("seed", "tolerance"), list(itertools.product(range(4), (0, 1, 2))))
def test_agreement_is_that_of_all_pairs(seed, tolerance):
    rng = torch.Generator().manual_seed(seed)
    found, right = (torch.rand(12, 17, generator=rng) < share for share in (0.05, 0.1))
    precision, recall, f1 = edge_agreement(found, right, tolerance)
    assert precision == pytest.approx(share_near(found, right, tolerance))
    assert recall == pytest.approx(share_near(right, found, tolerance))
    assert f1 == pytest.approx(2 * precision * recall / (precision + recall) if precision + recall else 0)


def test_nothing_found_agrees_with_nothing():
    none, some = torch.zeros(3, 5, 5, dtype=torch.bool), torch.ones(3, 5, 5, dtype=torch.bool)
    assert edge_agreement(none, some).f1 == edge_agreement(some, none).f1 == edge_agreement(none, none, 1).f1 == 0
    assert edge_agreement(some, some) == (1, 1, 1)


def test_maps_of_a_batch_do_not_see_each_other():
    found, right = torch.zeros(2, 3, 4, 4, dtype=torch.bool).unbind()
    found[0, 1, 1] = right[1, 1, 1] = True
    assert edge_agreement(found, right, 1).f1 == 0
