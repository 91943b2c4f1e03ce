"""Known files by their sketches, and what a new file is of them.

A hundred thousand entries are one matrix product (100,000 × 2,560 numbers, 512 MB in half
precision). A merge of known files is a sum of their sketches with weights ≥ 0, found one file after
the other (orthogonal matching pursuit) with the weights fitted anew each time (Lawson and Hanson's
non-negative least squares); what is left over is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

from tadasu import files
from tadasu.auditing.containers import Limits, open_file
from tadasu.auditing.lineage import GROUPS, SIZE, VERSION, Sketch
from tadasu.errors import BadFile, BadInput

Kind = Literal["identical", "copy", "derived", "merged", "none"]
KIND = "tadasu-lineage-index"
#: Share of a sketch's length below which what is left over is rounding (half precision: 0.001).
NOISE = 0.01


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """How alike is the same. Calibrated in ``bench/auditing_lineage.py``.

    Args:
        copy: cosine from which a file is the known one but for numerical noise.
        derived: cosine from which the known file is in it: re-ranked, or merged with something.
            Two separate trainings of the same thing reach 0.3 to 0.5.
        group: the same within one group of weights, whose estimate is noisier.
        parts: most known files that a merge is taken apart into.
    """

    copy: float = 0.95
    derived: float = 0.55
    group: float = 0.7
    parts: int = 4


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A known file.

    Attributes:
        name: how reports call it.
        digest: SHA-256 of its bytes.
        note: why it is known, for example the decision that banned it.
    """

    name: str
    digest: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One known file within a new one.

    Attributes:
        entry: the known file.
        cosine: how much of what the files before it leave over is this one.
        weight: its strength in the new file, relative to its own.
    """

    entry: Entry
    cosine: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class Match:
    """What a file is of the known ones.

    Attributes:
        kind: ``identical`` (same bytes), ``copy`` (same change but for scale and noise),
            ``derived`` (mostly or partly one known file), ``merged`` (several known files), or
            ``none``.
        parts: the known files, the strongest first.
        residual: share of the squared change that they do not explain, from 0 to 1.
        group: the kind of weights that decided where the whole did not; "" otherwise.
    """

    kind: Kind
    parts: tuple[Part, ...] = ()
    residual: float = 1.0
    group: str = ""

    @property
    def known(self) -> bool:
        """Whether any known file was recognised."""
        return self.kind != "none"


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """Known files.

    Args:
        entries: what they are called.
        rows: their sketches, one row each, of any length; single or half precision.
    """

    entries: tuple[Entry, ...]
    rows: Float[Tensor, "entries sketch"]

    @classmethod
    def of(cls, sketches: Iterable[Sketch], names: Sequence[str], notes: str = "") -> Index:
        """An index of sketches.

        Raises:
            BadInput: when names and sketches are not equally many.
        """
        found = list(sketches)
        if len(found) != len(names):
            raise BadInput(f"{len(found)} sketches and {len(names)} names.")
        entries = tuple(
            Entry(name=name, digest=sketch.digest, note=notes)
            for name, sketch in zip(names, found, strict=True)
        )
        rows = [sketch.values.flatten() for sketch in found]
        width = len(GROUPS) * SIZE
        return cls(entries=entries, rows=torch.stack(rows) if rows else torch.zeros(0, width))

    @cached_property
    def _lengths(self) -> Tensor:
        """Length of every row."""
        lengths: Tensor = self.rows.float().norm(dim=1).clamp_min(1e-30)
        return lengths

    @cached_property
    def _group_units(self) -> Tensor:
        """Every row, each group of it brought to length 1."""
        rows = self.rows.reshape(len(self.entries), len(GROUPS), SIZE)
        units: Tensor = rows / rows.float().norm(dim=2, keepdim=True).clamp_min(1e-30)
        return units

    @cached_property
    def _places(self) -> dict[str, int]:
        """Where each digest is."""
        return {entry.digest: at for at, entry in enumerate(self.entries)}

    def with_entry(self, sketch: Sketch, name: str, note: str = "") -> Index:
        """The index with one more file."""
        entry = Entry(name=name, digest=sketch.digest, note=note)
        row = sketch.values.flatten()[None].to(self.rows.dtype)
        return replace(self, entries=(*self.entries, entry), rows=torch.cat([self.rows, row]))

    def save(self, path: str | Path) -> None:
        """Write the index: sketches in half precision relative to their length, and the names."""
        length = self.rows.float().norm(dim=1, keepdim=True).clamp_min(1e-30)
        document = json.dumps([asdict(entry) for entry in self.entries]).encode()
        tensors = {
            "rows": (self.rows.float() / length).half(),
            "lengths": length[:, 0].contiguous(),
            "entries": torch.frombuffer(bytearray(document), dtype=torch.uint8),
        }
        files.save_tensors(path, tensors, {"kind": KIND, "version": str(VERSION)})

    @classmethod
    def load(cls, path: str | Path) -> Index:
        """Read an index.

        Raises:
            BadFile: when it is none, or of another version.
        """
        if not Path(path).exists():
            raise BadFile(f"There is no index of known files at {path}.")
        file = open_file(path, Limits(values=2**34))
        if file.metadata.get("kind") != KIND:
            raise BadFile(f"{path} is no index of known files.")
        if file.metadata.get("version") != str(VERSION):
            raise BadFile(f"{path} holds sketches of another version; build it anew.")
        if set(file.stored) != {"rows", "lengths", "entries"}:
            raise BadFile(f"{path} is damaged.")
        try:
            document = json.loads(bytes(file.get("entries").numpy()))
            entries = tuple(Entry(**entry) for entry in document)
        except (ValueError, TypeError, RecursionError) as error:
            raise BadFile(f"{path} is damaged.") from error
        rows = file.get("rows").float() * file.get("lengths")[:, None]
        if rows.shape != (len(entries), len(GROUPS) * SIZE):
            raise BadFile(f"{path} is damaged.")
        return cls(entries=entries, rows=rows)

    def match(self, sketch: Sketch, thresholds: Thresholds | None = None) -> Match:
        """What a file is of the known ones.

        Args:
            sketch: the file's.
            thresholds: how alike is the same.
        """
        limits = thresholds or Thresholds()
        if sketch.digest in self._places:
            part = Part(entry=self.entries[self._places[sketch.digest]], cosine=1.0, weight=1.0)
            return Match(kind="identical", parts=(part,), residual=0.0)
        query = sketch.values.flatten()
        if not self.entries or not float(query.norm()):
            return Match(kind="none")
        parts, residual = self._pursue(query, limits)
        if parts:
            kind: Kind = "merged" if len(parts) > 1 else "derived"
            if len(parts) == 1 and parts[0].cosine >= limits.copy:
                kind, residual = "copy", 1 - parts[0].cosine ** 2
            return Match(kind=kind, parts=tuple(parts), residual=residual)
        return self._by_group(sketch, limits)

    def _pursue(self, query: Tensor, limits: Thresholds) -> tuple[list[Part], float]:
        """Known files one after the other, as long as each is clearly in what is left."""
        rows = self.rows
        left, chosen, cosines = query, list[int](), list[float]()
        weights, whole = np.zeros(0), float(query.norm())
        while len(chosen) < min(limits.parts, len(self.entries)):
            size = float(left.norm())
            if size <= NOISE * whole:
                break
            cosine = (rows @ left.to(rows.dtype)).float() / (self._lengths * size)
            cosine[chosen] = -1.0
            best = int(cosine.argmax())
            if float(cosine[best]) < limits.derived:
                break
            chosen.append(best)
            cosines.append(float(cosine[best]))
            columns = rows[chosen].double().T.numpy()
            weights, _ = nnls(columns, query.double().numpy())
            left = query - torch.from_numpy(columns @ weights).float()
        parts = [
            Part(entry=self.entries[at], cosine=cosine, weight=float(weight))
            for at, cosine, weight in zip(chosen, cosines, weights, strict=True)
        ]
        return parts, min(1.0, (float(left.norm()) / whole) ** 2)

    def _by_group(self, sketch: Sketch, limits: Thresholds) -> Match:
        """A known file that is recognised in one kind of weights only."""
        query = sketch.values / sketch.values.norm(dim=1, keepdim=True).clamp_min(1e-30)
        units = self._group_units
        cosine = torch.stack(
            [(units[:, g] @ query[g].to(units.dtype)).float() for g in range(len(GROUPS))], dim=1
        )
        flat = int(cosine.argmax())
        at, group = divmod(flat, len(GROUPS))
        best = float(cosine[at, group])
        if best < limits.group:
            return Match(kind="none")
        known = self.rows[at].float().reshape(len(GROUPS), SIZE)[group]
        weight = best * float(sketch.values[group].norm() / known.norm())
        part = Part(entry=self.entries[at], cosine=best, weight=weight)
        return Match(kind="derived", parts=(part,), group=GROUPS[group])
