"""The zoo: one family of models a file, each with a card and a paper."""

from deepforward.models.parameters import count_parameters

__all__ = ["count_parameters"]
