"""Deep alignment against servers that are really there: what each does, and what fails.

``python bench/alignment_servers.py NAME=ADDRESS#MODEL …`` asks every server the same questions
through the public API, at level deep with a gate that always opens, and prints a Markdown table.
A question without an answer is a failure, never a refusal. docs/alignment/servers.md says how the
servers were started and holds the output.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from tadasu.alignment.deep import BestOfN
from tadasu.alignment.engine import Message
from tadasu.alignment.eta import EvaluatingThenAligning
from tadasu.alignment.evaluators.evaluator import UNSAFE, Exchange, TextCheck, scored
from tadasu.alignment.method import Case, Parts
from tadasu.alignment.record import Action, Journal
from tadasu.backends import aligners
from tadasu.errors import TadasuError
from tadasu.records import Score

QUESTIONS = (
    "Name three fruits.", "What is a cat?", "How do I boil an egg?", "Why is the sky blue?",
    "What is 3.5 plus 2?", "Tell me about Dr. Who.", "Write a list of colours.", "Who was Newton?",
    "りんごとは何ですか。", "空はなぜ青いのですか。",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """Flags every answer without the prefix, so that each draft is aligned; longer is safer."""

    name = "beginning"

    def score(self, exchanges: Sequence[Exchange]) -> list[Score]:
        """Minus one without the prefix, else how much is said."""
        prefixes = tuple(EvaluatingThenAligning().prefixes.values())
        return [
            scored(self.name, UNSAFE, self._value(e.answer, prefixes), "answer", safer=True)
            for e in exchanges
        ]

    def _value(self, answer: str, prefixes: tuple[str, ...]) -> float:
        return len(answer) / 100 if answer.startswith(prefixes) else -1.0


@dataclass(kw_only=True)
class Row:
    """What became of one server's questions."""

    aligned: int = 0
    refused: int = 0
    failed: int = 0
    rounds: int = 0
    different: int = 0
    reason: str = ""


def main() -> None:
    """Asks the servers and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("servers", nargs="+", metavar="NAME=ADDRESS#MODEL")
    parser.add_argument("-n", type=int, default=len(QUESTIONS), help="questions a server")
    given = parser.parse_args()
    servers = [each.partition("=") for each in given.servers]
    asked = QUESTIONS[-given.n :]
    print("| server | taken for | goes on from a beginning | aligned | refused | failed | rounds | "
          "rounds with different candidates | seconds a question | notes |")  # fmt: skip
    print("|---" * 10 + "|")
    examples = []
    for name, _, ref in servers:
        engine = aligners.engine(ref)
        parts = Parts(engine=engine, answers=TextCheck(evaluator=Beginning(), threshold=0.0))
        row, notes, began, last = Row(), dict[str, None](), time.monotonic(), ""
        for place, question in enumerate(asked):
            journal = Journal()
            text = ask(parts, question, place, journal, row)
            last = text or last
            notes |= dict.fromkeys(journal.notes)
        seconds = (time.monotonic() - began) / len(asked)
        dialect = engine.dialect  # type: ignore[attr-defined]
        how = "no" if not dialect.prefill else "asked to" if dialect.asks else "by itself"
        cells = [name, dialect.name, how, row.aligned, row.refused, row.failed, row.rounds,
                 row.different, f"{seconds:.1f}", " ".join(notes) or row.reason or "-"]  # fmt: skip
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
        examples.append(f"- {name}: {last!r}")
    print("\nThe last answer of each:\n\n" + "\n".join(examples))


def ask(parts: Parts, question: str, seed: int, journal: Journal, row: Row) -> str:
    """One question at level deep; the servers' models see no pictures, so none is sent."""
    method = EvaluatingThenAligning(level="deep", best_of=BestOfN(n=5, sentence_tokens=24))
    case = Case(
        image=Image.new("RGB", (8, 8)), question=question, messages=(Message(text=question),),
        seed=seed, max_tokens=48,
    )  # fmt: skip
    try:
        outcome = method.run(parts, case, journal)
    except TadasuError as error:
        row.failed += 1
        row.reason = row.reason or str(error)
        return ""
    row.aligned += outcome.action is Action.ALIGNED
    row.refused += outcome.action is Action.REFUSED
    row.rounds += len(journal.rounds)
    row.different += sum(len({c.text for c in r.candidates}) > 1 for r in journal.rounds)
    return outcome.text


if __name__ == "__main__":
    main()
