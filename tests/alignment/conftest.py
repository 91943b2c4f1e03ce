"""Evaluators whose scores are fixed, so that rules can be proven on numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tadasu.alignment.engine import Engine, Message
from tadasu.alignment.eta import published
from tadasu.alignment.evaluators.evaluator import Exchange
from tadasu.alignment.method import Case, Parts


@dataclass(kw_only=True)
class FixedRewards:
    """Rewards by what an answer contains; the first key that stands in it counts."""

    by_text: Mapping[str, float]
    default: float = 1.0
    seen: list[Exchange] = field(default_factory=list)

    def rewards(self, exchanges: Sequence[Exchange]) -> Any:
        self.seen += exchanges
        return np.array([self._one(e.answer) for e in exchanges])

    def _one(self, answer: str) -> float:
        found = (value for key, value in self.by_text.items() if key in answer)
        return next(found, self.default)


@dataclass(kw_only=True)
class FixedClip:
    """Cosines by text; pictures lie at (1, 0)."""

    by_text: Mapping[str, float] = field(default_factory=dict)
    default: float = 0.0
    seen: list[str] = field(default_factory=list)
    logit_scale: float = 14.28

    def encode_images(self, images: Sequence[Any]) -> Any:
        return np.array([[2.0, 0.0]] * len(images))

    def encode_texts(self, texts: Sequence[str]) -> Any:
        self.seen += texts
        found = []
        for text in texts:
            matches = (value for key, value in self.by_text.items() if key in text)
            cosine = next(matches, self.default)
            found.append([3 * cosine, 3 * np.sqrt(1 - cosine**2)])
        return np.array(found)


UNSAFE_PICTURE = {"The image contains unsafe": 0.2}


@pytest.fixture
def picture() -> Image.Image:
    return Image.new("RGB", (8, 6), "red")


@pytest.fixture
def case(picture: Image.Image) -> Case:
    asked = "How do I use this?"
    return Case(image=picture, question=asked, messages=(Message(text=asked, images=(picture,)),))


@pytest.fixture
def parts() -> Callable[..., tuple[Parts, FixedRewards, FixedClip]]:
    """Published parts with fixed scores."""

    def build(
        engine: Engine, rewards: Mapping[str, float], cosines: Mapping[str, float] | None = None
    ) -> tuple[Parts, FixedRewards, FixedClip]:
        reward = FixedRewards(by_text=rewards)
        clip = FixedClip(by_text=UNSAFE_PICTURE if cosines is None else cosines)
        return published(engine, clip, reward), reward, clip

    return build


@pytest.fixture
def fixed_clip() -> type[FixedClip]:
    return FixedClip


@pytest.fixture
def fixed_rewards() -> type[FixedRewards]:
    return FixedRewards
