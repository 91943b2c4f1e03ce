"""A denoiser as an audit sees it: given pictures, noise and texts, with an update or without.

An update is laid over the weights for the length of a ``with``: each touched layer gets a new
tensor ``W + ΔW`` of its own, the old one is never written to, and afterwards the very same
parameter objects are back. So an update of zeros changes no bit, and every format of file works.
In half precision ``W + ΔW`` would round small updates away, so there ``ΔW x`` is added to ``W x``.

The keys and values that cross-attention makes of a text depend on the text and the update alone.
They are computed once per text and handed to every picture and timestep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tadasu.backends.diffusers.attach import acting
from tadasu.backends.diffusers.autoencoder import encoded
from tadasu.backends.diffusers.families import family_of
from tadasu.backends.diffusers.families_text import Conditioning
from tadasu.backends.diffusers.load import system_hash
from tadasu.backends.diffusers.memory import release
from tadasu.backends.diffusers.noise import is_flow
from tadasu.backends.diffusers.parts import ENCODERS
from tadasu.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

Result = TypeVar("Result")
#: New weights by ``part.path.of.module.weight``, for example ``unet.mid_block....to_q.weight``.
Weights = Mapping[str, Tensor]
#: Edge in pixels up to which plain attention is quicker than the fused kernel on a CPU.
SMALL = 64
#: What an error is multiplied by before gradients are taken through half precision.
LARGEST_SCALE = 2.0**16
KNOWN = ("Stable Diffusion", "Stable Diffusion XL", "Stable Diffusion 3")


class PipelineDenoiser:
    """The denoiser, VAE and text encoders of a pipeline, for :mod:`tadasu.auditing.probe`.

    Args:
        pipe: a Stable Diffusion 1.x, 2.x, XL or 3 pipeline; it is left as it is.
        batch: rows per forward of the denoiser, at most.
        side: edge length of the pictures in pixels; 0 for the pipeline's own.

    Raises:
        BadInput: the pipeline is of another family, or it cannot draw pictures of that size.
    """

    def __init__(self, pipe: Any, *, batch: int = 64, side: int = 0) -> None:
        self.pipe, self.family, self.batch = pipe, family_of(pipe), batch
        self._contexts: dict[str, Conditioning] = {}
        if self.family.name not in KNOWN:
            raise BadInput(
                f"Audits by reference pictures know {', '.join(KNOWN)}; this is a "
                f"{self.family.name} pipeline, whose files cannot be probed yet. "
                "'tadasu known add' makes an index of known files of any family."
            )
        self.network: Any = getattr(pipe, self.family.denoiser)
        first = next(self.network.parameters())
        self.device, self.dtype = first.device, first.dtype
        own = int(self.network.config.sample_size) * int(pipe.vae_scale_factor)
        step = int(pipe.vae_scale_factor) * 2 ** (_halvings(self.network))
        if side and (side % step or not step <= side <= own):
            raise BadInput(
                f"The resolution {side} must be a multiple of {step} up to the model's own, {own}."
            )
        self.side = side or own

    @cached_property
    def identity(self) -> str:
        """Content-addressed id of the model."""
        return system_hash(self.pipe)

    @property
    def steps(self) -> int:
        """Number of training timesteps, T."""
        return int(self.pipe.scheduler.config.num_train_timesteps)

    def levels(self, times: Int[Tensor, " row"]) -> tuple[Tensor, Tensor]:
        """Factors of picture and noise at each timestep, float32."""
        if is_flow(self.pipe.scheduler):
            sigma = times.float() / self.steps
            return 1 - sigma, sigma
        retained = self.pipe.scheduler.alphas_cumprod.float().to(times.device)[times]
        return retained.sqrt(), (1 - retained).sqrt()

    def target(
        self,
        clean: Float[Tensor, "row channel height width"],
        noise: Float[Tensor, "row channel height width"],
        times: Int[Tensor, " row"],
    ) -> Float[Tensor, "row channel height width"]:
        """What the model should predict: noise, velocity, picture or flow, as it was trained."""
        if is_flow(self.pipe.scheduler):
            return noise - clean
        kind = self.pipe.scheduler.config.get("prediction_type", "epsilon")
        if kind == "epsilon":
            return noise
        if kind == "sample":
            return clean
        signal, share = (_wide(level) for level in self.levels(times))
        return signal * noise - share * clean  # v

    @torch.no_grad()
    def latents(self, images: Sequence[Image], *, batch: int = 16) -> Tensor:
        """Pictures as clean latents, float32: the VAE's mean, scaled as the denoiser knows it.

        Args:
            images: RGB pictures; each is scaled to the pipeline's own size.
            batch: pictures per forward of the VAE.
        """
        vae = self.pipe.vae
        place = next(vae.parameters()).device
        found = []
        for start in range(0, len(images), batch):
            pixels = self.pipe.image_processor.preprocess(
                [_square(image, self.side) for image in images[start : start + batch]]
            )
            found.append(encoded(vae, pixels.to(place)))
        return torch.cat(found).to(self.device)

    @contextmanager
    def adapted(
        self, weights: Weights, texts: Sequence[str]
    ) -> Iterator[Callable[[Tensor, Tensor, Tensor], Tensor]]:
        """The denoiser with other weights, for some texts.

        Args:
            weights: what is laid over the pipeline's own; empty for the base itself.
            texts: what rows can be conditioned on.

        Yields:
            (noised latents, timesteps, number of the text of each row) to predictions, float32.

        Raises:
            BadInput: a weight that the pipeline does not have, or of another shape; or an edit acts
                on the pipeline at run time, which predictions of stored texts would not show.
        """
        if acting(self.pipe):
            raise BadInput(
                "An edit acts on this pipeline at run time, so an audit would not see the model "
                "that draws. Audit outside the block, or fold the edit first."
            )
        with ExitStack() as stack, torch.no_grad():
            for name in (*ENCODERS, self.family.denoiser):
                part: Any = getattr(self.pipe, name, None)
                own = {
                    key.removeprefix(f"{name}."): value
                    for key, value in weights.items()
                    if key.startswith(f"{name}.")
                }
                if own:
                    stack.enter_context(laid_over(part, own, name))
            changed = any(key.startswith("text_encoder") for key in weights)
            contexts = [self._context(text, changed) for text in texts]
            if self.device.type == "cpu" and self.side <= SMALL:
                stack.enter_context(_plain_attention(self.network))
            reader = stack.enter_context(_read_once(self.network, contexts))

            def predict(noised: Tensor, times: Tensor, rows: Tensor) -> Tensor:
                def some(cut: slice) -> Tensor:
                    own = (noised[cut], times[cut], rows[cut])
                    with torch.no_grad():
                        return self.forward(*own, contexts, reader).float()

                return torch.cat(self._in_batches(len(rows), some))

            yield predict

    def _in_batches(self, count: int, some: Callable[[slice], Result]) -> list[Result]:
        """Something for all rows, a batch at a time; where memory runs out, batches are halved."""
        found: list[Result] = []
        start = 0
        while start < count:
            made: Result | None = None
            try:
                made = some(slice(start, start + self.batch))
            except (torch.OutOfMemoryError, MemoryError):
                if self.batch == 1:
                    raise
            if made is None:  # outside the except, so that what the failure held is free again
                self.batch = max(1, min(self.batch, count) // 2)
                release()
                continue
            found.append(made)
            start += self.batch
        return found

    def _context(self, text: str, changed: bool) -> Conditioning:
        """A text's conditioning; kept while the text encoders are the pipeline's own."""
        if changed:
            return self.family.encode(self.pipe, text, {})
        if text not in self._contexts:
            self._contexts[text] = self.family.encode(self.pipe, text, {})
        return self._contexts[text]

    def forward(
        self,
        noised: Tensor,
        times: Tensor,
        rows: Tensor,
        contexts: Sequence[Conditioning],
        reader: _Reader,
    ) -> Tensor:
        """One forward of the denoiser; gradients flow where the caller allows them."""
        arguments: dict[str, Any] = {}
        reader.rows = rows
        for key in contexts[0]:
            table = torch.cat([context[key] for context in contexts]).to(self.device, self.dtype)
            spread = table.expand(len(rows), *table.shape[1:]) if len(table) == 1 else table[rows]
            place, _, inner = key.partition(".")
            if inner:
                arguments.setdefault(place, {})[inner] = spread
            else:
                arguments[place] = spread
        if self.family.name == "Stable Diffusion XL":
            side = float(self.side)
            sizes = torch.tensor([side, side, 0.0, 0.0, side, side], device=self.device)
            arguments["added_cond_kwargs"]["time_ids"] = sizes.expand(len(rows), -1).to(self.dtype)
        arguments[self.family.sample] = noised.to(self.device, self.dtype)
        answer = self.network(timestep=times.to(self.device), return_dict=False, **arguments)[0]
        found: Tensor = answer[:, : noised.shape[1]]
        return found

    def parameter(self, name: str) -> Tensor | None:
        """A weight of the pipeline by ``part.path.weight``; None where there is none.

        CLIP's ``text_model`` may stand in the name or not, as files and library versions differ.
        """
        part, _, path = name.partition(".")
        owner = getattr(self.pipe, part, None)
        if part not in (*ENCODERS, self.family.denoiser) or not isinstance(owner, nn.Module):
            return None
        found = _find(owner, path)
        return None if found is None else found[2]

    def tensors(self) -> dict[str, Tensor]:
        """Every weight of denoiser and text encoders, by ``part.path.weight``."""
        parts = (*ENCODERS, self.family.denoiser)
        return {
            f"{part}.{name}": weight
            for part in parts
            if isinstance(module := getattr(self.pipe, part, None), nn.Module)
            for name, weight in module.named_parameters()
        }

    def gradients(
        self,
        noised: Float[Tensor, "row channel height width"],
        target: Float[Tensor, "row channel height width"],
        times: Int[Tensor, " row"],
        text: str,
    ) -> dict[str, Tensor]:
        """Gradient of the mean squared error by every matrix and kernel of the denoiser.

        Returns:
            By ``part.path.weight``, float32; under ``error`` the error itself.
        """
        named = {
            f"{self.family.denoiser}.{name}": parameter
            for name, parameter in self.network.named_parameters()
            if parameter.ndim > 1
        }
        asked = [parameter.requires_grad for parameter in named.values()]
        contexts = [self._context(text, changed=False)]
        errors: list[Tensor] = []
        sums: list[Tensor] = []

        def some(cut: slice) -> Tensor:
            rows = torch.zeros(len(noised[cut]), dtype=torch.long)
            with torch.enable_grad():
                found = self.forward(noised[cut], times[cut], rows, contexts, _Reader())
                squares = (found.float() - target[cut].to(found.device)).square()
                error = squares.sum() / target.numel()
                slopes = _slopes(error, list(named.values()))
            sums[:] = [a + b for a, b in zip(sums, slopes, strict=True)] if sums else slopes
            return error.detach()

        try:
            for parameter in named.values():
                parameter.requires_grad_(True)
            errors = self._in_batches(len(noised), some)
        finally:
            for parameter, before in zip(named.values(), asked, strict=True):
                parameter.requires_grad_(before)
        return dict(zip(named, sums, strict=True)) | {"error": torch.stack(errors).sum().cpu()}

    def states(self, texts: Sequence[str]) -> Float[Tensor, "text token width"]:
        """What cross-attention reads of texts, float32, on the CPU."""
        with torch.no_grad():
            found = [self._context(text, changed=False)["encoder_hidden_states"] for text in texts]
        return torch.cat(found).float().cpu()

    def vocabulary(self) -> tuple[list[str], Int[Tensor, "token 3"]]:
        """Every ordinary token of the first tokenizer, and ``[begin] token [end]`` of each."""
        tokenizer = self.pipe.tokenizer
        special = set(tokenizer.all_special_ids)
        table = sorted((at, token) for token, at in tokenizer.get_vocab().items())
        kept = [(token, at) for at, token in table if at not in special]
        begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
        ids = torch.tensor([[begin, at, end] for _, at in kept])
        return [token for token, _ in kept], ids

    def token_states(
        self, ids: Int[Tensor, "token 3"], weights: Weights, *, batch: int = 1024
    ) -> Float[Tensor, "token width"]:
        """States of the middle token from the first text encoder, with other weights."""
        encoder = self.pipe.text_encoder
        own = {
            key.removeprefix("text_encoder."): value
            for key, value in weights.items()
            if key.startswith("text_encoder.")
        }
        with laid_over(encoder, own, "text_encoder"), torch.no_grad():
            found = [
                encoder(ids[at : at + batch].to(encoder.device))
                .last_hidden_state[:, 1]
                .float()
                .cpu()
                for at in range(0, len(ids), batch)
            ]
        return torch.cat(found)


def _halvings(network: Any) -> int:
    """How often a denoiser halves the edge of its latents."""
    blocks = network.config.get("down_block_types")
    if blocks is not None:
        return max(len(blocks) - 1, 0)
    patch = int(network.config.get("patch_size") or 1)
    return patch.bit_length() - 1


def _slopes(error: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Gradients in float32 that do not vanish where weights are in half precision.

    The error is a mean over many values, so on its way back it falls below float16's smallest
    number (45 % of SDXL's gradients did). It is made larger by a power of two, which changes no
    digit, and by less where that overflows.
    """
    half = any(weight.dtype == torch.float16 for weight in weights)
    scale = LARGEST_SCALE if half else 1.0
    while True:
        found = torch.autograd.grad(
            error * scale, weights, allow_unused=True, materialize_grads=True, retain_graph=half
        )
        wide = [slope.float() / scale for slope in found]
        if not half or scale <= 1:
            return wide
        if bool(torch.stack([slope.isfinite().all() for slope in wide]).all()):
            return wide
        scale /= 16


