from __future__ import annotations

import itertools

import pytest

from tadasu.alignment.gate import Gate
from tadasu.errors import UnknownName


@pytest.mark.parametrize(("draft", "image", "text"), [*itertools.product([False, True], repeat=3)])
def test_every_case(draft: bool, image: bool, text: bool) -> None:
    def opens(rule: str) -> bool:
        return Gate(rule=rule).opens(lambda: draft, lambda: image, lambda: text)  # type: ignore[arg-type]

    assert opens("and") == (draft and (image or text))
    assert opens("or") == (draft or image or text)
    assert opens("post_only") == draft


def test_checks_run_only_when_they_matter() -> None:
    asked: list[str] = []

    def check(name: str, said: bool) -> object:
        def run() -> bool:
            asked.append(name)
            return said

        return run

    Gate(rule="and").opens(check("draft", False), check("image", True))  # type: ignore[arg-type]
    Gate(rule="or").opens(check("draft 2", True), check("image 2", True))  # type: ignore[arg-type]
    Gate(rule="post_only").opens(check("draft 3", True), check("image 3", True))  # type: ignore[arg-type]
    assert asked == ["draft", "draft 2", "draft 3"]
    assert not Gate(rule="post_only").asks_context


def test_other_rules() -> None:
    with pytest.raises(UnknownName, match="post_only"):
        Gate(rule="xor")  # type: ignore[arg-type]
