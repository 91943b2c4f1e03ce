"""Every pipeline family, tiny and with random weights, under the same four oracles.

- strength 0 is the plain pipeline bit for bit;
- the rule ``negative_prompt`` equals the pipeline's own ``negative_prompt``;
- negated guidance with the prompt itself as concept equals guidance of the empty prompt, whatever
  the pipeline's own formula, order of rows, sign and prediction type are;
- a rule with momentum and thresholds runs, changes the result, and leaves no trace.
"""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tadasu.backends.diffusers import families
from tadasu.backends.diffusers.attach import attach
from tadasu.errors import BadInput, UnknownName

Build = Callable[[], Any]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def letters(length: int, chat: bool = False) -> Any:
    """A tokenizer that spells; ``chat`` adds a template for language models."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<pad>", "</s>", "<unk>", *string.printable]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=length,
    )
    if chat:
        made.chat_template = "{% for m in messages %}User: {{ m['content'] }}{% endfor %}"
    return made


def t5(width: int = 16) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=128, d_model=width, d_ff=16, d_kv=8, num_heads=2, num_layers=1, dropout_rate=0.0
    )
    return T5EncoderModel(config).eval()


def qwen3() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=128,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    return Qwen3ForCausalLM(config).eval()


def flow(**settings: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**settings)


def clip(width: int = 16) -> dict[str, Any]:
    """The parts of one CLIP; the helpers of the room's conftest are fixtures, not imports."""
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
        CLIPTokenizer,
    )

    pieces = [*string.ascii_lowercase, *(c + "</w>" for c in [*string.ascii_lowercase, ",", "."])]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    config = CLIPTextConfig(
        vocab_size=56,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        projection_dim=width,
        bos_token_id=54,
        eos_token_id=55,
        pad_token_id=55,
    )
    return {
        "tokenizer": CLIPTokenizer(
            vocab={p: i for i, p in enumerate(pieces)}, merges=[], model_max_length=77
        ),
        "plain": CLIPTextModel(config).eval(),
        "projected": CLIPTextModelWithProjection(config).eval(),
    }


def autoencoder(channels: int = 4, **settings: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=16,
        **settings,
    ).eval()


def unet(inputs: int = 4, **settings: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=inputs,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **{"cross_attention_dim": 16, **settings},
    ).eval()


def stable_diffusion(cls: str, inputs: int = 4, kind: str = "epsilon", **parts: Any) -> Any:
    import diffusers

    text = clip()
    return getattr(diffusers, cls)(
        vae=autoencoder(),
        text_encoder=text["plain"],
        tokenizer=text["tokenizer"],
        unet=unet(inputs),
        scheduler=diffusers.DDIMScheduler(clip_sample=False, prediction_type=kind),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **parts,
    )


def controlnet() -> Any:
    from diffusers import ControlNetModel

    net = ControlNetModel(
        block_out_channels=(8, 8),
        layers_per_block=1,
        in_channels=4,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        cross_attention_dim=16,
        conditioning_embedding_out_channels=(4, 4),
    ).eval()
    for block in [*net.controlnet_down_blocks, net.controlnet_mid_block]:
        torch.nn.init.normal_(block.weight, std=0.2)
    return net


def sdxl() -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    first, second = clip(), clip()
    return StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=first["plain"],
        text_encoder_2=second["projected"],
        tokenizer=first["tokenizer"],
        tokenizer_2=second["tokenizer"],
        unet=unet(
            cross_attention_dim=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=6 * 4 + 16,
            use_linear_projection=True,
        ),
        scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    )


def sd3() -> Any:
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    first, second = clip(), clip()
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=32,
            caption_projection_dim=16,
            pooled_projection_dim=32,
        ).eval(),
        scheduler=flow(shift=3.0),
        vae=autoencoder(16, shift_factor=0.0609, scaling_factor=1.5),
        text_encoder=first["projected"],
        tokenizer=first["tokenizer"],
        text_encoder_2=second["projected"],
        tokenizer_2=second["tokenizer"],
        text_encoder_3=None,
        tokenizer_3=None,
    )


