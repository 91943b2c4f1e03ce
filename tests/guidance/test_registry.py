from __future__ import annotations

import subprocess
import sys

import pytest

from tadasu.errors import BadInput, UnknownName
from tadasu.guidance.registry import DEFAULT, find, names, parse


def test_listing_rules_does_not_import_torch() -> None:
    code = (
        "import sys; from tadasu.guidance import names; assert 'sld' in names(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "text",
    ["sld:strong,warmup=0.1", "sld:preset=strong,warmup=0.1", " sld : strong , warmup = 0.1"],
)
def test_a_preset_may_be_changed(text: str) -> None:
    rule = parse(text)
    assert rule.parameters()["warmup"] == 0.1
    assert rule.parameters()["scale"] == 2000


def test_keys_before_the_preset_win_as_well() -> None:
    assert parse("sld:warmup=0.1,preset=strong") == parse("sld:strong,warmup=0.1")


def test_values_have_the_types_of_their_fields() -> None:
    values = parse("sega:scale=3,joined=no").parameters()
    assert values["scale"] == 3.0
    assert values["joined"] is False


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("slld", UnknownName, "Did you mean sld"),
        ("", UnknownName, "Known"),
        ("sld:stong", UnknownName, "Did you mean strong"),
        ("sld:scal=3", UnknownName, "Did you mean scale"),
        ("sld:scale=3,strong", BadInput, "not key=value"),
        ("sld:scale=many", BadInput, "must be a number"),
        ("sld:scale=nan", BadInput, "finite"),
        ("sld:scale=1e400", BadInput, "finite"),
        ("sld:warmup=2", BadInput, "from 0 to 1"),
        ("sega:joined=perhaps", BadInput, "true or false"),
        ("detector:score=mine", BadInput, "set it in Python"),
        ("dng:base=guidd", UnknownName, "Did you mean guided"),
    ],
)
def test_what_cannot_be_read(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse(text)


def test_every_name_is_found() -> None:
    assert DEFAULT in names()
    assert all(find(name).name == name for name in names())
