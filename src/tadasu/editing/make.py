"""Edits of a pipeline in one call each: erase, replace, moderate, debias."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tadasu.editing import targets as wanted
from tadasu.editing.check import Check, check, unsolved
from tadasu.editing.choice import Choice, Setting, choose, tokens_for
from tadasu.editing.context_map import ContextMap
from tadasu.editing.edit import Edit, Map
from tadasu.editing.encoder import Encoder, Remembered
from tadasu.editing.models import Model, model_of
from tadasu.editing.prior import Prior, found_prior
from tadasu.editing.problem import Kept, Problem, Reading, assemble
from tadasu.editing.registry import parse
from tadasu.editing.targets import Named, Target
from tadasu.editing.tokens import Mode

AUTO = "auto"
#: About how many concepts are measured while an edit is made; ``remeasure`` measures all.
MEASURED = 8
#: Directions of a linear map below this fraction of the largest are not stored.
NEEDED = 1e-2
#: A measured prior, or texts that must stay.
Preserve = Prior | Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How an edit is made.

    Args:
        name: of the edit.
        solver: ``auto`` (see :mod:`tadasu.editing.choice`), ``uce``, ``uce:v1``, ``rece``,
            ``layer``, ``conditional``, … or a solver object.
        preserve: texts that must stay.
        captions: ordinary prompts, for the presence gate and the drift of the self-check.
        prior: measured second moments; None takes the one that was measured for this text encoder,
            where one is known (:func:`tadasu.editing.prior.found_prior`).
        reading: token modes and templates; None is the solver's own, with the rows of ``kind``.
        kind: of the concepts: ``object``, ``person``, ``style`` or ``idea``; decides which rows are
            edited where neither ``reading`` nor ``tokens`` does.
        tokens: rows of a changed concept; None is what the kind says.
        templates: sentences each name is put into; empty is the solver's own.
        run_time: the edit will be attached to pipelines, not written into a file.
        sequence_length: T5 rows for SD3 and Flux.
    """

    name: str = "edit"
    solver: Any = "auto"
    preserve: Sequence[str] = ()
    captions: Sequence[str] = ()
    prior: Prior | None = None
    reading: Reading | None = None
    kind: str = "object"
    tokens: Mode | None = None
    templates: tuple[str, ...] = ()
    run_time: bool = False
    sequence_length: int | None = None

    def kept(self, preserve: Preserve) -> Options:
        """With one more prior or list of texts that must stay."""
        if isinstance(preserve, Prior):
            return dataclasses.replace(self, prior=preserve)
        return dataclasses.replace(self, preserve=(*self.preserve, *preserve))

    def check(self) -> None:
        """Refuse a solver, a kind or templates that do not exist, before a model is loaded.

        Raises:
            UnknownName: no such solver, preset, parameter or kind.
            BadInput: a template without a place for the name.
        """
        tokens_for(self.kind)
        if not self.automatic:
            _ = self.read
        elif self.templates:
            Reading(templates=self.templates)

    @property
    def automatic(self) -> bool:
        """Whether the solver is chosen for the edit."""
        return bool(self.solver == AUTO)

    @property
    def method(self) -> Any:
        """The solver object; an automatic one has to be chosen first."""
        return parse(self.solver) if isinstance(self.solver, str) else self.solver

    @property
    def read(self) -> Reading:
        """How texts are read."""
        found: Reading = self.reading or self.method.reading
        if self.tokens:
            found = dataclasses.replace(found, tokens=self.tokens)
        if self.templates:
            found = dataclasses.replace(found, templates=self.templates)
        return found


