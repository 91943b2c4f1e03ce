"""Finds names of concepts in Japanese by what its words are: dictionary forms and readings.

Sudachi (Takaoka and others, 2018, "Sudachi: a Japanese Tokenizer for Business", LREC) cuts a text
into words and gives each its normalised form and reading, so 刺された is found by 刺される, はだか by
裸, ばくだん by 爆弾, and スロットル is one word in which no スロット stands. It comes with the extra
``japanese``; without it nothing is concluded here, and the record of the screen says so.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tadasu.detectors.folding import Folded, fold
from tadasu.errors import MissingPart

_KANA = re.compile(r"[ぁ-ゖァ-ヺー]+")
_LETTER = re.compile(r"[々〆ぁ-ゖァ-ヺー㐀-鿿]")
_SHORTEST_READING = 3
_SHORTEST_PART = 2
_SHORTEST_ROMAJI = 5
_MOST_WORDS = 6
_PARTICLES = ("助詞", "助動詞")
_AFFIXES = ("接頭辞", "接尾辞")


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a text.

    Attributes:
        form: normalised form (爆弾 for バクダン).
        reading: in katakana.
        start: where it begins in the text that was read.
        end: where it ends, exclusive.
        kind: part of speech, as the dictionary says it.
        known: whether the dictionary has it.
        kana: whether it is written in kana alone.
    """

    form: str
    reading: str
    start: int
    end: int
    kind: str
    known: bool
    kana: bool


def installed() -> bool:
    """Whether the analyser and its dictionary are there."""
    return all(importlib.util.find_spec(name) for name in ("sudachipy", "sudachidict_core"))


def is_japanese(text: str) -> bool:
    """Whether a text has kana or Chinese characters."""
    return _LETTER.search(text) is not None


@cache
def _analyser() -> Any:
    if not installed():
        raise MissingPart.extra("Reading Japanese", "japanese")
    from sudachipy import Dictionary, SplitMode

    return Dictionary(dict="core").tokenizer(mode=SplitMode.A)


def words(text: str) -> list[Word]:
    """The words of a text, the shortest that the dictionary has.

    Raises:
        MissingPart: the extra ``japanese`` is not installed.
    """
    return [
        Word(
            form=each.normalized_form(),
            reading=fold(each.reading_form()).text,
            start=each.begin(),
            end=each.end(),
            kind=each.part_of_speech()[0],
            known=not each.is_oov(),
            kana=_KANA.fullmatch(each.surface()) is not None,
        )
        for each in _analyser().tokenize(text)
    ]


