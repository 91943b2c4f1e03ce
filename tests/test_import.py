"""Importing, asking for help and listing methods stay light."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "diffusers", "transformers", "onnxruntime", "scipy.stats")

PROGRAM = """
import sys
{body}
sys.stdout.write('\\n' + ' '.join(name for name in {heavy!r} if name in sys.modules))
"""


def loaded(body: str) -> list[str]:
    """Heavy modules that a fresh interpreter holds after running ``body``."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body, heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout.rpartition("\n")[2].split()


def command(*words: str) -> str:
    return f"from tadasu.cli.app import run\nassert run({list(words)!r}) == 0"


@pytest.mark.parametrize(
    "body",
    [
        "import tadasu",
        "import tadasu; tadasu.Policy.load('kids'); tadasu.Concept; tadasu.Generation",
        command("--help"),
        command("methods"),
        command("methods", "--json"),
        command("policy", "check", "kids"),
        command("screen", "a cat", "--embedder", "none"),
    ],
)
def test_is_light(body: str) -> None:
    assert loaded(body) == []


def test_the_check_can_fail() -> None:
    assert "scipy.stats" in loaded("import scipy.stats")


def test_unknown_names_are_attribute_errors() -> None:
    import tadasu

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tadasu.nothing
    assert "Policy" in dir(tadasu)
