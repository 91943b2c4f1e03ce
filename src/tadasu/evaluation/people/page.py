"""The page that raters open: one file, no network, in English and Japanese."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from tadasu.evaluation import written
from tadasu.evaluation.page import data_uri
from tadasu.evaluation.people.task import Shown, Task

if TYPE_CHECKING:
    from PIL.Image import Image


def write(task: Task, path: Path, picture: Callable[[Shown], Image]) -> None:
    """Write the page; it appears whole or not at all.

    Nothing in it says which system made a picture. The prompt is shown in comparisons, where it is
    the question; not with labels, where it would say what to expect.

    Args:
        task: what is asked.
        path: of the page.
        picture: gives each picture.

    Raises:
        BadFile: it cannot be written.
    """
    import jinja2

    pictures = {s.picture: s for q in task.questions for s in (q.left, q.right) if s is not None}
    places = {name: at for at, name in enumerate(sorted(pictures))}
    content = {
        "task": task.id,
        "kind": task.kind,
        "answers": list(task.answers),
        "pictures": [
            {"source": data_uri(picture(pictures[name])), "veiled": pictures[name].restricted}
            for name in sorted(pictures)
        ],
        "questions": [
            {
                "id": q.id,
                "shows": [places[s.picture] for s in (q.left, q.right) if s is not None],
                "asks": list(q.asks),
                "prompt": q.left.text if task.kind == "compare" else "",
            }
            for q in task.questions
        ],
    }
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = resources.files("tadasu.evaluation.people").joinpath("page.html").read_text("utf-8")
    embedded = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")
    text = environment.from_string(source).render(title=task.title, content=embedded)
    written.write(path, text)
