"""Updates are laid over and taken off exactly, and predictions equal those of plain diffusers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tadasu.auditing.adapter import Factored
from tadasu.auditing.merge import merge
from tadasu.auditing.probe import Block, Plan, Probe
from tadasu.backends.diffusers.denoise import PipelineDenoiser, laid_over, replaced
from tadasu.errors import BadInput

KEY = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
QUERY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
VALUE = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
TEXT = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"


def lora(denoiser: PipelineDenoiser, module: str, size: float = 1.0) -> dict[str, Factored]:
    base = denoiser.parameter(f"{module}.weight")
    assert base is not None
    generator = torch.Generator().manual_seed(1)
    up = torch.randn(base.shape[0], 2, generator=generator) * size
    down = torch.randn(2, base.flatten(1).shape[1], generator=generator) * size
    return {module: Factored(up=up, down=down, shape=tuple(base.shape))}


def rows(count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 4, 8, 8, generator=generator), torch.tensor([10, 300, 600, 990])


def snapshot(pipe: Any) -> dict[str, tuple[int, Tensor]]:
    parts = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    return {
        f"{part}.{name}": (id(weight), weight.detach().clone())
        for part, module in parts.items()
        for name, weight in module.named_parameters()
    }


def test_predictions_equal_a_plain_forward(sd: Any) -> None:
    denoiser = PipelineDenoiser(sd, batch=3)
    x, t = rows()
    texts = ["", "a cat"]
    which = torch.tensor([0, 1, 0, 1])
    with denoiser.adapted({}, texts) as predict:
        found = predict(x, t, which)
    contexts = torch.cat([sd.encode_prompt(text, "cpu", 1, False)[0] for text in texts])
    with torch.no_grad():
        wanted = sd.unet(x, t, contexts[which]).sample
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize("module", [KEY, QUERY, TEXT])
def test_an_update_acts_like_new_weights(sd: Any, module: str) -> None:
    import copy

    denoiser = PipelineDenoiser(sd)
    updates = lora(denoiser, module)
    merged = merge([(updates, 2.0)], denoiser.parameter)
    x, t = rows()
    which = torch.zeros(4, dtype=torch.long)
    with denoiser.adapted(merged.weights, ["a cat"]) as predict:
        found = predict(x, t, which)
    part, _, path = module.partition(".")
    other = copy.deepcopy(getattr(sd, part))
    for spelling in {path, path.removeprefix("text_model.")}:
        try:
            layer = other.get_submodule(spelling)
        except AttributeError:
            continue
        with torch.no_grad():
            layer.weight += 2.0 * updates[module].delta()
    encoder = other if part == "text_encoder" else sd.text_encoder
    unet = other if part == "unet" else sd.unet
    ids = sd.tokenizer(
        ["a cat"],
        padding="max_length",
        max_length=sd.tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    with torch.no_grad():
        states = encoder(ids)[0]
        wanted = unet(x, t, states.expand(4, -1, -1)).sample
        plain = sd.unet(
            x, t, sd.encode_prompt("a cat", "cpu", 1, False)[0].expand(4, -1, -1)
        ).sample
    assert torch.allclose(found, wanted, atol=1e-4)
    assert not torch.allclose(found, plain, atol=1e-4)


def test_afterwards_the_same_parameter_objects_are_back(sd: Any) -> None:
    denoiser = PipelineDenoiser(sd)
    before = snapshot(sd)
    forwards = {name for name, layer in sd.unet.named_modules() if "forward" in vars(layer)}
    updates = lora(denoiser, KEY) | lora(denoiser, TEXT)
    weights = merge([(updates, 1.0)], denoiser.parameter).weights
    with pytest.raises(ZeroDivisionError), denoiser.adapted(weights, ["a cat"]):
        raise ZeroDivisionError
    after = snapshot(sd)
    assert all(before[name][0] == after[name][0] for name in before)
    assert all(torch.equal(before[name][1], after[name][1]) for name in before)
    assert forwards == {name for name, layer in sd.unet.named_modules() if "forward" in vars(layer)}


def test_a_weight_of_another_model_is_refused(sd: Any) -> None:
    with pytest.raises(BadInput, match="no weight"), replaced(sd.unet, {"x.weight": torch.ones(1)}):
        pass
    with (
        pytest.raises(BadInput, match="shape"),
        replaced(sd.unet, {"conv_in.weight": torch.ones(1)}),
    ):
        pass


@pytest.mark.parametrize("masked", [1.0, 0.5])
def test_an_update_of_zeros_gains_exactly_nothing(sd: Any, masked: float) -> None:
    denoiser = PipelineDenoiser(sd)
    zeros = {
        name: Factored(up=update.up * 0, down=update.down)
        for module in (KEY, QUERY, TEXT)
        for name, update in lora(denoiser, module).items()
    }
    probe = Probe(denoiser=denoiser, plan=Plan(times=(0.2, 0.8), masked=masked))
    block = Block(concept="cat", latents=rows(3)[0], text="a cat")
    (gains,) = probe.gains(merge([(zeros, 1.0)], denoiser.parameter), [block])
    assert gains.shape == (3, 2)
    assert torch.equal(gains, torch.zeros(3, 2))


def test_gradients_equal_finite_differences(sd: Any) -> None:
    denoiser = PipelineDenoiser(sd, batch=2)
    x, t = rows()
    target = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    gradients = denoiser.gradients(x, target, t, "a cat")
    updates = lora(denoiser, VALUE, 0.2)
    change = updates[VALUE].delta()
    expected = float((gradients[f"{VALUE}.weight"] * change).sum())

    def error(strength: float) -> float:
        weights = merge([(updates, strength)], denoiser.parameter).weights
        with denoiser.adapted(weights, ["a cat"]) as predict:
            found = predict(x, t, torch.zeros(4, dtype=torch.long)).double()
        return float((found - target).square().mean())

    assert gradients["error"] == pytest.approx(error(0.0), rel=1e-4)
    assert expected == pytest.approx((error(0.5) - error(-0.5)), rel=0.05)
    assert not any(
        weight.requires_grad and weight.grad is not None for weight in sd.unet.parameters()
    )


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_half_precision_does_not_round_small_updates_away(kind: str) -> None:
    signs = torch.tensor([1.0, -1.0]).repeat(128)
    if kind == "linear":
        layer: Any = torch.nn.Linear(256, 1, bias=False)
        x = signs.reshape(1, 256)
    else:
        layer = torch.nn.Conv2d(256, 1, 1, bias=False)
        x = signs.reshape(1, 256, 1, 1)
    torch.nn.init.ones_(layer.weight)
    layer, x = layer.to(torch.bfloat16), x.to(torch.bfloat16)
    new = 1 + 1e-3 * signs.reshape(layer.weight.shape)  # bfloat16 knows 1 and 1.0078, not 1.001
    with torch.no_grad(), laid_over(layer, {"weight": new}):
        assert float(layer(x)) == pytest.approx(0.256, rel=0.02)
    with torch.no_grad(), replaced(layer, {"weight": new}):
        assert float(layer(x)) == 0.0
    assert "forward" not in vars(layer)


def test_pictures_become_scaled_latents(sd: Any) -> None:
    denoiser = PipelineDenoiser(sd)
    images = [Image.new("RGB", (40, 20), colour) for colour in ("red", "blue", "green")]
    latents = denoiser.latents(images, batch=2)
    assert latents.shape == (3, 4, 8, 8)
    assert not torch.allclose(latents[0], latents[1])


def test_every_token_is_read_by_itself(sd: Any) -> None:
    denoiser = PipelineDenoiser(sd)
    tokens, ids = denoiser.vocabulary()
    assert len(tokens) == len(ids) == 54
    before = denoiser.token_states(ids, {}, batch=7)
    updates = lora(denoiser, TEXT)
    after = denoiser.token_states(ids, merge([(updates, 1.0)], denoiser.parameter).weights)
    assert before.shape == (54, 16)
    assert not torch.allclose(before, after)
    assert torch.equal(denoiser.token_states(ids, {}, batch=7), before)


def test_other_families_are_refused() -> None:
    class ZImagePipeline:
        pass

    with pytest.raises(BadInput, match="Z-Image"):
        PipelineDenoiser(ZImagePipeline())


def test_sdxl_is_given_its_pooled_text_and_sizes(sdxl: Any) -> None:
    denoiser = PipelineDenoiser(sdxl)
    x, t = rows()
    context, _, pooled, _ = sdxl.encode_prompt(
        "a cat", device="cpu", do_classifier_free_guidance=False
    )
    side = float(denoiser.side)
    sizes = torch.tensor([side, side, 0.0, 0.0, side, side]).expand(4, -1)
    with torch.no_grad():
        wanted = sdxl.unet(
            x,
            t,
            context.expand(4, -1, -1),
            added_cond_kwargs={"text_embeds": pooled.expand(4, -1), "time_ids": sizes},
        ).sample
    with denoiser.adapted({}, ["a cat"]) as predict:
        found = predict(x, t, torch.zeros(4, dtype=torch.long))
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.fixture(scope="module")
def sd3(vae_of: Any) -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    torch.manual_seed(0)
    autoencoder, encoder, tokenizer = vae_of
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_projection_dim=16,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            out_channels=4,
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder,
        text_encoder=encoder(),
        tokenizer=tokenizer,
        text_encoder_2=encoder(),
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


@pytest.fixture(scope="module")
def vae_of() -> Any:
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(0)
    letters = [chr(at) for at in range(97, 123)]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={piece: at for at, piece in enumerate(pieces)}, merges=[], model_max_length=16
    )
    config = CLIPTextConfig(
        vocab_size=54,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=16,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
    )
    autoencoder = AutoencoderKL(
        block_out_channels=(8,), norm_num_groups=4, sample_size=8, shift_factor=0.1
    )
    return autoencoder.eval(), lambda: CLIPTextModelWithProjection(config).eval(), tokenizer


def test_sd3_predicts_the_flow(sd3: Any) -> None:
    denoiser = PipelineDenoiser(sd3)
    x, t = rows()
    context, _, pooled, _ = sd3.encode_prompt(
        "cat", None, None, device="cpu", do_classifier_free_guidance=False
    )
    with torch.no_grad():
        wanted = sd3.transformer(
            x, context.expand(4, -1, -1), pooled.expand(4, -1), t, return_dict=False
        )[0]
    with denoiser.adapted({}, ["cat"]) as predict:
        found = predict(x, t, torch.zeros(4, dtype=torch.long))
    assert torch.allclose(found, wanted, atol=1e-5)
    signal, share = denoiser.levels(torch.tensor([250]))
    assert (float(signal), float(share)) == pytest.approx((0.75, 0.25))
    clean, noise = torch.ones(1, 4, 8, 8), torch.full((1, 4, 8, 8), 3.0)
    assert torch.equal(denoiser.target(clean, noise, torch.tensor([250])), noise - clean)
    latents = denoiser.latents([Image.new("RGB", (8, 8), "red")])
    assert latents.shape == (1, 4, 8, 8)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_memory_that_runs_out_halves_the_batch(
    sd: Any, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, t = rows()
    small = PipelineDenoiser(sd, batch=2)
    with small.adapted({}, [""]) as predict:
        wanted = predict(x, t, torch.zeros(4, dtype=torch.long))
    slopes = small.gradients(x, x, t, "a cat")
    own, sizes = sd.unet.forward, []

    def forward(sample: Tensor, **more: Any) -> Any:
        sizes.append(len(sample))
        if len(sample) > 2:
            raise error("out of memory")
        return own(sample, **more)

    monkeypatch.setattr(sd.unet, "forward", forward)
    denoiser = PipelineDenoiser(sd, batch=64)
    with denoiser.adapted({}, [""]) as predict:
        assert torch.equal(predict(x, t, torch.zeros(4, dtype=torch.long)), wanted)
    assert sizes == [4, 2, 2]
    denoiser.batch = 64
    found = denoiser.gradients(x, x, t, "a cat")
    assert all(torch.equal(found[name], slopes[name]) for name in slopes)
    monkeypatch.setattr(sd.unet, "forward", lambda *a, **k: (_ for _ in ()).throw(error("none")))
    with denoiser.adapted({}, [""]) as predict, pytest.raises(error):
        predict(x, t, torch.zeros(4, dtype=torch.long))


def test_gradients_do_not_vanish_in_half_precision(sd: Any) -> None:
    from copy import deepcopy

    x, t = rows()
    exact = PipelineDenoiser(sd).gradients(x, x, t, "a cat")
    unet = deepcopy(sd.unet).half()
    half = type(sd)(**{**sd.components, "unet": unet}, requires_safety_checker=False)
    denoiser = PipelineDenoiser(half)
    found = denoiser.gradients(x, x, t, "a cat")
    for name, slope in exact.items():
        if name != "error" and float(slope.norm()) > 0:
            cosine = torch.cosine_similarity(slope.flatten(), found[name].flatten(), dim=0)
            assert float(cosine) > 0.98, name
            assert found[name].dtype == torch.float32
