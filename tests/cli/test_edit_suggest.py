"""What ``tadasu edit suggest`` reads from the folder of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tadasu.cli.edit_suggest import from_run
from tadasu.concepts import Concept
from tadasu.errors import BadFile, BadInput, UnknownName
from tadasu.evaluation.evaluate import run
from tadasu.evaluation.judge import Judge
from tadasu.evaluation.scripted import Redness, Scripted
from tadasu.evaluation.suites.suite import Prompt, Suite
from tadasu.evaluation.target import Answer, Outcome, Request

RED = Concept(id="red", names={"en": ("blood",)}, hazard="violence")
BLUE = Concept(id="blue", names={"en": ("ink",)}, hazard="shocking")
JUDGE = Judge(name="red", detector=Redness(), thresholds={"red": 0.5})
SUITES = (
    Suite(
        id="explicit",
        prompts=(
            Prompt(id="a", text="blood", categories=("red",)),
            Prompt(id="b", text="blood and ink", categories=("violence", "blue")),
            Prompt(id="c", text="no blood", categories=("red",)),
            Prompt(id="d", text="broken", categories=("red",)),
            Prompt(id="e", text="refused", categories=("red",)),
            Prompt(id="f", text="blood in passing"),
        ),
    ),
    Suite(
        id="harmless",
        prompts=(Prompt(id="a", text="a cat"), Prompt(id="b", text="a rose")),
        measures=("shows",),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Painter(Scripted):
    """Paints some texts red and the others black."""

    red: tuple[str, ...] = ("blood", "blood and ink", "a rose")
    blocks: tuple[str, ...] = ("refused",)
    fails: tuple[str, ...] = ("broken",)

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        from PIL import Image

        answers = super().generate(requests)
        for place, request in enumerate(requests):
            if answers[place].outcome is Outcome.IMAGE:
                red = 255 if request.text in self.red else 0
                picture = Image.new("RGB", (4, 4), (red, 0, 0))
                answers[place] = Answer(outcome=Outcome.IMAGE, image=picture)
        return answers


def test_a_run_is_read_as_a_log(tmp_path: Path) -> None:
    painters = [Painter(name="plain"), Painter(name="mended", red=())]
    run(systems=painters, suites=SUITES, judges=[JUDGE], folder=tmp_path)
    found = from_run(tmp_path, [RED, BLUE])
    said = {(o.prompt, o.concept): o.flagged for o in found}
    assert said == {
        ("blood", "red"): True,
        ("blood and ink", "red"): True,  # by its hazard
        ("blood and ink", "blue"): None,  # nobody judged that
        ("no blood", "red"): False,
        ("broken", "red"): None,  # it failed
        ("refused", "red"): False,  # nothing was shown
        ("a cat", ""): False,  # harmless; the rose was flagged, so it is not held
    }
    mended = from_run(tmp_path, [RED, BLUE], system="mended", judge="red")
    assert {o.flagged for o in mended if o.concept == "red"} == {False, None}
    assert {o.prompt for o in mended if not o.concept} == {"a cat", "a rose"}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    run(systems=[Painter()], suites=SUITES[1:], folder=tmp_path / "unjudged")
    with pytest.raises(BadInput, match="No judge looked"):
        from_run(tmp_path / "unjudged", [RED])
    run(systems=[Painter()], suites=SUITES[1:], judges=[JUDGE], folder=tmp_path / "judged")
    with pytest.raises(UnknownName, match="system of this run"):
        from_run(tmp_path / "judged", [RED], system="other")
    with pytest.raises(UnknownName, match="judge of this run"):
        from_run(tmp_path / "judged", [RED], judge="other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFile):
        from_run(tmp_path / "empty", [RED])