def flux() -> Any:
    from diffusers import FluxPipeline, FluxTransformer2DModel

    text = clip()
    return FluxPipeline(
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=[4, 4, 8],
        ).eval(),
        scheduler=flow(),
        vae=autoencoder(shift_factor=0.0609, scaling_factor=1.5),
        text_encoder=text["plain"],
        tokenizer=text["tokenizer"],
        text_encoder_2=t5(),
        tokenizer_2=letters(64),
    )


def flux2_klein() -> Any:
    from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, Flux2Transformer2DModel

    return Flux2KleinPipeline(
        transformer=Flux2Transformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            timestep_guidance_channels=16,
            axes_dims_rope=[4, 4, 4, 4],
            guidance_embeds=False,
        ).eval(),
        scheduler=flow(),
        vae=AutoencoderKLFlux2(
            sample_size=16,
            latent_channels=4,
            block_out_channels=(4, 4),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
        ).eval(),
        text_encoder=qwen3(),
        tokenizer=letters(64, chat=True),
        is_distilled=False,
    )


def flux2_dev() -> Any:
    """Guidance-distilled: the scale is an input, and there is no unconditional forward."""
    from diffusers import Flux2Pipeline, Flux2Transformer2DModel

    klein = flux2_klein()
    tokens = letters(64)
    last = "{{ messages[-1]['content'][0]['text'] }}"
    tokens.chat_template = last
    return Flux2Pipeline(
        transformer=Flux2Transformer2DModel.from_config(
            {**klein.transformer.config, "guidance_embeds": True}
        ).eval(),
        scheduler=klein.scheduler,
        vae=klein.vae,
        text_encoder=klein.text_encoder,
        tokenizer=tokens,
    )


def qwen_image() -> Any:
    from diffusers import AutoencoderKLQwenImage, QwenImagePipeline, QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    config = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=128,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            rope_parameters={
                "mrope_section": [1, 1, 2],
                "rope_type": "default",
                "rope_theta": 10000.0,
            },
        ),
        vision_config=dict(
            depth=1, hidden_size=16, intermediate_size=16, num_heads=2, out_hidden_size=16
        ),
    )
    return QwenImagePipeline(
        transformer=QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(8, 4, 4),
        ).eval(),
        scheduler=flow(),
        vae=AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ).eval(),
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=letters(512),
    )


def z_image() -> Any:
    from diffusers import ZImagePipeline, ZImageTransformer2DModel

    model = ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    ).eval()
    with torch.no_grad():
        model.x_pad_token.normal_()
        model.cap_pad_token.normal_()
    return ZImagePipeline(
        transformer=model,
        scheduler=flow(),
        vae=autoencoder(shift_factor=0.1),
        text_encoder=qwen3(),
        tokenizer=letters(64, chat=True),
    )


def pixart() -> Any:
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    return PixArtSigmaPipeline(
        tokenizer=letters(64),
        text_encoder=t5(),
        vae=autoencoder(),
        transformer=PixArtTransformer2DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_channels=16,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=16,
            norm_type="ada_norm_single",
            use_additional_conditions=False,
        ).eval(),
        scheduler=DPMSolverMultistepScheduler(),
    )


def sana() -> Any:
    from diffusers import (
        AutoencoderDC,
        DPMSolverMultistepScheduler,
        SanaPipeline,
        SanaTransformer2DModel,
    )
    from transformers import Gemma2Config, Gemma2Model

    return SanaPipeline(
        tokenizer=letters(64),
        text_encoder=Gemma2Model(
            Gemma2Config(
                vocab_size=128,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
            )
        ).eval(),
        vae=AutoencoderDC(
            in_channels=3,
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
        ).eval(),
        transformer=SanaTransformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=16,
        ).eval(),
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True
        ),
    )


def dit() -> Any:
    from diffusers import DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    torch.manual_seed(0)
    return DiTPipeline(
        transformer=DiTTransformer2DModel(
            sample_size=8,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            in_channels=4,
            out_channels=8,
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_zero",
            norm_elementwise_affine=False,
        ).eval(),
        vae=autoencoder(),
        scheduler=DDIMScheduler(clip_sample=False),
        id2label={"0": "cat", "1": "pistol", "2": "tench, Tinca tinca"},
    )


