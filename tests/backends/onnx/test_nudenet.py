"""The real NudeNet weights, where the optional extra is installed."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from tadasu.backends.onnx import nudenet
from tadasu.detectors.detector import Detector
from tadasu.detectors.nudenet import LABELS, prepared
from tadasu.errors import BadFile, MissingPart

installed = pytest.mark.skipif(find_spec("nudenet") is None, reason="the extra is not installed")


def face(width: int = 320, height: int = 320) -> Image.Image:
    """A drawn portrait; out of focus it looks like a photograph to the network."""
    picture = Image.new("RGB", (width, height), (120, 130, 140))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((90, 40, 230, 240), fill=(60, 40, 30))
    draw.rectangle((135, 200, 185, 270), fill=(205, 160, 135))
    draw.ellipse((60, 240, 260, 400), fill=(70, 80, 130))
    draw.ellipse((105, 65, 215, 220), fill=(226, 178, 150))
    for eye in (135, 185):
        draw.ellipse((eye - 14, 122, eye + 14, 138), fill=(245, 240, 235))
        draw.ellipse((eye - 7, 123, eye + 7, 137), fill=(50, 35, 25))
        draw.arc((eye - 20, 100, eye + 20, 125), 200, 340, fill=(60, 40, 30), width=4)
    draw.polygon([(160, 135), (150, 170), (170, 170)], fill=(205, 150, 125))
    draw.ellipse((138, 182, 182, 198), fill=(180, 70, 70))
    return picture.filter(ImageFilter.GaussianBlur(3))


@installed
def test_it_fits_the_contract_and_finds_the_face() -> None:
    detector = nudenet.load(labels=("FACE_FEMALE", "FACE_MALE"), device="cpu", threads=1)
    assert isinstance(detector, Detector)
    blank = Image.new("RGB", (320, 320), (120, 130, 140))
    (shown,), (empty,) = detector.score([face(), blank])
    assert shown.value is not None
    assert empty.value is not None
    assert shown.value > 0.5 > 0.02 > empty.value
    assert shown.note.startswith("FACE_")


@installed
def test_a_picture_does_not_depend_on_its_batch() -> None:
    detector = nudenet.load(labels=LABELS, device="cpu", threads=1)
    images = [face(), face(400, 500), Image.new("RGB", (9, 90), "red")]
    together = [row[0].value for row in detector.score(images)]
    alone = [detector.score([image])[0][0].value for image in images]
    assert together == pytest.approx(alone, abs=1e-5)


@installed
def test_the_network_takes_these_18_labels() -> None:
    detector = nudenet.load(device="cpu", threads=1)
    output = detector.network(prepared(face(), 320)[None])
    assert output.shape == (1, 4 + len(LABELS), 2100)
    assert np.all((output[:, 4:] >= 0) & (output[:, 4:] <= 1))


@installed
def test_other_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudenet, "SHA256", "0" * 64)
    with pytest.raises(BadFile, match="damaged or another version"):
        nudenet.load()


def test_without_the_extra_the_install_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nudenet, "find_spec", lambda name: None)
    with pytest.raises(MissingPart, match=r"nudenet detector .* 'tadasu\[nudenet\]'"):
        nudenet.load()
