"""Zero-shot scores on a tiny CLIP that was saved and loaded the ordinary way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    ViTConfig,
    ViTModel,
)

from tadasu.backends.transformers import clip
from tadasu.backends.transformers.clip import ClipEncoder
from tadasu.concepts import Concept
from tadasu.detectors.detector import Detector
from tadasu.errors import BadFile

CAT = Concept(id="cat", names={"en": ("cat",)}, hazard="shocking")
DOG = Concept(id="dog", names={"en": ("dog",)}, prompts=("a dog",), hazard="shocking")


def tokenizer() -> CLIPTokenizer:
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {w: i for i, w in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return CLIPTokenizer(vocab=vocabulary, merges=[])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tower = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "initializer_factor": 20.0,
    }
    words = tokenizer()
    config = CLIPConfig(
        text_config=tower
        | {
            "vocab_size": len(words),
            "max_position_embeddings": 12,
            "bos_token_id": words.bos_token_id,
            "eos_token_id": words.eos_token_id,
            "pad_token_id": words.pad_token_id,
        },
        vision_config=tower | {"image_size": 16, "patch_size": 8},
        projection_dim=8,
        logit_scale_init_value=1.5,
    )
    CLIPModel(config).save_pretrained(path)
    words.save_pretrained(path)
    CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    ).save_pretrained(path)
    return path


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(5)
    return [
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
        for width, height in [(16, 16), (40, 20), (3, 3)]
    ]


def test_the_cosine_is_the_one_of_the_saved_model(folder: Path) -> None:
    detector = clip.load(
        concepts=(CAT, DOG), ref=str(folder), unit="cosine similarity", device="cpu"
    )
    assert isinstance(detector, Detector)
    model, words = CLIPModel.from_pretrained(folder).eval(), tokenizer()
    prepare = CLIPImageProcessorPil.from_pretrained(folder)
    texts = ["cat", "a dog", "dog"]
    with torch.no_grad():
        output = model(
            **words(texts, padding=True, return_tensors="pt"),
            pixel_values=prepare(pictures()[:2], return_tensors="pt")["pixel_values"],
        )
    cosines = (output.image_embeds @ output.text_embeds.T).numpy()
    found = detector.score(pictures()[:2])
    assert [row[0].value for row in found] == pytest.approx(cosines[:, 0].tolist(), abs=1e-5)
    assert [row[1].value for row in found] == pytest.approx(
        cosines[:, 1:].max(axis=1).tolist(), abs=1e-5
    )


def test_the_probability_is_a_softmax_with_the_models_scale(folder: Path) -> None:
    detector = clip.load(concepts=(CAT,), ref=str(folder), neutral=("dog",))
    assert detector.network.logit_scale == pytest.approx(np.exp(1.5))
    model, words = CLIPModel.from_pretrained(folder).eval(), tokenizer()
    prepare = CLIPImageProcessorPil.from_pretrained(folder)
    with torch.no_grad():
        shares = model(
            **words(["cat", "dog"], padding=True, return_tensors="pt"),
            pixel_values=prepare(pictures()[:2], return_tensors="pt")["pixel_values"],
        ).logits_per_image.softmax(dim=1)
    found = [row[0].value for row in detector.score(pictures()[:2])]
    assert found == pytest.approx(shares[:, 0].tolist(), abs=1e-4)


def test_a_picture_does_not_depend_on_its_batch(folder: Path) -> None:
    detector = clip.load(concepts=(CAT,), ref=str(folder))
    together = [row[0].value for row in detector.score(pictures())]
    alone = [detector.score([image])[0][0].value for image in pictures()]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len({round(value, 4) for value in together if value is not None}) == 3


def test_long_texts_are_cut_and_short_ones_do_not_change_beside_them(folder: Path) -> None:
    encoder = ClipEncoder(str(folder))
    both = encoder.encode_texts(["cat", "a very long text about a cat and a dog"])
    assert both[0] == pytest.approx(encoder.encode_texts(["cat"])[0], abs=1e-5)


def test_the_card_beside_the_weights_counts_unless_told_otherwise(folder: Path) -> None:
    (folder / "clip.json").write_text('{"neutral": ["dog"], "template": "a {}"}')
    by_card = clip.load(concepts=(CAT,), ref=str(folder))
    told = clip.load(concepts=(CAT,), ref=str(folder), template="the {}", temperature=3.0)
    (folder / "clip.json").unlink()
    assert (by_card.neutral, by_card.template, by_card.temperature) == (("dog",), "a {}", 1.0)
    assert (told.neutral, told.template, told.temperature) == (("dog",), "the {}", 3.0)
    assert by_card.texts == {"cat": ("a cat",)}


def test_half_precision_weights_are_near(folder: Path) -> None:
    kinds = (torch.float32, torch.bfloat16)
    full, half = (
        clip.load(concepts=(CAT,), ref=str(folder), unit="cosine similarity", dtype=kind)
        for kind in kinds
    )
    for before, after in zip(full.score(pictures()), half.score(pictures()), strict=True):
        assert after[0].value == pytest.approx(before[0].value, abs=0.1)


def test_other_models_are_refused(tmp_path: Path, folder: Path) -> None:
    config = ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        image_size=16,
        patch_size=8,
    )
    ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(BadFile, match="cannot be loaded as a CLIP model"):
        ClipEncoder(str(tmp_path))
    tokenizer().save_pretrained(tmp_path)
    CLIPImageProcessorPil.from_pretrained(folder).save_pretrained(tmp_path)
    with pytest.raises(BadFile, match="is a ViTModel, not a CLIP"):
        ClipEncoder(str(tmp_path))


def test_patches_lie_in_the_space_of_the_texts(folder: Path) -> None:
    encoder = ClipEncoder(str(folder))
    before = encoder.content
    patches = encoder.encode_patches(pictures()[0])
    assert patches.shape == (4, 8)  # 16 pixels in patches of 8
    model = CLIPModel.from_pretrained(folder).eval()
    prepare = CLIPImageProcessorPil.from_pretrained(folder)
    with torch.no_grad():
        states = model.vision_model(
            prepare(pictures()[:1], return_tensors="pt")["pixel_values"]
        ).last_hidden_state[0, 3]
        expected = model.visual_projection(model.vision_model.post_layernorm(states))
    assert patches[2] == pytest.approx(expected.numpy(), abs=1e-5)
    encoder.encode_texts(["a candidate of very many words " * 50])
    assert encoder.content == before  # the published code resized CLIP's token table
