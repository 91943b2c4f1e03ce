"""The command line as a whole: exit codes, where output goes, examples that run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tadasu.cli.app import COMMANDS, run

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
    ],
)
def test_json_is_one_document_and_nothing_else(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_screen_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["screen", "a cat", "ピストル", "--json"]) == 0
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
    assert run(["screen", "a [red]gun[/red] [bold"]) == 0
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


def test_help_has_an_example_for_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands():
        assert run([*words, "--help"]) == 0
        assert example(capsys.readouterr().out)[:2] == ["tadasu", words[0]]


@pytest.mark.parametrize(
    "words", ["screen", "policy list", "policy show", "policy check", "methods", "doctor"]
)
def test_the_example_runs_as_it_stands(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    run([*words.split(), "-h"])
    assert run(example(capsys.readouterr().out)[1:]) == 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from tadasu import __version__

    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"tadasu {__version__}\n"


def commands() -> list[tuple[str, ...]]:
    import typer.main

    from tadasu.cli.app import build

    root = typer.main.get_command(build())
    found: list[tuple[str, ...]] = []

    def descend(command: object, words: tuple[str, ...]) -> None:
        nested = getattr(command, "commands", None)
        if not nested:
            found.append(words)
        for name, inner in (nested or {}).items():
            descend(inner, (*words, name))

    for name in COMMANDS:
        descend(getattr(root, "commands")[name], (name,))  # noqa: B009
    return found


def example(page: str) -> list[str]:
    """The words of the example on a help page."""
    joined = re.sub(r"\s*\n\s*", " ", page)
    match = re.search(r"Example: (tadasu .*?)(?: ╭| Usage|$)", joined)
    return shlex.split(match.group(1)) if match else []
