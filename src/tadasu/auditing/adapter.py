"""What every reader of shared files returns: one update per base weight.

A weight is named by diffusers' module path with the pipeline's part in front, for example
``unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k`` for that module's ``weight``;
any other parameter carries its own name at the end (``….to_out.0.bias``). Text encoders keep the
names their weight files have had from the start (``text_encoder.text_model.encoder.layers.0…``),
whichever of them a library version drops from its modules.

Whatever the file format, ``delta()`` is the change that the file makes to the weight at strength 1,
alpha and rank included.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.auditing.metadata import Metadata
from tadasu.errors import BadInput

Weight = Float[Tensor, "*shape"]
Up = Float[Tensor, "out rank"]
Down = Float[Tensor, "rank inputs"]

#: What a name may start with: the parts of a diffusers pipeline that adapters change.
PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3", "prior", "vae")


class Update(ABC):
    """The change of one base weight.

    Attributes:
        kind: the file format's word for it, for example ``lora``.
        shape: shape of the base weight: (out, in), (out, in, height, width) or (width,).
        needs_weight: whether the change depends on the base weight (DoRA, (IA)³, OFT, whole
            checkpoints), so that ``delta`` and ``norm`` must be handed it.
    """

    kind: str
    shape: tuple[int, ...]
    needs_weight: bool = False

    @abstractmethod
    def delta(self, weight: Weight | None = None) -> Weight:
        """The dense change, float32, in the base weight's shape.

        Args:
            weight: the base weight; only read where ``needs_weight``.

        Raises:
            BadInput: when the base weight is needed and missing, or has another shape.
        """

    def factors(self) -> tuple[Up, Down] | None:
        """``up`` and ``down`` with ``delta = up @ down``, float32, all scales included.

        Columns of ``down`` run over the inputs, for a convolution over inputs × height × width.
        None where no product of small factors exists (or none smaller than the weight itself).
        """
        return None

    @property
    def rank(self) -> int | None:
        """Inner size of ``factors``; an upper bound of the rank of the change."""
        found = self.factors()
        return None if found is None else int(found[1].shape[0])

    def norm(self, weight: Weight | None = None) -> float:
        """Frobenius norm of the change, without building it where factors exist."""
        found = self.factors()
        if found is None:
            return float(self.delta(weight).double().norm())
        return product_norm(*found)

    def rows(self, pieces: Sequence[tuple[int, int]]) -> Update:
        """The update of some rows of a fused weight, stacked in the order given.

        Args:
            pieces: first row and the row after the last one, per piece.

        Raises:
            BadInput: when the update cannot be told from those rows of the base weight alone.
        """
        if self.needs_weight:
            raise BadInput(f"A {self.kind} update of a fused weight cannot be cut into its parts.")
        return Cut(inner=self, pieces=tuple(pieces))

    def fitted(self, shape: tuple[int, ...]) -> Update:
        """The same update for a base weight that is shaped (1 × 1 convolution or not) like this.

        Raises:
            BadInput: when the number of outputs or of values differs.
        """
        if shape == self.shape:
            return self
        if math.prod(shape) != math.prod(self.shape) or shape[:1] != self.shape[:1]:
            raise BadInput(f"An update of shape {self.shape} does not fit a weight of {shape}.")
        return replace(self, shape=shape)  # type: ignore[type-var]  # every update is a dataclass


def product_norm(up: Up, down: Down) -> float:
    """Frobenius norm of ``up @ down`` from two rank × rank matrices.

    >>> import torch
    >>> product_norm(torch.ones(2, 1), torch.tensor([[3.0, 4.0]]))   # √2 · 5
    7.0710678118654755
    """
    left, right = up.double(), down.double()
    squared = float(((left.T @ left) * (right @ right.T)).sum())
    return math.sqrt(max(squared, 0.0))


def checked_weight(weight: Weight | None, shape: tuple[int, ...], kind: str) -> Weight:
    """The base weight in float32, for updates that cannot be told without it.

    Raises:
        BadInput: when it is missing or has another number of values.
    """
    if weight is None:
        raise BadInput(f"A {kind} update depends on the base weight; hand it the base's weight.")
    if weight.numel() != math.prod(shape):
        raise BadInput(
            f"The base weight has shape {tuple(weight.shape)}; the {kind} update is for {shape}."
        )
    return weight.detach().to("cpu", torch.float32).reshape(shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Factored(Update):
    """``delta = scale · up @ down``: LoRA and LoCon, and what reduces to them.

    Args:
        up: outputs × rank, in whatever floating-point type the file has.
        down: rank × inputs (× height × width flattened).
        scale: alpha / rank, or what else the file's format says.
        shape: the base weight's shape; (out, in) when left out.
        kind: the file format's word for it.
    """

    up: Up
    down: Down
    scale: float = 1.0
    shape: tuple[int, ...] = ()
    kind: str = "lora"

    def __post_init__(self) -> None:
        """Check that the factors fit, so that no later step has to."""
        inner = (self.up.ndim, self.down.ndim, self.up.shape[-1])
        if inner != (2, 2, self.down.shape[0]):
            raise BadInput(
                f"Factors do not fit: up {tuple(self.up.shape)}, down {tuple(self.down.shape)}."
            )
        whole = (int(self.up.shape[0]), int(self.down.shape[1]))
        shape = self.shape or whole
        if math.prod(shape) != math.prod(whole) or shape[0] != whole[0]:
            raise BadInput(f"Factors of a {whole} update do not fit a weight of shape {shape}.")
        object.__setattr__(self, "shape", tuple(shape))

    def factors(self) -> tuple[Up, Down]:
        """Both factors in float32; the scale is carried by ``up``."""
        return self.up.float() * self.scale, self.down.float()

    @property
    def rank(self) -> int:
        """Inner size of the factors."""
        return int(self.down.shape[0])

    def delta(self, weight: Weight | None = None) -> Weight:
        """The product, in the base weight's shape."""
        up, down = self.factors()
        return (up @ down).reshape(self.shape)

    def rows(self, pieces: Sequence[tuple[int, int]]) -> Factored:
        """The rows of ``up``; ``down`` stays whole."""
        up = stacked(self.up, pieces)
        return replace(self, up=up, shape=(int(up.shape[0]), *self.shape[1:]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense(Update):
    """A change that the file carries whole: ``diff``, ``diff_b``, ``w_norm``, ``b_norm``.

    Args:
        change: what is added to the base weight.
        scale: factor on it.
        shape: the base weight's shape; that of ``change`` when left out.
        kind: the file format's word for it.
    """

    change: Weight
    scale: float = 1.0
    shape: tuple[int, ...] = ()
    kind: str = "diff"

    def __post_init__(self) -> None:
        """Check the shape once."""
        shape = self.shape or tuple(self.change.shape)
        if math.prod(shape) != self.change.numel():
            raise BadInput(
                f"A change of shape {tuple(self.change.shape)} does not fit a weight of {shape}."
            )
        object.__setattr__(self, "shape", tuple(shape))

    def delta(self, weight: Weight | None = None) -> Weight:
        """The change itself."""
        return (self.change.float() * self.scale).reshape(self.shape)

    def rows(self, pieces: Sequence[tuple[int, int]]) -> Dense:
        """The rows of the change."""
        change = stacked(self.change, pieces)
        return replace(self, change=change, shape=(int(change.shape[0]), *self.shape[1:]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut(Update):
    """Some rows of another update that cannot be cut in itself.

    Args:
        inner: the update of the fused weight.
        pieces: rows, stacked in this order.
        shape: the base weight's shape; told from the pieces when left out.
    """

    inner: Update
    pieces: tuple[tuple[int, int], ...]
    shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Count the rows once."""
        count = sum(end - start for start, end in self.pieces)
        object.__setattr__(self, "shape", tuple(self.shape) or (count, *self.inner.shape[1:]))

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The inner update's kind."""
        return self.inner.kind

    def factors(self) -> tuple[Up, Down] | None:
        """The rows of the inner ``up``."""
        found = self.inner.factors()
        return None if found is None else (stacked(found[0], self.pieces), found[1])

    def delta(self, weight: Weight | None = None) -> Weight:
        """The rows of the inner change."""
        return stacked(self.inner.delta(), self.pieces).reshape(self.shape)


def stacked(tensor: Tensor, pieces: Sequence[tuple[int, int]]) -> Tensor:
    """Rows of a tensor, stacked in the order given."""
    if len(pieces) == 1:
        return tensor[pieces[0][0] : pieces[0][1]]
    return torch.cat([tensor[start:end] for start, end in pieces])


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of a file was understood and found in the base.

    Attributes:
        values: share of its numbers.
        modules: share of its modules.
        unread: names of what was not, for people.
    """

    values: float = 1.0
    modules: float = 1.0
    unread: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The smaller share: a file can be padded in one of them."""
        return min(self.values, self.modules)

    @property
    def whole(self) -> bool:
        """Whether so much was read that what was found speaks for the file."""
        return self.share >= ENOUGH_READ


#: Share of a file from which it can be clear.
ENOUGH_READ = 0.9


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """One shared file, read.

    Attributes:
        path: where it was read from.
        digest: SHA-256 of the file's bytes, hexadecimal.
        format: what kind of update it carries: ``lora``, ``loha``, ``lokr``, ``ia3``, ``dora``,
            ``diff``, ``oft``, …, ``embedding``, ``checkpoint``; several joined by ``+``.
        layout: whose names the file uses: ``kohya``, ``diffusers``, ``peft``, ``comfyui``, ….
        family: base family told from shapes (``sd1``, ``sdxl``, …), or ``unknown``.
        updates: the change of each base weight, by name.
        metadata: what the file says about itself; claims, never evidence.
        embeddings: textual inversion: (vectors × width) per text encoder.
        unmatched: modules of the file that belong to no known part of a model, or not to the
            given base; their content was not examined.
        coverage: how much of the file the updates and embeddings stand for.
        doubts: sentences about what may mean something else than was read; with any of them the
            file is never clear.
        other: the updates as loaders apply them that do not look at the configuration which
            ``updates`` follow; empty where all agree within a factor of two.
        conflict: one sentence about that disagreement.
    """

    path: Path
    digest: str
    format: str
    layout: str
    family: str
    updates: Mapping[str, Update]
    metadata: Metadata
    embeddings: Mapping[str, Float[Tensor, "vectors width"]] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    coverage: Coverage = field(default_factory=Coverage)
    doubts: tuple[str, ...] = ()
    other: Mapping[str, Update] = field(default_factory=dict)
    conflict: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of a pipeline that the file changes, in the order of ``PARTS``."""
        touched = {name.partition(".")[0] for name in self.updates} | set(self.embeddings)
        return tuple(part for part in PARTS if part in touched)

    def part(self, name: str) -> dict[str, Update]:
        """The updates of one part, their names still in full."""
        return {key: update for key, update in self.updates.items() if key.startswith(f"{name}.")}

    @property
    def needs_weight(self) -> bool:
        """Whether any update can only be told with the base's weights."""
        return any(update.needs_weight for update in self.updates.values())
