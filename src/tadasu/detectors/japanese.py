"""Finds names of concepts in Japanese by what its words are: dictionary forms and readings.

Sudachi (Takaoka and others, 2018, "Sudachi: a Japanese Tokenizer for Business", LREC) cuts a text
into words and gives each its normalised form and reading: 刺された is found by 刺される, and
ばくだん by 爆弾, while スロットル is one word in which no スロット stands. It comes with the
extra ``japanese``; without it nothing is concluded here, and the record of the screen says so.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from tadasu.detectors.folding import fold
from tadasu.errors import MissingPart

_OWN = threading.local()
_KANA = re.compile(r"[ぁ-ゖァ-ヺー]+")
_AS_KATAKANA = {code: code + ord("ァ") - ord("ぁ") for code in range(ord("ぁ"), ord("ゖ") + 1)}
_HIRAGANA = re.compile(r"[ぁ-ゖー]+")
_HAN = re.compile(r"[㐀-鿿]")
_LETTER = re.compile(r"[々〆ぁ-ゖァ-ヺー㐀-鿿]")
_SHORTEST_READING = 3
_SHORTEST_PART = 2
_SHORTEST_ROMAJI = 5
_LONGEST_READING = 16
#: What can follow a noun at once.
_PARTICLE_KANA = "がをにのとはもでへやかだなじ"
_PARTICLES = ("助詞", "助動詞")
_AFFIXES = ("接頭辞", "接尾辞")


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a text.

    Attributes:
        form: normalised form (爆弾 for バクダン); dictionary form where the normalised one has
            other Chinese characters (切る for 斬る) or is hiragana, which may be several words.
        bare: whether it stands in its dictionary form.
        reading: in katakana.
        start: where it begins in the text that was read.
        end: where it ends, exclusive.
        kind: part of speech, as the dictionary says it.
        known: whether the dictionary has it.
        kana: whether it is written in kana alone.
    """

    form: str
    bare: bool
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
def _dictionary() -> Any:
    from sudachipy import Dictionary

    return Dictionary(dict="core")


def _analyser() -> Any:
    """The analyser of this thread; one cannot be shared while it reads."""
    if not hasattr(_OWN, "analyser"):
        make = getattr(_dictionary(), "tokenizer", None) or _dictionary().create  # before 0.7
        _OWN.analyser = make()
    return _OWN.analyser


@lru_cache(maxsize=8)
def words(text: str) -> tuple[Word, ...]:
    """The words of a text, the shortest that the dictionary has."""
    return tuple(
        Word(
            form=_form(each.dictionary_form(), each.normalized_form()),
            bare=each.surface() == each.dictionary_form(),
            reading=each.reading_form(),
            start=each.begin(),
            end=each.end(),
            kind=each.part_of_speech()[0],
            known=not each.is_oov(),
            kana=_KANA.fullmatch(each.surface()) is not None,
        )
        for each in _analyser().tokenize(text, _mode("A"))
    )


def _mode(name: str) -> Any:
    from sudachipy import SplitMode

    return getattr(SplitMode, name)


def _phrases(text: str) -> list[tuple[int, int]]:
    """Where the longest words stand that are no nouns (出かける, あくまで)."""
    return [
        (each.begin(), each.end())
        for each in _analyser().tokenize(text, _mode("C"))
        if each.part_of_speech()[0] != "名詞" and not each.is_oov()
    ]


def _form(written: str, normalised: str) -> str:
    one, other = set(_HAN.findall(written)), set(_HAN.findall(normalised))
    vague = bool(one) and _HIRAGANA.fullmatch(normalised) is not None
    return written if vague or (one and other and not one & other) else normalised


