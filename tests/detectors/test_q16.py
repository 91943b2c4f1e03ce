"""Q16: the softmax over two prompts, heads from files, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tadasu.detectors.q16 import Q16, Head
from tadasu.errors import BadFile, BadInput

PICTURES = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in range(4)]


class Clip:
    """Pictures as two-dimensional vectors by their shade."""

    logit_scale = 100.0

    def encode_images(self, images: Sequence[Image.Image]) -> np.ndarray:
        turned = [float(image.getpixel((0, 0))[0]) for image in images]  # type: ignore[index]
        return np.array([[3.0, shade] for shade in turned])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.ones((len(texts), 2))


def test_q16_is_the_softmax_over_two_prompts() -> None:
    prompts = np.array([[1.0, 0.0], [0.0, 5.0]])
    detector = Q16(network=Clip(), head=Head.of_prompts(prompts))
    vectors = Clip().encode_images(PICTURES)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    logits = 100 * unit @ (prompts / np.linalg.norm(prompts, axis=1, keepdims=True)).T
    wanted = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)
    found = [row[0].value for row in detector.score(PICTURES)]
    np.testing.assert_allclose(np.array(found, dtype=float), wanted, rtol=1e-9, atol=1e-300)


def test_q16_reads_prompts_and_probes_and_refuses_the_rest(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"prompts": np.eye(2, dtype=np.float16)}, tmp_path / "prompts.safetensors")
    save_file(
        {"weight": np.array([[1.0, 2.0]], dtype=np.float32), "bias": np.array([0.5], np.float32)},
        tmp_path / "probe.safetensors",
    )
    assert Head.read(tmp_path / "prompts.safetensors").direction.tolist() == [-100.0, 100.0]
    probe = Head.read(tmp_path / "probe.safetensors")
    assert (probe.direction.tolist(), probe.bias) == ([1.0, 2.0], 0.5)
    one = Q16(network=Clip(), head=probe)
    assert one.content != Q16(network=Clip(), head=Head(direction=probe.direction)).content
    save_file({"other": np.eye(2)}, tmp_path / "other.safetensors")
    (tmp_path / "pickle.p").write_bytes(b"\x80\x04]\x94.")
    for name in ("other.safetensors", "pickle.p", "absent.safetensors"):
        with pytest.raises(BadFile, match="convert a pickle"):
            Head.read(tmp_path / name)
    with pytest.raises(BadInput, match="width 3"):
        Q16(network=Clip(), head=Head(direction=np.ones(3))).score(PICTURES)
    with pytest.raises(BadInput, match="two prompt vectors"):
        Head.of_prompts(np.zeros((2, 3)))


def test_what_is_no_number_is_unscored_and_no_concept_is_refused() -> None:
    head = Head(direction=np.array([np.inf, -np.inf]))
    (row,) = Q16(network=Clip(), head=head).score(PICTURES[1:2])
    assert row[0].state == "unscored"
    with pytest.raises(BadInput, match="concept"):
        Q16(network=Clip(), head=head, concepts=())
