from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tadasu.concepts import Concept
from tadasu.editing.preview import Pair, Preview, draw
from tadasu.editing.preview_words import WORDS
from tadasu.errors import BadFile, BadInput


def _flat(value: int, size: int = 4) -> Image.Image:
    return Image.new("RGB", (size, size), (value, value, value))


def _pair(prompt: str = "a cat", **more: Any) -> Pair:
    after = _flat(0)
    after.putpixel((1, 2), (255, 255, 255))
    return Pair(prompt=prompt, seed=3, before=_flat(0), after=after, **more)


def _page(*pairs: Pair, title: str = "Edit", **more: Any) -> str:
    return Preview(title=title, pairs=pairs, **more).page()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_distance_and_difference_show_where_the_pictures_differ() -> None:
    pair = _pair()
    assert pair.distance == pytest.approx(1 / 16)
    shown = np.asarray(pair.difference())
    assert shown[2, 1].tolist() != [255, 255, 255]
    assert (shown.reshape(-1, 3) == 255).all(1).sum() == 15


def test_equal_pictures_have_a_white_difference() -> None:
    pair = Pair(prompt="x", seed=0, before=_flat(9), after=_flat(9))
    assert pair.distance == 0
    assert np.asarray(pair.difference()).min() == 255


def test_page_is_one_file_without_scripts_or_outside_addresses() -> None:
    text = _page(_pair(), facts=(("residual", "0.1"),))
    tags = _Tags()
    tags.feed(text)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags.found}
    assert all(str(a["src"]).startswith("data:") for tag, a in tags.found if tag == "img")
    assert not re.search(r"https?:", text)


def test_every_word_of_the_page_is_there_in_both_languages() -> None:
    text = _page(_pair(restricted=True, seen_before=set(), seen_after=set()))
    for key in WORDS.keys() - {"nobody", "edited"}:
        assert all(word in text for word in WORDS[key]), key
    assert "id=ja" in text


def test_only_restricted_pictures_are_blurred_until_clicked() -> None:
    assert "class=hidden" not in _page(_pair())
    assert _page(_pair(restricted=True)).count("class=hidden") == 2, "not the difference"


def test_words_from_outside_are_text_and_never_markup() -> None:
    bad = "<script>alert(1)</script>"
    pair = _pair(bad, seen_before={bad}, seen_after={bad})
    text = _page(pair, title="<b>", facts=(("<i>", "&"),))
    assert "<script" not in text
    assert "<b>" not in text
    assert "<i>" not in text


def test_what_the_judge_sees_is_counted_apart_for_edited_and_other_prompts() -> None:
    loud = {"edited": True, "restricted": True}
    shown = Preview(
        title="Edit",
        names=frozenset({"pistol", "ピストル"}),
        pairs=(
            _pair("a pistol", seen_before={"pistol"}, seen_after={"tree"}, **loud),
            _pair("ピストル", seen_before={"pistol"}, seen_after={"Pistol"}, **loud),
            _pair("a red cat", seen_before={"cat"}, seen_after={"cat"}),
            _pair("a red dog", seen_before={"dog"}, seen_after={"pistol"}),
        ),
    )
    counts = {name: [(r.count, r.n) for r in pair] for name, pair in shown.rates.items()}
    assert counts == {"edited": [(2, 2), (1, 2)], "other": [(2, 2), (1, 2)]}
    low, high = shown.rates["edited"][1].low, shown.rates["edited"][1].high
    assert f"50 % [{100 * low:.0f}–{100 * high:.0f}] n=2" in shown.page()


def test_a_page_nobody_judged_says_so() -> None:
    shown = Preview(title="Edit", pairs=(_pair(),))
    assert not shown.rates
    assert WORDS["nobody"][0] in shown.page()


def test_a_page_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    shown = Preview(title="Edit", pairs=(_pair(),))
    shown.save(tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(BadFile, match="Cannot write"):
        shown.save(tmp_path / "nowhere" / "page.html")


class _Model:
    """Draws its own brightness."""

    def __init__(self) -> None:
        self.value = 10

    @contextmanager
    def applied(self, *maps: Any) -> Any:
        self.value = 200
        yield
        self.value = 10

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], steps: int | None) -> list[Any]:
        return [_flat(self.value + seed) for _, seed in zip(prompts, seeds, strict=True)]


class _Edit:
    name, concepts = "gone", ("gun",)

    def __init__(self) -> None:
        self.maps: dict[str, Any] = {}
        targets = [{"texts": ["pistol", "ピストル"]}]
        self.recipe = {"targets": targets, "preserve": ["cat"], "solver": "uce"}


def test_pairs_have_the_same_prompt_and_seed_and_the_usual_prompts_show_both_sides() -> None:
    def see(pictures: Sequence[Image.Image]) -> list[set[str]]:
        return [{"pistol"} if np.asarray(p).max() < 100 else {"cat"} for p in pictures]

    edit: Any = _Edit()
    model: Any = _Model()
    policy: Any = SimpleNamespace(
        concepts=(Concept(id="cats", names={"en": ("cat",)}, hazard="violence", severity="low"),)
    )
    open_cat = draw(edit, model, seeds=(0, 1), see=see).pairs[2]
    assert (open_cat.prompt, open_cat.restricted) == ("cat", False)
    shown = draw(edit, model, seeds=(0, 1), see=see, policy=policy)
    assert [(p.prompt, p.seed) for p in shown.pairs] == [
        ("pistol", 0), ("pistol", 1), ("cat", 0), ("cat", 1)
    ]  # fmt: skip
    assert all(p.restricted for p in shown.pairs)
    assert [p.edited for p in shown.pairs] == [True, True, False, False]
    assert [(r.count, r.n) for r in shown.rates["edited"]] == [(2, 2), (0, 2)]
    assert shown.pairs[1].after.getpixel((0, 0)) == (201, 201, 201)


def test_pictures_of_other_sizes_are_refused() -> None:
    with pytest.raises(BadInput, match="differ in size"):
        Pair(prompt="x", seed=0, before=_flat(0), after=_flat(0, size=5))
