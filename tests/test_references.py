"""One name for the bundled models, wherever a model is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

import tadasu as td
from tadasu import references
from tadasu.errors import BadFile
from tadasu.references import located


@pytest.mark.parametrize("part", td.world.PARTS)
def test_the_world_is_found_by_its_name(part: str) -> None:
    assert located("world", part) == str(td.world.folder(part))


def test_the_world_of_scenes_has_its_own_pipeline_and_the_same_detectors() -> None:
    assert located("world-scenes", "pipeline") == str(td.world.folder("pipeline-scenes"))
    assert located("world-scenes", "judge") == located("world", "judge")
    assert references.bundled("world-scenes")
    assert not references.bundled("./world-scenes")


def test_other_references_stay_as_they_are(tmp_path: Path) -> None:
    for ref in ("org/model", str(tmp_path), "./world", ""):
        assert located(ref, "pipeline") == ref


def test_a_part_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "_BUNDLED", {})
    references.register("small", tmp_path)
    with pytest.raises(BadFile, match="have no judge in"):
        located("small", "judge")
    (tmp_path / "judge").mkdir()
    assert located("small", "judge") == str(tmp_path / "judge")
