"""A pipeline's own texts as an :class:`tadasu.editing.encoder.Encoder`.

Every context comes from the pipeline's ``encode_prompt``, so what is edited is what is generated
from. Only the places of the words are found here, with each tokenizer's own rule.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tadasu.backends.diffusers.context.layer import SITE, layers_of, own
from tadasu.backends.diffusers.parts import ENCODERS, unwrapped
from tadasu.backends.diffusers.weights import tensors
from tadasu.editing.encoder import POOLED, Encoded, sketch
from tadasu.editing.tokens import Span, span
from tadasu.errors import BadInput

TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
SAMPLED = 4096


class PipelineEncoder:
    """The texts of a Stable Diffusion 1.x, 2.x, XL, 3 or Flux pipeline.

    Args:
        pipe: the pipeline.
        batch: texts per forward of the text encoders.
        sequence_length: T5 rows for SD3 and Flux; None is the pipeline's own default.

    Raises:
        BadInput: when the family is not known.
    """

    def __init__(self, pipe: Any, *, batch: int = 32, sequence_length: int | None = None) -> None:
        self._pipe, self._batch = pipe, batch
        self._family = _family(pipe)
        self._length = sequence_length or (512 if self._family == "flux" else 256)
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """See :func:`fingerprint`; computed once."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self._pipe)
        return self._fingerprint

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Mapping[str, Encoded]:
        """Contexts per site, on the CPU, in float32 or better."""
        listed = list(texts)
        parts = [
            self._contexts(listed[i : i + self._batch]) for i in range(0, len(listed), self._batch)
        ]
        context = torch.cat([context for context, _ in parts])
        sites = {"context": Encoded(contexts=context, spans=self._spans(listed))}
        if parts[0][1] is not None:
            rows = torch.cat([pooled for _, pooled in parts if pooled is not None])[:, None]
            sites["pooled"] = Encoded(contexts=rows, spans=((POOLED,),) * len(listed))
        return sites

    def _contexts(self, texts: list[str]) -> tuple[Tensor, Tensor | None]:
        pipe = self._pipe
        where = {"device": pipe._execution_device, "num_images_per_prompt": 1}
        plain = {"do_classifier_free_guidance": False}
        pooled: Tensor | None = None
        with _quietly():
            if self._family == "sd":
                context = pipe.encode_prompt(texts, **where, **plain)[0]
            elif self._family == "xl":
                context, _, pooled, _ = pipe.encode_prompt(texts, **where, **plain)
            elif self._family == "sd3":
                context, _, pooled, _ = pipe.encode_prompt(
                    texts, None, None, max_sequence_length=self._length, **where, **plain
                )
            else:
                context, pooled, _ = pipe.encode_prompt(
                    texts, None, max_sequence_length=self._length, **where
                )
        return _plain(context), None if pooled is None else _plain(pooled)

    def _spans(self, texts: list[str]) -> tuple[tuple[Span, ...], ...]:
        pipe = self._pipe
        if self._family in ("sd", "xl"):
            first = pipe.tokenizer if pipe.tokenizer is not None else pipe.tokenizer_2
            columns = [_word_spans(first, texts)]
        elif self._family == "flux":
            columns = [_word_spans(pipe.tokenizer_2, texts, length=self._length)]
        else:
            columns = [_word_spans(pipe.tokenizer, texts)]
            if pipe.text_encoder_3 is not None:
                start = columns[0][0].length
                columns.append(_word_spans(pipe.tokenizer_3, texts, self._length, start))
        return tuple(zip(*columns, strict=True))


class HiddenEncoder:
    """Rows of a CLIP text encoder's last layer before they are normalised, at the site ``layer``.

    Args:
        pipe: a Stable Diffusion 1.x or 2.x pipeline.
        batch: texts per forward.

    Raises:
        BadInput: when the pipeline has other text encoders.
    """

    def __init__(self, pipe: Any, *, batch: int = 32) -> None:
        layers_of(pipe)
        self._pipe, self._batch = pipe, batch

    @property
    def fingerprint(self) -> str:
        """See :func:`fingerprint`."""
        return fingerprint(self._pipe)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Mapping[str, Encoded]:
        """Rows of all texts, on the CPU, in float32 or better."""
        listed, pipe = list(texts), self._pipe
        parts = []
        for i in range(0, len(listed), self._batch):
            ids = pipe.tokenizer(
                listed[i : i + self._batch],
                padding="max_length",
                max_length=pipe.tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            ).input_ids
            out = pipe.text_encoder(ids.to(pipe.text_encoder.device), output_hidden_states=True)
            parts.append(_plain(out.hidden_states[-1]))
        spans = tuple((where,) for where in _word_spans(pipe.tokenizer, listed))
        return {SITE: Encoded(contexts=torch.cat(parts), spans=spans)}


