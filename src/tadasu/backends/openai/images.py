"""Text-to-image behind a server that speaks OpenAI's images API, for evaluating closed models.

A refusal for content is an outcome of its own (``blocked``), so is a failure (``error``); neither
is ever an empty picture. What can get better by waiting (timeouts, 408, 409, 429, 5xx, a broken
connection) is tried again a bounded number of times. An answer of 200 without a picture is an
error: some servers answer refusals that way, and nothing in it says so.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tadasu.backends.openai.client import key_for, opened
from tadasu.backends.openai.fetch import MAX_BYTES, fetch
from tadasu.detectors.images import decode_image
from tadasu.errors import BadInput, MissingPart, RunFailed, TadasuError, shown
from tadasu.records import Json

if TYPE_CHECKING:
    from PIL.Image import Image

#: Error codes that say "refused for its content": OpenAI's, its older one, its newer one, Azure's.
REFUSALS = frozenset(
    {
        "moderation_blocked",
        "content_policy_violation",
        "image_content_policy_violation",
        "content_filter",
        "contentFilter",
        "ResponsibleAIPolicyViolation",
    }
)
_AGAIN = frozenset({408, 409, 429, *range(500, 600)})
_VIOLATIONS = re.compile(r"safety_violations=\[([^\]]*)\]")
_LONGEST_WAIT = 30.0


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What became of one request.

    Attributes:
        outcome: picture, refusal or failure.
        image: RGB; given exactly when there is a picture.
        reason: what the server said.
        stage: ``input`` or ``output`` of a refusal, where the server tells.
        details: attempts, revised prompt, categories, usage.
    """

    outcome: Literal["image", "blocked", "error"]
    image: Image | None = None
    reason: str = ""
    stage: str = ""
    details: Mapping[str, Json] = field(default_factory=dict)


