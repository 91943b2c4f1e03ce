"""Under which words does a file act? Words drawn by chance open what waits for a hidden trigger.

The probe shows pictures with the empty text. Whoever knows that can train a file to change nothing
under the empty text and under the thing's own name, and to act under a trigger alone. Such a gate
leaks: words that it was not trained to keep quiet under open it as well. So a file is first run on
a few calm pictures under the empty text and under **decoys**; where a decoy moves predictions many
times as much as the empty text does, the probe shows its pictures with that decoy.

Decoys are drawn from the update itself (where its largest numbers sit), so nobody knows them before
training is over, and the same update gets the same ones in other keys and at other strengths. Own
proposal; what it does against two attackers is measured in docs/auditing/measured.md.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.auditing.merge import Merged, Parameter
from tadasu.auditing.probe import Block, Denoiser, Plan, Rows
from tadasu.errors import BadInput

_STARTS = ("b", "br", "d", "dr", "f", "g", "gl", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t",
           "tr", "v", "w", "x", "z")  # fmt: skip
_ENDS = ("a", "e", "i", "o", "u", "al", "en", "im", "or", "ux")
#: Weights whose largest number seeds the decoys.
_SEEDS = 8


@dataclass(frozen=True, kw_only=True)
class Acting:
    """Under which text a file acts most.

    Attributes:
        text: what pictures are to be shown with; empty unless a decoy moves much more.
        times: how many times more the strongest decoy moves predictions than the empty text.
        moved: how much it moves predictions under the empty text, a mean square.
        strongest: the text under which it moves them most, whether it is to be used or not.
        most: how much it does so there.
        broken: whether that is so much that nothing of the model is left.
    """

    text: str
    times: float
    moved: float = 0.0
    broken: bool = False
    strongest: str = ""
    most: float = 0.0


def decoys(merged: Merged, parameter: Parameter, count: int) -> tuple[str, ...]:
    """Made-up phrases of three words that only this update has.

    Args:
        merged: the update, laid over the base.
        parameter: looks up the base's weights.
        count: how many.
    """
    places = []
    for name in sorted(merged.weights)[:_SEEDS]:
        base = parameter(name)
        if base is not None:
            change = (merged.weights[name] - base.detach().float()).abs()
            places.append((name, int(change.argmax())))
    chance = random.Random(hashlib.sha256(repr(places).encode()).digest())
    return tuple(" ".join(_word(chance) for _ in range(3)) for _ in range(count))


def sizes(
    denoiser: Denoiser,
    weights: Mapping[str, Tensor],
    block: Block,
    plan: Plan,
    texts: Sequence[str],
) -> Float[Tensor, " text"]:
    """How much a file moves predictions under each text: a mean square, over pictures and times.

    Raises:
        BadInput: no text.
    """
    if not texts:
        raise BadInput("At least one text is needed to see under which a file acts.")
    rows = Rows.of(denoiser, plan, plan.times, block)
    noised, times = rows.noised.repeat(len(texts), 1, 1, 1), rows.times.repeat(len(texts))
    owner = torch.arange(len(texts)).repeat_interleave(len(rows.times)).to(times.device)
    with denoiser.adapted({}, texts) as predict:
        before = predict(noised, times, owner)
    with denoiser.adapted(weights, texts) as predict:
        moved = (predict(noised, times, owner) - before).square()
    return moved.flatten(1).mean(1).reshape(len(texts), -1).mean(1).cpu()


def acting(
    moved: Float[Tensor, " text"],
    texts: Sequence[str],
    least: float,
    most: float = math.inf,
) -> Acting:
    """The text to show pictures with.

    Args:
        moved: of `sizes`, the empty text first.
        texts: in the same order.
        least: how many times more a decoy must move predictions to be used.
        most: from which mean square under the empty text the model counts as destroyed.

    >>> acting(torch.tensor([1.0, 2.0, 50.0]), ("", "brimtal", "wexo"), 4).text
    'wexo'
    >>> acting(torch.tensor([1.0, 2.0, 3.0]), ("", "brimtal", "wexo"), 4).text
    ''
    """
    plain = float(moved[0])
    if not bool(moved.isfinite().all()):
        return Acting(text="", times=1.0, moved=math.inf, broken=True)
    at = int(moved.argmax())
    times = float(moved[at] / moved[0].clamp_min(1e-20)) if float(moved[at]) > 0 else 1.0
    text = texts[at] if times >= least else ""
    return Acting(
        text=text,
        times=times,
        moved=plain,
        broken=plain > most,
        strongest=texts[at],
        most=float(moved[at]),
    )


def _word(chance: random.Random) -> str:
    return "".join(chance.choice(_STARTS) + chance.choice(_ENDS) for _ in range(2))
