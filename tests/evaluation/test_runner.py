"""Runs go on after any death, make nothing twice, and judge anew without making anything."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tadasu.errors import BadFile, BadInput, MissingPart, RunFailed
from tadasu.evaluation.engine import Local, engine
from tadasu.evaluation.evaluate import rejudge, run
from tadasu.evaluation.folder import Folder
from tadasu.evaluation.judge import Judge
from tadasu.evaluation.metrics.metric import Row
from tadasu.evaluation.plan import Item, batches, items
from tadasu.evaluation.results import Run
from tadasu.evaluation.scripted import Redness, Scripted
from tadasu.evaluation.suites.suite import Prompt, Suite
from tadasu.evaluation.target import Answer, Outcome, Request
from tadasu.records import Score

JUDGE = Judge(name="red", detector=Redness(), thresholds={"red": 0.5})


def suite(n: int = 10, id: str = "s", **more: Any) -> Suite:
    return Suite(
        id=id, prompts=tuple(Prompt(id=str(i), text=f"text {i}", seed=i) for i in range(n)), **more
    )


def told(row: Row) -> tuple[Any, ...]:
    """A row without what a clock measures."""
    return (
        *(row.system, row.suite, row.prompt, row.sample, row.seed, row.outcome, row.reason),
        *(row.picture, tuple(row.scores.items()), row.unsafe),
    )


class Counting(Scripted):
    """A scripted system that remembers what it was asked."""

    asked: ClassVar[list[Request]] = []

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        self.asked.extend(requests)
        return super().generate(requests)


@pytest.fixture(autouse=True)
def _nothing_asked() -> None:
    Counting.asked.clear()


def test_one_call_makes_judges_and_tabulates(tmp_path: Path) -> None:
    systems = [Scripted(name="a"), Scripted(name="b", blocks=("text 3",), fails=("text 4",))]
    done = run(systems=systems, suites=[suite()], judges=[JUDGE], samples=2, folder=tmp_path)
    assert done.systems == ["a", "b"]
    assert done.missing == 0
    rows = [row for row in done.rows() if row.system == "b"]
    assert len(rows) == 20
    counted = Counter(row.outcome for row in rows)
    assert counted == {Outcome.IMAGE: 16, Outcome.BLOCKED: 2, Outcome.ERROR: 2}
    (cell,) = (
        c for c in done.cells() if (c.metric, c.system) == ("inappropriate_probability", "b")
    )
    assert cell.n == 16  # refusals and failures are no safe pictures
    assert "2 blocked" in cell.note
    assert "2 failed" in cell.note
    red = [row for row in rows if row.unsafe]
    assert cell.value == pytest.approx(len(red) / 16)
    assert all(row.scores["red"] is not None and row.scores["red"] >= 0.5 for row in red)


def test_the_second_start_makes_nothing(tmp_path: Path) -> None:
    first = run(systems=[Counting()], suites=[suite()], judges=[JUDGE], folder=tmp_path)
    assert len(Counting.asked) == 10
    again = run(systems=[Counting()], suites=[suite()], judges=[JUDGE], folder=tmp_path)
    assert len(Counting.asked) == 10
    assert [told(row) for row in again.rows()] == [told(row) for row in first.rows()]


def test_judging_anew_makes_no_picture(tmp_path: Path) -> None:
    run(systems=[Counting()], suites=[suite()], judges=[JUDGE], folder=tmp_path)
    strict = Judge(name="red", detector=Redness(), thresholds={"red": 0.0})
    size = (tmp_path / "judgements.jsonl").stat().st_size
    done = rejudge(tmp_path, [strict])
    assert len(Counting.asked) == 10
    assert all(row.unsafe for row in done.rows())
    assert (tmp_path / "judgements.jsonl").stat().st_size == size  # a threshold is no judgement
    other = Judge(name="other", detector=Redness(concept="crimson"), thresholds={"crimson": 0.9})
    both = rejudge(tmp_path, [other])
    assert both.judges == ["red", "other"]
    assert both.rows("other")[0].scores.keys() == {"crimson"}


def test_a_picture_asked_for_in_two_suites_is_made_once(tmp_path: Path) -> None:
    done = run(
        systems=[Counting()], suites=[suite(6, "a"), suite(8, "b")], judges=[JUDGE], folder=tmp_path
    )
    assert len(Counting.asked) == 8
    assert len(done.rows()) == 14


def test_regions_of_another_shape_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    halves = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0))
    wide, square = suite(regions=halves, aspect=2.0), suite(regions=halves, aspect=1.0)
    with pytest.raises(BadInput, match=r"width is 2 times their height; given is one of .* x "):
        run(systems=[Counting()], suites=[wide], judges=[JUDGE], folder=tmp_path / "wide")
    assert len(Counting.asked) == 10
    folder = Folder(tmp_path / "wide")
    assert len(folder.generations.rows()) == 10
    assert folder.judgements.rows() == []
    done = run(systems=[Counting()], suites=[square], judges=[JUDGE], folder=tmp_path / "square")
    assert all(row.unsafe is not None for row in done.rows())


class _Flaky:
    """A detector that breaks off while it is told to."""

    name, unit, concepts = "flaky", "share", ("red",)
    broken: ClassVar[bool] = True

    def score(self, images: Sequence[Any]) -> list[list[Score]]:
        if self.broken:
            raise RuntimeError("CUDA out of memory")
        return [[Score(detector="flaky", concept="red", value=0.1, unit="share")] for _ in images]


def test_a_judge_that_broke_off_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Judge(name="flaky", detector=_Flaky(), thresholds={"red": 0.5})
    done = run(systems=[Scripted()], suites=[suite(3)], judges=[judge], folder=tmp_path)
    assert [row.unsafe for row in done.rows()] == [None] * 3
    monkeypatch.setattr(_Flaky, "broken", False)
    assert [row.unsafe for row in rejudge(tmp_path, [judge]).rows()] == [False] * 3
    lines = len(Folder(tmp_path).judgements.rows())
    rejudge(tmp_path, [judge])
    assert len(Folder(tmp_path).judgements.rows()) == lines


class _Sides:
    """A detector that is sure about red, and cannot tell about what is not."""

    name, unit, concepts = "sides", "share", ("red",)

    def score(self, images: Sequence[Any]) -> list[list[Score]]:
        def value(image: Any) -> float | None:
            red, green, _ = image.getpixel((0, 0))
            return 0.99 if red > green else None

        return [
            [Score(detector="sides", concept="red", value=value(image), unit="share")]
            for image in images
        ]


@pytest.mark.parametrize(
    ("colours", "unsafe"), [(("red", "green"), True), (("green", "green"), None)]
)
def test_a_region_that_cannot_be_told_hides_no_unsafe_one(
    colours: tuple[str, str], unsafe: bool | None, tmp_path: Path
) -> None:
    from PIL import Image

    class Halves(Scripted):
        def generate(self, requests: Sequence[Request]) -> list[Answer]:
            picture = Image.new("RGB", (8, 4), colours[0])
            picture.paste(colours[1], (4, 0, 8, 4))
            return [Answer(outcome=Outcome.IMAGE, image=picture) for _ in requests]

    halves = suite(2, regions=((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)))
    judge = Judge(name="sides", detector=_Sides(), thresholds={"red": 0.5})
    done = run(systems=[Halves()], suites=[halves], judges=[judge], folder=tmp_path)
    assert [row.unsafe for row in done.rows()] == [unsafe] * 2
    later = Judge(name="sides", detector=_Sides(), thresholds={"red": 0.999})
    assert [row.unsafe for row in rejudge(tmp_path, [later]).rows()] == [None] * 2


def test_a_strangers_run_opens_no_folder_but_its_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    run(systems=[Scripted()], suites=[suite(2)], judges=[JUDGE], folder=mine)
    before = sorted(mine.iterdir())
    theirs = tmp_path / "theirs"
    run(systems=[Scripted()], suites=[suite(2)], judges=[JUDGE], folder=theirs)
    document = theirs / "run.json"
    content = json.loads(document.read_text(encoding="utf-8"))
    document.write_text(json.dumps({**content, "cache": str(mine)}), encoding="utf-8")
    with pytest.raises(BadFile, match="does not list this run"):
        Run(theirs)
    with pytest.raises(BadFile, match="does not list this run"):
        rejudge(theirs, [JUDGE])
    assert sorted(mine.iterdir()) == before
    with pytest.raises(BadFile, match="64 hexadecimal digits"):
        Folder(mine).pictures.read("../../secret")


def test_runs_that_share_a_cache_share_pictures(tmp_path: Path) -> None:
    for name, n in (("a", 6), ("b", 10)):
        run(
            systems=[Counting()],
            suites=[suite(n)],
            judges=[JUDGE],
            folder=tmp_path / name,
            cache=tmp_path / "cache",
        )
    assert len(Counting.asked) == 10
    assert len(Run(tmp_path / "b").rows()) == 10


def test_batches_do_not_depend_on_what_is_done_and_keep_to_one_scale() -> None:
    prompts = tuple(
        Prompt(id=str(i), text=f"t{i}", guidance_scale=7.0 if i % 2 else None) for i in range(9)
    )
    targets = [Scripted(batch_size=2)]
    wanted = items(targets, [Suite(id="s", prompts=prompts)], 1)
    made = batches(wanted, targets)
    assert [len(batch.items) for batch in made] == [2, 2, 1, 2, 2]
    for batch in made:
        assert len({item.request.guidance_scale for item in batch.items}) == 1
    flat: list[Item] = [item for batch in made for item in batch.items]
    assert sorted(flat, key=lambda i: int(i.prompt)) == wanted


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    run(systems=[Scripted()], suites=[suite()], folder=tmp_path)
    with pytest.raises(BadInput, match="other systems"):
        run(systems=[Scripted(side=9)], suites=[suite()], folder=tmp_path)
    with pytest.raises(BadInput, match="other systems"):
        run(systems=[Scripted()], suites=[suite(9)], folder=tmp_path)
    with Folder(tmp_path).locked(), pytest.raises(BadInput, match="at work"):
        run(systems=[Scripted()], suites=[suite()], folder=tmp_path)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"systems": []}, "at least one system"),
        ({"suites": []}, "at least one system and one suite"),
        ({"samples": 0}, "a picture for each prompt"),
        ({"systems": [Scripted(), Scripted(side=9)]}, "Two systems are called scripted"),
        ({"suites": [suite(3), suite(4)]}, "Two suites are called s"),
        ({"engine": "spark"}, "engine"),
        ({"suites": ["explict"]}, "suite"),
    ],
)
def test_what_cannot_be_run_is_refused(given: dict[str, Any], says: str, tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"systems": [Scripted()], "suites": [suite()], **given}
    with pytest.raises(BadInput, match=says):
        run(**wanted, folder=tmp_path / "run")


def test_a_judge_without_thresholds_or_for_another_concept_is_refused() -> None:
    with pytest.raises(BadInput, match="no thresholds"):
        Judge(name="j", detector=Redness(), thresholds={})
    with pytest.raises(BadInput, match="blue"):
        Judge(name="j", detector=Redness(), thresholds={"blue": 0.5})


def test_missing_extras_are_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, feature, where in (("duckdb", "evaluate", "local"), ("ray", "ray", "ray")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(MissingPart, match=feature):
                run(systems=[Counting()], suites=[suite()], folder=tmp_path / name, engine=where)
    assert Counting.asked == []


def test_a_judge_without_its_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from tadasu.backends.detectors import load
    from tadasu.concepts import Concept

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    nude = Concept(id="nudity", names={"en": ("nudity",)}, hazard="sexual", severity="high")
    with pytest.raises(MissingPart, match=r"pip install"):
        load("nudenet", concepts=(nude,))


def test_a_full_disk_keeps_what_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, left = os.write, [1500]

    def nearly_full(file: int, content: bytes) -> int:
        """Takes a part of a line, then nothing, as a full disk does."""
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(file, content[: left[0]])
        left[0] -= count
        return count

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", nearly_full)
        with pytest.raises(RunFailed, match=r"No space left.*kept"):
            run(systems=[Counting()], suites=[suite(40)], judges=[JUDGE], folder=tmp_path)
    kept = len(Folder(tmp_path).generations.rows())
    assert 0 < kept < 40
    made = len(Counting.asked)
    done = run(systems=[Counting()], suites=[suite(40)], judges=[JUDGE], folder=tmp_path)
    assert len(Counting.asked) - made == 40 - kept
    assert done.folder.generations.torn == 1
    fresh = run(systems=[Counting()], suites=[suite(40)], judges=[JUDGE], folder=tmp_path / "x")
    assert [told(row) for row in done.rows()] == [told(row) for row in fresh.rows()]


def test_a_picture_that_cannot_be_written_stops_the_run_and_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path), content[:0])

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunFailed, match="No space left"):
        run(systems=[Scripted()], suites=[suite()], folder=tmp_path)
    assert list(tmp_path.rglob("*.partial")) == []
    assert Folder(tmp_path).generations.rows() == []


def test_a_lost_picture_is_made_again_and_a_changed_one_is_not_judged(tmp_path: Path) -> None:
    done = run(systems=[Counting()], suites=[suite()], folder=tmp_path)
    first, second = (done.folder.pictures.path(row.picture) for row in done.rows()[:2])
    content = first.read_bytes()
    first.unlink()
    run(systems=[Counting()], suites=[suite()], folder=tmp_path)
    assert len(Counting.asked) == 11
    assert first.read_bytes() == content
    second.write_bytes(content)
    with pytest.raises(BadFile, match="not what was stored"):
        rejudge(tmp_path, [JUDGE])


def test_failures_are_asked_again_only_on_request(tmp_path: Path) -> None:
    failing = Counting(fails=("text 2",))
    for again, asked in ((False, 10), (False, 10), (True, 11)):
        run(systems=[failing], suites=[suite()], folder=tmp_path, retry_errors=again)
        assert len(Counting.asked) == asked


def test_a_system_that_answers_too_little_is_found_out(tmp_path: Path) -> None:
    class Lazy(Scripted):
        def generate(self, requests: Sequence[Request]) -> list[Answer]:
            return super().generate(requests[1:])

    with pytest.raises(RunFailed, match="3 answers to 4 requests"):
        run(systems=[Lazy()], suites=[suite()], folder=tmp_path)


CHILD = """
import os, sys
from pathlib import Path
from tadasu.evaluation import runner
from tadasu.evaluation.engine import Local
from tadasu.evaluation.folder import Folder
from tadasu.evaluation.scripted import Scripted
from tadasu.evaluation.suites.suite import Prompt, Suite

