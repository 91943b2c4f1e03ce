"""Edits at run time: a map on the text that the denoiser is given, while a ``with`` lasts.

Two tenants can use two edits of one model in memory, one call after the other. Nothing is written;
when the block ends pictures are the same bits as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tadasu.backends.diffusers.attach import Acting, acting, block
from tadasu.backends.diffusers.context.fold import matching
from tadasu.backends.diffusers.context.layer import check
from tadasu.editing.layer_map import LayerMap


@contextmanager
def applied(pipe: Any, *edits: Mapping[str, Any]) -> Iterator[Acting]:
    """Let a pipeline mean something else inside the block.

    Args:
        pipe: any supported pipeline.
        edits: maps per site; several are applied in the order given.

    Yields:
        Acting: its ``record`` says what the edits did in the latest call.

    Raises:
        BadInput: when a site or a width does not fit; nothing is changed then.
        RunFailed: another thread has the pipeline and does not let go; or, when the pipeline is
            called, an edit did not act on every step.
    """
    for maps in edits:
        matching(pipe, {site: m for site, m in maps.items() if not isinstance(m, LayerMap)})
        for edit in maps.values():
            if isinstance(edit, LayerMap):
                check(pipe, edit)
    merged = [Acting(maps) for maps in edits]
    with block(pipe, edits=merged):
        yield merged[-1] if merged else Acting({})


__all__ = ["acting", "applied"]
