"""Original names of transformers whose roots mean different things in different families.

FLUX.2 and FLUX share ``double_blocks``, Z-Image and Lumina share ``layers``, Wan's ``blocks`` and
Qwen-Image's ``img_in`` mean other weights elsewhere. So the family of a file is told first: by the
base where there is one, else by names and shapes that only one family has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tadasu.auditing.base import Base

Rows = tuple[tuple[int, int], ...]
#: (part or "" for the caller's, name, rows, whole)
Place = tuple[str, str, Rows, int]
#: Outputs and inputs of a module of the file, where its tensors tell them.
Sizes = Callable[[str], tuple[int, int] | None]


@dataclass(frozen=True)
class Style:
    """Whose original names a file uses.

    Attributes:
        family: ``flux2``, ``qwen``, ``z-image``, ``lumina``, ``wan``, ``sd3`` or ``""``.
        share: query rows per key row of a fused attention (Lumina's grouped queries).
    """

    family: str = ""
    share: int = 1


#: (family, pattern of a canonical name that only its base has).
_BASES = (
    ("flux2", r"transformer\.single_transformer_blocks\.\d+\.attn\.to_qkv_mlp_proj"),
    ("qwen", r"transformer\.transformer_blocks\.\d+\.img_mlp\..+"),
    ("lumina", r"transformer\.layers\.\d+\.attn\.to_q"),
    ("z-image", r"transformer\.layers\.\d+\.attention\.to_q"),
    ("wan", r"transformer\.blocks\.\d+\.attn2\.to_k"),
    ("sd3", r"transformer\.pos_embed\.proj"),
)
#: (family, pattern of a file's module name, dots as underscores); the first found decides.
_FILES = (
    ("sd3", r"(?:^|_)joint_blocks_\d"),
    ("wan", r"(?:^|_)blocks_\d+_(?:self_attn|cross_attn)_[qkvo](?:_|$)"),
    ("wan", r"(?:^|_)blocks_\d+_ffn_[02]$"),
    ("qwen", r"(?:^|_)transformer_blocks_\d+_(?:img|txt)_(?:mlp|mod)_"),
    ("flux2", r"(?:single_stream_modulation|double_stream_modulation_img)"),
    ("flux2", r"single_transformer_blocks_\d+_attn_to_qkv_mlp_proj$"),
    ("lumina", r"(?:^|_)(?:layers|noise_refiner)_\d+_adaLN_modulation_1$"),
    ("z-image", r"(?:^|_)(?:layers|noise_refiner)_\d+_adaLN_modulation_0$"),
)
_LAYERS = r"(?:^|_)(?:layers|noise_refiner|context_refiner)_\d+_(?:attention|feed_forward)_"


def style_of(base: Base | None, modules: Iterable[str], sizes: Sizes) -> Style:
    """The family whose original names a file's modules have.

    Args:
        base: decides where it is given.
        modules: names of the file's modules.
        sizes: outputs and inputs of each.
    """
    flat = {name.replace(".", "_"): name for name in modules}
    family = _of_base(base) or _of_names(flat, sizes)
    ratios = [
        found[0] / found[1]
        for key, name in flat.items()
        if key.endswith("attention_qkv") and (found := sizes(name)) is not None
    ]
    # (d + 2 d/k) / d outputs per input, for k query heads per key head.
    share = round(2 / (ratios[0] - 1)) if ratios and 1 < ratios[0] < 3 else 1
    return Style(family, max(1, share))


def _of_base(base: Base | None) -> str:
    for family, pattern in _BASES if base is not None else ():
        matcher = re.compile(pattern)
        if base is not None and any(matcher.fullmatch(name) for name in base.shapes):
            return family
    return ""


def _of_names(flat: Mapping[str, str], sizes: Sizes) -> str:
    for family, pattern in _FILES:
        matcher = re.compile(pattern)
        if any(matcher.search(key) for key in flat):
            return family
    for key, name in flat.items():
        found = sizes(name)
        if found is not None and _flux2(key, *found):
            return "flux2"
        if found is not None and key.endswith("attention_qkv") and found[0] != 3 * found[1]:
            return "lumina"
    if any(re.search(_LAYERS, key) for key in flat):
        return "z-image"
    # FLUX calls its blocks double_blocks wherever it says img_in.
    return "qwen" if any("transformer_blocks_" in key for key in flat) else ""


def _flux2(key: str, outputs: int, inputs: int) -> bool:
    """Whether a shape is one of FLUX.2's wider, gated feed-forwards (FLUX: 7, 5 and 4 widths)."""
    if re.search(r"single_blocks_\d+_linear1$", key):
        return outputs == 9 * inputs
    if re.search(r"single_blocks_\d+_linear2$", key):
        return inputs == 4 * outputs
    if re.search(r"double_blocks_\d+_(?:img|txt)_mlp_0$", key):
        return outputs == 6 * inputs
    if re.search(r"double_blocks_\d+_(?:img|txt)_mlp_2$", key):
        return inputs == 3 * outputs
    return False


_FLUX2_SINGLES = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
    "guidance_in.in_layer": "time_guidance_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_guidance_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
    "single_stream_modulation.lin": "single_stream_modulation.linear",
    "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
    "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
}
_FLUX2_BLOCKS = {
    "double": {
        "img_attn.proj": "attn.to_out.0",
        "txt_attn.proj": "attn.to_add_out",
        "img_mlp.0": "ff.linear_in",
        "img_mlp.2": "ff.linear_out",
        "txt_mlp.0": "ff_context.linear_in",
        "txt_mlp.2": "ff_context.linear_out",
        "img_attn.norm.query_norm": "attn.norm_q",
        "img_attn.norm.key_norm": "attn.norm_k",
        "txt_attn.norm.query_norm": "attn.norm_added_q",
        "txt_attn.norm.key_norm": "attn.norm_added_k",
    },
    "single": {
        "linear1": "attn.to_qkv_mlp_proj",
        "linear2": "attn.to_out",
        "norm.query_norm": "attn.norm_q",
        "norm.key_norm": "attn.norm_k",
    },
}
_FUSED = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "attn.to_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "attn.to_added_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_WAN_SINGLES = {
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "patch_embedding": "patch_embedding",
}
_WAN_BLOCK = {
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "norm3": "norm2",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
} | {
    f"{ours}_attn.{old}": f"{theirs}.{new}"
    for ours, theirs in (("self", "attn1"), ("cross", "attn2"))
    for old, new in (
        ("q", "to_q"),
        ("k", "to_k"),
        ("v", "to_v"),
        ("o", "to_out.0"),
        ("norm_q", "norm_q"),
        ("norm_k", "norm_k"),
    )
}
_LUMINA_SINGLES = {
    "x_embedder": "x_embedder",
    "t_embedder.mlp.0": "time_caption_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_caption_embed.timestep_embedder.linear_2",
    "cap_embedder.0": "time_caption_embed.caption_embedder.0",
    "cap_embedder.1": "time_caption_embed.caption_embedder.1",
    "final_layer.linear": "norm_out.linear_2",
    "final_layer.adaLN_modulation.1": "norm_out.linear_1",
}
_LUMINA_BLOCK = {
    "attention.out": "attn.to_out.0",
    "attention.q_norm": "attn.norm_q",
    "attention.k_norm": "attn.norm_k",
    "adaLN_modulation.1": "norm1.linear",
    "feed_forward.w1": "feed_forward.linear_1",
    "feed_forward.w2": "feed_forward.linear_2",
    "feed_forward.w3": "feed_forward.linear_3",
}
_Z_IMAGE_BLOCK = {
    "attention.out": "attention.to_out.0",
    "attention.q_norm": "attention.norm_q",
    "attention.k_norm": "attention.norm_k",
    **{f"attention.to.{each}": f"attention.to_{each}" for each in ("q", "k", "v", "out.0")},
}
_SD3_SINGLES = {
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
}
#: Roots that are the same weight in Qwen-Image's own names.
_QWEN_ROOTS = ("img_in", "txt_in", "txt_norm", "proj_out", "norm_out", "time_text_embed")


