from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tadasu.alignment.evaluators.card import EvaluatorCard
from tadasu.alignment.evaluators.cosine import ImageTextCosine, of_concepts
from tadasu.alignment.evaluators.evaluator import (
    Calibration,
    Exchange,
    ImageCheck,
    TextCheck,
    scored,
)
from tadasu.alignment.evaluators.guard import GenerativeGuard
from tadasu.alignment.evaluators.lexicon import PolicyLexicon
from tadasu.alignment.evaluators.pieces import Pieces
from tadasu.alignment.evaluators.reward import GuardClassifier, RewardModel
from tadasu.alignment.evaluators.transport import PatchTransport, transport
from tadasu.concepts import Concept
from tadasu.errors import BadFile, BadInput, RunFailed
from tadasu.policy import Policy

GREY = Image.new("RGB", (4, 4), "grey")
ASK = [Exchange(question="q", answer="a")]


class Network:
    labels = ("safe", "unsafe", "controversial")
    logit_scale = 100.0

    def rewards(self, exchanges: Any) -> Any:
        return np.array([float(len(e.question)) for e in exchanges])

    def probabilities(self, exchanges: Any) -> Any:
        return np.array([[0.5, 0.3, 0.2]] * len(exchanges))

    def verdicts(self, exchanges: Any) -> Any:
        return np.array([[0.63, 0.27]] * len(exchanges))

    def encode_images(self, images: Any) -> Any:
        return np.array([[2.0, 0.0, 0.0]] * len(images))

    def encode_texts(self, texts: Any) -> Any:
        return np.array([self._text(text) for text in texts])

    def _text(self, text: str) -> list[float]:
        return [0.0, 5.0, 0.0] if "pistol" in text else [1.0, 0.0, 1.0]

    def encode_patches(self, image: Any) -> Any:
        """Fifteen harmless patches; one of a picture with a pistol shows it."""
        patches = np.tile([1.0, 0.0, 1.0], (16, 1)) + 0.01 * np.arange(48).reshape(16, 3)
        if image is not GREY:
            patches[5] = [0.0, 1.0, 0.0]
        return patches


def test_units_and_directions() -> None:
    reward = RewardModel(network=Network()).score(ASK)[0]
    assert (reward.value, reward.unit, reward.higher_is) == (1.0, "reward", "less")
    told = RewardModel(network=Network(), instruction="four").score(ASK)[0]
    assert told.value == 4.0  # the instruction stands where the question was
    label = GuardClassifier(network=Network(), unsafe=("unsafe", "controversial")).score(ASK)[0]
    assert (label.value, label.unit, label.higher_is) == (0.5, "probability", "more")
    guard = GenerativeGuard(network=Network()).score(ASK)[0]
    assert (guard.value, guard.unit) == (0.7, "probability")
    for evaluator in (RewardModel(network=Network()), GenerativeGuard(network=Network())):
        assert evaluator.score([]) == []


def test_labels_must_be_known() -> None:
    with pytest.raises(BadInput, match="labels are safe, unsafe, controversial"):
        GuardClassifier(network=Network(), unsafe=("harmful",))
    with pytest.raises(BadInput, match="given: none"):
        GuardClassifier(network=Network(), unsafe=())


def test_the_lexicon_reads_answers_and_questions() -> None:
    lexicon = PolicyLexicon(concepts=Policy.load("kids").concepts)
    named, plain, question = lexicon.score(
        [Exchange(answer="Take the pistol."), Exchange(question="pistol", answer="A cat."),
         Exchange(question="ピストルは？")]
    )  # fmt: skip
    assert (named.value, named.concept, named.note) == (1.0, "weapons", "names 'pistol'")
    assert (plain.value, plain.concept) == (0.0, "unsafe")
    assert question.value == 1.0


