"""Which files the audit's readers understand: algorithm × layout, checked against who wrote them.

    pip install --no-deps --target /tmp/lycoris lycoris-lora toml einops
    PYTHONPATH=src:/tmp/lycoris python bench/auditing_formats.py --to docs/auditing/formats_table.md

Every file is written by its own library (peft, LyCORIS, diffusers) or in a trainer's key style from
factors that such a library made, on a tiny model of random weights. It is *read* when the changes
that come out are those that the library itself makes to the weights (peft: merge, LyCORIS: merged
weight, diffusers: fused weights, or its converters of names), *partly read* when the file counts
as such, *refused* when there is a reason instead. Anything else is **misread** and fails the run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tadasu.auditing.base import Base, canonical
from tadasu.auditing.read import read
from tadasu.errors import BadFile

#: Largest relative error of a weight's change at which it counts as the same.
SAME = 1e-3
Deltas = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One file."""

    writer: str
    algorithm: str
    family: str
    layout: str
    state: str
    error: float | None = None
    note: str = ""


def judged(path: Path, base: Base | None, expected: Deltas) -> tuple[str, float | None, str]:
    """How a file was read, the largest relative error, and what was said."""
    try:
        adapter = read(path, base)
    except BadFile as error:
        return "refused", None, str(error)
    if not adapter.coverage.whole or adapter.doubts:
        return "partly read", None, f"{adapter.coverage.share:.0%}; {' '.join(adapter.doubts)}"
    wanted = {canonical(name): delta for name, delta in expected.items() if bool(delta.any())}
    worst, note = 0.0, ""
    for name, update in adapter.updates.items():
        weight = base.weight(name) if base is not None and update.needs_weight else None
        own = update.delta(weight).double()
        want = wanted.get(name)
        if want is None:  # left as it is
            error = 0.0 if float(own.norm()) < 1e-6 else float("inf")
        else:
            want = want.double().reshape(own.shape)
            error = float((own - want).norm() / want.norm())
        if error > worst:
            worst, note = error, name
    missing = set(wanted) - set(adapter.updates)
    if missing:
        return "misread", None, f"{len(missing)} changed weights are missing: {min(missing)}"
    return ("read", worst, "") if worst <= SAME else ("misread", worst, note)


