"""Which base an adapter was made for, told from names and shapes; ``unknown`` rather than a guess.

What a file says about its base is often wrong (a widespread trainer writes ``sd_1.5`` on FLUX
files), so shapes decide and claims are compared with them. Derivatives of one architecture (Pony,
Illustrious, … of SDXL) have the same shapes and cannot be told apart here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tadasu.auditing.adapter import Adapter

UNKNOWN = "unknown"

#: Widths of a U-Net's levels, and the width of the text that its cross-attention reads.
_UNETS: Mapping[int, tuple[str, frozenset[int]]] = {
    768: ("sd1", frozenset({320, 640, 1280})),
    1024: ("sd2", frozenset({320, 640, 1280})),
    2048: ("sdxl", frozenset({640, 1280})),
    1280: ("sdxl-refiner", frozenset({768, 1536})),
}
#: Width of a transformer with two streams, without blocks of a single stream.
_TWO_STREAMS = {1536: "sd3", 2432: "sd3"}
#: Widths of textual-inversion vectors per text encoder.
_EMBEDDINGS = {
    (("text_encoder", 768),): "sd1",
    (("text_encoder", 1024),): "sd2",
    (("text_encoder", 768), ("text_encoder_2", 1280)): "sdxl",
}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Claim and finding about the base, side by side.

    Attributes:
        declared: family of the base that the file names.
        detected: family told from shapes.
        conflict: whether both are known and differ.
    """

    declared: str
    detected: str

    @property
    def conflict(self) -> bool:
        """Whether both are known and differ."""
        return UNKNOWN not in (self.declared, self.detected) and self.declared != self.detected


def compared(adapter: Adapter) -> Agreement:
    """What the file says about its base beside what its shapes say."""
    return Agreement(declared=adapter.metadata.family, detected=adapter.family)


def family(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Base family from canonical names and weight shapes.

    >>> family({"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (1280, 768)})
    'sd1'
    >>> family({"unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k": (256, 256)})
    'unknown'
    """
    found = {_of(name, shape) for name, shape in shapes.items()} - {""}
    if len(found) == 1:
        return found.pop()
    return UNKNOWN


def _of(name: str, shape: tuple[int, ...]) -> str:
    """The family that one weight alone proves; "" when several have such a weight."""
    part = name.partition(".")[0]
    if part == "unet":
        return _unet(name, shape)
    if part == "transformer":
        return _transformer(name, shape)
    return ""


def _unet(name: str, shape: tuple[int, ...]) -> str:
    if name.endswith((".attn2.to_k", ".attn2.to_v")) and len(shape) == 2:
        found = _UNETS.get(shape[1])
        # Widths that no such model has are a family of their own, not the nearest one.
        return found[0] if found and shape[0] in found[1] else UNKNOWN
    if name == "unet.add_embedding.linear_1" and shape == (1280, 2816):
        return "sdxl"
    return ""


def _transformer(name: str, shape: tuple[int, ...]) -> str:
    width = shape[0] if shape else 0
    if ".single_transformer_blocks." in f".{name}":
        if name.endswith(".attn.to_qkv_mlp_proj"):
            return "flux2"
        if name.endswith((".attn.to_q", ".attn.to_k", ".attn.to_v", ".proj_out")):
            return "flux" if width == 3072 else UNKNOWN
        if name.endswith(".proj_mlp"):
            return "flux" if shape == (12288, 3072) else UNKNOWN
        return ""
    if name.endswith((".attn.add_q_proj", ".attn.add_k_proj", ".attn.add_v_proj")):
        return _TWO_STREAMS.get(width, "flux" if width == 3072 else UNKNOWN)
    if name.startswith("transformer.transformer_blocks.") and name.endswith(".attn.to_q"):
        return {1536: "sd3", 2432: "sd3", 3072: "flux"}.get(width, UNKNOWN)
    return ""


def embedding_family(widths: Mapping[str, int]) -> str:
    """Base family of textual-inversion vectors.

    >>> embedding_family({"text_encoder": 768, "text_encoder_2": 1280})
    'sdxl'
    """
    return _EMBEDDINGS.get(tuple(sorted(widths.items())), UNKNOWN)
