import json
import os

import pytest
import torch

from deepforward.engine import checkpoint
from deepforward.errors import CorruptCheckpoint, WriteFailed

TENSORS = {"a/weight": torch.arange(12, dtype=torch.float32).reshape(3, 4), "b": torch.tensor([1, 2], dtype=torch.int64)}
PLAIN = {"epoch": 3, "rate": 0.1, "words": ["x", None]}


def test_round_trip_is_exact_for_every_memory_format_and_shared_tensors(tmp_path):
    image = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    checkpoint.save(tmp_path, "newest", {**TENSORS, "image": image, "tied": TENSORS["a/weight"]}, PLAIN)
    tensors, plain = checkpoint.load(tmp_path, "newest")
    assert plain == PLAIN
    assert torch.equal(tensors["image"], image)
    assert torch.equal(tensors["tied"], tensors["a/weight"])
    assert tensors["b"].dtype == torch.int64


def test_saving_again_leaves_exactly_two_files(tmp_path):
    for epoch in range(3):
        checkpoint.save(tmp_path, "newest", {"a": torch.full((4,), float(epoch))}, {"epoch": epoch})
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]
    assert checkpoint.load(tmp_path, "newest")[1] == {"epoch": 2}


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_any_flipped_byte_is_noticed(tmp_path, suffix):
    checkpoint.save(tmp_path, "newest", TENSORS, PLAIN)
    file = next(p for p in tmp_path.iterdir() if p.suffix == suffix)
    content = file.read_bytes()
    unnoticed = []
    for place in range(0, len(content), 7):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            tensors, plain = checkpoint.load(tmp_path, "newest")
        except CorruptCheckpoint as error:
            assert "\n" not in str(error)
        else:
            unnoticed += [place] if plain != PLAIN or not torch.equal(tensors["a/weight"], TENSORS["a/weight"]) else []
    assert unnoticed == []


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 10, -1])
def test_a_file_cut_short_is_noticed(tmp_path, suffix, kept):
    checkpoint.save(tmp_path, "newest", TENSORS, PLAIN)
    file = next(p for p in tmp_path.iterdir() if p.suffix == suffix)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CorruptCheckpoint):
        checkpoint.load(tmp_path, "newest")


def test_a_missing_tensor_file_is_noticed(tmp_path):
    checkpoint.save(tmp_path, "newest", TENSORS, PLAIN)
    next(tmp_path.glob("*.safetensors")).unlink()
    with pytest.raises(CorruptCheckpoint, match="missing"):
        checkpoint.load(tmp_path, "newest")


def test_an_index_cannot_name_a_file_outside_its_folder(tmp_path):
    checkpoint.save(tmp_path / "run", "newest", TENSORS, PLAIN)
    index = tmp_path / "run" / "newest.json"
    record = json.loads(index.read_text())["record"]
    (tmp_path / "run" / record["file"]).rename(tmp_path / record["file"])
    outside = record | {"file": f"../{record['file']}"}
    index.write_text(json.dumps({"record": outside, "digest": checkpoint._digest(outside)}))
    with pytest.raises(CorruptCheckpoint, match="missing"):
        checkpoint.load(tmp_path / "run", "newest")


@pytest.mark.parametrize("failing", [1, 2, 3])  # the tensors, their name in the folder, the plain values
def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch, failing):
    checkpoint.save(tmp_path, "newest", TENSORS, PLAIN)
    calls = iter(range(1, 10))

    def full(handle):
        if next(calls) == failing:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteFailed, match="No space left"):
        checkpoint.save(tmp_path, "newest", {"a": torch.ones(3)}, {"epoch": 9})
    monkeypatch.undo()
    tensors, plain = checkpoint.load(tmp_path, "newest")
    assert plain == PLAIN
    assert torch.equal(tensors["a/weight"], TENSORS["a/weight"])
    assert not list(tmp_path.glob(".*"))


def test_optimizer_state_comes_back_in_the_memory_format_of_its_parameter():
    parameter = torch.nn.Parameter(torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last))
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    tensors, plain = checkpoint.flatten_optimizer(optimizer.state_dict())
    fresh = torch.optim.Adam([parameter], lr=0.7)
    saved = {key: value.contiguous() for key, value in tensors.items()}
    checkpoint.restore_optimizer(fresh, saved, json.loads(json.dumps(plain)))
    assert fresh.param_groups[0]["lr"] == 0.1
    assert fresh.state[parameter]["exp_avg"].is_contiguous(memory_format=torch.channels_last)
    for key, value in optimizer.state[parameter].items():
        assert torch.equal(fresh.state[parameter][key], value)
