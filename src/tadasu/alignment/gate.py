"""When an answer is aligned: the rule that joins the verdicts on answer, picture and question.

``and`` is the published rule of ETA (arXiv 2410.06625): the answer is examined first, and only a
flagged answer to a flagged picture is aligned. So harm that comes in words is never aligned, and
a picture that CLIP misses lets any answer through. ``or`` aligns when anything is flagged;
``post_only`` when the answer is. A flagged question counts like a flagged picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from tadasu.errors import UnknownName

Rule = Literal["and", "or", "post_only"]
Flagged = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A rule over three checks, each of which is run only when the rule needs it.

    Attributes:
        rule: how verdicts are joined.

    Raises:
        UnknownName: there is no such rule.
    """

    rule: Rule = "and"

    def __post_init__(self) -> None:
        """Refuse other rules."""
        if self.rule not in get_args(Rule):
            raise UnknownName("gate", self.rule, get_args(Rule))

    @property
    def asks_context(self) -> bool:
        """Whether picture and question can matter at all."""
        return self.rule != "post_only"

    def opens(self, draft: Flagged, *context: Flagged) -> bool:
        """Whether the answer must be aligned.

        Args:
            draft: says whether the answer is flagged; asked first.
            context: picture and question, asked in this order while they can change the result.

        >>> Gate(rule="and").opens(lambda: True, lambda: False), Gate(rule="or").opens(
        ...     lambda: True, lambda: 1 / 0
        ... )
        (False, True)
        """
        answer = draft()
        if self.rule == "post_only":
            return answer
        if self.rule == "or":
            return answer or any(each() for each in context)
        return answer and any(each() for each in context)
