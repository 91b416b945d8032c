"""Digits cut at one half, the bits that Boltzmann machines learn in claims, and how likely they are without a machine."""

from __future__ import annotations

from deepforward.data import Dataset

#: Options of the objective: of bits drawn anew there is little but noise to learn.
BITS = {"binarize": "threshold"}


def independent_units(data: Dataset) -> float:
    """Log-likelihood of test bits under the mean of each pixel over the training examples, nats an example."""
    highest = data.train.inputs.max()
    train, test = ((split.inputs.flatten(1) / highest > 0.5).double() for split in (data.train, data.test))
    p = (train.sum(0) + 1) / (len(train) + 2)
    return float((test * p.log() + (1 - test) * (1 - p).log()).sum(1).mean())
