import pytest
import torch
from torch import nn

from deepforward.data import Dataset, Split
from deepforward.engine import Recipe, checkpoint, fit, training
from deepforward.engine import step as step_module
from deepforward.errors import InvalidModel
from deepforward.lecture.neocognitron import SHIFTS, patterns
from deepforward.objectives import CrossEntropy, SelfOrganisedReadOut


def shifted_patterns():
    """Nine places of five patterns to train on, and the same with some pixels lost to test on."""
    inputs = torch.stack([pattern.roll(shift, (1, 2)) for pattern in patterns() for shift in SHIFTS])
    targets = torch.arange(5).repeat_interleave(len(SHIFTS))
    kept = torch.rand(inputs.shape, generator=torch.Generator().manual_seed(0)) > 0.1
    return Dataset("patterns", Split(inputs, targets), Split(inputs * kept, targets), tuple("01234"))


RECIPE = Recipe(model="neocognitron", epochs=6, batch_size=9, model_options={"presentations": 25})


@pytest.fixture(scope="module")
def run(tmp_path_factory, unchecked):
    with unchecked():  # shapes are checked in the test that interrupts the same run
        return fit(RECIPE, tmp_path_factory.mktemp("runs") / "run", quiet=True, data=shifted_patterns())


def test_a_run_organises_the_network_and_then_trains_the_read_out_alone(run):
    assert run.recipe.objective == "self-organised-read-out"
    assert run.metrics["test/accuracy"] >= 0.9  # 5 classes
    model = run.parts().model
    assert all((stage.s.b > 0).any() for stage in model.stages)
    assert run.parts().objective.metric == "accuracy"


def test_an_interrupted_run_goes_on_with_the_weights_it_had_organised(run, tmp_path, monkeypatch, unchecked):
    data = shifted_patterns()
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    original, steps = step_module.Stepper.step, 0

    def dying(self, *arguments, **options):
        nonlocal steps
        steps += 1
        if steps == 9:
            raise KeyboardInterrupt
        return original(self, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(step_module.Stepper, "step", dying)
        fit(RECIPE, tmp_path / "broken", quiet=True, data=data)
    with unchecked():
        again = fit(RECIPE, tmp_path / "broken", resume=True, quiet=True, data=data)
    tensors = [checkpoint.load(each.folder / "checkpoints", "newest")[0] for each in (run, again)]
    assert any(name.endswith("stages.2.s.a") for name in tensors[0])
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert again.metrics == run.metrics


def test_the_report_shows_what_s1_learnt(run):
    assert "First-layer filters" in run.report().read_text()


def test_it_is_cross_entropy():
    assert issubclass(SelfOrganisedReadOut, CrossEntropy)
    assert SelfOrganisedReadOut(label_smoothing=0.1).label_smoothing == 0.1


def test_a_model_that_does_not_organise_itself_is_refused():
    with pytest.raises(InvalidModel, match="got Linear; expected a model that organises itself, for example neocognitron"):
        SelfOrganisedReadOut().prepare(nn.Linear(2, 2), torch.zeros(1, 2), torch.Generator())
