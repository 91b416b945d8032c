"""`deepforward features`: a page for any trained convolutional network, and one line for what is none."""

import re

import pytest

from deepforward.data import Dataset, load
from deepforward.engine import Recipe, fit
from deepforward.engine.feature_page import features_of
from deepforward.engine.run import Run

STRANGER = """
import torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.head = nn.Linear(4, outputs)

    def forward(self, x):
        x = torch.tanh(self.again(F.relu(self.conv(x))))
        return self.head(F.relu(self.again(x)).mean((2, 3)))

def make(num_outputs):
    return Net(num_outputs)
"""


def short(folder, model: str, data: Dataset, **fields) -> Run:
    recipe = Recipe(model=model, data=data.name, epochs=1, **fields)
    return fit(recipe, folder / "run", quiet=True, data=data, throwaway=True)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    whole = load("digits")
    return Dataset("digits", whole.train.spread(300), whole.test.spread(100), whole.classes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits):
    return short(tmp_path_factory.mktemp("features"), "lenet5", digits).folder


def test_a_page_is_written_into_the_run_and_names_what_it_shows(deepforward, run):
    outcome = deepforward("features", "run")
    assert outcome.code == 0
    assert outcome.out.strip() == str((run / "features.html").relative_to(run.parent))
    page = (run / "features.html").read_text(encoding="utf-8")
    for words in (
        "Features of lenet5 on digits",
        "conv1.activation",
        "5 x 5 pixels",
        "Filters of the first layer",
        "occlusion",
    ):
        assert words in page, words
    assert page.count("<img") > 100


def test_what_is_shown_is_measured(trained, digits):
    record = features_of(Run.open(trained, digits))
    assert [layer.name for layer in record.layers] == [
        *("conv1.activation", "conv2.activation"),
        *("hidden3.activation", "hidden4.activation"),
    ]
    first, second, third, _ = record.layers
    assert (first.size, second.size, first.stride, second.stride) == ((5, 5), (14, 14), (1, 1), (2, 2))
    assert first.effective <= 5
    assert not first.sees_all
    assert third.sees_all
    assert 0 <= third.probe_error < record.input_error + 0.1
    assert {row: pictures.shape for row, pictures in first.pictures.items()} == dict.fromkeys(
        ("made", "found 1", "found 2", "found 3", "projected"), (8, 1, 5, 5)
    )
    assert record.examples.shape == (6, 1, 8, 8)
    assert set(record.maps) == {"occlusion", "saliency"}


@pytest.mark.parametrize("model", ["resnet20", "lecun1989"])
def test_other_networks_of_the_zoo(model, tmp_path, digits, unchecked):
    data = digits
    if model == "lecun1989":
        larger = [split.__class__(split.inputs.repeat(1, 1, 2, 2), split.targets) for split in (digits.train, digits.test)]
        data = Dataset("digits", *larger, digits.classes)
    with unchecked():
        record = features_of(short(tmp_path, model, data))
    sizes = [layer.size[0] for layer in record.layers]
    assert sizes == sorted(sizes)
    assert all(layer.pictures for layer in (record.layers[0], record.layers[-1]))


def test_a_stranger_calls_layers_twice_and_activations_as_functions(tmp_path, digits):
    (tmp_path / "net.py").write_text(STRANGER)
    record = features_of(short(tmp_path, f"{tmp_path / 'net.py'}:make", digits))
    assert [layer.name for layer in record.layers] == ["conv", "again", "again#1"]
    assert [layer.size for layer in record.layers] == [(3, 3), (5, 5), (7, 7)]
    assert "projected" not in record.layers[2].pictures


@pytest.mark.parametrize(("model", "data"), [("perceptron", "digits"), ("perceptron", "rings")])
def test_a_run_without_convolution_is_refused_in_one_line(model, data, deepforward, tmp_path):
    short(tmp_path, model, load(data))
    complaint = deepforward("features", "run").complaint
    assert re.match(r"got 'perceptron' on examples of shape .*; features expects a convolutional network", complaint)
    assert not (tmp_path / "run" / "features.html").exists()
