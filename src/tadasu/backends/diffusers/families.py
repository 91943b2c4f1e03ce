"""What each pipeline family calls its parts; the only file that knows them.

A family says where the denoiser is, how a text becomes the denoiser's conditioning, in which order
the unconditional and the conditional rows arrive, and what the guidance scale is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from tadasu.errors import BadInput, UnknownName, shown

#: One text's conditioning: argument of the denoiser (dots lead into dictionaries) to a tensor
#: whose first axis has length 1.
Conditioning = Mapping[str, Tensor]
Call = Mapping[str, Any]


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
        channels: number of latent channels that the model predicts.
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
    channels: Callable[[Any], int] = lambda pipe: int(pipe.unet.config.out_channels)


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


def _fits(tokenizer: Any, text: str) -> None:
    """Refuse a text whose end the encoder would not read."""
    limit = tokenizer.model_max_length
    length = len(tokenizer(text).input_ids)
    if length > limit:
        raise BadInput(
            f"The concepts {shown(text)} make {length} tokens, but the text encoder reads only the "
            f"first {limit}, so the rest would not be guarded against. Give fewer concepts per "
            "prompt, or a rule that takes one prediction per concept."
        )


def _options(pipe: Any, call: Call) -> dict[str, Any]:
    """The arguments of this call that change how a text is encoded."""
    known = inspect.signature(pipe.encode_prompt).parameters
    names = ("clip_skip", "max_sequence_length", "clean_caption", "text_encoder_out_layers")
    options = {name: call[name] for name in names if name in known and name in call}
    attention = call.get("cross_attention_kwargs") or {}
    if "lora_scale" in known and "scale" in attention:
        options["lora_scale"] = attention["scale"]
    return options


def _stable_diffusion(pipe: Any, text: str, call: Call) -> Conditioning:
    _fits(pipe.tokenizer, text)
    context, _ = pipe.encode_prompt(text, pipe._execution_device, 1, False, **_options(pipe, call))
    return {"encoder_hidden_states": context}


def _stable_diffusion_xl(pipe: Any, text: str, call: Call) -> Conditioning:
    for tokenizer in (pipe.tokenizer, pipe.tokenizer_2):
        if tokenizer is not None:
            _fits(tokenizer, text)
    context, _, pooled, _ = pipe.encode_prompt(
        text,
        device=pipe._execution_device,
        do_classifier_free_guidance=False,
        **_options(pipe, call),
    )
    return {"encoder_hidden_states": context, "added_cond_kwargs.text_embeds": pooled}


def _own_scale(pipe: Any, call: Call) -> float | None:
    """For pipelines that say themselves whether they run with guidance."""
    del call
    return float(pipe.guidance_scale) if pipe.do_classifier_free_guidance else None


FAMILIES = (
    Family(
        name="Stable Diffusion",
        pipelines=(
            "StableDiffusionPipeline",
            "StableDiffusionImg2ImgPipeline",
            "StableDiffusionInpaintPipeline",
            "StableDiffusionControlNetPipeline",
            "StableDiffusionControlNetImg2ImgPipeline",
            "StableDiffusionControlNetInpaintPipeline",
        ),
        denoiser="unet",
        sample="sample",
        encode=_stable_diffusion,
        scale=_own_scale,
        rows="unconditional first",
    ),
    Family(
        name="Stable Diffusion XL",
        pipelines=(
            "StableDiffusionXLPipeline",
            "StableDiffusionXLImg2ImgPipeline",
            "StableDiffusionXLInpaintPipeline",
            "StableDiffusionXLControlNetPipeline",
        ),
        denoiser="unet",
        sample="sample",
        encode=_stable_diffusion_xl,
        scale=_own_scale,
        rows="unconditional first",
    ),
)
