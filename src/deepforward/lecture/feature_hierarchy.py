"""From simpler to more complex features: what the layers of a trained network see, and how simple they make the classes."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from deepforward.data import Dataset, Split, load
from deepforward.engine import Recipe, fit
from deepforward.engine.assembly import Parts
from deepforward.instruments.activation_maximization import activation_maximization
from deepforward.instruments.effective_field import effective_fields
from deepforward.instruments.gradient_support import gradient_support
from deepforward.instruments.layer_outputs import feature_layers
from deepforward.instruments.linear_probe import INPUT, linear_probes
from deepforward.instruments.receptive_field import receptive_fields
from deepforward.lecture.claim import Check, Claim, Table, entries, from_rows, number, numbers
from deepforward.models.convolutional import LeNet5
from deepforward.models.lecun1989 import LeCun1989
from deepforward.models.residual import ResidualNetwork
from deepforward.report import Block, Images
from deepforward.report.figures import lines

#: Hidden layers that are compared, and channels of each that are drawn.
_LAYERS, _DRAWN = 3, 6

#: Networks, the first of which is drawn, and their options.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "convnet": {"widths": (6, 12, 24)},
    "perceptron": {"depth": _LAYERS, "width": 128},
}
_MODELS = tuple(_OPTIONS)

#: Small budget: side of the images on which digits are shifted about, places of each for training and for judging.
_CANVAS, _PLACES, _JUDGED = 28, 2, 4

#: Images that linear classifiers are fitted on, at most.
_FITTED = 2000

#: Largest chance, by the sign test, that a fall of the error is none.
_CHANCE = 0.01

#: Network of the comparison of fields -> its factory, the shape it takes, and layers to compare.
_NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...], Sequence[str]]] = {
    "lenet5": (
        lambda: LeNet5((1, 20, 20), 10),
        (1, 20, 20),
        ("conv1.conv", "conv1.pool", "conv2.pool", "output"),
    ),
    "lecun1989": (lambda: LeCun1989((1, 16, 16), 10), (1, 16, 16), ("h1", "h2")),
    "resnet8": (
        lambda: ResidualNetwork((1, 16, 16), 10, depth=8),
        (1, 16, 16),
        ("stage2.0", "stage3.0"),
    ),
    "dilated": (
        lambda: nn.Sequential(*(nn.Conv2d(1, 1, 3, dilation=rate, padding=rate) for rate in (1, 2, 4))),
        (1, 20, 20),
        ("0", "1", "2"),
    ),
}


class FeatureHierarchy(Claim):
    """A3."""

    says = (
        "A deep network builds complex features from simpler ones, layer by layer: each layer sees more of the image than the "
        "one before and makes the classes easier to tell apart."
    )

    def measure(self, budget: str, rng: torch.Generator, progress: Callable[[str], None]) -> Table:
        """Train convnet on shifted digits once (smoke); convnet and a perceptron on MNIST from 3 seeds each (full)."""
        smoke = budget == "smoke"
        data, seeds, models = (_shifted(rng), 1, _MODELS[:1]) if smoke else (load("mnist"), 3, _MODELS)
        rows = [row for name in _NETWORKS for row in _compared(name)]
        for model in models:
            wrong: list[np.ndarray] = []
            for number_of_run in range(seeds):
                progress(f"{model}, run {number_of_run + 1}")
                parts = _trained(model, data, budget, int(torch.randint(2**31, (), generator=rng)))
                wrong.append(_wrong(parts, _JUDGED if smoke else 1))
            rows += _paired(model, np.concatenate(wrong, axis=1))
            if model == _MODELS[0]:
                rows += list(_seen(parts, rng))
        return from_rows(rows)

    def check(self, table: Table) -> list[Check]:
        """Errors fall from layer to layer, fields are what gradients reach, and what counts is less than the field."""
        checks = []
        for model in dict.fromkeys(name.partition(":")[0] for name in table["quantity"] if name.endswith(":error")):
            gained, lost = (numbers(table, f"{model}:{name}") for name in ("gained", "lost"))
            for layer in gained:
                n = int(gained[layer] + lost[layer])
                chance = binomtest(int(gained[layer]), n, alternative="greater").pvalue if n else 1.0
                name = f"{model}: chance that layer {layer} is no easier to read than what is below"
                checks.append(Check(name, float(chance), 0, _CHANCE, "", "sign test on held-out images"))
            error = numbers(table, f"{model}:error")
            name = f"{model}: error of a linear classifier on layer {_LAYERS} against the pixels"
            checks.append(Check(name, error[_LAYERS] / error[0], 0, 0.5, "ratio", "Alain and Bengio 2017, figure 6: it falls"))
        unlike, compared = numbers(table, "unlike"), numbers(table, "compared")
        fields, effective = numbers(table, "field"), numbers(table, "effective")
        inf = math.inf
        return [
            *checks,
            Check("layers whose field is not what gradients reach", sum(unlike.values()), 0, 0, "layers", "identity"),
            Check("layers compared", sum(compared.values()), 10, inf, "layers", "a zoo of networks"),
            Check("field of layer 2 against layer 1", fields[2] / fields[1], 1.5, inf, "ratio", "kernels add up"),
            Check(
                "effective field of layer 2 against its field", effective[2] / fields[2], 0, 0.999, "ratio", "Luo et al. 2016"
            ),
        ]

    def draw(self, table: Table) -> list[Block]:
        """Error by layer, field by layer, and the images that excite channels most."""
        names = [name.partition(":")[0] for name in table["quantity"] if name.endswith(":error")]
        errors = {name: list(numbers(table, f"{name}:error").values()) for name in dict.fromkeys(names)}
        fields = {title: list(numbers(table, name).values()) for title, name in _TITLES.items()}
        blocks: list[Block] = [
            lines(
                list(range(_LAYERS + 1)),
                errors,
                x_title="layer (0: the pixels)",
                y_title="test error, share",
                caption="Error of a linear classifier that is given what a layer gives: the classes become simpler.",
            ),
            lines(
                list(range(1, _LAYERS + 1)),
                fields,
                x_title="layer",
                y_title="pixels",
                caption="Side of what a unit sees in convnet, and of the square that holds 95% of the influence on it.",
            ),
        ]
        for layer, pictures in entries(table, "made").items():
            pixels = np.array(pictures, dtype=np.uint8)[:, None]
            blocks.append(Images(pixels, caption=f"Layer {layer} of convnet: what excites {len(pixels)} of its channels most."))
        return blocks

    def refutation(self) -> Table:
        """Layers that are no better than the pixels, and fields that are not what gradients reach."""
        rows = [number("unlike", "net", 2), number("compared", "net", 3)]
        for layer in range(_LAYERS + 1):
            rows.append(number("convnet:error", layer, 0.1 + 0.01 * layer))
            if layer:
                rows += [number("convnet:gained", layer, 5), number("convnet:lost", layer, 9)]
                rows += [
                    number("field", layer, 9),
                    number("effective", layer, 12.0),
                    {"quantity": "made", "at": layer, "value": [[[0, 255]]]},
                ]
        return from_rows(rows)


#: Line of the drawing -> quantity of the table.
_TITLES = {"receptive field": "field", "effective field": "effective"}


def _shifted(rng: torch.Generator) -> Dataset:
    """The digits at random places on a larger ground: pixels alone tell little."""
    data = load("digits")
    splits = []
    for whole, places in ((data.train, _PLACES), (data.test, _JUDGED)):
        split = whole.select(torch.arange(len(whole)).repeat(places))
        canvas = torch.zeros(len(split), 1, _CANVAS, _CANVAS)
        room = _CANVAS - data.shape[1] + 1
        for image, digit, (top, left) in zip(
            canvas, split.inputs, torch.randint(room, (len(split), 2), generator=rng).tolist(), strict=True
        ):
            image[:, top : top + data.shape[1], left : left + data.shape[2]] = digit
        splits.append(Split(canvas, split.targets))
    return Dataset(data.name, splits[0], splits[1], data.classes)


def _trained(model: str, data: Dataset, budget: str, seed: int) -> Parts:
    size = {"epochs": 4, "batch_size": 64} if budget == "smoke" else {"epochs": 1, "batch_size": 128}
    fields: dict[str, Any] = {**size, "precision": "fp32", "probe_budget": 0}
    recipe = Recipe(model=model, model_options=_OPTIONS[model], data=data.name, seed=seed, **fields)
    with tempfile.TemporaryDirectory() as folder:
        return fit(recipe, Path(folder) / "run", quiet=True, data=data, throwaway=True).parts()


def _hidden(parts: Parts) -> list[str]:
    """The layers that are compared: three at equal distances, of a network of pairs the second of each."""
    found = feature_layers(parts.model, parts.batch(parts.train.spread(2)).inputs)
    step = len(found) // _LAYERS
    return [layer.name for layer in found[step - 1 :: step]][:_LAYERS]


def _wrong(parts: Parts, places: int) -> np.ndarray:
    """At how many of its places a linear classifier gets each held-out image wrong, as a share: (1 + layers, images)."""
    train, test = parts.batch(parts.train.spread(_FITTED)), parts.batch(parts.data.test)
    layers = _hidden(parts)
    probes = linear_probes(parts.model, (train.inputs, train.targets), (test.inputs, test.targets), layers, penalty=10.0)
    return np.array([probes[name].wrong for name in (INPUT, *layers)]).reshape(1 + len(layers), places, -1).mean(1)


def _paired(model: str, wrong: np.ndarray) -> list[dict[str, Any]]:
    """Errors by layer, and from layer to layer how many images are told better and worse: copies of one count once."""
    rows = [number(f"{model}:error", layer, float(row.mean())) for layer, row in enumerate(wrong)]
    for layer, (before, after) in enumerate(itertools.pairwise(wrong), start=1):
        rows.append(number(f"{model}:gained", layer, int((before > after).sum())))
        rows.append(number(f"{model}:lost", layer, int((before < after).sum())))
    return rows


def _seen(parts: Parts, rng: torch.Generator) -> Iterator[dict[str, Any]]:
    """Fields of the layers, and what excites their channels most."""
    names, images = _hidden(parts), parts.batch(parts.data.test.spread(32)).inputs
    fields, effective = receptive_fields(parts.model, images, names), effective_fields(parts.model, images, names, rng)
    for layer, name in enumerate(names, start=1):
        yield number("field", layer, min(max(fields[name].size), images.shape[2]))
        yield number("effective", layer, round(effective[name].size, 6))
        made = activation_maximization(parts.model, tuple(images.shape[1:]), name, range(_DRAWN), rng, steps=30)
        cut = torch.stack([fields[name].cut(image, *fields[name].centre) for image in made])
        yield {"quantity": "made", "at": layer, "value": _grey(cut[:, 0])}


def _grey(images: Tensor) -> list[list[list[int]]]:
    """Images from black to white, zero being grey, as plain numbers."""
    reach = images.abs().amax((1, 2), keepdim=True).clamp_min(1e-30)
    return (127.5 + 127.5 * images / reach).round().int().tolist()


def _compared(network: str) -> list[dict[str, Any]]:
    """In how many layers the field by the graph is not the box of what gradients reach."""
    factory, shape, layers = _NETWORKS[network]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, images = factory(), torch.zeros(2, *shape)
    fields = receptive_fields(model, images, layers)
    unlike = sum(field.box(*field.centre) != _ends(gradient_support(model, images, name)) for name, field in fields.items())
    return [number("unlike", network, unlike), number("compared", network, len(layers))]


def _ends(support: Tensor) -> tuple[int, int, int, int]:
    rows, columns = support.any(1).nonzero().flatten(), support.any(0).nonzero().flatten()
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
