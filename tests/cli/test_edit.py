from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tadasu.cli.app import run
from tadasu.cli.edit_make import lines
from tadasu.editing import artefact
from tadasu.errors import BadFile
from tadasu.policy import Policy

Say = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny Stable Diffusion pipeline of random weights."""
    from string import ascii_lowercase

    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
    from diffusers import UNet2DConditionModel as UNet
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    letters = [*ascii_lowercase, *(f"{letter}</w>" for letter in ascii_lowercase)]
    pieces = [*letters, "<|startoftext|>", "<|endoftext|>"]
    text = CLIPTextConfig(
        vocab_size=54, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=16, bos_token_id=52, eos_token_id=53,
        pad_token_id=53,
    )  # fmt: skip
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL(
            block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, sample_size=16,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer(
            vocab={p: n for n, p in enumerate(pieces)}, merges=[], model_max_length=16
        ),
        unet=UNet(
            sample_size=8, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
            cross_attention_dim=16, attention_head_dim=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture
def say(model: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run ``tadasu edit … --json`` on the tiny model; exit code and document."""

    def run_it(*words: str, with_model: bool = True) -> tuple[int, Any]:
        more = ["--model", str(model)] if with_model else []
        code = run(["edit", *words, *more, "--json"])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else None

    return run_it


def test_from_words_to_file_to_model(say: Say, tmp_path: Path) -> None:
    captions = tmp_path / "captions.csv"
    captions.write_text("id,prompt\n1,a red dog\n2,a blue cat\n", encoding="utf-8")
    prior, file = tmp_path / "prior.safetensors", tmp_path / "gone.safetensors"
    measured = say("prior", str(captions), "--out", str(prior))[1]
    assert measured["captions"] == 2
    assert measured["sites"]["context"]["rows"] == 2 * 16
    named = say("prior", str(captions), "--out", str(tmp_path))[1]["file"]
    assert len(Path(named).stem) == 16
    code, made = say(
        "erase", "pistol", "--preserve", "cat", "--prior", str(prior), "--out", str(file)
    )
    assert code == 0
    assert (made["name"], made["concepts"]) == ("gone", ["pistol"])
    code, shown = say("show", str(file), with_model=False)
    assert code == 0
    assert {**shown, "file": ""} == {**made, "file": ""}
    code, _ = say("check", str(file), "--residual", "0.999", "--drift", "10")
    assert code == 0
    assert say("check", str(file), "--residual", "1e-9")[0] == 1
    code, page = say(
        "preview", str(file), "a pistol", "--steps", "1", "--out", str(tmp_path / "p.html")
    )
    assert code == 0
    assert page["pairs"][0]["distance"] > 0
    assert "class=hidden" in (tmp_path / "p.html").read_text()
    assert page["seen"] == {}, "nobody judges another model than the bundled one unasked"
    lora = tmp_path / "lora.safetensors"
    assert say("export", str(file), "--format", "kohya", "--out", str(lora))[0] == 0
    assert lora.stat().st_size > 0
    assert say("apply", str(file), "--out", str(tmp_path / "safer"))[0] == 0
    code, _ = say("apply", str(file), "--out", str(tmp_path / "safer"))
    assert code == 2, "a folder that is not empty is left alone"


def test_replace_moderate_and_debias(say: Say, tmp_path: Path) -> None:
    out = str(tmp_path / "e.safetensors")
    assert say("replace", "pistol=toy", "--out", out)[1]["recipe"]["targets"][0]["anchor"] == "toy"
    code, made = say("debias", "doctor", "woman=0.2", "--tokens", "last", "--out", out)
    assert code == 0
    assert made["recipe"]["targets"][0]["attributes"] == {"woman": 0.2}
    assert made["recipe"]["reading"]["tokens"] == "last"
    code, made = say("moderate", "weapons", "--out", out)
    assert code == 0
    (target,) = made["recipe"]["targets"]
    weapons = next(c for c in Policy.load("kids").concepts if c.hazard == "weapons")
    assert target["texts"] == [name for names in weapons.names.values() for name in names]
    assert {"en", "ja"} <= weapons.names.keys()
    code, made = say("moderate", "no-such-hazard", "--out", out)
    assert (code, made) == (2, None)


@pytest.mark.parametrize(
    "words",
    [
        ("erase", " "),
        ("erase", "pistol", "--preserve", "pistol"),
        ("erase", "pistol", "--solver", "uec"),
        ("erase", "pistol", "--tokens", "first"),
        ("erase", "pistol", "--anchor", "mean"),
        ("replace", "pistol"),
        ("debias", "doctor", "woman=much"),
    ],
)
def test_bad_input_writes_nothing(say: Say, tmp_path: Path, words: tuple[str, ...]) -> None:
    code, document = say(*words, "--out", str(tmp_path / "e.safetensors"))
    assert (code, document) == (2, None)
    assert not list(tmp_path.iterdir())


