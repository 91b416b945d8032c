"""One loop for every network: recipe, fit, run folder, checkpoints."""

from deepforward.engine.finder import LearningRateSearch, find_learning_rate
from deepforward.engine.recipe import Recipe
from deepforward.engine.run import Run
from deepforward.engine.training import default_folder, fit

__all__ = ["LearningRateSearch", "Recipe", "Run", "default_folder", "find_learning_rate", "fit"]
