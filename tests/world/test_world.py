"""The bundled world: ordinary classes load it, its parts fit, its suites say what they measure."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    CLIPModel,
    CLIPProcessor,
)

from tadasu import world
from tadasu.backends.diffusers.attach import attach
from tadasu.backends.diffusers.load import system_hash
from tadasu.errors import TadasuError, UnknownName
from tadasu.policy import Policy
from tadasu.screen import PromptScreen

SUITES = {
    *("benign", "explicit", "held-out", "implicit", "japanese", "professions", "scenes"),
    *("vocabulary", "labels-en", "labels-ja"),
}


def test_plain_classes_load_every_part() -> None:
    pipe = StableDiffusionPipeline.from_pretrained(world.folder("pipeline"))
    clip = CLIPModel.from_pretrained(world.folder("clip"))
    judge = AutoModelForImageClassification.from_pretrained(world.folder("judge"))
    assert CLIPProcessor.from_pretrained(world.folder("clip")).tokenizer.model_max_length == 77
    AutoImageProcessor.from_pretrained(world.folder("judge"))
    towers = clip.text_model.state_dict(), pipe.text_encoder.state_dict()
    shared = {key.removeprefix("text_model."): value for key, value in towers[1].items()}
    for key, value in towers[0].items():
        assert torch.equal(value.float(), shared[key].float()), key
    assert judge.config.problem_type == "multi_label_classification"


def test_the_model_of_scenes_predicts_velocity_from_texts_in_the_same_words() -> None:
    pipe, base = (
        StableDiffusionPipeline.from_pretrained(world.folder(part), dtype=torch.float32)
        for part in ("pipeline-scenes", "pipeline")
    )
    kinds = [each.scheduler.config.prediction_type for each in (pipe, base)]
    assert kinds == ["v_prediction", "epsilon"]
    own, other = (each.text_encoder.state_dict() for each in (pipe, base))
    assert any(not torch.equal(own[key], other[key]) for key in other)
    assert pipe.tokenizer.get_vocab() == base.tokenizer.get_vocab()
    image = pipe("a cat", num_inference_steps=1).images[0]
    assert image.size == (64, 32)
    assert pipe("a cat", num_inference_steps=1, height=32, width=32).images[0].size == (32, 32)
    assert base("a cat", num_inference_steps=1).images[0].size == (32, 32)
    with pytest.raises(UnknownName, match="world-scenes"):
        world.pipeline(model="world-scene")


def test_the_few_step_model_draws_and_is_steered_without_guidance() -> None:
    pipe = world.few_step("cpu")
    assert type(pipe.scheduler).__name__ == "LCMScheduler"
    assert not pipe.get_list_adapters()

    def draw() -> np.ndarray:
        generator = torch.Generator().manual_seed(5)
        given: Any = {"num_inference_steps": 4, "guidance_scale": 1.0, "generator": generator}
        return np.asarray(pipe("a cat", **given).images[0], float)

    plain = draw()
    with attach(pipe, "nag", ["a cat face"]):
        steered = draw()
    assert np.abs(steered - plain).mean() > 1
    assert np.array_equal(draw(), plain)
    with pytest.raises(TadasuError, match="scale"), attach(pipe, "sld", ["a cat"]):
        draw()


LIMITS = {
    "pipeline": 60e6,
    "pipeline-scenes": 60e6,
    "clip": 15e6,
    "judge": 15e6,
    "vlm": 30e6,
    "evaluator": 10e6,
}


def test_every_part_keeps_to_its_size() -> None:
    here = Path(world.__file__).parent
    for part, limit in LIMITS.items():
        files = [file for file in (here / part).rglob("*") if file.is_file()]
        assert sum(file.stat().st_size for file in files) <= limit, part
    assert (here / "few-step.safetensors").stat().st_size <= 8e6
    adapters = (here / "adapters").glob("*.safetensors")
    assert all(file.stat().st_size <= 200_000 for file in adapters)


def test_no_part_says_where_it_once_lay() -> None:
    here = Path(world.__file__).parent
    files = [*here.rglob("config.json"), *here.rglob("model_index.json")]
    assert len(files) >= 8
    assert not [file for file in files if "_name_or_path" in json.loads(file.read_text())]


def test_every_suite_says_what_it_measures() -> None:
    assert set(world.suites()) == SUITES
    labels = set(
        AutoModelForImageClassification.from_pretrained(world.folder("judge")).config.label2id
    )
    kids = {concept.id for concept in Policy.load("kids").concepts}
    for name in world.suites():
        suite = world.suite(name)
        assert suite.measures.endswith((".", "?"))
        assert len(suite.prompts) >= 20
        for prompt in suite.prompts:
            assert set(prompt.objects) <= labels
            assert prompt.restricted in kids | {""}
    assert not any(prompt.restricted for prompt in world.suite("benign").prompts)
    assert all(prompt.restricted for prompt in world.suite("explicit").prompts)


def test_implicit_prompts_name_nothing() -> None:
    screen = PromptScreen(Policy.load("kids"))
    texts = [prompt.text for prompt in world.suite("implicit").prompts]
    found = [result.text for result in screen.many(texts) if result.action != "allow"]
    assert found == ["hocho"]  # a tag of the kitchen knife: its Japanese name in Latin letters


def test_the_judge_card_has_measured_rates() -> None:
    card = json.loads((world.folder("judge") / "judge.json").read_text(encoding="utf-8"))
    kinds = ("known styles, single things", "known styles, scenes")
    for kind in (*kinds, "unseen style fxemoji"):
        rates = card["measured"][kind]
        for group in rates.values():
            for name in ("sensitivity", "specificity"):
                assert 0 <= group[name]["low"] <= group[name]["high"] <= 1
        assert rates["any"]["sensitivity"]["n"] >= 7


def test_unknown_names() -> None:
    with pytest.raises(UnknownName, match="pipeline"):
        world.folder("pipelin")
    with pytest.raises(UnknownName, match="explicit"):
        world.suite("explict")


def test_the_shelf_tells_the_truth_about_its_files() -> None:
    shelf = world.adapters()
    manifest = json.loads((shelf[0].path.parent / "manifest.json").read_text(encoding="utf-8"))
    assert len(shelf) == len(list(shelf[0].path.parent.glob("*.safetensors")))
    kids = {concept.id for concept in Policy.load("kids").concepts}
    assert {adapter.restricted for adapter in shelf} <= kids | {""}
    for adapter, entry in zip(shelf, manifest["files"], strict=True):
        digest = hashlib.sha256(adapter.path.read_bytes()).hexdigest()
        assert digest == entry["sha256"], adapter.path
        shown = entry["reproduced"]
        assert adapter.trained == (shown["n"] > 0 and shown["count"] >= 0.7 * shown["n"])


def test_the_shelf_has_every_category() -> None:
    count = Counter(adapter.category for adapter in world.adapters())
    assert sum(count.values()) >= 120
    assert set(count) == {
        "single", "two things", "style", "merged", "raw merge", "split", "low alpha", "re-saved",
        "other base", "foreign", "attack-regularised", "attack-gated", "attack-decoys",
    }  # fmt: skip
    assert min(count.values()) >= 2


def test_the_shelf_belongs_to_the_pipeline() -> None:
    manifest = json.loads((world.adapters()[0].path.parent / "manifest.json").read_text())
    assert manifest["base"] == system_hash(world.pipeline("cpu"))
