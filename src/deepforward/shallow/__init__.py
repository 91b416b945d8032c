"""What depth is compared with: models without hidden layers."""

from deepforward.shallow.markov import MarkovChain

__all__ = ["MarkovChain"]
