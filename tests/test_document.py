"""Strict YAML: whatever is wrong is refused with file, line and column."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadasu.document import MAX_BYTES, parse, read
from tadasu.errors import BadFile

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$"},
        "action": {"enum": ["block", "flag"]},
        "list": {"type": "array", "items": {"type": "number", "maximum": 1}},
        "version": {"const": 1},
    },
}


def test_values_and_positions() -> None:
    document = parse("name: x\nlist:\n  - 0.5\n  - -1\n", "f.yaml")
    assert document.content == {"name": "x", "list": [0.5, -1]}
    assert document.at(("list", 1)) == "f.yaml:4:5"
    assert document.at(("list",), key=True) == "f.yaml:2:1"
    assert document.at(("list", 7, "lost")) == "f.yaml:3:3"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [a\n", "f.yaml:2:1: not YAML"),
        ("a: 1\n b: 2\n", "f.yaml:2:3: not YAML"),
        ("a: &x 1\nb: *x\n", "f.yaml:1:4: anchors"),
        ("a: !!python/object:os.system x\n", "f.yaml:1:4: tags"),
        ("a: !mine x\n", "f.yaml:1:4: tags"),
        ("a: 1\na: 2\n", "f.yaml:2:1: the key 'a' stands here a second time"),
        ("a: .inf\n", "f.yaml:1:4: '.inf' is not a finite number"),
        ("a: .nan\n", "f.yaml:1:4: '.nan' is not a finite number"),
        ("a: 1.0e+999\n", "is not a finite number"),
        ("a: 2026-11-21\n", "f.yaml:1:4: '2026-11-21' reads as a timestamp"),
        ("? [a, b]\n: 1\n", "a key is a plain text"),
        ("1: a\n", "f.yaml:1:1: a key is a plain text"),
        ("a: 1\n---\nb: 1\n", "a second document"),
        ("", "f.yaml:1:1: the document is empty"),
        ("# only a remark\n", "the document is empty"),
        ("a: " + "[" * 40 + "]" * 40, "nested deeper"),
        ("a: b\x07c\n", "f.yaml:1:5: the character U+0007"),
        ("<<: {a: 1}\n", "a key is a plain text"),
    ],
)
def test_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(BadFile) as caught:
        parse(text, "f.yaml")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: x\nactoin: block\n", "f.yaml:2:1: unknown key 'actoin'. Did you mean 'action'?"),
        ("name: x\naction: blok\n", "f.yaml:2:9: 'blok' is not one of block, flag. Did you mean"),
        ("action: block\n", "f.yaml:1:1: the key 'name' is missing here"),
        ("name: no\n", "f.yaml:1:7: expected a string, got 'false'. Put quotes around it."),
        ("name: {a: 1}\n", "f.yaml:1:7: expected a string, got 'a mapping'."),
        ("name: x\nlist:\n  - 1\n  - 2\n", "f.yaml:4:5: 2 is greater than the maximum of 1"),
        ("name: X\n", "f.yaml:1:7: 'X' does not have the form"),
        ("name: x\nversion: 2\n", "f.yaml:2:10: expected 1, got '2'"),
        ("- 1\n", "f.yaml:1:1: expected a object"),
    ],
)
def test_the_schema_speaks_with_places(text: str, says: str) -> None:
    with pytest.raises(BadFile) as caught:
        parse(text, "f.yaml").check(SCHEMA)
    assert says in str(caught.value)


def test_all_errors_come_at_once_in_the_order_of_the_file() -> None:
    with pytest.raises(BadFile) as caught:
        parse("zzz: 1\nname: 7\naction: x\n", "f.yaml").check(SCHEMA)
    lines = str(caught.value).splitlines()
    assert [line[:8] for line in lines] == ["f.yaml:1", "f.yaml:2", "f.yaml:3"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be read"):
        read(tmp_path / "none.yaml")
    with pytest.raises(BadFile, match="cannot be read"):
        read(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(BadFile, match=r"latin.yaml:2:4: not UTF-8"):
        read(latin)
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(BadFile, match="at most"):
        read(large)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadFile):
        assert parse(text, "f.yaml").at(()).startswith("f.yaml:")