class Names:
    """Names of concepts in Japanese, by the forms of their words and by their readings.

    Args:
        names: as the concepts have them; those without Japanese letters are left out.

    Raises:
        MissingPart: the extra ``japanese`` is not installed.
    """

    def __init__(self, names: Sequence[str]) -> None:
        if not installed():
            raise MissingPart.extra("Reading Japanese", "japanese")
        self._forms: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        self._readings: dict[str, str] = {}
        for name in names:
            if not is_japanese(name):
                continue
            cut = words(fold(name, kana=False).text)
            path = tuple(word.form for word in cut)
            if cut[-1].bare:  # 死ね is no other form of 死ぬ
                self._forms.setdefault(path[0], []).append((path, name))
            reading = "".join(word.reading for word in cut)
            if cut[-1].kind in ("動詞", "形容詞"):  # かける is 賭ける and much else
                continue
            if len(reading) >= _SHORTEST_READING and _KANA.fullmatch(reading):
                self._readings.setdefault(reading, name)
        self._begin = {reading[:_SHORTEST_READING] for reading in self._readings}

    def readings(self) -> Iterator[tuple[str, str]]:
        """How the names sound, in katakana, with the name."""
        return iter(self._readings.items())

    def mixed(self) -> Iterator[tuple[str, str]]:
        """Names of two Chinese characters with one of them in kana (爆だん), with the name."""
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

    def find(self, text: str) -> Iterator[tuple[str, int, int]]:
        """Names in a text, with where they begin and end there."""
        cut, phrases = words(text), _phrases(text)
        for first, word in enumerate(cut):
            for path, name in self._forms.get(word.form, ()):
                last = first + len(path) - 1
                if tuple(each.form for each in cut[first : last + 1]) != path:
                    continue
                if last > first or self._alone(cut, first, name, phrases):
                    yield name, word.start, cut[last].end
        for run in _KANA.finditer(text):
            begin, end = (bisect_left(cut, place, key=_start) for place in run.span())
            inner = cut[begin : end + 1]
            for name, first, last in self._read(text, inner, *run.span()):
                if not in_a_phrase(phrases, first, last):
                    yield name, first, last

    def _alone(
        self, cut: Sequence[Word], place: int, name: str, phrases: Sequence[tuple[int, int]]
    ) -> bool:
        """Whether one word is a name: no affix, no part of another word, no other word's kana."""
        word = cut[place]
        if _in_a_compound(cut, place):
            return False
        if _KANA.fullmatch(name):  # 腸 is written for はらわた too
            return word.kana or word.reading[:1] == fold(name).text[:1]
        if not word.kana:
            return True
        return not in_a_phrase(phrases, word.start, word.end)

    def _read(
        self, text: str, cut: Sequence[Word], start: int, end: int
    ) -> Iterator[tuple[str, int, int]]:
        """Names that the beginning of a run of kana, or words in it, sound like."""
        starts = {start} | {word.start for word in cut if start < word.start < end}
        sound = text[start:end].translate(_AS_KATAKANA)
        starts = {one for one in starts if sound[one - start :][:_SHORTEST_READING] in self._begin}
        for first in sorted(starts):
            for last in range(first + _SHORTEST_READING, min(end, first + _LONGEST_READING) + 1):
                name = self._readings.get(sound[first - start : last - start])
                if name and self._stands(text, cut, first, last, run=(start, end)):
                    yield name, first, last

    def _stands(
        self, text: str, cut: Sequence[Word], first: int, last: int, *, run: tuple[int, int]
    ) -> bool:
        """Whether kana from first to last can be a word of its own, and is no other word."""
        begin, end = (bisect_left(cut, place, key=_start) for place in (first, last))
        inner = [word for word in cut[begin:end] if word.end <= last]
        aligned = bool(inner) and (inner[0].start, inner[-1].end) == (first, last)
        after = cut[end] if end < len(cut) else None
        followed = after is not None and after.start == last and after.kind in _PARTICLES
        if aligned and len(inner) == 1:
            word = inner[0]
            sounds = word.form.translate(_AS_KATAKANA) == word.reading
            other = word.known and (not sounds or not _HIRAGANA.fullmatch(text[first:last]))
            apart = after is None or after.start > last or after.kind not in ("名詞", _AFFIXES[1])
            return not other and apart and word.kind not in (*_AFFIXES, "副詞", "助詞", "助動詞")
        if aligned and inner[-1].kind in _PARTICLES and not followed:
            return False
        begins = not text[:first].strip()  # where no particle can stand
        if aligned and inner[0].kind in ("動詞", "形容詞", "助詞")[: 2 if begins else 3]:
            return False
        if first != run[0]:
            return aligned and not any(word.kind in _PARTICLES for word in inner)
        return last == run[1] or text[last] in _PARTICLE_KANA


def in_a_phrase(phrases: Sequence[tuple[int, int]], start: int, end: int) -> bool:
    """Whether a span lies in a longer one of several that are in order and do not overlap."""
    place = bisect_right(phrases, (start + 1,)) - 1
    if place < 0:
        return False
    one, other = phrases[place]
    return one <= start and end <= other and (one, other) != (start, end)


def _start(word: Word) -> int:
    return word.start


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

    >>> romaji("ケンジュウ", long=True), romaji("ケンジュウ", long=False)
    ('kenjuu', 'kenju')
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
