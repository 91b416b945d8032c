"""`deepforward train`, and what later commands make of its run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_network.py"
SMALL = ("--set", "depth=1", "--set", "width=16", "--epochs", 2)


def test_stdout_says_what_came_out_and_ends_with_the_report(deepforward) -> None:
    outcome = deepforward("train", "perceptron", *SMALL, "--out", "run")
    assert outcome.code == 0
    assert " after 2 epochs, " in outcome.out
    assert outcome.out.splitlines()[-1] == "run/report.html"
    assert Path("run/report.html").read_text().startswith("<!DOCTYPE html>")
    assert [line.split()[1] for line in outcome.err.splitlines()] == ["1/2", "2/2"]
    result = json.loads(Path("run/result.json").read_text())
    assert (result["status"], result["epochs"]) == ("finished", 2)
    assert f"test/accuracy {result['metrics']['test/accuracy']:.4f}" in " ".join(outcome.out.split())


def test_one_layer_and_one_epoch_are_not_called_many(deepforward) -> None:
    Path("net.py").write_text("from torch import nn\ndef net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n")
    outcome = deepforward("train", "net.py:net", "--epochs", 1, "--out", "run", "--quiet")
    assert " after 1 epoch, " in outcome.out
    assert " and 1 epoch\n" in outcome.out
    assert "1 layers" not in outcome.out


def test_quiet_says_nothing_on_the_way(deepforward) -> None:
    assert deepforward("train", "perceptron", *SMALL, "--quiet").err == ""
    assert Path("runs/perceptron-digits-1/report.html").is_file()


def test_settings_reach_the_recipe_the_model_and_the_groups(deepforward) -> None:
    settings = ("batch_size=32", "model.activation=tanh", "optimizer.momentum=0.5", "data=digits?test=0.5", "clip=1")
    words = [word for setting in settings for word in ("--set", setting)]
    assert deepforward("train", "perceptron", *SMALL, "--seed", 3, *words, "--out", "run", "--quiet").code == 0
    recipe = json.loads(Path("run/recipe.json").read_text())
    assert recipe["model_options"] == {"depth": 1, "width": 16, "activation": "tanh"}
    assert recipe["optimizer_options"] == {"momentum": 0.5}
    assert (recipe["batch_size"], recipe["clip"], recipe["seed"], recipe["data"]) == (32, 1, 3, "digits?test=0.5")


def test_a_cure_is_proved_for_a_network_of_a_stranger(deepforward) -> None:
    outcome = deepforward(
        *("train", f"{EXAMPLE}:tower", "--set", "depth=14", "--set", "width=24", "--data", "digits?test=0.5", "--epochs", 3),
        *("--cure", "--out", "run", "--quiet"),
    )
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert "vanishing from layer " in outcome.out
    assert "cured" in outcome.out
    assert "control" in outcome.out
    assert outcome.out.splitlines()[-1] == "run/cured/report.html"
    verdicts = json.loads(Path("run/cured/result.json").read_text())["verdicts"]
    assert {verdict["outcome"] for verdict in verdicts} >= {"cured", "no effect"}


def test_an_interrupt_says_how_to_go_on_and_going_on_finishes(deepforward) -> None:
    train = ("train", "perceptron", *map(str, SMALL[:-1]), "100000")
    # A shell starts what runs in its background with the signal ignored, which children inherit.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = f"{heed}; from deepforward.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, *train], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while not process.stderr.readline().startswith("epoch"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    (folder,) = Path("runs").iterdir()
    assert err.splitlines()[-1] == f"interrupted; the same command with --out {folder} --resume goes on"
    assert "another recipe" in deepforward("train", "perceptron", *SMALL, "--out", folder, "--resume").complaint


def test_resuming_a_finished_run_keeps_its_bits(deepforward) -> None:
    train = ("train", "perceptron", *SMALL, "--out", "run", "--resume", "--quiet")
    first = deepforward(*train)
    weights = Path("run/checkpoints").rglob("*.safetensors")
    before = {path: path.read_bytes() for path in weights}
    second = deepforward(*train)
    assert before
    assert {path: path.read_bytes() for path in before} == before
    assert first.out == second.out


def test_a_report_is_drawn_again_elsewhere(deepforward) -> None:
    deepforward("train", "perceptron", *SMALL, "--out", "run", "--quiet")
    assert deepforward("report", "run", "--out", "page.html").out == "page.html\n"
    assert Path("page.html").read_bytes() == Path("run/report.html").read_bytes()
