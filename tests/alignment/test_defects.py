"""Defects of the published code that no method's own test holds, and the list of them all."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tadasu.alignment import opening
from tadasu.alignment.aligned import Aligned
from tadasu.alignment.evaluators.evaluator import TextCheck
from tadasu.alignment.evaluators.reward import RewardModel
from tadasu.alignment.method import Parts
from tadasu.alignment.scripted import Scripted
from tadasu.backends import aligners
from tadasu.errors import BadInput

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "alignment" / "defects.md"


def listed() -> list[str]:
    """The tests that the page names, ``FILE::TEST``."""
    return re.findall(r"`(tests/[\w/]+\.py::\w+)`", PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("test", sorted(set(listed())))
def test_every_test_that_the_page_names_exists(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_defect_has_a_test() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| d"]
    assert len(rows) == 22
    assert all("`tests/" in row for row in rows)
    assert [row.split("|")[1].strip() for row in rows] == [f"d{i + 1}" for i in range(22)]


@pytest.mark.parametrize("given", [(1, 2), [1], {"image": 1}])
def test_several_pictures_in_a_tuple_are_refused_by_name(given: Any) -> None:
    """A published loader hands a tuple of pictures to a method that takes one."""
    engine = Scripted(script={"": "x"})
    check = TextCheck(evaluator=RewardModel(network=None), threshold=0.0)  # type: ignore[arg-type]
    vlm = Aligned(engine, evaluators=Parts(engine=engine, answers=check))
    with pytest.raises(BadInput, match=f"A {type(given).__name__} is no picture"):
        vlm.ask(given, "What is this?")
    assert engine.requests == []


def test_models_are_told_by_no_list_of_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published loaders pass a path where one of two model types is expected, which is refused."""
    check = TextCheck(evaluator=RewardModel(network=None), threshold=0.0)  # type: ignore[arg-type]
    opened: list[tuple[str, str, Any]] = []
    fake = ModuleType("openers")

    def note(kind: str, made: Any) -> Callable[..., Any]:
        def one(ref: str, *, device: str | None = None, **named: Any) -> Any:
            opened.append((kind, ref, device))
            return made

        return one

    fake.engine = note("engine", Scripted(script={}))  # type: ignore[attr-defined]
    fake.answers = note("answers", check)  # type: ignore[attr-defined]
    fake.images = note("images", None)  # type: ignore[attr-defined]
    fake.beside = lambda ref: {"evaluator": "e", "clip": "c"}  # type: ignore[attr-defined]
    monkeypatch.setattr(opening, "opener", lambda: fake)
    monkeypatch.setattr("tadasu.alignment.aligned.opener", lambda: fake)
    Aligned("any/folder/of/any-model", device="meta")
    assert opened == [
        ("engine", "any/folder/of/any-model", "meta"),
        ("answers", "e", "meta"),
        ("images", "c", "meta"),  # the published code leaves CLIP on the CPU
    ]


def test_clip_and_reward_get_the_device_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the parts of the published preset."""
    seen: list[tuple[str, str | None]] = []

    class Network:
        labels = ("one",)

        def __init__(self, ref: str, *, device: str | None = None) -> None:
            seen.append((ref, device))

    monkeypatch.setattr("tadasu.backends.transformers.clip.ClipEncoder", Network)
    monkeypatch.setattr("tadasu.backends.transformers.text_evaluators.SequenceClassifier", Network)
    monkeypatch.setattr(aligners, "engine", lambda ref, device: Scripted(script={}, name=ref))
    aligners.published("m", answers="a", clip="c", device="meta")
    assert seen == [("c", "meta"), ("a", "meta")]


def test_options_of_the_evaluation_reach_the_method() -> None:
    """Published loaders lack options that the method reads; ours has no option of its own."""
    from tadasu.alignment.eta import EvaluatingThenAligning
    from tadasu.cli.align import LevelChoice, PresetChoice
    from tadasu.cli.evaluate_answers import SystemChoice

    named = {choice.value for choice in SystemChoice}
    assert named == {"plain"} | {c.value for c in LevelChoice} | {
        c.value for c in PresetChoice if c is not PresetChoice.DEFAULT
    }
    parameters = inspect.signature(EvaluatingThenAligning).parameters
    assert set(EvaluatingThenAligning().parameters()) == set(parameters)
