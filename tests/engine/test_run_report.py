"""A run folder -> the plain values that its page is drawn from."""

import numpy as np
import pytest
import torch

from deepforward.data import load
from deepforward.engine import Recipe, fit
from deepforward.engine import run as run_module
from deepforward.engine.assembly import assemble
from deepforward.engine.pixels import pixels
from deepforward.engine.run_report import record_of

QUICK = {"ais_temperatures": 50, "ais_chains": 5}


@pytest.fixture(scope="module")
def rbm(tmp_path_factory):
    recipe = Recipe(
        model="rbm", model_options={"hidden": 32}, epochs=5, learning_rate=0.5, averaging=0.0, objective_options=QUICK
    )
    return fit(recipe, tmp_path_factory.mktemp("runs") / "rbm", quiet=True)


def test_a_model_without_classes_has_no_confusion_though_its_data_have(rbm):
    record = record_of(rbm)
    assert rbm.data.classes
    assert record.confusion is None
    assert record.mistakes is None
    assert record.descends is False


def test_its_portrait_and_snapshots_are_pictures(rbm):
    record = record_of(rbm)
    images = {"samples": (48, 1, 8, 8), "chains": (8, 10, 1, 8, 8), "reconstructions": (12, 2, 1, 8, 8)}
    assert {name: record.portrait[name].shape for name in images} == images
    assert all(record.portrait[name].dtype == np.uint8 for name in images)
    assert record.portrait["free_energy/test"].shape == (450,)
    assert list(record.snapshots) == list(rbm.snapshots)
    assert record.snapshots[5]["samples"].dtype == np.uint8
    example = record.portrait["reconstructions"][0, 0]
    assert (example == pixels(rbm.data.test.inputs[:1], like=rbm.data.train.inputs)[0]).all()


def test_receptive_fields_come_by_falling_norm(rbm):
    filters = record_of(rbm).filters
    assert filters.shape == (32, 1, 8, 8)
    norms = np.linalg.norm(filters.reshape(32, -1), axis=1)
    assert (np.diff(norms) <= 1e-6).all()
    columns = rbm.model().weight.detach().t().numpy()
    assert any((filters[0].ravel() == column).all() for column in columns)


@pytest.mark.parametrize("of", ["deep-belief-network", "deep-belief-classifier", "deep-boltzmann-machine"])
def test_those_of_a_stack_are_of_its_lowest_machine(tmp_path, of):
    stages = () if of.endswith("machine") else ({"epochs": 1},)
    options = {"model_options": {"hidden": [12, 64]}, "pretraining": stages, "epochs": 1}
    if of != "deep-belief-classifier":
        options |= {"objective_options": QUICK}
    run = fit(Recipe(model=of, **options), tmp_path / "run", quiet=True)
    model = run.model()
    lowest = (model.weights[0] if of.endswith("machine") else model.stack[0].weight).detach()
    order = lowest.norm(dim=0).argsort(descending=True, stable=True)
    assert (record_of(run).filters == lowest.t()[order].reshape(12, 1, 8, 8).numpy()).all()


def test_a_perceptron_that_began_as_a_machine_shows_its_own(tmp_path):
    recipe = Recipe(model="deep-boltzmann-classifier", model_options={"hidden": [12, 64]}, pretraining=(), epochs=1)
    run = fit(recipe, tmp_path / "run", quiet=True)
    assert (record_of(run).filters == run.model().layers[0].weight.detach().reshape(12, 1, 8, 8).numpy()).all()


def test_those_of_a_convolutional_machine_are_its_kernels(tmp_path):
    recipe = Recipe(
        model="convolutional-rbm", model_options={"maps": 6, "kernel": 3}, epochs=1, objective_options={"ais_chains": 0}
    )
    run = fit(recipe, tmp_path / "run", quiet=True)
    filters, kernels = record_of(run).filters, run.model().weight.detach()
    assert filters.shape == (6, 1, 3, 3)
    assert (filters == kernels[kernels.flatten(1).norm(dim=1).argsort(descending=True, stable=True)].numpy()).all()
    assert "Receptive fields" in run.report().read_text()


def test_the_parts_are_put_together_once(tmp_path, monkeypatch):
    recipe = Recipe(model="perceptron", model_options={"depth": 1, "width": 4}, epochs=1)
    run = fit(recipe, tmp_path / "run", quiet=True)
    calls = []
    monkeypatch.setattr(run_module, "assemble", lambda *given: calls.append(given) or assemble(*given))
    assert record_of(run).confusion is not None
    assert len(calls) == 1


def test_a_report_drawn_twice_is_the_same(rbm, tmp_path):
    assert rbm.report(tmp_path / "a.html").read_bytes() == rbm.report(tmp_path / "b.html").read_bytes()


def test_data_that_are_no_images_have_no_pictures(tmp_path):
    recipe = Recipe(model="rbm", model_options={"hidden": 4}, data="rings", epochs=1, objective_options=QUICK)
    run = fit(recipe, tmp_path / "run", quiet=True)
    record = record_of(run)
    assert "samples" not in record.portrait
    assert "weights" in record.portrait
    assert run.report().is_file()


def test_stages_that_came_first_are_told_with_their_metrics(tmp_path):
    stages = ({"epochs": 1, "learning_rate": 0.001},)
    recipe = Recipe(model="perceptron", model_options={"depth": 1, "width": 4}, epochs=1, pretraining=stages)
    run = fit(recipe, tmp_path / "run", quiet=True)
    record = record_of(run)
    (stage,) = record.stages
    assert (stage["name"], stage["status"], stage["epochs"]) == ("pretraining-1", "finished", 1)
    assert stage["changes"] == {"learning_rate": 0.001}  # epochs are the same
    assert stage["metrics"]["test/accuracy"] != run.metrics["test/accuracy"]
    assert record.confusion is not None
    assert record.portrait == {}
    assert "pretraining-1" in run.report().read_text()


def test_pixels_spread_the_range_of_what_they_are_like():
    data = load("digits").train.inputs  # 0 to 16
    values = torch.tensor([[[-3.0, 0.0, 8.0, 16.0, 99.0]]])
    assert pixels(values, like=data).ravel().tolist() == [0, 0, 127, 255, 255]
    photographs = torch.tensor([0, 200], dtype=torch.uint8).reshape(2, 1, 1, 1)
    assert pixels(photographs).ravel().tolist() == [0, 200]
    assert pixels(torch.tensor([[[100.0]]]), like=photographs).ravel().tolist() == [100]


def test_a_segmenter_s_record_has_masks_and_the_counts_of_its_metrics(tmp_path):
    recipe = Recipe(model="hdc-duc", model_options={"width": 4}, data="shapes?n=40&classes=3", epochs=1, threads=1)
    run = fit(recipe, tmp_path / "run", quiet=True)
    record = record_of(run)
    assert record.confusion is None and record.mistakes is None
    masks = record.masks
    assert masks.images.shape == (6, 1, 32, 32) and masks.images.dtype == np.uint8
    assert torch.equal(torch.from_numpy(masks.true), run.data.test.spread(6).targets)
    shown = run.data.test.spread(6).inputs
    given = run.model().eval()(run.scaling(shown)).argmax(1)
    assert torch.equal(torch.from_numpy(masks.predicted).long(), given)
    right = masks.confusion.diagonal().sum() / masks.confusion.sum()
    assert right == pytest.approx(run.metrics["test/pixel_accuracy"], abs=1e-3)  # bf16 may turn a few pixels
    assert run.report().is_file()
