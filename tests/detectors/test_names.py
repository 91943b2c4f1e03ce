"""Names are found however they are written, and are not found inside other words."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadasu.concepts import Concept
from tadasu.detectors.inflection import inflected
from tadasu.detectors.names import Lexicon
from tadasu.policy import Policy


@cache
def kids() -> Lexicon:
    return Lexicon(Policy.load("kids").concepts)


def found(text: str) -> list[tuple[str, str]]:
    return [(hit.concept, text[hit.start : hit.end]) for hit in kids().find(text)]


@pytest.mark.parametrize(
    ("text", "concept", "matched"),
    [
        ("a cat next to a pistol on blue", "weapons", "pistol"),
        ("PISTOLS", "weapons", "PISTOLS"),
        ("the pistol's grip", "weapons", "pistol"),
        ("two knives", "weapons", "knives"),
        ("p1st0l", "weapons", "p1st0l"),
        ("(pistol:1.4)", "weapons", "pistol"),
        ("red_pistol_art", "weapons", "pistol"),
        ("pistol2", "weapons", "pistol2"),
        ("p.i.s.t.o.l", "weapons", "p.i.s.t.o.l"),
        ("draw a p i s t o l now", "weapons", "p i s t o l"),
        ("a cat next to a g u n", "weapons", "g u n"),
        ("p-i-s-t-o-l", "weapons", "p-i-s-t-o-l"),
        ("a pis tol", "weapons", "pis tol"),
        ("a bo ttle w ith poppi ng co rk", "alcohol", "bo ttle w ith poppi ng co rk"),
        ("a p*stol and a cat", "weapons", "p*stol"),
        ("a pitsol and a cat", "weapons", "pitsol"),
        ("p|$701", "weapons", "p|$701"),
        ("pis-tol", "weapons", "pis-tol"),
        ("piiiistol", "weapons", "piiiistol"),
        ("p\u200bi\u200bstol", "weapons", "p\u200bi\u200bstol"),
        ("рistоl", "weapons", "рistоl"),
        ("ｐｉｓｔｏｌ", "weapons", "ｐｉｓｔｏｌ"),
        ("$exy", "adult", "$exy"),
        ("a n4k3d man", "adult", "n4k3d"),
        ("middlefinger", "crude_gestures", "middlefinger"),
        ("a middle-finger", "crude_gestures", "middle-finger"),
        ("bows and arrows, bow and arrows", "weapons", "bow and arrows"),
        ("ピストルの絵", "weapons", "ピストル"),
        ("ぴすとる", "weapons", "ぴすとる"),
        ("ﾋﾟｽﾄﾙ", "weapons", "ﾋﾟｽﾄﾙ"),
        ("ピ・ス・ト・ル", "weapons", "ピ・ス・ト・ル"),
        ("赤ワインを飲む人", "alcohol", "ワイン"),
        ("たばこを吸う人", "tobacco", "たばこ"),
        ("18禁の絵", "adult", "18禁"),
        ("赤い鬼", "gore_horror", "鬼"),
    ],
)
def test_is_found(text: str, concept: str, matched: str) -> None:
    assert (concept, matched) in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "a grape and an assassin's drape",
        "a pillow",
        "the gunwale had begun",
        "a classic grass bass",
        "for the sake of it",
        "a child's pillowcase in Scunthorpe, Essex",
        "a water pistol",
        "a blood orange",
        "butter knife",
        "455 and 1337",
        "p, i, s and t",
        "テキストエディタ",  # kiss inside text
        "知らないふり",  # knife inside pretending
        "剣道の試合",
        "鬼ごっこ",
        "バーガーとスープ",
        "水鉄砲で遊ぶ子供",
        "scotch tape on a desk",
        "Death Valley",
        "rum raisin ice cream",
        "a nail gun",
        "dice the tomatoes",
        "a cocktail dress",
        "cigarette pants",
        "gun metal grey",
        "a shot glass",
        "a toy gun",
        "rum cakes",
        "kitchen. Knifelike",
        "",
        "\u200b",
    ],
)
def test_is_not_found(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "concept"),
    [
        ("a man stabbed in the back", "weapons"),
        ("two drunks", "alcohol"),
        ("he was drunk", "alcohol"),
        ("smoking a pipe", "tobacco"),
        ("sigarette", "tobacco"),
        ("cigarrete", "tobacco"),
        ("vodca", "alcohol"),
        ("6un in hand", "weapons"),
    ],
)
def test_forms_slips_and_sounds(text: str, concept: str) -> None:
    assert concept in {name for name, _ in found(text)}


def test_aliases_are_looked_for_and_modified_heads_pass() -> None:
    concept = Concept(
        id="a",
        names={"en": ("rum",)},
        aliases={"en": ("grog",)},
        modifies={"en": ("cake",)},
        hazard="gore",
    )
    lexicon = Lexicon([concept])
    assert [hit.name for hit in lexicon.find("grog, rum")] == ["grog", "rum"]
    assert lexicon.find("a rum cake, grog cakes") == []
    assert [hit.name for hit in lexicon.find("rum and cake")] == ["rum"]


def test_the_longest_name_is_reported_once() -> None:
    assert found("a kitchen knife") == [("weapons", "kitchen knife")]


def test_how_it_was_hidden_is_said() -> None:
    ways = {text: kids().find(text)[0].how for text in ("gun", "g-u-n s", "gu" + "n" * 5)}
    assert ways["gun"] == "plain"
    assert ways["gunnnnn"] == "substituted"
    assert kids().find("p i s t o l")[0].how == "spelled out"


def test_an_exception_excuses_only_what_it_covers() -> None:
    assert found("a water pistol and a pistol") == [("weapons", "pistol")]


def test_exceptions_of_one_concept_do_not_excuse_another() -> None:
    concepts = [
        Concept(id="a", names={"en": ("glass",)}, exceptions={"en": ("red glass",)}, hazard="gore"),
        Concept(id="b", names={"en": ("red glass",)}, hazard="gore"),
    ]
    hits = Lexicon(concepts).find("a red glass")
    assert [(hit.concept, hit.start, hit.end) for hit in hits] == [("b", 2, 11)]


def test_names_of_an_alphabet_without_latin_letters() -> None:
    lexicon = Lexicon(
        [Concept(id="a", names={"ru": ("пистолет",), "el": ("όπλο",)}, hazard="gore")]
    )
    assert [hit.name for hit in lexicon.find("красный ПИСТОЛЕТ, ΌΠΛΟ")] == ["пистолет", "όπλο"]
    assert lexicon.find("красный кот") == []


def test_emoji_can_be_names() -> None:
    lexicon = Lexicon([Concept(id="a", names={"zxx": ("🔫",)}, hazard="gore")])
    text = "a cat 🔫 and"
    (hit,) = lexicon.find(text)
    assert text[hit.start : hit.end] == "🔫"


@given(st.text(alphabet="gun1!|.- ガ銃\u200bе$", max_size=40))
def test_any_text_is_survived_and_spans_lie_inside(text: str) -> None:
    for hit in kids().find(text):
        assert 0 <= hit.start < hit.end <= len(text)


@pytest.mark.parametrize(
    "unit", ["g ", "gun ", "p.i.s.t.o.l.", "1!|", "bow and ", "ピ ", "((((", "a$"]
)
def test_work_grows_linearly(unit: str) -> None:
    """Counted in steps of the interpreter, not in seconds."""
    import sys

    def steps(text: str) -> int:
        count = 0

        def tick(*_: Any) -> Any:
            nonlocal count
            count += 1
            return tick

        sys.settrace(tick)
        try:
            kids().find(text)
        finally:
            sys.settrace(None)
        return count

    once = steps(unit * 100)
    assert steps(unit * 400) < 6 * once + 2000


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        ("kill", ["kill", "kills", "killed", "killing"]),
        ("body", ["body", "bodies", "bodied", "bodying"]),
        ("knife", ["knife", "knives", "knifes", "knifed", "knifing"]),
        ("gun", ["gun", "guns", "gunned", "gunning"]),
        ("drugs", ["drugs"]),
        ("smoking", ["smoking", "smokings"]),
    ],
)
def test_forms_of_words(word: str, forms: list[str]) -> None:
    assert ["".join(form) for form in inflected([word])] == forms
