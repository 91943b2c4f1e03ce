"""Change what a prompt's text means before the denoiser reads it, for rules on the context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tadasu.errors import BadInput
from tadasu.guidance.safree import Safree


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """The new context of one image.

    Attributes:
        states: the context, ``1 token width``.
        share: share of the schedule that uses it.
    """

    states: Tensor
    share: float


@torch.no_grad()
def rewrite(
    pipe: Any, rule: Safree, prompt: Any, context: Tensor, concepts: list[str], strength: float
) -> Rewritten:
    """Project the toxic tokens of a prompt.

    Args:
        pipe: a pipeline with one CLIP text encoder.
        rule: how.
        prompt: the prompt, which must be text.
        context: the prompt's context as the pipeline encoded it, ``token width``.
        concepts: texts of the concepts.
        strength: 0 keeps the context, 1 is the rule as published.

    Raises:
        BadInput: the prompt came as embeddings.
    """
    if not isinstance(prompt, str):
        raise BadInput("The rule safree reads the prompt's words; give the prompt as text.")
    tokens = pipe.tokenizer(prompt, truncation=True).input_ids
    own = range(1, len(tokens) - 1)
    if not own:
        return Rewritten(states=context[None], share=0.0)
    put = [0] if rule.masking == "zero" else []
    masked = _pooled(pipe, [tokens[:at] + put + tokens[at + 1 :] for at in own])
    unwanted = _pooled(pipe, [pipe.tokenizer(text, truncation=True).input_ids for text in concepts])
    before = context[1 : len(tokens) - 1].float()
    masked, unwanted = masked.to(before), unwanted.to(before)
    after = rule.project(before, masked, unwanted)
    share = rule.share(context[: len(tokens)].float(), masked, unwanted)
    states = context.clone()
    states[1 : len(tokens) - 1] = (before + strength * (after - before)).to(context.dtype)
    return Rewritten(states=states[None], share=share)


def _pooled(pipe: Any, tokens: list[list[int]]) -> Tensor:
    """CLIP's pooled embedding of each list of tokens."""
    device, length = pipe._execution_device, pipe.tokenizer.model_max_length
    pad = pipe.tokenizer.pad_token_id
    rows = [row + [pad] * (length - len(row)) for row in tokens]
    ids = torch.tensor(rows, device=device)
    pooled: Tensor = pipe.text_encoder(input_ids=ids).pooler_output
    return pooled.float()
