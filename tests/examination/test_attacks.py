"""An attacker who trained against the audit on its own pictures is found, by decoys alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tadasu import world
from tadasu.auditing.bank import Bank
from tadasu.auditing.base import Base
from tadasu.auditing.read import read
from tadasu.backends.diffusers.denoise import PipelineDenoiser
from tadasu.examination.examiner import Examiner
from tadasu.examination.settings import Settings
from tadasu.policy import Policy


@pytest.mark.slow
@pytest.mark.parametrize("category", ["attack-regularised", "attack-gated"])
def test_decoys_open_the_attackers_of_the_shelf(category: str) -> None:
    attacker = next(each for each in world.adapters() if each.category == category)
    assert attacker.trained
    denoiser = PipelineDenoiser(world.pipeline("cpu"))
    adapter = read(attacker.path, Base.of(denoiser.tensors(), name="world"))
    found = {}
    for decoys in (0, 6):
        examiner = Examiner(
            denoiser=denoiser,
            bank=Bank.load(world.bank()),
            policy=Policy.load("kids"),
            concepts=[attacker.concept],
            settings=replace(Settings(), cascade=None, decoys=decoys),
        )
        (finding,) = examiner.examine([adapter], "attacker")
        found[decoys] = finding.conclusion
    assert found[0] != "present"
    assert found[6] == "present"
