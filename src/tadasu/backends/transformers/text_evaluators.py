"""Networks that evaluate answers, through transformers: reward models and guard models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tadasu.alignment.evaluators.evaluator import Exchange
from tadasu.backends.transformers.load import Placed, complete, fingerprint, place, reading
from tadasu.errors import BadInput
from tadasu.references import located

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float

LONGEST = 4096
BATCH = 64


class SequenceClassifier:
    """Any `AutoModelForSequenceClassification`: a reward model or a guard classifier.

    Exchanges are written by the tokenizer's chat template where it has one, else as a pair of
    texts. An exchange that is too long is refused, never cut; whoever asks divides it
    (`tadasu.alignment.evaluators.pieces`).

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
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        if model.config.pad_token_id is None:
            model.config.pad_token_id = self._tokenizer.pad_token_id
        config = model.config
        self.labels: tuple[str, ...] = tuple(
            str(config.id2label[i]) for i in range(config.num_labels)
        )
        stated = (
            getattr(config, "max_position_embeddings", None),
            getattr(self._tokenizer, "model_max_length", None),
            LONGEST,
        )
        self._longest = min(int(each) for each in stated if each)

    @property
    def content(self) -> str:
        """What its weights are; systems with other weights are other systems."""
        return fingerprint(self._placed.model)

    def fits(self, exchange: Exchange) -> bool:
        """Whether an exchange is read to its end."""
        written = self._tokens([exchange])["input_ids"]
        return len(written[0]) <= self._longest

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
        """What the network says, in batches of similar length."""
        order = sorted(range(len(exchanges)), key=lambda i: len(exchanges[i].answer))
        rows: dict[int, Any] = {}
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            rows.update(zip(places, self._batch([exchanges[i] for i in places], read), strict=True))
        return np.stack([rows[place] for place in range(len(exchanges))])

    def _batch(self, exchanges: Sequence[Exchange], read: Any) -> Any:
        tokens = self._tokens(exchanges, padding=True, return_tensors="pt")
        if tokens["input_ids"].shape[1] > self._longest:
            raise BadInput(
                f"An exchange has {tokens['input_ids'].shape[1]:,} tokens; the evaluator reads at "
                f"most {self._longest:,}. Divide it."
            )
        mask = tokens["attention_mask"].to(self._placed.device)
        return self._placed.run(
            lambda model, ids: read(model(input_ids=ids, attention_mask=mask)),
            tokens["input_ids"],
        )

    def _tokens(self, exchanges: Sequence[Exchange], **how: Any) -> Any:
        written = [_written(self._tokenizer, exchange) for exchange in exchanges]
        has_template = self._tokenizer.chat_template is not None
        return self._tokenizer(
            [first for first, _ in written],
            None if has_template else [second for _, second in written],
            truncation=False,
            add_special_tokens=not has_template,
            verbose=False,
            **how,
        )


def turns(exchange: Exchange) -> list[dict[str, str]]:
    """An exchange as chat templates take it; what is empty is left out."""
    said = [
        {"role": "user", "content": exchange.question},
        {"role": "assistant", "content": exchange.answer},
    ]
    if not exchange.answer:
        return said[:1]
    return said


def _written(tokenizer: Any, exchange: Exchange) -> tuple[str, str]:
    """An exchange as a text, or as a pair of texts where there is no chat template."""
    if tokenizer.chat_template is None:
        return (exchange.question, exchange.answer)
    return (str(tokenizer.apply_chat_template(turns(exchange), tokenize=False)), "")


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
