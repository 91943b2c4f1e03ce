"""Guard models and evaluators behind servers: what they are shown, how they are read."""

from __future__ import annotations

from typing import Any

import pytest

from tadasu.alignment.evaluators.card import EvaluatorCard
from tadasu.alignment.evaluators.evaluator import Exchange, TextCheck
from tadasu.backends.openai.evaluators import ClassifyServer, ModerationServer, served
from tadasu.backends.transformers.guards import FirstWordGuard, recognised
from tadasu.errors import BadFile, BadInput

PARTS = (
    "{% for m in messages %}{% for c in m['content'] %}"
    "{% if c is mapping and c['type'] == 'text' %}{{ c['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}"
)
EMPTY = "nothing is shown"
PLAIN = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


class Tokenizer:
    """Renders by a real template engine, as transformers does."""

    def __init__(self, template: str) -> None:
        self._template = template

    def apply_chat_template(self, turns: Any, **_: Any) -> str:
        from jinja2.sandbox import SandboxedEnvironment

        return SandboxedEnvironment().from_string(self._template).render(messages=turns)


@pytest.mark.parametrize("template", [PARTS, PLAIN])
def test_both_forms_of_content_are_shown(template: str) -> None:
    guard = FirstWordGuard.__new__(FirstWordGuard)
    guard._tokenizer, guard._ref = Tokenizer(template), "guard"
    shown = guard._rendered(Exchange(question="What is this?", answer="A cat."), "")
    assert "What is this?" in shown
    assert "A cat." in shown


def test_a_template_that_shows_nothing_is_refused() -> None:
    guard = FirstWordGuard.__new__(FirstWordGuard)
    guard._tokenizer, guard._ref = Tokenizer(EMPTY), "guard"
    with pytest.raises(BadFile, match="does not show the conversation"):
        guard._rendered(Exchange(question="What is this?", answer="A cat."), "")


def test_kinds_are_told_by_their_templates() -> None:
    assert recognised("Safety: Safe|Unsafe") == "qwen3guard"
    assert recognised("You are a policy expert {{ guideline }}") == "shieldgemma"
    assert recognised("must read 'safe' or 'unsafe' ... categories") == "llama-guard"


def test_moderations_are_read_by_the_worst_category() -> None:
    def post(asked: dict[str, Any]) -> Any:
        return {
            "results": [
                {"flagged": "bad" in text, "category_scores": {"violence": 0.3, "hate": 0.1}}
                for text in asked["input"]
            ]
        }

    check = TextCheck(evaluator=ModerationServer(name="m", model="", post=post), threshold=0.5)
    bad, good = check.examine("draft", [Exchange(answer="bad"), Exchange(answer="good")])
    assert (bad.flagged, good.flagged, good.verdict.score.value) == (True, False, 0.3)


@pytest.mark.parametrize("reply", [{}, {"data": []}, {"data": [{"index": 0, "probs": [1.0]}]}])
def test_a_reply_that_is_not_understood_is_flagged(reply: Any) -> None:
    server = ClassifyServer(
        name="c", model="m", labels=("fine", "bad"), unsafe=("bad",), post=lambda _: reply
    )
    (found,) = TextCheck(evaluator=server, threshold=0.5).examine("draft", [Exchange(answer="x")])
    assert found.verdict.score.value is None
    assert found.flagged


def test_classify_needs_its_labels() -> None:
    with pytest.raises(BadInput, match="names only the likeliest label"):
        served(EvaluatorCard(address="http://127.0.0.1:9/classify", model="m"))
    with pytest.raises(BadInput, match="is no evaluator"):
        served(EvaluatorCard(address="http://127.0.0.1:9/v1", model="m"))
