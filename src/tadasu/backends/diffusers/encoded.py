"""Encoded texts of concepts, kept beside the text encoder that made them.

A policy may name hundreds of texts, and a server attaches the same policy again for every request.
What a text means to an encoder does not change from one attachment to the next, so it is kept as
long as the encoder lives. Before each run the encoder is asked for the empty text: if its answer,
or the memory or version of its word embeddings, differs from the one that was kept, everything is
dropped and encoded again. So the second attachment of a policy costs one call of the encoder.

Whole conditionings are large (megabytes for T5), so only the latest are kept, up to `MOST_BYTES`;
the one vector that a text is compared by is always kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from tadasu.backends.diffusers.context.layer import added
from tadasu.backends.diffusers.families import Family
from tadasu.backends.diffusers.families_text import ENCODING, Conditioning

#: Bound on the conditionings that are kept for one text encoder.
MOST_BYTES = 256 * 2**20
#: Ways of encoding (clip_skip, lengths) that are kept for one text encoder.
_MOST_WAYS = 4


@dataclass(eq=False, kw_only=True)
class _Kept:
    """What one text encoder said, in one way of asking it.

    Attributes:
        empty: its answer to the empty text.
        words: memory and version of its word embeddings.
        conditionings: the latest answers, oldest first.
        sums: one vector per text.
    """

    empty: Conditioning
    words: tuple[Any, ...]
    conditionings: OrderedDict[str, Conditioning] = field(default_factory=OrderedDict)
    sums: dict[str, Tensor] = field(default_factory=dict)


_KEPT: WeakKeyDictionary[torch.nn.Module, OrderedDict[Any, _Kept]] = WeakKeyDictionary()


class Encoded:
    """Texts as the conditioning of one pipeline's denoiser, during one run.

    Args:
        pipe: the pipeline.
        family: how it works.
        call: the arguments of the call, some of which change how a text is encoded.
        lasting: whether the encoder is as it will be after this run; False where an
            edit acts in it.
    """

    def __init__(
        self, pipe: Any, family: Family, call: Mapping[str, Any], *, lasting: bool = True
    ) -> None:
        self._pipe, self._family, self._call, self._keep = pipe, family, call, lasting
        self._held: dict[str, Conditioning] = {}
        self._kept: _Kept | None = None

    @property
    def stepwise(self) -> bool:
        """Whether each token's state sums up the text so far, as CLIP's do."""
        return self._family.attention == "cross"

    def of(self, text: str) -> Conditioning:
        """The conditioning of a text; the same object during a run.

        Raises:
            BadInput: the encoder would not read the text to its end.
        """
        if text not in self._held:
            self._held[text] = self._conditioning(text)
        return self._held[text]

    def sum(self, text: str) -> Tensor:
        """One vector for a text: CLIP's last state, or the mean over other encoders' tokens.

        Raises:
            BadInput: the encoder would not read the text to its end.
        """
        kept = self._lasting()
        sums = kept.sums if kept else {}
        if text not in sums:
            states = self._conditioning(text)[self._family.context][0].float()
            if self.stepwise:
                tokenizer = _parts(self._pipe, "tokenizer")[0]  # SDXL's refiner has the second only
                last = len(tokenizer(text).input_ids) - 1
                sums[text] = states[min(last, len(states) - 1)].clone()
            else:
                sums[text] = states.mean(0)
        return sums[text]

    def _conditioning(self, text: str) -> Conditioning:
        kept = self._lasting()
        if kept is None:
            return self._family.encode(self._pipe, text, self._call)
        if not text:
            return kept.empty
        if text not in kept.conditionings:
            kept.conditionings[text] = self._family.encode(self._pipe, text, self._call)
            while len(kept.conditionings) > 1 and _size(kept.conditionings) > MOST_BYTES:
                kept.conditionings.popitem(last=False)
        kept.conditionings.move_to_end(text)
        return kept.conditionings[text]

    def _lasting(self) -> _Kept | None:
        """What is kept for this encoder, checked once per run; None where there is no encoder."""
        encoders = _parts(self._pipe, "text_encoder")
        if self._kept is not None or not encoders or not self._keep:
            return self._kept
        parts = (*encoders, *_parts(self._pipe, "tokenizer"))
        options = (repr(self._call.get(name)) for name in ENCODING)
        way = (self._family.name, *map(id, parts), *options, *added(self._pipe))
        ways = _KEPT.setdefault(encoders[0], OrderedDict())
        empty, words = self._family.encode(self._pipe, "", self._call), _words(encoders)
        found = ways.get(way)
        if found is None or found.words != words or not _same(found.empty, empty):
            ways[way] = _Kept(empty=empty, words=words)
        ways.move_to_end(way)
        while len(ways) > _MOST_WAYS:
            ways.popitem(last=False)
        self._kept = ways[way]
        return self._kept


def _parts(pipe: Any, name: str) -> tuple[Any, ...]:
    """The pipeline's text encoders, or its tokenizers."""
    found = (getattr(pipe, name + suffix, None) for suffix in ("", "_2", "_3"))
    return tuple(part for part in found if part is not None)


def _words(encoders: tuple[Any, ...]) -> tuple[Any, ...]:
    """Where each encoder's word embeddings lie and how often they were written to."""
    tables = [encoder.get_input_embeddings().weight for encoder in encoders]
    return tuple((table.data_ptr(), table.dtype, _version(table)) for table in tables)


def _version(table: Tensor) -> int:
    return 0 if table.is_inference() else table._version


def _same(first: Conditioning, second: Conditioning) -> bool:
    return all(
        first[name].dtype == value.dtype
        and first[name].device == value.device
        and torch.equal(first[name], value)
        for name, value in second.items()
    )


def _size(conditionings: Mapping[str, Conditioning]) -> int:
    """Bytes of all tensors."""
    tensors = (value for parts in conditionings.values() for value in parts.values())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