class Logged(Scripted):
    def generate(self, requests):
        log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(log, "".join(f"{r.text}\\n" for r in requests).encode())
        os.close(log)
        return super().generate(requests)

prompts = tuple(Prompt(id=str(i), text=f"text {i}", seed=i) for i in range(240))
folder = Folder(sys.argv[1])
targets = [Logged(pause=0.002, side=64)]
with folder.locked():
    folder.begin(targets, [Suite(id="s", prompts=prompts)], 1)
    print("ready", flush=True)
    runner.generate(folder, targets, Local())
"""


@pytest.mark.slow  # twelve processes
def test_ten_kills_lose_nothing_and_make_nothing_twice(tmp_path: Path) -> None:
    log, chance, deaths = tmp_path / "log", random.Random(1), 0

    def start(folder: str, log: Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / folder), str(log)],
            stdout=subprocess.PIPE,
            text=True,
        )

    for _ in range(10):
        child = start("killed", log)
        with child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0.0, 0.1))
            child.send_signal(signal.SIGKILL)
        deaths += child.returncode == -signal.SIGKILL
    assert deaths == 10, "a child was done before it was killed: make the run longer"
    assert 0 < len(Folder(tmp_path / "killed").generations.rows()) < 240
    for folder, where in (("killed", log), ("whole", tmp_path / "other")):
        with start(folder, where) as child:
            child.communicate()
        assert child.returncode == 0
    one, two = Run(tmp_path / "killed"), Run(tmp_path / "whole")
    assert [told(row) for row in one.rows()] == [told(row) for row in two.rows()]
    recorded = [row["key"] for row in one.folder.generations.rows()]
    assert len(recorded) == len(set(recorded)) == 240
    asked = Counter(log.read_text().splitlines())
    assert sum(asked.values()) - 240 <= 10 * 4  # at most the batch in flight, each time
    assert set(asked) == {f"text {i}" for i in range(240)}


def test_parquet_answers_questions(tmp_path: Path) -> None:
    done = run(systems=[Scripted()], suites=[suite()], judges=[JUDGE], samples=2, folder=tmp_path)
    found = done.query(
        "SELECT count(*) AS n, count(*) FILTER (unsafe) AS bad FROM items JOIN scores "
        "USING (system, suite, prompt, sample)"
    )
    assert found == [{"n": 20, "bad": sum(bool(row.unsafe) for row in done.rows())}]
    (row,) = done.query("SELECT scores['red'] AS red FROM scores WHERE prompt = '3' LIMIT 1")
    assert row["red"] == done.rows()[6 // 2].scores["red"]
    with pytest.raises(BadInput, match="does not understand"):
        done.query("SELEKT 1")


def test_no_run_and_a_damaged_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no run"):
        Run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(BadFile, match="no run"):
        rejudge(tmp_path, [JUDGE])


@pytest.mark.ray
def test_two_ray_workers_give_identical_tables_also_when_one_dies(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    marker = tmp_path / "died"

    class Mortal(Scripted):
        """Takes its worker with it, once, half way through."""

        def generate(self, requests: Sequence[Request]) -> list[Answer]:
            if any(each.text == "text 20" for each in requests) and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().generate(requests)

    from tadasu.evaluation.engine_ray import OnRay

    class Plain(Scripted):
        pass

    local = run(
        systems=[Plain(name="x")], suites=[suite(40)], judges=[JUDGE], folder=tmp_path / "a"
    )
    made = OnRay(workers=2)
    try:
        far = run(
            systems=[Plain(name="x")],
            suites=[suite(40)],
            judges=[JUDGE],
            folder=tmp_path / "b",
            engine=made,
        )
        assert made.replaced == 0
        died = run(
            systems=[Mortal(name="x")],
            suites=[suite(40)],
            judges=[JUDGE],
            folder=tmp_path / "c",
            engine=made,
        )
    finally:
        ray.shutdown()
    assert made.replaced == 1
    assert marker.exists()
    for other in (far, died):
        assert [told(row) for row in other.rows()] == [told(row) for row in local.rows()]
        keys = [row["key"] for row in other.folder.generations.rows()]
        assert len(keys) == len(set(keys)) == 40
        clock = ("seconds", "memory")
        assert [c for c in other.table() if c["metric"] not in clock] == [
            c for c in local.table() if c["metric"] not in clock
        ]


def test_engines_by_name() -> None:
    assert isinstance(engine("local"), Local)
