"""Searches for tokens that make an objective small: by projection, on the simplex, by evolution.

Projected: Yuxin Wen and others, "Hard Prompts Made Easy", NeurIPS 2023 (arXiv 2302.03668),
algorithm 1: the gradient is taken at the nearest tokens and applied to free vectors.
Simplex: each place holds a mixture of tokens, moved along the gradient and put back on the
simplex (John Duchi and others, "Efficient Projections onto the l1-Ball", ICML 2008, figure 1).
Evolution: crossover and mutation of token lists, as Ring-A-Bell (arXiv 2310.10012) has them.

All searches work on several prompts at once, and none of them sees another. What is returned is
always the best list of real tokens that was tried, never a mixture or a free vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tadasu.errors import BadInput, RunFailed

#: Embedding rows of the searched tokens to one loss for each prompt, differentiable.
Objective = Callable[[Float[Tensor, "batch length width"]], Float[Tensor, " batch"]]


#: Offers after which a search looks whether its losses are still numbers.
PATIENCE = 64
#: What a loss is multiplied by before its gradient is taken; a power of two changes no digit.
SCALE = 2.0**12


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found.

    Attributes:
        tokens: the best list of tokens for each prompt.
        loss: what the objective says about them.
        steps: how often the objective was asked.
    """

    tokens: Int[Tensor, "batch length"]
    loss: Float[Tensor, " batch"]
    steps: int


class Best:
    """Keeps, for each prompt, the tokens with the smallest loss so far.

    It waits for the device only every `PATIENCE` offers, to see whether losses are numbers.
    """

    def __init__(self) -> None:
        self._tokens: Tensor | None = None
        self._loss: Tensor | None = None
        self._finite: Tensor | None = None
        self._steps = 0

    def offer(self, tokens: Int[Tensor, "batch length"], loss: Float[Tensor, " batch"]) -> None:
        """Take what is better.

        Raises:
            RunFailed: a loss was not finite.
        """
        loss, finite = loss.detach(), torch.isfinite(loss.detach()).all()
        self._finite = finite if self._finite is None else self._finite & finite
        self._steps += 1
        if self._steps % PATIENCE == 0:
            self._check()
        if self._tokens is None or self._loss is None:
            self._tokens, self._loss = tokens.clone(), loss.clone()
            return
        better = loss < self._loss
        self._tokens = torch.where(better[:, None], tokens, self._tokens)
        self._loss = torch.where(better, loss, self._loss)

    def _check(self) -> None:
        if self._finite is None or not bool(self._finite):
            raise RunFailed("The attack's objective is not finite; nothing it found can be used.")

    def found(self) -> Found:
        """What was best.

        Raises:
            RunFailed: a loss was not finite.
        """
        self._check()
        assert self._tokens is not None
        assert self._loss is not None
        return Found(tokens=self._tokens, loss=self._loss, steps=self._steps)


def projected(
    objective: Objective,
    table: Float[Tensor, "token width"],
    allowed: Bool[Tensor, " token"],
    start: Int[Tensor, "batch length"],
    *,
    steps: int,
    rate: float,
    decay: float,
) -> Found:
    """Hard prompts by projected gradients.

    Args:
        objective: what is to become small.
        table: the text encoder's token embeddings.
        allowed: which tokens may be used.
        start: the first tokens.
        steps: how often the gradient is taken, at least 1.
        rate: AdamW's learning rate.
        decay: AdamW's weight decay.
    """
    choices = _choices(allowed)
    pool = table.detach()[choices]
    free = table.detach()[start].clone()
    optimiser, best = torch.optim.AdamW([free], lr=rate, weight_decay=decay), Best()
    for _ in range(steps):
        tokens = choices[_nearest(free, pool)]
        hard = table.detach()[tokens].requires_grad_()
        loss = objective(hard)
        best.offer(tokens, loss)
        free.grad = slope(loss, hard)
        optimiser.step()
    tokens = choices[_nearest(free, pool)]
    with torch.no_grad():
        best.offer(tokens, objective(table.detach()[tokens]))
    return best.found()


def simplex(
    objective: Objective,
    table: Float[Tensor, "token width"],
    allowed: Bool[Tensor, " token"],
    start: Int[Tensor, "batch length"],
    *,
    steps: int,
    rate: float,
) -> Found:
    """Mixtures of tokens by projected gradients; the likeliest tokens are tried at every step.

    Args:
        objective: what is to become small.
        table: the text encoder's token embeddings.
        allowed: which tokens may be used.
        start: the first tokens; every place begins as an even mixture of its token and all.
        steps: how often the gradient is taken, at least 1.
        rate: length of the first step along the gradient of each place, in shares of a token;
            later steps are shorter, down to 0.
    """
    choices = _choices(allowed)
    pool = table.detach()[choices]
    shares = 0.5 * (start[..., None] == choices).to(pool.dtype) + 0.5 / len(choices)
    best = Best()
    with torch.no_grad():
        best.offer(start, objective(table.detach()[start]))
    for step in range(steps):
        shares = shares.detach().requires_grad_()
        gradient = slope(objective(shares @ pool), shares)
        gradient = gradient - gradient.mean(-1, keepdim=True)
        length = gradient.norm(dim=-1, keepdim=True).clamp(min=1e-30)
        pace = rate * (1 - step / steps)  # shorter and shorter, so that places come to rest
        shares = onto_simplex(shares.detach() - pace * gradient / length)
        tokens = choices[shares.argmax(-1)]
        with torch.no_grad():
            best.offer(tokens, objective(table.detach()[tokens]))
    return best.found()