GRID = Image.fromarray((np.indices((16, 16, 3)).sum(0) * 5 % 255).astype(np.uint8))
MASK = Image.fromarray((np.indices((16, 16))[0] > 7).astype(np.uint8) * 255)
SIZE: dict[str, Any] = {"height": 16, "width": 16}
DIFFUSED: dict[str, Any] = {"guidance_scale": 5.0}
FAMILIES: dict[str, tuple[Build, dict[str, Any]]] = {
    "sd v-prediction": (
        lambda: stable_diffusion("StableDiffusionPipeline", kind="v_prediction"),
        DIFFUSED,
    ),
    "sd img2img": (
        lambda: stable_diffusion("StableDiffusionImg2ImgPipeline"),
        DIFFUSED | {"image": GRID, "strength": 0.7},
    ),
    "sd inpaint, 4 channels": (
        lambda: stable_diffusion("StableDiffusionInpaintPipeline"),
        DIFFUSED | SIZE | {"image": GRID, "mask_image": MASK, "strength": 0.9},
    ),
    "sd inpaint, 9 channels": (
        lambda: stable_diffusion("StableDiffusionInpaintPipeline", 9),
        DIFFUSED | SIZE | {"image": GRID, "mask_image": MASK, "strength": 0.9},
    ),
    "sd controlnet": (
        lambda: stable_diffusion("StableDiffusionControlNetPipeline", controlnet=controlnet()),
        DIFFUSED | {"image": GRID},
    ),
    "sdxl": (sdxl, DIFFUSED | SIZE),
    "sd3": (sd3, DIFFUSED | SIZE),
    "flux": (flux, SIZE | {"true_cfg_scale": 4.0, "max_sequence_length": 24}),
    "flux2 klein": (
        flux2_klein,
        SIZE
        | {"guidance_scale": 4.0, "max_sequence_length": 16, "text_encoder_out_layers": (1, 2, 3)},
    ),
    "flux2 dev": (
        flux2_dev,
        SIZE
        | {"guidance_scale": 4.0, "max_sequence_length": 16, "text_encoder_out_layers": (1, 2, 3)},
    ),
    "qwen-image": (qwen_image, SIZE | {"true_cfg_scale": 4.0}),
    "z-image": (z_image, SIZE | {"guidance_scale": 4.0, "max_sequence_length": 32}),
    "pixart": (
        pixart,
        SIZE
        | {"guidance_scale": 4.5, "use_resolution_binning": False, "clean_caption": False}
        | {"max_sequence_length": 24},
    ),
    "sana": (
        sana,
        {"height": 32, "width": 32}
        | {"guidance_scale": 4.5, "use_resolution_binning": False, "max_sequence_length": 24}
        | {"complex_human_instruction": None},
    ),
}
GUIDED = [name for name in FAMILIES if name != "flux2 dev"]
#: With an empty negative prompt these pipelines run guidance; without one they do not.
DISTILLED = ("flux", "qwen-image")
_built: dict[str, Any] = {}


def built(name: str) -> tuple[Any, dict[str, Any]]:
    """A pipeline and the arguments of its call, built once."""
    build, settings = FAMILIES[name]
    if name not in _built:
        torch.manual_seed(0)
        pipe = build()
        pipe.set_progress_bar_config(disable=True)
        denoiser = getattr(pipe, "unet", None) or pipe.transformer
        lively(denoiser)
        _built[name] = pipe
    return _built[name], dict(settings)


@torch.no_grad()
def lively(denoiser: torch.nn.Module) -> None:
    """Give zero-initialised layers weights, so that every input matters."""
    for weight in denoiser.parameters():
        if weight.ndim > 1 and float(weight.abs().max()) == 0:
            weight.normal_(std=0.3)


