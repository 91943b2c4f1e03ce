"""Stopping generation at the end of a sentence, row by row, and when the time is over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tadasu.alignment.sentences import sentence_end
from tadasu.errors import RunFailed

if TYPE_CHECKING:
    import torch

    from tadasu.alignment.engine import Until


class Decoder:
    """Text of tokens that follow other tokens, with the space between them.

    Args:
        tokenizer: of the model.
        before: the tokens that the new ones follow.
    """

    def __init__(self, tokenizer: Any, before: list[int]) -> None:
        self._tokenizer = tokenizer
        self._context = before[-4:]
        self._base = self._decode(self._context)

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

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Which rows stop."""
        import torch

        if self._deadline is not None and time.monotonic() > self._deadline:
            raise RunFailed("The engine did not finish within its time.")
        done = [False] * len(input_ids)
        if self._until != "end":
            done = [self._complete(row) for row in input_ids[:, self._start :].tolist()]
        return torch.tensor(done, device=input_ids.device, dtype=torch.bool)

    def _complete(self, row: list[int]) -> bool:
        return boundary(self._decoder(row), self._until, finished=False) is not None
