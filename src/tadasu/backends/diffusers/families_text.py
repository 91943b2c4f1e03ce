"""How each pipeline family turns a text into the conditioning of its denoiser."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tadasu.errors import BadInput, UnknownName, shown

#: One text's conditioning: argument of the denoiser (dots lead into dictionaries) to a tensor
#: whose first axis has length 1.
Conditioning = Mapping[str, Tensor]
Call = Mapping[str, Any]


class PerEncoder(str):
    """A text for the first encoder that has other texts for the encoders after it.

    Args:
        texts: one per encoder, the first one's first.
    """

    __slots__ = ("texts",)
    texts: tuple[str, ...]

    def __new__(cls, *texts: str) -> PerEncoder:
        """As a string it is the first encoder's text."""
        made = super().__new__(cls, texts[0])
        made.texts = texts
        return made

    def __eq__(self, other: object) -> bool:
        """Equal in every encoder's text."""
        return isinstance(other, PerEncoder) and self.texts == other.texts

    def __ne__(self, other: object) -> bool:
        """Different in some encoder's text."""
        return not self == other

    def __hash__(self) -> int:
        """Of all texts."""
        return hash(self.texts)


def for_encoder(text: str, number: int) -> str:
    """What the encoder of a number, from 1 on, reads of a text."""
    texts = text.texts if isinstance(text, PerEncoder) else (text,)
    return str(texts[min(number, len(texts)) - 1])


#: Arguments of a pipeline's call that change how a text is encoded.
ENCODING = (
    "clip_skip",
    "max_sequence_length",
    "clean_caption",
    "complex_human_instruction",
    "text_encoder_out_layers",
    "cross_attention_kwargs",
)


def fits(tokenizer: Any, text: str, limit: int | None = None) -> None:
    """Refuse a text whose end the encoder would not read.

    Raises:
        BadInput: the text has more tokens than the encoder reads.
    """
    if tokenizer is None:
        return
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # a processor's own
    limit = limit or tokenizer.model_max_length
    length = len(tokenizer(text).input_ids)
    if length > limit:
        raise BadInput(
            f"The concepts {shown(text)} make {length} tokens, but the text encoder reads only the "
            f"first {limit}, so the rest would not be guarded against. Give fewer concepts per "
            "prompt, or a rule that takes one prediction per concept."
        )


def options(pipe: Any, call: Call) -> dict[str, Any]:
    """The arguments of this call that change how a text is encoded."""
    known = inspect.signature(pipe.encode_prompt).parameters
    found = {name: call[name] for name in ENCODING if name in known and name in call}
    found["device"] = pipe._execution_device
    if "do_classifier_free_guidance" in known:
        found["do_classifier_free_guidance"] = False
    attention = call.get("cross_attention_kwargs") or {}
    if "lora_scale" in known and "scale" in attention:
        found["lora_scale"] = attention["scale"]
    return found


def stable_diffusion(pipe: Any, text: str, call: Call) -> Conditioning:
    """Stable Diffusion 1.x and 2.x: one CLIP context."""
    fits(pipe.tokenizer, text)
    context, _ = pipe.encode_prompt(text, num_images_per_prompt=1, **options(pipe, call))
    return {"encoder_hidden_states": context}


def stable_diffusion_xl(pipe: Any, text: str, call: Call) -> Conditioning:
    """SDXL: the contexts of two CLIPs side by side and a pooled one."""
    first, second = (for_encoder(text, number) for number in (1, 2))
    fits(pipe.tokenizer, first)
    fits(pipe.tokenizer_2, second)
    context, _, pooled, _ = pipe.encode_prompt(first, second, **options(pipe, call))
    return {"encoder_hidden_states": context, "added_cond_kwargs.text_embeds": pooled}


def stable_diffusion_3(pipe: Any, text: str, call: Call) -> Conditioning:
    """SD3: two CLIPs, T5 where it is loaded, and a pooled context."""
    first, second, third = (for_encoder(text, number) for number in (1, 2, 3))
    fits(pipe.tokenizer, first)
    fits(pipe.tokenizer_2, second)
    context, _, pooled, _ = pipe.encode_prompt(first, second, third, **options(pipe, call))
    return {"encoder_hidden_states": context, "pooled_projections": pooled}


def flux(pipe: Any, text: str, call: Call) -> Conditioning:
    """FLUX.1: a T5 context and CLIP's pooled one."""
    first, second = (for_encoder(text, number) for number in (1, 2))
    fits(pipe.tokenizer, first)
    fits(pipe.tokenizer_2, second, call.get("max_sequence_length"))
    context, pooled, _ = pipe.encode_prompt(first, second, **options(pipe, call))
    return {"encoder_hidden_states": context, "pooled_projections": pooled}


def flux2(pipe: Any, text: str, call: Call) -> Conditioning:
    """FLUX.2: hidden states of a language model, padded to one length."""
    fits(pipe.tokenizer, text, call.get("max_sequence_length"))
    context, _ = pipe.encode_prompt(text, **options(pipe, call))
    return {"encoder_hidden_states": context}


def qwen_image(pipe: Any, text: str, call: Call) -> Conditioning:
    """Qwen-Image: hidden states of a language model with a mask; lengths differ."""
    fits(pipe.tokenizer, text, call.get("max_sequence_length"))
    context, mask = pipe.encode_prompt(text, **options(pipe, call))
    if mask is None:
        mask = torch.ones(context.shape[:2], dtype=torch.long, device=context.device)
    return {"encoder_hidden_states": context, "encoder_hidden_states_mask": mask}


def z_image(pipe: Any, text: str, call: Call) -> Conditioning:
    """Z-Image: hidden states of a language model, without padding."""
    fits(pipe.tokenizer, text, call.get("max_sequence_length"))
    (context,), _ = pipe.encode_prompt(text, **options(pipe, call))
    return {"cap_feats": context[None]}


def masked(pipe: Any, text: str, call: Call) -> Conditioning:
    """PixArt and Sana: one context with its mask."""
    fits(pipe.tokenizer, text, call.get("max_sequence_length"))
    context, mask, *_ = pipe.encode_prompt(text, **options(pipe, call))
    return {"encoder_hidden_states": context, "encoder_attention_mask": mask}


def class_label(pipe: Any, text: str, call: Call) -> Conditioning:
    """Class-conditional models: a class is the concept, by its name or its number.

    Raises:
        UnknownName: the model has no such class.
    """
    del call
    classes = int(pipe.transformer.config.num_embeds_ada_norm)
    labels: Mapping[str, int] = pipe.labels
    number = int(text) if text.isdecimal() else labels.get(text)
    if number is None or number >= classes:
        known = labels or [f"0 to {classes - 1}"]
        raise UnknownName("class", text, known)
    return {"class_labels": torch.tensor([number])}