def latents(pipe: Any, prompt: Any, settings: dict[str, Any], **more: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(0)  # some ControlNet pipelines draw control images without the generator
    result = pipe(
        # Z-Image writes its chat template into the list that it is given.
        prompt=prompt if isinstance(prompt, str) else list(prompt),
        generator=generator,
        output_type="latent",
        return_dict=False,
        **({"num_inference_steps": 4} | settings | more),
    )
    found: torch.Tensor = result[0]
    assert torch.isfinite(found).all()
    return found


def close(first: torch.Tensor, second: torch.Tensor) -> None:
    torch.testing.assert_close(first, second, rtol=2e-3, atol=2e-3 * float(second.abs().max()))


def with_negative(name: str, settings: dict[str, Any], negative: Any) -> dict[str, Any]:
    """A call's arguments with a negative prompt, as the family takes it."""
    if name == "flux2 klein":
        return settings
    return settings | {"negative_prompt": negative}


@pytest.mark.parametrize("name", GUIDED)
def test_family(name: str) -> None:
    pipe, settings = built(name)
    prompts = ["a cat", "dogs"]
    base = with_negative(name, settings, ["", ""]) if name in DISTILLED else settings
    images = {"image": [settings["image"]] * 2} if name == "sd controlnet" else {}
    plain = latents(pipe, prompts, base, **images)
    with attach(pipe, "sld:max", ["pistol"], strength=0):
        assert torch.equal(latents(pipe, prompts, base, **images), plain)
    with attach(pipe, "sld:max", ["pistol"]) as attached:
        guided = latents(pipe, prompts, base, **images)
    assert (guided - plain).abs().max() > 1e-3 * plain.abs().max()
    assert attached.record is not None
    assert set(attached.record.rows) == {6}
    assert torch.equal(latents(pipe, prompts, base, **images), plain)


# FLUX.2 klein takes no negative prompt. A ControlNet reads the text too, and concept rows share the
# residuals of the pipeline's own rows, so there the two differ slightly.
OWN_NEGATIVE = [name for name in GUIDED if name not in ("flux2 klein", "sd controlnet")]


@pytest.mark.parametrize("name", OWN_NEGATIVE)
def test_negative_prompt_equals_the_pipelines_own(name: str) -> None:
    pipe, settings = built(name)
    own = latents(pipe, "a cat", with_negative(name, settings, "pistol"))
    base = with_negative(name, settings, "") if name in DISTILLED else settings
    with attach(pipe, "negative_prompt", ["pistol"]) as attached:
        ours = latents(pipe, "a cat", base)
    close(ours, own)
    assert attached.record is not None
    assert set(attached.record.rows) == {2}
    assert (own - latents(pipe, "a cat", base)).abs().max() > 1e-3 * own.abs().max()


@pytest.mark.parametrize("name", [name for name in GUIDED if name not in ("sd controlnet", "sdxl")])
def test_negating_the_prompt_gives_the_empty_prompt(name: str) -> None:
    pipe, settings = built(name)
    base = with_negative(name, settings, "") if name in DISTILLED else settings
    expected = latents(pipe, "", base)
    with attach(pipe, "negated_cfg", ["a cat"]):
        close(latents(pipe, "a cat", base), expected)


@pytest.mark.parametrize("name", ["flux", "flux2 dev", "qwen-image", "z-image", "sd3", "pixart"])
def test_without_guidance_the_error_names_nag(name: str) -> None:
    pipe, settings = built(name)
    scale = {"z-image": 0.0, "flux2 dev": 4.0}.get(name, 1.0)
    off = {"guidance_scale": scale} if name not in DISTILLED else {}
    with attach(pipe, "sld", ["pistol"]), pytest.raises(BadInput, match="nag"):
        latents(pipe, "a cat", settings | off)


NAG: dict[str, dict[str, Any]] = {
    "sd v-prediction": {"guidance_scale": 1.0},
    "sdxl": {"guidance_scale": 1.0},
    "sd3": {"guidance_scale": 1.0},
    "flux": {"true_cfg_scale": 1.0},
    "flux2 klein": {"guidance_scale": 1.0},
    "flux2 dev": {},
    "qwen-image": {"true_cfg_scale": 1.0},
}


@pytest.mark.parametrize("name", NAG)
def test_nag_steers_calls_without_guidance(name: str) -> None:
    pipe, settings = built(name)
    settings |= NAG[name]
    prompts = ["a cat", "dogs"]
    plain = latents(pipe, prompts, settings)
    scale = float(plain.abs().max())
    with attach(pipe, "nag", ["pistol"], strength=0):
        assert torch.equal(latents(pipe, prompts, settings), plain)
    with attach(pipe, "nag:strong", [[], ["pistol"]]):
        one = latents(pipe, prompts, settings)
    torch.testing.assert_close(one[0], plain[0], rtol=1e-3, atol=1e-3 * scale)
    assert (one[1] - plain[1]).abs().max() > 1e-3 * scale
    with attach(pipe, "nag:strong", [["a cat"], ["dogs"]]):
        same = latents(pipe, prompts, settings)
    torch.testing.assert_close(same, plain, rtol=1e-3, atol=1e-3 * scale)
    assert torch.equal(latents(pipe, prompts, settings), plain)


def test_flux_with_a_scale_of_one_names_nag_and_is_left_as_found() -> None:
    pipe, settings = built("flux")
    settings |= {"true_cfg_scale": 1.0, "negative_prompt": ""}
    cls, before = type(pipe), latents(pipe, "a cat", settings)
    with attach(pipe, "sld", ["pistol"]), pytest.raises(BadInput, match="rule nag"):
        latents(pipe, "a cat", settings)
    assert type(pipe) is cls
    assert "forward" not in vars(pipe.transformer)
    assert torch.equal(latents(pipe, "a cat", settings), before)


def test_nag_refuses_what_it_cannot_do() -> None:
    pipe, settings = built("sd v-prediction")
    with attach(pipe, "nag", ["pistol"]), pytest.raises(BadInput, match="without classifier-free"):
        latents(pipe, "a cat", settings)
    with (
        attach(pipe, "nag", ["pistol"]),
        attach(pipe, "sld", ["pistol"]),
        pytest.raises(BadInput, match="cannot join"),
    ):
        latents(pipe, "a cat", settings | {"guidance_scale": 1.0})
    pipe, settings = built("pixart")
    with attach(pipe, "nag", ["pistol"]), pytest.raises(BadInput, match="does not support PixArt"):
        latents(pipe, "a cat", settings | {"guidance_scale": 1.0})


def test_a_class_is_the_concept_of_a_class_conditional_model() -> None:
    pipe = dit()
    pipe.set_progress_bar_config(disable=True)
    lively(pipe.transformer)

    def images(labels: list[int]) -> torch.Tensor:
        generator = torch.Generator().manual_seed(3)
        result = pipe(
            class_labels=labels, num_inference_steps=3, generator=generator, output_type="np"
        )
        return torch.from_numpy(result.images)

    plain = images([0, 2])
    with attach(pipe, "sld", ["pistol"], strength=0):
        assert torch.equal(images([0, 2]), plain)
    with attach(pipe, "sld:max", ["1"]):
        by_number = images([0, 2])
    with attach(pipe, "sld:max", [["pistol"], ["pistol"]]):
        assert torch.equal(images([0, 2]), by_number)
    assert not torch.allclose(by_number, plain, atol=1e-4)
    with attach(pipe, "negated_cfg", ["cat"]):
        negated = images([0])
    null = dict(pipe.labels)
    assert null["cat"] == 0
    close(negated, images([1000]))
    with attach(pipe, "sld", ["pistl"]), pytest.raises(UnknownName, match="pistol"):
        images([0])


def sdxl_controlnet(pipe: Any) -> Any:
    from diffusers import ControlNetModel

    return ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(4, 4))


