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
    assert set(finding) == {"rule", "layer", "severity", "evidence", "cause", "source", "prescriptions", "change"}
    assert finding["rule"] == "vanishing"
    assert finding["evidence"]["layers"] == 41


def test_a_model_is_looked_at_under_the_scaling_asked_for(deepforward) -> None:
    rng = np.random.default_rng(0)
    np.savez("large.npz", x=1e4 * rng.normal(size=(80, 8)), y=np.arange(80) % 2)
    look = ("diagnose", "perceptron", "--set", "activation=tanh", "--data", "npz:large.npz")
    assert "unscaled-inputs" in deepforward(*look, "--set", "scaling=none").out
    assert "no illness found" in deepforward(*look, "--set", "scaling=standardise").out


def test_a_shallow_network_is_found_healthy(deepforward) -> None:
    assert "no illness found" in deepforward("diagnose", "perceptron", "--set", "depth=2").out


ENCODER = """
import torch
from torch import nn

class Encoder(nn.Module):
    def __init__(self, width):
        super().__init__()
        layers = [layer for _ in range(24) for layer in (nn.Linear(width, width), nn.ReLU())]
        self.embed, self.body, self.head = nn.Embedding(50, width), nn.Sequential(*layers), nn.Linear(width, 3)

    def forward(self, *, tokens, labels):
        scores = self.head(self.body(self.embed(tokens).mean(1)))
        return {"loss": nn.functional.cross_entropy(scores, labels), "scores": scores}

def loss(model, batch):
    return model(**batch)["loss"]

def encoder(width=16):
    batches = ({"tokens": torch.randint(50, (20, 7)), "labels": torch.randint(3, (20,))} for _ in range(9))
    return Encoder(width), batches, loss

def pair():
    return Encoder(16), []
"""


def test_a_factory_may_bring_batches_and_a_loss_along(deepforward) -> None:
    Path("nets.py").write_text(ENCODER)
    outcome = deepforward(
        "diagnose", "nets.py:encoder", "--set", "width=24", "--json", "findings.json", "--report", "page.html"
    )
    assert (outcome.code, outcome.err) == (0, "")
    (finding,) = json.loads(Path("findings.json").read_text())["findings"]
    assert (finding["rule"], finding["evidence"]["layers"]) == ("vanishing", 25)
    page = Path("page.html").read_text()
    assert finding["cause"][1:] in page and "Gradient and signal along depth" in page and "nets.py:encoder" in page
    assert deepforward("diagnose", "nets.py:encoder", "--set", "width=24").out in outcome.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("diagnose", "nets.py:encoder", "--data", "digits"),
            "got --data with 'nets.py:encoder', which brings its own batches",
        ),
        (("diagnose", "nets.py:encoder", "--set", "objective=squared-error"), "got --set objective=..."),
        (("diagnose", "nets.py:pair"), "returned (Encoder, list); expected a module, or (model, batches, loss)"),
        (("diagnose", "nets.py:encoder", "--cure"), "which only `diagnose` takes"),
        (("train", "nets.py:encoder"), "returned a model with batches and a loss, which only `diagnose` takes"),
        (("diagnose", "perceptron", "--cure", "--report", "page.html"), "got --report with --cure"),
    ],
)
def test_what_a_case_of_its_own_leaves_without_effect_is_refused(deepforward, arguments, says: str) -> None:
    Path("nets.py").write_text(ENCODER)
    assert says in deepforward(*arguments).complaint


def test_a_page_of_a_model_and_the_report_of_a_run(deepforward) -> None:
    outcome = deepforward("diagnose", "perceptron", "--set", "depth=3", "--report", "model.html")
    assert outcome.out.splitlines()[-1] == "model.html"
    page = Path("model.html").read_text()
    for section in ("Order and chaos", "Spectrum of the Jacobian", "Smoothness of the loss", "How this was made"):
        assert section in page
    assert "deepforward diagnose perceptron --data digits --set depth=3" in page
    deepforward("train", "perceptron", "--set", "depth=1", "--epochs", 1, "--out", "run", "--quiet")
    assert deepforward("diagnose", "run", "--report", "run.html").out.splitlines()[-1] == "run.html"
    assert "Final metrics" in Path("run.html").read_text()


@pytest.mark.parametrize("cure", [False, True])
def test_a_healthy_run_needs_no_cure(deepforward, cure: bool) -> None:
    deepforward("train", "perceptron", "--set", "depth=1", "--epochs", 4, "--out", "run", "--quiet")
    outcome = deepforward("diagnose", "run", "--json", "findings.json", *(["--cure"] if cure else []))
    assert "no illness found" in outcome.out
    assert json.loads(Path("findings.json").read_text()) == {"findings": [], "verdicts": []}
