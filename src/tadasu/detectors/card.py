"""``judge.json`` and ``clip.json``: how to read a model's numbers, kept beside its weights.

All keys of a judge's card are optional::

    {
      "temperature": 1.3,
      "thresholds": {"weapons": 0.42},
      "labels": {"weapons": ["pistol", "bomb"]}
    }

``temperature`` divides the logits, ``thresholds`` say from which probability on a concept is
flagged where the policy does not say, and ``labels`` name the labels of a concept in addition to
those that its names find. A CLIP's card may have ``neutral`` (texts), ``template`` and
``temperature``, as `ClipZeroShot` explains them. Other keys (measured error rates, data, licence)
are for readers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tadasu.errors import BadFile, BadInput, shown

JUDGE_FILE = "judge.json"
CLIP_FILE = "clip.json"


@dataclass(frozen=True, kw_only=True)
class JudgeCard:
    """How to read a judge's logits.

    Args:
        temperature: above 0; logits are divided by it. 1 leaves them as they are.
        thresholds: by concept id, a probability from 0 to 1.
        labels: by concept id, the judge's labels that show it.

    Raises:
        BadInput: a temperature that is not above 0, or a threshold outside 0 to 1.
    """

    temperature: float = 1.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the numbers once, so that no picture is judged by a broken card."""
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise BadInput(f"A judge's temperature must be above 0; given {self.temperature}.")
        for concept, threshold in self.thresholds.items():
            if not 0 <= threshold <= 1:
                raise BadInput(
                    f"The judge's threshold of {shown(concept)} must be from 0 to 1; "
                    f"given {threshold}."
                )

    @classmethod
    def beside(cls, folder: Path) -> JudgeCard:
        """Reads the card in a model's folder; a folder without one has the neutral card.

        Raises:
            BadFile: the card is there and cannot be understood.
        """
        path = folder / JUDGE_FILE
        with _reading(path) as content:
            return cls(
                temperature=float(content.get("temperature", 1.0)),
                thresholds={k: float(v) for k, v in content.get("thresholds", {}).items()},
                labels={k: _words(v) for k, v in content.get("labels", {}).items()},
            )


@dataclass(frozen=True, kw_only=True)
class ClipCard:
    """How to read a CLIP's cosines; None leaves the detector's own default.

    Args:
        neutral: the texts that concepts compete with.
        template: how a name becomes a text.
        temperature: logits are divided by it.
    """

    neutral: tuple[str, ...] | None = None
    template: str | None = None
    temperature: float | None = None

    @classmethod
    def beside(cls, folder: Path) -> ClipCard:
        """Reads the card in a model's folder; a folder without one has the empty card.

        Raises:
            BadFile: the card is there and cannot be understood.
        """
        with _reading(folder / CLIP_FILE) as content:
            heat = content.get("temperature")
            return cls(
                neutral=_words(content["neutral"]) if "neutral" in content else None,
                template=str(content["template"]) if "template" in content else None,
                temperature=None if heat is None else float(heat),
            )


@contextmanager
def _reading(path: Path) -> Iterator[dict[str, Any]]:
    """The content of a card, empty where there is none; what is wrong with it becomes a BadFile."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if not isinstance(content, dict):
            raise TypeError("it must be a JSON object")
        yield content
    except BadInput as error:
        raise BadFile(f"{shown(path, 300)}: {error}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BadFile(f"{shown(path, 300)} is not a card: {error}") from error


def _words(listed: object) -> tuple[str, ...]:
    if not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
        raise TypeError("labels and neutral texts must be lists of texts")
    return tuple(listed)
