"""The base model that an adapter changes: its names, its shapes, and its weights on request."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from tadasu.auditing.adapter import PARTS
from tadasu.auditing.containers import Limits, TensorFile, open_file
from tadasu.errors import BadFile, BadInput, UnknownName


def canonical(name: str) -> str:
    """A parameter's name as updates carry it.

    >>> canonical("text_encoder.encoder.layers.0.self_attn.q_proj.weight")
    'text_encoder.text_model.encoder.layers.0.self_attn.q_proj'
    >>> canonical("unet.conv_in.bias")
    'unet.conv_in.bias'
    """
    part, _, rest = name.removesuffix(".weight").partition(".")
    clip = rest.startswith(("encoder.layers.", "embeddings.", "final_layer_norm"))
    if part.startswith("text_encoder") and clip:
        rest = f"text_model.{rest}"
    return f"{part}.{rest}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Base:
    """What is known of a base model.

    Args:
        name: how reports call it.
        shapes: every weight's shape, by canonical name (see ``adapter``).
        fetch: one weight by canonical name.
    """

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    fetch: Callable[[str], Tensor]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], name: str = "base") -> Base:
        """From tensors in memory, named ``unet.….weight`` and so on.

        Raises:
            BadInput: when there are none.
        """
        held = {canonical(key): tensor for key, tensor in tensors.items()}
        if not held:
            raise BadInput("A base needs at least one weight.")
        shapes = {key: tuple(tensor.shape) for key, tensor in held.items()}
        return cls(name=name, shapes=shapes, fetch=held.__getitem__)

    @classmethod
    def from_folder(cls, folder: str | Path) -> Base:
        """From a pipeline's folder in diffusers' layout; weights stay on disk until asked for.

        Raises:
            BadFile: when the folder holds no weights in safetensors.
        """
        places: dict[str, tuple[TensorFile, str]] = {}
        for part in PARTS:
            for file in _weight_files(Path(folder) / part):
                opened = open_file(file.resolve(), Limits(values=2**34))
                places |= {canonical(f"{part}.{key}"): (opened, key) for key in opened.stored}
        if not places:
            raise BadFile(f"{folder} holds no pipeline with weights in safetensors.")
        return cls(
            name=Path(folder).name,
            shapes={name: file.stored[key].shape for name, (file, key) in places.items()},
            fetch=lambda name: places[name][0].get(places[name][1]),
        )

    def weight(self, name: str) -> Float[Tensor, "*shape"]:
        """One weight, float32, on the CPU.

        Raises:
            UnknownName: when the base has no such weight.
        """
        if name not in self.shapes:
            raise UnknownName("weight", name, [])
        return self.fetch(name).detach().to("cpu").float()

    @cached_property
    def parts(self) -> frozenset[str]:
        """Parts of the pipeline whose names are known."""
        return frozenset(name.partition(".")[0] for name in self.shapes)

    @cached_property
    def joined(self) -> Mapping[str, str]:
        """Canonical names by the same name with underscores for dots, as kohya's scripts write it.

        Two weights that fall together under one such name are left out.
        """
        found: dict[str, str] = {}
        twice: set[str] = set()
        for name in self.shapes:
            key = name.replace(".", "_")
            twice |= {key} & set(found)
            found[key] = name
        return {key: name for key, name in found.items() if key not in twice}

    @cached_property
    def layers_per_block(self) -> int:
        """Residual blocks per level of a U-Net; 2 where there is none to count."""
        start = "unet.down_blocks.0.resnets."
        count = {name[len(start) :].partition(".")[0] for name in self.shapes if start in name}
        return len(count) or 2


def _weight_files(folder: Path) -> list[Path]:
    """The files of one part: what an index lists, else the plainest single file."""
    for stem in ("diffusion_pytorch_model", "model"):
        index = folder / f"{stem}.safetensors.index.json"
        if index.is_file():
            listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
            return [folder / Path(name).name for name in sorted(set(listed))]
        for variant in ("", ".fp16", ".bf16"):
            file = folder / f"{stem}{variant}.safetensors"
            if file.is_file():
                return [file]
    return []
