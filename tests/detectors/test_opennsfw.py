"""open_nsfw's preparation against the original script, step by step in plain arithmetic."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tadasu.detectors.opennsfw import OpenNSFW, prepared
from tadasu.errors import BadInput


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def as_the_original_does(image: Image.Image) -> np.ndarray:
    """classify_nsfw.py with caffe.io.Transformer written out, in float64."""
    resized = image.resize((256, 256), resample=Image.BILINEAR)  # type: ignore[attr-defined]
    stored = io.BytesIO()
    resized.save(stored, format="JPEG")
    stored.seek(0)
    loaded = np.asarray(Image.open(stored), dtype=np.float64) / 255  # caffe.io.load_image
    top = max((256 - 224) // 2, 0)
    cut = loaded[top : top + 224, top : top + 224, :]
    planes = cut.transpose(2, 0, 1)[[2, 1, 0]] * 255  # transpose, channel_swap, raw_scale
    planes -= np.array([104, 117, 123])[:, None, None]  # mean
    return planes.transpose(1, 2, 0)  # this network takes channels last


@pytest.mark.parametrize("size", [(300, 200), (64, 64), (1, 1), (31, 700)])
def test_pictures_are_prepared_as_in_the_original(size: tuple[int, int]) -> None:
    found = prepared(noise(*size))
    assert found.dtype == np.float32
    assert np.abs(found - as_the_original_does(noise(*size))).max() < 1e-4


def test_the_answer_is_the_second_number_for_each_concept() -> None:
    def network(batch: np.ndarray) -> np.ndarray:
        assert batch.shape == (2, 224, 224, 3)
        return np.array([[0.9, 0.1], [np.nan, np.nan]], dtype=np.float32)

    rows = OpenNSFW(network=network, concepts=("sexual", "adult")).score([noise(9, 9), noise(9, 9)])
    assert [score.value for score in rows[0]] == pytest.approx([0.1, 0.1])
    assert [score.concept for score in rows[0]] == ["sexual", "adult"]
    assert {score.state for score in rows[1]} == {"unscored"}


def test_it_must_answer_for_something() -> None:
    with pytest.raises(BadInput, match="at least one concept"):
        OpenNSFW(network=lambda batch: batch, concepts=())
    assert OpenNSFW(network=lambda batch: batch).score([]) == []
