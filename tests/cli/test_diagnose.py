"""`deepforward diagnose`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

DEEP = ("perceptron", "--set", "depth=40", "--set", "width=32")


def test_a_deep_network_is_found_ill_before_it_is_trained(deepforward) -> None:
    outcome = deepforward("diagnose", *DEEP, "--json", "findings.json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("vanishing from layer ")
    (finding,) = json.loads(Path("findings.json").read_text())["findings"]
    assert set(finding) == {"rule", "layer", "severity", "evidence", "cause", "source", "prescriptions"}
    assert finding["rule"] == "vanishing"
    assert finding["evidence"]["layers"] == 41


def test_a_model_is_looked_at_under_the_scaling_asked_for(deepforward) -> None:
    rng = np.random.default_rng(0)
    np.savez("large.npz", x=1e4 * rng.normal(size=(80, 8)), y=np.arange(80) % 2)
    look = ("diagnose", "perceptron", "--set", "activation=tanh", "--data", "npz:large.npz")
    assert "saturation" in deepforward(*look, "--set", "scaling=none").out
    assert "no illness found" in deepforward(*look, "--set", "scaling=standardise").out


def test_a_shallow_network_is_found_healthy(deepforward) -> None:
    assert "no illness found" in deepforward("diagnose", "perceptron", "--set", "depth=2").out


@pytest.mark.parametrize("cure", [False, True])
def test_a_healthy_run_needs_no_cure(deepforward, cure: bool) -> None:
    deepforward("train", "perceptron", "--set", "depth=1", "--epochs", 4, "--out", "run", "--quiet")
    outcome = deepforward("diagnose", "run", "--json", "findings.json", *(["--cure"] if cure else []))
    assert "no illness found" in outcome.out
    assert json.loads(Path("findings.json").read_text()) == {"findings": [], "verdicts": []}
