"""Stages of training that come before a run: they come first, once, and give the same bits when interrupted."""

import json

import pytest
import torch
from torch import nn

from deepforward.data import load
from deepforward.engine import Recipe, assembly, checkpoint, fit, training
from deepforward.engine.assembly import assemble
from deepforward.engine.run import Run
from deepforward.errors import InvalidOption, UnknownName
from deepforward.objectives import CrossEntropy

STAGES = ({"epochs": 2, "learning_rate": 0.02}, {"epochs": 1, "batch_size": 256, "seed": 4})
STAGED = Recipe(
    model="perceptron",
    model_options={"depth": 1, "width": 8},
    epochs=2,
    batch_size=128,
    seed=3,
    pretraining=STAGES,
    averaging=0.0,
)
PLAIN = STAGED.replace(pretraining=())
#: The run that a step belongs to, counted from the very first.
PLACES = {3: "pretraining-1", 21: "pretraining-2", 25: "pretraining-2", 26: "run", 30: "run", 40: "run"}


def tensors(folder, name="newest"):
    return checkpoint.load(folder / "checkpoints", name)[0]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(STAGED, tmp_path_factory.mktemp("pretraining") / "run", quiet=True)


def test_each_stage_is_a_run_of_its_own_that_begins_where_the_last_one_ended(run, tmp_path):
    first, second = (Run.open(run.folder / f"pretraining-{number}") for number in (1, 2))
    assert (first.recipe.epochs, first.recipe.batch_size, first.recipe.learning_rate) == (2, 128, 0.02)
    assert (second.recipe.epochs, second.recipe.batch_size, second.recipe.seed) == (1, 256, 4)
    assert first.recipe.pretraining == second.recipe.pretraining == ()
    assert [r.result["status"] for r in (first, second, run)] == ["finished"] * 3
    assert run.result["epochs"] == 2
    # The same by hand: one model through three runs, each from the best weights of the one before.
    model = None
    second_alone = PLAIN.replace(**STAGES[1], split_seed=PLAIN.seed)
    for number, recipe in enumerate((PLAIN.replace(**STAGES[0]), second_alone, PLAIN)):
        alone = fit(recipe, tmp_path / str(number), quiet=True, model=model)
        model = alone.model()
    best = [tensors(folder, "best") for folder in (run.folder / "pretraining-1", run.folder / "pretraining-2", run.folder)]
    for number, held in enumerate(best):
        expected = tensors(tmp_path / str(number), "best")
        weights = [name for name in expected if name.startswith("model/")]
        assert weights
        assert all(torch.equal(held[name], expected[name]) for name in weights)


def test_no_stage_trains_on_what_is_held_out_to_choose_by(run):
    """The second stage has a seed of its own; what it leaves in its folder says so, and opened again it holds out the same."""
    held = run.parts().validation.inputs
    for number in (1, 2):
        assert torch.equal(Run.open(run.folder / f"pretraining-{number}").parts().validation.inputs, held)
    other = STAGED.complete().stages()[1].replace(split_seed=None)
    assert not torch.equal(assemble(other, run.data).validation.inputs, held)
    given = STAGED.replace(split_seed=9).complete()
    assert [stage.split_seed for stage in given.stages()] == [9, 9]
    assert not torch.equal(assemble(given, run.data).validation.inputs, held)
    assert given.replace(seed=5).split_seed == 9  # another seed, the same split


def test_pretraining_changes_what_comes_of_it(run, tmp_path):
    plain = fit(PLAIN, tmp_path / "plain", quiet=True)
    assert not same(tensors(plain.folder, "best"), tensors(run.folder, "best"))
    assert not (plain.folder / "pretraining-1").exists()
    assert run.history[0]["train/loss"] < plain.history[0]["train/loss"]


@pytest.mark.parametrize(
    "deaths",
    [(3,), (21,), (25,), (26,), (30,), (3, 25, 30, 40)],
    ids=["stage 1", "before stage 2 is saved", "stage 2", "before the run is saved", "the run", "everywhere"],
)
def test_an_interrupted_run_goes_on_at_its_stage_with_the_same_bits(run, tmp_path, monkeypatch, deaths):
    """Stage 1 has 2 x 10 steps, stage 2 has 5, the run 2 x 10; steps that are done again count again."""
    monkeypatch.setattr(training, "_CHECKPOINT_SECONDS", 0.0)
    original, steps, where = training.Training._train_step, 0, []

    def dying(self, indices):
        nonlocal steps
        steps += 1
        original(self, indices)
        if steps in deaths:
            where.append(self.run.folder.name)
            raise KeyboardInterrupt

    monkeypatch.setattr(training.Training, "_train_step", dying)
    folder = tmp_path / "run"
    while not (folder / "result.json").exists():
        try:
            fit(STAGED, folder, resume=True, quiet=True)
        except KeyboardInterrupt:
            continue
    assert where == [PLACES[death] for death in deaths]
    for part in ("", "pretraining-1", "pretraining-2"):
        for name in ("newest", "best"):
            assert same(tensors(folder / part, name), tensors(run.folder / part, name))
    assert Run.open(folder).metrics == run.metrics