def shake(model: nn.Module, seed: int = 3) -> None:
    """Give every trainable parameter a value, around what it has where that matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.data.add_(noise)
            del name


# Models ------------------------------------------------------------------------------------------


def unet(cross: int = 12, sdxl: bool = False):
    from diffusers import UNet2DConditionModel

    more = (
        {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 4,
            "projection_class_embeddings_input_dim": 6 * 4 + 8,
            "transformer_layers_per_block": (1, 2),
        }
        if sdxl
        else {}
    )
    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D")
        if sdxl
        else ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D")
        if sdxl
        else ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=cross,
        attention_head_dim=2,
        norm_num_groups=4,
        sample_size=8,
        use_linear_projection=sdxl,
        **more,
    )


def sd3():
    from diffusers import SD3Transformer2DModel

    return SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=12,
        caption_projection_dim=16,
        pooled_projection_dim=8,
        pos_embed_max_size=8,
    )


def flux():
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=12,
        pooled_projection_dim=8,
        axes_dims_rope=(2, 2, 4),
        guidance_embeds=True,
    )


def flux2():
    from diffusers import Flux2Transformer2DModel

    return Flux2Transformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=12,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
    )


def qwen():
    from diffusers import QwenImageTransformer2DModel

    return QwenImageTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=12,
        axes_dims_rope=(2, 2, 4),
    )


def z_image():
    from diffusers import ZImageTransformer2DModel

    return ZImageTransformer2DModel(
        in_channels=4,
        dim=24,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=12,
        axes_dims=[4, 4, 4],
        axes_lens=[8, 8, 8],
    )


#: Family, its part of a pipeline, its model, and the modules that trainers adapt.
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
MODELS: dict[str, tuple[str, Callable[[], nn.Module], list[str]]] = {
    "SD 1.5": ("unet", unet, [*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "conv1"]),
    "SDXL": ("unet", lambda: unet(12, True), [*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in"]),
    "SD 3": ("transformer", sd3, [*ATTENTION, "add_k_proj", "ff.net.2", "norm1_context.linear"]),
    "FLUX": ("transformer", flux, [*ATTENTION, "add_q_proj", "ff.net.0.proj", "proj_mlp"]),
    "FLUX.2": (
        "transformer",
        flux2,
        [
            *ATTENTION,
            "to_qkv_mlp_proj",
            "single_transformer_blocks.0.attn.to_out",
            "linear_in",
            "linear_out",
            "add_q_proj",
        ],
    ),
    "Qwen-Image": (
        "transformer",
        qwen,
        [*ATTENTION, "img_mlp.net.2", "txt_mlp.net.0.proj", "img_in"],
    ),
    "Z-Image": (
        "transformer",
        z_image,
        [*ATTENTION, "w1", "w2", "w3", "layers.0.adaLN_modulation.0"],
    ),
}


def made(family: str) -> tuple[str, nn.Module, Base, dict[str, Tensor]]:
    part, build, _ = MODELS[family]
    torch.manual_seed(0)
    model = build()
    before = {f"{part}.{name}": value.clone() for name, value in model.state_dict().items()}
    return part, model, Base.of(before, name=family), before


# peft --------------------------------------------------------------------------------------------


def peft_configs(targets: list[str]) -> dict[str, object]:
    import peft

    lora = {"r": 3, "lora_alpha": 5, "target_modules": targets}
    linear = [each for each in targets if each not in ("conv1", "proj_in")]
    line = {**lora, "target_modules": linear}
    found: dict[str, object] = {
        "LoRA": peft.LoraConfig(**lora),
        "LoRA, rank-stabilised": peft.LoraConfig(**lora, use_rslora=True),
        "LoRA, patterns": peft.LoraConfig(
            **lora, rank_pattern={"attn2.to_k": 2}, alpha_pattern={".*to_q": 9, "^mid.*to_v": 1}
        ),
        "LoRA, with bias": peft.LoraConfig(
            **{**lora, "target_modules": ["to_out.0"]}, lora_bias=True
        ),
        "LoRA, all biases": peft.LoraConfig(**lora, bias="all"),
        "LoRA, whole modules": peft.LoraConfig(**lora, modules_to_save=["conv_out"]),
        "LoRA, gaussian": peft.LoraConfig(**line, init_lora_weights="gaussian"),
        "LoRA, orthogonal": peft.LoraConfig(**{**line, "r": 2}, init_lora_weights="orthogonal"),
        "DoRA": peft.LoraConfig(**lora, use_dora=True),
        "PiSSA": peft.LoraConfig(**line, init_lora_weights="pissa"),
        "PiSSA, randomised": peft.LoraConfig(**line, init_lora_weights="pissa_niter_4"),
        "OLoRA": peft.LoraConfig(**line, init_lora_weights="olora"),
        "MiCA": peft.LoraConfig(**line, init_lora_weights="mica"),
        "AdaLoRA": peft.AdaLoraConfig(
            init_r=4, target_r=2, lora_alpha=5, total_step=10, target_modules=linear
        ),
        "LoHa": peft.LoHaConfig(r=2, alpha=3, target_modules=targets),
        "LoHa, effective conv": peft.LoHaConfig(
            r=2, alpha=3, target_modules=targets, use_effective_conv2d=True
        ),
        "LoKr": peft.LoKrConfig(r=2, alpha=3, target_modules=targets),
        "LoKr, both": peft.LoKrConfig(
            r=2, alpha=3, target_modules=targets, decompose_both=True, decompose_factor=4
        ),
        "(IA)³": peft.IA3Config(target_modules=targets, feedforward_modules=["ff.net.2"]),
        "OFT": peft.OFTConfig(r=0, oft_block_size=4, target_modules=linear),
        "OFT, exact": peft.OFTConfig(
            r=0, oft_block_size=4, target_modules=linear, use_cayley_neumann=False
        ),
        "OFT, constrained": peft.OFTConfig(r=0, oft_block_size=4, target_modules=linear, coft=True),
        "OFT, shared": peft.OFTConfig(
            r=0, oft_block_size=4, target_modules=linear, block_share=True
        ),
    }
    others = {
        "BOFT": ("BOFTConfig", {"boft_block_size": 4}),
        "VeRA": ("VeraConfig", {"r": 2}),
        "FourierFT": ("FourierFTConfig", {"n_frequency": 8}),
        "HRA": ("HRAConfig", {"r": 2}),
        "RandLoRA": ("RandLoraConfig", {"r": 2}),
        "C3A": ("C3AConfig", {"block_size": 4}),
        "MiSS": ("MissConfig", {"r": 2}),
        "SHiRA": ("ShiraConfig", {"r": 2}),
        "RoAd": ("RoadConfig", {"group_size": 4}),
        "WaveFT": ("WaveFTConfig", {"n_frequency": 8}),
        "DeLoRA": ("DeloraConfig", {"r": 2}),
        "GraLoRA": ("GraloraConfig", {"r": 2, "gralora_k": 2}),
        "GLoRA": ("GloraConfig", {"r": 2}),
        "HiRA": ("HiRAConfig", {"r": 2}),
        "PVeRA": ("PveraConfig", {"r": 2}),
        "VB-LoRA": ("VBLoRAConfig", {"r": 2, "num_vectors": 4, "vector_length": 4}),
        "LN tuning": ("LNTuningConfig", {"target_modules": ["norm1", "norm2"]}),
    }
    for name, (kind, arguments) in others.items():
        config = getattr(peft, kind, None)
        if config is not None:
            found[name] = config(**{"target_modules": ["attn2.to_q"], **arguments})
    return found


def from_peft(folder: Path) -> Iterator[Row]:
    """Every kind of peft's adapters on Stable Diffusion 1.5."""
    from peft import get_peft_model

    for name, config in peft_configs(MODELS["SD 1.5"][2]).items():
        part, model, base, before = made("SD 1.5")
        where = folder / name.replace("/", "_")
        told = {"writer": "peft", "algorithm": name, "family": "SD 1.5", "layout": "peft"}
        try:
            adapted = get_peft_model(model, config)
            shake(adapted)
            adapted.save_pretrained(str(where))
            after = adapted.merge_and_unload().state_dict()
        except Exception as error:  # what the library itself cannot write or merge
            yield Row(**told, state="not written", note=str(error)[:120])
            continue
        expected = {
            key: after[key.removeprefix(f"{part}.")] - value
            for key, value in before.items()
            if key.removeprefix(f"{part}.") in after
        }
        state, error, note = judged(where, base, expected)
        yield Row(**told, state=state, error=error, note=note)


