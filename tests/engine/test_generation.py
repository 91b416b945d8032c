"""What a trained run gives: samples, completions, features, and the files they go into."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deepforward.data import load
from deepforward.engine import Recipe, exports, fit
from deepforward.engine.embedding import embed
from deepforward.errors import InvalidModel, InvalidOption, ShapeError, UnknownName, WriteFailed

QUICK = {"ais_temperatures": 50, "ais_chains": 5}


@pytest.fixture(scope="module")
def rbm(tmp_path_factory):
    recipe = Recipe(
        model="rbm", model_options={"hidden": 32}, epochs=15, learning_rate=0.5, averaging=0.0, objective_options=QUICK
    )
    return fit(recipe, tmp_path_factory.mktemp("runs") / "rbm", quiet=True)


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory):
    recipe = Recipe(model="perceptron", model_options={"depth": 1, "width": 8}, epochs=1)
    return fit(recipe, tmp_path_factory.mktemp("runs") / "perceptron", quiet=True)


def test_samples_are_in_the_units_of_the_data_and_come_from_the_model(rbm):
    samples = rbm.sample(200, 100, seed=1)
    assert samples.shape == (200, 1, 8, 8)
    assert samples.min() >= 0
    assert samples.max() <= 16
    # Means of the units agree with the data's: a chain of an untrained model, or one left in scaled units, would be far off.
    assert (samples.mean(0) - rbm.data.train.inputs.float().mean(0)).abs().max() < 2.5
    assert samples.std(0).max() > 3
    assert torch.equal(samples, rbm.sample(200, 100, seed=1))
    assert not torch.equal(samples, rbm.sample(200, 100, seed=2))


def test_completions_keep_what_is_given_and_fit_it(rbm):
    found = rbm.complete("upper", count=200, steps=50, seed=0)
    known = found.known > 0
    assert found.truth.shape == found.completed.shape == (200, 1, 8, 8)
    assert torch.equal(found.truth, rbm.data.test.inputs[torch.linspace(0, 449, 200).long()].float())
    assert torch.equal(found.completed[:, known], found.truth[:, known])
    drawn, lower = found.completed[:, ~known], found.truth[:, ~known]
    own, strange = ((drawn - other).square().mean() for other in (lower, lower.roll(1, 0)))
    assert own < 0.85 * strange
    assert len(rbm.complete("left", count=10_000, steps=1).truth) == len(rbm.data.test)


def test_what_cannot_sample_says_what_can(perceptron):
    with pytest.raises(InvalidModel, match=r"'perceptron' has no chains .* rbm"):
        perceptron.sample(1, 1)
    with pytest.raises(InvalidModel, match="has no chains"):
        perceptron.complete("upper", 1, 1)


@pytest.mark.parametrize("numbers", [{"count": 0}, {"steps": 0}, {"count": True}])
def test_numbers_below_one_are_refused(rbm, numbers):
    with pytest.raises(InvalidOption, match="expected a whole number of at least 1"):
        rbm.sample(**numbers)
    with pytest.raises(InvalidOption, match="expected a whole number of at least 1"):
        rbm.complete(**numbers)


def test_features_are_the_outputs_in_evaluation_mode(perceptron, rbm):
    features, targets = perceptron.embed("test")
    parts = perceptron.parts()
    assert torch.equal(targets, perceptron.data.test.targets)
    with torch.no_grad():
        outputs = parts.model(parts.scaling(perceptron.data.test.inputs))
    assert torch.allclose(features, outputs, atol=1e-6)
    hidden, _ = rbm.embed("train")
    assert hidden.shape == (1347, 32)
    model = rbm.model()
    means = (rbm.scaling(rbm.data.train.inputs).flatten(1) @ model.weight + model.hidden_units.bias).sigmoid()
    assert torch.allclose(hidden, means, atol=1e-5)


class WithFeatures(nn.Module):
    """A model whose features are not its outputs."""

    def features(self, inputs):
        return 2 * inputs[:, :, :2]

    def forward(self, inputs):
        raise AssertionError("its features were asked for")


def test_a_method_features_comes_before_the_outputs(perceptron):
    parts = dataclasses.replace(perceptron.parts(), model=WithFeatures())
    found = embed(parts, perceptron.data.test)
    expected = 2 * parts.scaling(perceptron.data.test.inputs)[:, :, :2].flatten(1)
    assert torch.equal(found, expected)


def test_a_model_that_gives_no_tensor_is_refused(perceptron):
    class Pair(nn.Module):
        def forward(self, inputs):
            return inputs, inputs

    with pytest.raises(InvalidModel, match="gives tuple; expected a tensor"):
        embed(dataclasses.replace(perceptron.parts(), model=Pair()), perceptron.data.test)


def test_other_data_must_have_the_shape_of_the_runs_own(perceptron):
    with pytest.raises(ShapeError, match=r"rings with examples of shape \(2,\); expected \(1, 8, 8\)"):
        perceptron.embed(data=load("rings"))
    with pytest.raises(UnknownName, match="unknown split 'validation'"):
        perceptron.embed("validation")


def test_places_are_a_file_or_one_of_each_kind_in_a_folder(tmp_path):
    kinds = (".png", ".npz")
    assert exports.output_paths(tmp_path / "new", "x", kinds) == [tmp_path / "new" / "x.png", tmp_path / "new" / "x.npz"]
    (tmp_path / "run.v2").mkdir()
    assert exports.output_paths(tmp_path / "run.v2", "x", kinds)[0] == tmp_path / "run.v2" / "x.png"
    assert exports.output_paths(tmp_path / "a.npz", "x", kinds) == [tmp_path / "a.npz"]
    with pytest.raises(InvalidOption, match=r"ends in \.png or \.npz"):
        exports.output_paths(tmp_path / "a.jpg", "x", kinds)


def test_samples_are_written_exactly_and_drawn_in_the_range_of_the_data(rbm, tmp_path):
    samples = torch.zeros(4, 1, 8, 8)
    samples[1], samples[2] = 16.0, 8.0
    paths = exports.write_samples([tmp_path / "s.png", tmp_path / "s.npz"], samples, rbm.data)
    assert (np.load(paths[1], allow_pickle=False)["samples"] == samples.numpy()).all()
    sheet = np.asarray(Image.open(paths[0]))
    assert [sheet[0, 0], sheet[0, 40], sheet[40, 0], sheet[40, 40]] == [0, 255, 127, 0]


def test_the_picture_of_completions_has_rows_of_given_completed_and_whole(rbm, tmp_path):
    found = rbm.complete("upper", count=20, steps=2)
    png, npz = exports.write_completions([tmp_path / "c.png", tmp_path / "c.npz"], found, rbm.data)
    stored = np.load(npz, allow_pickle=False)
    assert {name: stored[name].shape for name in stored} == {
        "truth": (20, 1, 8, 8),
        "completed": (20, 1, 8, 8),
        "known": (1, 8, 8),
    }
    sheet = np.asarray(Image.open(png))
    assert sheet.shape == (6 * 34 - 2, 16 * 34 - 2)
    given, whole = sheet[3 * 34 : 3 * 34 + 32, :32], sheet[5 * 34 : 5 * 34 + 32, :32]  # of example 16
    assert (given[:16] == whole[:16]).all()
    assert (given[16:] == 127).all()
    assert (sheet[3 * 34 :, 4 * 34 :] >= 127).all()  # the last row is filled up with grey


def test_tables_have_names_of_classes_and_numbers_that_come_back(tmp_path):
    data = load("digits")
    features = torch.tensor([[0.1, -1e-7], [3.0, 1 / 3]])
    exports.write_features(tmp_path / "f.csv", features, torch.tensor([4, 7]), data)
    header, *rows = csv.reader((tmp_path / "f.csv").read_text().splitlines())
    assert header == ["feature0", "feature1", "target"]
    assert [row[-1] for row in rows] == [data.classes[4], data.classes[7]]
    assert torch.equal(torch.tensor([[float(x) for x in row[:-1]] for row in rows]), features)
    exports.write_features(tmp_path / "f.npz", features, torch.tensor([4, 7]), data)
    stored = np.load(tmp_path / "f.npz", allow_pickle=False)
    assert (stored["features"] == features.numpy()).all()
    assert stored["targets"].tolist() == [4, 7]
    assert tuple(stored["classes"]) == data.classes


def test_what_cannot_be_written_or_drawn_is_named(rbm, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteFailed, match="a file stands where a folder is wanted"):
        exports.write_samples([tmp_path / "file" / "s.npz"], torch.zeros(1, 1, 8, 8), rbm.data)
    rings = load("rings")
    with pytest.raises(InvalidOption, match="which are no images"):
        exports.write_samples([tmp_path / "s.png"], torch.zeros(3, 2), rings)
    assert exports.write_samples([tmp_path / "s.png", tmp_path / "s.npz"], torch.zeros(3, 2), rings) == [tmp_path / "s.npz"]
