"""CLIP models through transformers, as the zero-shot detector needs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tadasu.backends.transformers.load import Placed, complete, fingerprint, place, reading
from tadasu.concepts import Concept
from tadasu.detectors.card import ClipCard
from tadasu.detectors.clip import NEUTRAL, ClipZeroShot
from tadasu.errors import BadFile, shown
from tadasu.references import located

if TYPE_CHECKING:
    import numpy as np
    import torch
    from jaxtyping import Float
    from PIL import Image

Value = TypeVar("Value")


class ClipEncoder:
    """Any `CLIPModel` with its tokenizer and image processor, in evaluation mode.

    Args:
        ref: a folder or a hub id.
        device: a torch device; None for CUDA where there is one, else the CPU.
        dtype: of the weights; None for float32.

    Raises:
        BadFile: the reference holds no CLIP.
        BadInput: there is no such device.
        MissingPart: the extra ``diffusers`` is not installed.
    """

    def __init__(
        self, ref: str, *, device: str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        ref = located(ref, "clip")
        with reading(ref, "a CLIP model") as transformers:
            self._processor: Any = transformers.AutoImageProcessor.from_pretrained(
                ref, backend="pil"
            )
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(ref)
            model = complete(transformers.AutoModel, ref)
        if not isinstance(model, transformers.CLIPModel):
            raise BadFile(f"{shown(ref, 300)} is a {type(model).__name__}, not a CLIP model.")
        self._placed: Placed = place(model, device=device, dtype=dtype)
        self._longest: int = model.config.text_config.max_position_embeddings
        self.logit_scale: float = float(model.logit_scale.detach().float().exp())

    @property
    def content(self) -> str:
        """What its weights are; systems with other weights are other systems."""
        return fingerprint(self._placed.model)

    def encode_images(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "image width"]:
        """One vector for each RGB picture, of any length."""
        pixels = self._processor(
            list(images), return_tensors="pt", input_data_format="channels_last"
        )["pixel_values"]
        return self._placed.run(
            lambda model, inputs: _vectors(model.get_image_features(inputs)), pixels
        )

    def encode_patches(self, image: Image.Image) -> Float[np.ndarray, "patch width"]:
        """One vector for each patch of an RGB picture, in the space of the texts.

        The last layer's states go through the norm and projection that CLIP was trained with for
        its class token only.
        """
        pixels = self._processor([image], return_tensors="pt", input_data_format="channels_last")[
            "pixel_values"
        ]
        return self._placed.run(_patches, pixels)

    def encode_texts(self, texts: Sequence[str]) -> Float[np.ndarray, "text width"]:
        """One vector for each text, of any length; texts are cut where the model ends."""
        tokens = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self._longest,
            return_tensors="pt",
        )
        mask = tokens["attention_mask"].to(self._placed.device)
        return self._placed.run(
            lambda model, ids: _vectors(model.get_text_features(ids, attention_mask=mask)),
            tokens["input_ids"],
        )


def load(
    *,
    concepts: tuple[Concept, ...],
    ref: str,
    unit: Literal["probability", "cosine similarity"] = "probability",
    neutral: tuple[str, ...] | None = None,
    template: str | None = None,
    temperature: float | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
) -> ClipZeroShot:
    """The clip detector with its network.

    Args:
        concepts: what to look for.
        ref: a folder or a hub id.
        unit: as in `ClipZeroShot`.
        neutral: as in `ClipZeroShot`; here and below None takes what ``clip.json`` in the folder
            says, else the detector's default.
        template: as in `ClipZeroShot`.
        temperature: as in `ClipZeroShot`.
        device: a torch device; None for CUDA where there is one, else the CPU.
        dtype: of the weights; None for float32.

    Raises:
        BadFile: the reference holds no CLIP, or its card cannot be understood.
        BadInput: no concept, no such device, or a parameter out of range.
        MissingPart: the extra ``diffusers`` is not installed.
    """
    ref = located(ref, "clip")
    card = ClipCard.beside(Path(ref)) if Path(ref).is_dir() else ClipCard()
    return ClipZeroShot(
        network=ClipEncoder(ref, device=device, dtype=dtype),
        looked_for=concepts,
        unit=unit,
        neutral=_first(neutral, card.neutral, NEUTRAL),
        template=_first(template, card.template, "{}"),
        temperature=_first(temperature, card.temperature, 1.0),
    )


def _first(given: Value | None, of_card: Value | None, default: Value) -> Value:
    if given is not None:
        return given
    return default if of_card is None else of_card


def _patches(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    states = model.vision_model(pixels).last_hidden_state[0, 1:]
    found: torch.Tensor = model.visual_projection(model.vision_model.post_layernorm(states))
    return found


def _vectors(features: Any) -> torch.Tensor:
    """The projected vectors; transformers 5 wraps them in an output object."""
    found: torch.Tensor = getattr(features, "pooler_output", features)
    return found
