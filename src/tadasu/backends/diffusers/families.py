"""What each pipeline family calls its parts; the only file that knows them.

A family says where the denoiser is, how a text becomes the denoiser's conditioning, in which order
the unconditional and the conditional rows arrive, and what the guidance scale is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tadasu.backends.diffusers import families_text as text
from tadasu.backends.diffusers.families_text import Call, Conditioning
from tadasu.errors import UnknownName


def _predicted_by_unet(pipe: Any) -> int:
    return int(pipe.unet.config.out_channels)


def _latents_of_transformer(pipe: Any) -> int:
    return int(pipe.transformer.config.in_channels)


@dataclass(frozen=True, kw_only=True)
class Family:
    """How one family of pipelines works.

    Attributes:
        name: for messages.
        pipelines: names of the classes; subclasses belong to the family as well.
        denoiser: the pipeline's attribute that holds the denoiser.
        sample: the denoiser's argument with the noisy latents.
        encode: (pipeline, text, arguments of the call) to the conditioning of that text.
        scale: (pipeline, arguments of the call) to the guidance scale, or None if the call runs
            without classifier-free guidance.
        rows: in which order the denoiser gets unconditional and conditional rows: in one forward
            (``"unconditional first"``, ``"conditional first"``) or in two.
        tokens: True if latents are ``batch token channel``.
        sign: -1 if the model predicts the negated velocity.
        shared: arguments of the denoiser without a batch axis.
        listed: arguments that are lists with one entry per row.
        aside: arguments that mark extra forwards beside guidance, which are left alone.
        context: the denoiser's argument with the text's context; empty where there is no text.
        attention: how text reaches the image: ``"cross"``, ``"joint"``, or ``""`` if rules that
            work on attention do not support the family.
        masked: context and mask of families whose texts differ in length, to pad them alike.
        channels: number of latent channels that the model predicts.
        half: the number format of half precision that the family's models can do with; float16
            where they were trained for it, else bfloat16, because theirs overflow in float16.
    """

    name: str
    pipelines: tuple[str, ...]
    denoiser: str
    sample: str
    encode: Callable[[Any, str, Call], Conditioning]
    scale: Callable[[Any, Call], float | None]
    rows: Literal["unconditional first", "conditional first", "two forwards"]
    tokens: bool = False
    sign: float = 1.0
    shared: frozenset[str] = frozenset()
    listed: frozenset[str] = frozenset()
    aside: frozenset[str] = frozenset()
    context: str = "encoder_hidden_states"
    attention: Literal["cross", "joint", ""] = ""
    masked: tuple[str, str] | None = None
    channels: Callable[[Any], int] = _latents_of_transformer
    half: Literal["float16", "bfloat16"] = "bfloat16"


def half_of(pipeline: str) -> Literal["float16", "bfloat16"]:
    """The number format in which an accelerator runs a class of pipelines, by the class's name.

    >>> half_of("StableDiffusionPipeline"), half_of("Flux2Pipeline"), half_of("SomethingNew")
    ('float16', 'bfloat16', 'bfloat16')
    """
    for family in FAMILIES:
        if pipeline in family.pipelines:
            return family.half
    return "bfloat16"


def family_of(pipe: Any) -> Family:
    """The family of a pipeline.

    Raises:
        UnknownName: no family knows this class of pipelines.
    """
    for cls in type(pipe).__mro__:
        for family in FAMILIES:
            if cls.__name__ in family.pipelines:
                return family
    known = (name for family in FAMILIES for name in family.pipelines)
    raise UnknownName("pipeline class", type(pipe).__name__, known)


def _own_scale(pipe: Any, call: Call) -> float | None:
    """For pipelines that say themselves whether they run with guidance."""
    del call
    return float(pipe.guidance_scale) if pipe.do_classifier_free_guidance else None


def _called_scale(pipe: Any, call: Call) -> float | None:
    """For pipelines that only look at the argument of their call."""
    del pipe
    scale = float(call["guidance_scale"])
    return scale if scale > 1 else None


def _true_scale(pipe: Any, call: Call) -> float | None:
    """For guidance-distilled models, which use guidance only beside a negative prompt."""
    del pipe
    scale = float(call.get("true_cfg_scale") or 1)
    brought = ("negative_prompt", "negative_prompt_embeds")
    negative = any(call.get(name) is not None for name in brought)
    return scale if scale > 1 and negative else None


def _added_scale(pipe: Any, call: Call) -> float | None:
    """For pipelines that compute p + s(p - u), which is guidance with s + 1."""
    scale = _own_scale(pipe, call)
    return None if scale is None else scale + 1


def _no_scale(pipe: Any, call: Call) -> float | None:
    """For guidance-distilled models that never run an unconditional forward."""
    del pipe, call
    return None


_VARIANTS = ("", "Img2Img", "Inpaint")
_CONTROLLED = ("ControlNet", "ControlNetImg2Img", "ControlNetInpaint")

FAMILIES = (
    Family(
        name="Stable Diffusion",
        half="float16",
        pipelines=tuple(f"StableDiffusion{kind}Pipeline" for kind in _VARIANTS + _CONTROLLED),
        attention="cross",
        denoiser="unet",
        sample="sample",
        encode=text.stable_diffusion,
        scale=_own_scale,
        rows="unconditional first",
        channels=_predicted_by_unet,
    ),
    Family(
        name="Stable Diffusion XL",
        half="float16",
        pipelines=tuple(f"StableDiffusionXL{kind}Pipeline" for kind in _VARIANTS + _CONTROLLED),
        attention="cross",
        denoiser="unet",
        sample="sample",
        encode=text.stable_diffusion_xl,
        scale=_own_scale,
        rows="unconditional first",
        channels=_predicted_by_unet,
    ),
    Family(
        name="Stable Diffusion 3",
        half="float16",
        pipelines=(
            *(f"StableDiffusion3{kind}Pipeline" for kind in _VARIANTS),
            "StableDiffusion3ControlNetPipeline",
            "StableDiffusion3ControlNetInpaintingPipeline",
        ),
        attention="joint",
        denoiser="transformer",
        sample="hidden_states",
        encode=text.stable_diffusion_3,
        scale=_own_scale,
        rows="unconditional first",
        aside=frozenset({"skip_layers"}),
        channels=lambda pipe: int(pipe.transformer.config.out_channels),
    ),
    Family(
        name="FLUX.1",
        pipelines=tuple(f"Flux{kind}Pipeline" for kind in _VARIANTS + _CONTROLLED),
        attention="joint",
        denoiser="transformer",
        sample="hidden_states",
        encode=text.flux,
        scale=_true_scale,
        rows="two forwards",
        tokens=True,
        shared=frozenset({"txt_ids", "img_ids"}),
    ),
    Family(
        name="FLUX.2 klein",
        pipelines=("Flux2KleinPipeline",),
        attention="joint",
        denoiser="transformer",
        sample="hidden_states",
        encode=text.flux2,
        scale=_own_scale,
        rows="two forwards",
        tokens=True,
    ),
    Family(
        name="FLUX.2",
        pipelines=("Flux2Pipeline",),
        attention="joint",
        denoiser="transformer",
        sample="hidden_states",
        encode=text.flux2,
        scale=_no_scale,
        rows="two forwards",
        tokens=True,
    ),
    Family(
        name="Qwen-Image",
        pipelines=tuple(
            f"QwenImage{kind}Pipeline" for kind in (*_VARIANTS, "ControlNet", "ControlNetInpaint")
        ),
        attention="joint",
        denoiser="transformer",
        sample="hidden_states",
        encode=text.qwen_image,
        scale=_true_scale,
        rows="two forwards",
        tokens=True,
        listed=frozenset({"img_shapes"}),
        masked=("encoder_hidden_states", "encoder_hidden_states_mask"),
    ),
    Family(
        name="Z-Image",
        pipelines=tuple(
            f"ZImage{kind}Pipeline" for kind in (*_VARIANTS, "ControlNet", "ControlNetInpaint")
        ),
        denoiser="transformer",
        sample="x",
        encode=text.z_image,
        scale=_added_scale,
        rows="conditional first",
        sign=-1.0,
        listed=frozenset({"x", "cap_feats"}),
        context="cap_feats",
    ),
    Family(
        name="PixArt",
        half="float16",
        pipelines=("PixArtAlphaPipeline", "PixArtSigmaPipeline"),
        denoiser="transformer",
        sample="hidden_states",
        encode=text.masked,
        scale=_called_scale,
        rows="unconditional first",
    ),
    Family(
        name="Sana",
        pipelines=("SanaPipeline",),
        denoiser="transformer",
        sample="hidden_states",
        encode=text.masked,
        scale=_own_scale,
        rows="unconditional first",
    ),
    Family(
        name="DiT",
        half="float16",
        pipelines=("DiTPipeline",),
        denoiser="transformer",
        sample="hidden_states",
        encode=text.class_label,
        context="",
        scale=_called_scale,
        rows="conditional first",
    ),
)
