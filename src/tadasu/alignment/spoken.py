"""What of a model's text is an answer: without the thinking that stands before it, and loops.

Reasoning models write their thoughts between tags, and a server without the parser for them hands
the thoughts out as if they were the answer. Small models fall into repeating one piece of text for
ever. Neither is for the user, and neither is judged as an answer.
"""

from __future__ import annotations

import re

THOUGHT = "The model's thinking was left out of the answer."
LOOPED = "The model repeated itself without end; the answer was cut before the repetition."
_TAGS = "think|thinking|thought|thoughts|reasoning"
_PAIRS = re.compile(
    rf"<({_TAGS})>.*?</\1>|\[THINK\].*?\[/THINK\]"
    r"|(?:<\|start\|>assistant)?<\|channel\|>(?:analysis|commentary).*?<\|end\|>",
    re.DOTALL | re.IGNORECASE,
)
#: A template may have opened the thought itself, so that only its end stands in the text.
_BEFORE = re.compile(rf"\A.*(?:</(?:{_TAGS})>|\[/THINK\])", re.DOTALL | re.IGNORECASE)
#: A thought that never ended: there is no answer behind it.
_UNENDED = re.compile(
    rf"<(?:{_TAGS})>.*\Z|\[THINK\].*\Z|<\|channel\|>(?:analysis|commentary).*\Z",
    re.DOTALL | re.IGNORECASE,
)
_FINAL = re.compile(r"(?:<\|start\|>assistant)?<\|channel\|>final<\|message\|>")
_MARK = re.compile(r"[.?!。！？\n]")
TIMES, CHARACTERS, PERIOD = 6, 60, 400


def spoken(text: str) -> tuple[str, tuple[str, ...]]:
    """The answer in a model's text, and notes about what was left out.

    >>> spoken("<think>The user wants harm.</think> I can't help.")[0]
    "I can't help."
    >>> spoken("<think>Let me see")[0]
    ''
    >>> spoken("It is a cat." + " It sleeps." * 40)[0]
    'It is a cat. It sleeps.'
    """
    said = _FINAL.sub("", _UNENDED.sub("", _BEFORE.sub("", _PAIRS.sub("", text))))
    notes = (THOUGHT,) if said != text else ()
    cut = loop(said)
    if cut is not None:
        said, notes = said[:cut], (*notes, LOOPED)
    return said.strip(), notes


def loop(text: str) -> int | None:
    """The place behind the first copy of what a text repeats up to its end; None without a loop.

    A loop is six or more copies, and 60 or more characters; the last copy may be incomplete.
    """
    text = text.rstrip()
    for period in range(1, min(PERIOD, len(text) // TIMES) + 1):
        if text[-1] != text[-1 - period] or text[-period:] != text[-2 * period : -period]:
            continue
        start = len(text) - period
        while start > 0 and text[start - 1] == text[start - 1 + period]:
            start -= 1
        length = len(text) - start
        if length >= max(TIMES * period, CHARACTERS):
            mark = _MARK.search(text, start + period, start + 2 * period)
            return mark.end() if mark else start + period
    return None