# LyCORIS -----------------------------------------------------------------------------------------

LYCORIS: dict[str, dict[str, object]] = {
    "LoRA": {"algo": "lora"},
    "LoCon": {"algo": "locon", "conv_dim": 2},
    "LoCon, core": {"algo": "locon", "use_tucker": True},
    "LoCon, scalar": {"algo": "locon", "use_scalar": True},
    "LoCon, rank-stabilised": {"algo": "locon", "rs_lora": True},
    "LoCon, norms": {"algo": "locon", "train_norm": True},
    "DoRA": {"algo": "locon", "dora_wd": True},
    "DoRA, per input": {"algo": "locon", "dora_wd": True, "wd_on_output": False},
    "DoRA, core": {"algo": "locon", "dora_wd": True, "use_tucker": True},
    "LoHa": {"algo": "loha"},
    "LoHa, core": {"algo": "loha", "use_tucker": True},
    "LoHa, scalar": {"algo": "loha", "use_scalar": True},
    "LoHa, rank-stabilised": {"algo": "loha", "rs_lora": True},
    "LoHa, DoRA": {"algo": "loha", "dora_wd": True},
    "LoHa, DoRA per input": {"algo": "loha", "dora_wd": True, "wd_on_output": False},
    "LoKr": {"algo": "lokr"},
    "LoKr, factor 4": {"algo": "lokr", "factor": 4},
    "LoKr, rank 1": {"algo": "lokr", "linear_dim": 1, "factor": 2},
    "LoKr, both": {"algo": "lokr", "decompose_both": True, "factor": 4, "linear_dim": 1},
    "LoKr, full": {"algo": "lokr", "full_matrix": True},
    "LoKr, unbalanced": {"algo": "lokr", "unbalanced_factorization": True, "factor": 2},
    "LoKr, core": {"algo": "lokr", "use_tucker": True, "factor": 2, "linear_dim": 1},
    "LoKr, scalar": {"algo": "lokr", "use_scalar": True},
    "LoKr, rank-stabilised": {"algo": "lokr", "rs_lora": True, "factor": 2, "linear_dim": 1},
    "LoKr, DoRA": {"algo": "lokr", "dora_wd": True},
    "LoKr, DoRA per input": {"algo": "lokr", "dora_wd": True, "wd_on_output": False},
    "DyLoRA": {"algo": "dylora", "linear_dim": 4, "block_size": 2},
    "GLoRA": {"algo": "glora"},
    "GLoRA, scalar": {"algo": "glora", "use_scalar": True},
    "GLoRA, rank-stabilised": {"algo": "glora", "rs_lora": True},
    "full": {"algo": "full"},
    "full, norms": {"algo": "full", "train_norm": True},
    "OFT": {"algo": "diag-oft"},
    "OFT, rescaled": {"algo": "diag-oft", "rescaled": True},
    "OFT, constrained": {"algo": "diag-oft", "constraint": 0.01},
    "BOFT": {"algo": "boft"},
    "BOFT, rescaled": {"algo": "boft", "rescaled": True},
    "(IA)³": {"algo": "ia3"},
    "T-LoRA": {"algo": "tlora", "preset": "attn-only"},
}


