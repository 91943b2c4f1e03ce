"""Ensembles, asking judges, the published protocol and cards."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tadasu.alignment.engine import Request
from tadasu.alignment.scripted import Scripted
from tadasu.concepts import Concept
from tadasu.detectors.nudenet import NudeNet
from tadasu.detectors.q16 import Q16, Head
from tadasu.errors import BadFile, BadInput, RunFailed
from tadasu.evaluation.judge import ANY, Card, Judge
from tadasu.evaluation.judges import cards
from tadasu.evaluation.judges.asking import Asking, TellsChances
from tadasu.evaluation.judges.ensemble import Ensemble, at_least
from tadasu.evaluation.judges.published import q16_or_nudenet
from tadasu.evaluation.metrics.metric import Context, card_words
from tadasu.records import Score
from tadasu.statistics.rogan_gladen import ErrorRates

PICTURES = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in range(4)]
CAT = Concept(id="cat", names={"en": ("cat",)}, hazard="shocking")


@dataclass(frozen=True)
class Says:
    """A detector that says for picture i (by its shade) what it was told."""

    values: tuple[float | None, ...]
    name: str = "says"
    unit: str = "probability"
    concepts: tuple[str, ...] = ("cat",)

    def score(self, images: Sequence[Image.Image]) -> list[list[Score]]:
        rows = []
        for image in images:
            value = self.values[image.getpixel((0, 0))[0]]  # type: ignore[index]
            told = Score.unscored("says", "cat", "probability", "open")
            if value is not None:
                told = Score(detector="says", concept="cat", value=value, unit="probability")
            rows.append([told])
        return rows


def judge(name: str, *values: float | None, threshold: float = 0.5) -> Judge:
    return Judge(name=name, detector=Says(values), thresholds={"cat": threshold})


def verdicts(ensemble: Ensemble) -> list[bool | None]:
    made = ensemble.judge("all of them")
    rows = made.scores(PICTURES, ())
    return [made.unsafe({s.concept: s.value for s in row}) for row in rows]


def test_any_all_and_majority_with_three_valued_answers() -> None:
    one = judge("one", 0.9, 0.9, 0.1, None)
    two = judge("two", 0.9, 0.1, 0.1, 0.9)
    three = judge("three", 0.9, None, 0.1, 0.1)
    three_of = (one, two, three)
    assert verdicts(Ensemble(members=three_of, needs="any")) == [True, True, False, True]
    assert verdicts(Ensemble(members=three_of, needs="all")) == [True, False, False, False]
    assert verdicts(Ensemble(members=three_of, needs="majority")) == [True, None, False, None]
    pair = (one, judge("open", None, None, None, None))
    assert verdicts(Ensemble(members=pair, needs="any")) == [True, True, None, None]
    assert verdicts(Ensemble(members=pair, needs="all")) == [None, None, False, None]


def test_each_member_counts_by_its_own_threshold() -> None:
    strict = judge("strict", 0.3, 0.3, 0.3, 0.3, threshold=0.2)
    lax = judge("lax", 0.3, 0.3, 0.3, 0.3, threshold=0.8)
    assert verdicts(Ensemble(members=(strict, lax), needs="any")) == [True] * 4
    assert verdicts(Ensemble(members=(strict, lax), needs="all")) == [False] * 4
    one = Ensemble(members=(strict, lax)).judge("x").id
    other = Ensemble(members=(strict, judge("lax", 0.3, threshold=0.7))).judge("x").id
    assert one != other


def test_bounds_hold_for_every_way_of_erring_together_and_are_reached() -> None:
    chances = (0.6, 0.7, 0.9)
    corners = list(itertools.product((0, 1), repeat=3))
    rng = np.random.default_rng(0)
    for needed in (1, 2, 3):
        bounds = at_least(needed, chances)
        assert bounds.low <= bounds.independent <= bounds.high
        reached = []
        # common shift: one uniform number decides all three, each with its own offset
        for shifts in itertools.product(np.linspace(0, 0.95, 20), repeat=2):
            u = (np.arange(400) + 0.5) / 400
            happened = sum(
                ((u + shift) % 1 < p).astype(int)
                for p, shift in zip(chances, (0.0, *shifts), strict=True)
            )
            reached.append(float(np.mean(happened >= needed)))
        assert min(reached) >= bounds.low - 0.006
        assert max(reached) <= bounds.high + 0.006
        assert min(reached) == pytest.approx(bounds.low, abs=0.03)
        assert max(reached) == pytest.approx(bounds.high, abs=0.03)
        drawn = rng.random((200_000, 3)) < np.array(chances)
        assert bounds.independent == pytest.approx(
            float(np.mean(drawn.sum(1) >= needed)), abs=0.005
        )
    assert len(corners) == 8
    with pytest.raises(BadInput):
        at_least(3, [0.5, 0.5])


def asked(said: str | Exception, **more: object) -> Score:
    engine = Scripted(script={"": said})
    return Asking(engine=engine, looked_for=(CAT,)).score(PICTURES[:1])[0][0]


def test_the_first_word_of_an_answer_counts() -> None:
    assert asked("Yes, there is a cat.").value == 1.0
    assert asked("**no**").value == 0.0
    assert asked("いいえ。").value == 0.0
    for said in ("I cannot help with that.", "Not sure", "", "Nothing of the kind"):
        assert asked(said).state == "unscored", said
    assert "no answer" in asked(RunFailed("it broke")).note


class Chances(Scripted):
    """An engine that tells chances."""

    def first_token(self, request: Request) -> Mapping[str, float]:
        self.requests.append(request)
        return {" Yes": 0.3, "yes": 0.3, "No": 0.2, "Maybe": 0.2}


def test_chances_of_the_first_token_are_read_where_they_are_told() -> None:
    engine = Chances(script={})
    assert isinstance(engine, TellsChances)
    (row,) = Asking(engine=engine, looked_for=(CAT,)).score(PICTURES[:1])
    assert row[0].value == pytest.approx(0.75)
    assert engine.requests[0].messages[0].text.startswith("Does this picture show cat?")
    assert engine.requests[0].messages[0].images == (PICTURES[0],)
    (row,) = Asking(engine=engine, looked_for=(CAT,), least=0.9).score(PICTURES[:1])
    assert row[0].state == "unscored"
    with pytest.raises(BadInput, match="text"):
        Asking(engine=engine, looked_for=(CAT,), question="Is it safe?")


class Clip:
    """Pictures as two-dimensional vectors by their shade."""

    logit_scale = 100.0

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        turned = [float(image.getpixel((0, 0))[0]) for image in images]  # type: ignore[index]
        return np.array([[3.0, shade] for shade in turned])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.ones((len(texts), 2))


def test_the_published_protocol_is_q16_or_nudenet_with_its_cuts() -> None:
    boxes = np.zeros((1, 22, 3), dtype=np.float32)
    boxes[0, 4 + 3, 0] = 0.61  # FEMALE_BREAST_EXPOSED
    nudenet = NudeNet(
        network=lambda pixels: np.repeat(boxes, len(pixels), 0), concepts=("inappropriate",)
    )
    calm = Head.of_prompts(np.array([[1.0, 0.0], [-1.0, 0.0]]))
    q16 = Q16(network=Clip(), head=calm)
    made = q16_or_nudenet(q16, nudenet)
    (row,) = made.scores(PICTURES[:1], ())
    assert made.unsafe({s.concept: s.value for s in row}) is True
    boxes[0, 4 + 3, 0] = 0.59
    (row,) = made.scores(PICTURES[:1], ())
    assert made.unsafe({s.concept: s.value for s in row}) is False
    loud = Q16(network=Clip(), head=Head.of_prompts(np.array([[-1.0, 0.0], [1.0, 0.0]])))
    (row,) = q16_or_nudenet(loud, nudenet).scores(PICTURES[:1], ())
    assert row[0].value == 0.5
    assert row[0].note == "flagged by q16"
    with pytest.raises(BadInput, match="needs q16"):
        q16_or_nudenet(nudenet, q16)


def test_a_card_counts_what_it_is_told() -> None:
    truth: dict[str, list[bool | None]] = {
        "cat": [True, True, False, False],
        "dog": [False, True, None, False],
    }
    said = {"cat": [True, False, False, True], "dog": [False, True, True, False]}
    found = cards.count(truth, said, data="four pictures", measured="2026-11-21")
    dog = found.card.rates("dog")
    assert dog is not None
    assert (dog.caught, dog.unsafe, dog.passed, dog.safe) == (1, 1, 2, 2)
    assert "chance" in found.without["cat"]
    assert found.card.rates("cat") is None
    some = cards.count(
        {"cat": [True, False, False]},
        {"cat": [True, None, False]},
        data="x",
        measured="today",
    )
    assert some.open == {"cat": 1, ANY: 1}
    with pytest.raises(BadInput, match="same concepts"):
        cards.count({"cat": [True]}, {"dog": [True]}, data="x", measured="y")
    with pytest.raises(BadInput, match="one answer"):
        cards.count({"cat": [True]}, {"cat": []}, data="x", measured="y")
    with pytest.raises(BadInput, match="which pictures"):
        cards.count({"cat": [True]}, {"cat": [True]}, data=" ", measured="y")


def test_a_judge_is_measured_on_pictures_and_its_card_kept(tmp_path: Path) -> None:
    one = judge("one", 0.9, 0.8, 0.1, None)
    found = cards.measure(
        one,
        PICTURES,
        {"cat": [True, True, False, False]},
        data="four shades",
        measured="2026-11-21",
    )
    rates = found.card.rates("cat")
    assert rates is not None
    assert (rates.caught, rates.unsafe, rates.passed, rates.safe) == (2, 2, 1, 1)
    path = tmp_path / "card.json"
    cards.write(found.card, path, judge=one.id)
    assert cards.read(path, judge=one.id) == found.card
    with pytest.raises(BadFile, match="about"):
        cards.read(path, judge="another")
    path.write_text(path.read_text().replace('"caught": 2', '"caught": 9'))
    with pytest.raises(BadFile, match="no judge card"):
        cards.read(path)
    path.write_text("[]")
    with pytest.raises(BadFile, match="no judge card"):
        cards.read(path)
    with pytest.raises(BadInput, match="no threshold"):
        cards.measure(one, PICTURES, {"dog": [True] * 4}, data="x", measured="y")


def test_a_card_beside_speaks_where_the_first_has_nothing_and_is_named(tmp_path: Path) -> None:
    good, weak = (ErrorRates(caught=n, unsafe=10, passed=10, safe=10) for n in (9, 6))
    drawn = Card(data="drawings", measured="in May", whole={ANY: weak}, regions={ANY: weak})
    card = Card(data="generated", measured="in June", whole={ANY: good}, beside=(drawn,))
    assert card.rates() == good
    assert card.rates(by_regions=True) == weak
    assert card.rates("cat") is None
    assert "90.0 % (9/10)" in card_words(Context(judge="j", card=card))
    assert "on generated, in June" in card_words(Context(judge="j", card=card))
    assert "on drawings, in May" in card_words(Context(judge="j", card=card, by_regions=True))
    alone = Context(judge="j", card=Card(data="x", measured="y"), by_regions=True)
    assert card_words(alone) == "j: no judge card for this kind of picture"
    cards.write(card, tmp_path / "card.json", judge="j")
    assert cards.read(tmp_path / "card.json", judge="j") == card
