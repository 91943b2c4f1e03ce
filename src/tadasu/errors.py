"""What can go wrong, as one tree.

::

    TadasuError
    ├── BadInput        what was given cannot be used                      (CLI exit code 2)
    │   ├── UnknownName     a name that no list contains; carries the near misses
    │   └── BadFile         a file or folder that is damaged, incomplete or refused
    ├── MissingPart     an extra, a model or a server is not there          (CLI exit code 3)
    └── RunFailed       the work started and could not be finished honestly (CLI exit code 4)

Every message says what was given, what was expected and what to do.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable
from types import ModuleType


class TadasuError(Exception):
    """Any failure that this library reports on purpose.

    Attributes:
        exit_code: the exit code of the command line for this kind of failure.
    """

    exit_code = 2


class BadInput(TadasuError, ValueError):
    """What was given cannot be used; nothing was written."""


class UnknownName(BadInput):
    """A name that the list of known names does not contain.

    Args:
        kind: what was looked for, for example ``"policy"``.
        given: the name as it was given.
        known: every name that would have been understood.
    """

    def __init__(self, kind: str, given: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.given = given
        self.known = tuple(sorted(known))
        near = difflib.get_close_matches(given, self.known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        listing = ", ".join(self.known) if self.known else "none"
        super().__init__(f"Unknown {kind} {shown(given)}.{hint} Known: {listing}.")


class BadFile(BadInput):
    """A file or folder that is damaged, incomplete or refused."""


class MissingPart(TadasuError):
    """An optional part is not installed, not downloaded or not reachable."""

    exit_code = 3

    @classmethod
    def extra(cls, feature: str, extra: str) -> MissingPart:
        """Names the feature that was asked for and the line that installs it.

        >>> str(MissingPart.extra("the nudenet detector", "nudenet"))
        "the nudenet detector needs an extra. Install it with: pip install 'tadasu[nudenet]'"
        """
        return cls(f"{feature} needs an extra. Install it with: pip install 'tadasu[{extra}]'")

    @classmethod
    def of(cls, error: ModuleNotFoundError) -> MissingPart | None:
        """The missing extra behind a failed import; None where no extra brings the module.

        >>> str(MissingPart.of(ModuleNotFoundError("No module named 'torch'", name="torch")))
        "This needs the package torch. Install it with: pip install 'tadasu[diffusers]'"
        >>> MissingPart.of(ModuleNotFoundError("No module named 'typo'", name="typo")) is None
        True
        """
        module = (error.name or "").partition(".")[0]
        extra = _extras().get(module)
        if extra is None:
            return None
        return cls(
            f"This needs the package {module}. Install it with: pip install 'tadasu[{extra}]'"
        )


class RunFailed(TadasuError):
    """The work started and could not be finished honestly, so its result is withheld."""

    exit_code = 4


def imported(module: str) -> ModuleType:
    """A module that may need an extra.

    Raises:
        MissingPart: a package that it needs is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingPart.of(error) or error from error


def _extras() -> dict[str, str]:
    """The first extra that brings each module, as this package's own metadata declare it."""
    from importlib import metadata

    found: dict[str, str] = {}
    for line in metadata.requires("tadasu") or ():
        parts = re.match(r"([\w.-]+)[^;]*;\s*extra == ['\"]([\w-]+)['\"]", line)
        if parts:
            module = parts[1].lower().replace("-", "_").removesuffix("_python")
            found.setdefault(module, parts[2])
    return found


def shown(value: object, limit: int = 60) -> str:
    """A value as an error message may show it: quoted, without control characters, cut.

    >>> shown("a" * 100, limit=10)
    "'aaaaaaaaaa…' (100 characters)"
    """
    text = str(value)
    cut = text if len(text) <= limit else text[:limit] + "…"
    tail = "" if len(text) <= limit else f" ({len(text):,} characters)"
    return repr(cut) + tail
