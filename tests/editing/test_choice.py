from __future__ import annotations

import pytest

from tadasu.editing.choice import KINDS, Setting, choose, tokens_for
from tadasu.editing.registry import names
from tadasu.editing.tokens import MODES
from tadasu.errors import UnknownName


@pytest.mark.parametrize(
    ("setting", "solver"),
    [
        (Setting(names=1, width=256), "uce"),
        (Setting(names=16, width=256, kept=True, layered=True), "uce"),
        (Setting(names=17, width=256, kept=True, layered=True), "layer"),
        (Setting(names=48, width=768, kept=True, layered=True), "uce"),
        (Setting(names=200, width=768, kept=True, layered=True), "layer"),
        (Setting(names=200, width=2048, kept=True, layered=False), "uce"),
        (Setting(names=200, width=768, kept=False, layered=True), "uce"),
        (Setting(names=1, width=768, kept=True, run_time=True), "conditional"),
        (Setting(names=1, width=768, kept=False, run_time=True), "uce"),
    ],
)
def test_solver_for_every_setting(setting: Setting, solver: str) -> None:
    found = choose(setting)
    assert found.solver == solver
    assert found.solver in names()
    assert found.reason


def test_a_second_best_choice_says_what_would_make_it_better() -> None:
    assert "preserve list" in choose(Setting(names=200, width=256, layered=True)).warning
    assert "preserve list" in choose(Setting(names=1, width=256, run_time=True)).warning
    assert "attach" in choose(Setting(names=200, width=256, kept=True)).warning
    assert choose(Setting(names=1, width=256)).warning == ""
    assert choose(Setting(names=99, width=256, kept=True, layered=True)).warning == ""


def test_every_kind_has_rows_and_an_unknown_one_is_named() -> None:
    assert {tokens_for(kind) for kind in KINDS} <= set(MODES)
    with pytest.raises(UnknownName, match="object"):
        tokens_for("objekt")
