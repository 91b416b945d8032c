"""The rule for holes in dilated convolutions, on stages written by hand and on a stranger's module."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deepforward.clinic import Evidence, conclude, diagnose
from deepforward.clinic.planted import dilated
from deepforward.clinic.rules.gridding import gridding
from deepforward.layers.dilated_stages import DilatedLayer, DilatedStage
from deepforward.layers.dilation import check_rates
from tests.clinic.examples import history, stuck


def stage(*rates, kernel=3, name="stage"):
    found = check_rates(rates, kernel)
    layers = tuple(DilatedLayer(f"{name}.{i}", (kernel, kernel), (rate, rate)) for i, rate in enumerate(rates))
    return DilatedStage(layers, (found.field, found.field), found.coverage)


def test_the_finding_names_layer_numbers_and_the_rates_to_take():
    (finding,) = gridding(stuck(dilations=(stage(1, 2, 3, name="a"), stage(2, 2, 2, name="b"))))
    assert (finding.layer, finding.prescriptions) == ("b.0", ("hybrid-dilation",))
    assert finding.evidence == {"coverage": 49 / 169, "field": "13 x 13", "rates": "(2, 2, 2)", "factor": 2}
    assert "touch 29.0% of their receptive field of 13 x 13: all rates share the factor 2;" in finding.cause
    assert finding.change == "rates (1, 2, 3) in their place: the same receptive field, and no hole"


def test_the_worst_stage_is_named_and_its_first_dilated_layer():
    (finding,) = gridding(stuck(dilations=(stage(1, 2, 9), stage(1, 12, name="worse"))))
    assert finding.layer == "worse.1"
    assert finding.change == "rates (1, 3) in their place: as large a receptive field as can be, and no hole"
    assert "factor" not in finding.cause


def test_no_finding_without_holes_to_speak_of_or_in_a_run_that_thrives():
    assert gridding(Evidence()) == gridding(stuck()) == []
    assert gridding(stuck(dilations=(stage(1, 2, 3), stage(1, 2, 5, 9)))) == []
    thriving = Evidence(history=history(1.0, 0.01), chance=1.0, dilations=(stage(4, 4, 4),))
    assert gridding(thriving) == []


def test_of_a_module_its_severity_is_the_share_that_is_never_seen():
    (finding,) = gridding(Evidence(dilations=(stage(2, 2),)))
    assert finding.severity == pytest.approx(1 - 25 / 81)


def test_holes_explain_a_loss_at_chance():
    evidence = stuck(dilations=(stage(4, 4, 4),))
    assert conclude(stuck()).rules == ("no-progress",)
    assert conclude(evidence).rules == ("gridding",)


@pytest.mark.parametrize(("rates", "rules"), [((4, 4, 4), ("gridding",)), ((1, 3, 8), ())])
def test_a_stranger_s_module_is_diagnosed(rates, rules):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module: nn.Module = dilated((1, 24, 24), 2, rates=rates)
    found = diagnose(module, "shapes?n=24&classes=2&size=24", objective="pixel-cross-entropy")
    assert found.rules == rules
