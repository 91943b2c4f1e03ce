"""Whether a server really goes on from a given beginning: tried, not assumed.

A server that goes on from the assistant's last message reads exactly the tokens of the message
more; one that closes the message as a turn of its own, or drops the field that asks for going on,
reads the closing and the next turn's opening as well. So three questions of one token are asked:
without a beginning, with "no" and with "no no". What the first word costs beyond what the second
costs is the closing; where there is none, the beginning was gone on from. A fourth question begins
with words that no model says, and a reply that says them repeats the beginning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tadasu.backends.openai.dialect import CONTINUE, Dialect
from tadasu.errors import BadInput

Ask = Callable[[str, Mapping[str, Any], int], tuple[int, str]]
"""Asks with a beginning, further fields and a number of tokens; gives tokens read, and the text."""
ODD = "Quartz 7291 lantern"


def tried(dialect: Dialect, ask: Ask) -> Dialect:
    """The dialect with what the server was found to do about beginnings.

    Args:
        dialect: who the server says it is.
        ask: asks the server; raises `BadInput` where it refuses the fields.
    """
    ways = ({}, CONTINUE) if dialect.name == "openai" or not dialect.asks else (dialect.asks, {})
    for asks in ways:
        try:
            before, one, two = (ask(text, asks, 1)[0] for text in ("", "no", "no no"))
            if not before or one <= before or one - before > two - one:
                continue
            echoes = ask(ODD, asks, 2)[1].lstrip().startswith(ODD)
        except BadInput:
            continue
        return dataclasses.replace(dialect, prefill=True, asks=dict(asks), echoes=echoes)
    return dataclasses.replace(dialect, prefill=False, asks={}, echoes=False)
