"""Methods by name, and their parameters from a line of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from tadasu import naming
from tadasu.errors import BadInput, UnknownName


@dataclass(frozen=True, kw_only=True)
class Method:
    share: float = 0.5
    rounds: int = 2
    joined: bool = True
    word: str = "a"
    mode: Literal["all", "last"] = "all"
    parts: tuple[int, ...] = ()


def found(name: str) -> type[Method]:
    if name != "method":
        raise UnknownName("method", name, ["method"])
    return Method


def test_every_kind_of_parameter_is_read() -> None:
    given = naming.parsed("method: share=0.25, rounds=3, joined=no, word=b, mode=last", found)
    assert given == Method(share=0.25, rounds=3, joined=False, word="b", mode="last")


def test_keys_change_a_preset_wherever_it_stands() -> None:
    def preset(made: type[Method], name: str) -> Method:
        assert name == "small"
        return made(share=0.1, rounds=1)

    wanted = Method(share=0.1, rounds=9)
    assert naming.parsed("method:small,rounds=9", found, preset) == wanted
    assert naming.parsed("method:rounds=9,preset=small", found, preset) == wanted


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("methd", UnknownName, "Did you mean method"),
        ("method:shar=1", UnknownName, "Did you mean share"),
        ("method:small", BadInput, "not key=value"),
        ("method:mode=lsat", UnknownName, "Did you mean last"),
        ("method:rounds=2.5", BadInput, "a whole number"),
        ("method:joined=perhaps", BadInput, "true or false"),
        ("method:parts=1", BadInput, "set it in Python"),
    ],
)
def test_what_cannot_be_read(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        naming.parsed(text, found)


def test_a_file_that_defines_no_method_is_a_fault_of_the_house() -> None:
    with pytest.raises(TypeError, match="exactly one thing, not 0"):
        naming.find("tadasu", "naming", (), kind="thing", belongs=lambda _: False)
    assert "naming" in naming.names("tadasu", {"cli"})
    assert "cli" not in naming.names("tadasu", {"cli"})
