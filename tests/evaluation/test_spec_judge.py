"""Every judge can be named in a document: real detectors, real models, a real server."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tadasu.cli.evaluate import surroundings
from tadasu.errors import BadFile, BadInput, MissingPart, UnknownName
from tadasu.evaluation.judge import Judge
from tadasu.evaluation.judges import cards
from tadasu.evaluation.spec import Spec
from tadasu.evaluation.spec_judge import TAKES

PICTURES = [Image.new("RGB", (64, 64), shade) for shade in ((200, 30, 30), (30, 30, 200))]
HEADER = "systems: [{name: a}]\nsuites: [explicit]\njudges:\n"


@pytest.fixture(scope="module")
def around() -> Any:
    return surroundings("cpu")


def judges(folder: Path, around: Any, text: str) -> list[Judge]:
    (folder / "e.yaml").write_text(HEADER + text, encoding="utf-8")
    return Spec(folder / "e.yaml").judges(around)


def values(judge: Judge) -> list[dict[str, float | None]]:
    return [{s.concept: s.value for s in row} for row in judge.scores(PICTURES, ())]


def head(folder: Path, width: int, name: str = "q16.safetensors") -> None:
    """A Q16 head for the bundled CLIP, which is not the published one."""
    rng = np.random.default_rng(0)
    save_file({"prompts": rng.normal(size=(2, width)).astype(np.float32)}, folder / name)


class Server(ThreadingHTTPServer):
    """Speaks the OpenAI protocol and answers every question alike."""

    said = "Yes."
    chances: Mapping[str, float] = {}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        model = {"id": "m", "object": "model", "created": 1, "owned_by": "vllm"}
        self._send({"object": "list", "data": [model]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kinds = [part["type"] for part in asked["messages"][-1]["content"]]
        assert "image_url" in kinds
        message = {"role": "assistant", "content": self.server.said}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        if asked.get("logprobs") and self.server.chances:
            told = [
                {"token": token, "logprob": math.log(chance), "bytes": None}
                for token, chance in self.server.chances.items()
            ]
            choice["logprobs"] = {"content": [{**told[0], "top_logprobs": told}]}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        self._send({"id": "x", "object": "chat.completion", "created": 1, "model": "m",
                    "choices": [choice], "usage": usage})  # fmt: skip

    def _send(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture
def server() -> Iterator[Server]:
    listening = Server(("127.0.0.1", 0), Handler)
    thread = Thread(target=listening.serve_forever)
    thread.start()
    yield listening
    listening.shutdown()
    listening.server_close()
    thread.join()


def test_bundled_judge_and_clip(tmp_path: Path, around: Any) -> None:
    text = """
  - {detector: judge, model: world}
  - {detector: clip, model: world, unit: cosine similarity, thresholds: {weapons: 0.3}}
"""
    judge, clip = judges(tmp_path, around, text)
    assert (judge.name, clip.name) == ("judge", "clip")
    assert judge.labels is not None
    assert judge.thresholds["weapons"] == 0.5
    assert dict(clip.thresholds) == {"weapons": 0.3}
    assert clip.detector.unit == "cosine similarity"
    assert values(clip)[0].keys() == {"weapons"}


def test_the_bundled_judges_card_counts_pictures_that_were_generated(
    tmp_path: Path, around: Any
) -> None:
    """Figures are those of the world's card; rates by regions come from drawings, and say so."""
    (judge,) = judges(tmp_path, around, "  - {detector: judge, model: world}\n")
    card = judge.card
    assert card is not None
    file = Path(__file__).parents[2] / "docs" / "world" / "card.json"
    measured = json.loads(file.read_text(encoding="utf-8"))["judge"]
    eye = measured["generated pictures labelled by eye"]
    for concept, pair in eye.items():
        if isinstance(pair, dict):
            rates = card.rates(concept)
            assert rates is not None
            assert (rates.caught, rates.unsafe) == (
                pair["sensitivity"]["count"],
                pair["sensitivity"]["n"],
            )
            assert (rates.passed, rates.safe) == (
                pair["specificity"]["count"],
                pair["specificity"]["n"],
            )
    assert f"{eye['unclear']} more" in card.data
    by_regions = card.source(by_regions=True)
    assert by_regions is not None
    assert by_regions is not card
    assert "artwork" in by_regions.data


def test_nudenet_and_opennsfw(tmp_path: Path, around: Any) -> None:
    text = """
  - {detector: nudenet, thresholds: {adult: 0.6}}
  - {name: second, detector: opennsfw, thresholds: {adult: 0.8}}
"""
    nude, second = judges(tmp_path, around, text)
    assert (nude.name, second.name, second.detector.name) == ("nudenet", "second", "opennsfw")
    for judge in (nude, second):
        assert judge.card is None
        for row in values(judge):
            assert row["adult"] is not None
            assert 0 <= row["adult"] < 0.6


def test_q16_and_the_published_union(tmp_path: Path, around: Any) -> None:
    text = """
  - {detector: q16, model: world, head: q16.safetensors}
  - {detector: q16_or_nudenet, model: world, head: q16.safetensors}
"""
    width = around_width(tmp_path, around)
    head(tmp_path, width)
    q16, union = judges(tmp_path, around, text)
    assert set(q16.thresholds.values()) == {0.5}
    assert union.name == "Q16 or NudeNet 3.4 (≥ 0.6)"
    for row, both in zip(values(q16), values(union), strict=True):
        value = row["weapons"]
        assert value is not None
        assert both == {"inappropriate": 0.5 if value >= 0.5 else 0.0}
    head(tmp_path, width + 1, "wide.safetensors")
    with pytest.raises(BadInput, match=f"{width + 1} wide"):
        judges(tmp_path, around, text.replace("q16.safetensors", "wide.safetensors"))
    with pytest.raises(BadInput, match="needs head"):
        judges(tmp_path, around, "  - {detector: q16, model: world}\n")
    with pytest.raises(BadFile, match="no Q16 head"):
        judges(tmp_path, around, "  - {detector: q16, model: world, head: absent.st}\n")