def from_style(name: str, style: Style) -> list[Place]:
    """What diffusers calls a weight under a family's original name; empty when it is none.

    >>> from_style("single_blocks.3.linear1", Style("flux2"))[0][1]
    'single_transformer_blocks.3.attn.to_qkv_mlp_proj'
    >>> [place[2:] for place in from_style("layers.0.attention.qkv", Style("lumina", 3))]
    [(((0, 3),), 5), (((3, 4),), 5), (((4, 5),), 5)]
    """
    reader = _READERS.get(style.family)
    return reader(name, style) if reader else []


def _one(target: str) -> list[Place]:
    return [("transformer", target, (), 1)]


def _parts(stem: str, names: Iterable[str], share: int = 1) -> list[Place]:
    """Queries, keys and values, stacked; ``share`` rows of queries for each of keys."""
    whole = share + 2
    rows = ((0, share), (share, share + 1), (share + 1, whole))
    return [
        ("transformer", f"{stem}.{to}", (piece,), whole)
        for to, piece in zip(names, rows, strict=True)
    ]


def _flux2_name(name: str, style: Style) -> list[Place]:
    del style
    if name in _FLUX2_SINGLES:
        return _one(_FLUX2_SINGLES[name])
    match = re.fullmatch(r"(double|single)_blocks\.(\d{1,4})\.(.+)", name)
    if match is None:
        match = re.fullmatch(r"(transformer)_blocks\.(\d{1,4})\.(attn\.to_(?:added_)?qkv)", name)
        return _parts(f"transformer_blocks.{match[2]}", _FUSED[match[3]]) if match else []
    kind, number, rest = match.groups()
    stem = f"{'single_' if kind == 'single' else ''}transformer_blocks.{number}"
    if kind == "double" and rest in _FUSED:
        return _parts(stem, _FUSED[rest])
    target = _FLUX2_BLOCKS[kind].get(rest.removesuffix(".scale"))
    return _one(f"{stem}.{target}") if target else []


