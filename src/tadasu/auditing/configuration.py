"""What peft's configuration says about factors: alpha and rank, per part and per module.

The text is a stranger's. Patterns are compared as plain endings of module names, never run as
regular expressions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tadasu.auditing.containers import Limits, PlainFile
from tadasu.auditing.formats.group import Settings
from tadasu.errors import BadFile

#: Where diffusers keeps the configurations of all parts, in safetensors metadata.
METADATA_KEY = "lora_adapter_metadata"
FILE = "adapter_config.json"
_LONGEST = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Configurations by part (``unet``, …); ``""`` for a file of one part.

    Attributes:
        parts: the documents.
    """

    parts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)

    def settings(self, name: str) -> Settings:
        """What holds for one module, by canonical name."""
        part, _, module = name.partition(".")
        document = self.parts.get(part) or self.parts.get("") or {}
        return Settings(
            alpha=_number(_pattern(document, "alpha_pattern", module))
            or _number(document.get("lora_alpha", document.get("alpha"))),
            rank=_whole(_pattern(document, "rank_pattern", module)) or _whole(document.get("r")),
            rank_stabilised=document.get("use_rslora") is True,
            options=document,
        )


def _pattern(document: Mapping[str, object], key: str, module: str) -> object:
    table = document.get(key)
    items = table.items() if isinstance(table, dict) else ()
    for ending, value in items:
        plain = str(ending).removeprefix("^").removesuffix("$").replace("\\.", ".")
        if module == plain or module.endswith(f".{plain}"):
            found: object = value
            return found
    return None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _whole(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and 0 < number < 10**6 else None


def configuration(path: Path, metadata: Mapping[str, str], limits: Limits) -> Configuration:
    """The configuration inside the file, or beside it where peft puts it.

    Raises:
        BadFile: when there is one and it is damaged.
    """
    beside = path.parent / FILE
    if METADATA_KEY in metadata:
        return Configuration(parts=_by_part(_document(metadata[METADATA_KEY])))
    if path.name.startswith("adapter_model.") and (beside.is_file() or beside.is_symlink()):
        plain = PlainFile.open(beside, limits)
        if plain.size > _LONGEST:
            raise BadFile(f"{FILE} has {plain.size:,} bytes; at most {_LONGEST:,} are read.")
        try:
            text = plain.read(0, plain.size).decode()
        except UnicodeDecodeError as error:
            raise BadFile(f"{FILE} is not text.") from error
        return Configuration(parts={"": _document(text)})
    return Configuration()


def _document(text: str) -> dict[str, object]:
    try:
        found = json.loads(text[: _LONGEST + 1])
    except (ValueError, RecursionError) as error:
        raise BadFile("The file's adapter configuration is not JSON.") from error
    if not isinstance(found, dict):
        raise BadFile("The file's adapter configuration is not a map.")
    return found


def _by_part(flat: Mapping[str, object]) -> dict[str, dict[str, object]]:
    parts: dict[str, dict[str, object]] = {}
    for key, value in flat.items():
        part, _, rest = key.partition(".")
        parts.setdefault(part, {})[rest] = value
    return parts