def test_a_finished_run_does_not_train_its_stages_again(run, monkeypatch):
    monkeypatch.setattr(training.Training, "_train_step", lambda *arguments: pytest.fail("a step was taken"))
    assert fit(STAGED, run.folder, resume=True, quiet=True).result == run.result


def test_an_energy_based_model_goes_through_stages_too(tmp_path):
    """Chains begin anew in each stage; weights and biases do not."""
    options = {"persistent": True, "ais_chains": 0}
    recipe = Recipe(model="rbm", model_options={"hidden": 6}, epochs=1, objective_options=options, averaging=0.0)
    stage = {"objective_options": {"persistent": False, "ais_chains": 0}}
    run = fit(recipe.replace(pretraining=(stage,)), tmp_path / "run", quiet=True)
    held = tensors(run.folder / "pretraining-1", "best")
    assert not any("chain" in name for name in held)
    assert "objective/chain0" in tensors(run.folder)
    other = fit(recipe, tmp_path / "alone", quiet=True, model=Run.open(run.folder / "pretraining-1").model())
    assert torch.equal(tensors(other.folder)["model/weight"], tensors(run.folder)["model/weight"])
    assert not torch.equal(held["model/weight"], tensors(run.folder)["model/weight"])


def test_a_stage_of_an_altered_model_is_opened_like_any_run(tmp_path):
    """Its recipe must build the module that was trained: with the alterations, made once."""
    altered = STAGED.replace(model_options={"depth": 4, "width": 8}, alterations=("residual", "batch-normalization"))
    run = fit(altered, tmp_path / "run", quiet=True)
    stage = Run.open(run.folder / "pretraining-1")
    assert stage.recipe.alterations == altered.alterations
    state = stage.parts().model.state_dict()
    held = tensors(stage.folder, "best")
    assert state.keys() == {name.removeprefix("model/") for name in held if name.startswith("model/")}
    assert all(torch.equal(value, held[f"model/{name}"]) for name, value in state.items())
    assert stage.evaluation().targets.shape == (450,)
    assert run.model().state_dict().keys() == state.keys()


class Placed(nn.Linear):
    """A module that notes where it is moved to, in one list with what happens to it besides."""

    def __init__(self, events):
        super().__init__(64, 10)
        self.events = events

    def forward(self, inputs):
        return super().forward(inputs.flatten(1))

    def to(self, *arguments, **options):
        self.events.append(str(arguments[0]) if arguments else "format")
        return super().to(*arguments, **options)


def test_a_given_module_is_on_the_cpu_while_it_is_prepared(tmp_path, monkeypatch):
    """Altering and preparing look at examples on the CPU, whereas the module given may lie on an accelerator, as it does in
    every stage. There is none here, so the order of events is what is held."""
    events = []
    monkeypatch.setattr(CrossEntropy, "prepare", lambda *_: events.append("prepare"))
    monkeypatch.setattr(assembly, "alter", lambda model, *_: events.append("alter") or model)
    assemble(PLAIN.replace(alterations=("residual",)).complete(), load("digits"), Placed(events))
    assert events == ["cpu", "alter", "prepare", "cpu"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_stages_on_an_accelerator(tmp_path):
    run = fit(STAGED.replace(device="cuda"), tmp_path / "run", quiet=True)
    assert run.result["status"] == "finished"
    assert fit(PLAIN.replace(device="cuda"), tmp_path / "on", quiet=True, model=run.model()).result["status"] == "finished"


def test_stages_survive_the_journey_through_json():
    again = Recipe.from_json(STAGED.complete().to_json())
    assert again.pretraining == STAGES
    assert not again.differences(STAGED.complete())
    assert json.loads(STAGED.complete().to_json())["pretraining"] == list(STAGES)
    assert Recipe(model="perceptron").complete().pretraining == ()


@pytest.mark.parametrize(
    ("stages", "error", "message"),
    [
        (({"epoch": 1},), InvalidOption, "no field 'epoch'"),
        (({"epochs": 0},), InvalidOption, "epochs is 0"),
        (({"objective": "hinge"},), UnknownName, "objective 'hinge'"),
        (({"scaling": "none"},), InvalidOption, "names scaling; expected what stages may differ in"),
        (({"split_seed": 1},), InvalidOption, "names split_seed"),
    ],
)
def test_stages_that_cannot_be_are_refused_in_one_line(tmp_path, stages, error, message):
    with pytest.raises(error, match=message) as caught:
        fit(PLAIN.replace(pretraining=stages), tmp_path / "run", quiet=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("stages", "message"), [([{"epochs": 1}], "expected a tuple"), (("epochs",), "a tuple of mappings")])
def test_stages_of_another_kind_are_refused_in_one_line(stages, message):
    """The types in the signature are checked under pytest only, so the recipe's own check is asked alone."""
    recipe = PLAIN.replace()
    object.__setattr__(recipe, "pretraining", stages)
    with pytest.raises(InvalidOption, match=message) as caught:
        recipe.__post_init__()
    assert "\n" not in str(caught.value)
