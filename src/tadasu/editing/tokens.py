"""Which rows of a text context belong to a concept, for every kind of tokenizer.

=============  =========================  ==========  ============================
tokenizer      one text looks like        last        end of text
=============  =========================  ==========  ============================
CLIP           BOS words EOS EOS EOS …    EOS − 1     first EOS (padding is EOS too)
OpenCLIP       BOS words EOS 0 0 0 …      EOS − 1     first EOS
T5             words EOS 0 0 0 …          EOS − 1     first EOS
Llama          BOS words pad pad …        last seen   none
=============  =========================  ==========  ============================

The published rule, ``attention_mask.sum() - 2``, agrees for CLIP texts with at least one word.
It is off by one for tokenizers without an end token, and for the empty text it points at the
start token (CLIP) or, as index -1, at a padding token (T5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tadasu.errors import BadInput, UnknownName

Mode = Literal["last", "last+tail", "all", "eot"]
Empty = Literal["eot", "bos"]
MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True, kw_only=True)
class Span:
    """Where one text lies inside its context.

    Args:
        first: row of the first word; for the empty text the row where it would be.
        last: row of the last word; ``first - 1`` for the empty text.
        end: row of the end-of-text token, or None when the tokenizer has none.
        length: number of rows, padding included.
        start: row of the whole context at which these rows begin (SD3 joins two encoders).
        readable: False when the tokenizer wrote an unknown token for a word. Such rows stand for
            every text it cannot read, so they may not be edited.
    """

    first: int
    last: int
    end: int | None
    length: int
    start: int = 0
    readable: bool = True

    @property
    def empty(self) -> bool:
        """Whether the text has no words."""
        return self.last < self.first


def span(
    ids: Sequence[int],
    mask: Sequence[int],
    *,
    bos: int | None,
    eos: int | None,
    start: int = 0,
    unknown: int | None = None,
) -> Span:
    """Find the words of one tokenized text.

    Args:
        ids: token ids, padding included.
        mask: 1 where the tokenizer put a token, 0 where it padded.
        bos: id of the start token, None when the tokenizer writes none.
        eos: id of the end token, None when the tokenizer writes none.
        start: where these rows begin in a joined context.
        unknown: id that the tokenizer writes for what it cannot read, None when it reads all.

    Raises:
        BadInput: when ``ids`` and ``mask`` differ in length or nothing is marked as seen.

    >>> span([49406, 320, 2368, 49407, 49407], [1, 1, 1, 1, 0], bos=49406, eos=49407)
    Span(first=1, last=2, end=3, length=5, start=0, readable=True)
    >>> span([49406, 49407, 49407], [1, 1, 0], bos=49406, eos=49407)   # the empty text
    Span(first=1, last=0, end=1, length=3, start=0, readable=True)
    """
    seen = [row for row, kept in enumerate(mask) if kept]
    if len(ids) != len(mask) or not seen:
        raise BadInput(
            f"A tokenized text needs one mask value per id and at least one token; "
            f"given {len(ids)} ids and {len(seen)} tokens seen of {len(mask)}."
        )
    first = seen[0] + (1 if bos is not None and ids[seen[0]] == bos else 0)
    ends = [row for row in seen if row >= first and eos is not None and ids[row] == eos]
    end = ends[0] if ends else None
    last = (end if end is not None else seen[-1] + 1) - 1
    readable = unknown is None or unknown not in ids[first : last + 1]
    return Span(first=first, last=last, end=end, length=len(ids), start=start, readable=readable)


def rows(where: Span, mode: Mode, *, empty: Empty = "eot") -> tuple[int, ...]:
    """Rows of the whole context that stand for the text.

    Args:
        where: the text's place, from :func:`span`.
        mode: ``last`` the last word; ``last+tail`` from it to the end (end token and padding);
            ``all`` every row; ``eot`` the end-of-text token only.
        empty: what stands in for the last word of the empty text: its end token, or (as the
            published code does) its start token.

    Raises:
        UnknownName: for another mode.
        BadInput: for ``eot`` when the tokenizer writes no end token.
    """
    if mode not in MODES:
        raise UnknownName("token mode", mode, MODES)
    if not where.readable:
        return ()
    if mode == "all":
        found = list(range(where.length))
    elif mode == "eot":
        found = [_end(where)]
    else:
        word = _stand_in(where, empty) if where.empty else where.last
        tail_from = where.first if where.empty and empty == "eot" else word + 1
        found = [word, *(range(tail_from, where.length) if mode == "last+tail" else ())]
    return tuple(where.start + row for row in found)


def paired(
    source: Span, target: Span, mode: Mode, *, empty: Empty = "eot"
) -> tuple[tuple[int, int], ...]:
    """Rows of a source text with the target rows they are sent to.

    Tails are aligned at the last word and cropped to the shorter one, as in the 2023 code.

    >>> short = Span(first=1, last=1, end=2, length=5)
    >>> long = Span(first=1, last=3, end=4, length=5)
    >>> paired(long, short, "last+tail")
    ((3, 1), (4, 2))
    """
    return tuple(
        zip(rows(source, mode, empty=empty), rows(target, mode, empty=empty), strict=False)
    )


def _end(where: Span) -> int:
    if where.end is None:
        raise BadInput(
            "This tokenizer writes no end-of-text token, so token mode 'eot' has no row. "
            "Use 'last' or 'last+tail'."
        )
    return where.end


def _stand_in(where: Span, empty: Empty) -> int:
    if empty == "bos" or where.end is None:
        return max(where.first - 1, 0)
    return where.end
