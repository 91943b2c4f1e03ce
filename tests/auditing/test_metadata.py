"""Claims are read, cut, cleaned and never trusted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadasu.auditing.metadata import LONGEST, MOST_TAGS, clean, declared_family, parse, tags


def test_a_file_of_kohya() -> None:
    raw = {
        "ss_output_name": "my style",
        "ss_base_model_version": "sd_v1",
        "ss_sd_model_name": "v1-5-pruned.safetensors",
        "ss_new_sd_model_hash": "abc",
        "sshs_model_hash": "def",
        "ss_tag_frequency": json.dumps({"2_a": {"cat": 4, "sofa": 9}, "1_b": {"cat": 6}}),
        "modelspec.trigger_phrase": "ohwx cat",
    }
    found = parse(raw)
    assert (found.title, found.family, found.base_hash) == ("my style", "sd1", "abc")
    assert found.tags == (("cat", 10), ("sofa", 9))
    assert found.triggers == ("ohwx cat",)
    assert found.hashes == {"ss_new_sd_model_hash": "abc", "sshs_model_hash": "def"}
    assert found.dropped == ("ss_tag_frequency",)
    assert "ss_tag_frequency" not in found.claims


@pytest.mark.parametrize(
    ("raw", "family"),
    [
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "sdxl"),
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "sd1"),
        ({"modelspec.architecture": "stable-diffusion-v2-768-v/lora"}, "sd2"),
        ({"modelspec.architecture": "stable-diffusion-3-medium/lora"}, "sd3"),
        ({"modelspec.architecture": "Flux.1-dev/lora"}, "flux"),
        ({"ss_base_model_version": "sd_1.5"}, "sd1"),
        ({"ss_sd_model_name": "ponyDiffusionV6XL.safetensors"}, "sdxl"),
        ({"ss_v2": "False", "ss_base_model_version": "unheard of"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_declared_families(raw: dict[str, str], family: str) -> None:
    assert declared_family(raw) == family


@pytest.mark.parametrize(
    "document", ["", "{", "[1]", "3", '{"a": 3}', '{"a": {"b": "c"}}', "[" * 100_000, "null"]
)
def test_damaged_tags_are_none(document: str) -> None:
    assert tags(document) == ()


def test_many_and_odd_tags_are_bounded() -> None:
    many = {f"t{n}": n + 1 for n in range(1000)}
    assert len(tags(json.dumps({"a": many}))) == MOST_TAGS
    odd = {"a": {"x": -1, "y": True, "z": 10**15, "w\u202e\x1b": 2}}
    assert tags(json.dumps(odd)) == (("w", 2),)


@given(st.text())
def test_clean_is_short_plain_and_stable(text: str) -> None:
    found = clean(text)
    assert len(found) <= LONGEST
    assert found.isprintable() or not found
    assert clean(found) == found


@given(st.dictionaries(st.text(), st.text()))
def test_no_claim_breaks_the_parser(raw: dict[str, str]) -> None:
    assert parse(raw).family
