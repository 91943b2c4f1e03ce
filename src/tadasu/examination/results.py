"""Results that are kept, so that a folder of thousands can be stopped and taken up again.

A result is keyed by everything it depends on: the file's content, the base, the bank, the policy,
the settings and this library's version. A file that was renamed is not examined again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tadasu
from tadasu.auditing.findings import Finding

#: Files beyond this size are hashed by the reader alone, or refused by it.
MAX_BYTES = 32 * 2**30


@dataclass(frozen=True, kw_only=True)
class Results:
    """A folder of results.

    Attributes:
        folder: where; None keeps nothing.
        about: base, bank, policy and settings, as one text.
    """

    folder: Path | None
    about: str

    def key(self, digests: Sequence[str]) -> str:
        """Name of the result of some file contents."""
        text = "|".join((*digests, self.about, tadasu.__version__))
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, digests: Sequence[str], label: str) -> list[Finding] | None:
        """What is kept for a file, under the name it has now; None where nothing is."""
        if self.folder is None or not all(digests):
            return None
        file = self.folder / f"{self.key(digests)}.json"
        try:
            plain = json.loads(file.read_text(encoding="utf-8"))
            found = [replace(Finding.from_json(each), file=label) for each in list(plain)]
        except (OSError, ValueError, KeyError, TypeError):
            return None  # absent or damaged: the file is examined again
        return found or None

    def put(self, digests: Sequence[str], findings: Sequence[Finding]) -> None:
        """Keep findings; the file appears whole or not at all."""
        if self.folder is None or not all(digests):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{self.key(digests)}.json"
        partial = file.with_suffix(f".{os.getpid()}.partial")
        text = json.dumps([each.as_json() for each in findings], allow_nan=False)
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes; empty for what is no plain file or is too large."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_BYTES:
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
