"""Before and after on one page: the same prompts, the same seeds, where they differ, what is seen.

The page is one HTML file in English and Japanese, without scripts or outside addresses. Pictures of
prompts that name an edited concept, or that a policy restricts, are blurred until somebody clicks
them.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tadasu.detectors.names import Lexicon
from tadasu.editing.preview_words import STYLE, SWITCH, WORDS
from tadasu.editing.targets import plain
from tadasu.errors import BadFile, BadInput, shown
from tadasu.statistics.intervals import Rate

if TYPE_CHECKING:
    from tadasu.editing.edit import Edit
    from tadasu.editing.models import Model
    from tadasu.policy import Policy

#: Pictures to, for each, the names of what is seen in it.
See = Callable[[Sequence[Image.Image]], Sequence[Set[str]]]
FEW = 6


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One prompt drawn twice from one seed.

    Args:
        prompt: the text.
        seed: of both pictures.
        before: without the edit.
        after: with it.
        edited: whether the prompt names an edited concept.
        restricted: whether the pictures are blurred until clicked.
        seen_before: what a judge names in them; None when nobody looked.
        seen_after: the same for the second picture.
    """

    prompt: str
    seed: int
    before: Image.Image
    after: Image.Image
    edited: bool = False
    restricted: bool = False
    seen_before: Set[str] | None = None
    seen_after: Set[str] | None = None

    def __post_init__(self) -> None:
        """Refuse pictures that cannot be compared."""
        if self.before.size != self.after.size:
            raise BadInput(
                f"Before and after differ in size: {self.before.size}, {self.after.size}."
            )

    @property
    def distance(self) -> float:
        """Mean absolute pixel difference, 0 to 1."""
        return float(np.abs(_pixels(self.after) - _pixels(self.before)).mean())

    def difference(self) -> Image.Image:
        """Where the pictures differ: white nowhere, dark red most."""
        change = np.abs(_pixels(self.after) - _pixels(self.before)).mean(2)
        strength = np.sqrt(change / max(float(change.max()), 1 / 255))
        fade = 1 - strength[..., None] * np.array([0.35, 0.95, 0.9])
        return Image.fromarray((255 * fade).round().astype(np.uint8))


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Pairs of pictures and what is counted on them.

    Args:
        title: of the page.
        pairs: in the order in which they are shown.
        names: of the edited concepts, in all languages.
        facts: names and values listed on top, for example from the self-check.
    """

    title: str
    pairs: tuple[Pair, ...]
    names: frozenset[str] = frozenset()
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def rates(self) -> Mapping[str, tuple[Rate, Rate]]:
        """Before and after, with Wilson intervals; empty when nobody looked.

        ``edited``: of the prompts that name an edited concept, pictures in which it is seen.
        ``other``: of the others, pictures in which something is seen that the prompt names.
        """
        found = {}
        for group, own in (("edited", True), ("other", False)):
            some = [p for p in self.pairs if p.edited is own and p.seen_before is not None]
            if some:
                rates = [self._rate([(p, seen(p)) for p in some], own) for seen in (_first, _last)]
                found[group] = (rates[0], rates[1])
        return found

    def page(self) -> str:
        """The whole page."""
        title = html.escape(self.title)
        parts = [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width'>",
            f"<title>{title}</title><style>{STYLE}</style>{SWITCH}<main><h1>{title}</h1>",
            f"<table>{''.join(_row(map(html.escape, fact)) for fact in self.facts)}</table>",
            self._table(),
        ]
        if any(pair.restricted for pair in self.pairs):
            parts.append(f"<p class=note>{_both('blurred')}</p>")
        heads = (_both(word) for word in ("prompt", "before", "after", "difference"))
        parts += [f"<table>{_row(heads, 'th')}", *map(_pair, self.pairs)]
        return "".join(parts) + "</table></main></html>\n"

    def save(self, path: str | Path) -> None:
        """Write the page; it appears whole or not at all.

        Raises:
            BadFile: when it cannot be written.
        """
        path = Path(path)
        partial = path.with_suffix(".partial")
        try:
            partial.write_text(self.page(), encoding="utf-8")
            partial.replace(path)
        except OSError as error:
            raise BadFile(f"Cannot write {shown(path)}: {error}") from error

    def _rate(self, seen: Sequence[tuple[Pair, Set[str] | None]], edited: bool) -> Rate:
        hits = 0
        for pair, names in seen:
            spoken = {name for name in map(plain, names or ()) if name in plain(pair.prompt)}
            wanted = {plain(name) for name in self.names}
            hits += bool(wanted & set(map(plain, names or ()))) if edited else bool(spoken)
        return Rate(count=hits, n=len(seen))

    def _table(self) -> str:
        if not self.rates:
            return f"<p class=note>{_both('nobody')}</p>"
        rows = [_row((_both(w) for w in ("counted", "before", "after", "distance")), "th")]
        for group, (before, after) in self.rates.items():
            far = [p.distance for p in self.pairs if p.edited is (group == "edited")]
            cells = (_both(group), _told(before), _told(after), f"{np.mean(far):.3f}")
            rows.append(_row(cells))
        return f"<table>{''.join(rows)}</table><p class=note>{_both('intervals')}</p>"


def draw(
    edit: Edit,
    model: Model,
    prompts: Sequence[str] = (),
    *,
    seeds: Sequence[int] = (0,),
    steps: int | None = None,
    see: See | None = None,
    policy: Policy | None = None,
) -> Preview:
    """Draw every prompt from every seed twice, and let a judge look; see ``Edit.preview``."""
    names = [text for target in edit.recipe["targets"] for text in target["texts"]]
    prompts = tuple(prompts) or usual(edit)
    wanted = list(product(prompts, seeds))
    texts, numbers = [prompt for prompt, _ in wanted], [seed for _, seed in wanted]
    before = model.draw(texts, numbers, steps)
    with model.applied(edit.maps):
        after = model.draw(texts, numbers, steps)
    seen: list[Set[str] | None] = [None] * (2 * len(wanted))
    if see is not None:
        seen = list(see([*before, *after]))
    names_in = Lexicon(policy.concepts if policy else ()).find
    edited = {text: any(plain(name) in plain(text) for name in names) for text in prompts}
    pairs = tuple(
        Pair(
            prompt=text,
            seed=number,
            before=before[i],
            after=after[i],
            edited=edited[text],
            restricted=edited[text] or bool(names_in(text)),
            seen_before=seen[i],
            seen_after=seen[len(wanted) + i],
        )
        for i, (text, number) in enumerate(wanted)
    )
    facts = (("concepts", ", ".join(edit.concepts)), ("solver", str(edit.recipe["solver"])))
    return Preview(title=f"Edit {edit.name}", pairs=pairs, names=frozenset(names), facts=facts)


def usual(edit: Edit) -> tuple[str, ...]:
    """A few edited concepts and a few preserved texts, as prompts."""
    first = [target["texts"][0] for target in edit.recipe["targets"]]
    return tuple(dict.fromkeys([*first[:FEW], *list(edit.recipe["preserve"])[:FEW]]))


def _first(pair: Pair) -> Set[str] | None:
    return pair.seen_before


def _last(pair: Pair) -> Set[str] | None:
    return pair.seen_after


def _told(rate: Rate) -> str:
    low, high = 100 * rate.low, 100 * rate.high
    return f"{100 * rate.value:.0f} % [{low:.0f}–{high:.0f}] n={rate.n}"


def _pair(pair: Pair) -> str:
    words = f"{html.escape(pair.prompt)}<br><small>seed {pair.seed}, {pair.distance:.3f}</small>"
    pictures = (
        _picture(pair.before, f"before: {pair.prompt}", pair.restricted) + _named(pair.seen_before),
        _picture(pair.after, f"after: {pair.prompt}", pair.restricted) + _named(pair.seen_after),
        _picture(pair.difference(), f"difference: {pair.prompt}", False),
    )
    return _row((words, *pictures))


def _named(seen: Set[str] | None) -> str:
    return f"<small>{html.escape(', '.join(sorted(seen)))}</small>" if seen else ""


def _picture(picture: Image.Image, words: str, restricted: bool) -> str:
    file = io.BytesIO()
    picture.convert("RGB").save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    img = f'<img alt="{html.escape(words)}" src="data:image/png;base64,{data}">'
    if not restricted:
        return img
    return f'<label class=hidden><input type=checkbox aria-label="show picture">{img}</label>'


def _both(word: str) -> str:
    english, japanese = WORDS[word]
    return f"<span class=en>{english}</span><span class=ja lang=ja>{japanese}</span>"


def _row(cells: Iterable[str], tag: str = "td") -> str:
    return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in cells)}</tr>"


def _pixels(picture: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(picture.convert("RGB"), dtype=np.float64) / 255
