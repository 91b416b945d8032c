"""One loop for every network: recipe, fit, run folder, checkpoints."""

from deepforward.engine.finder import LearningRateSearch, find_learning_rate
from deepforward.engine.fitting import default_folder, fit
from deepforward.engine.recipe import Recipe
from deepforward.engine.run import Run
from deepforward.engine.watch import Watch

__all__ = ["LearningRateSearch", "Recipe", "Run", "Watch", "default_folder", "find_learning_rate", "fit"]
