"""SEGA against a naive loop over images, channels and concepts in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from tadasu.guidance.rule import Predictions, Step
from tadasu.guidance.sega import SemanticGuidance


def made_up(concepts: int, weights: list[list[float]]) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, 5, 4)
    return Predictions(
        unconditional=torch.randn(shape, generator=generator),
        prompt=torch.randn(shape, generator=generator),
        concepts=torch.randn(concepts, *shape, generator=generator),
        evaluated=torch.ones(concepts, 2, dtype=torch.bool),
        weights=torch.tensor(weights),
        latents=torch.randn(shape, generator=generator),
    )


def naive(
    rule: SemanticGuidance, given: Predictions, scale: float, momentum: float
) -> npt.NDArray[np.float64]:
    """ε_u + s_g(ε_p - ε_u) + Σ_k g_k γ_k + s_m ν with ν constant, one number at a time."""
    u, p = given.unconditional.double().numpy(), given.prompt.double().numpy()
    guided: npt.NDArray[np.float64] = u + scale * (p - u) + rule.momentum * momentum
    for k, concept in enumerate(given.concepts.double().numpy()):
        for image in range(u.shape[0]):
            for channel in range(u.shape[1]):
                sign = -1 if rule.reverse else 1
                psi = sign * rule.scale * (concept - u)[image, channel].ravel()
                cut = np.quantile(np.abs(psi), rule.threshold)
                kept = np.where(np.abs(psi) >= cut, psi, 0).reshape(u.shape[2:])
                guided[image, channel] += float(given.weights[k, image]) * kept
    return guided


def test_equals_the_naive_loop() -> None:
    rule = SemanticGuidance(joined=False, warmup=0.0, momentum=0.3, threshold=0.7)
    given = made_up(3, [[1.0, 0.0], [0.5, 1.0], [2.0, 0.25]])
    step = Step(index=0, count=10, guidance_scale=4.0, signal=0.6, noise=0.8)
    guided, carried = rule.step(given, step, torch.full((2, 3, 5, 4), 0.1))
    expected = naive(rule, given, 4.0, 0.1)
    np.testing.assert_allclose(guided.numpy(), expected, rtol=1e-4, atol=1e-4)
    gamma = guided - given.cfg(4.0)
    torch.testing.assert_close(carried, 0.4 * 0.1 + 0.6 * gamma, rtol=1e-4, atol=1e-4)


def test_the_threshold_is_the_share_that_is_left_alone() -> None:
    rule = SemanticGuidance(warmup=0.0, momentum=0.0, threshold=0.8)
    given = made_up(1, [[1.0, 1.0]])
    step = Step(index=0, count=10, guidance_scale=4.0, signal=0.6, noise=0.8)
    guided, _ = rule.step(given, step, torch.zeros(2, 3, 5, 4))
    changed = ((guided - given.cfg(4.0)).abs() > 1e-6).float().mean(dim=(2, 3))
    torch.testing.assert_close(changed, torch.full((2, 3), 0.2))


def test_after_cool_down_only_momentum_is_left_and_nothing_is_asked() -> None:
    rule = SemanticGuidance(warmup=0.0, cooldown=0.5, momentum=0.5)
    given = made_up(1, [[1.0, 1.0]])
    step = Step(index=5, count=10, guidance_scale=4.0, signal=0.6, noise=0.8)
    state = torch.ones(2, 3, 5, 4)
    assert not rule.wants(step, state, given.weights).any()
    guided, _ = rule.step(given, step, state)
    torch.testing.assert_close(guided, given.cfg(4.0) + 0.5)


def test_each_concept_has_a_row_of_its_own_unless_joined() -> None:
    assert SemanticGuidance().needs == "merged"
    assert SemanticGuidance(joined=False).needs == "each"
