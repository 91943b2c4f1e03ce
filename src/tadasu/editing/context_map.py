"""The one thing every edit is: a low-rank linear map on text contexts.

Contexts are rows. A map sends the row ``x`` to ``x Mᵀ`` with ``M = I + A Bᵀ``, so

* at run time a context is moved by ``x + (x B) Aᵀ``;
* folded into a projection it becomes ``W M = W + (W A) Bᵀ``, the same for every layer;
* as a LoRA the factors are ``down = Bᵀ`` and ``up = W A``.

All arithmetic is float64 (float32 where rows lie on a device without it); only the result is cast
back to what was given.
Source of the identity: Gandikota et al., WACV 2024 (arXiv 2308.14761), eq. 7, with the targets
written as outputs of the old weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tadasu.errors import BadInput


@dataclass(frozen=True, kw_only=True, eq=False)
class ContextMap:
    """``M = I + A Bᵀ``, a change of what text means to a model.

    Args:
        A: where each edited direction goes, one column per direction.
        B: how much of each edited direction a context contains, one column per direction.

    Raises:
        BadInput: when the factors do not fit each other or hold a value that is not finite.

    >>> import torch
    >>> first, second = torch.eye(3, dtype=torch.float64)[:2]
    >>> swap = ContextMap(A=(second - first)[:, None], B=first[:, None])
    >>> swap.apply(torch.tensor([[2.0, 0.0, 5.0]])).tolist()   # 2 of "first" become 2 of "second"
    [[0.0, 2.0, 5.0]]
    """

    A: Float[Tensor, "width rank"]
    B: Float[Tensor, "width rank"]

    def __post_init__(self) -> None:
        """Check the factors once, so that no later step has to."""
        if self.A.ndim != 2 or self.A.shape != self.B.shape:
            raise BadInput(
                f"A context map needs two matrices of one shape (width, rank); "
                f"given {tuple(self.A.shape)} and {tuple(self.B.shape)}."
            )
        for name in ("A", "B"):
            factor: Tensor = getattr(self, name).detach().to("cpu", torch.float64).contiguous()
            if not bool(torch.isfinite(factor).all()):
                raise BadInput(f"Factor {name} of a context map holds values that are not finite.")
            object.__setattr__(self, name, factor)

    @classmethod
    def identity(cls, width: int) -> ContextMap:
        """The map of rank 0 that changes nothing."""
        empty = torch.zeros(width, 0, dtype=torch.float64)
        return cls(A=empty, B=empty)

    @property
    def width(self) -> int:
        """Length of one context row."""
        return self.A.shape[0]

    @property
    def rank(self) -> int:
        """Number of stored directions; an upper bound of the rank of ``M - I``."""
        return self.A.shape[1]

    def delta(self, contexts: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """What the map adds to each row, in float64 where the device has it."""
        self._fits(contexts.shape[-1])
        exact = _exact(contexts.device)
        A, B = (factor.to(exact).to(contexts.device) for factor in (self.A, self.B))
        return (contexts.to(exact) @ B) @ A.T

    def apply(self, contexts: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Move context rows; device and precision stay those of ``contexts``."""
        delta = self.delta(contexts)
        return (contexts.to(delta.dtype) + delta).to(contexts.dtype)

    def fold(self, weight: Float[Tensor, "out width"]) -> Float[Tensor, "out width"]:
        """The projection that does to a plain context what ``weight`` did to a mapped one."""
        return self.folder(weight.dtype, weight.device)(weight)

    def folder(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> Folder:
        """Folds weight after weight; what they share is computed once, in float64.

        Each weight then takes one product in its own precision (at least float32). The factors
        are made such that this product cannot lose digits: ``B`` is orthonormal, or the map is
        dense.
        """
        kind = torch.float64 if dtype == torch.float64 else torch.float32
        if 3 * self.rank > self.width:  # one dense product is cheaper than two thin ones then
            return Folder(width=self.width, factors=(self.dense().to(device, kind),))
        basis, upper = torch.linalg.qr(self.B)
        pair = ((self.A @ upper.T).to(device, kind), basis.to(device, kind))
        return Folder(width=self.width, factors=pair)

    def strength(self, amount: float) -> ContextMap:
        """The map applied by a fraction: 0 changes nothing, 1 is the whole edit."""
        return ContextMap(A=self.A * amount, B=self.B)

    def then(self, later: ContextMap) -> ContextMap:
        """This map followed by another one, as a single map: ``M_later M_this``."""
        self._fits(later.width)
        # (I + A₂B₂ᵀ)(I + A₁B₁ᵀ) = I + (A₁ + A₂B₂ᵀA₁)B₁ᵀ + A₂B₂ᵀ
        moved = self.A + later.A @ (later.B.T @ self.A)
        return ContextMap(A=torch.cat([moved, later.A], 1), B=torch.cat([self.B, later.B], 1))

    def undo(self) -> ContextMap:
        """The inverse map, by the Woodbury identity on the small side.

        Raises:
            BadInput: when the map is a projection, which no map can take back; restore the
                stored weights instead (``unfold`` does that bit for bit).
        """
        small = torch.eye(self.rank, dtype=torch.float64) + self.B.T @ self.A
        sizes = torch.linalg.svdvals(small)
        if self.rank and float(sizes[-1]) <= 1e-12 * float(sizes[0]):
            raise BadInput(
                "This edit removes a direction completely, so no linear map brings it back. "
                "Unfold it from the weights instead."
            )
        return ContextMap(A=-torch.linalg.solve(small, self.A, left=False), B=self.B)

    def compressed(self, tolerance: float = 1e-12) -> ContextMap:
        """The same map with the fewest directions.

        Args:
            tolerance: singular values below this fraction of the largest are dropped.
        """
        if self.rank == 0:
            return self
        basis_a, core_a = torch.linalg.qr(self.A)
        basis_b, core_b = torch.linalg.qr(self.B)
        left, sizes, right = torch.linalg.svd(core_a @ core_b.T, full_matrices=False)
        kept = sizes > tolerance * sizes[0].clamp_min(torch.finfo(torch.float64).tiny)
        root = sizes[kept].sqrt()
        return ContextMap(A=basis_a @ (left[:, kept] * root), B=basis_b @ (right[kept].T * root))

    def rounded(self) -> ContextMap:
        """With factors that single precision holds, each pair of columns of one length."""
        size = (self.A.norm(dim=0) / self.B.norm(dim=0).clamp_min(1e-300)).sqrt().clamp_min(1e-150)
        return ContextMap(A=(self.A / size).float(), B=(self.B * size).float())

    def dense(self) -> Float[Tensor, "width width"]:
        """``M`` itself; 4.7 MB at width 768, 134 MB at width 4096."""
        return torch.eye(self.width, dtype=torch.float64) + self.A @ self.B.T

    def _fits(self, width: int) -> None:
        check_width(self.width, width)


@dataclass(frozen=True, kw_only=True, eq=False)
class Folder:
    """A context map made ready for folding.

    Args:
        width: length of one context row.
        factors: ``M``, or ``A`` and an orthonormal ``B``.
    """

    width: int
    factors: tuple[Tensor, ...]

    def __call__(
        self, weight: Float[Tensor, "out width"], out: Float[Tensor, "out width"] | None = None
    ) -> Float[Tensor, "out width"]:
        """``W M``, written into ``out`` when that is given."""
        check_width(self.width, weight.shape[-1])
        exact = weight.to(self.factors[0].dtype)
        direct = out if out is not None and out.dtype == exact.dtype else None
        if len(self.factors) == 1:
            folded = torch.mm(exact, self.factors[0], out=direct)
        else:
            folded = torch.addmm(exact, exact @ self.factors[0], self.factors[1].T, out=direct)
        if direct is not None or out is None:
            return folded.to(weight.dtype)
        return out.copy_(folded)


def _exact(device: torch.device) -> torch.dtype:
    """The widest number format of a device; Apple's has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def check_width(expected: int, width: int) -> None:
    """Refuse contexts or weights of another width.

    Raises:
        BadInput: naming both widths.
    """
    if width != expected:
        raise BadInput(
            f"This context map is for contexts of width {expected}; given width {width}. "
            "It was made for another text encoder."
        )