def erase(
    pipe: Any,
    concepts: Iterable[str | Named],
    *,
    anchor: str | None = "",
    preserve: Preserve = (),
    options: Options | None = None,
) -> Edit:
    """Make each concept mean the anchor, by default nothing.

    Args:
        pipe: any pipeline that can be edited; it is left as it is.
        concepts: words, or concepts with all their names in all their languages.
        anchor: text whose meaning takes their place; None is the mean of the preserved texts.
        preserve: what must stay: a measured prior, or texts.
        options: everything else.

    Raises:
        BadInput: as :func:`solve`.
    """
    return solve(pipe, wanted.erase(concepts, anchor), (options or Options()).kept(preserve))


def replace(
    pipe: Any,
    pairs: Mapping[str, str],
    *,
    preserve: Preserve = (),
    options: Options | None = None,
) -> Edit:
    """Make each key mean its value; otherwise as :func:`erase`."""
    return solve(pipe, wanted.replace(pairs), (options or Options()).kept(preserve))


def moderate(
    pipe: Any,
    concepts: Iterable[Named],
    hazard: str,
    *,
    preserve: Preserve = (),
    options: Options | None = None,
) -> Edit:
    """Make every concept of one hazard mean nothing; otherwise as :func:`erase`."""
    return solve(pipe, wanted.moderate(concepts, hazard), (options or Options()).kept(preserve))


def debias(
    pipe: Any,
    amounts: Mapping[str, Mapping[str, float]],
    *,
    preserve: Preserve = (),
    options: Options | None = None,
) -> Edit:
    """Give each concept some of each attribute; otherwise as :func:`erase`.

    How much it needs is found by :class:`tadasu.editing.balance.Loop`.
    """
    return solve(pipe, wanted.debias(amounts), (options or Options()).kept(preserve))


