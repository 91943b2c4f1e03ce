"""Reads a YAML document strictly, checks it against a JSON schema, and says where an error is.

Strict means: one document of mappings, lists and plain scalars. Anchors, aliases and tags are
refused (an alias can blow a small file up to gigabytes, a tag can build objects), so are
duplicate keys, numbers that are not finite, and files beyond a size and a depth.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from tadasu.errors import BadFile, shown

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 24
MAX_ERRORS = 20

_SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null")}

#: Where a value stands in a document: mapping keys and list indices from the root down.
Place = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document's content together with the position of each value and key.

    Attributes:
        source: the file, as messages name it.
        content: plain Python values.
        values: line and column, counted from 1, of each value.
        keys: line and column of each mapping key.
    """

    source: str
    content: Any
    values: Mapping[Place, tuple[int, int]]
    keys: Mapping[Place, tuple[int, int]]

    def at(self, place: Place, *, key: bool = False) -> str:
        """``file:line:column`` of a value or of its key; of the nearest parent if it has none."""
        table = self.keys if key else self.values
        while place and place not in table:
            place = place[:-1]
            table = self.values
        line, column = table.get(place, (1, 1))
        return f"{self.source}:{line}:{column}"

    def check(self, schema: Mapping[str, Any]) -> None:
        """Hold the content against a JSON schema.

        Raises:
            BadFile: one line per error, in the order of the file.
        """
        found = {
            (self._position(place, key), f"{self.at(place, key=key)}: {message}")
            for error in Draft202012Validator(dict(schema)).iter_errors(self.content)
            for place, key, message in _explain(error)
        }
        if not found:
            return
        lines = [line for _, line in sorted(found)]
        more = len(lines) - MAX_ERRORS
        tail = [f"… and {more} more"] if more > 0 else []
        raise BadFile("\n".join(lines[:MAX_ERRORS] + tail))

    def _position(self, place: Place, key: bool) -> tuple[int, int]:
        return (self.keys if key else self.values).get(place, (1, 1))


def read(path: Path, source: str | None = None) -> Document:
    """Read a document from a file.

    Raises:
        BadFile: no such file, too large, not UTF-8, not strict YAML.
    """
    source = source or str(path)
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise BadFile(f"{source}: cannot be read ({error.strerror or error}).") from error
    if size > MAX_BYTES:
        raise BadFile(f"{source}: {size:,} bytes; a document has at most {MAX_BYTES:,}.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise BadFile(
            f"{source}:{before.count(10) + 1}:{column}: not UTF-8 ({error.reason})."
        ) from error
    return parse(text, source)


def parse(text: str, source: str) -> Document:
    """Read a document from text; ``source`` names it in messages.

    Raises:
        BadFile: not strict YAML; the message has line and column.
    """
    try:
        _refuse_tricks(text, source)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = _position(mark)
        why = ", ".join(part for part in (error.context, error.problem) if part)
        raise BadFile(f"{source}:{where}: not YAML: {why}.") from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        column = error.position - (before.rfind("\n") + 1) + 1
        where = f"{before.count(chr(10)) + 1}:{column}"
        raise BadFile(
            f"{source}:{where}: the character U+{ord(text[error.position]):04X} is "
            "not allowed in YAML."
        ) from error
    if root is None:
        raise BadFile(f"{source}:1:1: the document is empty.")
    builder = _Builder(source)
    content = builder.build(root, ())
    return Document(source=source, content=content, values=builder.values, keys=builder.keys)


def _refuse_tricks(text: str, source: str) -> None:
    depth = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"{source}:{_position(event.start_mark)}"
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise BadFile(f"{where}: anchors and aliases are refused; write the value out.")
        if isinstance(event, yaml.NodeEvent) and getattr(event, "tag", None):
            raise BadFile(f"{where}: tags are refused; write a plain value.")
        if depth > MAX_DEPTH:
            raise BadFile(f"{where}: nested deeper than {MAX_DEPTH} levels.")
        if documents > 1:
            raise BadFile(f"{where}: a second document begins; a file holds one.")


def _position(mark: Any) -> str:
    return f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"


class _Builder:
    """Turns composed nodes into plain values and remembers where each stood."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.values: dict[Place, tuple[int, int]] = {}
        self.keys: dict[Place, tuple[int, int]] = {}
        self._scalars = yaml.constructor.SafeConstructor()

    def build(self, node: yaml.Node, place: Place) -> Any:
        self.values[place] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*place, i)) for i, child in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            where = f"{self.source}:{line}:{column}"
            plain = isinstance(key_node, yaml.ScalarNode) and key_node.tag.endswith(":str")
            if not plain:
                raise BadFile(f"{where}: a key is a plain text; put quotes around it.")
            key = str(key_node.value)
            if key in content:
                raise BadFile(f"{where}: the key {shown(key)} stands here a second time.")
            self.keys[(*place, key)] = (line, column)
            content[key] = self.build(value_node, (*place, key))
        return content

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        where = f"{self.source}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
        if node.tag not in _SCALARS:
            kind = node.tag.rpartition(":")[2]
            raise BadFile(
                f"{where}: {shown(node.value)} reads as a {kind}; put quotes around it if it is "
                "a text."
            )
        try:
            value = self._scalars.construct_object(node)
        except (ValueError, OverflowError) as error:
            raise BadFile(f"{where}: {shown(node.value)} is not a number that fits.") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise BadFile(f"{where}: {shown(node.value)} is not a finite number.")
        return value


def _explain(error: ValidationError) -> Iterator[tuple[Place, bool, str]]:
    """What a schema error means: place, whether its key is meant, and words."""
    place: Place = tuple(error.absolute_path)
    schema: Any = error.schema
    wanted: Any = error.validator_value
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = sorted(schema.get("properties", {}))
        for key in error.instance:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                message = f"unknown key {shown(key)}.{hint} Known: {', '.join(known)}."
                yield (*place, key), True, message
        return
    given = shown(_words(error.instance))
    match error.validator:
        case "enum":
            allowed = [str(value) for value in wanted]
            near = difflib.get_close_matches(str(error.instance), allowed, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            yield place, False, f"{given} is not one of {', '.join(allowed)}.{hint}"
        case "required":
            missing = error.message.split("'")[1]
            yield place, False, f"the key {missing!r} is missing here."
        case "type":
            kinds = wanted if isinstance(wanted, str) else " or ".join(wanted)
            scalar = not isinstance(error.instance, dict | list)
            quotes = " Put quotes around it." if kinds == "string" and scalar else ""
            yield place, False, f"expected a {kinds}, got {given}.{quotes}"
        case "pattern" if isinstance(error.instance, str):
            yield place, False, f"{given} does not have the form {wanted}"
        case "const":
            yield place, False, f"expected {wanted}, got {given}."
        case _:
            yield place, False, f"{error.message}."


def _words(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return {True: "true", False: "false", None: "null"}.get(value, str(value))  # type: ignore[call-overload, no-any-return]