def test_suggest_reads_a_log(say: Say, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    rows = ["a cat,,", *["a pistol,no-such-concept,yes"] * 20]
    log.write_text("prompt,concept,flagged\n" + "\n".join(rows), encoding="utf-8")
    assert say("suggest", str(log))[0] == 2, "the policy has no such concept"
    log.write_text("prompt,concept,flagged\na cat,,\n", encoding="utf-8")
    assert say("suggest", str(log)) == (0, {"targets": []})
    rows = ["a cat,,", *["a beer,alcohol,yes"] * 20]
    log.write_text("prompt,concept,flagged\n" + "\n".join(rows), encoding="utf-8")
    file = tmp_path / "mended.safetensors"
    code, document = say("suggest", str(log), "--out", str(file))
    assert code == 0
    (target,) = document["targets"]
    assert (target["concept"], target["strength"], target["leak"]) == ("alcohol", 1.0, 1.0)
    assert 0 <= target["leak_expected"] < 1
    assert document["preserve"] == ["a cat"]
    assert say("show", str(file), with_model=False)[1]["concepts"] == ["alcohol"]
    assert say("suggest", str(log), "--out", str(tmp_path / "mended.bin"))[0] == 2
    log.write_text("prompt,concept,flagged\na cat,,perhaps\n", encoding="utf-8")
    assert say("suggest", str(log))[0] == 2


def test_files_of_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n two \n", encoding="utf-8")
    assert lines(tmp_path / "a.txt") == ["one", "two"]
    (tmp_path / "b.csv").write_text("x,y\n1,2\n", encoding="utf-8")
    with pytest.raises(BadFile, match="no column"):
        lines(tmp_path / "b.csv")
    (tmp_path / "c.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(BadFile, match="no text"):
        lines(tmp_path / "c.txt")
    with pytest.raises(BadFile, match="Cannot read"):
        lines(tmp_path / "d.txt")


def test_a_folded_model_keeps_its_number_formats_and_permissions(tmp_path: Path, say: Say) -> None:
    from tadasu.backends.diffusers.load import stored_dtypes
    from tadasu.references import located

    file, out = tmp_path / "edit.safetensors", tmp_path / "safer"
    assert run(["edit", "erase", "pistol", "--out", str(file)]) == 0
    assert run(["edit", "apply", str(file), "--out", str(out)]) == 0
    kept = stored_dtypes(str(out))
    assert kept == stored_dtypes(located("world", "pipeline"))
    assert set(kept.values()) == {torch.float16}
    ordinary = tmp_path / "new"
    ordinary.touch()
    files = [file, *(each for each in out.rglob("*") if each.is_file())]
    assert {each.stat().st_mode for each in files} == {ordinary.stat().st_mode}


def test_show_prints_what_was_asked_and_the_file_is_small(
    say: Say, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gone.safetensors"
    asked = ("erase", "pistol", "bomb", "--preserve", "cat", "--solver", "uce")
    assert say(*asked, "--out", str(file))[0] == 0
    assert run(["edit", "show", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "concepts: pistol, bomb" in printed
    assert "preserved: cat" in printed
    found = artefact.load(file)
    assert found.maps["context"].rank < 2 * 16  # type: ignore[union-attr]
    with safe_open(str(file), framework="pt") as opened:
        assert opened.get_tensor("context.A").dtype == torch.float32


def test_the_check_measures_in_sentences_that_were_not_solved_for(say: Say, tmp_path: Path) -> None:
    """On the solved ones every residual repeats the solver's tolerance, 0.1."""
    file = str(tmp_path / "gone.safetensors")
    assert say("erase", "pistol", "bomb", "--solver", "uce", "--out", file)[0] == 0
    found = say("check", file)[1]["sites"]["context"]["residual"]
    assert set(found) == {"pistol", "bomb"}
    assert all(abs(left - 0.1) > 0.02 for left in found.values())


def test_pictures_are_refused_where_none_could_pass(say: Say, tmp_path: Path) -> None:
    file = str(tmp_path / "gone.safetensors")
    assert say("erase", "pistol", "--out", file)[0] == 0
    assert say("check", file, "--pictures", "3", "--judge", "world")[0] == 2


@pytest.mark.slow
def test_pictures_tell_an_edit_that_erases_from_one_that_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The documented erase, judged on prompts that it was not solved for."""
    file = tmp_path / "gone.safetensors"
    erase = ["edit", "erase", "pistol", "--preserve", "cat face", "--out", str(file)]
    assert run(erase) == 0
    capsys.readouterr()

    def seen() -> dict[str, Any]:
        words = ["edit", "check", str(file), "--residual", "1", "--pictures", "12", "--json"]
        code = run(words)
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert code == int(bool(document["short"]))
        found: dict[str, Any] = document["pictures"]["changed pistol"]
        return found

    erased = seen()
    assert erased["before"]["n"] == erased["after"]["n"] >= 12
    assert erased["after"]["count"] < erased["before"]["count"] / 2
    edit = artefact.load(file)
    weak = {site: part.strength(0.01) for site, part in edit.plain_maps().items()}
    artefact.save(replace(edit, maps=weak), file)
    kept = seen()
    assert not kept["passed"]
    assert kept["after"]["count"] > erased["after"]["count"]