class Names:
    """Names of concepts in Japanese, by the forms of their words and by their readings.

    Args:
        names: as the concepts have them; those without Japanese letters are left out.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._forms: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        self._readings: dict[str, str] = {}
        for name in names:
            if not is_japanese(name):
                continue
            cut = words(fold(name, kana=False).text)
            path = tuple(word.form for word in cut)
            self._forms.setdefault(path[0], []).append((path, name))
            reading = "".join(word.reading for word in cut)
            if len(reading) >= _SHORTEST_READING and _KANA.fullmatch(reading):
                self._readings.setdefault(reading, name)

    def mixed(self) -> Iterator[tuple[str, str]]:
        """Names of two Chinese characters with either one in kana (爆だん, ばく弾), with the name."""
        for reading, name in self._readings.items():
            if len(name) == 2 and not _KANA.search(name):
                for cut in range(1, len(reading)):
                    if len(reading) - cut >= _SHORTEST_PART:
                        yield name[0] + reading[cut:], name
                    if cut >= _SHORTEST_PART:
                        yield reading[:cut] + name[1], name

    def romaji(self) -> Iterator[tuple[str, str]]:
        """Readings in Latin letters, long vowels written out or not, with the name."""
        for reading, name in self._readings.items():
            for spelling in {romaji(reading, long=True), romaji(reading, long=False)}:
                if len(spelling) >= _SHORTEST_ROMAJI and spelling.isascii():
                    yield spelling, name

    def find(self, cut: Sequence[Word]) -> Iterator[tuple[str, int, int]]:
        """Names among the words of a text, with first word and last word (inclusive)."""
        for first, word in enumerate(cut):
            for path, name in self._forms.get(word.form, ()):
                last = first + len(path) - 1
                if tuple(each.form for each in cut[first : last + 1]) != path:
                    continue
                if last > first or not _in_a_compound(cut, first):
                    yield name, first, last
            yield from self._read(cut, first)

    def _read(self, cut: Sequence[Word], first: int) -> Iterator[tuple[str, int, int]]:
        """Names that several kana words together sound like."""
        reading = ""
        for last in range(first, min(first + _MOST_WORDS, len(cut))):
            word = cut[last]
            if not word.kana or word.kind in _PARTICLES:
                return
            reading += word.reading
            name = self._readings.get(reading)
            if name and (last > first or word.kind not in _AFFIXES):
                yield name, first, last


def _in_a_compound(cut: Sequence[Word], place: int) -> bool:
    """Whether a single Chinese character is an affix, or a part of a longer word (聖剣, 血液)."""
    word = cut[place]
    if word.kind in _AFFIXES:
        return True
    if len(word.form) > 1 or word.kana:
        return False
    before = cut[place - 1] if place else None
    after = cut[place + 1] if place + 1 < len(cut) else None
    return (before is not None and before.kind == _AFFIXES[0] and not before.kana) or (
        after is not None and after.kind in ("名詞", _AFFIXES[1]) and not after.kana
    )


_ROWS = {
    "ア": "a i u e o",
    "カ": "ka ki ku ke ko",
    "サ": "sa shi su se so",
    "タ": "ta chi tsu te to",
    "ナ": "na ni nu ne no",
    "ハ": "ha hi fu he ho",
    "マ": "ma mi mu me mo",
    "ラ": "ra ri ru re ro",
    "ガ": "ga gi gu ge go",
    "ザ": "za ji zu ze zo",
    "ダ": "da ji zu de do",
    "バ": "ba bi bu be bo",
    "パ": "pa pi pu pe po",
}
_LINES = {
    "ア": "アイウエオ",
    "カ": "カキクケコ",
    "サ": "サシスセソ",
    "タ": "タチツテト",
    "ナ": "ナニヌネノ",
    "ハ": "ハヒフヘホ",
    "マ": "マミムメモ",
    "ラ": "ラリルレロ",
    "ガ": "ガギグゲゴ",
    "ザ": "ザジズゼゾ",
    "ダ": "ダヂヅデド",
    "バ": "バビブベボ",
    "パ": "パピプペポ",
}
_HEPBURN = {
    kana: sound
    for row, line in _LINES.items()
    for kana, sound in zip(line, _ROWS[row].split(), strict=True)
} | {"ヤ": "ya", "ユ": "yu", "ヨ": "yo", "ワ": "wa", "ヲ": "o", "ン": "n", "ヴ": "vu"}
_SMALL = {"ャ": "a", "ュ": "u", "ョ": "o", "ァ": "a", "ィ": "i", "ゥ": "u", "ェ": "e", "ォ": "o"}


def romaji(reading: str, *, long: bool) -> str:
    """Katakana in Hepburn's spelling.

    Args:
        reading: in katakana.
        long: whether long vowels are written out.

    >>> romaji("ケンジュウ", long=True), romaji("ケンジュウ", long=False), romaji("ドラッグ", long=True)
    ('kenjuu', 'kenju', 'doraggu')
    """
    spelt, doubled = "", False
    for kana in reading:
        if kana == "ッ":
            doubled = True
            continue
        if kana == "ー":
            spelt += spelt[-1:]
        elif kana in _SMALL:
            soft = spelt.endswith(("shi", "chi", "ji"))
            glide = "y" if kana in "ャュョ" and not soft else ""
            spelt = spelt[:-1] + glide + _SMALL[kana]
        else:
            sound = _HEPBURN.get(kana, kana)
            spelt += (sound[0] if doubled else "") + sound
        doubled = False
    return spelt if long else re.sub(r"([aeiou])\1|(?<=o)u", r"\1", spelt)
