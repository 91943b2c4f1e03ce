"""Whole audits on a tiny model: layouts, zero, bad files, stopping and going on, the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tadasu.auditing.findings import Finding
from tadasu.errors import BadFile, BadInput, UnknownName
from tadasu.examination.run import Audit, Auditor, audit

Save = Callable[..., Path]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Base predictions and gradients that the tests of this file share."""
    return tmp_path_factory.mktemp("kept")


def without_names(finding: Finding) -> dict[str, Any]:
    plain = finding.as_json()
    for name in ("file", "digest", "seconds"):
        plain.pop(name)
    return plain


def test_every_layout_gives_the_same_finding(
    pipe: Any, bank: Path, save: Save, tmp_path: Path, kept: Path
) -> None:
    auditor = Auditor(Audit(base=pipe, bank=str(bank), folder=str(kept)))
    found = {
        layout: auditor.file(save(tmp_path / f"{layout}.safetensors", layout))
        for layout in ("diffusers", "kohya", "peft", "comfyui")
    }
    assert {finding.stage for finding in found["kohya"]} <= {"probe", "first_order"}
    wanted = [without_names(finding) for finding in found["diffusers"]]
    assert [each["concept"] for each in wanted] == ["dagger", "sake"]
    assert any(each["score"] for each in wanted)
    for layout in ("kohya", "peft", "comfyui"):
        for one, two in zip(wanted, map(without_names, found[layout]), strict=True):
            assert one["conclusion"] == two["conclusion"]
            assert one["evidence"] == two["evidence"] or layout == "kohya"
            assert one["score"] == pytest.approx(two["score"], rel=1e-3)


def test_a_file_of_zeros_is_clear_with_score_zero(
    pipe: Any, bank: Path, save: Save, tmp_path: Path, kept: Path
) -> None:
    path = save(tmp_path / "zero.safetensors", scale=0.0)
    found = list(audit(path, base=pipe, bank=bank, folder=kept))
    assert [each.conclusion for each in found] == ["absent", "absent"]
    assert {each.score for each in found} == {0.0}
    assert {str(each.response) for each in found} == {"allow"}


def test_the_pipeline_is_left_as_it_was(
    pipe: Any, bank: Path, save: Save, tmp_path: Path, kept: Path
) -> None:
    before = {name: (id(p), p.clone()) for name, p in pipe.unet.named_parameters()}
    save(tmp_path / "a.safetensors")
    list(audit(tmp_path, base=pipe, bank=bank, folder=kept))
    for name, parameter in pipe.unet.named_parameters():
        assert id(parameter) == before[name][0]
        assert torch.equal(parameter, before[name][1])


def test_bad_files_are_findings_and_the_others_go_on(
    pipe: Any, bank: Path, save: Save, tmp_path: Path, kept: Path
) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 64)
    save(tmp_path / "b.safetensors")
    (tmp_path / "c.safetensors").symlink_to(tmp_path / "b.safetensors")
    (tmp_path / "d.pt").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    told: list[tuple[int, int]] = []
    found = list(
        audit(
            tmp_path,
            base=pipe,
            bank=bank,
            folder=kept,
            progress=lambda file, findings, done, total: told.append((done, total)),
        )
    )
    by_file: dict[str, list[Finding]] = {}
    for each in found:
        by_file.setdefault(Path(each.file).name, []).append(each)
    for name in ("a.safetensors", "c.safetensors", "d.pt"):
        (only,) = by_file[name]
        assert (only.conclusion, str(only.response)) == ("unreadable", "withhold")
        assert only.reason
    assert len(by_file["b.safetensors"]) == 2
    assert told == [(at, 4) for at in (1, 2, 3, 4)]


