"""Rules on pipelines with an encoder too few, a text per encoder, an IP-Adapter or a cache."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers.attach import attach

Latents = Callable[..., torch.Tensor]
pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # diffusers, NumPy 2


@pytest.mark.parametrize("rule", ["presence:every_step", "sld:max", "negative_prompt"])
def test_the_refiner_has_the_second_text_encoder_only(sdxl: Any, rule: str) -> None:
    from diffusers import StableDiffusionXLImg2ImgPipeline

    settings = dict(sdxl.unet.config, cross_attention_dim=16)
    settings |= {"projection_class_embeddings_input_dim": 5 * 4 + 16}
    torch.manual_seed(0)
    refiner = StableDiffusionXLImg2ImgPipeline(
        vae=sdxl.vae,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=sdxl.text_encoder_2,
        tokenizer_2=sdxl.tokenizer_2,
        unet=type(sdxl.unet).from_config(settings).eval(),
        scheduler=copy.deepcopy(sdxl.scheduler),
        requires_aesthetics_score=True,
        add_watermarker=False,
    )
    refiner.set_progress_bar_config(disable=True)
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with attach(refiner, rule, ["a pistol"]) as attached:
        refiner("a pistol", image=picture, strength=0.8, num_inference_steps=5)
    assert attached.record is not None
    assert attached.record.acted == (4,)


def test_negative_prompt_keeps_what_every_encoder_was_given(sdxl: Any, latents_of: Latents) -> None:
    own = {"negative_prompt": "red", "negative_prompt_2": ["a dog"]}
    with attach(sdxl, "negative_prompt", ["a pistol"]):
        guided = latents_of(sdxl, ["a cat"], steps=3, **own)
        alone = latents_of(sdxl, ["a cat"], steps=3, negative_prompt="red")
    wanted = latents_of(
        sdxl,
        ["a cat"],
        steps=3,
        negative_prompt="red, a pistol",
        negative_prompt_2="a dog, a pistol",
    )
    torch.testing.assert_close(guided, wanted, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(guided, alone, atol=1e-2)


@pytest.mark.parametrize(("rule", "scale"), [("nag", 1.0), ("sld:max", 5.0)])
def test_beside_an_ip_adapter(
    sd_parts: Any, like: Callable[..., Any], latents_of: Latents, rule: str, scale: float
) -> None:
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
    from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection

    pipe = like(sd_parts, unet=copy.deepcopy(sd_parts.unet))
    torch.manual_seed(0)
    processors = dict(pipe.unet.attn_processors)
    for name in processors:
        if name.endswith("attn2.processor"):
            layer = pipe.unet.get_submodule(name.removesuffix(".processor"))
            processors[name] = IPAdapterAttnProcessor2_0(
                layer.to_q.in_features, 16, num_tokens=(4,)
            )
    pipe.unet.set_attn_processor(processors)
    projection = ImageProjection(image_embed_dim=8, cross_attention_dim=16, num_image_text_embeds=4)
    pipe.unet.encoder_hid_proj = MultiIPAdapterImageProjection([projection])
    pipe.unet.config.encoder_hid_dim_type = "ip_image_proj"
    picture = torch.randn(1, 1, 8)
    both = [torch.cat([torch.zeros_like(picture), picture]) if scale > 1 else picture]

    def draw() -> torch.Tensor:
        return latents_of(pipe, steps=3, guidance_scale=scale, ip_adapter_image_embeds=both)

    plain = draw()
    with attach(pipe, rule, ["a pistol"]) as attached:
        assert not torch.allclose(draw(), plain, atol=1e-3)
    assert attached.record is not None
    assert attached.record.acted == (3,)
    assert torch.equal(draw(), plain)


@pytest.mark.parametrize("rule", ["sld:max", "presence:every_step", "nag"])
def test_flux_with_a_cache_of_its_attention(built: Callable[..., Any], rule: str) -> None:
    """A cache holds rows of other texts, so every step is computed, as without the cache."""
    from diffusers import PyramidAttentionBroadcastConfig, apply_pyramid_attention_broadcast

    original, settings = built("flux")
    pipe = copy.copy(original)
    pipe.transformer = copy.deepcopy(pipe.transformer)
    pipe.set_progress_bar_config(disable=True)
    if rule == "nag":
        settings = {name: value for name, value in settings.items() if name != "true_cfg_scale"}
    else:
        settings = settings | {"negative_prompt": "dog"}

    def draw() -> torch.Tensor:
        with attach(pipe, rule, ["a pistol"]) as attached:
            made = pipe(
                "a cat",
                num_inference_steps=4,
                generator=torch.Generator().manual_seed(0),
                output_type="latent",
                return_dict=False,
                **settings,
            )
        assert attached.record is not None
        assert attached.record.acted == (4,)
        latents: torch.Tensor = made[0]
        return latents

    wanted = draw()
    config = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 1100),
        spatial_attention_block_identifiers=("transformer_blocks",),
        current_timestep_callback=lambda: pipe._current_timestep or 0,
    )
    apply_pyramid_attention_broadcast(pipe.transformer, config)
    assert torch.equal(draw(), wanted)
