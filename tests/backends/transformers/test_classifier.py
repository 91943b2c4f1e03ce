"""The judge on tiny classifiers that were saved and loaded the ordinary way."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)

from tadasu.backends.transformers import classifier
from tadasu.backends.transformers.classifier import Classifier
from tadasu.concepts import Concept
from tadasu.detectors.card import JudgeCard
from tadasu.detectors.detector import Detector, examine
from tadasu.errors import BadFile, BadInput, MissingPart

LABELS = ("pistol", "cat", "beer-mug")
WEAPONS = Concept(id="weapons", names={"en": ("pistol", "bomb")}, hazard="weapons")
ALCOHOL = Concept(id="alcohol", names={"en": ("beer mug",)}, hazard="age_restricted")


def tiny(labels: tuple[str, ...] = LABELS) -> ViTConfig:
    return ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=16,
        patch_size=8,
        hidden_dropout_prob=0.5,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        problem_type="multi_label_classification",
        initializer_range=0.5,
    )


def save(folder: Path, config: ViTConfig) -> ViTForImageClassification:
    torch.manual_seed(0)
    model = ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("judge")
    save(path, tiny())
    return path


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(3)
    sizes = [(16, 16), (40, 20), (3, 3), (1, 30)]
    return [
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ]


def test_the_score_is_the_sigmoid_of_the_saved_model(folder: Path) -> None:
    judge = classifier.load(concepts=(WEAPONS, ALCOHOL), ref=str(folder), device="cpu")
    assert isinstance(judge, Detector)
    model = ViTForImageClassification.from_pretrained(folder).eval()
    for image, row in zip(pictures(), judge.score(pictures()), strict=True):
        pixels = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR), dtype=np.float32)
        batch = torch.from_numpy((pixels / 255 - 0.5) / 0.5).permute(2, 0, 1)[None]
        with torch.no_grad():
            expected = torch.sigmoid(model(batch).logits[0])
        assert row[0].value == pytest.approx(float(expected[0]), abs=1e-5)
        assert row[1].value == pytest.approx(float(expected[2]), abs=1e-5)


def test_a_picture_does_not_depend_on_its_batch(folder: Path) -> None:
    judge = classifier.load(concepts=(WEAPONS,), ref=str(folder))
    together = [row[0].value for row in judge.score(pictures())]
    alone = [judge.score([image])[0][0].value for image in pictures()]
    assert together == pytest.approx(alone, abs=1e-6)
    assert len({round(value, 4) for value in together if value is not None}) == 4


def test_the_card_beside_the_weights_is_used(tmp_path: Path) -> None:
    save(tmp_path, tiny())
    plain = classifier.load(concepts=(WEAPONS,), ref=str(tmp_path)).score(pictures())
    (tmp_path / "judge.json").write_text(json.dumps({"temperature": 3.0}))
    warm = classifier.load(concepts=(WEAPONS,), ref=str(tmp_path)).score(pictures())
    for before, after in zip(plain, warm, strict=True):
        assert before[0].value is not None
        assert after[0].value is not None
        odds = np.log(before[0].value / (1 - before[0].value))
        assert after[0].value == pytest.approx(1 / (1 + np.exp(-odds / 3)), abs=1e-5)


def test_a_card_that_is_given_is_the_one_that_counts(folder: Path) -> None:
    card = JudgeCard(labels={"weapons": ("cat",)})
    judge = classifier.load(concepts=(WEAPONS,), ref=str(folder), card=card)
    assert judge.columns == {"weapons": (0, 1)}


def test_half_precision_weights_are_near(folder: Path) -> None:
    full = classifier.load(concepts=(WEAPONS,), ref=str(folder)).score(pictures())
    half = classifier.load(concepts=(WEAPONS,), ref=str(folder), dtype=torch.bfloat16)
    for before, after in zip(full, half.score(pictures()), strict=True):
        assert after[0].value == pytest.approx(before[0].value, abs=0.05)


def test_broken_weights_give_no_score(tmp_path: Path) -> None:
    model = save(tmp_path, tiny())
    with torch.no_grad():
        model.classifier.bias[0] = torch.nan
    model.save_pretrained(tmp_path)
    judge = classifier.load(concepts=(WEAPONS,), ref=str(tmp_path))
    assert {row[0].state for row in examine(judge, pictures())} == {"unscored"}


def test_a_model_without_a_trained_head_is_refused(tmp_path: Path) -> None:
    ViTModel(tiny(), add_pooling_layer=False).save_pretrained(tmp_path)
    ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    with pytest.raises(BadFile, match=r"lacks 2 weights of ViTForImageClassification"):
        Classifier(str(tmp_path))


def test_labels_need_names(tmp_path: Path) -> None:
    save(tmp_path, tiny(("LABEL_0", "LABEL_1")))
    with pytest.raises(BadFile, match="no names for its labels"):
        Classifier(str(tmp_path))


def test_folders_that_hold_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be loaded as an image classifier"):
        Classifier(str(tmp_path))
    save(tmp_path, tiny())
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(BadFile, match="cannot be loaded as an image classifier"):
        Classifier(str(tmp_path))


def test_devices_and_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="device 'nowhere' is not usable"):
        Classifier(str(folder), device="nowhere")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPart, match=r"tadasu\[diffusers\]"):
        Classifier(str(folder))
