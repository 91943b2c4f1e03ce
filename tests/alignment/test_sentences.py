from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadasu.alignment.sentences import sentence_end, split


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("It is a cat. Then", "It is a cat."),
        ("Is it? Yes", "Is it?"),
        ("Stop! Now", "Stop!"),
        ("Well… yes", "Well…"),
        ("Wait... what", "Wait..."),
        ('He said "go." Then', 'He said "go."'),
        ("これは猫です。次", "これは猫です。"),
        ("「だめです！」と", "「だめです！」"),
        ("本当？はい", "本当？"),
        ("終わりです.次", "終わりです."),
        ("Steps:\n1. Take it", "Steps:\n"),
        ("1. Take the knife.\n2. Go", "1. Take the knife."),
        ("It costs 3.5 euros. Buy", "It costs 3.5 euros."),
        ("See e.g. the box. Then", "See e.g. the box."),
        ("Made in 1999. Then", "Made in 1999."),
        ("\n\nHello there. Yes", "\n\nHello there."),
        ("J. Doe left. Then", "J. Doe left."),
        ("Open www.example.org now. Then", "Open www.example.org now."),
    ],
)
def test_first_sentence(text: str, first: str) -> None:
    end = sentence_end(text)
    assert end is not None
    assert text[:end] == first


@pytest.mark.parametrize(
    "text", ["", "Hello", "1.", "1. ", "It costs 3.", "e.g.", "Dr. ", "...", "\n", "。"]
)
def test_no_sentence_yet(text: str) -> None:
    assert sentence_end(text) is None


def test_a_number_ends_a_finished_text() -> None:
    assert sentence_end("It was 1999.", finished=True) == 12
    assert sentence_end("It was 1999.") is None


@given(st.text(alphabet="ab1. ?!。\n「」\"'…", max_size=40))
def test_sentences_join_to_the_text(text: str) -> None:
    parts = split(text)
    assert "".join(parts) == text
    assert all(parts)


@given(st.text(alphabet="ab1. ?!。\n", max_size=30), st.text(alphabet="ab1. ?!。\n", max_size=9))
def test_an_end_that_was_seen_stays(text: str, more: str) -> None:
    """A growing text never loses a sentence unless a closing mark or a joined word extends it."""
    end = sentence_end(text)
    if end is not None and end < len(text):
        assert sentence_end(text + more) == end