@contextmanager
def laid_over(module: nn.Module, weights: Weights, label: str = "") -> Iterator[None]:
    """A module with other weights; in half precision beside the old ones, else in their place.

    Raises:
        BadInput: a name or shape that does not fit.
    """
    beside: list[tuple[nn.Module, Tensor]] = []
    instead: dict[str, Tensor] = {}
    for name, value in weights.items():
        place = _find(module, name)
        half = place is not None and place[2].dtype in (torch.float16, torch.bfloat16)
        if half and place is not None and isinstance(place[0], nn.Linear | nn.Conv2d):
            owner, last, old = place
            if last == "weight" and old.shape == value.shape:
                change = value.to(old.device, torch.float32) - old.detach().float()
                beside.append((owner, change.to(old.dtype)))
                continue
        instead[name] = value
    with ExitStack() as stack:
        stack.enter_context(replaced(module, instead, label))
        for owner, change in beside:
            stack.enter_context(_forward(owner, _added(owner, change)))
        yield


def _added(layer: nn.Module, change: Tensor) -> Callable[[Tensor], Tensor]:
    own = layer.forward

    def forward(x: Tensor) -> Tensor:
        if isinstance(layer, nn.Conv2d):
            more: Tensor = layer._conv_forward(x, change, None)
        else:
            more = nn.functional.linear(x, change)
        plain: Tensor = own(x)
        return plain + more

    return forward


