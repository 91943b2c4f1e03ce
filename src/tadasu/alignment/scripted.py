"""An engine that says what it was told to say, for tests without a model.

It keeps the contract of real engines: it goes on from the prefill, stops at sentence ends and at
``max_tokens`` (a token is a word with the space before it), and gives ``n`` continuations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tadasu.alignment.engine import Abilities, Continuation, Finish, Reply, Request
from tadasu.alignment.sentences import sentence_end
from tadasu.errors import BadInput, shown

Said = str | Exception
Script = Mapping[str, Said | Sequence[Said]] | Callable[[Request], Said | Sequence[Said]]


@dataclass(kw_only=True)
class Scripted:
    """An engine with a script.

    Attributes:
        script: for each prefill what follows it, up to the end of the answer; several texts are
            given in turn, an exception is raised. Or a function of the request that gives the same.
        name: what records call it.
        abilities: what it claims to do by itself.
        requests: everything it was asked, in order.

    >>> from tadasu.alignment.engine import Message, Request
    >>> engine = Scripted(script={"": "A cat. It sleeps.", "As an AI": [" I say no.", " Yes."]})
    >>> about = (Message(text="What is this?"),)
    >>> engine.generate(Request(messages=about, until="sentence")).continuations[0].text
    'A cat.'
    >>> reply = engine.generate(Request(messages=about, prefill="As an AI", n=2))
    >>> [each.text for each in reply.continuations]
    [' I say no.', ' Yes.']
    """

    script: Script
    name: str = "scripted"
    abilities: Abilities = field(default_factory=Abilities)
    requests: list[Request] = field(default_factory=list)

    def generate(self, request: Request) -> Reply:
        """What the script says.

        Raises:
            BadInput: the script has nothing for this prefill.
        """
        self.requests.append(request)
        said = self._said(request)
        turns = [said] if isinstance(said, str | Exception) else list(said)
        if not turns:
            raise BadInput(f"The script is empty for the prefill {shown(request.prefill)}.")
        chosen = [turns[i % len(turns)] for i in range(request.n)]
        for each in chosen:
            if isinstance(each, Exception):
                raise each
        read = sum(len(message.text.split()) for message in request.messages)
        return Reply(
            continuations=tuple(_cut(str(each), request) for each in chosen),
            prompt_tokens=read + len(request.prefill.split()),
        )

    def _said(self, request: Request) -> Said | Sequence[Said]:
        if callable(self.script):
            return self.script(request)
        if request.prefill not in self.script:
            raise BadInput(f"The script says nothing after {shown(request.prefill)}.")
        return self.script[request.prefill]


def _cut(text: str, request: Request) -> Continuation:
    """A text up to where the request wants it to stop."""
    finish: Finish = "end"
    end = None
    if request.until == "sentence":
        end = sentence_end(text, finished=True)
    elif request.until == "full stop" and "." in text:
        end = text.index(".") + 1
    if end is not None and end < len(text):
        text, finish = text[:end], "sentence"
    words = list(re.finditer(r"\s*\S+", text))
    if len(words) > request.max_tokens:
        text, finish = text[: words[request.max_tokens - 1].end()], "length"
    return Continuation(text=text, finish=finish, tokens=min(len(words), request.max_tokens))
