"""Memory of an accelerator that ran out."""

from __future__ import annotations

import gc

import torch


def release() -> None:
    """Give back what nobody holds any more, so that a smaller batch may fit."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
