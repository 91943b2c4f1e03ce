from __future__ import annotations

import pytest
import torch

from tadasu.guidance.nag import NormalizedAttentionGuidance


def test_hand_worked_numbers() -> None:
    """Z₊ = (2, 0), Z₋ = (1, 1), s = 1: Z̃ = (3, -1), norms 2 and 4, so τ = 1.5 shrinks by ¾."""
    rule = NormalizedAttentionGuidance(scale=1.0, tau=1.5, alpha=0.5)
    positive, negative = torch.tensor([[[2.0, 0.0]]]), torch.tensor([[[1.0, 1.0]]])
    found = rule.combine(positive, negative, torch.ones(1))
    assert found.flatten().tolist() == pytest.approx([(2.25 + 2) / 2, (-0.75 + 0) / 2])


def test_the_norm_never_grows_beyond_tau() -> None:
    rule = NormalizedAttentionGuidance(scale=50.0, tau=2.0, alpha=1.0)
    positive, negative = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    found = rule.combine(positive, negative, torch.ones(3))
    assert (found.abs().sum(-1) <= 2.0 * positive.abs().sum(-1) * 1.0001).all()


def test_weight_zero_keeps_the_prompts_output_bit_for_bit() -> None:
    rule = NormalizedAttentionGuidance()
    positive, negative = torch.randn(2, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    found = rule.combine(positive, negative, torch.tensor([0.0, 1.0]))
    assert torch.equal(found[0], positive[0])
    assert not torch.equal(found[1], positive[1])


def test_half_precision_comes_back_as_half_precision() -> None:
    rule = NormalizedAttentionGuidance()
    positive = torch.full((1, 2, 4), 3e4, dtype=torch.float16)
    found = rule.combine(positive, -positive, torch.ones(1))
    assert found.dtype == torch.float16
