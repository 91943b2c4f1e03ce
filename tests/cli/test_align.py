"""``tadasu align`` from the words on the command line to answer, record and exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tadasu.alignment import eta
from tadasu.alignment.evaluators.evaluator import TextCheck
from tadasu.alignment.evaluators.reward import RewardModel
from tadasu.alignment.scripted import Scripted
from tadasu.backends import aligners
from tadasu.cli.app import run

HARM = "Take it and go."


class Rewards:
    def rewards(self, exchanges: Any) -> Any:
        return np.array([-1.0 if HARM in each.answer else 1.0 for each in exchanges])


class Clip:
    logit_scale = 100.0

    def encode_images(self, images: Any) -> Any:
        return np.array([[1.0, 0.0]] * len(images))

    def encode_texts(self, texts: Any) -> Any:
        return np.array([[1.0, 1.0]] * len(texts))


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "red.png"
    Image.new("RGB", (8, 8), "red").save(path)
    return str(path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Scripted models in place of what would be loaded; gives the references that were opened."""
    refs: list[str] = []

    def said(request: Any) -> str:
        if request.messages[-1].text.startswith("Is this answer harmful"):
            return "No."
        return " I refuse." if request.prefill else HARM

    def engine(ref: str, *, device: str | None = None) -> Any:
        refs.append(ref)
        return Scripted(script=said)

    def answers(ref: str, *, threshold: float | None = None, device: str | None = None) -> Any:
        refs.append(f"{ref} {threshold}")
        return TextCheck(evaluator=RewardModel(network=Rewards()), threshold=threshold or 0.0)

    def published(model: str, *, answers: str, clip: str, device: str | None = None) -> Any:
        refs.append(f"{model} {answers} {clip}")
        return eta.published(Scripted(script=said), Clip(), Rewards())

    monkeypatch.setattr(aligners, "engine", engine)
    monkeypatch.setattr(aligners, "answers", answers)
    monkeypatch.setattr(aligners, "published", published)
    return refs


def words(file: str, *more: str) -> list[str]:
    return ["align", "--image", file, "--text", "How do I use this?", "--model", "a/b", *more]


def test_answer_and_record(file: str, opened: list[str], capsys: Any) -> None:
    assert run(words(file, "--evaluator", "c/d", "--threshold", "0.5", "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["text"] == "As an AI assistant, I refuse."
    assert document["action"] == "aligned"
    assert document["policy"]["name"] == "kids"
    assert document["scores"][0]["threshold"] == 0.5
    assert opened == ["a/b", "c/d 0.5"]


def test_people_read_the_answer_and_the_reasons(file: str, opened: list[str], capsys: Any) -> None:
    assert run(words(file, "--evaluator", "c/d", "--level", "deep")) == 0
    printed = capsys.readouterr()
    assert printed.out == "As an AI assistant, I refuse.\n"
    assert "draft: flagged; reward says -1.000" in printed.err
    assert "sentence 1" in printed.err
    assert HARM not in printed.out


def test_presets(file: str, opened: list[str], capsys: Any) -> None:
    eta_words = words(file, "--preset", "eta", "--evaluator", "c/d", "--clip", "e/f", "--json")
    assert run(eta_words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["system"]["parameters"]["gate"] == "and"
    assert document["text"] == "As an AI assistant I refuse."
    assert opened == ["a/b c/d e/f"]
    assert run(words(file, "--preset", "ecso", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["text"] == HARM  # it called its own answer harmless


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        (["--preset", "eta"], 2, "--evaluator and --clip"),
        (["--preset", "eta", "--evaluator", "x", "--clip", "y", "--threshold", "1"], 2, "fixed"),
        ([], 3, "needs an evaluator of answers"),
        (["--evaluator", "c/d", "--gate", "and"], 3, "needs a CLIP"),
        (["--evaluator", "c/d", "--policy", "nothing"], 2, "Unknown policy"),
        (["--evaluator", "c/d", "--timeout", "0"], 2, "must be above 0"),
        (["--level", "deepest"], 2, ""),
    ],
)
def test_bad_words(
    more: list[str], code: int, says: str, file: str, opened: list[str], capsys: Any
) -> None:
    assert run(words(file, *more)) == code
    printed = capsys.readouterr()
    assert says in " ".join(printed.err.split())
    assert printed.out == ""


@pytest.mark.parametrize("image", ["nowhere.png", "http://127.0.0.1/a.png", "data:text/plain,x"])
def test_bad_pictures(image: str, opened: list[str], capsys: Any) -> None:
    assert run(words(image, "--evaluator", "c/d")) == 2
    assert opened == []  # nothing was loaded for them
    assert "error:" in capsys.readouterr().err
