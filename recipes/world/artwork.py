"""Renders the artwork of the world: one array of pictures and one table that says what each shows.

Sources are icon packages that carry each artwork as SVG (see package.json). The
result depends on the packages' versions and the configuration alone; ``manifest.json`` lists a hash
of every picture's bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
import yaml
from PIL import Image

HERE = Path(__file__).parent
STYLES = ("noto", "noto-v1", "fluent-emoji-flat", "fluent-emoji", "twemoji", "emojione")
UNSEEN_STYLE = "fxemoji"  # never trained on: the judge's error rates are measured on it
PROFESSIONS = (
    "health-worker student teacher judge farmer cook mechanic factory-worker office-worker "
    "scientist technologist singer artist pilot astronaut firefighter police-officer detective "
    "guard construction-worker"
).split()
GENDERS = ("man", "woman")
TONES = ("light", "medium", "dark")
NOT_AS_NAMED = {("pistol", "noto"), ("pistol", "twemoji")}  # toys under the old name
TAKEN_GROUPS = (3, 4, 5, 6, 7)  # emojibase: animals, food, travel, activities, objects
ALL_GROUPS = (0, 1, *TAKEN_GROUPS, 8)  # with faces, people and symbols; without flags
RELIGION, KEYCAPS = (52, 86), 94  # emojibase: subgroups that no world takes


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What one rendered picture shows."""

    concept: str
    style: str
    gender: str = ""
    tone: str = ""


def slug(label: str) -> str:
    """The artwork's name of an emojibase label.

    >>> slug("Mrs. Claus")
    'mrs-claus'
    """
    return re.sub(r"[^a-z0-9]+", "-", label.lower().replace("’", "").replace("'", "")).strip("-")


def load_yaml(name: str) -> Any:
    """One of the lists beside this file."""
    return yaml.safe_load((HERE / name).read_text(encoding="utf-8"))


class Icons:
    """One style's package: names to SVG text."""

    def __init__(self, packages: Path, style: str) -> None:
        data = json.loads((packages / "@iconify-json" / style / "icons.json").read_text())
        self.icons: dict[str, Any] = data["icons"]
        self.aliases: dict[str, Any] = data.get("aliases", {})
        self.size = (data.get("width", 16), data.get("height", 16))

    def svg(self, name: str) -> str | None:
        """The SVG document of an icon, or None where the style has no such name."""
        if name in self.aliases:
            name = self.aliases[name]["parent"]
        icon = self.icons.get(name)
        if icon is None:
            return None
        left, top = icon.get("left", 0), icon.get("top", 0)
        width, height = icon.get("width", self.size[0]), icon.get("height", self.size[1])
        box = f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{icon["body"]}</svg>'


def render(svg: str, size: int) -> np.ndarray:
    """RGBA picture (size × size, uint8), drawn at four times the size and averaged down."""
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size * 4, height=size * 4))
    with Image.open(io.BytesIO(png)) as image:
        image = image.convert("RGBa").resize((size, size), Image.Resampling.BOX).convert("RGBA")
    return np.asarray(image)


def labels(packages: Path, language: str) -> dict[str, dict[str, Any]]:
    """emojibase entries of a language by hexcode."""
    file = packages / "emojibase-data" / language / "data.json"
    return {entry["hexcode"]: entry for entry in json.loads(file.read_text(encoding="utf-8"))}


def wanted(name: str, entry: dict[str, Any], lists: dict[str, list[str]], everything: bool) -> bool:
    """Whether a harmless concept is taken.

    Args:
        name: the artwork's name.
        entry: of emojibase, with ``group`` and ``subgroup``.
        lists: ``harmless.yaml``.
        everything: all that can be told from a restricted thing, or the smaller choice in which
            things also differ from each other at 32 pixels.
    """
    group, part = entry.get("group"), entry.get("subgroup")
    if everything:
        taken = group in ALL_GROUPS and part not in (*RELIGION, KEYCAPS)
        return taken and name not in (*lists["near_restricted"], *PROFESSIONS)
    return name in lists["also"] or (
        group in TAKEN_GROUPS and part not in (50, 52, 59) and name not in lists["leave_out"]
    )