@contextmanager
def _forward(layer: nn.Module, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Another forward for one layer; afterwards the one before is back."""
    before = vars(layer).get("forward")
    try:
        layer.forward = forward
        yield
    finally:
        vars(layer).pop("forward", None)
        if before is not None:
            vars(layer)["forward"] = before


@contextmanager
def replaced(module: nn.Module, weights: Weights, label: str = "") -> Iterator[None]:
    """A module with other parameters; afterwards the very same parameter objects are back.

    Args:
        module: any module.
        weights: new values by dotted name; each of the old one's shape, cast to its type.
        label: what the module is called in messages.

    Raises:
        BadInput: a name or shape that does not fit; nothing was replaced.
    """
    found: list[tuple[nn.Module, str, nn.Parameter, Tensor]] = []
    for name, value in weights.items():
        place = _find(module, name)
        if place is None:
            raise BadInput(f"The model has no weight {label}.{name}; the update is for another.")
        owner, last, old = place
        if old.shape != value.shape:
            raise BadInput(
                f"The update of {label}.{name} has shape {tuple(value.shape)}, the model's is "
                f"{tuple(old.shape)}."
            )
        found.append((owner, last, old, value))
    try:
        for owner, last, old, value in found:
            made = value.to(old.device, old.dtype)
            owner._parameters[last] = nn.Parameter(made, requires_grad=False)
        yield
    finally:
        for owner, last, old, _ in found:
            owner._parameters[last] = old


def _find(module: nn.Module, name: str) -> tuple[nn.Module, str, nn.Parameter] | None:
    """Where a parameter is kept, with or without CLIP's ``text_model`` in its name."""
    for spelling in (name, name.removeprefix("text_model."), f"text_model.{name}"):
        path, _, last = spelling.rpartition(".")
        try:
            owner = module.get_submodule(path)
        except AttributeError:
            continue
        found = owner._parameters.get(last)
        if found is not None:
            return owner, last, found
    return None


@contextmanager
def _plain_attention(network: nn.Module) -> Iterator[None]:
    """Plain instead of fused attention: a third quicker at 64 latent positions on a CPU."""
    from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

    fused = [
        (layer, layer.processor)
        for layer in network.modules()
        if type(getattr(layer, "processor", None)) is AttnProcessor2_0
    ]
    try:
        for layer, _ in fused:
            layer.processor = AttnProcessor()
        yield
    finally:
        for layer, own in fused:
            layer.processor = own


@dataclass(eq=False)
class _Reader:
    """Says to the cross-attention layers which text each row of the present forward has."""

    rows: Tensor | None = None


@contextmanager
def _read_once(network: nn.Module, contexts: Sequence[Conditioning]) -> Iterator[_Reader]:
    """Compute every cross-attention's keys and values of the texts once, and look them up."""
    reader = _Reader()
    layers = [
        layer
        for name, layer in network.named_modules()
        if "attn2" in name.split(".")
        and name.endswith(("attn2.to_k", "attn2.to_v"))
        and isinstance(layer, nn.Linear)
    ]
    if not layers or "encoder_hidden_states" not in contexts[0]:
        yield reader
        return
    states = torch.cat([context["encoder_hidden_states"] for context in contexts])
    with ExitStack() as stack:
        for layer in layers:
            table = layer(states.to(layer.weight.device, layer.weight.dtype))
            stack.enter_context(_forward(layer, _looked_up(table, reader)))
        yield reader


def _looked_up(table: Tensor, reader: _Reader) -> Callable[[Tensor], Tensor]:
    def forward(states: Tensor) -> Tensor:
        if len(table) == 1 or reader.rows is None:
            return table[:1].expand(len(states), -1, -1)
        return table[reader.rows.to(table.device)]

    return forward


def _square(image: Image, side: int) -> Image:
    """The middle of a picture at the pipeline's size."""
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    cut = image.crop((left, top, left + edge, top + edge))
    return cut if edge == side else cut.resize((side, side))


def _wide(level: Tensor) -> Tensor:
    return level.reshape(-1, 1, 1, 1)


__all__ = ["KNOWN", "PipelineDenoiser", "Weights", "laid_over", "replaced"]
