"""Guidance: rules that turn the denoiser's predictions at one step into one guided prediction.

Every rule is one file of this folder. ``tadasu.guidance.SafeLatentDiffusion`` and the other
classes are imported when they are first used, because the rules need torch.
"""

from __future__ import annotations

from typing import Any

from tadasu.guidance.registry import DEFAULT, find, names, parse

__all__ = ["DEFAULT", "find", "names", "parse"]


def __getattr__(name: str) -> Any:
    """Import the rule of that class name the first time somebody asks for it."""
    if not name.startswith("_") and name[0].isupper():
        if name in ("Rule", "Predictions", "Step", "Start"):
            from tadasu.guidance import rule

            return getattr(rule, name)
        for found in map(find, names()):
            if found.__name__ == name:
                globals()[name] = found
                return found
    raise AttributeError(f"module 'tadasu.guidance' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names, with the classes of the rules."""
    return sorted({*globals(), *(find(name).__name__ for name in names())})
