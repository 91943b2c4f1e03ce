"""Every page reads on a telephone: 390 pixels wide, nothing sticks out to the side."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tadasu.cli.app import run
from tadasu.world import samples

MEASURE = """
<iframe id="f" width="390" height="800" style="border:0" srcdoc="{page}"></iframe><script>
document.getElementById("f").onload = () => {{
  const inside = document.getElementById("f").contentDocument.documentElement;
  const log = document.createElement("pre"); log.id = "log";
  const styles = [...inside.querySelectorAll("style")];
  const dark = styles.some(s => s.textContent.includes("color-scheme"));
  log.textContent = JSON.stringify([inside.scrollWidth, inside.clientWidth, dark]);
  document.body.append(log);
}};</script>"""


def evaluation(folder: Path) -> Path:
    assert run(["evaluate", "run", "samples/evaluation.yaml", "-n", "2"]) == 0
    return folder / "evaluation" / "report.html"


def audit(folder: Path) -> Path:
    words = ["audit", "samples/downloads/000.safetensors", "--concepts", "goblin"]
    assert run([*words, "--report", "audit"]) == 1
    return folder / "audit" / "report.html"


def preview(folder: Path) -> Path:
    assert run(["edit", "erase", "pistol", "--out", "e.safetensors"]) == 0
    assert run(["edit", "preview", "e.safetensors", "--steps", "2", "--out", "p.html"]) == 0
    return folder / "p.html"


def calibration(folder: Path) -> Path:
    run(["calibrate", "align", "world", "--page", "c.html"])
    return folder / "c.html"


def labels(folder: Path) -> Path:
    assert run(["evaluate", "run", "samples/evaluation.yaml", "-n", "2"]) == 0
    assert run(["evaluate", "label", "export", "evaluation", "--concept", "weapons"]) == 0
    return next(folder.rglob("*abel*.html"))


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("make", [evaluation, audit, preview, calibration, labels])
def test_pages_fit_a_narrow_screen_and_know_the_dark(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("chromium is not installed; .ci/run installs it where it may")
    samples.write(tmp_path / "samples")
    monkeypatch.chdir(tmp_path)
    page = make(tmp_path).read_text(encoding="utf-8")
    for place in (tmp_path, Path(samples.__file__).parent):
        assert str(place) not in page, "a page names a path of the machine that made it"
    holder = tmp_path / "holder.html"
    holder.write_text(MEASURE.format(page=html.escape(page)), encoding="utf-8")
    ran = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu"),
            *("--virtual-time-budget=4000", "--dump-dom", f"file://{holder}"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="log">(.*?)</pre>', ran.stdout)
    assert found is not None
    width, visible, dark = json.loads(html.unescape(found.group(1)))
    assert width <= visible
    assert dark
