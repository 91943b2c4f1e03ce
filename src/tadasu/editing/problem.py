"""An edit in numbers: the rows that move, where they go, and what must stay.

:func:`assemble` turns targets into one :class:`Problem` per site of the model. Every solver reads
a problem and returns a context map; none of them sees a text or a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tadasu.editing.encoder import Encoded, Encoder
from tadasu.editing.prior import Moment, Prior
from tadasu.editing.targets import Target, check_conflicts, plain
from tadasu.editing.tokens import Empty, Mode, Span
from tadasu.errors import BadInput, shown

PLAIN = ("{}",)
#: A bare name leads into no sentence: solved for it alone, "a pistol" still was one.
SENTENCES = ("{}", "a {}", "a picture of a {}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Rows of one site, float64.

    Args:
        sources: rows that are to move.
        targets: where each of them shall go.
        owners: which concept each row belongs to, an index into ``concepts``.
        concepts: identifiers, in the order of the targets.
        weights: how much each row counts.
        preserved: rows that must stay, softly.
        preserved_texts: how many texts ``preserved`` came from.
        empty: every row of the empty prompt, its start token first; the hard constraints.
        prior: second moment of ordinary contexts, or None.
        gram: sum of ``WᵀW`` over the edited projections, or None; only RECE and SPEED use it.
        words: last-word row of every source sentence; the presence gate's filters.
        seen: whole contexts of the source sentences; the gate's positives.
        seen_names: which name each sentence is of, an index into ``name_owners``.
        name_owners: which concept each name belongs to.
        others: whole contexts of the empty prompt, preserved texts and captions; the gate's
            negatives.
        source_names: which name each row is of, an index into ``name_owners``.
        source_offsets: how far each row is behind the name's last word; 0 is that word, below 0
            are the name's words before it.
        anchored: whether every row goes all the way to a text, instead of a fraction of a way.
        first: the same targets read another way, for a solver whose first step reads them so.
    """

    sources: Float[Tensor, "edits width"]
    targets: Float[Tensor, "edits width"]
    owners: Int[Tensor, " edits"]
    concepts: tuple[str, ...]
    weights: Float[Tensor, " edits"]
    preserved: Float[Tensor, "kept width"]
    preserved_texts: int
    empty: Float[Tensor, "rows width"]
    words: Float[Tensor, "sentences width"]
    seen: Float[Tensor, "sentences tokens width"]
    seen_names: Int[Tensor, " sentences"]
    name_owners: Int[Tensor, " names"]
    others: Float[Tensor, "negatives tokens width"]
    source_names: Int[Tensor, " edits"]
    source_offsets: Int[Tensor, " edits"]
    prior: Moment | None = None
    gram: Float[Tensor, "width width"] | None = None
    anchored: bool = True
    first: Problem | None = None

    @property
    def width(self) -> int:
        """Length of one context row."""
        return self.sources.shape[1]

    @property
    def moves(self) -> Float[Tensor, "edits width"]:
        """How far each row has to go."""
        return self.targets - self.sources


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How texts become rows.

    Args:
        tokens: rows of a changed concept.
        preserve_tokens: rows of a preserved text.
        empty: what the last word of the empty prompt is (see :mod:`tadasu.editing.tokens`).
        templates: sentences each name is put into, ``{}`` marks the place.
        hidden: rows of the text encoder's last layer before they are normalised, for solvers that
            write into the encoder instead of the denoiser.
        inner: also the words of a name before its last one ("face with symbols on mouth"), for
            solvers that can leave alone what stands in other texts as well.
        common: texts over which the direction of every attribute form is averaged, for example all
            professions that are balanced together; empty for each concept's own direction. What
            they share takes one direction of the map instead of one for each concept, and a form
            that does little in one concept's sentence acts there as in the others.
        preserve_templates: sentences that preserved texts are put into; empty is ``templates``.
        open_anchor: an empty anchor leaves its sentence open ("image of"), as the published code
            does; otherwise it is the empty prompt in every template.
        lengths: what a plain attribute's amount is a fraction of: each ``row``'s own length, or the
            length of all the text's ``outputs`` together (the 2023 debias code).
    """

    tokens: Mode = "last+tail"
    preserve_tokens: Mode = "last+tail"
    empty: Empty = "eot"
    templates: tuple[str, ...] = PLAIN
    hidden: bool = False
    inner: bool = False
    common: tuple[str, ...] = ()
    preserve_templates: tuple[str, ...] = ()
    open_anchor: bool = False
    lengths: Literal["row", "outputs"] = "row"

    def __post_init__(self) -> None:
        """Refuse templates without a place for the name."""
        every = (*self.templates, *self.preserve_templates)
        if not self.templates or any("{}" not in template for template in every):
            raise BadInput("Every template needs {} where the concept's name goes.")

    @property
    def kept_templates(self) -> tuple[str, ...]:
        """Sentences that preserved texts are put into."""
        return self.preserve_templates or self.templates


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What must stay.

    Args:
        texts: preserve list; read through the templates of preserved texts.
        captions: ordinary prompts that the run-time gate must stay shut for; those that
            contain a changed name are left out.
        prior: measured second moments.
    """

    texts: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    prior: Prior | None = None


