"""Whose names a file uses, and which base weight each of them means.

Layouts: diffusers and peft (dots), kohya's scripts and LyCORIS (underscores for dots), ComfyUI and
the original checkpoints (``diffusion_model.``, ``input_blocks``, ``double_blocks``), OneTrainer
(each of these, by its settings). Underscore names are ambiguous, so they are taken apart along a
vocabulary of the words that have an underscore of their own; with a base at hand its own names
decide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tadasu.auditing.base import Base, canonical
from tadasu.auditing.names_original import ORIGINAL_ROOTS, from_original
from tadasu.auditing.names_transformers import Style, from_style

_PLAIN = Style()
#: (prefix, part, layout, delimiter); the first that fits decides. "" = told from the name's root.
PREFIXES: tuple[tuple[str, str, str, str], ...] = (
    ("lora_unet_", "", "kohya", "_"),
    ("lora_unet.", "", "kohya", "."),
    ("lora_te_wrapped_transformer_", "text_encoder", "kohya", "_"),
    ("lora_te_0_transformer_", "text_encoder", "kohya", "_"),
    ("lora_te_1_transformer_", "text_encoder_2", "kohya", "_"),
    ("lora_te.", "text_encoder", "kohya", "."),
    ("lora_te1_", "text_encoder", "kohya", "_"),
    ("lora_te2_", "text_encoder_2", "kohya", "_"),
    ("lora_te3_", "text_encoder_3", "kohya", "_"),
    ("lora_te_", "text_encoder", "kohya", "_"),
    ("lora_transformer_", "transformer", "onetrainer", "_"),
    ("lora_prior_unet_", "prior", "kohya", "_"),
    ("lora_prior_te_", "text_encoder", "kohya", "_"),
    ("lycoris_", "", "lycoris", "_"),
    ("model.diffusion_model.", "", "original", "."),
    ("diffusion_model.", "", "comfyui", "."),
    ("text_encoders.clip_l.transformer.", "text_encoder", "comfyui", "."),
    ("text_encoders.clip_g.transformer.", "text_encoder_2", "comfyui", "."),
    ("text_encoders.t5xxl.transformer.", "text_encoder_2", "comfyui", "."),
    ("text_encoders.clip_l.", "text_encoder", "comfyui", "."),
    ("text_encoders.clip_g.", "text_encoder_2", "comfyui", "."),
    ("cond_stage_model.transformer.", "text_encoder", "original", "."),
    ("conditioner.embedders.0.transformer.", "text_encoder", "original", "."),
    ("cond_stage_model.model.", "text_encoder", "original", "."),
    ("conditioner.embedders.1.model.", "text_encoder_2", "original", "."),
    ("base_model.model.", "", "peft", "."),
    ("base_model.", "", "peft", "."),
    ("unet.", "unet", "diffusers", "."),
    ("transformer.", "transformer", "diffusers", "."),
    ("prior.", "prior", "diffusers", "."),
    ("text_encoder.", "text_encoder", "diffusers", "."),
    ("text_encoder_2.", "text_encoder_2", "diffusers", "."),
    ("text_encoder_3.", "text_encoder_3", "diffusers", "."),
    ("", "", "peft", "."),
)

#: Words of module paths that have an underscore themselves.
WORDS = frozenset(
    """attention_norm1 attention_norm2 feed_forward ffn_norm1 ffn_norm2 q_norm k_norm cap_embedder
    t_embedder all_x_embedder all_final_layer time_guidance_embed single_stream_modulation
    double_stream_modulation_img double_stream_modulation_txt cross_attn k_img v_img time_projection
    text_embedding img_emb condition_embedder time_embedder image_embedder y_embedder ln_q ln_k
    txt_norm down_blocks mid_block up_blocks conv_in conv_out conv_norm_out time_embedding time_proj
    add_embedding linear_1 linear_2 transformer_blocks proj_in proj_out to_q to_k to_v to_out
    time_emb_proj conv_shortcut class_embedding encoder_hid_proj input_blocks middle_block
    output_blocks in_layers out_layers emb_layers skip_connection time_embed label_emb
    single_transformer_blocks add_q_proj add_k_proj add_v_proj to_add_out ff_context norm1_context
    norm2_context x_embedder context_embedder time_text_embed timestep_embedder guidance_embedder
    text_embedder norm_out proj_mlp pos_embed norm_q norm_k norm_added_q norm_added_k double_blocks
    single_blocks img_attn txt_attn img_mlp txt_mlp img_mod txt_mod img_in txt_in time_in vector_in
    guidance_in in_layer out_layer final_layer adaLN_modulation query_norm key_norm joint_blocks
    context_block x_block text_model self_attn q_proj k_proj v_proj out_proj layer_norm1 layer_norm2
    final_layer_norm token_embedding position_embedding text_projection wi_0 wi_1 layer_norm
    relative_attention_bias caption_projection adaln_single noise_refiner context_refiner
    to_qkv_mlp_proj linear_in linear_out""".split()
)
_LONGEST = max(word.count("_") for word in WORDS) + 1

#: First segments that tell the part where the prefix does not.
ROOTS = {
    "unet": frozenset(
        """down_blocks mid_block up_blocks conv_in conv_out conv_norm_out time_embedding
        add_embedding class_embedding encoder_hid_proj""".split()
    ),
    "transformer": frozenset(
        """transformer_blocks single_transformer_blocks x_embedder context_embedder time_text_embed
        norm_out proj_out pos_embed caption_projection adaln_single noise_refiner context_refiner
        layers blocks condition_embedder time_guidance_embed single_stream_modulation
        double_stream_modulation_img double_stream_modulation_txt time_caption_embed
        all_x_embedder all_final_layer cap_embedder t_embedder""".split()
    ),
    "text_encoder": frozenset("text_model text_projection encoder shared embeddings".split()),
}


@dataclass(frozen=True)
class Target:
    """A base weight, and which rows of the file's update are its own.

    Attributes:
        name: canonical name.
        rows: (from, to) in parts of ``whole``, in the order in which they are stacked; empty: all.
        whole: into how many equal parts the fused update's rows are cut.
        halves: whether the update's two halves trade places where it has twice as many rows as
            columns (the last block of Stable Diffusion 3: shift and scale there, scale and shift
            in diffusers).
    """

    name: str
    rows: tuple[tuple[int, int], ...] = ()
    whole: int = 1
    halves: bool = False


@dataclass(frozen=True)
class Resolved:
    """What one module name of a file means: more than one target when it is fused."""

    targets: tuple[Target, ...]
    layout: str


def resolve(raw: str, base: Base | None = None, style: Style = _PLAIN) -> Resolved | None:
    """The base weights that a module name means; None when it is no known part of a model.

    Args:
        raw: the module's name in the file.
        base: whose names decide where they are at hand.
        style: whose original names the file uses where families share a root.

    >>> resolve("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k").targets[0].name
    'unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k'
    >>> [t.name[-4:] for t in resolve("lora_unet_double_blocks_0_img_attn_qkv").targets]
    ['to_q', 'to_k', 'to_v']
    """
    raw = _unwrapped(raw)
    prefix, part, layout, delimiter = next(row for row in PREFIXES if raw.startswith(row[0]))
    rest = raw[len(prefix) :]
    if delimiter == "_":
        rest = rest.replace(".", "_").rstrip("_")  # some writers mix both
    if delimiter == "_" and base is not None:
        for guess in (part,) if part else ("unet", "transformer", "text_encoder", "prior"):
            found = base.joined.get(f"{guess}_{rest}") or base.joined.get(
                f"{guess}_{rest.removeprefix('text_model_')}"
            )
            if found:
                return Resolved((Target(found),), layout)
    dotted = ".".join(split(rest)) if delimiter == "_" else rest
    targets = _targets(part, _modern(dotted), base, style)
    return Resolved(targets, layout) if targets else None


def _unwrapped(raw: str) -> str:
    """Without what torch.compile, data parallelism and peft put between a module and its name."""
    name = re.sub(r"(^|[._])_orig_mod[._]", r"\1", raw)
    name = name.removeprefix("module.")
    return name.replace(".base_layer.", ".").removesuffix(".base_layer")


def split(joined: str) -> Sequence[str]:
    """An underscore name's segments, the longest known word first.

    >>> split("up_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0")[-3:]
    ['attn1', 'to_out', '0']
    """
    tokens = joined.split("_")
    found: list[str] = []
    while tokens:
        for length in range(min(_LONGEST, len(tokens)), 0, -1):
            word = "_".join(tokens[:length])
            if length == 1 or word in WORDS:
                found.append(word)
                del tokens[:length]
                break
    return found


def _modern(dotted: str) -> str:
    """Names of diffusers' attention processors as the modules are called since."""
    name = re.sub(r"(^|\.)processor\.", r"\1", dotted)
    name = re.sub(r"^sformer_blocks\.", "transformer_blocks.", name)
    inside_text = "self_attn." in name
    for old, new, text in (
        ("to_q_lora", "to_q", "q_proj"),
        ("to_k_lora", "to_k", "k_proj"),
        ("to_v_lora", "to_v", "v_proj"),
        ("to_out_lora", "to_out.0", "out_proj"),
    ):
        if name.endswith(old):
            return name[: -len(old)] + (text if inside_text else new)
    return name


def _targets(part: str, name: str, base: Base | None, style: Style) -> tuple[Target, ...]:
    root = name.partition(".")[0]
    if not part and root in ("unet", "transformer", "text_encoder", "text_encoder_2"):
        part, _, name = name.partition(".")
        root = name.partition(".")[0]
    if part in ("", "transformer"):
        places = from_style(name, style)
        if places:
            return tuple(Target(f"{at}.{to}", rows, whole) for at, to, rows, whole in places)
    if root in ORIGINAL_ROOTS or (root == "transformer" and "resblocks" in name):
        layers = base.layers_per_block if base else 2
        halves = name.endswith("context_block.adaLN_modulation.1")
        return tuple(
            Target(f"{where or part}.{target}", rows, whole, halves)
            for where, target, rows, whole in from_original(name, layers)
        )
    parts = [part] if part else list(ROOTS)
    for guess in parts:
        family = "text_encoder" if guess.startswith("text_encoder") else guess
        roots = ROOTS.get(family, ROOTS["unet"])
        if root in roots:
            return (Target(canonical(f"{guess}.{name}")),)
    return ()
