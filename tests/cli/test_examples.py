"""The example on every help page runs as it stands, on files that it makes itself."""

from __future__ import annotations

import glob
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tadasu.cli.app import COMMANDS, run

#: Examples that load no model; the others are slow.
QUICK = {"screen", "policy list", "policy show", "policy check", "methods", "doctor", "known list",
         "concepts add", "concepts list", "evaluate suites", "world samples"}  # fmt: skip
#: Examples whose purpose is to find something, or to fall short of a bar.
FINDING = {"screen", "judge", "audit", "edit check", "evaluate compare", "world check"}
#: Files that only a person can make.
BY_PEOPLE = {"evaluate label import"}
#: Has a test of its own.
LONG = {"demo"}


def commands() -> list[str]:
    import typer.main

    from tadasu.cli.app import build

    root = typer.main.get_command(build())
    found: list[str] = []

    def descend(command: object, words: tuple[str, ...]) -> None:
        nested = getattr(command, "commands", None)
        if not nested:
            found.append(" ".join(words))
        for name, inner in (nested or {}).items():
            descend(inner, (*words, name))

    for name in COMMANDS:
        descend(getattr(root, "commands")[name], (name,))  # noqa: B009
    return found


def example(page: str) -> list[list[str]]:
    """The commands of the example on a help page, word by word."""
    joined = re.sub(r"\s*\n\s*", " ", page)
    match = re.search(r"Example: (tadasu .*?)(?: ╭| Usage|$)", joined)
    return [shlex.split(line) for line in match.group(1).split(" && ")] if match else []


def marked(words: str) -> object:
    return words if words in QUICK else pytest.param(words, marks=pytest.mark.slow)


@pytest.mark.parametrize("words", commands())
def test_help_has_an_example(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words.split(), "--help"]) == 0
    lines = example(capsys.readouterr().out)
    assert all(line[0] == "tadasu" for line in lines)
    assert lines[-1][1 : 1 + len(words.split())] == words.split()


@pytest.mark.parametrize(
    "words", [marked(each) for each in commands() if each not in BY_PEOPLE | LONG]
)
def test_the_example_runs_as_it_stands(
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run([*words.split(), "-h"])
    *before, last = example(capsys.readouterr().out)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for line in before:
        assert run(expanded(line)[1:]) in (0, 1)
    assert run(expanded(last)[1:]) in ((0, 1) if words in FINDING else (0,))


def expanded(line: list[str]) -> list[str]:
    """What a shell makes of the patterns in a command."""
    return [name for word in line for name in (sorted(glob.glob(word)) or [word])]


def test_samples_do_not_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "samples"
    assert run(["world", "samples", str(folder)]) == 0
    assert run(["world", "samples", str(folder)]) == 0
    (folder / "captions.csv").write_text("mine", encoding="utf-8")
    assert run(["world", "samples", str(folder)]) == 2
    assert "captions.csv" in capsys.readouterr().err
    assert (folder / "captions.csv").read_text(encoding="utf-8") == "mine"
    shutil.rmtree(folder)
