"""A suite as a YAML document: prompts in place, a table with a mapping, or concepts × templates."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tadasu.document import read
from tadasu.errors import BadInput
from tadasu.evaluation.suites.layouts import FIELDS, LAYOUTS
from tadasu.evaluation.suites.read import read_table
from tadasu.evaluation.suites.suite import PROPERTIES, Prompt, Suite

_TEXTS = {"type": "array", "items": {"type": "string"}}
_MEASURES = {"type": "array", "items": {"enum": list(PROPERTIES)}}
_PROMPT = {
    "type": "object",
    "additionalProperties": False,
    "required": ["text"],
    "properties": {
        "id": {"type": "string"},
        "text": {"type": "string"},
        "seed": {"type": "integer"},
        "guidance_scale": {"type": "number"},
        "language": {"type": "string"},
        "measures": _MEASURES,
        "categories": _TEXTS,
        "shows": _TEXTS,
    },
}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["suite"],
    "properties": {
        "suite": {"type": "string"},
        "about": {"type": "string"},
        "source": {"type": "string"},
        "measures": _MEASURES,
        "regions": {
            "type": "array",
            "items": {
                "type": "array",
                "items": {"type": "number"},
                "minItems": 4,
                "maxItems": 4,
            },
        },
        "aspect": {"type": "number", "minimum": 0},
        "attributes": {"type": "object", "additionalProperties": _TEXTS},
        "take": {"type": "integer"},
        "prompts": {"type": "array", "items": _PROMPT},
        "file": {"type": "string"},
        "layout": {"enum": sorted(LAYOUTS)},
        "columns": {
            "type": "object",
            "additionalProperties": False,
            "properties": {field: {"type": "string"} for field in FIELDS},
        },
        "where": {"type": "object", "additionalProperties": {"type": "string"}},
        "templates": _TEXTS,
        "concepts": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["names"],
                "properties": {
                    "category": {"type": "string"},
                    "names": _TEXTS,
                    "harmless": {"type": "boolean"},
                },
            },
        },
        "seeds": {"type": "integer", "minimum": 1},
        "samples": {"type": "integer", "minimum": 0},
    },
}
_WAYS = ("prompts", "file", "templates")


def read_document(path: str | Path) -> Suite:
    """A suite from its YAML document.

    Raises:
        BadFile: it is damaged, or something in it is not known; the message says where.
        BadInput: as in `Suite` and `read_table`, or not exactly one source of prompts.
    """
    document = read(Path(path))
    document.check(SCHEMA)
    content: dict[str, Any] = document.content
    return from_json(content, folder=Path(path).parent)


def from_json(content: Mapping[str, Any], *, folder: Path) -> Suite:
    """A suite from a document's content, also from `Suite.as_json`.

    Args:
        content: as the schema says.
        folder: what ``file`` is relative to.

    Raises:
        BadInput: not exactly one of ``prompts``, ``file`` and ``templates``, or as in `Suite`.
    """
    given = [way for way in _WAYS if way in content]
    name = str(content.get("suite") or content.get("id"))
    if len(given) != 1:
        raise BadInput(f"The suite {name!r} takes its prompts from one of {', '.join(_WAYS)}.")
    if given == ["file"]:
        suite = read_table(
            folder / content["file"],
            id=name,
            layout_name=content.get("layout", ""),
            columns=content.get("columns"),
            where=content.get("where"),
        )
    else:
        make = _grid if given == ["templates"] else _listed
        suite = Suite(id=name, prompts=make(content))
    changed: dict[str, Any] = {key: content[key] for key in ("about", "source") if content.get(key)}
    changed["measures"] = tuple(content.get("measures") or suite.measures)
    changed["samples"] = int(content.get("samples", 0))
    changed["regions"] = tuple(tuple(map(float, each)) for each in content.get("regions", ()))
    changed["aspect"] = float(content.get("aspect", 0))
    changed["attributes"] = {
        group: tuple(labels) for group, labels in content.get("attributes", {}).items()
    }
    return dataclasses.replace(suite, **changed).take(content.get("take"))


def _listed(content: Mapping[str, Any]) -> tuple[Prompt, ...]:
    made = []
    for place, entry in enumerate(content["prompts"]):
        texts = {key: tuple(value) for key, value in entry.items() if isinstance(value, list)}
        made.append(Prompt(**{"id": str(place), "seed": place, **entry, **texts}))
    return tuple(made)


def _grid(content: Mapping[str, Any]) -> tuple[Prompt, ...]:
    """Every concept's name in every template, as HUB and Six-CD do it.

    Raises:
        BadInput: a template without ``{}``.
    """
    for template in content["templates"]:
        if "{}" not in template:
            raise BadInput(f"A template says with {{}} where the name stands: {template!r}.")
    made: list[Prompt] = []
    seeds = range(int(content.get("seeds", 1)))
    for entry in content.get("concepts", ()):
        for name, template, _ in itertools.product(entry["names"], content["templates"], seeds):
            harmless = entry.get("harmless", False)
            made.append(
                Prompt(
                    id=str(len(made)),
                    text=template.replace("{}", name),
                    seed=len(made),
                    categories=(entry["category"],) if entry.get("category") else (),
                    measures=("shows",) if harmless else ("unsafe",),
                    shows=(name,) if harmless else (),
                )
            )
    return tuple(made)
