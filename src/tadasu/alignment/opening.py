"""Who turns a reference (folder, hub id, web address) into an engine or an evaluator.

This room knows no library that loads weights; the root of the package says which module does.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast

from tadasu.errors import MissingPart

if TYPE_CHECKING:
    from tadasu.alignment.engine import Engine
    from tadasu.alignment.evaluators.evaluator import ImageCheck, TextCheck
    from tadasu.policy import Policy

_MODULES: list[str] = []


class Opener(Protocol):
    """Opens references to models; `tadasu.backends.aligners` does."""

    def engine(self, ref: str, *, device: str | None) -> Engine:
        """The engine behind a folder, hub id or web address."""
        ...

    def answers(self, ref: str, *, threshold: float | None, device: str | None) -> TextCheck:
        """The answer evaluator in a folder or behind a hub id."""
        ...

    def images(
        self, ref: str, *, threshold: float | None, policy: Policy | None, device: str | None
    ) -> ImageCheck:
        """The image evaluator made of a CLIP."""
        ...

    def beside(self, ref: str) -> Mapping[str, str]:
        """Folders called ``evaluator`` and ``clip`` that lie beside a model's folder."""
        ...


def register(module: str) -> None:
    """Says which module opens references; it is imported when one is opened."""
    _MODULES[:] = [module]


def opener() -> Opener:
    """Who opens references.

    Raises:
        MissingPart: nobody was registered.
    """
    if not _MODULES:
        raise MissingPart("Nothing here opens models by reference; hand in an engine.")
    return cast("Opener", importlib.import_module(_MODULES[0]))
