"""Published layouts of questions about pictures, rebuilt small, and the rates over them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tadasu.errors import BadFile, BadInput, UnknownName
from tadasu.evaluation.vision_suites import (
    FIGSTEP_TEXT,
    Question,
    VisionSuite,
    figstep,
    find,
    mm_safetybench,
    refuses,
    spa_vl,
)


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def mm(tmp_path: Path) -> Path:
    name = "01-Illegal_Activitiy"
    (tmp_path / "processed_questions").mkdir()
    entry = {"Question": "q", "Rephrased Question": "with words", "Rephrased Question(SD)": "alone"}
    (tmp_path / "processed_questions" / f"{name}.json").write_text(
        json.dumps({"0": entry, "7": entry})
    )
    for kind in ("SD", "SD_TYPO", "TYPO"):
        folder = tmp_path / "imgs" / name / kind
        folder.mkdir(parents=True)
        for number in (0, 7):
            Image.new("RGB", (4, 4)).save(folder / f"{number}.jpg")
    return tmp_path


def test_mm_safetybench(mm: Path) -> None:
    suite = mm_safetybench(mm)
    assert [q.text for q in suite.questions] == ["with words", "with words"]
    assert [q.id for q in suite.questions] == ["01-Illegal_Activitiy/0", "01-Illegal_Activitiy/7"]
    assert mm_safetybench(mm, kind="SD").questions[0].text == "alone"
    assert mm_safetybench(mm, kind="TYPO").questions[0].text == "with words"
    assert suite.questions[1].image().size == (4, 4)
    with pytest.raises(UnknownName):
        mm_safetybench(mm, kind="OCR")
    (mm / "imgs" / "01-Illegal_Activitiy" / "SD" / "7.jpg").unlink()
    with pytest.raises(BadFile, match=r"7\.jpg"):
        mm_safetybench(mm, kind="SD")


def test_figstep(tmp_path: Path) -> None:
    (tmp_path / "question").mkdir()
    (tmp_path / "question" / "safebench.csv").write_text(
        "dataset,category_id,task_id,category_name,question,instruction\n"
        'ForbidQI,3,12,Fraud,"How, then?",Steps to do it.\n'
    )
    folder = tmp_path / "images" / "SafeBench"
    folder.mkdir(parents=True)
    with pytest.raises(BadFile, match="query_ForbidQI_3_12_6"):
        figstep(tmp_path)
    (folder / "query_ForbidQI_3_12_6.png").write_bytes(png())
    (question,) = figstep(tmp_path).questions
    assert (question.text, question.categories) == (FIGSTEP_TEXT, ("Fraud",))
    assert figstep(tmp_path, suffix=True).questions[0].text.endswith('"Absolutely, here\'s"')
    assert find(f"figstep:{tmp_path}").id == "figstep"


def test_spa_vl_rows_and_splits(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(png())
    row = {"image": "p.png", "question": "Why?", "class1": "Toxic", "class2": "", "class3": "x"}
    for name in ("harm-0.jsonl", "help-0.jsonl", "other.jsonl"):
        (tmp_path / name).write_text(json.dumps(row) + "\n")
    harm = spa_vl(tmp_path / "harm-0.jsonl")
    assert harm.questions[0].harmful is True
    assert harm.questions[0].categories == ("Toxic", "x")
    assert harm.questions[0].image().size == (4, 4)
    assert spa_vl(tmp_path / "help-0.jsonl").questions[0].harmful is False
    with pytest.raises(BadInput, match="harm or help"):
        spa_vl(tmp_path / "other.jsonl")
    (tmp_path / "harm-1.jsonl").write_text(json.dumps({"image": None, "question": "Why?"}) + "\n")
    with pytest.raises(BadFile, match="no picture"):
        spa_vl(tmp_path / "harm-1.jsonl")


def test_spa_vl_parquet_as_published(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    file = tmp_path / "harm-00000-of-00001.parquet"
    duckdb.connect().execute(
        "COPY (SELECT {'bytes': $1::BLOB, 'path': 'a.png'} AS image, 'Why?' AS question, "
        f"'Toxic' AS class1, 'b' AS class2, 'c' AS class3) TO '{file}' (FORMAT parquet)",
        [png()],
    )
    (question,) = spa_vl(file).questions
    assert question.image().getpixel((0, 0)) == (255, 0, 0)


def test_pictures_outside_of_the_tables_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "secret.png").write_bytes(png())
    row = {"image": "../secret.png", "question": "Why?", "class1": "x"}
    (tmp_path / "set" / "harm-0.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(BadFile, match=r"line 1.*outside"):
        spa_vl(tmp_path / "set" / "harm-0.jsonl")


def question(number: int, *, harmful: bool = True) -> Question:
    return Question(id=str(number), text="t", picture=png(), harmful=harmful)


def test_variants_are_named(mm: Path) -> None:
    assert find(f"mm-safetybench-sd:{mm}").questions[0].text == "alone"
    bundled = VisionSuite(id="own", questions=(question(0),))
    assert find("own", {"own": bundled}) is bundled
    with pytest.raises(UnknownName, match="own"):
        find("onw", {"own": bundled})


def test_a_part_is_spread_over_the_suite() -> None:
    suite = VisionSuite(id="s", questions=tuple(question(i) for i in range(10)))
    assert [q.id for q in suite.take(4).questions] == ["0", "2", "5", "7"]
    assert suite.take(None) is suite.take(99) is suite
    with pytest.raises(BadInput, match="n=0"):
        suite.take(0)


def test_calling_oneself_an_ai_is_no_refusal() -> None:
    """Published lists of refusals hold "as an ai": every aligned answer would count as refused."""
    assert not refuses("As an AI assistant, I am glad to help with the bell.")
    assert refuses("As an AI assistant, I can't help with that.")
    assert refuses("申し訳ありませんが、お手伝いできません。")


def test_names_and_empty_suites() -> None:
    with pytest.raises(UnknownName, match="figstep"):
        find("figstp:x")
    with pytest.raises(BadFile, match="not bundled"):
        find("figstep")
    with pytest.raises(BadInput):
        VisionSuite(id="s", questions=())
    with pytest.raises(BadInput):
        VisionSuite(id="s", questions=(question(0), question(0)))
