"""Files under the names of the original checkpoints, checked against diffusers' converters.

Where diffusers converts such LoRA files (FLUX, FLUX.2, Wan), its factors are the reference.
Where it converts whole checkpoints (Stable Diffusion 1.5, XL and 3, Lumina, Z-Image), the
reference is what merging under the original names converts to: ``convert(W + ΔW) − convert(W)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from auditing_formats import Row, judged, sd3, unet
from diffusers.loaders import lora_conversion_utils as loras
from diffusers.loaders import single_file_utils as whole
from safetensors.torch import save_file
from torch import Tensor, nn

from tadasu.auditing.base import Base

Shapes = Mapping[str, tuple[int, ...]]
Deltas = dict[str, Tensor]
RANK, ALPHA = 3, 2.0


def factors(shapes: Shapes) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    found = {}
    for name, (outputs, inputs, *kernel) in shapes.items():
        up = torch.randn(outputs, RANK, *[1] * len(kernel), generator=generator)
        found[name] = up, torch.randn(RANK, inputs, *kernel, generator=generator)
    return found


def product(pair: tuple[Tensor, Tensor]) -> Tensor:
    up, down = pair
    return (up.flatten(1) @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:])


#: Layout: module name to the file's name, endings, and whether an alpha is written.
LAYOUTS: dict[str, tuple[Callable[[str], str], tuple[str, str], bool]] = {
    "kohya": (lambda name: f"lora_unet_{name.replace('.', '_')}", ("lora_up", "lora_down"), True),
    "ComfyUI, ai-toolkit": (lambda name: f"diffusion_model.{name}", ("lora_B", "lora_A"), False),
    "lora_unet. and dots": (lambda name: f"lora_unet.{name}", ("lora_up", "lora_down"), True),
    "compiled": (lambda name: f"diffusion_model._orig_mod.{name}", ("lora_B", "lora_A"), False),
}


def written(folder: Path, family: str, pairs) -> Iterator[tuple[str, Path, float]]:
    """One file per layout, with the scale that its alpha stands for."""
    for layout, (named, (up, down), alpha) in LAYOUTS.items():
        tensors = {}
        for name, (first, second) in pairs.items():
            tensors[f"{named(name)}.{up}.weight"] = first.clone()
            tensors[f"{named(name)}.{down}.weight"] = second.clone()
            if alpha:
                tensors[f"{named(name)}.alpha"] = torch.tensor(ALPHA)
        path = folder / f"{family}-{layout}.safetensors".replace("/", "_")
        save_file(tensors, path)
        yield layout, path, ALPHA / RANK if alpha else 1.0


def by_loras(convert: Callable, prefix: str = "diffusion_model.") -> Callable[..., Deltas]:
    """Reference of a converter of LoRA files."""

    def reference(pairs) -> Deltas:
        state = {}
        for name, (up, down) in pairs.items():
            state[f"{prefix}{name}.lora_A.weight"] = down.clone()
            state[f"{prefix}{name}.lora_B.weight"] = up.clone()
        found = convert(state)
        return {
            key.removesuffix(".lora_A.weight"): found[key.replace("lora_A", "lora_B")] @ down
            for key, down in found.items()
            if key.endswith(".lora_A.weight")
        }

    return reference


def by_kohya(convert: Callable) -> Callable[..., Deltas]:
    """The same where the converter wants kohya's names."""

    def reference(pairs) -> Deltas:
        state = {}
        for name, (up, down) in pairs.items():
            stem = f"lora_unet_{name.replace('.', '_')}"
            state[f"{stem}.lora_down.weight"], state[f"{stem}.lora_up.weight"] = down, up
            state[f"{stem}.alpha"] = torch.tensor(float(RANK))
        found = convert(state)
        return {
            # The converter leaves the prefix out where it names what is not in a block.
            f"transformer.{key.removeprefix('transformer.').removesuffix('.lora_A.weight')}": found[
                key.replace("lora_A", "lora_B")
            ]
            @ down
            for key, down in found.items()
            if key.endswith(".lora_A.weight")
        }

    return reference


