"""References as engines and evaluators, on tiny models that were saved the ordinary way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from tadasu.alignment.evaluators.evaluator import Exchange
from tadasu.alignment.evaluators.guard import GenerativeGuard
from tadasu.backends import aligners
from tadasu.backends.transformers.guards import FirstWordGuard
from tadasu.backends.transformers.text_evaluators import SequenceClassifier
from tadasu.errors import BadFile, BadInput

WORDS = "<pad> <unk> [CLS] safe unsafe user assistant a pistol take it and go I refuse what is this"
ASK = [
    Exchange(question="what is this", answer="a pistol"),
    Exchange(question="what is this", answer="I refuse"),
    Exchange(answer="take it and go"),
]
TEMPLATE = (
    "[CLS] {% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}assistant{% endif %}"
)


def tokenizer(template: str | None) -> PreTrainedTokenizerFast:
    vocabulary = {word: i for i, word in enumerate(WORDS.split())}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", pad_token="<pad>")
    made.chat_template = template
    return made


def classifier(folder: Path, labels: tuple[str, ...], template: str | None = TEMPLATE) -> Path:
    torch.manual_seed(0)
    words = tokenizer(template)
    BertForSequenceClassification(
        BertConfig(
            vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=12, pad_token_id=0,
            initializer_range=0.7, id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
        )
    ).save_pretrained(folder)  # fmt: skip
    words.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("template", [TEMPLATE, None])
def test_rewards_are_the_logits_of_the_saved_model(tmp_path: Path, template: str | None) -> None:
    network = SequenceClassifier(str(classifier(tmp_path, ("reward",), template)))
    together = network.rewards(ASK)
    alone = [float(network.rewards([each])[0]) for each in ASK]
    assert together.tolist() == pytest.approx(alone, abs=1e-5)
    assert len({round(value, 4) for value in alone}) == 3
    model = BertForSequenceClassification.from_pretrained(tmp_path).eval()
    words = tokenizer(template)
    if template is None:
        ids = words(ASK[0].question, ASK[0].answer, return_tensors="pt")["input_ids"]
    else:
        text = "[CLS] user what is this assistant a pistol"
        ids = words(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert float(model(ids).logits[0, 0]) == pytest.approx(alone[0], abs=1e-5)


def test_a_long_exchange_is_read_to_its_end_and_never_cut(tmp_path: Path) -> None:
    folder = str(classifier(tmp_path, ("reward",)))
    network = SequenceClassifier(folder)
    with pytest.raises(BadInput, match="reads at most 12"):
        network.rewards([Exchange(answer="take it and go " * 10)])
    check = aligners.answers(folder, threshold=-9.0)
    short, long = check.evaluator.score(
        [Exchange(answer="take it"), Exchange(answer="take it and go " * 10)]
    )
    assert short.value is not None
    assert long.value is not None
    (lost,) = check.examine("draft", [Exchange(question="what " * 50, answer="a pistol")])
    assert lost.flagged
    assert "too long" in lost.verdict.score.note


def test_a_reward_model_needs_a_threshold(tmp_path: Path) -> None:
    folder = classifier(tmp_path, ("reward",))
    with pytest.raises(BadInput, match=r"has no threshold.*tadasu calibrate align"):
        aligners.answers(str(folder))
    assert aligners.answers(str(folder), threshold=0.5).threshold == 0.5
    card = {"threshold": -0.25, "instruction": "I refuse", "slope": -1.0, "intercept": 0.0}
    (folder / "evaluator.json").write_text(json.dumps(card))
    check = aligners.answers(str(folder))
    assert check.threshold == -0.25
    finding = check.examine("draft", [ASK[0]])[0]
    assert finding.verdict.score.higher_is == "less"
    assert finding.probability is not None
    own = SequenceClassifier(str(folder)).rewards(
        [Exchange(question="I refuse", answer=ASK[0].answer)]
    )
    assert finding.verdict.score.value == pytest.approx(float(own[0]), abs=1e-5)


def test_a_guard_classifier_says_which_labels_are_unsafe(tmp_path: Path) -> None:
    folder = classifier(tmp_path, ("fine", "bad", "worse"))
    with pytest.raises(BadInput, match="labels are fine, bad, worse"):
        aligners.answers(str(folder))
    (folder / "evaluator.json").write_text(json.dumps({"unsafe": ["bad", "worse"]}))
    check = aligners.answers(str(folder))
    assert check.threshold == 0.5
    finding = check.examine("draft", [ASK[0]])[0]
    chances = SequenceClassifier(str(folder)).probabilities([ASK[0]])[0]
    assert chances.sum() == pytest.approx(1, abs=1e-5)
    assert finding.verdict.score.value == pytest.approx(1 - chances[0], abs=1e-5)
    with pytest.raises(BadInput, match="3 labels, so it gives no reward"):
        SequenceClassifier(str(folder)).rewards(ASK)


def test_a_guard_model_is_read_at_its_first_word(tmp_path: Path) -> None:
    words = tokenizer(TEMPLATE)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64, initializer_range=0.7,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    guard = FirstWordGuard(str(tmp_path))
    found = GenerativeGuard(network=guard, least=0.0).score(ASK)
    model = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    text = "[CLS] user what is this assistant a pistol assistant"
    with torch.no_grad():
        logits = model(words(text, return_tensors="pt")["input_ids"]).logits[0, -1]
    safe, unsafe = (words.convert_tokens_to_ids(word) for word in ("safe", "unsafe"))
    chance = torch.softmax(logits[[unsafe, safe]], 0)[0]
    assert found[0].value == pytest.approx(float(chance), abs=1e-5)
    with pytest.raises(BadInput, match="do not tell safe from unsafe"):
        FirstWordGuard(str(tmp_path), unsafe=("safe",))
    tokenizer(None).save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(BadFile, match="no chat template"):
        FirstWordGuard(str(tmp_path))


def test_folders_that_hold_no_evaluator(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be loaded as an answer evaluator"):
        aligners.answers(str(tmp_path), threshold=0.0)
    with pytest.raises(BadFile, match="cannot be loaded as a CLIP model"):
        aligners.images(str(tmp_path))
    with pytest.raises(BadFile, match="cannot be loaded as a vision-language model"):
        aligners.engine(str(tmp_path))


def test_what_lies_beside_a_model(tmp_path: Path) -> None:
    (tmp_path / "vlm").mkdir()
    (tmp_path / "clip").mkdir()
    assert aligners.beside(str(tmp_path / "vlm")) == {"clip": str(tmp_path / "clip")}
    assert aligners.beside("some/hub-id") == {}
