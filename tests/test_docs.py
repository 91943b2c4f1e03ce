"""The documentation says what the program does: help pages, runnable snippets, links."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest

from tadasu.cli.app import run

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RUNNABLE = re.compile(r"<!-- runs -->\s*```(\w+)\n(.*?)```", re.DOTALL)
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


def snippets() -> list[tuple[str, str, str]]:
    found = []
    for page in PAGES:
        for kind, code in RUNNABLE.findall(page.read_text(encoding="utf-8")):
            found.append((str(page.relative_to(ROOT)), kind, code))
    return found


def test_the_readme_has_runnable_snippets_in_both_languages() -> None:
    pages = [page for page, _, _ in snippets()]
    assert pages.count("README.md") >= 2
    assert pages.count("README.md") == pages.count("README.ja.md")


@pytest.mark.parametrize(("page", "kind", "code"), snippets())
def test_snippets_marked_runnable_run(
    page: str, kind: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "python":
        exec(compile(code, page, "exec"), {"__name__": "snippet"})
        return
    for line in code.strip().splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words and words[1] not in LONG:
            assert words[0] == "tadasu"
            assert run(words[1:]) == 0


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
