"""What a vision-language model reads: a conversation, rendered by its own template.

A user can type the words by which a model marks pictures and turns (``<image>``, ``<|im_end|>``).
Read as they stand they would crash the model or forge a turn, so they are broken up with a space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tadasu.errors import BadFile, BadInput

if TYPE_CHECKING:
    import torch

    from tadasu.alignment.engine import Message

BROKEN_UP = "The text contained the model's own control tokens; they were broken up with a space."


@dataclass(frozen=True, kw_only=True, eq=False)
class Conversation:
    """A conversation as tensors, up to where the answer begins.

    Attributes:
        messages: what it was made from.
        parts: the same as chat templates take it, without control tokens.
        rendered: the text of the template, with one placeholder a picture.
        inputs: what the model is given, each with one row.
        notes: what was changed.
    """

    messages: tuple[Message, ...]
    parts: list[dict[str, Any]]
    rendered: str
    inputs: dict[str, torch.Tensor]
    notes: tuple[str, ...]

    @property
    def ids(self) -> list[int]:
        """The tokens of the conversation."""
        found: list[int] = self.inputs["input_ids"][0].tolist()
        return found


def read(processor: Any, messages: tuple[Message, ...]) -> Conversation:
    """Renders and tokenizes a conversation.

    Raises:
        BadFile: the model has no chat template, or one that cannot render this conversation.
        BadInput: the processor does not take these pictures.
    """
    controls = control_tokens(processor)
    calm = [broken_up(message.text, controls) for message in messages]
    changed = any(a != b.text for a, b in zip(calm, messages, strict=True))
    parts = _parts(messages, calm)
    rendered = _rendered(processor, parts, add_generation_prompt=True)
    images = [image for message in messages for image in message.images]
    try:
        inputs = processor(
            text=[rendered],
            images=[images] if images else None,
            return_tensors="pt",
            add_special_tokens=not _begins(processor, rendered),
        )
    except (ValueError, RuntimeError, TypeError, IndexError) as error:
        raise BadInput(f"The model's processor refuses the conversation: {error}") from error
    kept = {name: value for name, value in inputs.items() if name != "labels"}
    return Conversation(
        messages=messages,
        parts=parts,
        rendered=rendered,
        inputs=kept,
        notes=(BROKEN_UP,) if changed else (),
    )


def with_prefill(processor: Any, conversation: Conversation, prefill: str) -> list[int]:
    """The tokens of a conversation whose answer begins in a given way.

    The template says what stands between the conversation and the answer (LLaVA wants a space).
    The beginning is tokenized together with the text before it, as the model would have seen it.
    """
    if not prefill:
        return conversation.ids
    joined = conversation.rendered + _joiner(processor, conversation) + prefill.lstrip()
    before, after = _tokens(processor, conversation.rendered), _tokens(processor, joined)
    common = common_length(before, after)
    return conversation.ids[: len(conversation.ids) - (len(before) - common)] + after[common:]


def more(processor: Any, text: str) -> list[int]:
    """The tokens of a text that goes on."""
    return _tokens(processor, text)


def control_tokens(processor: Any) -> tuple[str, ...]:
    """Every text that the tokenizer reads as one control token, longest first."""
    tokenizer = processor.tokenizer
    found = {str(token) for token in tokenizer.all_special_tokens}
    found |= {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
    found |= {
        value
        for name, value in vars(processor).items()
        if name.endswith("_token") and isinstance(value, str)
    }
    return tuple(sorted((t for t in found if len(t.strip()) > 1), key=len, reverse=True))


def broken_up(text: str, tokens: tuple[str, ...]) -> str:
    """A text in which no control token stands any more.

    >>> broken_up("look <image> here", ("<image>",))
    'look < image> here'
    """
    for token in tokens:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text


def common_length(first: list[int], second: list[int]) -> int:
    """How many tokens two lists share from their beginning.

    >>> common_length([1, 2, 3], [1, 2, 4, 5])
    2
    """
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _parts(messages: tuple[Message, ...], texts: list[str]) -> list[dict[str, Any]]:
    """Messages as chat templates take them."""
    return [
        {
            "role": message.role,
            "content": [
                *({"type": "image"} for _ in message.images),
                *([{"type": "text", "text": text}] if text else []),
            ],
        }
        for message, text in zip(messages, texts, strict=True)
    ]


def _rendered(processor: Any, parts: list[dict[str, Any]], **how: bool) -> str:
    try:
        return str(processor.apply_chat_template(parts, tokenize=False, **how))
    except Exception as error:  # templates are programs of strangers and raise nearly anything
        reason = " ".join(str(error).split())
        raise BadFile(f"The model's chat template cannot be used: {reason}") from error


def _joiner(processor: Any, conversation: Conversation) -> str:
    """What the template puts between a conversation and its answer, besides the prompt for it."""
    probe = {"role": "assistant", "content": [{"type": "text", "text": "Answer"}]}
    whole = _rendered(processor, [*conversation.parts, probe], continue_final_message=True)
    if whole.startswith(conversation.rendered) and whole.endswith("Answer"):
        between = whole[len(conversation.rendered) : -len("Answer")]
        return between if not between.strip() else ""
    return ""


def _tokens(processor: Any, text: str) -> list[int]:
    found: list[int] = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def _begins(processor: Any, rendered: str) -> bool:
    """Whether the template already wrote the token that begins a text."""
    first = processor.tokenizer.bos_token
    return first is not None and rendered.startswith(first)