def fingerprint(pipe: Any) -> str:
    """What all text encoders and tokenizers of a pipeline are: ``sha256:HASH/STRUCTURE/SKETCH``.

    Reads every parameter's name and shape, up to 4,096 evenly spaced values of it, and every
    tokenizer's vocabulary, wherever offloading keeps the values. Layers that an edit added to this
    object are not counted. Compare with `tadasu.editing.encoder.same_encoder`.

    Raises:
        BadInput: values of a weight cannot be found.
    """
    whole, structure = hashlib.sha256(), hashlib.sha256()
    samples = []
    for name in ENCODERS:
        encoder = getattr(pipe, name, None)
        if isinstance(encoder, nn.Module):
            encoder = unwrapped(encoder)
            for key, value in tensors(encoder):
                if not own(key, encoder):
                    label = f"{name}.{key}:{tuple(value.shape)}".encode()
                    samples.append(_add(whole, label, value))
                    structure.update(label)
    for name in TOKENIZERS:
        tokenizer = getattr(pipe, name, None)
        if tokenizer is not None:
            words = json.dumps(tokenizer.get_vocab(), sort_keys=True)
            for digest in (whole, structure):
                digest.update(f"{name}:{words}".encode())
    return f"sha256:{whole.hexdigest()}/{structure.hexdigest()[:16]}/{sketch(samples)}"


def _add(digest: Any, label: bytes, value: Tensor) -> Tensor:
    """Some values of a parameter, which are hashed in half precision."""
    flat = value.detach().reshape(-1)
    some = flat[:: max(1, flat.numel() // SAMPLED)].cpu()
    digest.update(label)
    digest.update(some.to(torch.float16).contiguous().view(torch.uint8).numpy().tobytes())
    return some


def _family(pipe: Any) -> str:
    name = type(pipe).__name__
    for start, family in (
        ("StableDiffusionXL", "xl"),
        ("StableDiffusion3", "sd3"),
        ("StableDiffusion", "sd"),
        ("Flux", "flux"),
    ):
        if name.startswith(start) and not name.startswith("Flux2"):
            return family
    raise BadInput(
        f"{name} cannot be edited yet; known are Stable Diffusion 1.x, 2.x, XL, 3 and Flux."
    )


def _word_spans(
    tokenizer: Any, texts: list[str], length: int | None = None, start: int = 0
) -> list[Span]:
    found = tokenizer(
        texts,
        padding="max_length",
        max_length=length or tokenizer.model_max_length,
        truncation=True,
        return_attention_mask=True,
    )
    # T5 has a beginning-of-sequence id on paper but never writes it; `span` looks at the row.
    marks = {"bos": tokenizer.bos_token_id, "eos": tokenizer.eos_token_id, "start": start}
    # CLIP's unknown token is its end token, which it never needs: it reads bytes.
    if tokenizer.unk_token_id not in (tokenizer.eos_token_id, tokenizer.pad_token_id):
        marks["unknown"] = tokenizer.unk_token_id
    return [span(i, m, **marks) for i, m in zip(found.input_ids, found.attention_mask, strict=True)]


@contextmanager
def _quietly() -> Iterator[None]:
    """Long texts are cut as in generation, without diffusers printing what it cut off of each."""
    import diffusers.utils.logging as log

    level = log.get_verbosity()
    log.set_verbosity_error()
    try:
        yield
    finally:
        log.set_verbosity(level)


def _plain(contexts: Tensor) -> Tensor:
    wide = contexts.dtype if contexts.dtype == torch.float64 else torch.float32
    return contexts.detach().to("cpu", wide)
