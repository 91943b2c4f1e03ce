"""Where text enters a denoiser, for every pipeline family; the only list of module names.

=====================  ==============================  ======================================
family                 context                         pooled
=====================  ==============================  ======================================
SD 1.x, 2.x            every ``attn2.to_k``, ``to_v``  none
SDXL                   every ``attn2.to_k``, ``to_v``  first columns of ``add_embedding``
SD3, Flux              ``context_embedder``            ``time_text_embed.text_embedder``
=====================  ==============================  ======================================

The joint-attention models read the text through one biased layer. A map acts on what enters it,
``W (M x) + b``, so the bias is left alone; the published script adds it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tadasu.backends.diffusers.parts import unwrapped
from tadasu.backends.diffusers.weights import on_disk, value
from tadasu.errors import BadInput

Part = Literal["k", "v", "embedder", "pooled"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Port:
    """One linear layer that reads a site.

    Args:
        path: dotted name inside the denoiser.
        layer: the layer itself; a LoRA wrapper counts as its layer.
        part: what the layer computes.
        width: how many of the layer's inputs, from the first on, are the site's.
        root: the denoiser.
    """

    path: str
    layer: nn.Module
    part: Part
    width: int
    root: nn.Module

    @property
    def values(self) -> Tensor:
        """The plain weight's values, wherever offloading keeps them; to read, not to write.

        Raises:
            BadInput: as for ``weight``, or the values cannot be found.
        """
        return value(self.layer, "weight", self.weight, on_disk(self.root))

    @property
    def weight(self) -> Tensor:
        """The plain weight, to fold into.

        Raises:
            BadInput: when the layer is wrapped or quantised, so that folding would change
                something else as well.
        """
        if type(self.layer) is not nn.Linear:
            raise BadInput(
                f"Layer {self.path} is a {type(self.layer).__name__}, not a plain linear layer. "
                "Unload LoRA files before folding, or use the edit at run time."
            )
        return self.layer.weight


def denoiser_of(pipe: Any) -> nn.Module:
    """The pipeline's U-Net or transformer.

    Raises:
        BadInput: when it has neither.
    """
    for name in ("unet", "transformer"):
        found = unwrapped(getattr(pipe, name, None))
        if isinstance(found, nn.Module):
            return found
    raise BadInput(
        f"{type(pipe).__name__} has neither a U-Net nor a transformer, so it cannot be edited."
    )


def ports(pipe: Any) -> Mapping[str, tuple[Port, ...]]:
    """Every layer through which text enters, per site.

    Raises:
        BadInput: when no such layer is found; an edit that changes nothing is an error.
    """
    denoiser = denoiser_of(pipe)
    modules = dict(denoiser.named_modules())
    made = partial(_port, denoiser)
    context = [
        made(name, layer, "k" if name.endswith("k") else "v")
        for name, layer in modules.items()
        if _reads_text(name)
    ]
    if "context_embedder" in modules:
        context.append(made("context_embedder", modules["context_embedder"], "embedder"))
    if not context:
        raise BadInput(
            f"No cross-attention or context embedder was found in {type(pipe).__name__}; "
            "this family cannot be edited."
        )
    found = {"context": tuple(context)}
    pooled = _pooled(pipe, modules, made)
    return found | ({"pooled": (pooled,)} if pooled else {})


def gram(some: tuple[Port, ...]) -> Float[Tensor, "width width"]:
    """Sum of ``WᵀW`` over layers, float64; all that solvers ever need of the weights.

    Each product is taken in single precision at least: it ranks directions and texts, and on SDXL
    it is as much work as folding.
    """
    width = some[0].width
    total = torch.zeros(width, width, dtype=torch.float64)
    for port in some:
        weight = port.values[:, :width].cpu()
        exact = weight.to(torch.promote_types(weight.dtype, torch.float32))
        total += exact.T @ exact
    return total


def _reads_text(name: str) -> bool:
    return "attn2" in name.split(".") and name.endswith(("attn2.to_k", "attn2.to_v"))


def _port(
    root: nn.Module, name: str, layer: nn.Module, part: Part, width: int | None = None
) -> Port:
    inputs = width or int(layer.in_features)  # type: ignore[arg-type]
    return Port(path=name, layer=layer, part=part, width=inputs, root=root)


def _pooled(pipe: Any, modules: Mapping[str, nn.Module], made: Callable[..., Port]) -> Port | None:
    if (layer := modules.get("time_text_embed.text_embedder.linear_1")) is not None:
        return made("time_text_embed.text_embedder.linear_1", layer, "pooled")
    layer = modules.get("add_embedding.linear_1")
    second = getattr(pipe, "text_encoder_2", None)
    if layer is None or second is None:
        return None
    # SDXL appends the embedded sizes and crops to the pooled text; only the text's columns are it.
    return made("add_embedding.linear_1", layer, "pooled", int(second.config.projection_dim))
