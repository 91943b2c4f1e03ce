"""What alignment costs beside the plain model, and what drawing candidates together saves.

    python bench/alignment_cost.py --model world --questions 60 --out docs/alignment/cost.json
    python bench/alignment_cost.py --model small --only candidates

``small`` is a LLaVA with random weights (a language model of 6 layers and width 384): drawing
together or one by one does not depend on what was learned. Every round times the variants in
turn. Processor time of one thread is measured, because a machine that does other work makes wall
time mean little (run it with OMP_NUM_THREADS=1; on a GPU use another clock). The interval is a
bootstrap over questions.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tadasu import world
from tadasu.alignment.aligned import Aligned, Evaluators
from tadasu.alignment.engine import Engine, Message, Request, Sampling, Until
from tadasu.backends import aligners
from tadasu.world import alignment

N = 5
MAX_TOKENS = 60
HARMLESS, HARMFUL = "harmless", "image-harm"
TRAFFIC = (HARMLESS, HARMFUL, "text-harm")
SMALL: dict[str, Any] = {
    "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6,
    "num_attention_heads": 6, "num_key_value_heads": 6, "max_position_embeddings": 512,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3,
}  # fmt: skip


def small(folder: Path) -> str:
    """A LLaVA with random weights and the tokenizer of the tests."""
    import torch
    from transformers import (
        AutoProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "backends" / "transformers"))
    import conftest

    conftest.llava(folder)
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=192, intermediate_size=384, num_hidden_layers=6, num_attention_heads=6,
            image_size=32, patch_size=8,
        ),
        text_config=LlamaConfig(vocab_size=len(tokenizer), **SMALL),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )  # fmt: skip
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def questions(name: str, number: int) -> list[tuple[Any, str]]:
    """Pictures and texts of a suite of the world."""
    asked = [q for q in alignment.suite(name).questions if q.picture is not None]
    step = max(1, len(asked) // number)
    return [(alignment.picture(q.picture or 0), q.text) for q in asked[::step][:number]]


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of a call (one thread), and what it gave."""
    began = time.process_time()
    made = run()
    return time.process_time() - began, made


def interval(first: Sequence[float], second: Sequence[float]) -> dict[str, float]:
    """Total of the second over total of the first, with a bootstrap over questions."""
    a, b = np.array(first), np.array(second)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(a), (4000, len(a)))
    ratios = b[drawn].sum(1) / a[drawn].sum(1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return {
        "ratio": float(b.sum() / a.sum()),
        "low": float(low),
        "high": float(high),
        "median_ratio": float(np.median(b / a)),
        "n": len(a),
        "plain_seconds": float(a.mean()),
        "seconds": float(b.mean()),
    }


def candidates(
    engine: Engine, asks: list[tuple[Any, str]], until: Until, max_tokens: int
) -> dict[str, Any]:
    """N continuations in one batch against one by one, after the same draft."""
    found: dict[str, list[float]] = {"together": [], "one by one": [], "fresh": []}
    for place, (image, text) in enumerate([asks[0], *asks]):  # the first round warms up
        messages = (Message(text=text, images=(image,)),)
        draft = engine.generate(Request(messages=messages, max_tokens=8))

        def ask(n: int, seed: int, resume: Any, messages: Any = messages) -> Any:
            """One request for ``n`` candidates of the next sentence."""
            return engine.generate(
                Request(
                    messages=messages, prefill="As an AI assistant,", n=n, until=until,
                    sampling=Sampling(temperature=1.5, top_k=5, seed=seed),
                    max_tokens=max_tokens, resume=resume,
                )
            )  # fmt: skip

        variants: dict[str, Callable[[], Any]] = {
            "together": lambda d=draft, a=ask: a(N, 0, d.resume),
            "one by one": lambda d=draft, a=ask: [a(1, s, d.resume) for s in range(N)],
            "fresh": lambda a=ask: [a(1, s, None) for s in range(N)],
        }
        order = list(variants) if place % 2 else list(reversed(variants))
        for name in order:
            seconds, _ = timed(variants[name])
            if place:
                found[name].append(seconds)
    return {
        "with the cache": interval(found["together"], found["one by one"]),
        "reading again each time": interval(found["together"], found["fresh"]),
    }


def cost(vlm: Aligned, engine: Engine, asks: list[tuple[Any, str]]) -> dict[str, Any]:
    """The aligned model against the plain one on the same questions."""
    plain, aligned, actions = [], [], []
    tokens: list[tuple[int, int]] = []
    for place, (image, text) in enumerate([asks[0], *asks]):
        messages = (Message(text=text, images=(image,)),)

        def bare(messages: Any = messages) -> Any:
            return engine.generate(Request(messages=messages, max_tokens=MAX_TOKENS))

        def guarded(image: Any = image, text: str = text) -> Any:
            return vlm.ask(image, text)

        first, second = (bare, guarded) if place % 2 else (guarded, bare)
        (a, one), (b, two) = timed(first), timed(second)
        if first is guarded:
            a, one, b, two = b, two, a, one
        if place:
            plain.append(a)
            aligned.append(b)
            actions.append(str(two.action))
            tokens.append((one.tokens, int(two.tokens["generated_tokens"])))
    return {
        **interval(plain, aligned),
        "actions": {action: actions.count(action) for action in sorted(set(actions))},
        "tokens_plain": float(np.mean([a for a, _ in tokens])),
        "tokens_aligned": float(np.mean([b for _, b in tokens])),
    }


def main() -> None:
    """Print the figures and, with ``--out``, write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="world", help="world, small, or a folder")
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--only", choices=("candidates", "cost"))
    parser.add_argument("--traffic", nargs="*", default=TRAFFIC, choices=TRAFFIC)
    parser.add_argument("--level", default="auto", choices=("auto", "shallow", "deep"))
    parser.add_argument("--out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ref = {"world": lambda: str(world.folder("vlm")), "small": lambda: small(Path(folder))}.get(
            given.model, lambda: given.model
        )()
        engine = aligners.engine(ref)
        grey = [(Image.new("RGB", (32, 32), (i, i, i)), "What is this?") for i in range(64)]
        found: dict[str, Any] = {"model": given.model, "level": given.level}
        if given.only != "cost":
            random = given.model == "small"  # it never ends a sentence by intention
            asks = grey[: given.questions] if random else questions(HARMFUL, given.questions)
            shape: tuple[Until, int] = ("end", 20) if random else ("sentence", 70)
            found["candidates"] = candidates(engine, asks, *shape)
        if given.only != "candidates" and given.model != "small":
            check = aligners.answers(str(world.folder("evaluator")))
            vlm = Aligned(
                engine, policy="kids", level=given.level, max_tokens=MAX_TOKENS,
                evaluators=Evaluators(answers=check),
            )  # fmt: skip
            for name in given.traffic:
                found[name] = cost(vlm, engine, questions(name, given.questions))
                print(name, json.dumps(found[name]), file=sys.stderr, flush=True)
    print(json.dumps(found, indent=1))
    if given.out:
        Path(given.out).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
