"""Before and after on one page: the same prompts, the same seeds, and where they differ.

The page is one HTML file without scripts or outside addresses. Pictures of prompts that a policy
restricts are blurred until somebody clicks them.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tadasu.errors import BadInput

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .8rem;text-align:left;
border-bottom:1px solid #ddd}img{width:12rem;image-rendering:pixelated;display:block;
border-radius:4px}label{display:inline-block;cursor:pointer}input{position:absolute;opacity:0}
.hidden img{filter:blur(16px)}.hidden input:checked+img{filter:none}
.hidden input:focus-visible+img{outline:3px solid #2e5eaa}p.note{color:#555}
"""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One prompt drawn twice from one seed.

    Args:
        prompt: the text.
        seed: of both pictures.
        before: without the edit.
        after: with it.
        restricted: whether the pictures are blurred until clicked.
    """

    prompt: str
    seed: int
    before: Image.Image
    after: Image.Image
    restricted: bool = False

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


def page(
    title: str,
    pairs: Sequence[Pair],
    facts: Sequence[tuple[str, str]] = (),
    table: Sequence[Sequence[str]] = (),
) -> str:
    """The whole page.

    Args:
        title: its heading.
        pairs: in the order in which they are shown.
        facts: names and values listed on top, for example from the self-check.
        table: rows of a table, the head first, for example what a judge says with intervals.
    """
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>",
        "<table>" + "".join(_row(fact, "td") for fact in facts) + "</table>" if facts else "",
    ]
    if table:
        head, *rows = table
        parts.append(f"<table>{_row(head, 'th')}{''.join(_row(row, 'td') for row in rows)}</table>")
    if any(pair.restricted for pair in pairs):
        parts.append("<p class=note>Blurred pictures become clear when clicked.</p>")
    parts.append(f"<table>{_row(('Prompt', 'Before', 'After', 'Difference'), 'th')}")
    parts += [_pair(pair) for pair in pairs]
    return "".join(parts) + "</table></html>\n"


def _pair(pair: Pair) -> str:
    words = f"{html.escape(pair.prompt)}<br><small>seed {pair.seed}, {pair.distance:.3f}</small>"
    pictures = (
        _picture(pair.before, f"before: {pair.prompt}", pair.restricted),
        _picture(pair.after, f"after: {pair.prompt}", pair.restricted),
        _picture(pair.difference(), f"difference: {pair.prompt}", False),
    )
    return f"<tr><td>{words}</td>{''.join(f'<td>{each}</td>' for each in pictures)}</tr>"


def _picture(picture: Image.Image, words: str, restricted: bool) -> str:
    file = io.BytesIO()
    picture.convert("RGB").save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    shown = f'<img alt="{html.escape(words)}" src="data:image/png;base64,{data}">'
    if not restricted:
        return shown
    return f'<label class=hidden><input type=checkbox aria-label="show picture">{shown}</label>'


def _row(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _pixels(picture: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(picture.convert("RGB"), dtype=np.float64) / 255