def test_probabilities_are_reported_where_they_are_known() -> None:
    plain = TextCheck(evaluator=RewardModel(network=Network()), threshold=2.0)
    assert plain.examine("draft", ASK)[0].probability is None
    warm = TextCheck(
        evaluator=RewardModel(network=Network()),
        threshold=2.0,
        calibration=Calibration(slope=-1.0, intercept=1.0),
    )
    assert warm.examine("draft", ASK)[0].probability == pytest.approx(0.5)
    guard = TextCheck(evaluator=GenerativeGuard(network=Network()), threshold=0.5)
    found = guard.examine("draft", ASK)[0]
    assert found.probability == pytest.approx(0.7)
    assert found.flagged
    assert found.margin == pytest.approx(0.2)


@given(slope=st.floats(0.5, 3), middle=st.floats(-2, 2), seed=st.integers(0, 50))
def test_a_calibration_is_found_again(slope: float, middle: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(middle, 2.0, 3000)
    truth = rng.random(3000) < 1 / (1 + np.exp(slope * (values - middle)))
    found = Calibration.fit(values.tolist(), truth.tolist())
    assert found.slope == pytest.approx(-slope, rel=0.3)
    assert found.probability(middle) == pytest.approx(0.5, abs=0.08)


def test_a_calibration_of_separated_scores_stays_finite() -> None:
    found = Calibration.fit([0.0, 1.0, 10.0, 11.0], [True, True, False, False])
    assert 0.5 < found.probability(0.0) < 1
    for values, labels in (([1.0], [True]), ([1.0, float("nan")], [True, False]), ([1.0], [])):
        with pytest.raises(BadInput):
            Calibration.fit(values, labels)


def test_broken_numbers_are_unscored_and_flagged() -> None:
    assert scored("x", "unsafe", float("nan"), "reward").state == "unscored"

    class Silent:
        name = "silent"

        def score(self, exchanges: Any) -> Any:
            return []

    found = TextCheck(evaluator=Silent(), threshold=0.0).examine("draft", ASK)
    assert len(found) == 1
    assert found[0].flagged
    assert found[0].margin is None
    with pytest.raises(BadInput, match="finite number"):
        TextCheck(evaluator=Silent(), threshold=float("nan"))


def test_an_image_evaluator_that_fails_is_flagged() -> None:
    class Broken(ImageTextCosine):
        def score(self, image: Any) -> Any:
            raise RunFailed("broken weights")

    class Nothing(ImageTextCosine):
        def score(self, image: Any) -> Any:
            return []

    for kind in (Broken, Nothing):
        found = ImageCheck(evaluator=kind(network=Network()), threshold=0.1).examine(GREY)
        assert [each.verdict.flagged for each in found] == [None]
        assert found[0].flagged


def test_fit_of_sentences() -> None:
    evaluator = ImageTextCosine(network=Network())
    found = evaluator.fits(GREY, ["a", "", "a pistol", "  "])
    assert found.tolist() == pytest.approx([np.sqrt(0.5), 0, 0, 0])


def test_texts_of_a_policy() -> None:
    cat = Concept(id="cat", names={"en": ("cat", "kitty")}, prompts=("a cat",), hazard="shocking")
    neko = Concept(id="neko", names={"ja": ("猫",)}, hazard="shocking")
    assert of_concepts([cat, neko]) == {"cat": ("a cat", "cat", "kitty"), "neko": ("猫",)}
    with pytest.raises(BadInput, match="at least one text"):
        ImageTextCosine(network=Network(), texts={})


def test_patches_find_what_the_whole_picture_hides() -> None:
    texts = {"weapons": ("a pistol",)}
    whole = ImageTextCosine(network=Network(), texts=texts)
    patches = PatchTransport(network=Network(), texts=texts)
    with_pistol = Image.new("RGB", (4, 4), "black")
    assert whole.score(GREY)[0].value == whole.score(with_pistol)[0].value
    clean, found = patches.score(GREY)[0], patches.score(with_pistol)[0]
    assert clean.value is not None
    assert found.value is not None
    assert found.value > clean.value + 0.05
    assert found.note == "nearest at patch 6 of 16"
    assert patches.fits(GREY, ["a pistol"]).tolist() == [0.0]


def test_transport_keeps_the_mass() -> None:
    rng = np.random.default_rng(0)
    mass = np.log(rng.dirichlet(np.ones(7)))
    plan = transport(rng.uniform(-1, 1, (7, 3)), mass, smoothing=0.1)
    assert plan.sum(axis=1) == pytest.approx(np.exp(mass), abs=1e-6)
    assert plan.sum(axis=0) == pytest.approx(np.full(3, 1 / 3), abs=1e-6)
    with pytest.raises(BadInput):
        PatchTransport(network=Network(), texts={"x": ("y",)}, smoothing=0.0)


def test_zero_vectors_are_broken_weights() -> None:
    class Zero(Network):
        def encode_images(self, images: Any) -> Any:
            return np.zeros((len(images), 3))

    with pytest.raises(RunFailed, match="weights are broken"):
        ImageTextCosine(network=Zero()).score(GREY)


def test_cards(tmp_path: Path) -> None:
    assert EvaluatorCard.beside(tmp_path) == EvaluatorCard()
    file = tmp_path / "evaluator.json"
    file.write_text(json.dumps({"threshold": -0.5, "unsafe": ["bad"], "slope": -2, "intercept": 1,
                                "instruction": "Be nice.", "data": "ours"}))  # fmt: skip
    card = EvaluatorCard.beside(tmp_path)
    assert (card.threshold, card.unsafe, card.instruction) == (-0.5, ("bad",), "Be nice.")
    assert card.calibration == Calibration(slope=-2.0, intercept=1.0)
    for broken in ("[", "[]", '{"threshold": "low"}', '{"threshold": NaN}', '{"threshold": true}',
                   '{"instruction": 3}', '{"slope": 1, "intercept": "x"}'):  # fmt: skip
        file.write_text(broken)
        with pytest.raises(BadFile, match="cannot be understood"):
            EvaluatorCard.beside(tmp_path)


def test_tiny_probabilities_of_verdict_words_are_no_verdict() -> None:
    class Elsewhere:
        def verdicts(self, exchanges: Any) -> Any:
            return np.array([[1e-6, 5e-4]] * len(exchanges))

    check = TextCheck(evaluator=GenerativeGuard(network=Elsewhere()), threshold=0.5)
    (found,) = check.examine("draft", ASK[:1])
    assert found.flagged
    assert "hold 0.05% of the probability" in found.verdict.score.note


class ByWords:
    """-1 for what ends without a refusal and speaks of harm; reads 200 characters at most."""

    def rewards(self, exchanges: Any) -> Any:
        assert all(len(e.answer) <= 200 for e in exchanges)
        return np.array([self._one(e.answer) for e in exchanges])

    def _one(self, text: str) -> float:
        return 5.0 if text.endswith("can't help.") or "harm" not in text else -1.0


def fits(exchange: Exchange) -> bool:
    return len(exchange.question) + len(exchange.answer) <= 200


@pytest.mark.parametrize(
    "answer",
    [
        "Do harm now. But I can't help.",
        "Do harm now." + " The garden is green." * 60,
        " The garden is green." * 60 + " Do harm now." + " The garden is green." * 60,
        "The garden is green " * 60 + "do harm now " + "the garden is green " * 60,
    ],
)
def test_the_worst_piece_counts(answer: str) -> None:
    reader = Pieces(evaluator=RewardModel(network=ByWords()), fits=fits)
    safe, bad = reader.score([Exchange(answer="The garden."), Exchange(answer=answer)])
    assert (safe.value, safe.note) == (5.0, "")
    assert bad.value == -1.0
    assert "harm now" in bad.note


def test_no_piece_is_cut_away() -> None:
    """A question that leaves no room for any piece leaves the answer unscored, thus flagged."""
    reader = Pieces(evaluator=RewardModel(network=ByWords()), fits=fits)
    (found,) = TextCheck(evaluator=reader, threshold=0.0).examine(
        "draft", [Exchange(question="x" * 300, answer="The garden is green.")]
    )
    assert found.flagged
    assert "too long" in found.verdict.score.note
    whole = Pieces(evaluator=RewardModel(network=ByWords()), fits=fits, reading="whole")
    assert whole.score([Exchange(answer="Do harm now. But I can't help.")])[0].value == 5.0