def assemble(
    encoder: Encoder,
    targets: Sequence[Target],
    *,
    reading: Reading | None = None,
    kept: Kept | None = None,
    grams: Mapping[str, Float[Tensor, "_width _width"]] | None = None,
    first: Reading | None = None,
) -> dict[str, Problem]:
    """Encode every text once and lay out one problem per site.

    Args:
        encoder: the model's texts.
        targets: what is to change.
        reading: token modes and templates.
        kept: what must stay.
        grams: per site, the sum of ``WᵀW`` over the edited projections.
        first: a second reading of the same texts, see :attr:`Problem.first`.

    Raises:
        BadInput: when targets and preserve list contradict each other, when a target's anchor is
            the mean of the preserved texts and none are given, or when the prior is of another
            text encoder.
    """
    reading, kept = reading or Reading(), kept or Kept()
    check_conflicts(targets, kept.texts)
    if kept.prior is not None:
        kept.prior.check(encoder.fingerprint)
    if not kept.texts and any(t.anchor is None and not t.attributes for t in targets):
        raise BadInput("Anchor 'mean' needs a preserve list: it is the mean of what is kept.")
    readings = [reading] if first is None else [reading, first]
    wanted = dict.fromkeys(text for some in readings for text in _all_texts(targets, some, kept))
    index = {text: row for row, text in enumerate(wanted)}
    problems = {}
    for site, encoded in encoder.encode(list(wanted)).items():
        prior = kept.prior.moments.get(site) if kept.prior else None
        gram = (grams or {}).get(site)
        found, *begun = [
            _Layout(encoded, index, some, kept, gram).problem(targets, prior=prior)
            for some in readings
        ]
        problems[site] = replace(found, first=begun[0]) if begun else found
    return problems


def filled(template: str, text: str) -> str:
    """A name in its sentence; the empty prompt stays empty.

    >>> filled("a photo of {}", "cat"), filled("a photo of {}", "")
    ('a photo of cat', '')
    """
    return template.replace("{}", text) if text else ""


def head(template: str) -> str:
    """A template up to the name, which is how long the name's own rows reach.

    >>> head("a {} next to a cat")
    'a {}'
    """
    return template.partition("{}")[0] + "{}"


def _all_texts(targets: Sequence[Target], reading: Reading, kept: Kept) -> list[str]:
    names = [text for target in targets for text in (*target.texts, target.anchor or "")]
    forms = [(form, t) for target in targets for form in target.attributes for t in target.texts]
    names += [form.replace("{}", text) for form, text in forms]
    formed = {form for target in targets for form in target.attributes if "{}" in form}
    if formed:
        names += [t for text in reading.common for t in (text, *_in_forms(text, sorted(formed)))]
    sentences = [form for t in reading.templates for form in (t, head(t))]
    still = [form for t in reading.kept_templates for form in (t, head(t))]
    if any(target.anchor is None for target in targets):
        still += sentences  # the mean of what is kept stands in the targets' own sentences
    ahead = reading.inner or reading.open_anchor
    before = [before_name(t) for t in reading.templates] if ahead else []
    return [
        "",
        *before,
        *(filled(form, name) for form in sentences for name in names),
        *(filled(form, text) for form in still for text in kept.texts),
        *kept.captions,
    ]


def _in_forms(text: str, forms: Sequence[str]) -> list[str]:
    return [form.replace("{}", text) for form in forms]


def before_name(template: str) -> str:
    """What stands before the name.

    >>> before_name("a picture of a {} on white")
    'a picture of a'
    """
    return template.partition("{}")[0].strip()


