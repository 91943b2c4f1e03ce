"""Networks that evaluate answers, through transformers: reward models and guard models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tadasu.alignment.evaluators.evaluator import Exchange
from tadasu.backends.transformers.load import Placed, complete, fingerprint, place, reading
from tadasu.errors import BadFile, BadInput, shown
from tadasu.references import located

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float

LONGEST = 4096


class SequenceClassifier:
    """Any `AutoModelForSequenceClassification`: a reward model or a guard classifier.

    Exchanges are written by the tokenizer's chat template where it has one, else as a pair of
    texts. An exchange that is too long keeps its end, because there stands the answer.

    Args:
        ref: a folder or a hub id.
        device: a torch device; None for CUDA where there is one, else the CPU.
        dtype: of the weights; None for float32.

    Raises:
        BadFile: the reference holds no sequence classifier.
        BadInput: there is no such device.
        MissingPart: the extra ``diffusers`` is not installed.
    """

    def __init__(
        self, ref: str, *, device: str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        ref = located(ref, "evaluator")
        with reading(ref, "an answer evaluator") as transformers:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(ref)
            model = complete(transformers.AutoModelForSequenceClassification, ref)
        self._placed: Placed = place(model, device=device, dtype=dtype)
        self._tokenizer.truncation_side = "left"
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        if model.config.pad_token_id is None:
            model.config.pad_token_id = self._tokenizer.pad_token_id
        config = model.config
        self.labels: tuple[str, ...] = tuple(
            str(config.id2label[i]) for i in range(config.num_labels)
        )
        stated = (getattr(config, "max_position_embeddings", None), LONGEST)
        self._longest = min(int(each) for each in stated if each)

    @property
    def content(self) -> str:
        """What its weights are; systems with other weights are other systems."""
        return fingerprint(self._placed.model)

    def rewards(self, exchanges: Sequence[Exchange]) -> Float[np.ndarray, " exchange"]:
        """The single logit for each exchange, or the ``score`` of a model that gives one.

        Raises:
            BadInput: the model has several labels and no score.
        """
        found: Float[np.ndarray, " exchange"] = self._run(exchanges, _reward)
        return found

    def probabilities(self, exchanges: Sequence[Exchange]) -> Float[np.ndarray, "exchange label"]:
        """The probability of each label; sigmoids for a model of several labels at once."""
        many = self._placed.model.config.problem_type == "multi_label_classification"
        found: Float[np.ndarray, "exchange label"] = self._run(
            exchanges,
            lambda output: output.logits.sigmoid() if many else output.logits.softmax(-1),
        )
        return found

    def _run(self, exchanges: Sequence[Exchange], read: Any) -> Any:
        written = [_written(self._tokenizer, exchange) for exchange in exchanges]
        has_template = self._tokenizer.chat_template is not None
        tokens = self._tokenizer(
            [first for first, _ in written],
            None if has_template else [second for _, second in written],
            padding=True,
            truncation=True,
            max_length=self._longest,
            add_special_tokens=not has_template,
            return_tensors="pt",
        )
        mask = tokens["attention_mask"].to(self._placed.device)
        return self._placed.run(
            lambda model, ids: read(model(input_ids=ids, attention_mask=mask)),
            tokens["input_ids"],
        )


class FirstWordGuard:
    """A guard model that writes its verdict, read at the first word it would write.

    Args:
        ref: a folder or a hub id of a causal language model with a chat template.
        unsafe: first words that mean unsafe, for example ``("unsafe",)`` or ``("Yes",)``.
        safe: first words that mean safe.
        device: a torch device; None for CUDA where there is one, else the CPU.
        dtype: of the weights; None for float32.

    Raises:
        BadFile: the reference holds no causal language model with a chat template.
        BadInput: no words were given, or two verdicts begin with the same token.
        MissingPart: the extra ``diffusers`` is not installed.
    """

    def __init__(
        self,
        ref: str,
        *,
        unsafe: tuple[str, ...] = ("unsafe",),
        safe: tuple[str, ...] = ("safe",),
        device: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        with reading(ref, "a guard model") as transformers:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(ref)
            model = complete(transformers.AutoModelForCausalLM, ref)
        if self._tokenizer.chat_template is None:
            raise BadFile(f"{shown(ref, 300)} has no chat template, so it asks for no verdict.")
        self._unsafe, self._safe = (self._first(words) for words in (unsafe, safe))
        if not self._unsafe or not self._safe or self._unsafe & self._safe:
            raise BadInput(
                f"The words {', '.join((*unsafe, *safe))} do not tell safe from unsafe by their "
                "first token; give others."
            )
        self._placed: Placed = place(model, device=device, dtype=dtype)

    @property
    def content(self) -> str:
        """What its weights are; systems with other weights are other systems."""
        return fingerprint(self._placed.model)

    def unsafe_share(self, exchanges: Sequence[Exchange]) -> Float[np.ndarray, " exchange"]:
        """Of the first words that mean a verdict, the share of those that mean unsafe."""
        return np.array([self._share(exchange) for exchange in exchanges])

    def _share(self, exchange: Exchange) -> float:
        import torch

        text = self._tokenizer.apply_chat_template(
            _turns(exchange), tokenize=False, add_generation_prompt=True
        )
        ids = self._tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        logits = self._placed.run(lambda model, given: model(given).logits[:, -1], ids)[0]
        chances = torch.from_numpy(logits).softmax(-1)
        bad = float(sum(chances[token] for token in self._unsafe))
        good = float(sum(chances[token] for token in self._safe))
        return bad / (bad + good)

    def _first(self, words: tuple[str, ...]) -> set[int]:
        """The tokens by which the words begin, with and without a space before them."""
        unknown = self._tokenizer.unk_token_id
        found = set()
        for word in words:
            for written in (word, f" {word}", f"\n{word}"):
                ids = self._tokenizer(written, add_special_tokens=False)["input_ids"]
                said = [i for i in ids if self._tokenizer.decode([i]).strip()]
                found |= {int(i) for i in said[:1] if i != unknown}
        return found


def _turns(exchange: Exchange) -> list[dict[str, str]]:
    """An exchange as chat templates take it; what is empty is left out."""
    turns = [
        {"role": "user", "content": exchange.question},
        {"role": "assistant", "content": exchange.answer},
    ]
    if not exchange.answer:
        return turns[:1]
    return turns


def _written(tokenizer: Any, exchange: Exchange) -> tuple[str, str]:
    """An exchange as a text, or as a pair of texts where there is no chat template."""
    if tokenizer.chat_template is None:
        return (exchange.question, exchange.answer)
    return (str(tokenizer.apply_chat_template(_turns(exchange), tokenize=False)), "")


def _reward(output: Any) -> torch.Tensor:
    found: torch.Tensor | None = getattr(output, "score", None)
    if found is not None:
        return found.reshape(-1)
    logits: torch.Tensor = output.logits
    if logits.shape[-1] != 1:
        raise BadInput(
            f"The evaluator has {logits.shape[-1]} labels, so it gives no reward; say which of "
            "them are unsafe."
        )
    return logits[:, 0]
