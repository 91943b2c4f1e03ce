"""Pictures go in checked, stay what they were, and cannot come from outside the bank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tadasu.auditing import bank
from tadasu.errors import BadFile, BadInput, UnknownName


def pictures(folder: Path, *colours: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    made = []
    for colour in colours:
        made.append(folder / f"{colour}.png")
        Image.new("RGB", (8, 6), colour).save(made[-1])
    return made


@pytest.fixture
def made(tmp_path: Path) -> Path:
    own = tmp_path / "bank"
    bank.add(own, "dagger", pictures(tmp_path / "a", "red", "blue"), part_of="weapons")
    bank.add(own, "hammer", pictures(tmp_path / "b", "green"), near=["dagger"], text="a hammer")
    return own


def test_what_was_added_is_found(made: Path) -> None:
    found = bank.Bank.load(made)
    assert list(found.concepts) == ["dagger", "hammer"]
    assert found.harmless == ("hammer",)
    assert found.concepts["dagger"].text == "dagger"
    assert found.concepts["hammer"].near == ("dagger",)
    assert [image.getpixel((0, 0)) for image in found.images("dagger")] == [
        (0, 0, 255),
        (255, 0, 0),
    ]
    assert len(found.images("dagger", containing="blue")) == 1
    assert len(found.images("dagger", most=1)) == 1


def test_pictures_are_added_to_a_concept(made: Path, tmp_path: Path) -> None:
    before = bank.Bank.load(made).hash
    bank.add(made, "dagger", pictures(tmp_path / "c", "white"))
    found = bank.Bank.load(made)
    assert len(found.concepts["dagger"].files) == 3
    assert found.concepts["dagger"].part_of == "weapons"
    assert found.hash != before


def test_concepts_are_found_by_name_or_policy(made: Path) -> None:
    found = bank.Bank.load(made)
    assert found.find(["weapons", "hammer"]) == ("dagger", "hammer")
    with pytest.raises(UnknownName, match="dagger"):
        found.find(["dager"])


def test_a_picture_that_was_changed_is_refused(made: Path) -> None:
    Image.new("RGB", (8, 6), "black").save(made / "dagger" / "red.png")
    with pytest.raises(BadFile, match="not the picture"):
        bank.Bank.load(made).images("dagger")


def test_a_bad_picture_adds_nothing(made: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(BadFile):
        bank.add(made, "bomb", [tmp_path / "bad.png"])
    assert "bomb" not in bank.Bank.load(made).concepts


@pytest.mark.parametrize("name", ["", "../x", "A", "a b", "x" * 65])
def test_names_are_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput):
        bank.add(tmp_path, name, pictures(tmp_path / "a", "red"))


@pytest.mark.parametrize("file", ["../outside.png", "/etc/passwd"])
def test_an_index_cannot_point_outside(made: Path, file: str) -> None:
    index = made / bank.INDEX
    content = json.loads(index.read_text())
    content["concepts"]["dagger"]["files"] = {file: "0" * 64}
    index.write_text(json.dumps(content))
    with pytest.raises(BadFile, match="damaged"):
        bank.Bank.load(made)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tadasu_bank": 9, "concepts": {}}'])
def test_a_damaged_index_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / bank.INDEX).write_text(text)
    with pytest.raises(BadFile):
        bank.Bank.load(tmp_path)


def test_no_bank_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="concepts add"):
        bank.Bank.load(tmp_path)


def test_the_world_has_a_bank_with_its_artwork_named() -> None:
    from tadasu import world

    found = bank.Bank.load(world.bank())
    assert {"dagger", "sake", "goblin"} <= set(found.find(["weapons", "alcohol", "gore_horror"]))
    assert len(found.harmless) >= 24
    assert all(len(each.files) >= 6 and each.source for each in found.concepts.values())
    assert found.images("dagger", most=2)[0].size == (32, 32)
