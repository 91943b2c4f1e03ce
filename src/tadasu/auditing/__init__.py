"""Auditing: what did a shared file teach the model?

Readers turn any adapter file into one update per base weight; probes measure; deciders decide. No
reader executes a file's content. Names are imported when they are first used, because they need
torch.
"""

from __future__ import annotations

from typing import Any

from tadasu.errors import imported

_ELSEWHERE = {
    "Adapter": "adapter",
    "Base": "base",
    "Dense": "adapter",
    "Factored": "adapter",
    "Index": "lineage_index",
    "Limits": "containers",
    "Metadata": "metadata",
    "Update": "adapter",
    "read": "read",
    "sketch": "lineage",
}


def __getattr__(name: str) -> Any:
    """Import a public name the first time somebody asks for it."""
    if name in _ELSEWHERE:
        return getattr(imported(f"tadasu.auditing.{_ELSEWHERE[name]}"), name)
    raise AttributeError(f"module 'tadasu.auditing' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Public names."""
    return sorted({*globals(), *_ELSEWHERE})
