"""Attacks differentiate through what is on the pipeline, and leave the pipeline as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.attach import attach
from tadasu.backends.diffusers.attack import (
    Victim,
    context_of,
    show,
    states_of,
    states_of_texts,
    writable,
    written,
)
from tadasu.backends.diffusers.context.apply import applied
from tadasu.editing.context_map import ContextMap
from tadasu.errors import BadInput
from tadasu.evaluation.redteam.p4d import P4D
from tadasu.evaluation.redteam.ring_a_bell import RingABell, direction
from tadasu.evaluation.redteam.unlearn_diff_atk import UnlearnDiffAtk


def tokens(pipe: Any, text: str) -> torch.Tensor:
    return torch.tensor([pipe.tokenizer(text, add_special_tokens=False).input_ids])


@pytest.fixture
def shown(sd: Any) -> Any:
    return show(sd, ["a cat", "a dog"], points=4, steps=2, seed=1)


def test_spliced_embeddings_are_the_pipelines_own_context(sd: Any) -> None:
    ids = tokens(sd, "a cat")
    rows = sd.text_encoder.get_input_embeddings().weight[ids]
    wanted = sd.encode_prompt("a cat on b", "cpu", 1, False)[0]
    torch.testing.assert_close(context_of(sd, rows, ["on b"]), wanted)
    alone = sd.encode_prompt("a cat", "cpu", 1, False)[0]
    torch.testing.assert_close(states_of(sd, ids), alone[:, : ids.shape[1] + 2])
    torch.testing.assert_close(states_of_texts(sd, ["a cat"], 3), alone[:, :3])


def test_the_prompt_itself_is_a_perfect_attack_on_the_plain_model(sd: Any) -> None:
    seen = show(sd, ["a cat"], points=3, steps=2)
    victim = Victim(sd, seen)
    rows = victim.table[tokens(sd, "a cat")]
    assert float(victim.against_plain(rows).detach()) < 1e-10
    assert float(victim.against_plain(victim.table[tokens(sd, "a dog")]).detach()) > 1e-6


@pytest.mark.parametrize("rule", ["sld:strong", "ccfg", "perp_neg", "dng", "sega", "presence"])
def test_guidance_is_differentiated_through(sd: Any, shown: Any, rule: str) -> None:
    rows = Victim(sd, shown).table[tokens(sd, "a c").expand(2, -1)].requires_grad_()
    with attach(sd, rule, ["a cat"]):
        victim = Victim(sd, shown)
        loss = victim.against_noise(rows)
        (gradient,) = torch.autograd.grad(loss.sum(), rows)
    assert bool(torch.isfinite(gradient).all())
    assert float(gradient.abs().max()) > 0
    plain = Victim(sd, shown).against_noise(rows)
    assert not torch.allclose(loss, plain, rtol=1e-5, atol=0)


def test_without_effect_guidance_changes_no_loss(sd: Any, shown: Any) -> None:
    rows = Victim(sd, shown).table[tokens(sd, "a c").expand(2, -1)]
    with attach(sd, "sld:strong", ["a cat"], strength=0.0):
        guided = Victim(sd, shown).against_noise(rows)
    torch.testing.assert_close(guided, Victim(sd, shown).against_noise(rows))


def test_an_edit_is_differentiated_through(sd: Any, shown: Any) -> None:
    width = sd.text_encoder.config.hidden_size
    edit = ContextMap(
        A=torch.randn(width, 1, dtype=torch.float64), B=torch.randn(width, 1, dtype=torch.float64)
    )
    rows = Victim(sd, shown).table[tokens(sd, "a c").expand(2, -1)].requires_grad_()
    plain = torch.autograd.grad(Victim(sd, shown).against_plain(rows).sum(), rows)[0]
    with applied(sd, {"context": edit}):
        edited = torch.autograd.grad(Victim(sd, shown).against_plain(rows).sum(), rows)[0]
    assert not torch.allclose(plain, edited)


def test_prompts_of_a_batch_do_not_see_each_other(sd: Any, shown: Any) -> None:
    victim = Victim(sd, shown)
    rows = victim.table[tokens(sd, "a c").expand(2, -1)].clone()
    before = victim.against_noise(rows)
    rows[1] = victim.table[tokens(sd, "b d")[0]]
    after = victim.against_noise(rows)
    torch.testing.assert_close(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def test_both_gradient_attacks_find_tokens_that_are_better_than_where_they_began(
    sd: Any, shown: Any
) -> None:
    for attack, asked in (
        (P4D(length=3, steps=4), "against_plain"),
        (UnlearnDiffAtk(length=2, steps=4), "against_noise"),
    ):
        victim = Victim(sd, shown)
        first = type(attack)(length=attack.length, steps=1).search(victim, seed=5)
        found = attack.search(victim, seed=5)
        assert found.tokens.shape == (2, attack.length)
        assert bool((found.loss <= first.loss + 1e-9).all())
        told = getattr(victim, asked)(victim.table[found.tokens])
        torch.testing.assert_close(told, found.loss)


def test_ring_a_bell_needs_only_the_text_encoder(sd: Any) -> None:
    attack = RingABell(length=4, population=20, generations=15, strength=1.0)
    rows = attack.length + 2
    one, two = (states_of_texts(sd, texts, rows) for texts in (["a cat"], ["a"]))
    target = attack.target(two[0], direction(one, two))
    found = attack.search(lambda ids: states_of(sd, ids), target, writable(sd.tokenizer))
    drawn = RingABell(length=4, population=20, generations=0, strength=1.0).search(
        lambda ids: states_of(sd, ids), target, writable(sd.tokenizer)
    )
    assert float(found.loss) < float(drawn.loss)


def test_found_tokens_are_read_as_they_were_written(sd: Any) -> None:
    allowed = writable(sd.tokenizer).nonzero().flatten()
    assert len(allowed) > 20
    text = written(sd.tokenizer, allowed[:5], "a cat")
    assert tokens(sd, text)[0, :5].tolist() == allowed[:5].tolist()
    assert text.endswith(" a cat")


def test_the_pipeline_is_left_as_it_was(sd: Any, shown: Any, latents_of: Any) -> None:
    before, scheduler, kept = latents_of(sd), sd.scheduler, dict(vars(sd))
    victim = Victim(sd, shown)
    victim.against_plain(victim.table[tokens(sd, "a c").expand(2, -1)])
    assert sd.scheduler is scheduler
    assert set(vars(sd)) == set(kept)
    torch.testing.assert_close(latents_of(sd), before, rtol=0, atol=0)
    assert not sd.text_encoder.get_input_embeddings()._forward_hooks


def test_other_families_and_too_many_tokens_are_refused(sd: Any, sdxl: Any) -> None:
    with pytest.raises(BadInput, match="Stable Diffusion XL"):
        show(sdxl, ["a cat"])
    with pytest.raises(BadInput, match="do not fit"):
        context_of(sd, torch.zeros(1, 76, 16))
    with pytest.raises(BadInput, match="scale above 1"):
        show(sd, ["a cat"], guidance_scale=1.0)
