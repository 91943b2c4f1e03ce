"""What a file would change to first order: ⟨∇W, ΔW⟩ with gradients that are computed once.

An update moves the error on a concept's pictures by ``⟨G, ΔW⟩ + O(‖ΔW‖²)``, where G is the
gradient of the base's error on those pictures. G depends on base and concept alone. Per weight the
gradients of all concepts are written in one pair of small bases, ``G_c ≈ P M_c Qᵀ`` (P outputs ×
k, Q inputs × k), so that a file costs the small product ``Pᵀ ΔW Q``, for a LoRA
``(Pᵀ up)(down Q)``, and one product with the k × k cores of the whole bank.

Own proposal; how well it ranks is measured in docs/auditing/measured.md. It triages and never
convicts: updates are not small, and what a trigger word gates may not show to first order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu import files
from tadasu.auditing.merge import Parameter, Updates, parameter_name
from tadasu.auditing.probe import Block, Denoiser, Plan, Rows, read

Gradients = Mapping[str, Tensor]
#: Block to the gradient of the base's mean squared error by every weight.
Slope = Callable[[Tensor, Tensor, Tensor, str], Gradients]


@dataclass(frozen=True, kw_only=True, eq=False)
class Site:
    """The gradients of one weight for every concept of a bank.

    Attributes:
        left: orthonormal basis of the outputs.
        right: orthonormal basis of the inputs (for a kernel inputs × height × width).
        cores: per concept the gradient in these bases.
    """

    left: Float[Tensor, "out k"]
    right: Float[Tensor, "inputs k"]
    cores: Float[Tensor, "concept k k"]


@dataclass(frozen=True, kw_only=True, eq=False)
class GradientBank:
    """Gradients of a whole concept bank on one base.

    Attributes:
        concepts: in the order of the cores.
        sites: by full name of the weight.
        error: the base's mean squared error per concept.
    """

    concepts: tuple[str, ...]
    sites: Mapping[str, Site]
    error: Float[Tensor, " concept"]

    def gains(self, updates: Updates, parameter: Parameter) -> Float[Tensor, " concept"]:
        """First-order gain per concept, as a share of the base's error: above 0 is learned.

        Args:
            updates: of one file, at strength 1.
            parameter: looks up the base's weights.
        """
        total = torch.zeros(len(self.concepts))
        for _, site, small in self._small(updates, parameter):
            total += torch.mv(site.cores.flatten(1), small.flatten())
        return -total / self.error

    def layers(
        self, files: Sequence[Updates], parameter: Parameter, concept: str
    ) -> dict[str, float]:
        """First-order gain of one concept by layer, as a share of the base's error."""
        at = self.concepts.index(concept)
        found: dict[str, float] = {}
        for updates in files:
            for name, site, small in self._small(updates, parameter):
                gain = -float((site.cores[at] * small).sum()) / float(self.error[at])
                found[name] = found.get(name, 0.0) + gain
        return found

    def _small(
        self, updates: Updates, parameter: Parameter
    ) -> Iterator[tuple[str, Site, Float[Tensor, "k k"]]]:
        """Every update in the bases of its weight."""
        for module, update in updates.items():
            name = parameter_name(module, parameter)
            site = self.sites.get(name)
            if site is None:
                continue
            factors = update.factors()
            if factors is not None:
                up, down = factors
                yield name, site, (site.left.T @ up) @ (down @ site.right)
            else:
                base = parameter(name)
                change = update.delta(base if update.needs_weight else None)
                yield name, site, site.left.T @ (change.flatten(1) @ site.right)

    def save(self, file: Path) -> None:
        """Write everything as safetensors, in half precision."""
        tensors = {"error": self.error}
        for name, site in self.sites.items():
            tensors |= {f"{name}|left": site.left, f"{name}|right": site.right}
            tensors[f"{name}|cores"] = site.cores
        files.save_tensors(file, {name: value.float() for name, value in tensors.items()})

    @classmethod
    def load(cls, file: Path, concepts: tuple[str, ...]) -> GradientBank:
        """Read what `save` wrote, for the same concepts."""
        tensors = read(file)
        names = {key.partition("|")[0] for key in tensors if "|" in key}
        sites = {
            name: Site(
                left=tensors[f"{name}|left"],
                right=tensors[f"{name}|right"],
                cores=tensors[f"{name}|cores"],
            )
            for name in sorted(names)
        }
        return cls(concepts=concepts, sites=sites, error=tensors["error"])


