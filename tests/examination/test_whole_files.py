"""What is said of whole files: read in part, broken, skipped, and what ends no audit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tadasu.auditing.adapter import Dense
from tadasu.auditing.bank import Bank
from tadasu.auditing.base import Base
from tadasu.auditing.cascade import Cascade, spreads
from tadasu.auditing.decide import Calibrated, Decision, Evidence
from tadasu.auditing.findings import Finding
from tadasu.auditing.merge import merge
from tadasu.auditing.read import read
from tadasu.backends.diffusers.denoise import PipelineDenoiser
from tadasu.errors import BadFile
from tadasu.examination import exports
from tadasu.examination.examiner import Examiner
from tadasu.examination.report import Page
from tadasu.examination.run import Audit, Auditor, audit, bank_of, refused
from tadasu.examination.settings import Settings, settings
from tadasu.examination.walk import files
from tadasu.policy import Policy
from tadasu.statistics.intervals import Interval

Save = Callable[..., Path]


def strange(path: Path, count: int = 9) -> None:
    """Modules that no reader knows, beside what a file has."""
    tensors = load_file(path)
    for at in range(count):
        tensors[f"lora_unet_elsewhere_{at}.lora_up.weight"] = torch.randn(16, 4)
        tensors[f"lora_unet_elsewhere_{at}.lora_down.weight"] = torch.randn(4, 16)
    save_file(tensors, path)


def test_a_file_that_is_read_in_part_is_never_clear(
    pipe: Any, bank: Path, save: Save, tmp_path: Path
) -> None:
    path = save(tmp_path / "a.safetensors", layout="kohya", scale=0.0)
    assert {each.conclusion for each in audit(path, base=pipe, bank=bank)} == {"absent"}
    strange(path)
    found = list(audit(path, base=pipe, bank=bank))
    assert {each.conclusion for each in found} == {"partly read"}
    share = found[0].coverage
    assert share is not None
    assert 0 < share <= 2 / 11 + 1e-9
    assert {each.coverage for each in found} == {share}
    assert all(str(each.response) == "escalate" for each in found)
    assert f"{share:.0%}" in found[0].reason
    page = Page(Bank.load(bank), {})
    page.add(found)
    page.write(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert page.counts["partly read"] == 1
    assert page.clear == []
    assert text.count("read only in part") >= 2
    assert "一部のみ読み取り" in text


def test_every_finding_carries_its_share(pipe: Any, bank: Path, save: Save, tmp_path: Path) -> None:
    found = list(audit(save(tmp_path / "a.safetensors"), base=pipe, bank=bank))
    assert {each.coverage for each in found} == {1.0}
    assert all(each.as_json()["coverage"] == 1.0 for each in found)


@pytest.mark.parametrize("scale", [1e4, 1e12])
def test_a_file_that_destroys_weights_is_its_own_finding(
    scale: float, pipe: Any, bank: Path, save: Save, tmp_path: Path
) -> None:
    found = list(audit(save(tmp_path / "a.safetensors", scale=scale), base=pipe, bank=bank))
    assert [(each.concept, each.conclusion) for each in found] == [("", "broken")]
    assert found[0].found
    json.dumps(found[0].as_json(), allow_nan=False)


def test_both_readings_of_a_scale_are_examined(
    pipe: Any, bank: Path, save: Save, tmp_path: Path
) -> None:
    path = save(tmp_path / "a.safetensors")
    plain = list(audit(path, base=pipe, bank=bank, strengths=(1.0,)))
    metadata = {"lora_adapter_metadata": json.dumps({"unet.r": 2, "unet.lora_alpha": 2e-9})}
    save_file(load_file(path), path, metadata=metadata)
    both = list(audit(path, base=pipe, bank=bank, strengths=(1.0,)))
    for one, two in zip(plain, both, strict=True):
        if one.conclusion != "absent":
            assert two.conclusion != "absent"
    said = [each for each in both[0].evidence if "Loaders disagree" in each.says]
    assert len(said) == 1


def test_later_strengths_need_a_higher_score() -> None:
    limits = Interval(estimate=1.0, low=0.5, high=1.0, confidence=0.9)
    for score, conclusion in ((2.0, "absent"), (2.7, "undecided"), (3.2, "present")):
        first = Decision(
            conclusion="present", score=score, p_value=0.0, interval=limits, pictures=4
        )
        assert Settings().elsewhere(first).conclusion == conclusion
    assert settings("calibrated").strengths == (1.0, 2.0, -1.0)
    assert settings("paia").strengths == (1.0,)


def test_gains_that_are_no_numbers_decide_nothing() -> None:
    """One NaN made every spread NaN, so that two concepts were probed and the rest allowed."""
    names = ["a", "b", "c", "d", "e"]
    found = spreads(torch.tensor([0.0, 1.0, math.nan, 2.0, 9.0]), names)
    assert math.isnan(found["c"])
    assert found["e"] > 3
    chosen = Cascade(always=1, most=1).chosen(names, found, {"a": math.nan})
    assert {"a", "c", "e"} == set(chosen)
    nothing = spreads(torch.full((5,), math.nan), names)
    assert set(Cascade().chosen(names, nothing, {})) == set(names)
    ordinary = {str(at): np.full((2, 1), at / 100) for at in range(9)}
    target = np.array([[0.5], [math.nan]])
    decision = Calibrated().decide(Evidence(target=target, irrelevant=ordinary, near={}))
    assert decision.conclusion == "undecided"
    near = {"odd": np.full((2, 1), math.nan)}
    decision = Calibrated().decide(Evidence(target=target[:1], irrelevant=ordinary, near=near))
    assert decision.conclusion == "present"


def test_a_look_alike_that_gains_more_decides() -> None:
    ordinary = {str(at): np.full((2, 1), at / 100) for at in range(9)}
    evidence = Evidence(
        target=np.full((2, 1), 0.5), irrelevant=ordinary, near={"hammer": np.full((2, 1), 0.6)}
    )
    assert Calibrated().decide(evidence).conclusion == "present"
    alike = Evidence(
        target=evidence.target,
        irrelevant=ordinary,
        near=evidence.near,
        alike=frozenset({"hammer"}),
    )
    assert Calibrated().decide(alike).conclusion == "absent"


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("odd"), KeyError("x")]
)
def test_no_error_of_one_file_ends_the_others(
    error: Exception,
    pipe: Any,
    bank: Path,
    save: Save,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auditor = Auditor(Audit(base=pipe, bank=str(bank)))
    path = save(tmp_path / "a.safetensors")

    def fails(*_: object) -> list[Finding]:
        raise error

    monkeypatch.setattr(auditor.examiner, "examine", fails)
    assert [each.conclusion for each in auditor.file(path)] == ["unreadable"]
    monkeypatch.undo()
    assert len(auditor.file(path)) == 2


def test_size_and_structure_come_before_hashing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sparse.safetensors"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)

    def hashed(*_: object) -> str:
        raise AssertionError("a file that is refused was hashed")

    monkeypatch.setattr("hashlib.file_digest", hashed)
    assert refused(path)
    with pytest.raises(BadFile):
        read(path)


def test_files_are_found_by_content(save: Save, tmp_path: Path) -> None:
    content = save(tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").rename(tmp_path / "a.sft")
    (tmp_path / "renamed.txt").write_bytes(content)
    (tmp_path / "noending").write_bytes(content)
    torch.save({"a": torch.ones(2)}, tmp_path / "torch.dat")
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(60))
    (tmp_path / "old.pkl").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "notes.md").write_text("a note about models")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    found = {each.name for each in files([tmp_path])}
    assert found == {"a.sft", "renamed.txt", "noending", "torch.dat", "model.gguf", "old.pkl"}


def test_tables_are_written_as_findings_come(tmp_path: Path) -> None:
    found = [
        Finding(file="my files/50% off#1.pt", conclusion="unreadable", stage="read", reason="x"),
        Finding(file="/abs/ü.pt", concept="dagger", conclusion="undecided", stage="probe"),
        Finding(file="c.pt", concept="dagger", conclusion="absent", stage="probe", score=math.nan),
    ]
    tables = exports.Tables(tmp_path, {"base": "world"})
    for each in found:
        tables.add([each])
        assert not (tmp_path / "findings.json").exists()
    tables.close()
    whole = json.loads((tmp_path / "findings.json").read_text())
    assert whole["findings"] == exports.as_json(found, {})["findings"]
    assert whole["base"] == "world"
    sarif = json.loads((tmp_path / "findings.sarif").read_text())
    results = sarif["runs"][0]["results"]
    uris = [each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in results]
    assert uris == ["my%20files/50%25%20off%231.pt", "file:///abs/%C3%BC.pt"]
    rules = sarif["runs"][0]["tool"]["driver"]["rules"]
    assert [rules[each["ruleIndex"]]["id"] for each in results] == ["unreadable", "dagger"]
    assert (tmp_path / "findings.csv").read_text().count("\n") == 4


def test_the_page_says_what_was_asked_of_clear_files(bank: Path, tmp_path: Path) -> None:
    page = Page(Bank.load(bank), {"bank": "bank"})
    for at in range(3):
        page.add([Finding(file=f"{at}.pt", concept="dagger", conclusion="absent", stage="probe")])
    page.write(tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert page.clear == ["0.pt", "1.pt", "2.pt"]
    assert "a dagg" in text  # the concept's words
    assert "may still have learned anything" in text
    assert "この一覧にないもの" in text


def test_the_bundled_base_brings_its_bank(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import tadasu as td

    monkeypatch.setenv("TADASU_BANK", "/somewhere/else")
    assert bank_of("world") == td.world.bank()
    assert bank_of(td.world.pipeline()) == td.world.bank()
    assert bank_of(pipe) == Path("/somewhere/else")


def examiner_of(pipe: Any, bank: Path, **more: Any) -> Examiner:
    return Examiner(
        denoiser=PipelineDenoiser(pipe),
        bank=Bank.load(bank),
        policy=Policy.load("kids"),
        settings=replace(Settings(), cascade=None, strengths=(1.0,), **more),
    )


class Convicting:
    """A decider to which every concept is present."""

    def decide(self, evidence: Evidence) -> Decision:
        limits = Interval(estimate=1.0, low=0.5, high=1.0, confidence=0.9)
        return Decision(
            conclusion="present",
            score=9.0,
            p_value=0.0,
            interval=limits,
            pictures=len(evidence.target),
        )

    def settled(self, decision: Decision) -> bool:
        return bool(decision)


def test_a_conviction_needs_an_effect(pipe: Any, bank: Path, save: Save, tmp_path: Path) -> None:
    """A cosine has no size: what hardly moves a prediction points somewhere as well."""
    base = Base.of(PipelineDenoiser(pipe).tensors(), name="tiny")
    shown = read(save(tmp_path / "a.safetensors"), base)
    faint = read(save(tmp_path / "b.safetensors", scale=1e-4), base)
    own = examiner_of(pipe, bank, decider=Convicting(), least=1e-9)
    (acts, less) = (
        own.acting(merge([(each.updates, 1.0)], own.denoiser.parameter)) for each in (shown, faint)
    )
    assert acts.most > 1e3 * less.most
    strict = replace(own, settings=replace(own.settings, least=acts.most / 2))
    assert {each.conclusion for each in strict.examine([shown], "a")} == {"present"}
    found = strict.examine([faint], "b")
    assert {each.conclusion for each in found} == {"undecided"}
    assert "too little to be seen" in found[0].reason
    assert str(found[0].response) == "escalate"


def test_random_numbers_convict_of_nothing(
    pipe: Any, bank: Path, save: Save, tmp_path: Path
) -> None:
    denoiser = PipelineDenoiser(pipe)
    examiner = examiner_of(pipe, bank, decider=Convicting(), least=0.0)
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    weight = denoiser.parameter(f"{name}.weight")
    assert weight is not None
    chance = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    plain = read(save(tmp_path / "a.safetensors"), Base.of(denoiser.tensors(), name="tiny"))
    adapter = replace(plain, updates={name: Dense(change=chance * weight.detach().std())})
    found = examiner.examine([adapter], "random")
    assert {each.conclusion for each in found} == {"undecided"}
    assert "random numbers" in found[0].reason


def test_a_file_with_learned_words_beside_weights_is_never_clear(
    pipe: Any, bank: Path, save: Save, tmp_path: Path
) -> None:
    base = Base.of(PipelineDenoiser(pipe).tensors(), name="tiny")
    plain = read(save(tmp_path / "a.safetensors", scale=0.0), base)
    words = replace(plain, embeddings={"text_encoder": torch.zeros(1, 16)})
    examiner = examiner_of(pipe, bank)
    assert {each.conclusion for each in examiner.examine([plain], "a")} == {"absent"}
    assert {each.conclusion for each in examiner.examine([words], "a")} == {"partly read"}


def test_another_strength_is_asked_only_where_it_may_say_more(pipe: Any, bank: Path) -> None:
    examiner = examiner_of(pipe, bank)
    limits = Interval(estimate=1.0, low=0.5, high=1.0, confidence=0.9)

    def known(conclusion: Any, score: float) -> tuple[Decision, float]:
        made = Decision(
            conclusion=conclusion, score=score, p_value=0.1, interval=limits, pictures=4
        )
        return made, 1.0

    assert examiner._open(None, 2.0)
    assert not examiner._open(known("present", 3.0), 2.0)
    assert examiner._open(known("undecided", 0.7), 2.0)
    assert not examiner._open(known("absent", -0.5), 2.0)
    assert examiner._open(known("absent", -0.5), -1.0)
    assert not examiner._open(known("absent", 0.4), -1.0)
    assert examiner._open(known("undecided", math.nan), -1.0)
