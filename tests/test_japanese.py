"""Sentences that results carry are read in Japanese on a Japanese page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tadasu.examination import examiner
from tadasu.japanese import STAGES, said


@pytest.mark.parametrize(
    "text",
    [
        "It turns the concept's words +1.9 spreads more than neutral words.",
        "To first order its pictures gain +2.6 spreads more than others.",
        "4 of the 4 reference pictures shown to it point to it.",
        "Its own words name it: 'goblin'.",
        "judge: sensitivity 97.4 % (74/76), specificity 95.5 % (84/88), on 164 pictures that the "
        "plain bundled pipeline drew (20 steps, guidance scale 7.5), 2026-11-21, by one person, "
        "shuffled and without prompts",
        "of 24 requests: 3 blocked, 1 failed, 2 not judged",
        "corrected 100.0 [25.9, 100.0]",
        "Evaluation of 2 systems on 2 suites",
    ],
)
def test_known_sentences_are_japanese_and_keep_their_figures(text: str) -> None:
    japanese = said(text)
    assert not re.search(r"\b[a-z]{3,}\b", re.sub(r"goblin|judge", "", japanese))
    assert sorted(re.findall(r"\d+", japanese)) == sorted(re.findall(r"\d+", text))


def test_every_stage_has_a_name() -> None:
    from tadasu.auditing.findings import STAGES as stages

    assert set(stages) == set(STAGES)


def test_evidence_that_an_audit_writes_is_in_the_table() -> None:
    """Every sentence after ``says =`` in the examiner, with its figures filled in."""
    source = Path(examiner.__file__).read_text(encoding="utf-8")
    sentences = re.findall(r'says = f?"([^"]+)"', source)
    assert len(sentences) >= 6
    for sentence in sentences:
        filled = re.sub(r"\{[^}]*\}", "7", sentence)
        assert said(filled) != filled, filled