def _wan_name(name: str, style: Style) -> list[Place]:
    del style
    if name in _WAN_SINGLES:
        return _one(_WAN_SINGLES[name])
    match = re.fullmatch(r"blocks\.(\d{1,4})\.(.+)", name)
    target = _WAN_BLOCK.get(match[2]) if match else None
    return _one(f"blocks.{match[1]}.{target}") if match and target else []


def _layers(name: str) -> tuple[str, str] | None:
    match = re.fullmatch(r"((?:layers|noise_refiner|context_refiner)\.\d{1,4})\.(.+)", name)
    return (match[1], match[2]) if match else None


def _lumina_name(name: str, style: Style) -> list[Place]:
    if name in _LUMINA_SINGLES:
        return _one(_LUMINA_SINGLES[name])
    found = _layers(name)
    if found is None:
        return []
    stem, rest = found
    if rest == "attention.qkv":
        return _parts(stem, ("attn.to_q", "attn.to_k", "attn.to_v"), style.share)
    return _one(f"{stem}.{_LUMINA_BLOCK[rest]}") if rest in _LUMINA_BLOCK else []


def _z_image_name(name: str, style: Style) -> list[Place]:
    for old, new in (("x_embedder", "all_x_embedder.2-1"), ("final_layer", "all_final_layer.2-1")):
        if name == old or name.startswith(f"{old}."):
            return _one(name.replace(old, new, 1))
    found = _layers(name)
    if found is None:
        return []
    stem, rest = found
    if rest == "attention.qkv":
        names = ("attention.to_q", "attention.to_k", "attention.to_v")
        return _parts(stem, names, style.share)
    return _one(f"{stem}.{_Z_IMAGE_BLOCK[rest]}") if rest in _Z_IMAGE_BLOCK else []


def _qwen_name(name: str, style: Style) -> list[Place]:
    del style
    return _one(name) if name.partition(".")[0] in _QWEN_ROOTS else []


def _sd3_name(name: str, style: Style) -> list[Place]:
    del style
    return _one(_SD3_SINGLES[name]) if name in _SD3_SINGLES else []


_READERS: Mapping[str, Callable[[str, Style], list[Place]]] = {
    "flux2": _flux2_name,
    "wan": _wan_name,
    "lumina": _lumina_name,
    "z-image": _z_image_name,
    "qwen": _qwen_name,
    "sd3": _sd3_name,
}
