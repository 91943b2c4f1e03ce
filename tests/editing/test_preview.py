from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from tadasu.editing.preview import Pair, page
from tadasu.errors import BadInput


def _flat(value: int, size: int = 4) -> Image.Image:
    return Image.new("RGB", (size, size), (value, value, value))


def _pair(*, restricted: bool = False, prompt: str = "a cat") -> Pair:
    after = _flat(0)
    after.putpixel((1, 2), (255, 255, 255))
    return Pair(prompt=prompt, seed=3, before=_flat(0), after=after, restricted=restricted)


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
    text = page("Edit", [_pair()], facts=[("residual", "0.1")], table=[("judge",), ("3 %",)])
    tags = _Tags()
    tags.feed(text)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags.found}
    assert all(str(a["src"]).startswith("data:") for tag, a in tags.found if tag == "img")
    assert not re.search(r"https?:", text)


def test_only_restricted_pictures_are_blurred_until_clicked() -> None:
    assert "class=hidden" not in page("x", [_pair()])
    blurred = page("x", [_pair(restricted=True)])
    assert blurred.count("class=hidden") == 2, "before and after, not the difference"


def test_words_from_outside_are_text_and_never_markup() -> None:
    text = page("<b>", [_pair(prompt="<script>alert(1)</script>")], facts=[("<i>", "&")])
    assert "<script" not in text
    assert "<b>" not in text
    assert "<i>" not in text


def test_pictures_of_other_sizes_are_refused() -> None:
    with pytest.raises(BadInput, match="differ in size"):
        Pair(prompt="x", seed=0, before=_flat(0), after=_flat(0, size=5))