class _Layout:
    """Rows of one site, looked up by text."""

    def __init__(
        self,
        encoded: Encoded,
        index: Mapping[str, int],
        reading: Reading,
        kept: Kept,
        gram: Tensor | None,
    ) -> None:
        self.encoded, self.index, self.reading, self.kept = encoded, index, reading, kept
        self.gram = gram
        self.means: dict[str, Tensor] = {}
        self.shared: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}

    def problem(self, targets: Sequence[Target], *, prior: Moment | None) -> Problem:
        names = [
            (n, text)
            for n, target in enumerate(targets)
            for text in target.texts
            if self._readable(self.reading.templates[0], text)
        ]
        lost = [target.concept for n, target in enumerate(targets) if n not in dict(names)]
        if lost:
            raise BadInput(
                f"This model's tokenizer cannot read any name of {', '.join(map(shown, lost))}; "
                "give a name in a language that it was trained on."
            )
        sentences = [(k, t) for k in range(len(names)) for t in self.reading.templates]
        moved = [self._part(targets[names[k][0]], names[k][1], t) for k, t in sentences]
        owner = torch.tensor([names[k][0] for k, _ in sentences])
        lengths = torch.tensor([here.shape[0] for here, _, _ in moved])
        owners = owner.repeat_interleave(lengths)
        if 0 in lengths:
            raise BadInput("This model's tokenizer cannot read an anchor; give another one.")
        places = [self._place(t, names[k][1]) for k, t in sentences]
        weight = torch.tensor([target.weight for target in targets], dtype=torch.float64)
        width = self.encoded.contexts.shape[-1]
        into = self.reading.kept_templates
        known = [text for text in self.kept.texts if self._readable(into[0], text)]
        kept = [(t, text) for t in into for text in known]
        preserved = [self._rows(t, text, self.reading.preserve_tokens) for t, text in kept]
        spoken = {plain(text) for _, text in names}
        harmless = [c for c in self.kept.captions if not any(s in plain(c) for s in spoken)]
        others = ["", *(filled(t, text) for t, text in kept), *harmless]
        return Problem(
            sources=torch.cat([here for here, _, _ in moved]),
            targets=torch.cat([there for _, there, _ in moved]),
            owners=owners,
            concepts=tuple(target.concept for target in targets),
            weights=weight[owners],
            preserved=torch.cat([torch.zeros(0, width, dtype=torch.float64), *preserved]),
            preserved_texts=len(preserved),
            empty=self.encoded.contexts[self.index[""]].to(torch.float64),
            prior=prior,
            gram=self.gram,
            anchored=all(not t.attributes and t.strength == 1 for t in targets),
            words=torch.stack([self.encoded.rows(*place, "last")[0] for place in places]),
            seen=self.encoded.contexts[[text for text, _ in places]],
            seen_names=torch.tensor([k for k, _ in sentences]),
            name_owners=torch.tensor([owner for owner, _ in names]),
            others=self.encoded.contexts[[self.index[text] for text in others]],
            source_names=torch.tensor([k for k, _ in sentences]).repeat_interleave(lengths),
            source_offsets=torch.cat([offsets for _, _, offsets in moved]),
        )

    def _readable(self, template: str, text: str) -> bool:
        sentence = filled(template, text)
        return any(where.readable for where in self.encoded.spans[self.index[sentence]])

    def _place(self, template: str, text: str) -> tuple[int, tuple[Span, ...]]:
        """The sentence and where the name ends in it, which need not be where it ends."""
        sentence = self.index[filled(template, text)]
        whole = self.encoded.spans[sentence]
        part = self.encoded.spans[self.index[filled(head(template), text)]]
        where = [replace(w, last=p.last) for w, p in zip(whole, part, strict=True)]
        return sentence, tuple(where)

    def _rows(self, template: str, text: str, tokens: Mode) -> Tensor:
        return self.encoded.rows(*self._place(template, text), tokens, empty=self.reading.empty)

    def _pairs(self, template: str, text: str, other: str) -> tuple[Tensor, Tensor]:
        source, target = self._place(template, text), self._place(template, other)
        if not other and self.reading.open_anchor:
            ahead = self.index[before_name(template)]
            target = ahead, self.encoded.spans[ahead]
        return self.encoded.pairs(source, target, self.reading.tokens, empty=self.reading.empty)

    def _in_form(self, text: str, form: str, template: str) -> Tensor:
        """Rows of a text in another form, such as ``woman {}``, one for each row of the text."""
        here, along = self._pairs(template, text, form.replace("{}", text))
        if not form.endswith("{}"):
            along[0] = here[0]  # a causal encoder has not read the words after the name there
        rest = self._rows(template, text, self.reading.tokens)[along.shape[0] :]
        return torch.cat([along, rest])

    def _direction(self, text: str, form: str, template: str) -> Tensor:
        """From each row of a text to the same row of the text in a form, or what texts share."""
        if not self.reading.common:
            return self._in_form(text, form, template) - self._rows(
                template, text, self.reading.tokens
            )
        rows = self._rows(template, text, self.reading.tokens).shape[0]
        word, tail = self._shared(form, template)
        return torch.cat([word, tail.expand(rows - 1, -1)])

    def _shared(self, form: str, template: str) -> tuple[Tensor, Tensor]:
        """Mean direction of the last word's row, and of the rows after it."""
        key = (form, template)
        if key not in self.shared:
            found = [
                self._in_form(t, form, template) - self._rows(template, t, self.reading.tokens)
                for t in self.reading.common
                if self._readable(self.reading.templates[0], t)
            ]
            word = torch.stack([rows[:1] for rows in found]).mean(0)
            after = [rows[1:].mean(0, keepdim=True) for rows in found if len(rows) > 1]
            self.shared[key] = (word, torch.stack(after).mean(0) if after else word)
        return self.shared[key]

    def _part(self, target: Target, text: str, template: str) -> tuple[Tensor, Tensor, Tensor]:
        """Rows, where they go, and how far each is behind the name's last word."""
        here, there = self._moved(target, text, template)
        offsets = torch.arange(here.shape[0])
        if self.reading.inner and not target.attributes and len(here):
            inner, before = self._inner(text, template)
            here, there = torch.cat([here, inner]), torch.cat([there, there[:1].expand_as(inner)])
            offsets = torch.cat([offsets, before])
        return here, here + target.strength * (there - here), offsets

    def _inner(self, text: str, template: str) -> tuple[Tensor, Tensor]:
        """Rows of the name's words before its last one, and how far before it they are."""
        sentence, (where, *_) = self._place(template, text)
        ahead = before_name(template)
        (prefix, *_) = self.encoded.spans[self.index[ahead]]
        first = prefix.last + 1 if ahead else where.first
        rows = torch.arange(first, max(where.last, first))
        found = self.encoded.contexts[sentence, where.start + rows]
        return found.to(torch.float64), rows - where.last

    def _moved(self, target: Target, text: str, template: str) -> tuple[Tensor, Tensor]:
        if target.attributes:
            return self._shifted(target, text, template)
        if target.anchor is None:
            return self._towards_kept(text, template)
        if not target.anchor and head(template) != template:
            raise BadInput(
                f"Template {shown(template)} goes on after the name, so the empty anchor has no "
                "sentence to stand in. Give an anchor with words, or the mean of what is kept."
            )
        return self._pairs(template, text, target.anchor)

    def _towards_kept(self, text: str, template: str) -> tuple[Tensor, Tensor]:
        tokens = self.reading.tokens
        if template not in self.means:
            known = [text for text in self.kept.texts if self._readable(template, text)]
            found = [self._rows(template, kept, tokens) for kept in known]
            shortest = min(rows.shape[0] for rows in found)
            self.means[template] = torch.stack([rows[:shortest] for rows in found]).mean(0)
        mean, here = self.means[template], self._rows(template, text, tokens)
        shared = min(mean.shape[0], here.shape[0])
        return here[:shared], mean[:shared]

    def _shifted(self, target: Target, text: str, template: str) -> tuple[Tensor, Tensor]:
        if self.reading.lengths == "outputs" and not any("{}" in a for a in target.attributes):
            return self._shifted_together(target, text, template)
        here = self._rows(template, text, self.reading.tokens)
        there = here.clone()
        for attribute, amount in target.attributes.items():
            if "{}" in attribute:
                there += amount * self._direction(text, attribute, template)
                continue
            along = self._pairs(template, text, attribute)[1]
            shared = along.shape[0]
            unit = along / along.norm(dim=1, keepdim=True).clamp_min(1e-12)
            there[:shared] += amount * here[:shared].norm(dim=1, keepdim=True) * unit
        return here, there

    def _shifted_together(self, target: Target, text: str, template: str) -> tuple[Tensor, Tensor]:
        """Shifts measured on all outputs of a text together, one attribute after the other."""
        pairs = {a: self._pairs(template, text, a) for a in target.attributes}
        shared = min(here.shape[0] for here, _ in pairs.values())
        here = next(iter(pairs.values()))[0][:shared]
        there = here.clone()
        for attribute, (_, along) in pairs.items():
            unit = along[:shared] / _output_length(along[:shared], self.gram).clamp_min(1e-300)
            there = there + target.attributes[attribute] * _output_length(there, self.gram) * unit
        return here, there


def _output_length(rows: Float[Tensor, "rows width"], gram: Tensor | None) -> Tensor:
    """Length of all rows together as the projections see them."""
    squares = (rows**2).sum() if gram is None else ((rows @ gram) * rows).sum()
    return squares.clamp_min(0).sqrt()
