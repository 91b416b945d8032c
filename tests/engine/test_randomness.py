"""Streams of one run: none repeats another, and their seeds never change."""

import pytest
import torch

from deepforward.data import load
from deepforward.engine import Recipe, training
from deepforward.engine.assembly import assemble
from deepforward.engine.outlets import Outlets
from deepforward.engine.randomness import STREAMS, isolated, stream
from deepforward.engine.run import Run
from deepforward.objectives import ContrastiveDivergence


@pytest.mark.parametrize("seed", [0, 3, 1000])
def test_the_seeds_of_old_streams_are_what_they_were(seed):
    """Runs that were made before must come out again; the numbers are written here by hand."""
    assert [stream(seed, name).initial_seed() for name in STREAMS] == [4 * seed, 4 * seed + 1, 4 * seed + 2, 4 * seed + 3]


def test_no_two_streams_are_alike():
    names = (*STREAMS, "preparation")
    seeds = {stream(seed, name).initial_seed() for seed in range(100) for name in names}
    assert len(seeds) == 100 * len(names)
    firsts = {int(torch.randint(2**62, (), generator=stream(seed, name))) for seed in range(100) for name in names}
    assert len(firsts) == 100 * len(names)
    assert stream(2**63 - 1, "objective").initial_seed() == (4 * (2**63 - 1) + 3) % 2**64


def test_training_does_not_repeat_the_draws_of_preparing(tmp_path, monkeypatch):
    """Chains are begun while a run is put together; the first step must draw something else."""
    seen = []
    monkeypatch.setattr(ContrastiveDivergence, "prepare", lambda self, model, inputs, rng: seen.append(rng.get_state()))
    recipe = Recipe(model="rbm", model_options={"hidden": 4}, probe_budget=0.0).complete()
    with isolated(0, torch.device("cpu")):
        parts = assemble(recipe, load("digits"))
    in_training = training.Training(parts, Run(tmp_path, recipe), Outlets(quiet=True)).generators["objective"]
    assert len(seen) == 1
    assert not torch.equal(seen[0], in_training.get_state())
