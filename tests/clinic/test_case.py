"""Models of other libraries, and losses of one's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from deepforward.clinic import diagnose
from deepforward.errors import InvalidData, InvalidModel, ShapeError
from tests.instruments.hostile_modules import LayerScale, ResNet, VisionTransformer

cross_entropy = nn.functional.cross_entropy
IMAGES, LABELS = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 10


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def vision_transformer(scale: float | None) -> nn.Module:
    model = VisionTransformer(width=32, depth=12, heads=4, scale=scale or 1.0)
    if scale is None:
        for module in model.modules():
            if isinstance(module, LayerScale):
                module.gamma.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    "build",
    [lambda: ResNet((8, 16, 16), 2), lambda: vision_transformer(None), lambda: vision_transformer(1e-5)],
    ids=["residual network with last scales at zero", "vision transformer", "vision transformer with layer scale"],
)
def test_standard_vision_models_are_not_called_ill(build):
    assert diagnose(build(), "digits").findings == ()


def test_a_vision_transformer_without_skips_is_called_ill():
    class Bare(nn.Module):
        def __init__(self, block: nn.Module) -> None:
            super().__init__()
            self.block = block

        def forward(self, x: Tensor) -> Tensor:
            x = self.block.attention(self.block.norm1(x))
            return self.block.fc2(self.block.act(self.block.fc1(x)))

    model = vision_transformer(None)
    model.blocks = nn.Sequential(*(Bare(block) for block in model.blocks))
    assert diagnose(model, "digits").rules == ("vanishing",)


class Encoder(nn.Module):
    """Takes tokens and a mask by keyword, gives a mapping with the loss, as transformers' models do."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(50, 16), nn.Sequential(nn.Linear(16, 16), nn.ReLU()), nn.Linear(16, 3)

    def forward(self, *, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        shown = (self.embed(input_ids) * attention_mask[..., None]).sum(1) / attention_mask.sum(1, keepdim=True)
        logits = self.head(self.body(shown))
        return {"loss": cross_entropy(logits, labels), "logits": logits}


def tokens(seed: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {
        "input_ids": torch.randint(50, (12, 9), generator=rng),
        "attention_mask": torch.ones(12, 9, dtype=torch.int64),
        "labels": torch.randint(3, (12,), generator=rng),
    }


def test_a_model_of_keywords_and_mappings_is_diagnosed_by_a_loss_of_ones_own():
    model, batches = Encoder(), [tokens(seed) for seed in range(3)]
    diagnosis = diagnose(model, batches, objective=lambda model, batch: model(**batch)["loss"])
    readings = diagnosis.evidence.readings
    assert diagnosis.findings == ()
    assert readings.layers == ("embed#0", "body.0#0", "body.1#0", "head#0") and readings.steps == (0, 1, 2)
    gradients = torch.autograd.grad(model(**batches[1])["loss"], list(model.head.parameters()))
    norm = float(torch.cat([g.flatten().double() for g in gradients]).norm())
    assert readings.values["parameter_gradient_norm"][1, 3] == pytest.approx(norm, rel=1e-5)  # float32 sums


def test_a_loader_gives_its_first_batches_and_a_source_its_examples():
    model = ResNet((4,), 1)
    named = diagnose(model, (IMAGES, LABELS)).evidence
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=8)
    own = diagnose(model, loader, objective=lambda model, batch: cross_entropy(model(batch[0]), batch[1])).evidence
    assert len(own.readings.steps) == 4 and own.readings.layers == named.readings.layers
    source = diagnose(
        model, "digits", objective=lambda model, batch: cross_entropy(model(batch.inputs), batch.targets)
    ).evidence
    card = diagnose(model, "digits").evidence
    assert np.array_equal(source.readings.values["gradient_rms"], card.readings.values["gradient_rms"])
    assert source.input_scale == card.input_scale


def test_a_module_runs_in_training_mode_under_any_loss():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(64, 10)).eval()
    seen = []
    diagnose(model, [IMAGES], objective=lambda model, batch: (seen.append(model.training), model(batch).sum())[1])
    assert all(seen) and not model.training


@pytest.mark.parametrize(
    ("module", "data", "objective", "error", "message"),
    [
        (Encoder(), (IMAGES, LABELS), "cross-entropy", ShapeError, "forward"),
        (nn.LSTM(8, 10), (IMAGES[:, 0], LABELS), "cross-entropy", InvalidModel, r"gives tuple, .* give a loss\(model, batch\)"),
        (nn.Flatten(), (IMAGES, LABELS), "cross-entropy", InvalidModel, "depends on no parameter"),
        (nn.Linear(8, 10).requires_grad_(False), (IMAGES[:, 0, 0], LABELS), "cross-entropy", InvalidModel, "unfreeze"),
        (nn.Linear(8, 10), [], lambda model, batch: model(batch).sum(), InvalidData, "got no batches"),
        (nn.Linear(8, 10), IMAGES, lambda model, batch: model(batch).sum(), InvalidData, "got Tensor, .* in a list"),
        (nn.Linear(8, 10), tokens(0), lambda model, batch: model(batch).sum(), InvalidData, "got dict"),
        (nn.Linear(8, 10), [IMAGES], lambda model, batch: model(batch), InvalidModel, "as a loss, expected one real number"),
        (nn.Linear(8, 10), [IMAGES], lambda model, batch: model(batch["x"]).sum(), InvalidModel, "in training mode"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_refused_in_one_line(module, data, objective, error, message):
    with pytest.raises(error, match=message) as caught:
        diagnose(module, data, objective=objective)
    assert "\n" not in str(caught.value)


def test_compiled_and_parallel_modules_are_diagnosed_as_what_is_inside():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    expected = diagnose(model, "digits").evidence.readings
    for wrapped in (nn.DataParallel(model), torch.compile(model, backend="eager")):
        readings = diagnose(wrapped, "digits").evidence.readings
        assert readings.layers == expected.layers
        assert np.array_equal(readings.values["gradient_rms"], expected.values["gradient_rms"])


def test_an_encoder_of_transformers_is_not_called_ill():
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 32, "num_hidden_layers": 12, "num_attention_heads": 4, "intermediate_size": 64}
    model = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=50, num_labels=3, **size))
    diagnosis = diagnose(model, [tokens(seed) for seed in range(2)], objective=lambda model, batch: model(**batch).loss)
    assert diagnosis.findings == ()
    layers = diagnosis.evidence.readings.layers
    assert len([name for name in layers if name.endswith("attention.self.query#0")]) == 12
