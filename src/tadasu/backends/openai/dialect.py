"""What servers of the OpenAI protocol understand beyond it.

vLLM and SGLang go on from a given beginning when they are told to, and keep or name the string
that they stopped at; llama.cpp goes on from any last message of the assistant, and repeats it in
its reply; ``transformers serve`` refuses fields that it does not know. Who a server says it is
decides which fields it is sent; whether it really goes on from a beginning is tried
(`tadasu.backends.openai.probe`), because a server in between may drop the field that asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from tadasu.alignment.engine import Request, Until

Name = Literal["vllm", "sglang", "llama.cpp", "openai"]

#: What asks for going on from the last message.
CONTINUE: Mapping[str, Any] = MappingProxyType(
    {"continue_final_message": True, "add_generation_prompt": False}
)
#: Where a server is told to stop, four strings at most (vLLM takes no more); whether a sentence
#: ended there is decided here, and so is where it ended at another mark.
STOPS: Mapping[Until, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "end": ((), ()),
        "full stop": ((".",), (".",)),
        "sentence": ((".", "?", "!", "\n"), ("。", "？", "！", "\n")),
    }
)
MARKS = (".", "?", "!", "…", "。", "！", "？", "｡", "\n")
_DENSE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
#: How common models mark pictures and turns; a server's own tokens are not known here.
_CONTROL = re.compile(
    r"<\|[\w ]{1,40}\|>|</?(?:image|img|video|audio|s|bos|eos|pad)>|<(?:image_soft_token|"
    r"start_of_image|end_of_image|start_of_turn|end_of_turn|fake_token_around_image|global-img|"
    r"end_of_utterance|image_pad|vision_start|vision_end|IMG_CONTEXT)>|\[/?(?:INST|IMG)\]"
)


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One kind of server.

    Attributes:
        name: ``"vllm"``, ``"sglang"``, ``"llama.cpp"`` or ``"openai"`` for any other.
        prefill: whether it goes on from a last message of the assistant.
        asks: the fields by which it is asked to; none where it does so by itself.
        echoes: whether its reply repeats the beginning.
        top_k: whether it takes one.
        stops: the field that keeps the stop string in the text; empty where none does, and then
            nothing is said about stops and texts are cut here.
    """

    name: Name
    prefill: bool = False
    asks: Mapping[str, Any] = field(default_factory=dict)
    echoes: bool = False
    top_k: bool = False
    stops: str = ""

    def parameters(self, request: Request) -> dict[str, Any]:
        """What a request needs beyond messages, model, n, seed and temperature."""
        extra: dict[str, Any] = {}
        if self.top_k and request.sampling.top_k:
            extra["top_k"] = request.sampling.top_k
        if request.prefill and self.prefill:
            extra |= self.asks
        found: dict[str, Any] = {}
        if request.until != "end" and self.stops:
            latin, dense = STOPS[request.until]
            said = request.prefill or request.messages[-1].text
            found["stop"] = list(dense if _DENSE.search(said) else latin)
            extra[self.stops] = True
        return found | ({"extra_body": extra} if extra else {})

    def text(self, choice: Any) -> str:
        """What a choice says, with the string that it stopped at where the server cut it off."""
        text = choice.message.content or ""
        reason = self._stopped_at(choice)
        return text + reason if isinstance(reason, str) and not text.endswith(reason) else text

    def ended(self, choice: Any, text: str) -> bool:
        """Whether the model ended its answer itself, not at a stop string.

        Where the server does not say what stopped it, a text that ends in a stop string counts
        as stopped there; a further request then finds the end.
        """
        if choice.finish_reason == "length":
            return False
        reason = self._stopped_at(choice)
        if reason is not _UNSAID:
            return not isinstance(reason, str)
        return not text.rstrip(" ").endswith(MARKS)

    def _stopped_at(self, choice: Any) -> Any:
        said = getattr(choice, "model_extra", None) or {}
        key = {"vllm": "stop_reason", "sglang": "matched_stop"}.get(self.name, "")
        return said.get(key, _UNSAID)


_UNSAID = object()
DIALECTS: Mapping[Name, Dialect] = MappingProxyType(
    {
        "vllm": Dialect(
            name="vllm", prefill=True, asks=CONTINUE, top_k=True,
            stops="include_stop_str_in_output",
        ),
        "sglang": Dialect(
            name="sglang", prefill=True, asks={"continue_final_message": True}, top_k=True,
            stops="no_stop_trim",
        ),
        "llama.cpp": Dialect(name="llama.cpp", prefill=True, echoes=True, top_k=True),
        "openai": Dialect(name="openai"),
    }
)  # fmt: skip
_OWNERS: Mapping[str, Name] = MappingProxyType(
    {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "llama.cpp": "llama.cpp"}
)


def recognised(owners: list[str]) -> Dialect:
    """The dialect of a server by who it says owns its models.

    >>> recognised(["vllm"]).name, recognised(["somebody"]).name
    ('vllm', 'openai')
    """
    known = (_OWNERS[owner.lower()] for owner in owners if owner.lower() in _OWNERS)
    return DIALECTS[next(known, "openai")]


def calm(text: str) -> str:
    """A text in which no common control token stands any more.

    >>> calm("a <image> and <|im_end|>, but <b>")
    'a < image> and < |im_end|>, but <b>'
    """
    return _CONTROL.sub(lambda match: f"{match.group()[0]} {match.group()[1:]}", text)
