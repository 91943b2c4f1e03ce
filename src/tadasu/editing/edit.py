"""An edit: context maps with where they came from, as one object and as one small file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tadasu.editing.context_map import ContextMap
from tadasu.editing.encoder import same_encoder
from tadasu.editing.gated_map import GatedMap
from tadasu.editing.layer_map import LayerMap
from tadasu.editing.models import Acting, model_of
from tadasu.errors import BadInput, shown

if TYPE_CHECKING:
    from tadasu.editing.check import Check
    from tadasu.editing.preview import Preview, See
    from tadasu.policy import Policy

Map = ContextMap | GatedMap | LayerMap
#: Largest interference of two edits that is let through.
LIMIT = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Edit:
    """A stored correction.

    Args:
        name: by which it is folded in and taken out again.
        maps: one map per site of the model.
        concepts: identifiers of what it changes.
        recipe: how it was made, enough to make it again: solver, parameters, targets, preserve
            list, prior.
        fingerprint: of the text encoders it was solved on.
        evidence: what the self-check measured.
    """

    name: str
    maps: Mapping[str, Map]
    concepts: tuple[str, ...]
    recipe: Mapping[str, Any]
    fingerprint: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse an edit of nothing."""
        if not self.maps:
            raise BadInput(f"Edit {shown(self.name)} has no maps.")

    def __repr__(self) -> str:
        """Short: what it changes, where, and how it was solved."""
        sites = ", ".join(self.maps)
        solver = self.recipe.get("solver", "unknown")
        return f"Edit({self.name!r}, {list(self.concepts)}, on {sites}, by {solver})"

    @property
    def conditional(self) -> bool:
        """Whether it acts only at run time, on prompts that contain its concepts."""
        return any(isinstance(edit, GatedMap) for edit in self.maps.values())

    def check(
        self, pipe: Any | None = None, held_out: Sequence[str] = (), *, force: bool = False
    ) -> dict[str, Check]:
        """The self-check per site: residuals, drift, condition, collateral. No picture is drawn.

        Args:
            pipe: measures again on this model; None gives what was measured when it was solved.
            held_out: more texts that should not change; needs ``pipe``.
            force: measure on another text encoder as well.
        """
        from tadasu.editing.check import Check
        from tadasu.editing.make import remeasure

        if pipe is not None:
            return remeasure(pipe, self, held_out, force=force)
        return {site: Check.from_json(found) for site, found in self.evidence.items()}

    def preview(
        self,
        pipe: Any,
        policy: Policy | None = None,
        *,
        prompts: Sequence[str] = (),
        seeds: Sequence[int] = (0,),
        steps: int | None = None,
        see: See | None = None,
        force: bool = False,
    ) -> Preview:
        """The same prompts and seeds with and without the edit; ``.save(path)`` writes one page.

        Args:
            pipe: the model, without the edit.
            policy: pictures of prompts that name one of its concepts are blurred, as those with an
                edited concept always are.
            prompts: what to draw; none draws the edited concepts and some of what is preserved.
            seeds: each gives one pair of pictures per prompt.
            steps: denoising steps; None is the pipeline's own.
            see: names what is in pictures; with it the page has a table with intervals.
            force: draw on another text encoder as well.
        """
        from tadasu.editing.preview import draw

        with self._on(pipe, force) as model:
            return draw(self, model, prompts, seeds=seeds, steps=steps, see=see, policy=policy)

    def save(self, path: str | Path) -> None:
        """Write the edit file; :func:`tadasu.editing.load` reads it."""
        from tadasu.editing import artefact

        artefact.save(self, path)

    def export(
        self, pipe: Any, path: str | Path, *, format: str = "diffusers", force: bool = False
    ) -> None:
        """Write a LoRA file for one model.

        Args:
            pipe: the model; its weights enter the factors.
            path: of the file.
            format: ``diffusers``, or ``kohya`` for ComfyUI and A1111.
            force: for another text encoder as well.

        Raises:
            BadInput: when the edit is no linear map, or the layout has no names for its layers.
        """
        maps = self.plain_maps()
        with self._on(pipe, force) as model:
            model.export(maps, Path(path), format)

    @contextmanager
    def applied(self, pipe: Any, *, force: bool = False) -> Iterator[Acting]:
        """The edit at run time: nothing is written, and nothing is left when the block ends.

        The model belongs to the thread or task that opened the block; others wait until it ends.

        Yields:
            Acting: its ``record`` says what acted in the latest call, per picture.

        Raises:
            BadInput: another text encoder, or the edit does not fit.
            RunFailed: another thread has the model and does not let go; or, when the pipeline is
                called, the edit did not act on every step.
        """
        with applied(pipe, self, force=force) as acting:
            yield acting

    def fold(self, pipe: Any, *, force: bool = False, limit: float = LIMIT) -> None:
        """Write the edit into the model.

        Raises:
            BadInput: before anything is written: another text encoder, a conditional edit, a name
                that is taken, or an edit that would redirect one that is folded in already.
        """
        if self.conditional:
            self.plain_maps()
        with self._on(pipe, force) as model:
            for name, maps in model.folded().items():
                _refuse_above(limit, name, maps, self.name, self.maps)
            model.fold(self.name, self.maps)

    def unfold(self, pipe: Any) -> None:
        """Take the edit out of the model; the weights are bit for bit as without it."""
        model_of(pipe).unfold(self.name)

    @contextmanager
    def _on(self, pipe: Any, force: bool) -> Iterator[Any]:
        model = model_of(pipe)
        if not force and not model.folded():
            self.check_encoder(model.encoder().fingerprint)
        yield model

    def plain_maps(self) -> dict[str, ContextMap]:
        """The maps as plain linear maps, for folding and export.

        Raises:
            BadInput: when the edit is conditional.
        """
        plain = {site: m for site, m in self.maps.items() if isinstance(m, ContextMap)}
        if len(plain) != len(self.maps):
            no = "folded into weights or written" if self.conditional else "written"
            raise BadInput(
                f"Edit {shown(self.name)} acts only where its concepts are present, so it cannot "
                f"be {no} as a LoRA. Attach it at run time, or solve it again with a linear solver "
                "such as uce."
            )
        return plain

    def check_encoder(self, fingerprint: str, *, force: bool = False) -> None:
        """Refuse another text encoder than the one the edit was solved on.

        The same encoder in another precision is the same, see `same_encoder`.

        Raises:
            BadInput: unless ``force`` is given.
        """
        if not force and not same_encoder(fingerprint, self.fingerprint):
            raise BadInput(
                f"Edit {shown(self.name)} was made for text encoder {shown(self.fingerprint, 20)}, "
                f"this model has {shown(fingerprint, 20)}, which differs by more than rounding. "
                "On another encoder it moves the wrong words. Solve it again, or use --force if "
                "the encoders are known to agree."
            )


