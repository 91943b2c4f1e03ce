"""What prompt tools, browsers and people make of a text is read as they read it."""

from __future__ import annotations

from functools import cache

import pytest

from tadasu.detectors.folding import fold
from tadasu.detectors.names import Lexicon
from tadasu.detectors.views import as_katakana, named, segments, tags, together, views
from tadasu.policy import Policy


@cache
def kids() -> Lexicon:
    return Lexicon(Policy.load("kids").concepts)


def found(text: str) -> set[tuple[str, str]]:
    hits = kids().find(text)
    assert all(0 <= hit.start < hit.end <= len(text) for hit in hits)
    return {(hit.concept, text[hit.start : hit.end]) for hit in hits}


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("a (pis:1.2)tol", "a pistol"),
        ("((pistol))", "pistol"),
        ("[pis]tol", "pistol"),
        ("pis**tol**", "pistol"),
        ("a <b>pis</b>tol", "a pistol"),
        ("<lora:style:0.8>pistol", "pistol"),
        ("&#112;istol", "pistol"),
        ("%70istol", "pistol"),
        (r"\u0070istol", "pistol"),
        ("|<nife", "knife"),
        ("YSBwaXN0b2w=", "a pistol"),
    ],
)
def test_markup_and_codes_are_undone(text: str, reads: str) -> None:
    assert reads in [view.text for view in views(text)]
    assert found(text)


def test_a_plain_text_has_one_view() -> None:
    assert [view.text for view in views("A red cat, oil on canvas")] == ["a red cat, oil on canvas"]


def test_a_hit_in_markup_stands_where_it_stands_in_the_text() -> None:
    text = "see: a (pis:1.2)tol, ok"
    assert ("weapons", "pis:1.2)tol") in found(text)


@pytest.mark.parametrize(
    "text", ["#pistollife", "#PistolLife", "@gun_club", "pis\ntol", "over dose of pills", "lotsip"]
)
def test_tags_gaps_and_words_backwards(text: str) -> None:
    assert found(text)


@pytest.mark.parametrize("text", ["#begun", "#grapevine", "#FreeLove", "a 6in pipe", "9in nails"])
def test_tags_and_measures_that_hold_no_name(text: str) -> None:
    assert found(text) == set()


@pytest.mark.parametrize("sign", "🔫💣🔪🚬🍺🍷💊💉🎰🃏💀⚰🖕🤬👙🔞🧨🪓🏹")
def test_emoji_are_names_of_things(sign: str) -> None:
    assert [span for _, span in found(f"a cat with {sign}")] == [sign]


@pytest.mark.parametrize("sign", "🐱🍎🚀🎂🎃🚭🌹🎈⚽🔨")
def test_other_emoji_pass(sign: str) -> None:
    assert found(f"a cat with {sign}") == set()


def test_pictographs_are_named_by_unicode() -> None:
    assert named("a 🔪 and é") == [("hocho", 2, 3)]


def test_tags_are_cut_where_case_shows_it() -> None:
    assert tags("#BigRedCat") == [("big red cat", 0, 10)]
    assert segments("catlife", ["cat"], {"life"}.__contains__) == ["cat"]
    assert segments("catxyz", ["cat"], {"life"}.__contains__) == []


@pytest.mark.parametrize(
    ("text", "reads"), [("夕バコ", "タバコ"), ("ビ一ル", "ビール"), ("卜ランプ", "トランプ")]
)
def test_look_alikes_beside_katakana(text: str, reads: str) -> None:
    assert as_katakana(fold(text)).text == reads


@pytest.mark.parametrize("text", ["夕日と一人の力", "口と工場"])
def test_ideographs_among_themselves_stay(text: str) -> None:
    assert as_katakana(fold(text)).text == text.translate(str.maketrans("との", "トノ"))


def test_gaps_between_japanese_letters_close_and_others_stay() -> None:
    assert together(fold("お さ\nけ and a cat")).text == "オサケ and a cat"
