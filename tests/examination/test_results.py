"""What is kept is found again under the file's new name, and never for another question."""

from __future__ import annotations

from pathlib import Path

import pytest

from tadasu.auditing.findings import Finding
from tadasu.errors import BadFile
from tadasu.examination.results import Results, digest
from tadasu.examination.walk import files

FINDING = Finding(file="old", digest="aa", concept="x", conclusion="absent", stage="probe")


def test_kept_findings_come_back_under_the_new_name(tmp_path: Path) -> None:
    results = Results(folder=tmp_path, about="base|bank")
    assert results.get(["aa"], "new") is None
    results.put(["aa"], [FINDING])
    found = results.get(["aa"], "new")
    assert found is not None
    assert found[0].file == "new"
    assert found[0].concept == "x"


def test_another_base_file_or_pair_is_another_question(tmp_path: Path) -> None:
    Results(folder=tmp_path, about="one").put(["aa"], [FINDING])
    assert Results(folder=tmp_path, about="two").get(["aa"], "f") is None
    assert Results(folder=tmp_path, about="one").get(["bb"], "f") is None
    assert Results(folder=tmp_path, about="one").get(["aa", "aa"], "f") is None


def test_damaged_results_are_made_again(tmp_path: Path) -> None:
    results = Results(folder=tmp_path, about="one")
    results.put(["aa"], [FINDING])
    (kept,) = tmp_path.iterdir()
    for text in ("", "{}", '[{"file": 1}]'):
        kept.write_text(text)
        assert results.get(["aa"], "f") is None


def test_without_a_folder_or_digest_nothing_is_kept(tmp_path: Path) -> None:
    Results(folder=None, about="one").put(["aa"], [FINDING])
    Results(folder=tmp_path, about="one").put([""], [FINDING])
    assert list(tmp_path.iterdir()) == []


def test_digests_are_of_plain_files_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert len(digest(tmp_path / "a")) == 64
    assert digest(tmp_path / "b") == digest(tmp_path) == digest(tmp_path / "c") == ""


def test_folders_are_searched_and_links_listed_but_not_entered(tmp_path: Path) -> None:
    inner = tmp_path / "in"
    inner.mkdir()
    for name in ("b.safetensors", "a.PT", "note.txt"):
        (inner / name).write_bytes(b"")
    (tmp_path / "link.safetensors").symlink_to(inner / "a.PT")
    found = [path.relative_to(tmp_path).as_posix() for path in files([tmp_path])]
    assert found == ["in/a.PT", "in/b.safetensors", "link.safetensors"]
    assert files([inner / "note.txt", inner / "note.txt"]) == [inner / "note.txt"]
    with pytest.raises(BadFile):
        files([tmp_path / "nowhere"])
