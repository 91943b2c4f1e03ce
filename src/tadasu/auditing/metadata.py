"""What a file says about itself. All of it can be invented: it is shown, and it is never trusted.

Keys: kohya's scripts write ``ss_*`` and ``sshs_*``; ModelSpec 1.0.1 writes ``modelspec.*``;
diffusers writes its own configuration. Text is cut and freed of control characters before anything
else sees it; whoever puts it into a page still escapes it there.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

#: Longest text that is kept of one claim, in characters.
LONGEST = 300
#: Most tags that are kept, the most frequent first.
MOST_TAGS = 200
#: Most claims that are kept.
MOST_CLAIMS = 500
#: Longest JSON that is parsed, in characters; beyond it the claim is dropped.
LONGEST_JSON = 8_000_000

_NAMES_A_BASE = (
    "modelspec.architecture",
    "ss_base_model_version",
    "ss_sd_model_name",
    "base_model",
)
_FAMILIES = (
    # (pattern on the declared base, family); the first that fits decides
    (r"sdxl.*refiner|xl-refiner", "sdxl-refiner"),
    (r"sdxl|stable-diffusion-xl|\bxl\b|pony|illustrious|noobai", "sdxl"),
    (r"sd3|stable-diffusion-3|stable-diffusion-v3", "sd3"),
    (r"flux[._ -]?2", "flux2"),
    (r"flux", "flux"),
    (r"sd_?v?2|sd 2|stable-diffusion-v?2", "sd2"),
    (r"sd_?v?1|sd 1|stable-diffusion-v?1", "sd1"),
)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Claims of a file about itself.

    Attributes:
        title: the name it gives itself.
        base: the base model it names, as it is written there.
        family: base family that ``base`` and its other claims speak of, or ``unknown``.
        base_hash: the base model's hash that it names.
        tags: training tags and how often each occurred, the most frequent first.
        triggers: trigger words or phrases it names.
        hashes: further hashes it carries, by key.
        claims: every other text claim, cut to ``LONGEST`` characters.
        dropped: keys that were too long or not text.
    """

    title: str = ""
    base: str = ""
    family: str = "unknown"
    base_hash: str = ""
    tags: tuple[tuple[str, int], ...] = ()
    triggers: tuple[str, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


def clean(text: object, limit: int = LONGEST) -> str:
    r"""One line of bounded text: no control, format or surrogate characters, spaces folded.

    >>> clean("a\x1b[31mred\u202e  b\n")
    'a[31mred b'
    """
    kept = "".join(
        " " if char.isspace() else char
        for char in str(text)[: limit * 4]
        if char.isspace() or unicodedata.category(char)[0] != "C"
    )
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def parse(raw: Mapping[str, str]) -> Metadata:
    """The claims of a safetensors ``__metadata__`` block (or of a configuration beside it)."""
    few = dict(islice(raw.items(), MOST_CLAIMS))
    claims = {clean(key, 100): clean(value) for key, value in few.items() if not _is_long(key)}
    base = _first(raw, "modelspec.architecture", "ss_sd_model_name", "ss_base_model_version")
    return Metadata(
        title=_first(raw, "modelspec.title", "ss_output_name", "name", "title"),
        base=base,
        family=declared_family(raw),
        base_hash=_first(raw, "ss_new_sd_model_hash", "ss_sd_model_hash"),
        tags=tags(raw.get("ss_tag_frequency", "")),
        triggers=tuple(
            clean(raw[key])
            for key in ("modelspec.trigger_phrase", "ss_trigger_words", "trigger_word", "trigger")
            if raw.get(key)
        ),
        hashes={
            clean(key, 100): clean(value, 128)
            for key, value in few.items()
            if "hash" in key.lower()
        },
        claims=claims,
        dropped=tuple(clean(key, 100) for key in few if _is_long(key)),
    )


def _is_long(key: str) -> bool:
    """Keys whose values are documents of their own."""
    return key in ("ss_tag_frequency", "ss_datasets", "ss_dataset_dirs", "ss_bucket_info")


def _first(raw: Mapping[str, str], *keys: str) -> str:
    return next((clean(raw[key]) for key in keys if raw.get(key)), "")


def declared_family(raw: Mapping[str, str]) -> str:
    """The base family that the claims speak of; ``unknown`` when they name none.

    >>> declared_family({"ss_base_model_version": "sdxl_base_v1-0"})
    'sdxl'
    >>> declared_family({"ss_v2": "True", "ss_base_model_version": ""})
    'sd2'
    >>> declared_family({"modelspec.architecture": "flux-1-dev/lora"})
    'flux'
    """
    if raw.get("ss_v2") == "True":
        return "sd2"
    for key in (
        "modelspec.architecture",
        "ss_base_model_version",
        "ss_sd_model_name",
        "base_model",
    ):
        text = clean(raw.get(key, "")).lower()
        for pattern, family in _FAMILIES:
            if text and re.search(pattern, text):
                return family
    return "unknown"


def tags(document: str) -> tuple[tuple[str, int], ...]:
    """Tags and counts from kohya's ``ss_tag_frequency``, summed over folders.

    >>> tags('{"10_cat": {"cat": 12, "sofa": 3}, "5_more": {"cat": 1}}')
    (('cat', 13), ('sofa', 3))
    """
    if not document or len(document) > LONGEST_JSON:
        return ()
    try:
        folders = json.loads(document)
    except (ValueError, RecursionError):
        return ()
    totals: dict[str, int] = {}
    for folder in folders.values() if isinstance(folders, dict) else ():
        for tag, count in folder.items() if isinstance(folder, dict) else ():
            if isinstance(count, int) and not isinstance(count, bool) and 0 < count < 10**12:
                name = clean(tag, 100)
                totals[name] = totals.get(name, 0) + count
    ordered = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    return tuple(ordered[:MOST_TAGS])
