"""A run -> the page of what its layers respond to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepforward import report
from deepforward.engine.assembly import Parts
from deepforward.engine.device import threads
from deepforward.engine.pixels import is_image, pixels
from deepforward.engine.run import Run
from deepforward.engine.run_report import first_filters
from deepforward.errors import InvalidModel
from deepforward.instruments.activation_maximization import activation_maximization
from deepforward.instruments.deconvnet import project_back
from deepforward.instruments.effective_field import EffectiveField, effective_fields
from deepforward.instruments.layer_outputs import FeatureLayer, feature_layers
from deepforward.instruments.linear_probe import INPUT, ProbeResult, linear_probes
from deepforward.instruments.occlusion import occlusion
from deepforward.instruments.receptive_field import ReceptiveField, receptive_fields
from deepforward.instruments.saliency import saliency
from deepforward.instruments.top_patches import TopPatches, top_patches
from deepforward.report.feature_page import FeatureRecord, LayerFeatures, feature_page
from deepforward.report.figures.specification import evenly

#: Training examples that linear classifiers are fitted on, and test examples that they are judged by and patches found in.
_FITTED, _JUDGED = 2000, 1000

#: Test images that an effective field is averaged over, and that are explained.
_AVERAGED, _EXPLAINED = 64, 6

#: Layers that are measured, and shown in pictures; channels and patches of each.
_LAYERS, _SHOWN, _CHANNELS, _PATCHES = 20, 6, 8, 3

#: Side of a field from which pictures that were climbed to are smoothed, and pixels of the side of a picture of influence.
_LARGE, _SIDE = 8, 112


def write_features(run: Run, path: Path) -> Path:
    """Look at the features of a run's model and write their page as one HTML file.

    Raises:
        InvalidModel: The model has no convolutional layer.
    """
    return report.write(feature_page(features_of(run)), path)


def features_of(run: Run) -> FeatureRecord:
    """What the layers of a run's best model respond to.

    Raises:
        InvalidModel: The model has no convolutional layer.
    """
    parts = run.parts()
    with threads(parts.arithmetic.threads):
        return _Look(parts).record(f"deepforward features {run.folder}")


class _Look:
    """The measurements of one model, on one choice of examples."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.model, self.name = parts, parts.model.eval(), parts.recipe.model
        self.test = parts.data.test.spread(_JUDGED)
        self.inputs = parts.batch(self.test).inputs
        found = feature_layers(self.model, self.inputs[:2]) if len(parts.data.shape) == 3 else ()
        if not any(layer.is_map for layer in found):
            raise InvalidModel(
                f"got '{self.name}' on examples of shape {parts.data.shape}, which has no layer of maps; "
                "features expects a convolutional network on images, such as lenet5"
            )
        self.layers = [found[i] for i in evenly(len(found), _LAYERS)]
        self.rng = torch.Generator().manual_seed(parts.recipe.seed)

    def record(self, command: str) -> FeatureRecord:
        names = [layer.name for layer in self.layers]
        fields = receptive_fields(self.model, self.inputs[:2], names)
        effective = effective_fields(self.model, self.inputs[:_AVERAGED], names, self.rng)
        probes = self._probes(names)
        shown = {names[i] for i in evenly(len(names), _SHOWN)}
        layers = [
            self._layer(layer, fields[layer.name], effective[layer.name], probes, layer.name in shown) for layer in self.layers
        ]
        input_error = probes[INPUT].error if probes else None
        return FeatureRecord(
            title=f"{self.name} on {self.parts.data.name}",
            layers=layers,
            input_error=input_error,
            filters=first_filters(self.model, self.parts.data.shape),
            facts=self._facts(bool(probes)),
            command=command,
            **self._explained(),
        )

    def _facts(self, probed: bool) -> dict[str, Any]:
        facts: dict[str, Any] = {"test images that patches are found in": len(self.test)}
        if probed:
            facts["training images that linear classifiers are fitted on"] = min(_FITTED, len(self.parts.train))
            facts["test images that they are judged by"] = len(self.test)
        return facts | {"test images that influence is averaged over": min(_AVERAGED, len(self.test))}

    def _probes(self, names: Sequence[str]) -> Mapping[str, ProbeResult]:
        if self.parts.data.task != "classification":
            return {}
        fitted = self.parts.batch(self.parts.train.spread(_FITTED))
        return linear_probes(self.model, (fitted.inputs, fitted.targets), (self.inputs, self.test.targets), names)

    def _layer(
        self,
        layer: FeatureLayer,
        field: ReceptiveField,
        effective: EffectiveField,
        probes: Mapping[str, ProbeResult],
        pictured: bool,
    ) -> LayerFeatures:
        top = top_patches(self.model, self.inputs, layer.name, _PATCHES)
        answers = (top.values[:, 0] != 0).nonzero().flatten()
        channels = [int(answers[i]) for i in evenly(len(answers), _CHANNELS)]
        return LayerFeatures(
            name=layer.name,
            kind=layer.kind,
            shape=layer.shape,
            size=field.size,
            stride=field.stride,
            sees_all=field.is_whole,
            effective=effective.size,
            influence=_framed(effective.influence, field),
            silent=1 - len(answers) / len(top.values),
            probe_error=probes[layer.name].error if probes else None,
            channels=channels,
            pictures=self._pictures(layer.name, field, top, channels) if pictured and channels else {},
        )

    def _pictures(self, name: str, field: ReceptiveField, top: TopPatches, channels: Sequence[int]) -> dict[str, np.ndarray]:
        shape, blur = tuple(self.inputs.shape[1:]), 0.5 if max(field.size) >= _LARGE else 0.0
        made = activation_maximization(self.model, shape, name, channels, self.rng, blur=blur)
        rows = {"made": _signed(torch.stack([field.cut(self._deviation(image), *field.centre) for image in made]))}
        found = top.crop(torch.from_numpy(self._photographs(self.test.inputs)).float(), field, channels)
        for at in range(found.shape[1]):
            rows[f"found {at + 1}"] = found[:, at].byte().numpy()
        if "#" not in name:
            best = zip(channels, top.examples[channels, 0].tolist(), top.places[channels, 0].tolist(), strict=True)
            sent = [field.cut(self._projected(self.inputs[[e]], name, channel)[0], *place) for channel, e, place in best]
            rows["projected"] = _signed(_visible(torch.stack(sent)))
        return rows

    def _projected(self, inputs: Tensor, layer: str, channel: int) -> Tensor:
        """Sent back as by a deconvnet; the derivative in networks of other activations than rectifiers."""
        try:
            return project_back(self.model, inputs, layer, channel)
        except InvalidModel:
            return project_back(self.model, inputs, layer, channel, "gradient")

    def _deviation(self, scaled: Tensor) -> Tensor:
        """How far a scaled image is from the mean image, in the units of the data."""
        inverse = self.parts.scaling.inverse
        return _visible((inverse(scaled[None]) - inverse(torch.zeros_like(scaled[None]))).cpu())[0]

    def _photographs(self, images: Tensor) -> np.ndarray:
        """Raw images as pictures, the mean of their channels where they have neither one nor three."""
        if is_image(tuple(images.shape[1:])):
            return pixels(images, like=self.parts.data.train.inputs)
        return pixels(_visible(images.float()))

    def _explained(self) -> dict[str, Any]:
        """Where the network looks in some test images; nothing where it gives no classes."""
        if self.parts.data.task != "classification" or self.parts.objective.metric != "accuracy":
            return {}
        with torch.no_grad():
            outputs = torch.cat([self.model(part) for part in self.inputs.split(_JUDGED // 4)])
        error = float((outputs.argmax(1).cpu() != self.test.targets).double().mean())
        chosen = evenly(len(self.test), _EXPLAINED)
        inputs, taken_for = self.inputs[chosen], outputs[chosen].argmax(1)
        size = max(1, min(inputs.shape[2:]) // 4)
        covered = occlusion(self.model, inputs, taken_for, size=size, stride=max(1, size // 2))
        sensitive = saliency(self.model, inputs, taken_for, self.rng, samples=16, noise=0.2)
        classes, shares = self.parts.data.classes, outputs[chosen].softmax(1).amax(1)
        return {
            "own_error": error,
            "examples": self._photographs(self.test.inputs[chosen]),
            "captions": [
                classes[int(guess)] + ("" if guess == target else f" (it is {classes[int(target)]})") + f" {float(share):.0%}"
                for guess, target, share in zip(taken_for, self.test.targets[chosen], shares, strict=True)
            ],
            "maps": {
                "occlusion": _signed(covered.cpu()[:, None]),
                "saliency": _stretched(sensitive.cpu()[:, None]),
            },
        }


def _visible(images: Tensor) -> Tensor:
    """Images of one or three channels; the mean of others."""
    return images if images.shape[1] in (1, 3) else images.float().mean(1, keepdim=True)


def _signed(images: Tensor) -> np.ndarray:
    """Images whose zero is grey and whose value farthest from it is black or white, each for itself."""
    reach = images.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-30)
    return (127.5 + 127.5 * images / reach).round().clamp(0, 255).byte().cpu().numpy()


def _stretched(images: Tensor) -> np.ndarray:
    """Images from black, which is 0, to white, which is the largest value of each."""
    return (255 * images / images.amax((1, 2, 3), keepdim=True).clamp_min(1e-30)).round().byte().cpu().numpy()


def _framed(influence: np.ndarray, field: ReceptiveField) -> np.ndarray:
    """A picture of the influence, its root taken so that little shows too, with a frame around the receptive field."""
    scale = max(1, _SIDE // max(influence.shape))
    picture = (255 * np.sqrt(influence / influence.max())).round().astype(np.uint8).repeat(scale, 0).repeat(scale, 1)
    top, bottom, left, right = (
        scale * (edge + after) - after for edge, after in zip(field.box(*field.centre), (0, 1, 0, 1), strict=True)
    )
    picture[[top, bottom], left : right + 1] = 255
    picture[top : bottom + 1, [left, right]] = 255
    return picture