@contextmanager
def applied(pipe: Any, *edits: Edit, force: bool = False, limit: float = LIMIT) -> Iterator[Acting]:
    """Several edits of one pipeline for as long as the block lasts, in the order given.

    Yields:
        Acting: its ``record`` says what all of them did in the latest call, per picture.

    Raises:
        BadInput: another text encoder, or two edits that would redirect each other.
    """
    model = model_of(pipe)
    for edit in edits:
        edit.check_encoder(model.encoder().fingerprint, force=force)
    check_stack(edits, limit)
    with model.applied(*(edit.maps for edit in edits)) as acting:
        yield acting


def maps_hash(maps: Mapping[str, Any]) -> str:
    """Content-addressed id of what an edit does, ``sha256:…``: its numbers, not its name."""
    content = hashlib.sha256()
    for site, part in sorted(maps.items()):
        content.update(f"{site}:{type(part).__name__}".encode())
        for name, value in sorted(vars(part).items()):
            is_tensor = isinstance(value, torch.Tensor)
            told = f"{value.dtype}{tuple(value.shape)}" if is_tensor else repr(value)
            content.update(f"|{name}:{told}".encode())
            if is_tensor:
                content.update(value.detach().cpu().contiguous().numpy().tobytes())
    return "sha256:" + content.hexdigest()


def interference(edits: Sequence[Edit]) -> dict[tuple[str, str], float]:
    """How much each pair of edits depends on the order in which they act.

    Per pair, the length of ``Δ₁Δ₂ - Δ₂Δ₁`` against ``‖Δ₁‖ ‖Δ₂‖``, the largest over the sites both
    edit with a linear map: 0 when the edits do not feel each other, about 1 when one undoes or
    redirects the other. Maps with gates are left out: they act on different prompts.
    """
    return {
        (one.name, other.name): _interference(one.maps, other.maps)
        for i, one in enumerate(edits)
        for other in edits[i + 1 :]
    }


def check_stack(edits: Sequence[Edit], limit: float = LIMIT) -> None:
    """Refuse a stack of edits that would redirect each other.

    Args:
        edits: in the order in which they act.
        limit: largest interference that is let through.

    Raises:
        BadInput: naming the pair, before anything is written.
    """
    for i, one in enumerate(edits):
        for other in edits[i + 1 :]:
            _refuse_above(limit, one.name, one.maps, other.name, other.maps)


def _refuse_above(
    limit: float, first: str, one: Mapping[str, Map], second: str, other: Mapping[str, Map]
) -> None:
    value = _interference(one, other)
    if value > limit:
        raise BadInput(
            f"Edits {shown(first)} and {shown(second)} interfere ({value:.2f}, limit "
            f"{limit:.2f}): together they do not do what each does alone. "
            "Solve their targets together as one edit."
        )


def _interference(one: Mapping[str, Map], other: Mapping[str, Map]) -> float:
    found = [0.0]
    for site in sorted(one.keys() & other.keys()):
        ours, theirs = one[site], other[site]
        if isinstance(ours, ContextMap) and isinstance(theirs, ContextMap):
            found.append(_commutator(ours, theirs))
    return max(found)


def _commutator(one: ContextMap, other: ContextMap) -> float:
    size, other_size = _size(one), _size(other)
    if size == 0 or other_size == 0:
        return 0.0
    both, back = one.then(other), other.then(one)
    difference = ContextMap(A=torch.cat([both.A, -back.A], 1), B=torch.cat([both.B, back.B], 1))
    return _size(difference) / (size * other_size)


def _size(edit: ContextMap) -> float:
    """Frobenius norm of ``A Bᵀ`` without forming it."""
    squares = ((edit.A.T @ edit.A) * (edit.B.T @ edit.B)).sum()
    return float(squares.clamp_min(0).sqrt())
