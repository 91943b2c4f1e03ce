"""The documentation says what the program does: help pages, runnable snippets, links."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from tadasu.cli.app import run
from tadasu.world import samples

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"(?:<!-- ((?:runs|needs:)[^>]*?) -->\s*)?```(\w+)\n(.*?)```", re.DOTALL)
#: Commands that need the trained models, or minutes; tests of their own run these.
LONG = ("demo", "generate", "judge", "make")


def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cli", ROOT / "docs" / "make_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_line_page_equals_help() -> None:
    module = maker()
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/make_cli.py"


def snippets(kind: str) -> dict[str, list[str]]:
    """The blocks of each page that have to run, in order."""
    found: dict[str, list[str]] = {}
    for page in PAGES:
        blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
        running = [code for mark, language, code in blocks if runs(mark, language, kind)]
        if running:
            found[str(page.relative_to(ROOT))] = running
    return found


def runs(mark: str, language: str, kind: str) -> bool:
    """Python runs unless the page says what it would need; a console only where it is marked."""
    return language == kind and (mark == "runs" if kind == "console" else "needs:" not in mark)


def test_the_readme_has_snippets_in_both_languages() -> None:
    for kind in ("console", "python"):
        pages = snippets(kind)
        assert len(pages["README.md"]) == len(pages["README.ja.md"]) >= 1


@pytest.mark.parametrize("page", sorted(snippets("console")))
def test_console_snippets_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for line in "".join(snippets("console")[page]).strip().splitlines():
        command, _, remark = line.partition("#")
        words = shlex.split(command.removeprefix("$ "))
        if words and words[1] not in LONG:
            assert words[0] == "tadasu"
            assert run(words[1:]) == int("exit code 1" in remark)


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(snippets("python")))
def test_python_snippets_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page in one namespace; pages beside the README may use a reader's names."""
    samples.write(tmp_path)
    for file in sorted((tmp_path / "downloads").iterdir())[1:]:
        file.unlink()  # one file shows that the snippet runs; every further one takes its seconds
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    space: dict[str, object] = {"__name__": "snippet"}
    if not page.startswith("README"):
        space |= reader()
    for code in snippets("python")[page]:
        exec(compile(code, page, "exec"), space)


def reader() -> dict[str, object]:
    """What a reader of a page is taken to have at hand."""
    import tadasu as td
    from tadasu.detectors.images import read_images

    policy = td.Policy.load("kids")
    images = read_images([f"daggers/{file.name}" for file in Path("daggers").iterdir()])
    pipe = td.world.pipeline()
    pipe.set_progress_bar_config(disable=True)
    return {
        "td": td,
        "pipe": pipe,
        "policy": policy,
        "concepts": policy.concepts,
        "images": images,
        "image": images[0],
    }


def test_both_readmes_have_the_same_shape() -> None:
    def shape(name: str) -> list[str]:
        text = (ROOT / name).read_text(encoding="utf-8")
        text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        return [heading.split()[0] for heading in re.findall(r"^#+ .*", text, flags=re.MULTILINE)]

    assert shape("README.md") == shape("README.ja.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text)]
    lost = [
        target
        for target in targets
        if target and not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]
    assert lost == []