def solve(pipe: Any, targets: Sequence[Target], options: Options | None = None) -> Edit:
    """Solve an edit on a pipeline's own text encoders and projections.

    Raises:
        BadInput: when targets contradict each other or the preserve list, when the prior is of
            another encoder, or when the system is singular; nothing is changed on the pipeline.
    """
    model, given = model_of(pipe), options or Options()
    choice = chosen(model, targets, given) if given.automatic else None
    options = _settled(given, choice)
    solver = options.method
    encoder: Encoder = Remembered(
        model.encoder(sequence_length=options.sequence_length, hidden=options.read.hidden)
    )
    if options.prior is None and not options.read.hidden:
        options = dataclasses.replace(options, prior=found_prior(encoder.fingerprint))
    if not options.templates and options.reading is None and any(t.attributes for t in targets):
        options = dataclasses.replace(options, templates=solver.reading.templates[:1])
    held_out = (*options.preserve, *options.captions)
    # On SDXL the projections' second moment is as much work as a fold: only who reads it waits.
    grams = model.grams() if held_out or getattr(solver, "reads_projections", False) else {}
    problems = pose(encoder, grams, targets, options)
    maps = {site: lean(solver.solve(problem)) for site, problem in problems.items()}
    some = targets[:: max(1, len(targets) // MEASURED)]
    checks = measure(encoder, maps, reworded(encoder, grams, some, options), held_out)
    return Edit(
        name=options.name,
        maps=maps,
        concepts=tuple(target.concept for target in targets),
        recipe=recipe(solver, targets, options)
        | {"choice": None if choice is None else choice.as_json()},
        fingerprint=encoder.fingerprint,
        evidence={site: result.as_json() for site, result in checks.items()},
    )


def chosen(model: Model, targets: Sequence[Target], options: Options) -> Choice:
    """The solver that ``auto`` stands for on this model."""
    return choose(
        Setting(
            names=len({text for target in targets for text in target.texts}),
            width=model.width(),
            run_time=options.run_time,
            kept=bool(options.preserve or options.captions),
            layered=model.layered(),
        )
    )


def _settled(options: Options, choice: Choice | None) -> Options:
    """With a solver, and with the rows that stand for concepts of this kind."""
    tokens = tokens_for(options.kind)
    if choice is None:
        return options
    if options.reading is None:
        options = dataclasses.replace(options, tokens=options.tokens or tokens)
    return dataclasses.replace(options, solver=choice.solver)


def pose(
    encoder: Encoder,
    grams: Mapping[str, Any],
    targets: Sequence[Target],
    options: Options,
) -> dict[str, Problem]:
    """The problem of every site."""
    return assemble(
        encoder,
        targets,
        reading=options.read,
        kept=Kept(
            texts=tuple(options.preserve), captions=tuple(options.captions), prior=options.prior
        ),
        grams=grams,
        first=None if options.automatic else getattr(options.method, "first_reading", None),
    )


def reworded(
    encoder: Encoder, grams: Mapping[str, Any], targets: Sequence[Target], options: Options
) -> dict[str, Problem]:
    """The targets in sentences that an edit was not solved for, for its self-check."""
    read = options.read
    reading = dataclasses.replace(read, templates=unsolved(read.templates), open_anchor=False)
    if all(target.anchor is not None for target in targets):
        options = dataclasses.replace(options, preserve=())
    options = dataclasses.replace(options, reading=reading, tokens=None, templates=(), captions=())
    return pose(encoder, grams, targets, options)


def lean(edit: Map) -> Map:
    """A linear map with the directions that it needs, rounded as the file stores them."""
    return edit.compressed(NEEDED).rounded() if isinstance(edit, ContextMap) else edit


def measure(
    encoder: Encoder,
    maps: Mapping[str, Any],
    problems: Mapping[str, Problem],
    held_out: Sequence[str],
) -> dict[str, Check]:
    """The self-check of every site.

    Args:
        encoder: the model's texts.
        maps: what is measured.
        problems: what residuals are measured on, see :func:`reworded`.
        held_out: texts that should not change.
    """
    texts = list(dict.fromkeys(held_out))
    found = encoder.encode(texts) if texts else {}
    rows = {
        site: dict(zip(texts, found[site].contexts, strict=True)) if texts else {} for site in maps
    }
    return {site: check(maps[site], problems[site], rows[site]) for site in maps}


def remeasure(
    pipe: Any, edit: Edit, held_out: Sequence[str] = (), *, force: bool = False
) -> dict[str, Check]:
    """The self-check of an edit again, on a model and with other held-out texts.

    Raises:
        BadInput: when the model has another text encoder, unless ``force`` is given.
    """
    encoder, problems = from_recipe(pipe, edit, force=force)
    return measure(encoder, edit.maps, problems, (*edit.recipe["preserve"], *held_out))


def recipe(solver: Any, targets: Sequence[Target], options: Options) -> dict[str, Any]:
    """Enough to make the edit again, as JSON."""
    prior = options.prior
    return {
        "solver": type(solver).__name__,
        "parameters": dataclasses.asdict(solver),
        "reading": dataclasses.asdict(options.read),
        "targets": [dataclasses.asdict(target) for target in targets],
        "preserve": list(options.preserve),
        "captions": len(options.captions),
        "prior": None if prior is None else {"captions": prior.captions},
        "sequence_length": options.sequence_length,
    }


def from_recipe(
    pipe: Any, edit: Edit, *, force: bool = False
) -> tuple[Encoder, dict[str, Problem]]:
    """The targets of an edit in sentences that it was not solved for, posed on a model.

    Raises:
        BadInput: when the model has another text encoder, unless ``force`` is given.
    """
    made, model = edit.recipe, model_of(pipe)
    read = made["reading"]
    lists = ("templates", "common", "preserve_templates")
    listed = {name: tuple(read[name]) for name in lists if name in read}
    reading = Reading(**{**read, **listed})
    encoder = model.encoder(sequence_length=made["sequence_length"], hidden=reading.hidden)
    edit.check_encoder(encoder.fingerprint, force=force)
    options = Options(preserve=tuple(made["preserve"]), reading=reading)
    targets = [Target(**{**given, "texts": tuple(given["texts"])}) for given in made["targets"]]
    return encoder, reworded(encoder, model.grams(), targets, options)
