"""Stopping generation at the end of a sentence, row by row, and when the time is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tadasu.alignment.sentences import sentence_end
from tadasu.errors import RunFailed

if TYPE_CHECKING:
    import torch

    from tadasu.alignment.engine import Until


#: What a token must hold for a sentence to end with it; ``\ufffd`` is a part of a character.
MARKS = (*".?!…。！？｡．\n", "\ufffd")
#: A full stop behind a digit ends a sentence only when the next token is there.
LOOK_BACK = 3


class Decoder:
    """Text of tokens that follow other tokens, with the space between them.

    Args:
        tokenizer: of the model.
        before: the tokens that the new ones follow.
        known: which tokens hold a mark; filled as tokens are met, for all answers of a model.
    """

    def __init__(self, tokenizer: Any, before: list[int], known: dict[int, bool]) -> None:
        self._tokenizer = tokenizer
        self._known = known
        self._context = before[-4:]
        self._base = self._decode(self._context)

    def may_end(self, ids: list[int]) -> bool:
        """Whether a sentence can have ended within the last tokens; decoding all takes longer."""
        return any(self._marks(token) for token in ids[-LOOK_BACK:])

    def _marks(self, token: int) -> bool:
        """Whether a token holds a mark that ends sentences, or a part of a character."""
        if token not in self._known:
            text = self._decode([token])
            self._known[token] = any(mark in text for mark in MARKS)
        return self._known[token]

    def __call__(self, ids: list[int]) -> str:
        """The text of new tokens; characters that are not complete yet are left out."""
        whole = self._decode([*self._context, *ids])
        text = whole[len(self._base) :] if whole.startswith(self._base) else self._decode(ids)
        return text.rstrip("\ufffd")

    def _decode(self, ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )


def boundary(text: str, until: Until, *, finished: bool) -> int | None:
    """The place behind which a continuation is cut; None where it goes on."""
    if until == "sentence":
        return sentence_end(text, finished=finished)
    if until == "full stop" and "." in text:
        return text.index(".") + 1
    return None


class Stop:
    """A stopping criterion for ``generate``.

    Args:
        decoder: gives the text of a row.
        start: how many tokens every row begins with.
        until: where a row stops.
        deadline: `time.monotonic` seconds; None for never.

    Raises:
        RunFailed: when called after the deadline.
    """

    def __init__(
        self, decoder: Decoder, *, start: int, until: Until, deadline: float | None
    ) -> None:
        self._decoder, self._start = decoder, start
        self._until, self._deadline = until, deadline
        self._stopped: dict[int, int] = {}

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Which rows stop."""
        import torch

        if self._deadline is not None and time.monotonic() > self._deadline:
            raise RunFailed("The engine did not finish within its time.")
        done = [False] * len(input_ids)
        if self._until != "end":
            rows = input_ids[:, self._start :].tolist()
            done = [self._stops(place, row) for place, row in enumerate(rows)]
        return torch.tensor(done, device=input_ids.device, dtype=torch.bool)

    def real(self, place: int, row: list[int]) -> list[int]:
        """A row without what pads it after it stopped."""
        return row[: self._stopped.get(place, len(row))]

    def _stops(self, place: int, row: list[int]) -> bool:
        if place not in self._stopped and self._complete(row):
            self._stopped[place] = len(row)
        return place in self._stopped

    def _complete(self, row: list[int]) -> bool:
        """A sentence is complete when one more token is there: it may be the answer's end."""
        if not self._decoder.may_end(row):
            return False
        text = self._decoder(row)
        end = boundary(text, self._until, finished=False)
        return end is not None and (self._until == "full stop" or end < len(text))
