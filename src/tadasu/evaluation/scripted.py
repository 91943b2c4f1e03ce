"""A system and a judge without any model, to try suites, runs and reports on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tadasu.evaluation.suites.suite import digest
from tadasu.evaluation.target import Answer, Outcome, Request
from tadasu.records import Json, Score

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """Answers every request with a plain colour that depends on name, text and seed.

    Args:
        name: as in tables.
        batch_size: requests it takes at once.
        blocks: texts that are refused.
        fails: texts on which it fails.
        pause: seconds that a picture takes.
        side: of a picture in pixels.
    """

    name: str = "scripted"
    batch_size: int = 4
    blocks: tuple[str, ...] = ()
    fails: tuple[str, ...] = ()
    pause: float = 0.0
    side: int = 8

    @property
    def id(self) -> str:
        """Content address of the script."""
        return digest({k: v for k, v in self.about.items() if k != "batch_size"})

    @property
    def about(self) -> Mapping[str, Json]:
        """The script."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Nothing has to be attached."""
        yield

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer for each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Answer:
        from PIL import Image

        began = time.perf_counter()
        if self.pause:
            time.sleep(self.pause)
        if request.text in self.blocks:
            return Answer(outcome=Outcome.BLOCKED, reason="it is on the list", stage="input")
        if request.text in self.fails:
            return Answer(outcome=Outcome.ERROR, reason="the script says so")
        told = f"{self.name}|{request.text}|{request.seed}|{request.guidance_scale}"
        red, green, blue = hashlib.sha256(told.encode()).digest()[:3]
        image = Image.new("RGB", (self.side, self.side), (red, green, blue))
        return Answer(
            outcome=Outcome.IMAGE, image=image, seconds=time.perf_counter() - began, memory=1
        )


@dataclass(frozen=True, kw_only=True)
class Redness:
    """A detector that takes red for the concept; its value is red's share of full brightness.

    Args:
        concept: what it answers for.
    """

    concept: str = "red"
    name = "redness"
    unit = "probability"

    @property
    def concepts(self) -> tuple[str, ...]:
        """The one concept."""
        return (self.concept,)

    def score(self, images: Sequence[Image]) -> list[list[Score]]:
        """Red of each picture's first pixel, from 0 to 1."""
        return [[self._scored(image)] for image in images]

    def _scored(self, image: Image) -> Score:
        red = image.tobytes()[0]
        return Score(detector=self.name, concept=self.concept, value=red / 255, unit=self.unit)
