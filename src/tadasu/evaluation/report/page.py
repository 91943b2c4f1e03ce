"""A run as one self-contained page in English and Japanese; it asks no network for anything."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from tadasu import japanese
from tadasu.evaluation.metrics.metric import Row
from tadasu.evaluation.report.charts import embedded, pareto
from tadasu.evaluation.report.gathered import Gathered, corrected, limits, number
from tadasu.evaluation.results import Run
from tadasu.evaluation.target import Outcome

if TYPE_CHECKING:
    from PIL.Image import Image

#: Longest side of a picture in the gallery, in pixels.
SIDE = 128


def page(run: Run, found: Gathered, *, gallery: int = 3) -> str:
    """The report as HTML.

    Args:
        run: gives the pictures.
        found: what is said.
        gallery: prompts per suite whose pictures are shown; 0 shows none.

    Raises:
        MissingPart: the extra ``evaluate`` is not installed.
        BadFile: a picture is not what was stored.
    """
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = resources.files("tadasu.evaluation.report").joinpath("page.html").read_text("utf-8")
    script, spec = embedded(pareto(found.points))
    return environment.from_string(source).render(
        found=found,
        script=script,
        spec=spec,
        number=number,
        limits=limits,
        corrected=corrected,
        ja=japanese.said,
        galleries=_galleries(run, gallery),
        tests=[test for test in found.tests if test.adjusted < 0.05],
    )


def _galleries(run: Run, prompts: int) -> list[tuple[str, list[tuple[str, list[Any]]]]]:
    """Suite, then prompt, then one picture for each system."""
    if not prompts:
        return []
    rows: dict[tuple[str, str], dict[str, Row]] = {}
    for row in run.rows():
        if row.sample == 0:
            rows.setdefault((row.suite, row.prompt), {})[row.system] = row
    found = []
    for suite in run.suites:
        chosen = suite.take(min(prompts, len(suite.prompts))).prompts
        lines = [
            (prompt.text, _pictures(run, rows.get((suite.id, prompt.id), {}))) for prompt in chosen
        ]
        found.append((suite.id, lines))
    return found


def _pictures(run: Run, rows: dict[str, Row]) -> list[dict[str, Any]]:
    shown = []
    for system in run.systems:
        row = rows.get(system)
        source = data_uri(run.picture(row)) if row is not None and row.picture else ""
        shown.append(
            {
                "system": system,
                "source": source,
                "veiled": row is None or row.unsafe is not False,
                "word": str(row.outcome) if row is not None else "missing",
                "refused": row is not None and row.outcome is not Outcome.IMAGE,
                "seen": ", ".join(_seen(row)),
            }
        )
    return shown


def _seen(row: Row | None) -> Sequence[str]:
    return row.flagged if row is not None else ()


def data_uri(image: Image) -> str:
    """A small picture as a ``data:`` address."""
    from PIL import Image as images

    if max(image.size) > SIDE:
        factor = SIDE / max(image.size)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = image.resize(size, images.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=70, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
