"""Examine and correct generative image models after they were trained.

Names are imported when they are first used, so ``import tadasu`` stays quick and does not
load torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tadasu import references as _references
from tadasu.alignment import opening as _opening
from tadasu.editing import models as _models
from tadasu.errors import imported

if TYPE_CHECKING:
    from tadasu import alignment as alignment
    from tadasu import auditing as auditing
    from tadasu import editing as editing
    from tadasu import evaluation as evaluation
    from tadasu import guidance as guidance
    from tadasu import world as world
    from tadasu.backends.diffusers.attach import attach as attach
    from tadasu.concepts import Concept as Concept
    from tadasu.concepts import Hazard as Hazard
    from tadasu.evaluation.system import System as System
    from tadasu.examination.run import audit as audit
    from tadasu.guard import Guard as Guard
    from tadasu.guard import Sampler as Sampler
    from tadasu.policy import Policy as Policy
    from tadasu.records import Decision as Decision
    from tadasu.records import Generation as Generation
    from tadasu.records import Score as Score
    from tadasu.records import Verdict as Verdict

__version__ = "0.1.0"

# The root knows all rooms: it says who edits which pipeline, where measured priors lie, and who
# opens models for alignment, and what the bundled models are called.
_references.register("world", Path(__file__).parent / "world")
_references.register(
    "world-scenes", Path(__file__).parent / "world", {"pipeline": "pipeline-scenes"}
)
_opening.register("tadasu.backends.aligners")
_models.register("tadasu.backends.diffusers.context.model")
_models.PRIORS.append(Path(__file__).parent / "world" / "priors")

#: Where each public name lives; an empty attribute means the module itself.
_EXPORTS: dict[str, tuple[str, str]] = {
    "Concept": ("tadasu.concepts", "Concept"),
    "Hazard": ("tadasu.concepts", "Hazard"),
    "Guard": ("tadasu.guard", "Guard"),
    "Policy": ("tadasu.policy", "Policy"),
    "Sampler": ("tadasu.guard", "Sampler"),
    "Decision": ("tadasu.records", "Decision"),
    "Generation": ("tadasu.records", "Generation"),
    "Score": ("tadasu.records", "Score"),
    "System": ("tadasu.evaluation.system", "System"),
    "Verdict": ("tadasu.records", "Verdict"),
    "alignment": ("tadasu.alignment", ""),
    "attach": ("tadasu.backends.diffusers.attach", "attach"),
    "audit": ("tadasu.examination.run", "audit"),
    "auditing": ("tadasu.auditing", ""),
    "editing": ("tadasu.editing", ""),
    "evaluation": ("tadasu.evaluation", ""),
    "guidance": ("tadasu.guidance", ""),
    "world": ("tadasu.world", ""),
}

__all__ = [
    "Concept",
    "Decision",
    "Generation",
    "Guard",
    "Hazard",
    "Policy",
    "Sampler",
    "Score",
    "System",
    "Verdict",
    "alignment",
    "attach",
    "audit",
    "auditing",
    "editing",
    "evaluation",
    "guidance",
    "world",
]


def __getattr__(name: str) -> object:
    """Import a public name the first time somebody asks for it."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'tadasu' has no attribute {name!r}")
    module, attribute = _EXPORTS[name]
    found: object = imported(module)
    if attribute:
        found = getattr(found, attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Public names, for tab completion."""
    return sorted({*globals(), *_EXPORTS})