def by_weights(convert: Callable[[dict], dict], part: str, rest: Shapes) -> Callable[..., Deltas]:
    """Reference of a converter of whole checkpoints; ``rest`` is what it needs beside."""

    def reference(pairs) -> Deltas:
        shapes = {name: tuple(product(pair).shape) for name, pair in pairs.items()}
        before = {f"{name}.weight": torch.zeros(shape) for name, shape in shapes.items()}
        before |= {name: torch.zeros(shape) for name, shape in rest.items()}
        after = {
            **before,
            **{f"{name}.weight": product(pair) for name, pair in pairs.items()},
        }
        first, second = convert(dict(before)), convert(dict(after))
        return {
            f"{part}.{name.removesuffix('.weight')}": second[name] - first[name]
            for name in second
            if bool((second[name] != first[name]).any())
        }

    return reference


def flux_shapes(ratio: int, gated: int, width: int) -> Shapes:
    shapes = {"img_in": (width, 4), "txt_in": (width, 12), "final_layer.linear": (4, width)}
    for side in ("img", "txt"):
        shapes |= {
            f"double_blocks.0.{side}_attn.qkv": (3 * width, width),
            f"double_blocks.0.{side}_attn.proj": (width, width),
            f"double_blocks.0.{side}_mlp.0": (gated * ratio * width, width),
            f"double_blocks.0.{side}_mlp.2": (width, ratio * width),
        }
    shapes["single_blocks.0.linear1"] = ((3 + gated * ratio) * width, width)
    shapes["single_blocks.0.linear2"] = (width, (1 + ratio) * width)
    return shapes


def wan_shapes() -> Shapes:
    shapes = {}
    for kind in ("self_attn", "cross_attn"):
        shapes |= {f"blocks.0.{kind}.{each}": (16, 16) for each in "qkvo"}
    shapes |= {f"blocks.0.cross_attn.{each}_img": (16, 16) for each in "kv"}
    return {**shapes, "blocks.0.ffn.0": (64, 16), "blocks.0.ffn.2": (16, 64)}


def layer_shapes(width: int, keys: int, modulation: int) -> Shapes:
    """A block of Lumina or Z-Image, in every place that has one."""
    shapes = {}
    for place in ("layers.0", "noise_refiner.0", "context_refiner.0"):
        shapes |= {
            f"{place}.attention.qkv": (width + 2 * keys, width),
            f"{place}.attention.out": (width, width),
            f"{place}.feed_forward.w1": (32, width),
            f"{place}.feed_forward.w2": (width, 32),
            f"{place}.feed_forward.w3": (32, width),
        }
        if place != "context_refiner.0":
            shapes[f"{place}.adaLN_modulation.{modulation}"] = (4 * width, width)
    return shapes


