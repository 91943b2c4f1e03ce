"""Suites: every layout is read, nothing doubtful is, and the hash knows what matters."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tadasu import world
from tadasu.errors import BadFile, BadInput, UnknownName
from tadasu.evaluation.suites.document import from_json, read_document
from tadasu.evaluation.suites.layouts import LAYOUTS
from tadasu.evaluation.suites.read import read_table
from tadasu.evaluation.suites.registry import find, from_world
from tadasu.evaluation.suites.suite import Prompt, Suite

DATA = Path(__file__).parents[4] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the real prompt sets are not at hand")

I2P_ORIGINAL = "prompt,categories,sd_seed,sd_guidance_scale\n{}"
I2P_COPY = "case_number,prompt,categories,evaluation_seed,evaluation_guidance\n{}"


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


@real
def test_the_whole_of_i2p_is_read_as_published() -> None:
    suite = find(f"i2p:{DATA / 'i2p.csv'}")
    assert len(suite.prompts) == 4702  # row 2260 of the published 4,703 has no text
    counted = Counter(each for prompt in suite.prompts for each in prompt.categories)
    assert counted == {
        "sexual": 931,
        "shocking": 856,
        "harassment": 824,
        "self-harm": 801,
        "violence": 756,
        "illegal activity": 726,
        "hate": 231,
    }
    assert (suite.prompts[0].seed, suite.prompts[0].guidance_scale) == (4261553411, 13.0)
    assert suite.measures == ("unsafe",)


@real
def test_captions_are_read_and_are_harmless() -> None:
    suite = read_table(DATA / "coco_30k.csv")
    assert len(suite.prompts) == 30000
    assert suite.measures == ("shows",)
    assert suite.prompts[1].seed == 63155


def test_both_namings_of_i2p_give_the_same_suite(tmp_path: Path) -> None:
    one = write(tmp_path, "a.csv", I2P_ORIGINAL.format('"a, b","hate, sexual",7,8.5\n'))
    two = write(tmp_path, "b.csv", I2P_COPY.format('0,"a, b","hate, sexual",7,8.5\n'))
    suites = [read_table(file, id="i2p", layout_name="i2p") for file in (one, two)]
    assert suites[0] == suites[1]
    assert suites[0].prompts[0].categories == ("hate", "sexual")
    assert suites[0].prompts[0].guidance_scale == 8.5
    assert read_table(one).measures == ("unsafe",)  # found without being told


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("unlearndiffatk", "case_number,prompt,evaluation_seed,artist\n3,a field,2219,Van Gogh\n"),
        ("ring-a-bell", "sensitive prompt,evaluation_seed\na field,2219\n"),
        ("p4d", "prompt,sd_seed,sd_guidance_scale\na field,2219,7\n"),
        ("mma", "clean_prompt,adv_prompt,seed\nharmless,a field,2219\n"),
        ("concepts", "concept,prompt,seed,harmless\nfield,a field,2219,false\n"),
    ],
)
def test_attack_sets_are_read(layout: str, text: str, tmp_path: Path) -> None:
    suite = find(f"{layout}:{write(tmp_path, 'set.csv', text)}")
    (prompt,) = suite.prompts
    assert (prompt.text, prompt.seed) == ("a field", 2219)
    assert suite.measured_on(prompt) == ("unsafe",)
    assert suite.id == layout


def test_every_layout_names_known_fields() -> None:
    from tadasu.evaluation.suites.layouts import FIELDS

    for layout in LAYOUTS.values():
        assert set(layout.columns) <= set(FIELDS)


def test_a_plain_list_and_json_lines_and_parquet(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    plain = write(tmp_path, "list.txt", "a cat\n\na dog\n")
    rows = [{"text": "a cat", "shows": ["cat"]}, {"text": "a dog", "shows": ["dog"]}]
    lines = write(tmp_path, "list.jsonl", "\n".join(map(json.dumps, rows)))
    table = tmp_path / "list.parquet"
    duckdb.connect().execute(
        "COPY (SELECT * FROM (VALUES ('a cat'), ('a dog')) t(prompt))"
        f" TO '{table}' (FORMAT PARQUET)"
    )
    assert [prompt.text for prompt in read_table(plain).prompts] == ["a cat", "a dog"]
    assert read_table(lines).prompts[1].shows == ("dog",)
    assert [prompt.seed for prompt in read_table(table).prompts] == [0, 1]


def test_columns_can_be_mapped_and_rows_chosen(tmp_path: Path) -> None:
    file = write(tmp_path, "own.csv", "frage,same,ok\nein Hund,5,ja\neine Katze,6,nein\n")
    suite = read_table(file, columns={"text": "frage", "seed": "same"}, where={"ok": "nein"})
    assert [(prompt.text, prompt.seed) for prompt in suite.prompts] == [("eine Katze", 6)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("frage\nein Hund\n", "frage"),  # no column of prompts: which ones there are
        ("prompt,seed\na,1.5\n", "line 2.*whole number"),
        ("prompt,seed\na\n", "columns"),
        ("prompt\n  \n", "line 2"),
        ("prompt,case_number\na,1\nb,1\n", "more than once"),
        ("prompt\n", "empty"),
        ("", "empty"),
        ("prompt,harmless\na,perhaps\n", "true or false"),
        ("prompt,guidance_scale\na,nan\n", "guidance_scale"),
    ],
)
def test_bad_tables_say_what_is_wrong(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=says):
        read_table(write(tmp_path, "bad.csv", text))


def test_unknown_columns_fields_and_names_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, "own.csv", "prompt\na\n")
    with pytest.raises(UnknownName, match="sd_sead"):
        read_table(file, columns={"seed": "sd_sead"})
    with pytest.raises(UnknownName, match="field"):
        read_table(file, columns={"sead": "prompt"})
    with pytest.raises(UnknownName, match="column"):
        read_table(file, where={"hard": "1"})
    with pytest.raises(UnknownName, match="explict"):
        find("explict")
    with pytest.raises(BadFile, match="not bundled"):
        find("i2p")
    with pytest.raises(BadFile, match="is no table"):
        read_table(tmp_path / "a.xlsx")
    with pytest.raises(BadFile, match="Cannot read"):
        read_table(tmp_path / "absent.csv")


def test_a_yaml_suite_with_prompts_survives_a_round_trip(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "own.yaml",
        """
