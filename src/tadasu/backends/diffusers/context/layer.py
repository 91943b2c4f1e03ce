"""One more layer in a text encoder that computes a layer map, and taking it out again.

The layer is a copy of the encoder's last one with silent attention, so any program that loads the
model folder runs it; the other weights are not touched. Encoders of Stable Diffusion 1.x and 2.x.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tadasu.editing.layer_map import LayerMap
from tadasu.errors import BadInput, shown

SITE = "layer"


def layers_of(pipe: Any) -> nn.ModuleList:
    """The layers of a pipeline's only text encoder.

    Raises:
        BadInput: when the denoiser reads more than one encoder, or an encoder of another kind.
    """
    encoder = getattr(pipe, "text_encoder", None)
    inner = getattr(encoder, "text_model", encoder)
    layers = getattr(getattr(inner, "encoder", None), "layers", None)
    several = getattr(pipe, "text_encoder_2", None) is not None
    if several or not isinstance(layers, nn.ModuleList) or not hasattr(inner, "final_layer_norm"):
        raise BadInput(
            f"A layer edit needs one CLIP text encoder, as Stable Diffusion 1.x and 2.x have; "
            f"{type(pipe).__name__} has others. Use 'conditional' at run time, or 'uce'."
        )
    return layers


def takes_layers(pipe: Any) -> bool:
    """Whether a pipeline has one CLIP text encoder, so that a layer can be added."""
    try:
        layers_of(pipe)
    except BadInput:
        return False
    return True


def added(pipe: Any) -> tuple[str, ...]:
    """Names of the edits that are layers of the text encoder now."""
    if not takes_layers(pipe):
        return ()
    return tuple(dict.fromkeys(_name(layer) for layer in layers_of(pipe) if _name(layer)))


def check(pipe: Any, edit: LayerMap) -> None:
    """Refuse a map that does not fit a pipeline.

    Raises:
        BadInput: the encoder is of another kind or width.
    """
    layers_of(pipe)
    config = pipe.text_encoder.config
    if edit.width != config.hidden_size:
        raise BadInput(
            f"The edit's layer map has width {edit.width}, the text encoder "
            f"{config.hidden_size}. It was made for another text encoder."
        )


@torch.no_grad()
def add(pipe: Any, name: str, edit: LayerMap) -> None:
    """Append the layers that compute a map; several when it has more neurons than a layer.

    Raises:
        BadInput: before anything is changed, when the encoder is of another kind or width.
    """
    check(pipe, edit)
    layers = layers_of(pipe)
    last, config = layers[len(layers) - 1], pipe.text_encoder.config
    room = config.intermediate_size // 2 * 2  # a gate's two neurons stay together
    weights, biases, out = edit.neurons()
    made = [
        _layer(last, weights[i : i + room], biases[i : i + room], out[:, i : i + room])
        for i in range(0, weights.shape[0], room)
    ]
    for layer in made:
        layer.tadasu_edit = name  # type: ignore[assignment]
        layers.append(layer)
    config.num_hidden_layers = len(layers)


def remove(pipe: Any, name: str) -> None:
    """Take an edit's layers out; every other weight is the same object as before.

    Raises:
        BadInput: when there is none of that name.
    """
    layers = layers_of(pipe)
    places = [i for i, layer in enumerate(layers) if _name(layer) == name]
    if not places:
        raise BadInput(f"No edit named {shown(name)} is a layer of this text encoder.")
    for place in reversed(places):
        del layers[place]
    pipe.text_encoder.config.num_hidden_layers = len(layers)


@contextmanager
def inserted(pipe: Any, edit: LayerMap) -> Iterator[None]:
    """The layers for as long as the block lasts."""
    name = f"run time {id(edit)}"
    add(pipe, name, edit)
    try:
        yield
    finally:
        remove(pipe, name)


def own(path: str, encoder: nn.Module) -> bool:
    """Whether a parameter belongs to a layer that an edit added."""
    parts = path.split(".")
    if "layers" not in parts:
        return False
    place = parts.index("layers") + 2
    return bool(_name(encoder.get_submodule(".".join(parts[:place]))))


def _name(layer: nn.Module) -> str:
    return str(getattr(layer, "tadasu_edit", ""))


def _layer(like: nn.Module, weights: Tensor, biases: Tensor, out: Tensor) -> nn.Module:
    layer: Any = copy.deepcopy(like)
    for value in layer.parameters():
        value.zero_()
    layer.layer_norm2.weight.fill_(1.0)
    neurons = weights.shape[0]
    layer.mlp.fc1.weight[:neurons] = weights.to(layer.mlp.fc1.weight)
    layer.mlp.fc1.bias[:neurons] = biases.to(layer.mlp.fc1.bias)
    layer.mlp.fc2.weight[:, :neurons] = out.to(layer.mlp.fc2.weight)
    made: nn.Module = layer
    return made
