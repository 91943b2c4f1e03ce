"""Nearness in meaning: the nearest piece and text decide; nothing broken passes as a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from tadasu.concepts import Concept
from tadasu.detectors.meaning import Meanings, embed, pieces, texts_of
from tadasu.errors import RunFailed

AXES = ("gun", "cat", "tree")


@dataclass
class Written:
    """Counts words: one axis a word, so cosines can be worked out by hand."""

    name: str = "written"
    seen: list[str] = field(default_factory=list)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.seen += texts
        rows = [[text.split().count(word) for word in AXES] + [0.01] for text in texts]
        return np.array(rows, dtype=np.float32)


def concept(name: str, *prompts: str) -> Concept:
    return Concept(id=name, prompts=prompts, names={"en": ("never embedded",)}, hazard="weapons")


def test_cosine_by_hand() -> None:
    (answer,) = Meanings([concept("arms", "gun")], Written()).measure(["gun cat"])
    assert answer[0].value == pytest.approx(1 / np.sqrt(2), abs=1e-3)
    assert (answer[0].concept, answer[0].text) == ("arms", "gun")


def test_the_nearest_piece_and_its_span_are_reported() -> None:
    text = "tree tree tree, gun gun gun, cat cat"
    (answer,) = Meanings([concept("arms", "gun"), concept("pets", "cat")], Written()).measure(
        [text]
    )
    arms, pets = answer
    assert text[arms.start : arms.end] == "gun gun gun"
    assert arms.value == pytest.approx(1, abs=1e-3)
    assert (pets.start, pets.end) == (0, len(text)), "two words are no piece of their own"


def test_prompts_do_not_influence_each_other() -> None:
    meanings = Meanings([concept("arms", "gun")], Written())
    texts = ["a gun", "a cat", "gun cat tree"]
    together = meanings.measure(texts)
    assert together == [meanings.measure([text])[0] for text in texts]
    assert meanings.measure([]) == []


def test_names_are_not_embedded() -> None:
    written = Written()
    Meanings([concept("arms", "gun", "gun")], written)
    assert written.seen == ["gun"]
    assert texts_of(Concept(id="a", names={"en": ("axe",)}, hazard="weapons")) == ("axe",)


def test_no_concepts_no_answers() -> None:
    assert Meanings([], Written()).measure(["a gun"]) == [[]]


def test_every_piece_of_a_long_list_is_looked_at() -> None:
    text = "tree tree tree, " * 500 + "gun gun gun"
    (answer,) = Meanings([concept("arms", "gun")], Written()).measure([text])
    assert text[answer[0].start : answer[0].end] == "gun gun gun"
    assert answer[0].value == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("text", ["word " * 700, "x" * 900, "a, b, " * 300, "猫" * 900])
def test_every_word_lies_in_a_piece_of_bounded_length(text: str) -> None:
    covered = {place for a, b in pieces(text) if b - a <= 600 for place in range(a, b)}
    assert all(place in covered for place, sign in enumerate(text) if sign.isalnum())


@dataclass
class Short(Written):
    """Reads three words and cuts the rest off."""

    def fits(self, texts: Sequence[str]) -> list[bool]:
        return [len(text.split()) <= 3 for text in texts]

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return super().__call__([" ".join(text.split()[:3]) for text in texts])


def test_what_an_embedder_would_cut_off_is_read_in_halves() -> None:
    text = "tree " * 30 + "gun"
    (answer,) = Meanings([concept("arms", "gun")], Short()).measure([text])
    assert "gun" in text[answer[0].start : answer[0].end]
    assert answer[0].value > 0.5


@dataclass
class English(Written):
    def suits(self, text: str) -> bool:
        return text.isascii()


def test_pieces_that_do_not_suit_the_embedder_are_not_measured() -> None:
    written = English()
    meanings = Meanings([concept("arms", "gun")], written)
    japanese, both = meanings.measure(["赤いりんご", "gun gun gun、赤いりんごと猫"])
    assert japanese == []
    assert both[0].value == pytest.approx(1, abs=1e-3)
    assert "赤いりんご" not in written.seen


@pytest.mark.parametrize(
    "vectors",
    [
        np.zeros((1, 3), np.float32),
        np.zeros(2, np.float32),
        np.array([[1, np.nan], [1, 1]], np.float32),
    ],
)
def test_a_broken_embedder_is_an_error(vectors: NDArray[np.float32]) -> None:
    @dataclass(frozen=True)
    class Broken:
        name: str = "broken"

        def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return vectors

    with pytest.raises(RunFailed, match="broken did not give"):
        embed(Broken(), ["a", "b"])