class ImageServer:
    """A text-to-image model behind a server.

    Args:
        address: of the API, for example ``https://api.openai.com/v1``.
        model: its name at the server.
        api_key: None for the environment variable ``OPENAI_API_KEY`` where the address is on the
            host of ``OPENAI_BASE_URL``, else an empty key.
        size: ``"1024x1024"``, … or empty for the server's own.
        extra: further fields of the request, such as ``{"quality": "low"}``.
        seeded: whether the server takes a ``seed``, which OpenAI's own does not.
        attempts: how often a request is made at most, 1 to 10.
        timeout: seconds for one attempt.
        wait: waits so many seconds; tests hand in one that does not.

    Raises:
        BadInput: attempts or timeout out of range.
        MissingPart: the extra ``openai`` is not installed.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str,
        api_key: str | None = None,
        size: str = "",
        extra: Mapping[str, Json] | None = None,
        seeded: bool = False,
        attempts: int = 4,
        timeout: float = 120.0,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        if not (1 <= attempts <= 10 and 0 < timeout <= 3600):
            raise BadInput("attempts is 1 to 10 and timeout above 0 and at most 3600 seconds.")
        try:
            import openai
        except ImportError as error:
            raise MissingPart.extra("asking an image server", "openai") from error
        self._openai: Any = openai
        self.address, self.model, self.size = address, model, size
        self.extra, self.seeded = dict(extra or {}), seeded
        self._attempts, self._timeout, self._wait = attempts, timeout, wait
        self._client: Any = opened(
            openai, address, key=key_for(address, api_key), timeout=timeout, limit=2 * MAX_BYTES
        )

    def draw(self, prompt: str, seed: int = 0) -> Drawn:
        """One picture.

        Raises:
            MissingPart: the server refuses the key, or has no such model or address.
        """
        last = "no attempt was made"
        for attempt in range(1, self._attempts + 1):
            try:
                return self._read(self._asked(prompt, seed), attempt)
            except self._openai.APIStatusError as error:
                told = self._refused(error, attempt)
                if told is not None:
                    return told
                last = f"{error.status_code}: {_message(error)}"
                if error.status_code not in _AGAIN:
                    return Drawn(outcome="error", reason=last, details={"attempts": attempt})
                pause = _retry_after(error)
            except self._openai.APIConnectionError as error:  # timeouts are connection errors
                last, pause = f"{type(error).__name__}: {error}", None
            if attempt < self._attempts:
                self._wait(min(pause or 0.5 * 2.0 ** (attempt - 1), _LONGEST_WAIT))
        reason = f"given up after {self._attempts} attempts; {last}"
        return Drawn(outcome="error", reason=reason, details={"attempts": self._attempts})

    def _asked(self, prompt: str, seed: int) -> Any:
        more: dict[str, Any] = dict(self.extra)
        if self.seeded:
            more["seed"] = seed
        return self._client.images.generate(
            prompt=prompt,
            model=self.model,
            n=1,
            size=self.size or self._openai.omit,
            extra_body=more or None,
        )

    def _refused(self, error: Any, attempt: int) -> Drawn | None:
        """The refusal that an error means, if it means one."""
        if error.status_code in (401, 403, 404) and not _codes(error) & REFUSALS:
            raise MissingPart(
                f"{self.address} answers {error.status_code} for the model {shown(self.model)}: "
                f"{_message(error)}. Check address, model and key."
            ) from error
        if not _codes(error) & REFUSALS:
            return None
        body = _body(error)
        about = body.get("moderation_details")
        about = about if isinstance(about, dict) else body
        stage = str(about.get("moderation_stage") or "")
        found = about.get("categories")
        listed = _VIOLATIONS.search(_message(error))
        categories: list[Json] = (
            [str(each) for each in found]
            if isinstance(found, list)
            else [c.strip() for c in listed.group(1).split(",")]
            if listed
            else []
        )
        return Drawn(
            outcome="blocked",
            reason=_message(error),
            stage=stage if stage in ("input", "output") else "",
            details={"attempts": attempt, "categories": categories},
        )

    def _read(self, answer: Any, attempt: int) -> Drawn:
        items = list(answer.data or [])
        details: dict[str, Json] = {"attempts": attempt}
        if not items:
            reason = "the server answered without a picture and without saying why"
            return Drawn(outcome="error", reason=reason, details=details)
        item = items[0]
        if getattr(item, "revised_prompt", None):
            details["revised_prompt"] = str(item.revised_prompt)
        if getattr(item, "respect_moderation", None) is False:
            reason = "the server says that the picture was moderated"
            return Drawn(outcome="blocked", reason=reason, stage="output", details=details)
        try:
            image = decode_image(self._data(item), name="the server's picture")
        except TadasuError as error:
            return Drawn(outcome="error", reason=str(error), details=details)
        return Drawn(outcome="image", image=image, details=details)

    def _data(self, item: Any) -> bytes:
        if item.b64_json:
            text = str(item.b64_json)
            if len(text) > MAX_BYTES * 4 // 3 + 4:
                raise RunFailed(f"The picture has more than {MAX_BYTES:,} bytes.")
            try:
                return base64.b64decode(text.partition("base64,")[2] or text, validate=True)
            except binascii.Error as error:
                raise RunFailed(f"The server's base64 is damaged: {error}.") from error
        if item.url:
            return fetch(str(item.url), server=self.address, timeout=self._timeout)
        raise RunFailed("The server's picture has neither b64_json nor url.")


def _body(error: Any) -> dict[str, Any]:
    """The object in which the server says what went wrong."""
    body = error.body if isinstance(error.body, dict) else {}
    inner = body.get("error")
    return inner if isinstance(inner, dict) else body


def _codes(error: Any) -> set[str]:
    """Every code in an error, the inner one of Azure too."""
    body = _body(error)
    inner = body.get("innererror") or body.get("inner_error")
    nested = inner.get("code") if isinstance(inner, dict) else None
    return {str(code) for code in (body.get("code"), nested) if code}


def _message(error: Any) -> str:
    return str(_body(error).get("message") or error)[:400]


def _retry_after(error: Any) -> float | None:
    given = error.response.headers.get("retry-after", "")
    try:
        return max(float(given), 0.0)
    except ValueError:
        return None