def _applied(module, weight: Tensor) -> tuple[Tensor, Tensor | None]:
    """The weight that a layer of LyCORIS computes with.

    For LoHa and LoKr, ``get_merged_weight`` of version 4.1.3 multiplies with alpha / rank twice, so
    that it differs from the layer's own forward, which is what was trained; the forward's weight is
    taken.
    """
    if type(module).__name__ == "DyLoraModule":  # merges a rank drawn by chance; files are LoRAs
        from lycoris.modules.locon import LoConModule

        state = module.custom_state_dict()
        parts = (state["lora_up.weight"], state["lora_down.weight"], None, state["alpha"], None)
        name, layer = module.lora_name, module.org_module[0]
        up = parts[0].reshape(parts[0].shape[0], -1, *[1] * (weight.ndim - 2))
        loaded = LoConModule.make_module_from_state_dict(name, layer, up, *parts[1:])
        return loaded.get_merged_weight(1.0, weight.shape)
    if getattr(module, "name", "") not in ("loha", "lokr", "kron"):
        return module.get_merged_weight(1.0, weight.shape)
    moved = weight + module.get_weight(weight.shape) * module.scalar
    return (module.apply_weight_decompose(moved) if module.wd else moved), None


def lycoris_deltas(network, before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What LyCORIS itself makes of the weights."""
    by_name = {key.replace(".", "_"): key for key in before}
    found = {}
    for module in network.loras:
        stem = module.lora_name.removeprefix("lycoris_")
        weight = by_name[f"unet_{stem}_weight"]
        merged, bias = _applied(module, before[weight])
        found[weight] = merged.detach() - before[weight]
        key = by_name.get(f"unet_{stem}_bias")
        if bias is not None and key:
            found[key] = bias.detach() - before[key]
    return found


def from_lycoris(folder: Path) -> Iterator[Row]:
    """LyCORIS' configurations on Stable Diffusion 1.5, under its own and kohya's names."""
    from lycoris.wrapper import create_lycoris

    for name, arguments in LYCORIS.items():
        _, model, base, before = made("SD 1.5")
        told = {"writer": "LyCORIS", "algorithm": name, "family": "SD 1.5"}
        try:
            settings = {"linear_dim": 3, "linear_alpha": 2, "preset": "full", **arguments}
            network = create_lycoris(model, 1.0, **settings)
            for module in network.loras:
                for parameter in module.parameters():
                    parameter.requires_grad_(True)
            shake(nn.ModuleList(network.loras))
            expected = lycoris_deltas(network, before)
            network.apply_to()  # registers the modules, so that they are in the state
            tensors = {
                key: value.detach().clone().contiguous()
                for key, value in network.state_dict().items()
            }
        except Exception as error:
            yield Row(**told, layout="LyCORIS", state="not written", note=str(error)[:120])
            continue
        for layout, prefix in (("LyCORIS", "lycoris_"), ("kohya", "lora_unet_")):
            path = folder / f"{name.replace('/', '_')}-{layout}.safetensors"
            save_file({k.replace("lycoris_", prefix, 1): v for k, v in tensors.items()}, path)
            state, error, note = judged(path, base, expected)
            yield Row(**told, layout=layout, state=state, error=error, note=note)


#: diffusers' loaders, whose savers write a family's files.
SAVERS = {
    "SD 1.5": "StableDiffusionLoraLoaderMixin",
    "SDXL": "StableDiffusionXLLoraLoaderMixin",
    "SD 3": "SD3LoraLoaderMixin",
    "FLUX": "FluxLoraLoaderMixin",
    "FLUX.2": "Flux2LoraLoaderMixin",
    "Qwen-Image": "QwenImageLoraLoaderMixin",
    "Z-Image": "ZImageLoraLoaderMixin",
}

# Key styles of diffusers' names ------------------------------------------------------------------

Tensors = Mapping[str, Tensor]


def lora_keys(state: Tensors) -> dict[str, Tensor]:
    """peft's tensor names with the adapter's name and ``.weight`` behind them left out."""
    return {key.removesuffix(".weight"): value for key, value in state.items()}


def styled(state: Tensors, stem: Callable[[str], str], kohya: bool, alpha: float) -> Tensors:
    """The tensors under another name per module, with kohya's endings or peft's."""
    endings = (
        {
            "lora_A": "lora_down.weight",
            "lora_B": "lora_up.weight",
            "lora_magnitude_vector": "dora_scale",
        }
        if kohya
        else {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight"}
    )
    found = {}
    for key, value in lora_keys(state).items():
        module, _, last = key.rpartition(".")
        if last == "lora_magnitude_vector" and kohya:
            value = value.reshape(-1, *[1] * (state[f"{module}.lora_B.weight"].ndim - 1))
        found[f"{stem(module)}.{endings.get(last, last)}"] = value.clone().contiguous()
        found[f"{stem(module)}.alpha"] = torch.tensor(alpha)
    return found


def styles(family: str, part: str) -> dict[str, tuple[Callable[[str], str], bool]]:
    """How tools call a module that diffusers calls ``module``."""
    flat = lambda prefix: lambda module: f"{prefix}_{module.replace('.', '_')}"  # noqa: E731
    found = {
        "kohya, diffusers' names": (flat("lora_unet"), True),
        "LyCORIS": (flat("lycoris"), True),
        "diffusers, alpha beside": (lambda module: f"{part}.{module}", False),
    }
    if part == "transformer":
        found["OneTrainer"] = (flat("lora_transformer"), True)
        found["OneTrainer, dots"] = (lambda module: f"transformer.{module}", True)
        found["ai-toolkit"] = (lambda module: f"transformer.{module}", False)
    if family in ("Qwen-Image", "Z-Image"):
        found["ComfyUI"] = (lambda module: f"diffusion_model.{module}", False)
        found["kohya"] = (flat("lora_unet"), True)
    return found


def from_styles(folder: Path) -> Iterator[Row]:
    """LoRA, DoRA and LoKr by peft on every family, in each tool's spelling of diffusers' names."""
    import diffusers
    import peft
    from peft import get_peft_model, get_peft_model_state_dict

    for family, (part, _, targets) in MODELS.items():
        kinds = {
            "LoRA": peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets),
            "DoRA": peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, use_dora=True),
            "LoKr": peft.LoKrConfig(
                r=2, alpha=2, target_modules=targets, decompose_both=True, decompose_factor=2
            ),
        }
        for algorithm, config in kinds.items():
            _, model, base, before = made(family)
            adapted = get_peft_model(model, config)
            shake(adapted)
            state = {
                key.removeprefix("base_model.model."): value.detach().clone().contiguous()
                for key, value in get_peft_model_state_dict(adapted).items()
            }
            adapted.save_pretrained(str(folder / f"{family}-{algorithm}"))
            after = adapted.merge_and_unload().state_dict()
            expected = {
                key: after[key.removeprefix(f"{part}.")] - value for key, value in before.items()
            }
            told = {"algorithm": algorithm, "family": family}
            where = folder / f"{family}-{algorithm}"
            state_, error, note = judged(where, base, expected)
            yield Row(writer="peft", **told, layout="peft", state=state_, error=error, note=note)
            alpha = 5.0 if algorithm != "LoKr" else 2.0
            for layout, (stem, kohya) in styles(family, part).items():
                path = folder / f"{family}-{algorithm}-{layout}.safetensors".replace("/", "_")
                save_file(dict(styled(state, stem, kohya, alpha)), path)
                state_, error, note = judged(path, base, expected)
                yield Row(
                    writer="peft", **told, layout=layout, state=state_, error=error, note=note
                )
            if algorithm != "LoKr":  # diffusers' own saver, with its metadata
                metadata = {"r": 3, "lora_alpha": 5, "target_modules": targets}
                path = folder / f"{family}-{algorithm}-saver.safetensors"
                saver = getattr(diffusers.loaders, SAVERS[family])
                saver.save_lora_weights(
                    str(folder),
                    weight_name=path.name,
                    **{f"{part}_lora_layers": state, f"{part}_lora_adapter_metadata": metadata},
                )
                state_, error, note = judged(path, base, expected)
                yield Row(
                    writer="diffusers",
                    **told,
                    layout="diffusers, metadata",
                    state=state_,
                    error=error,
                    note=note,
                )


TITLE = """# Which files are read: algorithm by layout

Written by `bench/auditing_formats.py`. *read (error)*: the changes that come out are those that
the file's own library makes to the weights of a tiny random model, with the largest relative
error of a weight; *refused*: with a reason; *partly read*: never clear. An empty cell was not
made. References: peft's merge, LyCORIS' layers, diffusers' converters of names. Two departures
of LyCORIS 4.1.3 from its own files: merging LoHa and LoKr multiplies with alpha / rank twice,
so the layer's forward is the reference; merging DyLoRA draws a rank by chance, so the file as
LyCORIS loads it is.

"""


def table(rows: list[Row]) -> str:
    """Markdown: one row per algorithm and family, one cell per layout."""
    lines: list[str] = [TITLE]
    states = [row.state for row in rows]
    worst = max(
        (row.error for row in rows if row.error is not None and row.state == "read"), default=0
    )
    counts = ", ".join(
        f"{states.count(name)} {name}" for name in ("read", "partly read", "refused", "misread")
    )
    lines.append(
        f"{len(rows)} files: {counts}; largest relative error of what was read {worst:.1e}."
    )
    for writer in dict.fromkeys(row.writer for row in rows):
        own = [row for row in rows if row.writer == writer]
        layouts = list(dict.fromkeys(row.layout for row in own))
        lines += ["", f"## Written by {writer}", ""]
        lines.append(f"| family | algorithm | {' | '.join(layouts)} |")
        lines.append("|---|---|" + "---|" * len(layouts))
        for family, algorithm in dict.fromkeys((row.family, row.algorithm) for row in own):
            cells = []
            for layout in layouts:
                found = [
                    row
                    for row in own
                    if (row.family, row.algorithm, row.layout) == (family, algorithm, layout)
                ]
                cells.append(_cell(found[0]) if found else "")
            lines.append(f"| {family} | {algorithm} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Row) -> str:
    if row.state == "read" and row.error is not None:
        return f"read ({row.error:.0e})"
    return row.state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, help="Markdown page of the table")
    parser.add_argument("--only", default="", help="peft, lycoris, styles or original")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    from auditing_formats_original import from_original

    sections = {
        "peft": from_peft,
        "lycoris": from_lycoris,
        "styles": from_styles,
        "original": from_original,
    }
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, section in sections.items():
            if arguments.only in ("", name):
                where = Path(folder) / name
                where.mkdir()
                for row in section(where):
                    rows.append(row)
                    line = [row.state, row.writer, row.family, row.algorithm, row.layout]
                    print(
                        json.dumps([*line, row.error, row.note[:160]], ensure_ascii=False),
                        flush=True,
                    )
    text = table(rows)
    if arguments.to:
        arguments.to.write_text(text, encoding="utf-8")
    print(text.removeprefix(TITLE).strip().splitlines()[0])
    if any(row.state == "misread" for row in rows):
        raise SystemExit("Some files were misread.")


if __name__ == "__main__":
    main()