def slope(loss: Float[Tensor, " batch"], by: Tensor) -> Tensor:
    """The gradient of a sum of losses, through a network in half precision as well.

    A loss is a mean over many predicted values, so on its way back its gradient falls below the
    smallest number of float16. It is made large first and small again at the end, in float32.
    """
    (gradient,) = torch.autograd.grad(loss.float().sum() * SCALE, by)
    return gradient.float() / SCALE


def onto_simplex(rows: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
    """The nearest rows of numbers from 0 on that sum to 1.

    >>> onto_simplex(torch.tensor([0.5, 0.5, -1.0])).tolist()
    [0.5, 0.5, 0.0]
    >>> onto_simplex(torch.tensor([2.0, 0.0])).tolist()
    [1.0, 0.0]
    """
    falling = rows.sort(dim=-1, descending=True).values
    count = torch.arange(1, rows.shape[-1] + 1, device=rows.device, dtype=rows.dtype)
    excess = (falling.cumsum(-1) - 1) / count
    kept = (falling > excess).sum(-1, keepdim=True)
    return (rows - excess.gather(-1, kept - 1)).clamp(min=0)


def evolved(
    loss_of: Callable[[Int[Tensor, "many length"]], Float[Tensor, " many"]],
    allowed: Bool[Tensor, " token"],
    *,
    length: int,
    population: int,
    generations: int,
    crossover: float,
    mutation: float,
    seed: int,
) -> Found:
    """One list of tokens by evolution.

    Args:
        loss_of: what is to become small, for many lists of tokens.
        allowed: which tokens may be used.
        length: how many tokens.
        population: how many lists live at once, at least 2; the better half has children.
        generations: how often the worse half is replaced by children.
        crossover: probability that a child has two parents.
        mutation: probability that one token of a child is drawn anew.
        seed: makes the search repeatable.
    """
    # Chance is drawn on the CPU, so that a seed means the same search on every device.
    chance, choices = torch.Generator().manual_seed(seed), _choices(allowed)
    device = choices.device

    def below(limit: int, *shape: int, least: int = 0) -> Tensor:
        return torch.randint(least, limit, shape, generator=chance).to(device)

    def likely(share: float, *shape: int) -> Tensor:
        return (torch.rand(shape, generator=chance) < share).to(device)

    def drawn(*shape: int) -> Tensor:
        return choices[below(len(choices), *shape)]

    alive = drawn(population, length)
    losses, half = loss_of(alive), population // 2
    for _ in range(generations):
        order = losses.argsort()
        alive, losses = alive[order], losses[order]
        count = population - half
        mother = alive[below(half, count)]
        father = alive[below(half, count)]
        cut = below(length, count, 1, least=1) if length > 1 else 1
        crossed = likely(crossover, count, 1)
        places = torch.arange(length, device=device)
        child = torch.where(crossed & (places >= cut), father, mother)
        place = below(length, count, 1)
        changed = likely(mutation, count, 1) & (places == place)
        child = torch.where(changed, drawn(count)[:, None], child)
        alive = torch.cat([alive[:half], child])
        losses = torch.cat([losses[:half], loss_of(child)])
    best = Best()
    winner = losses.argmin()
    best.offer(alive.index_select(0, winner[None]), losses.index_select(0, winner[None]))
    found = best.found()
    return Found(tokens=found.tokens, loss=found.loss, steps=generations + 1)


def random_start(
    allowed: Bool[Tensor, " token"], *, batch: int, length: int, seed: int
) -> Int[Tensor, "batch length"]:
    """Tokens drawn at random; those of prompt i do not depend on how many prompts there are."""
    choices = _choices(allowed)
    rows = [
        torch.randint(
            len(choices), (length,), generator=torch.Generator().manual_seed(seed + 7919 * i)
        )
        for i in range(batch)
    ]
    return choices[torch.stack(rows).to(choices.device)]


def _choices(allowed: Bool[Tensor, " token"]) -> Int[Tensor, " choice"]:
    choices = allowed.nonzero().flatten()
    if not len(choices):
        raise BadInput("No token may be used, so there is nothing to search.")
    return choices


def _nearest(
    rows: Float[Tensor, "batch length width"], pool: Float[Tensor, "choice width"]
) -> Int[Tensor, "batch length"]:
    """The token with the largest cosine for each row."""
    one, two = (torch.nn.functional.normalize(x, dim=-1) for x in (rows, pool))
    return (one @ two.T).argmax(-1)
