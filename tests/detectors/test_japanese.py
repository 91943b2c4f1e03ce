"""Japanese by dictionary forms and readings, and without the analyser by letters alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest

from tadasu.concepts import Concept
from tadasu.detectors import japanese
from tadasu.detectors.names import Lexicon
from tadasu.errors import MissingPart
from tadasu.policy import Policy
from tadasu.screen import PromptScreen

KIDS = Policy.load("kids").concepts


@cache
def kids() -> Lexicon:
    return Lexicon(KIDS, analyser=True)


def found(text: str) -> set[str]:
    hits = kids().find(text)
    assert all(0 <= hit.start < hit.end <= len(text) for hit in hits)
    return {hit.concept for hit in hits}


@pytest.mark.parametrize(
    ("text", "concept"),
    [
        ("刺された男", "weapons"),
        ("酔っぱらった男", "alcohol"),
        ("賭けた", "gambling"),
        ("人を斬った侍", "weapons"),
        ("首を吊った人", "gore_horror"),
        ("はだかの女", "adult"),
        ("まやくを吸う", "drugs_medicine"),
        ("ないふを持つ人", "weapons"),
        ("じゅうを構える男", "weapons"),
        ("バクダン", "weapons"),
        ("爆だん", "weapons"),
        ("お さ け", "alcohol"),
        ("ﾅｲﾌ", "weapons"),
        ("夕バコ", "tobacco"),
        ("ビ一ル", "alcohol"),
        ("ピ○トルを持つ猫", "weapons"),
        ("ピスト\nル", "weapons"),
        ("kenjuu o motsu", "weapons"),
        ("kenju", "weapons"),
        ("散弾銃", "weapons"),
    ],
)
def test_is_found(text: str, concept: str) -> None:
    assert concept in found(text)


@pytest.mark.parametrize(
    "text",
    """スロットル ドラッグアンドドロップ
    裸の王様 予防注射 鉄砲百合 おにごっこ ダイスキなケーキ エロイカ交響曲
    眼鏡をかける 出かける 見かけた猫 あくまで自分の道 チョコを食べる ちゅうしゃじょう
    紙を切る きった木 服をきる 聖剣の伝説 血液型
    したいことがある きれいなかた 一年じゅう 遊びたいまち 酒井さん カクテルドレス""".split(),
)
def test_is_not_found(text: str) -> None:
    assert found(text) == set()


def test_without_the_analyser_names_are_still_found_by_their_letters() -> None:
    lexicon = Lexicon(KIDS, analyser=False)
    assert not lexicon.reads_japanese
    assert {hit.concept for hit in lexicon.find("ピストルとぴすとると拳銃")} == {"weapons"}
    concept = Concept(id="a", names={"ja": ("スロット",)}, hazard="gore")
    assert Lexicon([concept], analyser=True).find("スロットルを握る") == []
    assert Lexicon([concept], analyser=False).find("スロットルを握る"), "a part of a word counts"


def test_a_missing_analyser_is_said_and_never_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(japanese, "installed", lambda: False)
    screen = PromptScreen(Policy.load("kids"))
    assert "pip install 'tadasu[japanese]'" in screen("赤いりんご").notes[0]
    assert all("Japanese" not in note for note in screen("a red apple").notes)
    with pytest.raises(MissingPart, match=r"tadasu\[japanese\]"):
        Lexicon(KIDS, analyser=True)


def test_several_threads_read_at_once() -> None:
    texts = [f"刺された男と赤い猫が公園で遊ぶ{number}" for number in range(200)]
    alone = [kids().find(text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(kids().find, texts)) == alone


def test_words_have_forms_and_readings() -> None:
    first, *_ = japanese.words("刺された")
    assert (first.form, first.kind, first.known, first.kana) == ("刺す", "動詞", True, False)


def test_a_name_of_several_words_is_found_by_their_forms() -> None:
    concept = Concept(id="a", names={"ja": ("手を洗う",)}, hazard="gore")
    lexicon = Lexicon([concept], analyser=True)
    (hit,) = lexicon.find("手を洗った猫")
    assert (hit.start, hit.end, hit.how) == (0, 4, "form")
    assert lexicon.find("手を振った猫") == []


@pytest.mark.parametrize("unit", ["ぴすとる", "じゅうを", "お さ ", "夕バ", "○ピ"])
def test_work_grows_linearly(unit: str) -> None:
    import sys

    lexicon = kids()

    def steps(text: str) -> int:
        count = 0

        def tick(*_: object) -> object:
            nonlocal count
            count += 1
            return tick

        sys.settrace(tick)  # type: ignore[arg-type]
        try:
            lexicon.find(text)
        finally:
            sys.settrace(None)
        return count

    once = steps(unit * 50)
    assert steps(unit * 200) < 6 * once + 5000
