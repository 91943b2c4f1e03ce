from __future__ import annotations

import pytest
import torch

from tadasu.guidance.negative_prompt import NegativePrompt
from tadasu.guidance.rule import Predictions, Step


@pytest.mark.parametrize(
    ("strength", "expected"),
    [(0.0, 1 + 3 * (2 - 1)), (1.0, 4 + 3 * (2 - 4)), (0.5, 2.5 + 3 * (2 - 2.5))],
)
def test_hand_worked_numbers(strength: float, expected: float) -> None:
    """ε_u = 1, ε_p = 2, ε_n = 4, s_g = 3."""
    given = Predictions(
        unconditional=torch.full((1, 1, 2), 1.0),
        prompt=torch.full((1, 1, 2), 2.0),
        concepts=torch.full((1, 1, 1, 2), 4.0),
        evaluated=torch.ones(1, 1, dtype=torch.bool),
        weights=torch.tensor([[strength]]),
        latents=torch.zeros(1, 1, 2),
    )
    step = Step(index=0, count=1, guidance_scale=3.0, signal=0.5, noise=0.5)
    guided, _ = NegativePrompt().step(given, step, None)
    assert guided.flatten().tolist() == pytest.approx([expected] * 2)


def test_it_equals_negated_guidance_with_weight_one_less() -> None:
    """ε_u + s(ε_p - ε_u) - (s - 1)(ε_n - ε_u), reference equation of the negative prompt."""
    u, p, n = torch.randn(3, 1, 2, 5, generator=torch.Generator().manual_seed(0))
    given = Predictions(
        unconditional=u,
        prompt=p,
        concepts=n[None],
        evaluated=torch.ones(1, 1, dtype=torch.bool),
        weights=torch.ones(1, 1),
        latents=u,
    )
    step = Step(index=0, count=1, guidance_scale=7.5, signal=0.5, noise=0.5)
    guided, _ = NegativePrompt().step(given, step, None)
    torch.testing.assert_close(guided, u + 7.5 * (p - u) - 6.5 * (n - u))
