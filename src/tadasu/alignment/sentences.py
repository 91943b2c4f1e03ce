"""Where a sentence ends, in Latin and Japanese text.

A sentence ends at ``. ? ! …`` and their full-width forms with the closing quotes behind them, or
at a line break. It does not end inside a number (``3.5``), after the number of a list item
(``1.``), after an abbreviation (``e.g.``) or after an initial (``J. Doe``). A full stop behind a
digit counts only once a space follows, so a text that is still growing is not cut too early.
"""

from __future__ import annotations

import re

#: Words that end in a full stop and seldom end a sentence.
ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st sr jr vs etc fig eq no nr vol pp approx inc ltd corp dept est "
    "e.g i.e cf al a.m p.m u.s u.k ca bzw usw z.b d.h p.ej sra".split()
)
_ALWAYS = "。！？｡．"
_MARKS = re.compile(r"[.?!…。！？｡．]+|\n")
_CLOSING = re.compile(r"[\"'”’»)\]）」』】〉》]*")
_LIST_NUMBER = re.compile(r"(?:^|\n)\s*(?:\d{1,3}|[A-Za-z])$")


def sentence_end(text: str, *, finished: bool = False) -> int | None:
    """The place behind the first sentence of a text; None when no sentence is complete yet.

    Args:
        text: any text, also the part of it that is there so far.
        finished: whether nothing will follow, so that the end of the text may end a number.

    >>> text = "Version 3.5 came out, e.g. for Dr. Who. Then"
    >>> text[: sentence_end(text)]
    'Version 3.5 came out, e.g. for Dr. Who.'
    >>> text = "これは猫です。「はい。」"
    >>> text[: sentence_end(text)]
    'これは猫です。'
    >>> sentence_end("1. Take") is None
    True
    """
    for mark in _MARKS.finditer(text):
        if not re.search(r"\w", text[: mark.start()]):
            continue  # nothing was said yet: leading line breaks, an ellipsis
        closed = _CLOSING.match(text, mark.end())
        end = closed.end() if closed else mark.end()
        if mark.group() == "\n":
            if not _LIST_NUMBER.search(text[: mark.start()].rstrip(".) ")):
                return mark.end()
        elif mark.group()[-1] in _ALWAYS or _ends(text, mark.start(), mark.group(), end, finished):
            return end
    return None


def split(text: str) -> list[str]:
    """The sentences of a text; joined again they give the text.

    >>> split("It is a cat. Is it?  Yes! 猫です。終わり")
    ['It is a cat.', ' Is it?', '  Yes!', ' 猫です。', '終わり']
    """
    found = []
    while text:
        end = sentence_end(text, finished=True) or len(text)
        found.append(text[:end])
        text = text[end:]
    return found


def _ends(text: str, start: int, mark: str, end: int, finished: bool) -> bool:
    """Whether a Latin mark ends a sentence."""
    following = text[end : end + 1]
    if following and not following.isspace() and not is_dense(following):
        return False  # 3.5, e.g., www.example.org, really?no
    if mark != ".":
        return True
    word = re.search(r"[\w.]*$", text[:start])
    last = word.group() if word else ""
    if last.lower() in ABBREVIATIONS or re.fullmatch(r"[A-Za-z](\.[A-Za-z])*", last):
        # "I." and "vitamin A." are cut one sentence late; that only makes a sentence longer.
        return False
    if _LIST_NUMBER.search(text[:start]):
        return False
    return bool(following) or finished or not last[-1:].isdigit()


def is_dense(character: str) -> bool:
    """Whether it belongs to a script that is written without spaces."""
    return "\u2e80" <= character <= "\u9fff" or "\uff00" <= character <= "\uffef"
