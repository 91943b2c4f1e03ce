"""Folds a text for comparison and remembers where every folded character came from.

One pass: characters that show nothing are dropped, full-width, circled, squared and mathematical
letters become plain ones (NFKC), case goes, accents on Latin letters go, look-alike letters of
other scripts become Latin (Unicode's confusables and a table of ours), hiragana becomes katakana.
The text is folded cluster by cluster (a letter with its marks), so a span of the folded text maps
to a span of the original.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from tadasu.detectors import lookalike

#: Letters that look like a Latin letter and that NFKC leaves alone, where Unicode's confusables are
#: silent or choose another letter: each group begins with the
#: Latin letter, followed by its doubles, in lower case where they have one.
_GROUPS = (
    "aаɑαᴀⲁꭺᗅａ⍺",
    "bьƅʙвᏴᖯ",
    "cсϲᴄⲥᏟ",
    "dԁɗᴅᏧᗞ",
    "eеҽεᴇєⲉꬲᎬ",
    "fғƒϝꜰꞙ",
    "gɡցɢԍᏀ",
    "hһհʜнᏂ",
    "iіıɩιɪⲓӏꙇᎥ",
    "jјϳᴊյᎫ",
    "kκкᴋⲕҝᏦ",
    "lⅼʟⲗꓡᏞ",
    "mмᴍⲙ൱Ꮇ",
    "nոпηɴⲛռŋ",
    "oоοօᴏσөⲟ০੦૦ഠ",
    "pрρᴘⲣƿᏢ",
    "qԛգզʠ",
    "rгʀⲅꭇᏒᖇ",
    "sѕꜱʂՏᏚ",
    "tтτᴛⲧŧᎢ",
    "uυսᴜʋцⲩ",
    "vѵνᴠⱱᏙ",
    "wԝѡωᴡшщᎳ",
    "xхχⲭ×᙮",
    "yуγʏүყⲏ",
    "zᴢʐᏃ",
)
#: Negative circled, negative squared and regional indicator letters stand in alphabetical order.
_ALPHABETS = (0x1F150, 0x1F170, 0x1F1E6)

_LATIN = {ord(double): group[0] for group in _GROUPS for double in group[1:]}
_LATIN |= {start + i: chr(ord("a") + i) for start in _ALPHABETS for i in range(26)}
_LATIN |= {ord("ß"): "ss", ord("æ"): "ae", ord("œ"): "oe", ord("ø"): "o", ord("đ"): "d"}
_LATIN |= {ord("ł"): "l", ord("ð"): "d", ord("þ"): "th"}

#: Characters that show nothing although Unicode calls them letters or spaces of some width.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\u17b4\u17b5\u034f")
_KANA_SHIFT = ord("ァ") - ord("ぁ")
_LONG = frozenset("ー〜~ｰ")


@dataclass(frozen=True, kw_only=True)
class Folded:
    """A folded text.

    Attributes:
        text: the folded characters.
        spans: for each of them, start and end in the original.
        original: what was folded.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    original: str

    def back(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original that a non-empty span of the folded text came from."""
        return self.spans[start][0], self.spans[end - 1][1]


def fold(text: str, *, kana: bool = True) -> Folded:
    """Fold a text in time linear in its length.

    Args:
        text: any text.
        kana: whether hiragana becomes katakana; False for a reader of Japanese.

    >>> fold("ＰＩＳＴ\u200bОＬ").text
    'pistol'
    >>> fold("ぴすとる").text == fold("ﾋﾟｽﾄﾙ").text == "ピストル"
    True
    """
    if text.isascii() and text.isprintable():  # the common case, folded at once
        places = tuple((place, place + 1) for place in range(len(text)))
        return Folded(text=text.lower(), spans=places, original=text)
    letters: list[str] = []
    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and _joins(text[end]):
            end += 1
        folded = _cluster(text[start:end], kana)
        letters.append(folded)
        spans.extend([(start, end)] * len(folded))
        start = end
    return Folded(text="".join(letters), spans=tuple(spans), original=text)


def _joins(character: str) -> bool:
    """Marks and half-width voicing marks belong to the letter before them; so does the unseen."""
    if character.isascii():
        return False
    return unicodedata.category(character)[0] == "M" or character in "ﾞﾟ" or _unseen(character)


def _unseen(character: str) -> bool:
    kind = unicodedata.category(character)
    return character in _BLANK or kind == "Cf" or (kind == "Cc" and not character.isspace())


def _cluster(cluster: str, kana: bool) -> str:
    if cluster.isascii():
        return "" if _unseen(cluster) else cluster.lower()
    seen = "".join(character for character in cluster if not _unseen(character))
    plain = unicodedata.normalize("NFKC", seen).casefold()
    return "".join(_letter(character, kana) for character in plain)


def _letter(character: str, kana: bool) -> str:
    code = ord(character)
    if code < 0x80:
        return character
    if 0x3041 <= code <= 0x3096:
        return chr(code + _KANA_SHIFT) if kana else character
    if code >= 0x2E80 and not 0xA000 <= code <= 0xABFF and code not in _LATIN:
        return "ー" if character in _LONG else character
    bare = "".join(
        part
        for part in unicodedata.normalize("NFD", character)
        if unicodedata.category(part)[0] != "M"
    )
    return "".join(_LATIN.get(ord(part)) or lookalike.latin().get(ord(part), part) for part in bare)
