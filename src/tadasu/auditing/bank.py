"""The concept bank: reference pictures by concept, in a folder that people can look at.

``bank.json`` says per concept what policies it belongs to, how it is called and what looks like it;
beside it lies one folder of pictures per concept. A concept that belongs to no policy is harmless:
files are held against it. The bank's hash is part of every result.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadasu.detectors.images import read_images
from tadasu.errors import BadFile, BadInput, UnknownName, shown

if TYPE_CHECKING:
    from PIL.Image import Image

INDEX = "bank.json"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One concept of a bank.

    Attributes:
        name: lower case letters, digits, ``_`` and ``-``.
        part_of: the policy concept it belongs to, for example ``weapons``; empty for harmless.
        text: what a prompt would call it.
        near: concepts of the bank that look like it without being it.
        files: its pictures, relative to the bank, with their SHA-256.
        source: where the pictures come from and under which licence.
    """

    name: str
    part_of: str = ""
    text: str = ""
    near: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    source: str = ""

    def as_json(self) -> dict[str, Any]:
        """As it stands in the index."""
        return {
            "part_of": self.part_of,
            "text": self.text,
            "near": list(self.near),
            "files": dict(self.files),
            "source": self.source,
        }


@dataclass(frozen=True, kw_only=True)
class Bank:
    """A folder of reference pictures.

    Attributes:
        folder: where it is.
        concepts: by name, in the order of the index.
    """

    folder: Path
    concepts: dict[str, Reference]

    @classmethod
    def load(cls, folder: str | Path) -> Bank:
        """Read a bank's index.

        Raises:
            BadFile: no bank, or a damaged index.
        """
        path = Path(folder)
        index = path / INDEX
        if not index.is_file():
            raise BadFile(
                f"{shown(path, 300)} is no concept bank (it has no {INDEX}). Make one with "
                "'tadasu concepts add NAME --images DIR'."
            )
        try:
            content = json.loads(index.read_text(encoding="utf-8"))
            if content["tadasu_bank"] != FORMAT:
                raise BadFile(f"{shown(index, 300)} has the unknown format of another version.")
            concepts = {
                name: _reference(name, entry) for name, entry in content["concepts"].items()
            }
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise BadFile(f"{shown(index, 300)} is damaged: {error!r}") from error
        return cls(folder=path, concepts=concepts)

    @property
    def hash(self) -> str:
        """SHA-256 of names, relations and the pictures' own hashes."""
        plain = {name: reference.as_json() for name, reference in sorted(self.concepts.items())}
        text = json.dumps(plain, sort_keys=True, ensure_ascii=False)
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    @property
    def harmless(self) -> tuple[str, ...]:
        """Concepts of no policy."""
        return tuple(name for name, each in self.concepts.items() if not each.part_of)

    def find(self, wanted: Iterable[str]) -> tuple[str, ...]:
        """Concepts by their own names or by the policy concept they belong to.

        Raises:
            UnknownName: the bank has nothing of that name.
        """
        found: dict[str, None] = {}
        for name in wanted:
            members = [key for key, each in self.concepts.items() if name in (key, each.part_of)]
            if not members:
                groups = {each.part_of for each in self.concepts.values()} - {""}
                raise UnknownName("concept of the bank", name, {*self.concepts, *groups})
            found.update(dict.fromkeys(members))
        return tuple(found)

    def images(self, name: str, *, containing: str = "", most: int | None = None) -> list[Image]:
        """The pictures of a concept, in the order of the index.

        Args:
            name: of the concept.
            containing: only files whose names contain this.
            most: at most so many.

        Raises:
            BadFile: a picture is absent or is not the one that was added.
        """
        files = [entry for entry in self.concepts[name].files if containing in entry[0]][:most]
        for file, digest in files:
            path = self.folder / file
            if not path.is_file() or _digest(path) != digest:
                raise BadFile(f"{shown(path, 300)} is not the picture that was added to the bank.")
        found = []
        for each in read_images(self.folder / file for file, _ in files):
            if isinstance(each, BadFile):
                raise each
            found.append(each)
        return found


def add(
    folder: str | Path,
    name: str,
    images: Sequence[Path],
    *,
    part_of: str = "",
    text: str = "",
    near: Sequence[str] = (),
    source: str = "",
) -> Reference:
    """Add a concept to a bank, or pictures to a concept; the bank is made where there is none.

    Args:
        folder: the bank.
        name: of the concept.
        images: picture files; they are copied.
        part_of: the policy concept it belongs to; empty for a harmless one.
        text: what a prompt would call it; the name in words when left out.
        near: concepts that look like it.
        source: where the pictures come from and under which licence.

    Raises:
        BadInput: a name that is none, or no picture.
        BadFile: a picture that cannot be read; nothing was added.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise BadInput(f"A concept's name is 1 to 64 of a-z, 0-9, _ and -; got {shown(name)}.")
    if not images:
        raise BadInput(f"No pictures for {shown(name)}; known endings are {', '.join(PICTURES)}.")
    for each in read_images(images):
        if isinstance(each, BadFile):
            raise each
    path = Path(folder)
    concepts = dict(Bank.load(path).concepts) if (path / INDEX).is_file() else {}
    before = concepts.get(name, Reference(name=name))
    files = dict(before.files)
    (path / name).mkdir(parents=True, exist_ok=True)
    for image in images:
        place = path / name / image.name
        if image.resolve() != place.resolve():
            shutil.copyfile(image, place)
        files[f"{name}/{image.name}"] = _digest(place)
    made = Reference(
        name=name,
        part_of=part_of or before.part_of,
        text=text or before.text or name.replace("-", " ").replace("_", " "),
        near=tuple(dict.fromkeys((*before.near, *near))),
        files=tuple(sorted(files.items())),
        source=source or before.source,
    )
    concepts[name] = made
    write(path, concepts)
    return made


def write(folder: Path, concepts: dict[str, Reference]) -> None:
    """Write a bank's index; it appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "tadasu_bank": FORMAT,
        "concepts": {name: each.as_json() for name, each in concepts.items()},
    }
    partial = folder / f"{INDEX}.partial"
    partial.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / INDEX)


def pictures_in(folder: str | Path) -> list[Path]:
    """The picture files of a folder, in order of their names.

    Raises:
        BadFile: there is no such folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise BadFile(f"There is no folder {shown(path, 300)}.")
    return sorted(file for file in path.iterdir() if file.suffix.lower() in PICTURES)


def default_folder() -> Path:
    """The user's own bank: ``$TADASU_BANK``, else a folder of the user's data."""
    own = os.environ.get("TADASU_BANK")
    if own:
        return Path(own)
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "tadasu" / "concepts"


def _reference(name: str, entry: dict[str, Any]) -> Reference:
    for file in entry["files"]:
        if Path(file).is_absolute() or ".." in Path(file).parts:
            raise ValueError(f"the picture {file!r} lies outside the bank")
    return Reference(
        name=name,
        part_of=str(entry.get("part_of", "")),
        text=str(entry.get("text", "")),
        near=tuple(entry.get("near", ())),
        files=tuple((str(file), str(digest)) for file, digest in entry["files"].items()),
        source=str(entry.get("source", "")),
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
