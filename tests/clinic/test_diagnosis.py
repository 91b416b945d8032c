import copy
import json

import pytest
import torch
from torch import nn

from deepforward import Probe
from deepforward.clinic import diagnose
from deepforward.data import load
from deepforward.engine import Recipe, fit
from deepforward.errors import InvalidData, InvalidOption


def deep(depth: int = 20) -> nn.Sequential:
    hidden = [layer for _ in range(depth) for layer in (nn.Linear(64, 64), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def ill_run(tmp_path_factory):
    recipe = Recipe(model="perceptron", model_options={"depth": 20, "width": 16}, epochs=1, threads=1)
    return fit(recipe, tmp_path_factory.mktemp("runs") / "ill", quiet=True)


@pytest.mark.parametrize(
    "data", ["digits", load("digits"), (torch.randn(64, 64), torch.arange(64) % 10)], ids=["spec", "set", "pair"]
)
def test_a_module_is_diagnosed_from_any_form_of_data(data):
    (finding,) = diagnose(deep(), data).findings
    assert finding.rule == "vanishing"
    assert finding.evidence["rate_per_layer"] == pytest.approx(
        -0.39, abs=0.03
    )  # log10 sqrt(6): Var W = 1/(3 fan_in), half pass


def test_a_critical_module_is_not_ill():
    model = deep()
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    assert diagnose(model, "digits").findings == ()


def test_a_module_is_left_as_it_was():
    model = nn.Sequential(deep(3), nn.BatchNorm1d(10), nn.Dropout(0.5)).eval()
    model[1].train()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    diagnose(model, "digits")
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    assert [m.training for m in model] == [False, True, False]
    assert torch.equal(random, torch.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_a_probe_in_somebodys_own_loop_is_enough():
    model, inputs, targets = deep(), torch.randn(64, 64), torch.arange(64) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Probe(model, optimizer=optimizer) as probe:
        for _ in range(10):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    diagnosis = diagnose(probe)
    assert diagnosis.rules == diagnose(probe.readings()).rules == ("vanishing",)
    assert "try: residual-connections" in str(diagnosis)


def test_a_run_keeps_its_findings_beside_what_it_held(ill_run):
    before = ill_run.result
    diagnosis = diagnose(ill_run)
    assert diagnosis.rules == ("vanishing",)
    assert ill_run.result == before | {"findings": json.loads(diagnosis.to_json())["findings"]}
    assert diagnose(ill_run).to_json() == diagnosis.to_json()


def test_the_json_form_is_the_published_one(ill_run):
    written = json.loads(diagnose(ill_run).to_json())
    assert written.keys() == {"findings", "verdicts"}
    assert written["findings"][0].keys() == {"rule", "layer", "severity", "cause", "evidence", "source", "prescriptions"}


def test_regression_is_diagnosed_with_its_own_objective():
    model = nn.Sequential(deep(), nn.Linear(10, 1))
    assert diagnose(model, (torch.randn(64, 64), torch.randn(64)), objective="squared-error").rules == ("vanishing",)


def test_a_module_without_data_is_refused():
    with pytest.raises(InvalidOption, match="got Sequential without data"):
        diagnose(deep())


@pytest.mark.parametrize("count", [0, 3])
def test_inputs_without_as_many_targets_are_refused(count):
    with pytest.raises(InvalidData, match=f"got {count} inputs"):
        diagnose(deep(), (torch.zeros(count, 64), torch.zeros(count and count + 1, dtype=torch.int64)))
