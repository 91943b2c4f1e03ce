"""What must stay: the second moment of ordinary captions' contexts, measured once per encoder.

``moment = E[x xᵀ]`` over the rows of a caption corpus says how much each direction of the context
space is used by ordinary prompts. Solvers weigh a change by it, so that an edit prefers
directions nobody uses (MACE, arXiv 2403.06135, section 3.3 uses the same cache). It is a sum, so
it is collected in batches, merged and resumed; width 768 takes 4.7 MB whatever the corpus.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tadasu import files
from tadasu.editing.encoder import Encoder, same_encoder
from tadasu.editing.models import PRIORS
from tadasu.errors import BadFile, BadInput, shown

FORMAT = "tadasu-prior/1"


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """Sum of ``x xᵀ`` over context rows, and how many there were."""

    total: Float[Tensor, "width width"]
    rows: int

    @classmethod
    def empty(cls, width: int) -> Moment:
        """Nothing measured yet."""
        return cls(total=torch.zeros(width, width, dtype=torch.float64), rows=0)

    def add(self, contexts: Float[Tensor, "*batch width"]) -> Moment:
        """With more rows; the order of the batches does not matter.

        >>> import torch
        >>> Moment.empty(2).add(torch.tensor([[1.0, 2.0], [3.0, 0.0]])).mean.tolist()
        [[5.0, 1.0], [1.0, 2.0]]
        """
        flat = contexts.detach().reshape(-1, contexts.shape[-1]).to("cpu", torch.float64)
        return Moment(total=self.total + flat.T @ flat, rows=self.rows + flat.shape[0])

    def merge(self, other: Moment) -> Moment:
        """Two corpora measured apart, as if measured together."""
        return Moment(total=self.total + other.total, rows=self.rows + other.rows)

    @property
    def mean(self) -> Float[Tensor, "width width"]:
        """``E[x xᵀ]``."""
        if not self.rows:
            raise BadInput("This prior has seen no captions.")
        return self.total / self.rows

    @property
    def condition(self) -> float:
        """Largest use of a direction against the smallest; infinite where one is never used."""
        sizes = torch.linalg.eigvalsh(self.mean)
        return float(sizes[-1] / sizes[0]) if float(sizes[0]) > 0 else float("inf")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """Moments of one caption corpus at every site of one text encoder.

    Args:
        moments: per site.
        fingerprint: of the text encoder that was measured.
        captions: how many captions were read.
    """

    moments: Mapping[str, Moment]
    fingerprint: str
    captions: int

    @classmethod
    def measure(cls, encoder: Encoder, captions: Iterable[str], batch: int = 32) -> Prior:
        """Read captions once, ``batch`` at a time, and keep only their moments.

        Raises:
            BadInput: when there is no caption.
        """
        moments: dict[str, Moment] = {}
        count = 0
        texts = (text for text in captions if text.strip())
        while some := list(islice(texts, batch)):
            for site, encoded in encoder.encode(some).items():
                before = moments.get(site, Moment.empty(encoded.contexts.shape[-1]))
                moments[site] = before.add(encoded.contexts)
            count += len(some)
        if not count:
            raise BadInput("A prior needs captions; none were given.")
        return cls(moments=moments, fingerprint=encoder.fingerprint, captions=count)

    def check(self, fingerprint: str) -> None:
        """Refuse a prior of another text encoder.

        Raises:
            BadInput: naming both encoders.
        """
        if not same_encoder(self.fingerprint, fingerprint):
            raise BadInput(
                f"This prior was measured on text encoder {shown(self.fingerprint, 30)}, the model "
                f"has {shown(fingerprint, 30)}. Measure it again: tadasu edit prior CAPTIONS."
            )

    def save(self, path: str | Path) -> None:
        """Write one safetensors file (float32; symmetric matrices)."""
        tensors = {
            site: moment.mean.to(torch.float32).contiguous()
            for site, moment in self.moments.items()
        }
        rows = {f"rows.{site}": str(moment.rows) for site, moment in self.moments.items()}
        about = {"format": FORMAT, "encoder": self.fingerprint, "captions": str(self.captions)}
        files.save_tensors(path, tensors, about | rows)

    @classmethod
    def load(cls, path: str | Path) -> Prior:
        """Read a file that :meth:`save` wrote.

        Raises:
            BadFile: when it is missing, damaged or no prior.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                about: dict[str, str] = file.metadata() or {}
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise BadFile(f"Cannot read the prior {shown(path)}: {error}") from error
        if about.get("format") != FORMAT:
            raise BadFile(f"{shown(path)} is no prior; make one with: tadasu edit prior CAPTIONS.")
        moments = {}
        for site, mean in tensors.items():
            rows = int(about.get(f"rows.{site}", "0"))
            if mean.ndim != 2 or mean.shape[0] != mean.shape[1] or rows < 1:
                raise BadFile(f"{shown(path)} is damaged: site {shown(site)} is no moment matrix.")
            if not bool(torch.isfinite(mean).all()):
                raise BadFile(f"{shown(path)} is damaged: site {shown(site)} is not finite.")
            moments[site] = Moment(total=mean.to(torch.float64) * rows, rows=rows)
        return cls(moments=moments, fingerprint=about["encoder"], captions=int(about["captions"]))


def file_name(fingerprint: str) -> str:
    """What the prior of a text encoder is called where it shall be found.

    >>> file_name("sha256:0123456789abcdef0123")
    '0123456789abcdef.safetensors'
    """
    return f"{fingerprint.removeprefix('sha256:')[:16]}.safetensors"


def found_prior(fingerprint: str) -> Prior | None:
    """The prior that was measured for a text encoder, if one came with the package."""
    for folder in PRIORS:
        file = folder / file_name(fingerprint)
        if file.is_file():
            prior = Prior.load(file)
            prior.check(fingerprint)
            return prior
    return None