def sd3_controlnet(pipe: Any, extra: int = 0) -> Any:
    from diffusers import SD3ControlNetModel

    config = {**pipe.transformer.config, "num_layers": 1, "extra_conditioning_channels": extra}
    return SD3ControlNetModel.from_config(config)


def flux_controlnet(pipe: Any) -> Any:
    from diffusers import FluxControlNetModel

    sizes = {"attention_head_dim": 16, "num_attention_heads": 2}
    return FluxControlNetModel.from_transformer(
        pipe.transformer, num_layers=1, num_single_layers=1, **sizes
    )


def qwen_controlnet(pipe: Any, extra: int = 0) -> Any:
    from diffusers import QwenImageControlNetModel

    sizes = {"attention_head_dim": 16, "num_attention_heads": 2}
    return QwenImageControlNetModel.from_transformer(
        pipe.transformer, num_layers=1, extra_condition_channels=extra, **sizes
    )


def z_controlnet(channels: int) -> Any:
    from diffusers import ZImageControlNetModel

    return ZImageControlNetModel(
        control_layers_places=[0], control_in_dim=channels, dim=32, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2,
    )  # fmt: skip


PICTURE: dict[str, Any] = {"image": GRID, "strength": 0.9}
HOLE: dict[str, Any] = PICTURE | {"mask_image": MASK}
CONTROL: dict[str, Any] = {"control_image": GRID}
#: Class: the family whose parts it takes, its ControlNet, and what its call takes besides.
VARIANTS: dict[str, tuple[str, Callable[[Any], Any] | None, dict[str, Any]]] = {
    "StableDiffusionPipeline": ("sd v-prediction", None, SIZE),
    "StableDiffusionImg2ImgPipeline": ("sd v-prediction", None, PICTURE),
    "StableDiffusionInpaintPipeline": ("sd v-prediction", None, HOLE | SIZE),
    "StableDiffusionControlNetPipeline": (
        "sd v-prediction",
        lambda pipe: controlnet(),
        {"image": GRID},
    ),
    "StableDiffusionControlNetImg2ImgPipeline": (
        "sd v-prediction",
        lambda pipe: controlnet(),
        PICTURE | CONTROL,
    ),
    "StableDiffusionControlNetInpaintPipeline": (
        "sd v-prediction",
        lambda pipe: controlnet(),
        HOLE | CONTROL,
    ),
    "StableDiffusionXLPipeline": ("sdxl", None, SIZE),
    "StableDiffusionXLImg2ImgPipeline": ("sdxl", None, PICTURE),
    "StableDiffusionXLInpaintPipeline": ("sdxl", None, HOLE | SIZE),
    "StableDiffusionXLControlNetPipeline": ("sdxl", sdxl_controlnet, {"image": GRID}),
    "StableDiffusionXLControlNetImg2ImgPipeline": ("sdxl", sdxl_controlnet, PICTURE | CONTROL),
    "StableDiffusionXLControlNetInpaintPipeline": ("sdxl", sdxl_controlnet, HOLE | CONTROL),
    "StableDiffusion3Pipeline": ("sd3", None, SIZE),
    "StableDiffusion3Img2ImgPipeline": ("sd3", None, PICTURE | SIZE),
    "StableDiffusion3InpaintPipeline": ("sd3", None, HOLE | SIZE),
    "StableDiffusion3ControlNetPipeline": ("sd3", sd3_controlnet, CONTROL | SIZE),
    "StableDiffusion3ControlNetInpaintingPipeline": (
        "sd3",
        lambda pipe: sd3_controlnet(pipe, 1),
        CONTROL | SIZE | {"control_mask": MASK},
    ),
    "FluxPipeline": ("flux", None, {}),
    "FluxImg2ImgPipeline": ("flux", None, PICTURE),
    "FluxInpaintPipeline": ("flux", None, HOLE),
    "FluxControlNetPipeline": ("flux", flux_controlnet, CONTROL),
    "Flux2KleinPipeline": ("flux2 klein", None, {}),
    "QwenImagePipeline": ("qwen-image", None, {}),
    "QwenImageImg2ImgPipeline": ("qwen-image", None, PICTURE),
    "QwenImageInpaintPipeline": ("qwen-image", None, HOLE),
    "QwenImageControlNetPipeline": ("qwen-image", qwen_controlnet, CONTROL),
    "QwenImageControlNetInpaintPipeline": (
        "qwen-image",
        lambda pipe: qwen_controlnet(pipe, 4),
        CONTROL | {"control_mask": MASK},
    ),
    "ZImagePipeline": ("z-image", None, {}),
    "ZImageImg2ImgPipeline": ("z-image", None, PICTURE),
    "ZImageInpaintPipeline": ("z-image", None, HOLE),
    "ZImageControlNetPipeline": ("z-image", lambda pipe: z_controlnet(4), CONTROL),
    "ZImageControlNetInpaintPipeline": (
        "z-image",
        lambda pipe: z_controlnet(9),
        CONTROL | {"image": GRID, "mask_image": MASK},
    ),
    "PixArtAlphaPipeline": ("pixart", None, {}),
    "PixArtSigmaPipeline": ("pixart", None, {}),
    "SanaPipeline": ("sana", None, {}),
}
#: Classes that never run guidance; only nag steers them.
UNGUIDED: dict[str, tuple[str, Callable[[Any], Any] | None, dict[str, Any]]] = {
    "FluxControlNetImg2ImgPipeline": ("flux", flux_controlnet, PICTURE | CONTROL),
    "FluxControlNetInpaintPipeline": ("flux", flux_controlnet, HOLE | CONTROL),
    "Flux2Pipeline": ("flux2 dev", None, {}),
}