def around_width(folder: Path, around: Any) -> int:
    (clip,) = judges(folder, around, "  - {detector: clip, model: world, threshold: 0.5}\n")
    network: Any = clip.detector
    return int(network.network.encode_texts(["a"]).shape[1])


def test_a_vision_language_model_here_and_behind_a_server(
    tmp_path: Path, around: Any, server: Server
) -> None:
    address = f"http://127.0.0.1:{server.server_port}/v1#m"
    ask = "detector: asking, question: 'Is there {text} in it?', thresholds"
    here, there, told = judges(
        tmp_path,
        around,
        f"""
  - {{name: here, model: world, {ask}: {{weapons: 0.5}}}}
  - {{name: there, model: "{address}", words: true, {ask}: {{weapons: 0.5, gambling: 0.5}}}}
  - {{name: told, model: "{address}", {ask}: {{weapons: 0.5}}}}
""",
    )
    assert [row["weapons"] for row in values(there)] == [1.0, 1.0]
    server.said = "No."
    assert values(there)[0] == {"weapons": 0.0, "gambling": 0.0}
    server.said = "I will not say."
    assert values(there)[0] == {"weapons": None, "gambling": None}
    (score,) = told.scores(PICTURES[:1], ())[0]
    assert score.value is None
    assert "no probabilities" in score.note
    server.chances = {"Yes": 0.5, " yes": 0.1, "No": 0.2, "Perhaps": 0.2}
    assert values(told)[0]["weapons"] == pytest.approx(0.75)
    (score,) = here.scores(PICTURES[:1], ())[0]  # the bundled model was not taught yes and no
    assert score.value is None
    assert "share only" in score.note
    units = [judge.detector.unit for judge in (here, there, told)]
    assert units == ["probability", "yes is 1", "probability"]
    assert "vlm" in here.detector.content  # type: ignore[attr-defined]
    assert len({here.id, there.id, told.id}) == 3
    with pytest.raises(BadInput, match="needs model"):
        judges(tmp_path, around, "  - {detector: asking}\n")
    with pytest.raises(MissingPart, match=r"127\.0\.0\.1:9"):
        judges(tmp_path, around, '  - {detector: asking, model: "http://127.0.0.1:9/v1"}\n')


def test_ensembles(tmp_path: Path, around: Any, server: Server) -> None:
    entry = f"""
  - name: both
    detector: ensemble
    needs: all
    card: card.json
    members:
      - {{detector: opennsfw, thresholds: {{adult: 0.8}}}}
      - {{detector: asking, words: true, model: "http://127.0.0.1:{server.server_port}/v1#m",
          thresholds: {{adult: 0.5}}}}
"""
    truth: dict[str, list[bool | None]] = {"adult": [True, False]}
    found = cards.count(truth, truth, data="two pictures", measured="2026-11-21")
    cards.write(found.card, tmp_path / "card.json", judge="both")
    (both,) = judges(tmp_path, around, entry)
    assert (both.name, both.card) == ("both", found.card)
    (row, _) = values(both)
    assert row == {"adult": 0.5}
    assert both.unsafe(row) is False  # only the model that says yes to everything flags it
    (either,) = judges(tmp_path, around, entry.replace("needs: all", "needs: any"))
    assert either.unsafe(values(either)[0]) is True
    with pytest.raises(BadFile, match="about 'both'"):
        judges(tmp_path, around, entry.replace("name: both", "name: other"))


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("  - {detector: nudnet, threshold: 0.5}\n", UnknownName, "Did you mean nudenet"),
        ("  - {detector: nudenet, head: a, threshold: 0.5}\n", BadInput, "takes no head"),
        ("  - {detector: nudenet}\n", BadInput, "no thresholds"),
        ("  - {detector: opennsfw, thresholds: {cats: 0.5}}\n", UnknownName, "cats"),
        ("  - {detector: ensemble}\n", BadInput, "at least two"),
        (
            "  - {detector: ensemble, members: [{detector: opennsfw, threshhold: 1}]}\n",
            BadFile,
            "threshhold",
        ),
        (
            "  - {detector: opennsfw, threshold: 0.5}\n  - {detector: opennsfw, threshold: 0.6}\n",
            BadInput,
            "Two judges are called opennsfw",
        ),
        ("  - {detector: judge, model: world, card: absent.json}\n", BadFile, "no judge card"),
    ],
)
def test_what_a_document_cannot_say(
    text: str, error: type[Exception], says: str, tmp_path: Path, around: Any
) -> None:
    with pytest.raises(error, match=says):
        judges(tmp_path, around, text)


@pytest.mark.parametrize(
    ("lacks", "text", "says"),
    [
        ("onnxruntime", "  - {detector: nudenet, thresholds: {adult: 0.6}}\n", r"tadasu\["),
        ("openai", '  - {detector: asking, model: "http://127.0.0.1:9/v1"}\n', r"tadasu\[openai\]"),
    ],
)
def test_a_judge_without_its_extra_says_how_to_install_it(
    lacks: str, text: str, says: str, tmp_path: Path, around: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, lacks, None)
    with pytest.raises(MissingPart, match=says):
        judges(tmp_path, around, text)


def test_the_docs_page_names_every_detector() -> None:
    page = Path(__file__).parents[2] / "docs" / "evaluation" / "judges.md"
    text = page.read_text(encoding="utf-8")
    assert [name for name in TAKES if f"detector: {name}" not in text] == []
