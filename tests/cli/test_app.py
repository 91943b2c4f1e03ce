"""The command line as a whole: exit codes, where output goes, examples that run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tadasu.cli.app import run
from tadasu.errors import RunFailed

BROKEN = "tadasu: 1\nname: x\nversion: 1.0.0\nconcepts:\n  - {id: a, hazard: gore, nmes: {}}\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["screen", ""], "empty"),
        (["screen", "a cat", " "], "Text 2 of 2"),
        (["screen", "x" * 10_000], "10,000 characters"),
        (["screen", "a\x07b"], "control character U+0007"),
        (["screen", "a", "--policy", "kidz"], "Did you mean kids"),
        (["policy", "show", "kidz"], "Did you mean kids"),
        (["policy", "check", "nowhere.yaml"], "no such policy file"),
        (["screen"], "Missing argument"),
        (["nonsense"], "No such command"),
        (["screen", "a", "--embedder", "x"], "minilm"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert says in re.sub(r"\s+", " ", printed.err)
    assert "Traceback" not in printed.err


def test_a_broken_policy_has_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(BROKEN, encoding="utf-8")
    assert run(["policy", "check", str(file)]) == 2
    assert "p.yaml:5:27: unknown key 'nmes'. Did you mean 'names'" in capsys.readouterr().err


def test_a_policy_that_names_no_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = BROKEN.replace("nmes: {}", "prompts: [a], sampling: {guidance: slt}")
    file = tmp_path / "p.yaml"
    file.write_text(text, encoding="utf-8")
    assert run(["policy", "check", str(file)]) == 2
    assert "Concept a: Unknown guidance 'slt'. Did you mean sld" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["screen", "a cat", "a p1stol", "--json"],
        ["policy", "list", "--json"],
        ["policy", "show", "i2p", "--json"],
        ["policy", "check", "kids", "--json"],
        ["methods", "--json"],
        ["doctor", "--json"],
        ["evaluate", "suites", "--json"],
    ],
)
def test_json_is_one_document_and_nothing_else(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == int("a p1stol" in words)
    assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_screen_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["screen", "a cat", "ピストル", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["policy"]["name"] == "kids"
    assert [text["action"] for text in document["texts"]] == ["allow", "block"]
    hit = document["texts"][1]["hits"][0]
    assert (hit["rule"], hit["concept"], hit["span"], hit["score"]) == (
        "names",
        "weapons",
        [0, 4],
        1,
    )


def test_markup_in_a_prompt_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["screen", "a [red]gun[/red] [bold"]) == 1
    assert "a [red]gun[/red] [bold" in capsys.readouterr().out


def test_doctor_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib import metadata

    real = metadata.version

    def version(name: str) -> str:
        if name == absent:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    absent = "nudenet"
    assert run(["doctor"]) == 0
    assert "pip install 'tadasu[nudenet]'" in capsys.readouterr().out
    absent = "numpy"
    assert run(["doctor", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["usable"] is False
    assert [p["part"] for p in document["parts"] if p["required"] and p["state"] != "ok"] == [
        "numpy"
    ]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from tadasu import __version__

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"tadasu {__version__}\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["a cat"], 0),
        (["a cat", "a pistol"], 1),
        (["a cat", "a pistol", "--fail-on", "flag"], 1),
        (["a cat", "a pistol", "--fail-on", "never"], 0),
    ],
)
def test_a_blocked_text_makes_the_exit_code_1(words: list[str], code: int) -> None:
    assert run(["screen", *words, "--embedder", "none"]) == code


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ModuleNotFoundError("No module named 'ray'", name="ray"), 3, "tadasu[ray]"),
        (ModuleNotFoundError("No module named 'ray.x'", name="ray.x"), 3, "tadasu[ray]"),
        (ModuleNotFoundError("No module named 'typo'", name="typo"), 4, "Traceback"),
        (RunFailed("The page cannot be finished."), 4, "error: The page"),
        (OSError(28, "No space left on device"), 4, "error: The work stopped: [Errno 28] No space"),
        (MemoryError(), 4, "error: The work stopped: MemoryError"),
        (RuntimeError("a defect"), 4, "Traceback"),
    ],
)
def test_a_failure_is_never_taken_for_something_found(
    error: Exception,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("tadasu.policy.Policy.load", fails)
    assert run(["screen", "a cat"]) == code
    assert says in capsys.readouterr().err