def build(
    denoiser: Denoiser,
    slope: Slope,
    blocks: Sequence[Block],
    plan: Plan,
    *,
    rank: int = 16,
    width: int = 48,
    folder: Path | None = None,
) -> GradientBank:
    """The gradients of a bank; one forward and backward per block, once per base.

    Args:
        denoiser: the base.
        slope: gives the gradients of the base's error on noised pictures.
        blocks: one per concept.
        plan: times and draws; the empty text is used unless it says otherwise.
        rank: of each concept's own gradient before the bases are shared.
        width: k, size of the shared bases at most.
        folder: where the result is kept between runs; None for nowhere.
    """
    concepts = tuple(block.concept for block in blocks)
    file = folder / f"first-order-{_key(denoiser, blocks, plan, rank, width)}" if folder else None
    file = file.with_suffix(".safetensors") if file else None
    if file is not None and file.is_file():
        return GradientBank.load(file, concepts)
    generator = torch.Generator().manual_seed(0)
    thin: dict[str, list[tuple[Tensor, Tensor]]] = {}
    errors = []
    for block in blocks:
        rows = Rows.of(denoiser, plan, plan.times, block)
        text = block.text if plan.named else ""
        gradients = dict(slope(rows.noised, rows.target, rows.times, text))
        errors.append(float(gradients.pop("error")))
        for name, gradient in gradients.items():
            pair = _thin(gradient.flatten(1).float().cpu(), rank, generator)
            thin.setdefault(name, []).append(pair)
    sites = {name: _shared(thin[name], width) for name in sorted(thin)}  # as when it is read again
    made = GradientBank(concepts=concepts, sites=sites, error=torch.tensor(errors))
    if file is not None:
        made.save(file)
    return made


def _thin(gradient: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A gradient as ``left @ right`` of small rank, by one randomised range finder."""
    size = min(rank, *gradient.shape)
    test = torch.randn(gradient.shape[1], min(size + 4, *gradient.shape), generator=generator)
    basis, _ = torch.linalg.qr(gradient @ test)
    basis, _ = torch.linalg.qr(gradient @ (gradient.T @ basis))
    u, s, v = torch.linalg.svd(basis.T @ gradient, full_matrices=False)
    return basis @ (u[:, :size] * s[:size]), v[:size]


def _shared(pairs: Sequence[tuple[Tensor, Tensor]], width: int) -> Site:
    """Bases that hold the most of all concepts' gradients, each weighted by its own size."""
    left = _basis(torch.cat([up / up.norm().clamp_min(1e-30) for up, _ in pairs], 1), width)
    scaled = [(up.norm(dim=0)[:, None] * down).T / up.norm().clamp_min(1e-30) for up, down in pairs]
    right = _basis(torch.cat(scaled, 1), width)
    cores = torch.stack([(left.T @ up) @ (down @ right) for up, down in pairs])
    # Laid out as when they are read again, so that later runs round alike.
    return Site(left=left.contiguous(), right=right.contiguous(), cores=cores)


def _basis(columns: Tensor, width: int) -> Tensor:
    """The leading left singular vectors, from the smaller of the two Gram matrices."""
    outputs, count = columns.shape
    if count < outputs:  # kernels have many more inputs than a bank has directions
        _, small = torch.linalg.eigh(columns.T @ columns)
        basis: Tensor = torch.linalg.qr(columns @ small[:, -width:].flip(1))[0]
        return basis
    _, vectors = torch.linalg.eigh(columns @ columns.T)  # ascending, so the last columns lead
    leading: Tensor = vectors[:, -width:].flip(1).contiguous()
    return leading


def _key(denoiser: Denoiser, blocks: Sequence[Block], plan: Plan, rank: int, width: int) -> str:
    digest = hashlib.sha256(f"{denoiser.identity}|{plan}|{rank}|{width}".encode())
    for block in blocks:
        digest.update(f"|{block.concept}|{block.text}|{tuple(block.latents.shape)}".encode())
        digest.update(block.latents.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]
