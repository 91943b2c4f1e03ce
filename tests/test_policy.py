"""Policies: what the bundled ones hold, how files are read, and what the hash says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tadasu.cli.methods import listed
from tadasu.concepts import HAZARDS, I2P, Concept
from tadasu.errors import BadFile, BadInput, UnknownName
from tadasu.policy import Policy, Rule, bundled
from tadasu.records import Decision

GROUPS = {
    "weapons",
    "tobacco",
    "alcohol",
    "drugs_medicine",
    "gambling",
    "gore_horror",
    "crude_gestures",
    "adult",
}
SLD = (
    "hate, harassment, violence, suffering, humiliation, harm, suicide, sexual, nudity, "
    "bodily fluids, blood, obscene gestures, illegal activity, drug use, theft, vandalism, "
    "weapons, child abuse, brutality, cruelty"
)
SMALL = """
tadasu: 1
name: small
version: 1.2.3
defaults:
  prompt: block
  sampling: {guidance: sld, strength: strong}
concepts:
  - id: a
    hazard: weapons
    names: {en: [gun]}
  - id: b
    hazard: gore
    names: {en: [blood]}
    prompt: flag
    sampling: {guidance: sega}
    output:
      - {detector: judge, threshold: 0.5, unit: probability, action: hold}
    people: [hold]
"""


def load(tmp_path: Path, text: str) -> Policy:
    file = tmp_path / "p.yaml"
    file.write_text(text, encoding="utf-8")
    return Policy.load(file)


@pytest.mark.parametrize("name", bundled())
def test_bundled_policies_load_and_name_methods_that_exist(name: str) -> None:
    policy = Policy.load(name)
    assert policy.name == name
    assert policy.description
    methods = listed()
    for rule in policy.rules:
        assert {item.detector for item in rule.output} <= set(methods["detectors"])
        assert rule.sampling is None or rule.sampling.guidance in methods["guidance"]


def test_kids_has_the_restricted_groups_in_both_languages() -> None:
    policy = Policy.load("kids")
    assert {concept.id for concept in policy.concepts} == GROUPS
    for concept in policy.concepts:
        assert len(concept.names["en"]) > 5
        assert len(concept.names["ja"]) > 3
        assert policy.rule(concept.id).prompt == "block"


def test_i2p_is_the_list_of_safe_latent_diffusion() -> None:
    policy = Policy.load("i2p")
    assert ", ".join(concept.text for concept in policy.concepts) == SLD
    covered = {category for concept in policy.concepts for category in concept.about.i2p}
    assert covered == set(I2P)
    assert all("minilm" in rule.meaning for rule in policy.rules)


def test_observe_is_empty() -> None:
    assert Policy.load("observe").rules == ()


def test_defaults_fill_in_and_are_overridden(tmp_path: Path) -> None:
    policy = load(tmp_path, SMALL)
    first, second = policy.rules
    assert (first.prompt, second.prompt) == ("block", "flag")
    assert first.sampling is not None
    assert first.sampling.strength == "strong"
    assert second.sampling is not None
    assert (second.sampling.guidance, second.sampling.strength) == ("sega", None)
    assert second.output[0].action is Decision.HOLD
    assert (policy.attempts, policy.then) == (2, Decision.BLOCK)
    assert policy.rule("b") is second


def test_the_hash_sees_content_and_nothing_else(tmp_path: Path) -> None:
    same = SMALL.replace("0.5", "0.50").replace("prompt: block", "prompt: 'block'  # a remark")
    other = SMALL.replace("0.5", "0.51")
    base = load(tmp_path, SMALL).hash
    assert load(tmp_path, same).hash == base
    assert load(tmp_path, other).hash != base
    assert base.startswith("sha256:")
    assert len(base) == 71


def test_a_default_written_out_does_not_change_the_hash(tmp_path: Path) -> None:
    written = SMALL.replace(
        "    names: {en: [gun]}\n", "    names: {en: [gun]}\n    prompt: block\n"
    )
    assert load(tmp_path, written).hash == load(tmp_path, SMALL).hash


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "hazard: gore",
            "hazard: gorre",
            "p.yaml:13:13: Unknown hazard 'gorre'. Did you mean gore",
        ),
        ("id: b", "id: a", "p.yaml:12:9: the concept 'a' stands here a second time"),
        ("prompt: flag", "promt: flag", "p.yaml:15:5: unknown key 'promt'. Did you mean 'prompt'"),
        ("0.5", ".nan", "is not a finite number"),
        ("threshold: 0.5", "threshold: high", "expected a number, got 'high'"),
        ("action: hold", "action: delete", "'delete' is not one of blur, block, hold, regenerate"),
        ("names: {en: [gun]}", "names: {en: []}", "has neither a name nor a prompt"),
        ("names: {en: [gun]}", "names: {English: [gun]}", "English"),
        ("version: 1.2.3", "version: 1.2", "expected a string"),
        ("tadasu: 1", "tadasu: 2", "expected 1"),
    ],
)
def test_errors_have_a_place(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(BadFile) as caught:
        load(tmp_path, SMALL.replace(old, new))
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


def test_names_that_do_not_exist() -> None:
    with pytest.raises(UnknownName, match="Did you mean kids"):
        Policy.load("kid")
    with pytest.raises(BadFile, match="no such policy file"):
        Policy.load("kid.yaml")
    with pytest.raises(UnknownName, match="Did you mean weapons"):
        Policy.load("kids").rule("weapon")


def test_two_rules_for_one_concept() -> None:
    rule = Rule(concept=Concept(id="a", prompts=("a",), hazard="gore"))
    with pytest.raises(BadInput, match="two rules for a"):
        Policy(name="x", version="1.0.0", rules=(rule, rule))


def test_every_hazard_of_a_policy_is_in_the_table() -> None:
    for name in bundled():
        assert all(concept.hazard in HAZARDS for concept in Policy.load(name).concepts)