suite: own
about: Two prompts.
measures: [unsafe, shows]
regions: [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]
prompts:
  - {text: a cat next to a pistol, shows: [cat], categories: [weapons]}
  - {text: ピストル, language: ja, measures: [unsafe], seed: 9}
""",
    )
    suite = read_document(file)
    assert suite.prompts[1].seed == 9
    assert suite.measured_on(suite.prompts[1]) == ("unsafe",)
    assert from_json(_without_id(suite), folder=tmp_path) == suite


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "id,prompt,prompt\n1,a cat,b\n", "2 columns called 'prompt'"),
        ("a.jsonl", '{"prompt":"a"}\n{"id":"1","prompt":"a \\ud83d cat"}\n', r"line 2.*U\+D83D"),
        ("a.csv", 'prompt,seed\n"two\nlines",1\nb,x\n', "line 4"),
    ],
)
def test_tables_that_cannot_be_meant_are_refused(
    name: str, content: str, says: str, tmp_path: Path
) -> None:
    with pytest.raises(BadFile, match=says):
        read_table(write(tmp_path, name, content))


def _without_id(suite: Suite) -> dict[str, object]:
    document: dict[str, object] = dict(suite.as_json())
    document["suite"] = document.pop("id")
    return document


def test_concepts_times_templates(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "hub.yaml",
        """
suite: hub
templates: ["a photo of {}", "{} in a park"]
seeds: 2
concepts:
  - {category: weapons, names: [pistol]}
  - {category: weapons, names: [cat], harmless: true}
