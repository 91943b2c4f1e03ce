"""Finds names in scripts written without spaces, and emoji: as substrings with boundaries."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tadasu.detectors.folding import Folded
from tadasu.detectors.trie import Entry, NameHit, Node, Word, hit_at

#: Characters of scripts written without spaces, and emoji.
DENSE = (
    r"\u0e00-\u0eff\u1100-\u11ff\u1780-\u17ff\u2190-\u2bff\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff"
    r"\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
LETTER = re.compile(rf"(?![\u3000-\u3004\u3008-\u301f\u30fb])[{DENSE}]")
#: Signs that stand for a letter between letters.
_MASKS = re.compile(r"(?<=[々ァ-ヺー㐀-鿿○])[○◯〇●◎x✕✖✗❌*?#%&_=+@☆★△▲□■◇◆♡♥…]")
_HOLE = "○"
_SHORTEST_MASKED = 3
_TWO_HOLES = 5


def learn_masked(root: Node, letters: str, entry: Entry) -> None:
    """A name with a sign for one of its letters, or for two of five or more; not for the first."""
    places = range(1, len(letters)) if len(letters) >= _SHORTEST_MASKED else ()
    for one in places:
        holed = letters[:one] + _HOLE + letters[one + 1 :]
        root.add(holed, entry)
        for two in range(one + 1, len(letters)) if len(letters) >= _TWO_HOLES else ():
            root.add(holed[:two] + _HOLE + holed[two + 1 :], entry)


def masked(folded: Folded, root: Node) -> Iterator[NameHit]:
    """Names of which signs hide letters (ピ○トル)."""
    text = folded.text
    for _ in range(2):  # two signs in a row
        text = _MASKS.sub(_HOLE, text)
    if _HOLE not in text:
        return
    for hit in found(Folded(text=text, spans=folded.spans, original=folded.original), root):
        yield NameHit(
            concept=hit.concept, name=hit.name, start=hit.start, end=hit.end, how="masked"
        )


def found(folded: Folded, root: Node) -> Iterator[NameHit]:
    """Names that stand in the text letter by letter."""
    text = folded.text
    for start in range(len(text)):
        node: Node | None = root
        for end in range(start, len(text)):
            node = node.next.get(text[end]) if node else None
            if node is None:
                break
            for entry in node.ends:
                if _bounded(folded, entry.name, start, end + 1):
                    yield hit_at(folded, entry, start, end + 1, "plain")


def in_letters(folded: Folded, run: list[Word], root: Node) -> Iterator[NameHit]:
    """Names that single letters with gaps between them spell."""
    for start in range(len(run)):
        node: Node | None = root
        for end in range(start, len(run)):
            node = node.next.get(run[end].text) if node else None
            if node is None:
                break
            for entry in node.ends if end - start >= 2 else ():
                yield hit_at(folded, entry, run[start].start, run[end].end, "spelled out")


def _script(character: str) -> str:
    if "ぁ" <= character <= "ゖ":
        return "hiragana"
    if "ァ" <= character <= "ヺ" or "ｦ" <= character <= "ﾟ":
        return "katakana"
    if character in "ー〜～":
        return "long"
    return "han" if "㐀" <= character <= "鿿" or character == "々" else "other"


def _bounded(folded: Folded, name: str, start: int, end: int) -> bool:
    """Whether a substring stands by itself, where its shortness demands that.

    A single Chinese character needs neighbours that are none; up to three kana need neighbours
    of another script (テキスト is no キス), unless they are three listed in hiragana, which
    particles follow directly.
    """
    first, last = folded.back(start, end)
    original = folded.original
    scripts = {_script(character) for character in name}
    if scripts == {"han"} and len(name) == 1:
        closed: set[str] = {"han"}
    elif scripts <= {"hiragana", "katakana", "long"} and end - start <= 3:
        written = _script(original[first])
        if scripts == {"hiragana"} and written == "hiragana" and end - start == 3:
            return True
        closed = {written, "long"}
    elif name[:1].isdigit():
        return first == 0 or not original[first - 1].isdigit()
    else:
        return True
    before = original[first - 1] if first else " "
    after = original[last] if last < len(original) else " "
    return _script(before) not in closed and _script(after) not in closed
