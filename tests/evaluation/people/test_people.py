"""Tasks out, answers in: nothing leaks, nothing wrong gets in, the numbers are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tadasu.concepts import Concept
from tadasu.errors import BadFile, BadInput
from tadasu.evaluation.people.answers import Answers, read, read_all
from tadasu.evaluation.people.page import write
from tadasu.evaluation.people.summary import agreement, preferences, strengths, truth
from tadasu.evaluation.people.task import Shown, Task, compare_task, label_task

CAT = Concept(id="cat", names={"en": ("a cat",), "ja": ("猫",)}, hazard="shocking")
SYSTEMS = ("secretly plain", "secretly edited", "secretly guided")


def pictures(prompts: int = 4, systems: tuple[str, ...] = SYSTEMS) -> list[Shown]:
    return [
        Shown(
            picture=f"hash{p}{s}",
            system=system,
            suite="s",
            prompt=f"p{p}",
            sample=0,
            text=f"prompt <{p}>",
            restricted=p % 2 == 0,
        )
        for p in range(prompts)
        for s, system in enumerate(systems)
    ]


def said(task: Task, rater: str, answers: dict[str, str]) -> Answers:
    return Answers(rater=rater, saved="now", answers=answers)


def test_order_and_sides_are_drawn_and_repeatable() -> None:
    task = compare_task(pictures(20), title="t", seed=1)
    assert task == compare_task(pictures(20), title="t", seed=1)
    assert task.id != compare_task(pictures(20), title="t", seed=2).id
    assert len(task.questions) == 60
    plain = [q for q in task.questions if SYSTEMS[0] in (q.left.system, q.right and q.right.system)]
    left = sum(q.left.system == SYSTEMS[0] for q in plain)
    assert 10 < left < 30
    assert all(q.right and q.left.prompt == q.right.prompt for q in task.questions)


def test_the_page_says_nothing_about_systems_and_needs_no_network(tmp_path: Path) -> None:
    for task in (
        compare_task(pictures(), title="A & B", seed=0),
        label_task(pictures(), [CAT], title="A & B", seed=0),
    ):
        write(task, tmp_path / "page.html", lambda _: Image.new("RGB", (2, 2)))
        text = (tmp_path / "page.html").read_text(encoding="utf-8")
        assert "secretly" not in text
        assert "hash0" not in text
        assert "http://" not in text
        assert "https://" not in text
        assert "A &amp; B" in text
        start = text.index('id="content">') + len('id="content">')
        content = json.loads(text[start : text.index("</script>", start)])
        assert content["task"] == task.id
        assert [q["id"] for q in content["questions"]] == [q.id for q in task.questions]
        assert sum(p["veiled"] for p in content["pictures"]) == 6
        prompts = {q["prompt"] for q in content["questions"]}
        assert prompts == ({""} if task.kind == "label" else {f"prompt <{i}>" for i in range(4)})
    assert not list(tmp_path.glob("*.partial"))


def test_a_key_file_is_read_back(tmp_path: Path) -> None:
    for task in (compare_task(pictures(), title="t"), label_task(pictures(), [CAT], title="t")):
        task.save(tmp_path / "key.json")
        assert Task.load(tmp_path / "key.json") == task
    for text in ("", "[]", "{}", '{"file": "tadasu labelling task"}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(BadFile):
            Task.load(tmp_path / "bad.json")


def saved(path: Path, task: Task, /, **changes: Any) -> Path:
    first = task.questions[0].id
    content = {"file": "tadasu answers", "task": task.id, "rater": "A", "answers": {first: "yes"}}
    path.write_text(json.dumps({k: v for k, v in (content | changes).items() if v is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"file": "x"}, "labelling page"),
        ({"task": "sha256:0"}, "another task"),
        ({"rater": " "}, "who answered"),
        ({"rater": None}, "'rater' is missing"),
        ({"answers": []}, "no mapping"),
        ({"answers": {"q99999": "yes"}}, "not asked"),
        ({"answers": {"q00000": "left"}}, "yes, no, unsure"),
        ({"answers": {"q00000": 1}}, "yes, no, unsure"),
    ],
)
def test_answers_are_checked(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    task = label_task(pictures(), [CAT], title="t")
    assert read(saved(tmp_path / "good.json", task), task).rater == "A"
    with pytest.raises(BadFile, match=says):
        read(saved(tmp_path / "bad.json", task, **changes), task)


def test_one_person_counts_once(tmp_path: Path) -> None:
    task = label_task(pictures(), [CAT], title="t")
    one, two = saved(tmp_path / "1.json", task), saved(tmp_path / "2.json", task)
    assert len(read_all([one, two], task)) == 1
    saved(two, task, answers={"q00001": "no"})
    with pytest.raises(BadFile, match="keep the one"):
        read_all([one, two], task)


def test_truth_is_what_most_people_say() -> None:
    task = label_task(pictures(2, SYSTEMS[:2]), [CAT], title="t")
    ids = [q.id for q in task.questions]
    votes = (("yes", "yes", "no"), ("yes", "no", "unsure"), ("unsure", "unsure", "yes"), ())
    people = [
        said(task, str(r), {i: v[r] for i, v in zip(ids, votes, strict=True) if r < len(v)})
        for r in range(3)
    ]
    found = truth(task, people)["cat"]
    told = [found[q.left.picture] for q in task.questions]
    assert told == [True, None, None, None]
    with pytest.raises(BadInput, match="label task"):
        truth(compare_task(pictures(), title="t"), [])


def test_agreement_has_intervals_and_says_what_is_missing() -> None:
    task = label_task(pictures(10), [CAT], title="t")
    ids = [q.id for q in task.questions]
    one = {i: "yes" if n % 2 else "no" for n, i in enumerate(ids)}
    two = one | {ids[0]: "yes", ids[1]: "unsure"}
    (found,) = agreement(task, [said(task, "1", one), said(task, "2", two)])
    assert (found.items, found.raters) == (30, 2)
    assert found.alike.estimate == pytest.approx(28 / 30)
    assert found.alpha is not None
    assert found.kappa is not None
    assert found.alpha.low < found.alpha.estimate < found.alpha.high < 1.0001
    (same,) = agreement(task, [said(task, "1", one), said(task, "2", one)])
    assert same.alpha is None
    assert "never disagree" in same.note
    assert same.alike.low > 0.85
    (part,) = agreement(task, [said(task, "1", one), said(task, "2", {ids[0]: "yes"})])
    assert part.kappa is None
    assert part.items == 1


def test_preferences_count_for_the_right_system_whatever_the_side() -> None:
    task = compare_task(pictures(30), title="t", seed=3)
    order = {name: place for place, name in enumerate(SYSTEMS)}  # the first is always better

    def better(q: Any) -> str:
        return "left" if order[q.left.system] < order[q.right.system] else "right"

    answers = {q.id: better(q) for q in task.questions}
    found = {(p.first, p.second): p for p in preferences(task, [said(task, "1", answers)])}
    assert len(found) == 3
    for (first, second), each in found.items():
        wanted = float(order[first] < order[second])
        assert each.share.estimate == wanted
        assert each.answers == each.prompts == 30
        assert each.note
    with pytest.raises(BadInput, match="always won"):
        strengths(task, [said(task, "1", answers)])
    with pytest.raises(BadInput, match="Nobody"):
        preferences(task, [])


def test_ties_are_halves_and_strengths_follow_the_order() -> None:
    task = compare_task(pictures(40), title="t", seed=3)
    order = {name: place for place, name in enumerate(SYSTEMS)}
    answers = {}
    for n, q in enumerate(task.questions):
        assert q.right is not None
        first = order[q.left.system] < order[q.right.system]
        answers[q.id] = "tie" if n % 5 == 0 else ("left" if first == (n % 4 != 0) else "right")
    people = [said(task, "1", answers)]
    found = strengths(task, people, draws=200)
    ranked = sorted(found, key=lambda name: -found[name].estimate)
    assert tuple(ranked) == SYSTEMS
    assert all(each.low <= each.estimate <= each.high for each in found.values())
    for each in preferences(task, people):
        assert 0.5 < max(each.share.estimate, 1 - each.share.estimate) < 1
        assert each.share.low < each.share.estimate < each.share.high


def test_tasks_nobody_can_answer_are_refused() -> None:
    with pytest.raises(BadInput, match="at least one question"):
        label_task([], [CAT], title="t")
    with pytest.raises(BadInput, match="at least one question"):
        compare_task(pictures(4, SYSTEMS[:1]), title="t")
