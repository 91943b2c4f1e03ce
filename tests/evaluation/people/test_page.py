"""The page in a real browser: keys answer and move, veils lift, saving needs a name."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tadasu.concepts import Concept
from tadasu.evaluation.people.page import write
from tadasu.evaluation.people.task import Shown, label_task

DRIVE = """<script>
const press = key => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const veil = () => document.querySelector(".veil").getAttribute("aria-pressed");
const log = [];
press("1"); press("2"); log.push(state.at); press("ArrowLeft"); log.push(state.at); press("3");
log.push(veil()); press("s"); log.push(veil());
element("save").click(); log.push(element("note").textContent);
element("rater").value = "A B"; element("rater").dispatchEvent(new Event("input"));
element("save").click(); log.push(element("note").textContent);
element("language").click(); log.push(element("asks").textContent);
log.push(record().answers, record().rater, record().task);
const out = document.createElement("pre"); out.id = "log"; out.textContent = JSON.stringify(log);
document.body.append(out);
</script>"""


@pytest.mark.browser
def test_the_page_works_with_the_keyboard_alone(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("chromium is not installed; .ci/run installs it where it may")
    cat = Concept(id="cat", names={"en": ("a cat",), "ja": ("猫",)}, hazard="shocking")
    shown = [
        Shown(picture=str(i), system="x", suite="s", prompt=str(i), sample=0, text="t")
        for i in range(3)
    ]
    task = label_task(shown, [cat], title="t")
    write(task, tmp_path / "page.html", lambda _: Image.new("RGB", (2, 2)))
    with (tmp_path / "page.html").open("a", encoding="utf-8") as file:
        file.write(DRIVE)
    ran = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu"),
            *("--virtual-time-budget=2000", "--dump-dom", f"file://{tmp_path}/page.html"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="log">(.*)</pre>', ran.stdout)
    assert found is not None
    log = json.loads(html.unescape(found.group(1)))
    assert log[:2] == [2, 1]
    assert log[2:4] == ["false", "true"]
    assert log[4:6] == ["Enter a name or number first.", "Saved 2 answers."]
    assert log[6] == "この画像に写っていますか：猫"
    assert log[7:] == [{"q00000": "yes", "q00001": "unsure"}, "A B", task.id]
