"""What servers of the OpenAI protocol understand beyond it.

vLLM and SGLang can go on from a given beginning and keep the stop string in the text; the names of
these parameters differ. A server of neither kind is asked in words, and its text is cut here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from tadasu.alignment.engine import Request, Until

Name = Literal["vllm", "sglang", "openai"]

#: Where a server is told to stop; whether a sentence ended there is decided here.
STOPS: dict[Until, list[str]] = {
    "end": [],
    "full stop": ["."],
    "sentence": [".", "?", "!", "…", "。", "！", "？", "｡", "\n"],
}
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
        name: ``"vllm"``, ``"sglang"`` or ``"openai"`` for any other.
    """

    name: Name

    @property
    def extended(self) -> bool:
        """Whether it takes a prefill, ``top_k`` and stop strings that stay in the text."""
        return self.name != "openai"

    def parameters(self, request: Request) -> dict[str, Any]:
        """What a request needs beyond messages, model, n, seed and temperature."""
        if not self.extended:
            return {}
        extra: dict[str, Any] = {}
        if request.sampling.top_k:
            extra["top_k"] = request.sampling.top_k
        if request.prefill:
            extra |= {"continue_final_message": True}
            if self.name == "vllm":
                extra |= {"add_generation_prompt": False}
        found: dict[str, Any] = {}
        if request.until != "end":
            found["stop"] = STOPS[request.until]
            key = "include_stop_str_in_output" if self.name == "vllm" else "no_stop_trim"
            extra[key] = True
        return found | {"extra_body": extra}

    def ended(self, choice: Any, text: str) -> bool:
        """Whether the model ended its answer itself, not at a stop string.

        Where the server does not say what stopped it, a text that ends in a stop string counts
        as stopped there; a further request then finds the end.
        """
        if choice.finish_reason == "length":
            return False
        said = getattr(choice, "model_extra", None) or {}
        key = "stop_reason" if self.name == "vllm" else "matched_stop"
        if key in said:
            return not isinstance(said[key], str)
        return not text.rstrip(" ").endswith(tuple(STOPS["sentence"]))


def recognised(owners: list[str]) -> Dialect:
    """The dialect of a server by who it says owns its models.

    >>> recognised(["vllm"]).name, recognised(["somebody"]).name
    ('vllm', 'openai')
    """
    for owner in owners:
        if owner.lower() == "vllm":
            return Dialect(name="vllm")
        if owner.lower() == "sglang":
            return Dialect(name="sglang")
    return Dialect(name="openai")


def calm(text: str) -> str:
    """A text in which no common control token stands any more.

    >>> calm("a <image> and <|im_end|>, but <b>")
    'a < image> and < |im_end|>, but <b>'
    """
    return _CONTROL.sub(lambda match: f"{match.group()[0]} {match.group()[1:]}", text)
