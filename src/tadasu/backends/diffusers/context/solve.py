"""Edits of a pipeline in one call each: erase, replace, moderate, debias."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tadasu.backends.diffusers.context.ports import gram, ports
from tadasu.backends.diffusers.context.text import PipelineEncoder
from tadasu.editing import targets as wanted
from tadasu.editing.check import Check, check
from tadasu.editing.edit import Edit
from tadasu.editing.encoder import Encoder
from tadasu.editing.prior import Prior
from tadasu.editing.problem import Kept, Problem, Reading, assemble
from tadasu.editing.registry import parse
from tadasu.editing.targets import Named, Target


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How an edit is made; the defaults are sound for a handful of named things.

    Args:
        name: of the edit.
        solver: ``uce``, ``uce:v1``, ``rece``, ``conditional``, … or a solver object.
        preserve: texts that must stay.
        captions: ordinary prompts, for the presence gate and the drift of the self-check.
        prior: measured second moments.
        reading: token modes and templates; None is the solver's own.
        sequence_length: T5 rows for SD3 and Flux.
    """

    name: str = "edit"
    solver: Any = "uce"
    preserve: Sequence[str] = ()
    captions: Sequence[str] = ()
    prior: Prior | None = None
    reading: Reading | None = None
    sequence_length: int | None = None


def erase(
    pipe: Any,
    concepts: Iterable[str | Named],
    *,
    anchor: str | None = "",
    options: Options | None = None,
) -> Edit:
    """Make each concept mean the anchor, by default nothing."""
    return solve(pipe, wanted.erase(concepts, anchor), options)


def replace(pipe: Any, pairs: Mapping[str, str], *, options: Options | None = None) -> Edit:
    """Make each key mean its value."""
    return solve(pipe, wanted.replace(pairs), options)


def moderate(
    pipe: Any, concepts: Iterable[Named], hazard: str, *, options: Options | None = None
) -> Edit:
    """Make every concept of one hazard mean nothing."""
    return solve(pipe, wanted.moderate(concepts, hazard), options)


def debias(
    pipe: Any, amounts: Mapping[str, Mapping[str, float]], *, options: Options | None = None
) -> Edit:
    """Give each concept some of each attribute; the loop that finds the amounts is ``debias``."""
    return solve(pipe, wanted.debias(amounts), options)


def solve(pipe: Any, targets: Sequence[Target], options: Options | None = None) -> Edit:
    """Solve an edit on a pipeline's own text encoders and projections.

    Raises:
        BadInput: when targets contradict each other or the preserve list, when the prior is of
            another encoder, or when the system is singular; nothing is changed on the pipeline.
    """
    options = options or Options()
    solver = parse(options.solver) if isinstance(options.solver, str) else options.solver
    encoder = PipelineEncoder(pipe, sequence_length=options.sequence_length)
    problems = pose(pipe, targets, options, encoder=encoder)
    maps = {site: solver.solve(problem) for site, problem in problems.items()}
    checks = measure(encoder, maps, problems, (*options.preserve, *options.captions))
    return Edit(
        name=options.name,
        maps=maps,
        concepts=tuple(target.concept for target in targets),
        recipe=recipe(solver, targets, options),
        fingerprint=encoder.fingerprint,
        evidence={site: result.as_json() for site, result in checks.items()},
    )


def pose(
    pipe: Any, targets: Sequence[Target], options: Options, *, encoder: Encoder
) -> dict[str, Problem]:
    """The problem of every site, with the projections' ``WᵀW``."""
    solver = parse(options.solver) if isinstance(options.solver, str) else options.solver
    return assemble(
        encoder,
        targets,
        reading=options.reading or solver.reading,
        kept=Kept(
            texts=tuple(options.preserve), captions=tuple(options.captions), prior=options.prior
        ),
        grams={site: gram(some) for site, some in ports(pipe).items()},
    )


def measure(
    encoder: Encoder,
    maps: Mapping[str, Any],
    problems: Mapping[str, Problem],
    held_out: Sequence[str],
) -> dict[str, Check]:
    """The self-check of every site; ``held_out`` are texts that should not change."""
    texts = list(dict.fromkeys(held_out))
    found = encoder.encode(texts) if texts else {}
    rows = {
        site: dict(zip(texts, found[site].contexts, strict=True)) if texts else {} for site in maps
    }
    return {site: check(maps[site], problems[site], rows[site]) for site in maps}


def recipe(solver: Any, targets: Sequence[Target], options: Options) -> dict[str, Any]:
    """Enough to make the edit again, as JSON."""
    prior = options.prior
    return {
        "solver": type(solver).__name__,
        "parameters": dataclasses.asdict(solver),
        "reading": dataclasses.asdict(options.reading or solver.reading),
        "targets": [dataclasses.asdict(target) for target in targets],
        "preserve": list(options.preserve),
        "captions": len(options.captions),
        "prior": None if prior is None else {"captions": prior.captions},
        "sequence_length": options.sequence_length,
    }


def from_recipe(
    pipe: Any, edit: Edit, *, force: bool = False
) -> tuple[Encoder, dict[str, Problem]]:
    """The problems that an edit was solved for, posed again on a model.

    Raises:
        BadInput: when the model has another text encoder, unless ``force`` is given.
    """
    made = edit.recipe
    encoder = PipelineEncoder(pipe, sequence_length=made["sequence_length"])
    edit.check_encoder(encoder.fingerprint, force=force)
    reading = dict(made["reading"])
    options = Options(
        preserve=tuple(made["preserve"]),
        reading=Reading(**{**reading, "templates": tuple(reading["templates"])}),
    )
    targets = [Target(**{**given, "texts": tuple(given["texts"])}) for given in made["targets"]]
    return encoder, pose(pipe, targets, options, encoder=encoder)
