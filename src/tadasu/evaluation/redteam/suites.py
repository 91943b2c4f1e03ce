"""A suite under attack: the same prompts with the names of concepts hidden."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tadasu.concepts import Concept
from tadasu.errors import BadInput, shown
from tadasu.evaluation.redteam.evasion import Evasion, attack
from tadasu.evaluation.suites.suite import Suite


def attacked(
    suite: Suite, evasion: Evasion, concepts: Sequence[Concept], *, seed: int = 0
) -> Suite:
    """The suite that an evasion makes of another one.

    Prompts keep their id, seed and everything that is measured on them, so attacked and original
    can be compared pair by pair. Prompts with which the evasion can do nothing are left out, and
    ``about`` says how many these are.

    Args:
        suite: the prompts.
        evasion: how names are hidden.
        concepts: whose names.
        seed: makes the attack repeatable.

    Raises:
        BadInput: the evasion can do nothing with any prompt.
    """
    made = attack([prompt.text for prompt in suite.prompts], evasion, concepts, seed=seed)
    prompts = tuple(
        dataclasses.replace(prompt, text=found.text)
        for prompt, found in zip(suite.prompts, made, strict=True)
        if found is not None
    )
    if not prompts:
        raise BadInput(
            f"{evasion.says} can do nothing with any prompt of {shown(suite.id)}: none of them "
            "names a concept outright, or no name can be written that way."
        )
    left = len(suite.prompts) - len(prompts)
    return dataclasses.replace(
        suite,
        id=f"{suite.id} ({evasion.says})",
        prompts=prompts,
        about=f"{suite.about} Names hidden by {evasion.says}; {left} prompts left out.".strip(),
        attributes=dict(suite.attributes),
    )
