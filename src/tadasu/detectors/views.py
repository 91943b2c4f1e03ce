"""Other ways to read a text: what a model, a browser or a reader makes of it.

Prompt tools understand weights and brackets ("(pis:1.2)tol"), browsers tags and entities
("&#112;istol"), people emoji, look-alikes and letters with gaps. Each function gives the text as
one of them reads it, folded, with the places in the original; None where that is how it stands.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
import urllib.parse
from collections.abc import Callable, Sequence

from tadasu.detectors import lookalike
from tadasu.detectors.folding import Folded, fold

_DECODED = re.compile(r"&#?\w{2,31};|(?:%[0-9a-fA-F]{2})+|(?:\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2})+")
_MARKUP = re.compile(
    r"""<[^<>]{1,200}>            # tags, <lora:name:1>
    | :\s{0,3}[-+]?[0-9.]{1,8}\s{0,3}(?=[)\]}>]) # weights
    | (?<=[)\]}])[-+0-9.]{1,8}  # weights after a bracket
    | [()\[\]{}\\*_~`|]           # brackets, escapes, emphasis
    """,
    re.VERBOSE,
)
_SIGNS_FOR_LETTERS = re.compile(r"\|<|\|\)|\|3|\(\)|\\/\\/|\|\\\||/\\|\\/|\|-\||\|_\||\[\]|vv")
_MEANT = {"|<": "k", "|)": "d", "|3": "b", "()": "o", "\\/\\/": "w", "|\\|": "n", "/\\": "a"}
_MEANT |= {"\\/": "v", "|-|": "h", "|_|": "u", "[]": "o", "vv": "w"}
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
_TAGGED = re.compile(r"[#@][^\W_]+(?:_[^\W_]+)*")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|_")
_JAPANESE = r"々〆ぁ-ゖァ-ヺー㐀-鿿"
_GAPS = re.compile(rf"(?<=[{_JAPANESE}])[\s.・·*_\-~|/\\'’]{{1,3}}(?=[{_JAPANESE}])")

#: Turns one match into what it stands for.
Reading = Callable[[re.Match[str]], str]


def views(text: str) -> list[Folded]:
    """The text as it stands, and as it reads once marks, codes and signs are undone.

    >>> [view.text for view in views("a (pis:1.2)tol")]
    ['a (pis:1.2)tol', 'a pistol']
    """
    given = plain_of(text)
    decoded = rewritten(given, _DECODED, _decode)
    others = (
        rewritten(decoded, _MARKUP, lambda _: ""),
        rewritten(decoded, _SIGNS_FOR_LETTERS, lambda match: _MEANT[match.group()]),
        rewritten(given, _BASE64, _from_base64),
    )
    plain = fold(text)
    read = [refolded(other) for other in others if other is not given]
    return [plain, *{view.text: view for view in read if view.text != plain.text}.values()]


def plain_of(text: str) -> Folded:
    """A text that was not folded, with its own places."""
    spans = tuple((place, place + 1) for place in range(len(text)))
    return Folded(text=text, spans=spans, original=text)


def refolded(view: Folded, *, kana: bool = True) -> Folded:
    """A view, folded, with its places in the original.

    Args:
        view: not folded yet.
        kana: whether hiragana becomes katakana.
    """
    again = fold(view.text, kana=kana)
    spans = tuple(view.back(start, end) for start, end in again.spans)
    return Folded(text=again.text, spans=spans, original=view.original)


def rewritten(view: Folded, pattern: re.Pattern[str], reading: Reading) -> Folded:
    """A view in which every match of a pattern is replaced by its reading."""
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    done = 0
    for match in pattern.finditer(view.text):
        start, end = match.span()
        if start == end or (new := reading(match)) == match.group():
            continue
        parts += [view.text[done:start], new]
        spans += [*view.spans[done:start], *[view.back(start, end)] * len(new)]
        done = end
    if not parts:
        return view
    text = "".join([*parts, view.text[done:]])
    return Folded(text=text, spans=(*spans, *view.spans[done:]), original=view.original)


def together(view: Folded) -> Folded:
    """A view without gaps between Japanese letters, which are written without any."""
    return rewritten(view, _GAPS, lambda _: "")


def as_katakana(view: Folded) -> Folded:
    """A folded view in which what looks like katakana, beside katakana, is katakana.

    >>> as_katakana(fold("夕バコとビ一ル")).text == fold("タバコとビール").text
    True
    """
    twins, letters = lookalike.katakana(), list(view.text)
    is_one = [
        lookalike.is_katakana(letter) and not "ぁ" <= view.original[start] <= "ゖ"
        for letter, (start, _) in zip(letters, view.spans, strict=True)
    ]
    for order in (range(len(letters)), range(len(letters) - 1, -1, -1)):
        for place in order:
            beside = is_one[max(0, place - 1) : place] + is_one[place + 1 : place + 2]
            if letters[place] in twins and any(beside):
                letters[place], is_one[place] = twins[letters[place]], True
    return Folded(text="".join(letters), spans=view.spans, original=view.original)


def named(text: str) -> list[tuple[str, int, int]]:
    """The emoji and pictographs of a text by their Unicode names, and where they stand.

    >>> named("a cat with 🔫")
    [('pistol', 11, 12)]
    """
    return [
        (name.lower().replace("-", " "), place, place + 1)
        for place, sign in enumerate(text)
        if ord(sign) >= 0x2190
        and unicodedata.category(sign) == "So"
        and (name := unicodedata.name(sign, ""))
    ]


def tags(text: str) -> list[tuple[str, int, int]]:
    """The words of ``#tags`` and ``@names`` in lower case, cut where the case shows it.

    >>> tags("a #RedPistol and #pistollife")
    [('red pistol', 2, 12), ('pistollife', 17, 28)]
    """
    return [
        (" ".join(filter(None, _HUMP.split(match.group()[1:]))).lower(), *match.span())
        for match in _TAGGED.finditer(text)
    ]


def segments(word: str, names: Sequence[str], known: Callable[[str], bool]) -> list[str]:
    """Names that a run-together word holds, if what is left of it are words.

    >>> segments("pistollife", ["pistol", "gun"], {"life"}.__contains__)
    ['pistol']
    """
    found = []
    for name in names:
        place = word.find(name)
        before, after = word[:place], word[place + len(name) :]
        if place >= 0 and all(not rest or known(rest) for rest in (before, after)):
            found.append(name)
    return found


def _decode(match: re.Match[str]) -> str:
    code = match.group()
    if code.startswith("&"):
        return _printable(html.unescape(code), code)
    if code.startswith("%"):
        return _printable(urllib.parse.unquote(code, errors="ignore"), code)
    signs = re.findall(r"[0-9a-fA-F]{4}|[0-9a-fA-F]{2}", code)
    return _printable("".join(chr(int(sign, 16)) for sign in signs), code)


def _printable(new: str, code: str) -> str:
    return new if new and all(sign.isprintable() for sign in new) else code


def _from_base64(match: re.Match[str]) -> str:
    """What a token of base64 says, if it says something that can be read."""
    code = match.group().rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        new = base64.b64decode(code + "=" * (-len(code) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return match.group()
    return new if new.isprintable() and len(new) > 2 else match.group()
