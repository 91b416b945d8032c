import copy
import inspect
import json

import numpy as np
import pytest
import torch
from torch import nn

from deepforward import Probe
from deepforward.clinic import diagnose
from deepforward.data import load
from deepforward.engine import Recipe, Run, fit
from deepforward.errors import InvalidData, InvalidModel, InvalidOption, RunMismatch, ShapeError


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


@pytest.mark.parametrize(("depth", "rules"), [(10, ()), (30, ("rank-collapse",))])
def test_a_critical_module_is_ill_only_where_it_makes_inputs_alike(depth, rules):
    model = deep(depth)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    assert diagnose(model, "digits").rules == rules


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
    assert written["findings"][0].keys() == {
        "rule",
        "layer",
        "severity",
        "cause",
        "evidence",
        "source",
        "prescriptions",
        "change",
    }


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


class Functional(nn.Module):
    """Two affine layers with a function between them that no module shows."""

    def __init__(self, between, bias: float = 0.0) -> None:
        super().__init__()
        self.between, self.a, self.b = between, nn.Linear(8, 16), nn.Linear(16, 10)
        nn.init.constant_(self.a.bias, bias)

    def forward(self, x):
        return self.b(self.between(self.a(x)))


def pair(examples: int = 65):
    return torch.randn(examples, 8), torch.arange(examples) % 10


def test_dead_units_behind_a_function_are_seen_by_the_gradient_they_stop():
    (finding,) = diagnose(Functional(torch.relu, bias=-50.0), pair()).findings
    assert (finding.rule, finding.layer) == ("dead-units", "a#0")
    assert diagnose(Functional(torch.relu), pair()).findings == ()


def test_a_function_that_makes_nan_is_named_and_not_the_layer_that_receives_it():
    (finding,) = diagnose(Functional(torch.log), pair()).findings
    assert (finding.rule, finding.layer) == ("not-finite", "Functional#0")
    assert "an operation there is at fault" in finding.cause


def test_nan_in_the_inputs_is_named_as_such():
    inputs, targets = pair()
    inputs[3, 2] = torch.nan
    (finding,) = diagnose(Functional(torch.relu), (inputs, targets)).findings
    assert finding.evidence["place"] == "input"
    assert "arose in the inputs" in finding.cause


def test_inputs_are_scaled_as_asked():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert diagnose(model, "digits").evidence.input_scale == pytest.approx(1.0, abs=0.1)
    assert diagnose(model, "digits", scaling="none").evidence.input_scale > 3


@pytest.mark.parametrize("convert", [lambda x: x.numpy(), lambda x: x.tolist(), lambda x: x.numpy().astype(np.float64)])
def test_arrays_and_lists_are_data(convert):
    inputs, targets = pair()
    assert diagnose(Functional(torch.relu), [convert(inputs), targets.int().numpy()]).findings == ()


def test_the_folder_of_a_run_is_a_run(ill_run, tmp_path):
    assert diagnose(str(ill_run.folder)).rules == diagnose(ill_run.folder).rules == ("vanishing",)
    with pytest.raises(RunMismatch, match="not a run folder"):
        diagnose(tmp_path)


def test_a_run_that_has_not_ended_gets_no_result(ill_run, tmp_path):
    for name in ("recipe.json", "history.jsonl", "readings.json"):
        (tmp_path / name).write_bytes((ill_run.folder / name).read_bytes())
    assert diagnose(tmp_path).rules == ("vanishing",)
    assert Run.open(tmp_path).result == {}


def test_a_patient_of_another_kind_is_refused():
    with pytest.raises(InvalidOption, match="got Recipe; expected a run"):
        inspect.unwrap(diagnose)(Recipe(model="perceptron"))  # the types that tests check would refuse it before


class OnlyEvaluates(nn.Linear):
    def forward(self, x):
        if self.training:
            raise ValueError("no training here")
        return super().forward(x)


@pytest.mark.parametrize(
    ("module", "data", "error", "message"),
    [
        (nn.Linear(8, 5), pair(), InvalidData, "got label 5 at example 5, expected 0 to 4"),
        (nn.Linear(8, 10), (pair()[0], -pair()[1]), InvalidData, "got label -1"),
        (nn.Linear(8, 10), (pair()[0], torch.zeros(65)), InvalidData, "expected one int64 class index"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(9, 10)),
            pair(),
            ShapeError,
            r"layer '1' \(Linear\) got input of shape \(2, 8\)",
        ),
        (OnlyEvaluates(8, 10), pair(), InvalidModel, "raised ValueError in training mode: no training here"),
        (nn.Sequential(nn.Linear(8, 10), nn.BatchNorm1d(10)), pair(1), InvalidModel, "more than 1 value per channel"),
        (nn.Linear(8, 10), (["a"], ["b"]), InvalidData, "as arrays"),
        (nn.Linear(8, 10), (1.0, 2.0), InvalidData, "got one number as inputs"),
        (nn.LazyLinear(10), pair(), InvalidModel, "uninitialised"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(module, data, error, message):
    with pytest.raises(error, match=message) as caught:
        diagnose(module, data)
    assert "\n" not in str(caught.value)


def test_a_last_batch_is_never_a_single_example():
    assert diagnose(nn.Sequential(nn.Linear(8, 10), nn.BatchNorm1d(10)), pair(65)).findings == ()