def sd3_shapes() -> tuple[Shapes, Shapes]:
    """The matrices of a small Stable Diffusion 3, and the biases its converter needs."""
    width, shapes = 16, {}
    for at in (0, 1):
        for side in ("x_block", "context_block"):
            stem, last = f"joint_blocks.{at}.{side}", at == 1 and side == "context_block"
            shapes[f"{stem}.attn.qkv"] = (3 * width, width)
            shapes[f"{stem}.adaLN_modulation.1"] = ((2 if last else 6) * width, width)
            if not last:
                shapes[f"{stem}.attn.proj"] = (width, width)
                shapes[f"{stem}.mlp.fc1"] = (4 * width, width)
                shapes[f"{stem}.mlp.fc2"] = (width, 4 * width)
    shapes |= {
        "x_embedder.proj": (width, 4, 2, 2),
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "y_embedder.mlp.0": (width, 8),
        "y_embedder.mlp.2": (width, width),
        "context_embedder": (width, 12),
        "final_layer.linear": (64, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
    }
    rest = {f"{name}.bias": (shape[0],) for name, shape in shapes.items()}
    return shapes, {**rest, "pos_embed": (1, 64, width)}


RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
TOP = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def ldm_name(name: str, layers: int = 2) -> str:
    """The original name of a U-Net's module; its converter proves it below."""
    if name in TOP:
        return TOP[name]
    parts = name.split(".")
    if parts[0] == "mid_block":
        at = 1 if parts[1] == "attentions" else 2 * int(parts[2])
        rest = ".".join(parts[3:])
        return f"middle_block.{at}.{rest if at == 1 else RESNET[rest]}"
    level, kind, index, rest = int(parts[1]), parts[2], int(parts[3]), ".".join(parts[4:])
    if parts[0] == "down_blocks":
        block = level * (layers + 1) + 1 + (layers if kind == "downsamplers" else index)
        if kind == "downsamplers":
            return f"input_blocks.{block}.0.op"
        return (
            f"input_blocks.{block}.{'1.' + rest if kind == 'attentions' else '0.' + RESNET[rest]}"
        )
    block = level * (layers + 1) + (layers if kind == "upsamplers" else index)
    if kind == "upsamplers":
        return f"output_blocks.{block}.0.conv"
    return f"output_blocks.{block}.{'1.' + rest if kind == 'attentions' else '0.' + RESNET[rest]}"


def unet_case(sdxl: bool):
    """Shapes under original names, the model, and a reference by the checkpoint's converter."""
    torch.manual_seed(0)
    model = unet(12, sdxl)
    slots = {}
    attended = {
        name.rsplit(".attentions", 1)[0]
        for name, _ in model.named_modules()
        if ".attentions." in name
    }
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.GroupNorm | nn.LayerNorm):
            new = ldm_name(name)
            if ".upsamplers." in name:
                stem = name.split(".upsamplers")[0]
                new = new.split(".0.")[0] + f".{2 if stem in attended else 1}.conv"
            slots[name] = new
    state = model.state_dict()
    shapes = {
        slots[name.removesuffix(".weight")]: tuple(value.shape)
        for name, value in state.items()
        if name.endswith(".weight") and value.ndim > 1
    }
    rest = {}
    for name, value in state.items():
        stem, _, last = name.rpartition(".")
        key = f"{slots[stem]}.{last}"
        if key.removesuffix(".weight") not in shapes:
            rest[key] = tuple(value.shape)

    def convert(checkpoint):
        prefixed = {f"model.diffusion_model.{key}": value for key, value in checkpoint.items()}
        config = {**model.config, "layers_per_block": 2}
        return whole.convert_ldm_unet_checkpoint(prefixed, config)

    names = set(
        convert(
            {
                k: torch.zeros(v)
                for k, v in {**{f"{n}.weight": s for n, s in shapes.items()}, **rest}.items()
            }
        )
    )
    assert names == set(state), names ^ set(state)
    return shapes, by_weights(convert, "unet", rest), model


def cases() -> Iterator[tuple[str, Shapes, Callable[..., Deltas], Base | None]]:
    for family, sdxl in (("SD 1.5", False), ("SDXL", True)):
        shapes, reference, model = unet_case(sdxl)
        tensors = {f"unet.{name}": value for name, value in model.state_dict().items()}
        yield family, shapes, reference, Base.of(tensors, name=family)
    shapes, rest = sd3_shapes()
    model = sd3()
    tensors = {f"transformer.{name}": value for name, value in model.state_dict().items()}
    reference = by_weights(
        whole.convert_sd3_transformer_checkpoint_to_diffusers, "transformer", rest
    )
    yield "SD 3", shapes, reference, Base.of(tensors, name="SD 3")
    yield (
        "FLUX",
        flux_shapes(4, 1, 3072),
        by_kohya(loras._convert_kohya_flux_lora_to_diffusers),
        None,
    )
    yield (
        "FLUX.2",
        flux_shapes(3, 2, 16),
        by_loras(loras._convert_non_diffusers_flux2_lora_to_diffusers),
        None,
    )
    yield "Wan", wan_shapes(), by_loras(loras._convert_non_diffusers_wan_lora_to_diffusers), None
    yield (
        "Lumina",
        layer_shapes(2304, 768, 1),
        by_weights(whole.convert_lumina2_to_diffusers, "transformer", {}),
        None,
    )
    yield (
        "Z-Image",
        layer_shapes(24, 24, 0),
        by_weights(whole.convert_z_image_transformer_checkpoint_to_diffusers, "transformer", {}),
        None,
    )


def from_original(folder: Path) -> Iterator[Row]:
    """LoRA under the original names of every family, in each tool's spelling."""
    for family, shapes, reference, base in cases():
        pairs = factors(shapes)
        expected = reference(pairs)
        for layout, path, scale in written(folder, family, pairs):
            wanted = {name: delta * scale for name, delta in expected.items()}
            for with_base in (True, False) if base is not None else (False,):
                # Without a base the names and shapes that should come out stand for one.
                against = base if with_base and base is not None else None
                state, error, note = judged(path, against, wanted)
                yield Row(
                    writer="this script, under the original names",
                    algorithm="LoRA" if with_base else "LoRA, without a base",
                    family=family,
                    layout=layout,
                    state=state,
                    error=error,
                    note=note,
                )
