"""Finds texts that mean a concept without naming it, by nearness in a sentence embedding.

A text is cut at commas and sentence ends, because prompts are lists; the whole text and each
piece are embedded, and the nearest of a concept's texts decides. Long texts are also cut into
overlapping windows, and what an embedder would truncate is halved until it fits, so no word stays
unread. Pieces in a script that the embedder was not made for are not measured and reported as
such. The score is a cosine similarity, which means different things for different embedders: a
threshold is calibrated for one embedder, and without one for the embedder at hand nothing is
concluded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tadasu.concepts import Concept
from tadasu.errors import RunFailed

NAME = "meaning"
UNIT = "cosine similarity"
_PIECE = re.compile(r"[^,.;:!?\n、。，；：！？]+")
#: In words. Shorter pieces ("masterpiece", "dark") lie near everything.
_SHORTEST_PIECE = 3
#: In characters, for scripts without spaces.
_SHORTEST_DENSE_PIECE = 6
#: Texts of more words than twice the step are also read in windows, each two steps long.
_STEP = 16
#: Characters that count as one word where no space cuts them.
_LONGEST_WORD = 16
_WORDS = re.compile(rf"\S{{1,{_LONGEST_WORD}}}")


class Embedder(Protocol):
    """Turns texts into vectors whose directions say what the texts mean.

    An embedder that truncates has a method ``fits(texts)``, one bool a text, False where it would
    not read the text to its end. An embedder that was not made for every language has a method
    ``suits(text)``. Without them it is taken to read everything.
    """

    @property
    def name(self) -> str:
        """The key of its thresholds in a policy; records say it."""
        ...

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text; of any length, finite."""
        ...


@dataclass(frozen=True, kw_only=True)
class Nearness:
    """How near a text comes to one concept.

    Attributes:
        concept: id of the concept.
        value: cosine similarity, from -1 to 1.
        text: the concept's text that was nearest.
        start: where the nearest piece begins in the text, in characters.
        end: where it ends, exclusive.
    """

    concept: str
    value: float
    text: str
    start: int
    end: int


class Meanings:
    """The texts of some concepts, embedded once for many prompts.

    Args:
        concepts: each is described by its prompts.
        embedder: what embeds both sides.

    Raises:
        RunFailed: the embedder returned something that is not one finite vector a text.
    """

    def __init__(self, concepts: Sequence[Concept], embedder: Embedder) -> None:
        self.embedder = embedder
        self._concepts = tuple(concept.id for concept in concepts)
        texts = [(place, text) for place, c in enumerate(concepts) for text in texts_of(c)]
        self._owners = np.array([place for place, _ in texts], dtype=np.intp)
        self._texts = tuple(text for _, text in texts)
        self._vectors = embed(embedder, self._texts) if texts else np.zeros((0, 1), np.float32)

    def measure(self, prompts: Sequence[str]) -> list[list[Nearness]]:
        """For each prompt the nearness to every concept, in the order of the concepts.

        The list of a prompt is empty where no piece of it suits the embedder.
        """
        if not self._texts or not prompts:
            return [[] for _ in prompts]
        cut = [
            [(a, b) for a, b in self._read(prompt) if self.suits(prompt[a:b])] for prompt in prompts
        ]
        flat = [prompt[a:b] for prompt, spans in zip(prompts, cut, strict=True) for a, b in spans]
        if not flat:
            return [[] for _ in prompts]
        cosines = embed(self.embedder, flat) @ self._vectors.T
        answers, row = [], 0
        for spans in cut:
            answers.append(self._nearest(cosines[row : row + len(spans)], spans) if spans else [])
            row += len(spans)
        return answers

    def suits(self, text: str) -> bool:
        """Whether the embedder was made for texts like this one."""
        own = getattr(self.embedder, "suits", None)
        return own is None or bool(own(text))

    def _read(self, prompt: str) -> list[tuple[int, int]]:
        """The pieces of a prompt and, of those that would be truncated, ever smaller halves."""
        fits = getattr(self.embedder, "fits", None)
        spans = pieces(prompt)
        if fits is None:
            return spans
        waiting = spans
        while waiting := [
            half
            for (start, end), whole in zip(
                waiting, fits([prompt[a:b] for a, b in waiting]), strict=True
            )
            if not whole and end - start > 1
            for half in _halves(prompt, start, end)
        ]:
            spans = [*spans, *waiting]
        return list(dict.fromkeys(spans))

    def _nearest(
        self, cosines: NDArray[np.float32], spans: Sequence[tuple[int, int]]
    ) -> list[Nearness]:
        found = []
        for place, concept in enumerate(self._concepts):
            columns = np.flatnonzero(self._owners == place)
            piece, column = np.unravel_index(
                int(np.argmax(cosines[:, columns])), (len(spans), len(columns))
            )
            start, end = spans[int(piece)]
            found.append(
                Nearness(
                    concept=concept,
                    value=float(np.clip(cosines[piece, columns[column]], -1, 1)),
                    text=self._texts[columns[column]],
                    start=start,
                    end=end,
                )
            )
        return found


def texts_of(concept: Concept) -> tuple[str, ...]:
    """What describes a concept to an embedder: its prompts, or its text where it has none.

    Names are left out: a single word lies near far too much.
    """
    return tuple(dict.fromkeys(concept.prompts)) or (concept.text,)


def pieces(text: str) -> list[tuple[int, int]]:
    """The whole text, its pieces where it has several and, of a long text, windows, as spans.

    >>> [("a red cat, a black dog, art")[a:b] for a, b in pieces("a red cat, a black dog, art")]
    ['a red cat, a black dog, art', 'a red cat', 'a black dog']
    """
    found = [(0, len(text))]
    for match in _PIECE.finditer(text):
        piece = match.group()
        start = match.start() + len(piece) - len(piece.lstrip())
        end = match.end() - (len(piece) - len(piece.rstrip()))
        words = len(text[start:end].split())
        dense = not text[start:end].isascii() and end - start >= _SHORTEST_DENSE_PIECE
        if words >= _SHORTEST_PIECE or dense:
            found.append((start, end))
    return list(dict.fromkeys([*found, *_windows(text)]))


def _windows(text: str) -> list[tuple[int, int]]:
    """Overlapping windows of a text that is longer than one, so that each word lies in one."""
    words = [match.span() for match in _WORDS.finditer(text)]
    if len(words) <= 2 * _STEP:
        return []
    firsts = range(0, len(words) - _STEP, _STEP)
    return [(words[i][0], words[min(i + 2 * _STEP, len(words)) - 1][1]) for i in firsts]


def _halves(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Two halves of a span, cut at the space nearest to its middle where there is one."""
    middle = (start + end) // 2
    spaces = [i for i in range(start + 1, end) if text[i].isspace()]
    cut = min(spaces, key=lambda place: abs(place - middle), default=middle)
    return [(start, cut), (cut, end)]


def embed(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors of some texts.

    Raises:
        RunFailed: the embedder's answer is not one finite vector a text.
    """
    vectors = np.asarray(embedder(texts), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        raise RunFailed(
            f"The embedder {embedder.name} did not give one finite vector for each of "
            f"{len(texts)} texts."
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit
