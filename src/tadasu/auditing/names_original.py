"""Names of the original checkpoints, as diffusers calls the same weights.

U-Nets of Stable Diffusion 1, 2 and XL (``input_blocks``), FLUX (``double_blocks``), Stable
Diffusion 3 (``joint_blocks``) and OpenCLIP text encoders (``resblocks``). Where the original fuses
several weights into one, the rows of each are told.
"""

from __future__ import annotations

import re

from tadasu.auditing.names_transformers import Place

ORIGINAL_ROOTS = frozenset(
    """input_blocks middle_block output_blocks time_embed label_emb out double_blocks single_blocks
    img_in txt_in time_in vector_in guidance_in final_layer joint_blocks""".split()
)

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_UNET_SINGLES = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_FLUX_SINGLES = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
_FLUX_DOUBLE = {
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "proj_lora1": "attn.to_out.0",
    "proj_lora2": "attn.to_add_out",
}
_FLUX_FUSED = {
    "img_attn.qkv": ("to_q", "to_k", "to_v"),
    "txt_attn.qkv": ("add_q_proj", "add_k_proj", "add_v_proj"),
    "qkv_lora1": ("to_q", "to_k", "to_v"),
    "qkv_lora2": ("add_q_proj", "add_k_proj", "add_v_proj"),
}
_SD3 = {
    "x_block.attn.proj": "attn.to_out.0",
    "x_block.attn2.proj": "attn2.to_out.0",
    "context_block.attn.proj": "attn.to_add_out",
    "x_block.mlp.fc1": "ff.net.0.proj",
    "x_block.mlp.fc2": "ff.net.2",
    "context_block.mlp.fc1": "ff_context.net.0.proj",
    "context_block.mlp.fc2": "ff_context.net.2",
    "x_block.adaLN_modulation.1": "norm1.linear",
    "context_block.adaLN_modulation.1": "norm1_context.linear",
    "x_block.attn.ln_q": "attn.norm_q",
    "x_block.attn.ln_k": "attn.norm_k",
    "context_block.attn.ln_q": "attn.norm_added_q",
    "context_block.attn.ln_k": "attn.norm_added_k",
}
_OPEN_CLIP = {
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
}
_BIAS = ".bias"


def from_original(name: str, layers_per_block: int) -> list[Place]:
    """What diffusers calls a weight of an original checkpoint; empty when it is none.

    >>> from_original("input_blocks.4.1.transformer_blocks.0.attn2.to_k", 2)[0][1]
    'down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k'
    >>> from_original("single_blocks.3.linear1", 2)[3][1:]
    ('single_transformer_blocks.3.proj_mlp', ((3, 7),), 7)
    """
    stem, bias = (name[: -len(_BIAS)], _BIAS) if name.endswith(_BIAS) else (name, "")
    for reader in (_flux, _sd3, _open_clip):
        found = reader(stem)
        if found:
            return [(part, f"{target}{bias}", rows, whole) for part, target, rows, whole in found]
    target = _unet(stem, layers_per_block)
    return [("unet", f"{target}{bias}", (), 1)] if target else []


def _thirds(part: str, stem: str, names: tuple[str, str, str]) -> list[Place]:
    return [(part, f"{stem}.{name}", ((at, at + 1),), 3) for at, name in enumerate(names)]


def _flux(name: str) -> list[Place]:
    if name in _FLUX_SINGLES:
        return [("transformer", _FLUX_SINGLES[name], (), 1)]
    if name == "final_layer.adaLN_modulation.1":  # (shift, scale) there, (scale, shift) here
        return [("transformer", "norm_out.linear", ((1, 2), (0, 1)), 2)]
    match = re.fullmatch(r"(double|single)_blocks\.(\d{1,4})\.(.+)", name)
    if match is None:
        return []
    kind, number, rest = match.groups()
    if kind == "single":
        return _flux_single(f"single_transformer_blocks.{number}", rest)
    stem = f"transformer_blocks.{number}"
    if rest in _FLUX_FUSED:
        return _thirds("transformer", f"{stem}.attn", _FLUX_FUSED[rest])
    target = _FLUX_DOUBLE.get(rest.removesuffix(".scale"))
    return [("transformer", f"{stem}.{target}", (), 1)] if target else []


def _flux_single(stem: str, rest: str) -> list[Place]:
    if rest == "linear1":
        rows = (("attn.to_q", 0, 1), ("attn.to_k", 1, 2), ("attn.to_v", 2, 3), ("proj_mlp", 3, 7))
        return [("transformer", f"{stem}.{to}", ((a, b),), 7) for to, a, b in rows]
    if rest in ("qkv_lora", "qkv"):
        return _thirds("transformer", f"{stem}.attn", ("to_q", "to_k", "to_v"))
    singles = {
        "linear2": "proj_out",
        "proj_lora": "proj_out",
        "modulation.lin": "norm.linear",
        "norm.query_norm": "attn.norm_q",
        "norm.key_norm": "attn.norm_k",
    }
    target = singles.get(rest.removesuffix(".scale"))
    return [("transformer", f"{stem}.{target}", (), 1)] if target else []


def _sd3(name: str) -> list[Place]:
    match = re.fullmatch(r"joint_blocks\.(\d{1,4})\.(.+)", name)
    if match is None:
        return []
    stem, rest = f"transformer_blocks.{match[1]}", match[2]
    if rest in ("x_block.attn.qkv", "x_block.attn2.qkv"):
        return _thirds("transformer", f"{stem}.{rest.split('.')[1]}", ("to_q", "to_k", "to_v"))
    if rest == "context_block.attn.qkv":
        return _thirds("transformer", f"{stem}.attn", ("add_q_proj", "add_k_proj", "add_v_proj"))
    return [("transformer", f"{stem}.{_SD3[rest]}", (), 1)] if rest in _SD3 else []


def _open_clip(name: str) -> list[Place]:
    match = re.fullmatch(r"transformer\.resblocks\.(\d{1,4})\.(.+)", name)
    if match is None:
        return []
    stem, rest = f"text_model.encoder.layers.{match[1]}", match[2]
    if rest in ("attn.in_proj_weight", "attn.in_proj_bias", "attn.in_proj"):
        end = _BIAS if rest.endswith("bias") else ""
        places = _thirds("", f"{stem}.self_attn", ("q_proj", "k_proj", "v_proj"))
        return [(part, f"{target}{end}", rows, whole) for part, target, rows, whole in places]
    return [("", f"{stem}.{_OPEN_CLIP[rest]}", (), 1)] if rest in _OPEN_CLIP else []


def _unet(name: str, layers: int) -> str:
    for old, new in _UNET_SINGLES.items():
        if name == old:
            return new
    match = re.fullmatch(r"(input_blocks|output_blocks)\.(\d{1,4})\.(\d{1,4})\.(.+)", name)
    if match is not None:
        side, block, slot, rest = match[1], int(match[2]), int(match[3]), match[4]
        return (
            _down(block, slot, rest, layers) if side[0] == "i" else _up(block, slot, rest, layers)
        )
    match = re.fullmatch(r"middle_block\.([012])\.(.+)", name)
    if match is None:
        return ""
    where = {"0": "mid_block.resnets.0", "1": "mid_block.attentions.0", "2": "mid_block.resnets.1"}
    return _inner(where[match[1]], match[2])


def _down(block: int, slot: int, rest: str, layers: int) -> str:
    level, layer = divmod(block - 1, layers + 1)
    if block < 1:
        return ""
    if layer == layers:
        return f"down_blocks.{level}.downsamplers.0.conv" if rest == "op" else ""
    kind = "attentions" if slot else "resnets"
    return _inner(f"down_blocks.{level}.{kind}.{layer}", rest)


def _up(block: int, slot: int, rest: str, layers: int) -> str:
    level, layer = divmod(block, layers + 1)
    if rest == "conv":
        return f"up_blocks.{level}.upsamplers.0.conv"
    kind = "attentions" if slot else "resnets"
    return _inner(f"up_blocks.{level}.{kind}.{layer}", rest)


def _inner(stem: str, rest: str) -> str:
    if ".resnets." not in stem:
        return f"{stem}.{rest}"
    return f"{stem}.{_RESNET[rest]}" if rest in _RESNET else ""
