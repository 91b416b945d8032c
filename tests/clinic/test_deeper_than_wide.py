"""A tanh perceptron of 200 layers and 64 units, without normalisation or skips, learns digits with the weights prescribed."""

from deepforward.clinic import conclude, prescribe
from deepforward.clinic.trials import attempts
from deepforward.data import load
from deepforward.engine import Recipe, fit

RECIPE = Recipe(
    model="perceptron",
    model_options={"depth": 200, "width": 64, "activation": "tanh"},
    data="digits",
    batch_size=64,
    learning_rate=0.003,
    epochs=18,
    probe_budget=0.0,
)


def test_orthogonal_weights_are_prescribed_and_make_it_learn(tmp_path, unchecked):
    data, recipe = load("digits"), RECIPE.complete()
    with unchecked():
        (before,) = attempts(recipe.replace(epochs=1), (0,), data)
    assert conclude(before).rules == ("vanishing",) and before.progress < 0.01
    treated = prescribe(["critical-initialization"], recipe, before, data)
    assert treated.alterations == ("critical-initialization?orthogonal=true",)
    with unchecked():
        run = fit(treated, tmp_path / "run", quiet=True, data=data, throwaway=True)
    assert run.metrics["test/accuracy"] > 0.9  # 0.97 to 0.98 at seeds 0 to 2