def test_a_file_for_another_base_is_unreadable(pipe: Any, bank: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {
        f"{name}.lora_A.weight": torch.ones(2, 999),
        f"{name}.lora_B.weight": torch.ones(7, 2),
    }
    save_file(tensors, tmp_path / "wrong.safetensors")
    (found,) = audit(tmp_path / "wrong.safetensors", base=pipe, bank=bank)
    assert found.conclusion == "unreadable"


def test_an_audit_goes_on_where_it_was_stopped(
    pipe: Any, bank: Path, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, shared = tmp_path / "kept", tmp_path / "shared"
    shared.mkdir()
    for at in range(3):
        save(shared / f"{at}.safetensors", scale=1.0 + at)
    seen: list[str] = []
    real = Auditor.files

    def counted(self: Auditor, paths: Any, label: str) -> list[Finding]:
        seen.append(label)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(self, paths, label)

    monkeypatch.setattr(Auditor, "files", counted)
    with pytest.raises(KeyboardInterrupt):
        list(audit(shared, base=pipe, bank=bank, folder=folder))
    monkeypatch.setattr(Auditor, "files", real)
    from tadasu.examination.examiner import Examiner

    examined: list[str] = []
    inner = Examiner.examine

    def watched(self: Examiner, adapters: Any, label: str) -> list[Finding]:
        examined.append(Path(label).name)
        return inner(self, adapters, label)

    monkeypatch.setattr(Examiner, "examine", watched)
    (shared / "0.safetensors").rename(shared / "renamed.safetensors")
    found = list(audit(shared, base=pipe, bank=bank, folder=folder))
    assert examined == ["2.safetensors"]
    assert {Path(each.file).name for each in found} == {
        "1.safetensors", "2.safetensors", "renamed.safetensors",
    }  # fmt: skip


def test_files_that_are_used_together_are_one(
    pipe: Any, bank: Path, save: Save, tmp_path: Path, kept: Path
) -> None:
    halves = [save(tmp_path / f"{at}.safetensors", scale=0.5) for at in (1, 2)]
    whole = save(tmp_path / "whole.safetensors")
    both = list(audit(halves, base=pipe, bank=bank, folder=kept, together=True))
    one = list(audit(whole, base=pipe, bank=bank, folder=kept))
    assert [each.score for each in both] == pytest.approx([each.score for each in one], rel=1e-3)
    assert " + " in both[0].file


def test_strength_two_is_the_file_twice(
    pipe: Any, bank: Path, save: Save, tmp_path: Path, kept: Path
) -> None:
    half = save(tmp_path / "half.safetensors", scale=0.5)
    whole = save(tmp_path / "whole.safetensors")
    twice = list(audit(half, base=pipe, bank=bank, folder=kept, strengths=(2.0,)))
    once = list(audit(whole, base=pipe, bank=bank, folder=kept, strengths=(1.0,)))
    assert [each.score for each in twice] == pytest.approx([each.score for each in once], rel=1e-3)
    assert {each.strength for each in twice if each.stage == "probe"} == {2.0}


def test_the_published_preset_runs(pipe: Any, bank: Path, save: Save, tmp_path: Path) -> None:
    found = list(
        audit(
            save(tmp_path / "a.safetensors"), base=pipe, bank=bank, preset="paia", concepts=["sake"]
        )
    )
    assert [(each.concept, each.stage) for each in found] == [("sake", "probe")]
    assert found[0].conclusion in ("present", "absent")


def test_mistakes_are_told(pipe: Any, bank: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFile):
        list(audit(tmp_path / "none", base=pipe, bank=bank))
    with pytest.raises(BadInput, match="No shared files"):
        list(audit(tmp_path, base=pipe, bank=bank))
    (tmp_path / "a.pt").write_bytes(b"")
    with pytest.raises(UnknownName):
        list(audit(tmp_path, base=pipe, bank=bank, concepts=["pistol"]))
    with pytest.raises(BadInput, match="no concept of the policy"):
        list(audit(tmp_path, base=pipe, bank=bank, policy="observe"))
    with pytest.raises(UnknownName):
        list(audit(tmp_path, base=pipe, bank=bank, engine="dask"))  # type: ignore[arg-type]


def test_the_command_writes_the_report_and_exits_with_1(
    pipe: Any,
    bank: Path,
    save: Save,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from tadasu.cli.app import run

    pipe.save_pretrained(tmp_path / "model")
    shared = tmp_path / "shared"
    shared.mkdir()
    save(shared / "zero.safetensors", scale=0.0)
    base = ["--base", str(tmp_path / "model"), "--bank", str(bank), "--json"]
    assert run(["audit", str(shared), *base]) == 0
    assert json.loads(capsys.readouterr().out)["findings"][0]["conclusion"] == "absent"
    (shared / "broken.safetensors").write_bytes(b"\x00" * 9)
    report = tmp_path / "report"
    assert run(["audit", str(shared), *base, "--report", str(report)]) == 1
    out = capsys.readouterr()
    assert "unreadable" in out.out
    assert "files a minute" in out.err
    assert {"report.html", "findings.csv", "findings.sarif"} <= {p.name for p in report.iterdir()}
    assert run(["audit", str(tmp_path / "nothing"), *base]) == 2


def test_concepts_are_added_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    from tadasu.cli.app import run

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (9, 9)).save(pictures / "a.png")
    own = ["--bank", str(tmp_path / "bank")]
    assert run(["concepts", "add", "dagger", "--images", str(pictures), *own]) == 0
    assert run(["concepts", "list", "--json", *own]) == 0
    assert "dagger" in json.loads(capsys.readouterr().out)["concepts"]
    assert run(["concepts", "list", "--bank", str(tmp_path / "none")]) == 2


def test_a_copy_of_a_known_file_is_told(
    pipe: Any, bank: Path, save: Save, tmp_path: Path, kept: Path
) -> None:
    from tadasu.auditing.lineage import sketch
    from tadasu.auditing.lineage_index import Index
    from tadasu.auditing.read import read

    bad = read(save(tmp_path / "bad.safetensors"))
    index = Index.of([sketch(bad)], ["the banned one"], "decision 7")
    index.save(tmp_path / "known.safetensors")
    copy = save(tmp_path / "copy.safetensors", "kohya", scale=0.3)
    question: dict[str, Any] = {"base": pipe, "bank": bank, "folder": kept}
    first, *rest = audit(copy, known=tmp_path / "known.safetensors", **question)
    assert (first.stage, first.conclusion, first.concept) == (
        "lineage",
        "present",
        "the banned one",
    )
    assert "decision 7" in first.reason
    assert len(rest) == 2
    assert len(list(audit(copy, **question))) == 2


def test_a_text_encoder_is_interrogated(pipe: Any, bank: Path, tmp_path: Path, kept: Path) -> None:
    from safetensors.torch import save_file

    name = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{name}.lora_A.weight": torch.randn(2, 16, generator=generator),
        f"{name}.lora_B.weight": torch.randn(16, 2, generator=generator),
    }
    save_file(tensors, tmp_path / "words.safetensors")
    found = list(audit(tmp_path / "words.safetensors", base=pipe, bank=bank, folder=kept))
    said = [each for each in found[0].evidence if each.stage == "text_encoder"]
    assert len(said) == 1
    assert said[0].says.startswith("Words whose meaning it changed most: ")
