"""Tokens of an attack as the conditioning of a Stable Diffusion pipeline, differentiable.

SDXL reads a prompt with two CLIPs that share their tokens. There a token's row is its embeddings in
both, side by side, so that a search moves both at once and still finds real tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tadasu.backends.diffusers.families import family_of
from tadasu.errors import BadInput, shown

XL = "Stable Diffusion XL"
FAMILIES = ("Stable Diffusion", XL)
CONTEXT, POOLED = "encoder_hidden_states", "added_cond_kwargs.text_embeds"

#: As `families_text.Conditioning`, with one row for each prompt.
Rows = dict[str, Tensor]


def readers(pipe: Any) -> list[tuple[Any, Any]]:
    """The tokenizers and text encoders that read a prompt.

    Raises:
        BadInput: the pipeline lacks one (SDXL's refiner), or two do not share their tokens.
    """
    found = [(pipe.tokenizer, pipe.text_encoder)]
    if family_of(pipe).name == XL:
        found.append((pipe.tokenizer_2, pipe.text_encoder_2))
    if any(part is None for pair in found for part in pair):
        raise BadInput("Attacks need all text encoders of the pipeline; a refiner has only one.")
    if any(tokenizer.get_vocab() != found[0][0].get_vocab() for tokenizer, _ in found[1:]):
        raise BadInput("The two tokenizers of this pipeline do not share their tokens.")
    return found


def table_of(pipe: Any) -> Float[Tensor, "token width"]:
    """The embeddings of every token; of two text encoders side by side."""
    return torch.cat(
        [encoder.get_input_embeddings().weight.detach().float() for _, encoder in readers(pipe)], 1
    )


def rows_of(
    pipe: Any, rows: Float[Tensor, "batch length width"], prompts: Sequence[str] = ()
) -> Rows:
    """The conditioning for given token embeddings, differentiable.

    Args:
        pipe: a Stable Diffusion or SDXL pipeline.
        rows: embeddings of the first tokens, as in `table_of`.
        prompts: texts that follow them, one for each row; empty for none.

    Raises:
        BadInput: the tokens do not fit.
    """
    pairs = readers(pipe)
    widths = [encoder.get_input_embeddings().weight.shape[1] for _, encoder in pairs]
    parts = torch.split(rows, widths, -1)
    made = [_read(*pair, part, prompts) for pair, part in zip(pairs, parts, strict=True)]
    if len(made) == 1:
        return {CONTEXT: made[0][0]}
    return {CONTEXT: torch.cat([_last_but_one(each) for each in made], -1), POOLED: made[-1][0]}


def context_of(
    pipe: Any, rows: Float[Tensor, "batch length width"], prompts: Sequence[str] = ()
) -> Float[Tensor, "batch tokens width"]:
    """The context alone of `rows_of`."""
    return rows_of(pipe, rows, prompts)[CONTEXT]


def rows_of_texts(pipe: Any, texts: Sequence[str]) -> Rows:
    """The conditioning that the pipeline makes of texts."""
    each = [family_of(pipe).encode(pipe, text, {}) for text in texts]
    return {name: torch.cat([one[name] for one in each]) for name in each[0]}


def unconditional(pipe: Any, like: Mapping[str, Tensor]) -> Rows:
    """The conditioning of the rows that guidance is measured from, as many as ``like`` has."""
    if family_of(pipe).name == XL and pipe.config.force_zeros_for_empty_prompt:
        return {name: torch.zeros_like(value) for name, value in like.items()}
    empty = rows_of_texts(pipe, [""])
    return {name: empty[name].detach().expand_as(value) for name, value in like.items()}


@torch.no_grad()
def states_of(pipe: Any, tokens: Int[Tensor, "many length"]) -> Float[Tensor, "many rows width"]:
    """States of lists of tokens without padding, with beginning and end of text."""
    found = []
    for tokenizer, encoder in readers(pipe):
        ends = torch.ones(len(tokens), 1, dtype=torch.long)
        bos, eos = ends * tokenizer.bos_token_id, ends * tokenizer.eos_token_id
        ids = torch.cat([bos, tokens.cpu(), eos], 1).to(pipe._execution_device)
        found.append(encoder(ids, output_hidden_states=True))
    states = found[0][0] if len(found) == 1 else torch.cat([_last_but_one(f) for f in found], -1)
    return states.float()


@torch.no_grad()
def states_of_texts(pipe: Any, texts: Sequence[str], rows: int) -> Float[Tensor, "text rows width"]:
    """The first rows of the contexts that the pipeline makes of texts."""
    return rows_of_texts(pipe, texts)[CONTEXT][:, :rows].float()


def writable(tokenizer: Any) -> Bool[Tensor, " token"]:
    """Which tokens, written as a word, are read as themselves; others are no text."""
    size = len(tokenizer)
    words = [tokenizer.decode([i]).strip() for i in range(size)]
    read = tokenizer(words, add_special_tokens=False).input_ids
    special = set(tokenizer.all_special_ids)
    return torch.tensor(
        [
            i not in special and read[i] == [i] and words[i].isprintable() and words[i] != ""
            for i in range(size)
        ]
    )


def written(tokenizer: Any, tokens: Int[Tensor, " length"], prompt: str = "") -> str:
    """Found tokens as a text, with the prompt that follows them."""
    words = " ".join(tokenizer.decode([int(i)]).strip() for i in tokens)
    return f"{words} {prompt}".strip()


def _last_but_one(states: Any) -> Tensor:
    """What SDXL reads of a text encoder."""
    found: Tensor = states.hidden_states[-2]
    return found


def _read(tokenizer: Any, encoder: Any, rows: Tensor, prompts: Sequence[str]) -> Any:
    """One text encoder's output with the rows in the place of the first tokens' embeddings."""
    count, length = len(rows), rows.shape[1]
    texts = list(prompts) or [""] * count
    longest = tokenizer.model_max_length
    ids = torch.full((count, longest), tokenizer.pad_token_id)
    for row, text in enumerate(texts):
        own = tokenizer(text, add_special_tokens=False).input_ids
        if length + len(own) + 2 > longest:
            raise BadInput(f"{length} tokens and the prompt {shown(text)} do not fit {longest}.")
        full = [tokenizer.bos_token_id, *[0] * length, *own, tokenizer.eos_token_id]
        ids[row, : len(full)] = torch.tensor(full)

    def splice(layer: Any, given: Any, output: Tensor) -> Tensor:
        del layer, given
        return torch.cat([output[:, :1], rows.to(output), output[:, 1 + length :]], 1)

    hook = encoder.get_input_embeddings().register_forward_hook(splice)
    try:
        return encoder(ids.to(rows.device), output_hidden_states=True)
    finally:
        hook.remove()
