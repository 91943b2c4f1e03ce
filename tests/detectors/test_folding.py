"""Folding: what a reader cannot tell apart becomes equal, and spans lead back."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadasu.detectors.folding import fold


@pytest.mark.parametrize(
    "text",
    [
        "pistol",
        "PISTOL",
        "ｐｉｓｔｏｌ",
        "p\u200bi\u200bs\u2060t\ufeffo\u00adl",
        "рistоl",  # Cyrillic er and o
        "𝓹𝓲𝓼𝓽𝓸𝓵",
        "ⓟⓘⓢⓣⓞⓛ",
        "🅿🅸🆂🆃🅾🅻",
        "p\u0336i\u0336s\u0336t\u0336o\u0336l\u0336",
        "pístöl",
        "ριsτοl",  # Greek
        "ᴘɪꜱᴛᴏʟ",
    ],
)
def test_disguises_of_one_word(text: str) -> None:
    assert fold(text).text == "pistol"


@pytest.mark.parametrize("text", ["ピストル", "ぴすとる", "ﾋﾟｽﾄﾙ", "ヒ\u309aストル"])
def test_kana_of_any_width(text: str) -> None:
    assert fold(text).text == "ピストル"


def test_voiced_kana_stay_voiced() -> None:
    assert fold("ガ").text != fold("カ").text


def test_spans_lead_back_to_the_original() -> None:
    text = "xx ｐ\u200bｉｓ ﬁ ß"
    folded = fold(text)
    start = folded.text.index("pis")
    first, last = folded.back(start, start + 3)
    assert text[first:last] == "ｐ\u200bｉｓ"
    first, last = folded.back(folded.text.index("fi"), folded.text.index("fi") + 2)
    assert text[first:last] == "ﬁ"


@given(st.text(max_size=60))
def test_spans_are_ordered_and_inside(text: str) -> None:
    folded = fold(text)
    assert len(folded.spans) == len(folded.text)
    assert all(0 <= start < end <= len(text) for start, end in folded.spans)
    assert list(folded.spans) == sorted(folded.spans)


@given(st.text(alphabet=st.characters(max_codepoint=0x7F), max_size=60))
def test_visible_ascii_only_loses_its_case(text: str) -> None:
    seen = "".join(c for c in text if unicodedata.category(c) != "Cc" or c.isspace())
    assert fold(text).text == seen.lower()


def test_for_a_reader_of_japanese_hiragana_stays() -> None:
    assert fold("ぴすとるﾅｲﾌ", kana=False).text == "ぴすとるナイフ"


def test_look_alikes_of_unicode_become_latin() -> None:
    assert fold("𐊪ІⅮ").text == fold("pid").text or fold("ΡІⅮ").text == "pid"
