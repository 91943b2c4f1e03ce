"""An edit as a LoRA file, in the layouts of diffusers and of kohya's scripts (ComfyUI, A1111).

``W M = W + (W A) Bᵀ`` is a LoRA with ``up = W A`` and ``down = Bᵀ``: exact, once per layer, with
the rank of the edit. Factors are balanced so that neither overflows half precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tadasu import files
from tadasu.backends.diffusers.context.fold import Maps, matching
from tadasu.backends.diffusers.context.ports import Port, denoiser_of
from tadasu.editing.context_map import ContextMap
from tadasu.errors import BadInput, UnknownName

Layout = Literal["diffusers", "kohya"]


def tensors(pipe: Any, maps: Maps, layout: str) -> dict[str, Tensor]:
    """The file's tensors, float32.

    Args:
        pipe: the model the LoRA is for; its weights enter the factors.
        maps: a context map per site.
        layout: ``diffusers`` or ``kohya``.

    Raises:
        UnknownName: for another layout.
        BadInput: when a map cannot be written as a LoRA (a gated map, or a rank of 0), or when
            the family has no kohya layout.
    """
    if layout not in get_args(Layout):
        raise UnknownName("LoRA layout", layout, get_args(Layout))
    _check(pipe, maps, layout)
    prefix = "unet" if hasattr(pipe, "unet") else "transformer"
    result: dict[str, Tensor] = {}
    for site, port in matching(pipe, maps):
        down, up = factors(maps[site], port)
        if layout == "diffusers":
            result[f"{prefix}.{port.path}.lora_A.weight"] = down
            result[f"{prefix}.{port.path}.lora_B.weight"] = up
        else:
            name = f"lora_unet_{port.path.replace('.', '_')}"
            result[f"{name}.lora_down.weight"] = down
            result[f"{name}.lora_up.weight"] = up
            result[f"{name}.alpha"] = torch.tensor(float(down.shape[0]))
    return result


def export(pipe: Any, maps: Maps, path: str | Path, layout: str = "diffusers") -> None:
    """Write a LoRA file that ``pipe.load_lora_weights`` reads."""
    files.save_tensors(path, tensors(pipe, maps, layout), {"format": "pt"})


def factors(edit: ContextMap, port: Port) -> tuple[Tensor, Tensor]:
    """``down`` (rank, inputs) and ``up`` (outputs, rank) of one layer."""
    weight = port.values.to("cpu", torch.float64)
    small = edit.compressed()
    up = weight[:, : port.width] @ small.A
    down = torch.zeros(small.rank, weight.shape[1], dtype=torch.float64)
    down[:, : port.width] = small.B.T
    size = (up.norm(dim=0) / down.norm(dim=1).clamp_min(1e-30)).clamp(1e-12, 1e12).sqrt()
    return (down * size[:, None]).float().contiguous(), (up / size).float().contiguous()


def _check(pipe: Any, maps: Mapping[str, object], layout: str) -> None:
    for site, edit in maps.items():
        if not isinstance(edit, ContextMap):
            raise BadInput(
                f"The {site} map acts only where its concepts are present, which no LoRA can. "
                "Export the folded form: solve without 'conditional'."
            )
        if edit.compressed().rank == 0:
            raise BadInput(f"The {site} map changes nothing, so there is nothing to export.")
    if layout == "kohya" and (not hasattr(pipe, "unet") or "pooled" in maps):
        kind = type(denoiser_of(pipe)).__name__
        raise BadInput(
            f"The kohya layout has no names for every layer this edit touches in {kind}; "
            "use the diffusers layout, or edit the context only."
        )