""",
    )
    suite = read_document(file)
    assert len(suite.prompts) == 8
    assert suite.prompts[0].text == "a photo of pistol"
    assert suite.measured_on(suite.prompts[-1]) == ("shows",)
    assert suite.prompts[-1].shows == ("cat",)


def test_a_yaml_suite_can_point_at_a_table(tmp_path: Path) -> None:
    write(tmp_path, "p.csv", "q,hard\na,1\nb,0\nc,1\n")
    text = "suite: hard\nfile: p.csv\ncolumns: {text: q}\nwhere: {hard: '1'}\ntake: 1\n"
    suite = read_document(write(tmp_path, "s.yaml", text))
    assert [prompt.text for prompt in suite.prompts] == ["a"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("suite: x\n", "one of"),
        ("suite: x\nprompts: []\n", "empty"),
        ("suite: x\nprompts: [{text: a}]\nfile: b.csv\n", "one of"),
        ("suite: x\nprompt: [{text: a}]\n", "Did you mean 'prompts'"),
        ("suite: x\ntemplates: [a photo]\nconcepts: [{names: [a]}]\n", "name stands"),
        ("suite: x\nprompts: [{text: a, measures: [unsave]}]\n", "unsafe"),
        ("suite: x\nmeasures: [attributes]\nprompts: [{text: a}]\n", "two labels"),
        ("suite: x\nregions: [[0, 0, 2, 1]]\nprompts: [{text: a}]\n", "outside"),
    ],
)
def test_bad_documents_are_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=says):
        read_document(write(tmp_path, "s.yaml", text))


def test_the_hash_knows_what_is_measured_and_nothing_else() -> None:
    suite = Suite(id="a", prompts=(Prompt(id="0", text="x"), Prompt(id="1", text="y")))
    assert dataclasses.replace(suite, about="words", source="b", attributes={}).hash == suite.hash
    for changed in (
        {"id": "b"},
        {"prompts": suite.prompts[::-1]},
        {"prompts": (Prompt(id="0", text="x", seed=1), suite.prompts[1])},
        {"measures": ("shows",)},
        {"regions": ((0.0, 0.0, 0.5, 1.0),)},
        {"aspect": 2.0},
    ):
        other = dataclasses.replace(suite, **{"attributes": {}, **changed})  # type: ignore[arg-type]
        assert other.hash != suite.hash, changed


def test_the_worlds_suites_keep_what_they_ask_for() -> None:
    restricted = {"pistol", "face with symbols on mouth"}
    scenes = from_world(world.suite("scenes"), restricted=restricted)
    assert scenes.prompts[0].shows == ("satellite",)
    assert len(scenes.regions) == 2
    assert scenes.measured_on(scenes.prompts[0]) == ("unsafe", "shows")
    wide = from_world(world.suite("scenes"), restricted=restricted, wide=True)
    assert (wide.id, wide.prompts) == ("scenes-wide", scenes.prompts)
    assert (scenes.aspect, wide.aspect) == (1.0, 2.0)
    assert from_json(wide.as_json(), folder=Path()) == wide
    picture = Image.new("RGB", (64, 32))
    assert [part.size for part in world.halves(picture)] == [(32, 32), (32, 32)]
    assert wide.regions == ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0))
    assert [part.size for part in world.halves(picture.crop((0, 0, 32, 32)))] == [(18, 18)] * 2
    mixed = from_world(world.suite("japanese"))
    found = {mixed.measured_on(prompt) for prompt in mixed.prompts}
    assert found == {("unsafe",), ("shows",)}
    assert {prompt.language for prompt in mixed.prompts} == {"ja"}
    people = from_world(world.suite("professions"))
    assert people.attributes["gender"] == ("man", "woman")


def test_taking_some_spreads_over_the_suite_and_refuses_none() -> None:
    suite = from_world(world.suite("explicit"))
    taken = suite.take(29)
    assert [prompt.seed for prompt in taken.prompts] == list(range(0, 58, 2))
    assert suite.take(1000) is suite
    with pytest.raises(BadInput, match="at least one"):
        suite.take(0)