def variant(cls: str) -> tuple[Any, dict[str, Any]]:
    """A pipeline of a class around the parts of its family, and the arguments of its call."""
    import diffusers

    family, net, own = (VARIANTS | UNGUIDED)[cls]
    pipe, settings = built(family)
    made = getattr(diffusers, cls)
    known = inspect.signature(made.__init__).parameters
    parts = {name: part for name, part in pipe.components.items() if name in known}
    if net is not None:
        torch.manual_seed(0)
        parts["controlnet"] = net(pipe).eval()
        lively(parts["controlnet"])
    if "requires_safety_checker" in known:
        parts["requires_safety_checker"] = False
    if "add_watermarker" in known:
        parts["add_watermarker"] = False
    if "is_distilled" in known:
        parts["is_distilled"] = False
    made = made(**parts)
    made.set_progress_bar_config(disable=True)
    settings |= own
    if family in DISTILLED and cls in VARIANTS:
        settings["negative_prompt"] = ""
    taken = inspect.signature(type(made).__call__).parameters
    return made, {name: value for name, value in settings.items() if name in taken}


def test_every_supported_class_is_tested() -> None:
    known = {name for family in families.FAMILIES for name in family.pipelines}
    assert known == {*VARIANTS, *UNGUIDED, "DiTPipeline"}