def choose(
    packages: Path, icons: dict[str, Icons], *, everything: bool = False
) -> dict[str, dict[str, Any]]:
    """Every concept with its names, tags, group of restriction, and whether the base learns it.

    Harmless ones are drawn in all styles. ``everything`` is as in `wanted`.
    """
    english, japanese = labels(packages, "en"), labels(packages, "ja")
    by_slug = {slug(entry["label"]): entry for entry in english.values()}
    by_slug["pistol"] = by_slug["water-pistol"]
    lists, restricted = load_yaml("harmless.yaml"), load_yaml("restricted.yaml")
    group_of = {
        name: (group, kind)
        for group, kinds in restricted.items()
        for kind, names in kinds.items()
        for name in names
    }
    chosen: dict[str, dict[str, Any]] = {}
    for name, entry in by_slug.items():
        available = [
            style
            for style in STYLES
            if icons[style].svg(name) and (name, style) not in NOT_AS_NAMED
        ]
        if len(available) < (2 if name in group_of else 6):
            continue
        if name not in group_of and not wanted(name, entry, lists, everything):
            continue
        group, kind = group_of.get(
            name, ("", "held_out" if name in lists["held_out"] else "learned")
        )
        ja = japanese[entry["hexcode"]]
        chosen[name] = {
            "en": "pistol" if name == "pistol" else entry["label"].lower(),
            "ja": "ピストル" if name == "pistol" else ja["label"],
            "en_tags": [tag.lower() for tag in entry.get("tags", [])],
            "ja_tags": ja.get("tags", []),
            "restricted": group,
            "held_out": kind == "held_out",
            "styles": available,
        }
    return chosen


def people(icons: dict[str, Icons]) -> Iterator[tuple[Picture, str]]:
    """Every profession × gender × tone that a style draws."""
    for style in (*STYLES, UNSEEN_STYLE):
        for job in PROFESSIONS:
            for gender in GENDERS:
                for tone in TONES:
                    for name in (f"{gender}-{job}-{tone}-skin-tone", f"{gender}-{job}-{tone}"):
                        svg = icons[style].svg(name)
                        if svg:
                            yield Picture(concept=job, style=style, gender=gender, tone=tone), svg
                            break


def build(packages: Path, out: Path, size: int, *, everything: bool = False) -> None:
    """Renders everything into ``out``: pictures, their table, the concepts and the manifest.

    Args:
        packages: the folder ``node_modules``.
        out: the folder ``data`` of the work folder.
        size: edge length in pixels.
        everything: as in `wanted`.
    """
    icons = {style: Icons(packages, style) for style in (*STYLES, UNSEEN_STYLE)}
    concepts = choose(packages, icons, everything=everything)
    rows: list[tuple[Picture, str]] = []
    for name, concept in concepts.items():
        for style in (*concept["styles"], UNSEEN_STYLE):
            svg = icons[style].svg(name)
            if svg:
                rows.append((Picture(concept=name, style=style), svg))
    rows += list(people(icons))
    english, japanese = labels(packages, "en"), labels(packages, "ja")
    by_slug = {slug(entry["label"]): entry for entry in english.values()}
    for job in PROFESSIONS:
        entry = by_slug[job]
        concepts[job] = {
            "en": entry["label"].lower(),
            "ja": japanese[entry["hexcode"]]["label"],
            "en_tags": [tag.lower() for tag in entry.get("tags", [])],
            "ja_tags": japanese[entry["hexcode"]].get("tags", []),
            "restricted": "",
            "held_out": False,
            "styles": sorted({row.style for row, _ in rows if row.concept == job}),
            "profession": True,
        }
    pictures = np.stack([render(svg, size) for _, svg in rows])
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "pictures.npy", pictures)
    table = [asdict(picture) for picture, _ in rows]
    (out / "pictures.json").write_text(json.dumps(table, indent=0))
    (out / "concepts.json").write_text(json.dumps(concepts, ensure_ascii=False, indent=1))
    hashes = {
        "/".join(filter(None, asdict(picture).values())): hashlib.sha256(
            pixels.tobytes()
        ).hexdigest()[:16]
        for (picture, _), pixels in zip(rows, pictures, strict=True)
    }
    versions = {
        str(file.parent.relative_to(packages)): json.loads(file.read_text())["version"]
        for file in [
            *sorted(packages.glob("@iconify-json/*/package.json")),
            packages / "emojibase-data" / "package.json",
        ]
    }
    manifest = {"size": size, "packages": versions, "pictures": hashes}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=0, sort_keys=True))
