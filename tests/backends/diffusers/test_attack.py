"""Attacks differentiate through what is on the pipeline, and leave the pipeline as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.attach import attach
from tadasu.backends.diffusers.attack import (
    Victim,
    _asked,
    context_of,
    show,
    states_of,
    states_of_texts,
    writable,
    written,
)
from tadasu.backends.diffusers.attack_text import (
    CONTEXT,
    POOLED,
    readers,
    rows_of,
    rows_of_texts,
    table_of,
    unconditional,
)
from tadasu.backends.diffusers.context.apply import applied
from tadasu.editing.context_map import ContextMap
from tadasu.errors import BadInput
from tadasu.evaluation.redteam.p4d import P4D
from tadasu.evaluation.redteam.ring_a_bell import RingABell, direction
from tadasu.evaluation.redteam.unlearn_diff_atk import UnlearnDiffAtk

# a scheduler of SDXL turns a tensor into an array as numpy no longer likes it
pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")


def tokens(pipe: Any, text: str) -> torch.Tensor:
    return torch.tensor([pipe.tokenizer(text, add_special_tokens=False).input_ids])


@pytest.fixture(params=["sd", "sdxl"])
def pipe(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def shown(pipe: Any) -> Any:
    return show(pipe, ["a cat", "a dog"], points=4, steps=2, seed=1)


def test_spliced_embeddings_are_the_pipelines_own_context(sd: Any) -> None:
    ids = tokens(sd, "a cat")
    rows = sd.text_encoder.get_input_embeddings().weight[ids]
    wanted = sd.encode_prompt("a cat on b", "cpu", 1, False)[0]
    torch.testing.assert_close(context_of(sd, rows, ["on b"]), wanted)
    alone = sd.encode_prompt("a cat", "cpu", 1, False)[0]
    torch.testing.assert_close(states_of(sd, ids), alone[:, : ids.shape[1] + 2])
    torch.testing.assert_close(states_of_texts(sd, ["a cat"], 3), alone[:, :3])


def test_spliced_embeddings_are_both_contexts_and_the_pooled_one_of_sdxl(sdxl: Any) -> None:
    ids = tokens(sdxl, "a cat")
    rows = table_of(sdxl)[ids]
    assert rows.shape[-1] == 32
    context, _, pooled, _ = sdxl.encode_prompt("a cat on b", device="cpu")
    made = rows_of(sdxl, rows, ["on b"])
    torch.testing.assert_close(made[CONTEXT], context)
    torch.testing.assert_close(made[POOLED], pooled)
    alone = sdxl.encode_prompt("a cat", device="cpu")[0]
    torch.testing.assert_close(states_of(sdxl, ids), alone[:, : ids.shape[1] + 2])
    torch.testing.assert_close(states_of_texts(sdxl, ["a cat"], 3), alone[:, :3])
    rows = rows.requires_grad_()
    for name in (CONTEXT, POOLED):
        (gradient,) = torch.autograd.grad(rows_of(sdxl, rows)[name].square().sum(), rows)
        assert float(gradient[..., 16:].abs().max()) > 0  # the second encoder is in both


def test_rows_without_a_text_are_what_sdxl_takes_for_them(sdxl: Any) -> None:
    made = rows_of_texts(sdxl, ["a cat", "a dog"])
    _, empty, _, pooled = sdxl.encode_prompt("a cat", device="cpu")
    assert sdxl.config.force_zeros_for_empty_prompt
    assert float(empty.abs().max()) == 0.0
    found = unconditional(sdxl, made)
    torch.testing.assert_close(found[CONTEXT], empty.expand(2, -1, -1))
    torch.testing.assert_close(found[POOLED], pooled.expand(2, -1))


def test_the_denoiser_is_asked_as_the_pipeline_asks_it(pipe: Any) -> None:
    """One step of sampling from known latents gives the prediction that an attack sees."""
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    heard: list[Any] = []
    hook = pipe.unet.register_forward_hook(
        lambda module, given, named, output: heard.append((given, named, output[0])),
        with_kwargs=True,
    )
    try:
        pipe("a cat", num_inference_steps=1, latents=start, guidance_scale=1.0,
             output_type="latent")  # fmt: skip
    finally:
        hook.remove()
    ((latents, timestep), _, predicted) = heard[0]
    with torch.no_grad():
        asked = _asked(pipe, latents, timestep, rows_of_texts(pipe, ["a cat"]))
    torch.testing.assert_close(asked, predicted)


def test_the_prompt_itself_is_a_perfect_attack_on_the_plain_model(pipe: Any) -> None:
    seen = show(pipe, ["a cat"], points=3, steps=2)
    victim = Victim(pipe, seen)
    rows = victim.table[tokens(pipe, "a cat")]
    assert float(victim.against_plain(rows).detach()) < 1e-10
    assert float(victim.against_plain(victim.table[tokens(pipe, "a dog")]).detach()) > 1e-6


@pytest.mark.parametrize(
    "rule", ["negative_prompt", "sld:strong", "ccfg", "perp_neg", "dng", "sega", "presence"]
)
def test_guidance_is_differentiated_through(pipe: Any, shown: Any, rule: str) -> None:
    rows = Victim(pipe, shown).table[tokens(pipe, "a c").expand(2, -1)].requires_grad_()
    with attach(pipe, rule, ["a cat"]):
        victim = Victim(pipe, shown)
        loss = victim.against_noise(rows)
        (gradient,) = torch.autograd.grad(loss.sum(), rows)
    assert bool(torch.isfinite(gradient).all())
    assert float(gradient.abs().max()) > 0
    plain = Victim(pipe, shown).against_noise(rows)
    assert not torch.allclose(loss, plain, rtol=1e-5, atol=0)


def test_without_effect_guidance_changes_no_loss(pipe: Any, shown: Any) -> None:
    rows = Victim(pipe, shown).table[tokens(pipe, "a c").expand(2, -1)]
    with attach(pipe, "sld:strong", ["a cat"], strength=0.0):
        guided = Victim(pipe, shown).against_noise(rows)
    torch.testing.assert_close(guided, Victim(pipe, shown).against_noise(rows))


def test_an_edit_is_differentiated_through(pipe: Any, shown: Any) -> None:
    width = pipe.unet.config.cross_attention_dim
    edit = ContextMap(
        A=torch.randn(width, 1, dtype=torch.float64), B=torch.randn(width, 1, dtype=torch.float64)
    )
    rows = Victim(pipe, shown).table[tokens(pipe, "a c").expand(2, -1)].requires_grad_()
    plain = torch.autograd.grad(Victim(pipe, shown).against_plain(rows).sum(), rows)[0]
    with applied(pipe, {"context": edit}):
        edited = torch.autograd.grad(Victim(pipe, shown).against_plain(rows).sum(), rows)[0]
    assert not torch.allclose(plain, edited)


def test_prompts_of_a_batch_do_not_see_each_other(pipe: Any, shown: Any) -> None:
    victim = Victim(pipe, shown)
    rows = victim.table[tokens(pipe, "a c").expand(2, -1)].clone()
    before = victim.against_noise(rows)
    rows[1] = victim.table[tokens(pipe, "b d")[0]]
    after = victim.against_noise(rows)
    torch.testing.assert_close(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def test_both_gradient_attacks_find_tokens_that_are_better_than_where_they_began(
    pipe: Any, shown: Any
) -> None:
    for attack, asked in (
        (P4D(length=3, steps=4), "against_plain"),
        (UnlearnDiffAtk(length=2, steps=4), "against_noise"),
    ):
        victim = Victim(pipe, shown)
        first = type(attack)(length=attack.length, steps=1).search(victim, seed=5)
        found = attack.search(victim, seed=5)
        assert found.tokens.shape == (2, attack.length)
        assert bool((found.loss <= first.loss + 1e-9).all())
        told = getattr(victim, asked)(victim.table[found.tokens])
        torch.testing.assert_close(told, found.loss)


def test_ring_a_bell_needs_only_the_text_encoder(pipe: Any) -> None:
    attack = RingABell(length=4, population=20, generations=15, strength=1.0)
    rows = attack.length + 2
    one, two = (states_of_texts(pipe, texts, rows) for texts in (["a cat"], ["a"]))
    target = attack.target(two[0], direction(one, two))
    found = attack.search(lambda ids: states_of(pipe, ids), target, writable(pipe.tokenizer))
    drawn = RingABell(length=4, population=20, generations=0, strength=1.0).search(
        lambda ids: states_of(pipe, ids), target, writable(pipe.tokenizer)
    )
    assert float(found.loss) < float(drawn.loss)


def test_found_tokens_are_read_as_they_were_written(pipe: Any) -> None:
    allowed = writable(pipe.tokenizer).nonzero().flatten()
    assert len(allowed) > 20
    text = written(pipe.tokenizer, allowed[:5], "a cat")
    assert tokens(pipe, text)[0, :5].tolist() == allowed[:5].tolist()
    assert text.endswith(" a cat")


def test_the_pipeline_is_left_as_it_was(pipe: Any, shown: Any, latents_of: Any) -> None:
    before, scheduler, kept = latents_of(pipe), pipe.scheduler, dict(vars(pipe))
    victim = Victim(pipe, shown)
    victim.against_plain(victim.table[tokens(pipe, "a c").expand(2, -1)])
    assert pipe.scheduler is scheduler
    assert set(vars(pipe)) == set(kept)
    torch.testing.assert_close(latents_of(pipe), before, rtol=0, atol=0)
    for _, encoder in readers(pipe):
        assert not encoder.get_input_embeddings()._forward_hooks


def test_other_families_and_too_many_tokens_are_refused(sd: Any, sdxl: Any) -> None:
    class StableDiffusion3Pipeline:
        """Another family, by its name."""

    with pytest.raises(BadInput, match=r"1\.x, 2\.x and XL; this is Stable Diffusion 3"):
        show(StableDiffusion3Pipeline(), ["a cat"])
    with pytest.raises(BadInput, match="do not fit"):
        context_of(sd, torch.zeros(1, 76, 16))
    with pytest.raises(BadInput, match="scale above 1"):
        show(sd, ["a cat"], guidance_scale=1.0)
    part, own = sdxl.text_encoder, sdxl.tokenizer_2
    try:
        sdxl.text_encoder = None
        with pytest.raises(BadInput, match="refiner"):
            show(sdxl, ["a cat"])
        sdxl.text_encoder = part
        sdxl.tokenizer_2 = type(own)(vocab=own.get_vocab() | {"new": 56}, merges=[])
        with pytest.raises(BadInput, match="share their tokens"):
            show(sdxl, ["a cat"])
    finally:
        sdxl.text_encoder, sdxl.tokenizer_2 = part, own
