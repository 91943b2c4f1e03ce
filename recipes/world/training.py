"""What the training loops share: resuming, the learning rate, progress, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

#: Where the library finds the models that are shipped.
WORLD = Path(__file__).resolve().parents[2] / "src" / "tadasu" / "world"


def start_of(config: dict[str, Any], out: Path) -> Path:
    """The pipeline that a training starts from; the work folder where it names none.

    ``start`` names a shipped one, or after ``./`` one that an earlier stage left in the work
    folder ``out``.

    >>> start_of({"start": "./pipeline"}, Path("work")) == Path("work/pipeline")
    True
    >>> start_of({"start": "pipeline"}, Path("work")) == WORLD / "pipeline"
    True
    """
    start = config.get("start", "./")
    return out / start[2:] if start.startswith("./") else WORLD / start


class Loop:
    """Steps of one training, continued from its checkpoint.

    Args:
        name: of the stage, for the log.
        config: with ``steps``, ``batch``, ``lr`` and ``seed``; ``until`` ends the training sooner,
            with the learning rates of the whole.
        parts: modules and optimisers whose state a checkpoint keeps, by name.
        checkpoint: file of the checkpoint; it is replaced as a whole.
        schedule: how the learning rate falls to (nearly) 0.
        every: steps between checkpoints.
    """

    def __init__(
        self,
        name: str,
        config: dict[str, Any],
        parts: dict[str, Any],
        checkpoint: Path,
        *,
        schedule: Literal["cosine", "linear"] = "cosine",
        every: int = 300,
    ) -> None:
        self.name, self.config, self.parts, self.checkpoint = name, config, parts, checkpoint
        self.schedule, self.every, self.first = schedule, every, 0
        self.losses: list[float] = []
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True)
            for key, part in parts.items():
                part.load_state_dict(state[key])
            self.first = state["step"]
        self.seed = config["seed"] + self.first

    def steps(self) -> Iterator[int]:
        """The steps that remain; sets the learning rate before each, logs and saves after it."""
        began, total = time.monotonic(), self.config["steps"]
        last = min(total, self.config.get("until", total))
        for step in range(self.first, last):
            for group in self.parts["optimiser"].param_groups:
                group["lr"] = self.config["lr"] * self.factor(step)
            yield step
            done = step + 1
            if done % 50 == 0:
                rate = (done - self.first) * self.config["batch"] / (time.monotonic() - began)
                loss = sum(self.losses[-50:]) / len(self.losses[-50:])
                print(f"{self.name} {done}/{total} loss {loss:.4f} {rate:.0f}/s", flush=True)
            if done % self.every == 0 or done == last:
                self.save(done)

    def factor(self, step: int) -> float:
        """Share of the full learning rate: 50 steps of warm-up, then falling."""
        share = step / self.config["steps"]
        falling = 0.505 + 0.495 * math.cos(math.pi * share)
        return min(1, (step + 1) / 50) * (
            falling if self.schedule == "cosine" else max(1 - share, 0.02)
        )

    def descend(self, loss: torch.Tensor, model: nn.Module, limit: float = 1.0) -> None:
        """One step of the optimiser, gradients cut to a norm of ``limit``."""
        optimiser = self.parts["optimiser"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), limit)
        optimiser.step()
        self.losses.append(loss.item())

    def save(self, step: int) -> None:
        """Writes the checkpoint; the one before stays until the new one is whole."""
        partial = self.checkpoint.with_suffix(".partial")
        states = {key: part.state_dict() for key, part in self.parts.items()}
        torch.save(states | {"step": step}, partial)
        partial.replace(self.checkpoint)