@pytest.mark.parametrize("cls", VARIANTS)
def test_strength_zero_is_bit_identical_on_every_class(cls: str) -> None:
    pipe, settings = variant(cls)
    settings["num_inference_steps"] = 3
    plain = latents(pipe, "a cat", settings)
    for rule in ("sld:max", "presence"):
        with attach(pipe, rule, ["pistol"], strength=0):
            assert torch.equal(latents(pipe, "a cat", settings), plain), rule
    with attach(pipe, "sld:max", ["pistol"]) as attached:
        guided = latents(pipe, "a cat", settings)
    assert attached.record is not None
    assert set(attached.record.rows) == {3}
    assert (guided - plain).abs().max() > 1e-4 * plain.abs().max()
    assert torch.equal(latents(pipe, "a cat", settings), plain)


@pytest.mark.parametrize("cls", UNGUIDED)
def test_classes_without_guidance_name_nag_and_take_it(cls: str) -> None:
    pipe, settings = variant(cls)
    settings["num_inference_steps"] = 3
    plain = latents(pipe, "a cat", settings)
    with attach(pipe, "sld", ["pistol"]), pytest.raises(BadInput, match="rule nag"):
        latents(pipe, "a cat", settings)
    with attach(pipe, "nag", ["pistol"], strength=0):
        assert torch.equal(latents(pipe, "a cat", settings), plain)
    with attach(pipe, "nag:strong", ["pistol"]):
        steered = latents(pipe, "a cat", settings)
    assert (steered - plain).abs().max() > 1e-4 * plain.abs().max()
    assert torch.equal(latents(pipe, "a cat", settings), plain)
