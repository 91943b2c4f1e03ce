from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tadasu.backends.diffusers.attach_attention import joint_attention
from tadasu.guidance.nag import NormalizedAttentionGuidance


def test_hand_worked_numbers() -> None:
    """Z₊ = (2, 0), Z₋ = (1, 1), s = 2: Z̃ = (3, -1), norms 2 and 4, so τ = 1.5 shrinks by ¾."""
    rule = NormalizedAttentionGuidance(scale=2.0, tau=1.5, alpha=0.5)
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


AUTHORS = json.loads((Path(__file__).parent / "recorded/nag.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "changed"), [("combined", {"tau": 1.5}), ("loose", {"tau": 50.0, "alpha": 1.0})]
)
def test_the_preset_flux_gives_the_authors_numbers(name: str, changed: dict[str, float]) -> None:
    rule = NormalizedAttentionGuidance(**{**NormalizedAttentionGuidance.presets["flux"], **changed})  # type: ignore[arg-type]
    positive, negative = (torch.tensor(AUTHORS[key]) for key in ("positive", "negative"))
    found = rule.combine(positive, negative, torch.ones(1))
    torch.testing.assert_close(found, torch.tensor(AUTHORS[name]), rtol=1e-5, atol=1e-6)


class _Attention(nn.Module):
    """Outputs as given, then an output projection."""

    def __init__(self, projection: torch.Tensor) -> None:
        super().__init__()
        self.to_out = nn.ModuleList([nn.Linear(4, 4, bias=False), nn.Identity()])
        self.to_out[0].weight.data = projection

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.to_out[1](self.to_out[0](hidden))
        return out


def test_joint_layers_combine_before_their_output_projection() -> None:
    block = nn.ModuleDict({"attn": _Attention(torch.tensor(AUTHORS["projection"]))})
    rows = torch.cat([torch.tensor(AUTHORS["positive"]), torch.tensor(AUTHORS["negative"])])
    rule = NormalizedAttentionGuidance(tau=1.5, norm=2)
    with joint_attention(block, rule, [0], 1, 3, torch.ones(1)), torch.no_grad():
        found = block["attn"](rows)
    expected = torch.tensor(AUTHORS["projected"])
    torch.testing.assert_close(found[:1], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1:], expected, rtol=1e-5, atol=1e-6)
