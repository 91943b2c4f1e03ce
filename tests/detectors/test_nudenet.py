"""NudeNet's boxes, written down, and its preparation sampled by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tadasu.detectors.nudenet import EXPOSED, LABELS, NudeNet, prepared
from tadasu.errors import BadInput, UnknownName


def boxes(*found: dict[str, float]) -> np.ndarray:
    """An output of the network: one column a box, 4 places and 18 probabilities."""
    output = np.zeros((22, len(found)), dtype=np.float32)
    for column, chances in enumerate(found):
        output[:4, column] = 900.0  # places are no probabilities
        for label, chance in chances.items():
            output[4 + LABELS.index(label), column] = chance
    return output


def answering(*outputs: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda batch: np.stack(outputs[: len(batch)])


def picture() -> Image.Image:
    return Image.new("RGB", (8, 8))


def test_the_surest_exposed_box_counts() -> None:
    network = answering(
        boxes({"FACE_FEMALE": 0.99}, {"BUTTOCKS_EXPOSED": 0.3}, {"ANUS_EXPOSED": 0.7})
    )
    ((score,),) = NudeNet(network=network).score([picture()])
    assert score.value == pytest.approx(0.7)
    assert score.note == "ANUS_EXPOSED"


def test_a_box_is_what_it_most_looks_like() -> None:
    network = answering(boxes({"FEMALE_BREAST_COVERED": 0.8, "FEMALE_BREAST_EXPOSED": 0.6}))
    ((score,),) = NudeNet(network=network).score([picture()])
    assert score.value == 0.0
    assert score.state == "scored"


def test_other_labels_can_be_asked_for() -> None:
    network = answering(boxes({"FACE_MALE": 0.4}))
    chosen = NudeNet(network=network, labels=("FACE_MALE",), concepts=("faces", "privacy"))
    (row,) = chosen.score([picture()])
    assert [score.concept for score in row] == ["faces", "privacy"]
    assert row[0].value == pytest.approx(0.4)
    with pytest.raises(UnknownName, match="Did you mean FACE_MALE"):
        NudeNet(network=network, labels=("FACE_MAL",))


def test_one_broken_picture_leaves_its_neighbours_alone() -> None:
    good = boxes({"BUTTOCKS_EXPOSED": 0.5})
    rows = NudeNet(network=answering(good, good * np.float32("nan"), good)).score([picture()] * 3)
    assert [row[0].state for row in rows] == ["scored", "unscored", "scored"]


def test_the_labels_stand_in_the_order_of_the_weights() -> None:
    assert len(set(LABELS)) == 18
    assert LABELS[1] == "FACE_FEMALE"
    assert LABELS[3] == "FEMALE_BREAST_EXPOSED"
    assert LABELS[12] == "FACE_MALE"
    assert set(EXPOSED) < set(LABELS)


def test_colours_are_red_green_blue_and_the_padding_lies_right_and_below() -> None:
    planes = prepared(Image.new("RGB", (64, 32), (255, 51, 0)), 64)
    assert planes.shape == (3, 64, 64)
    assert planes[:, 0, 0].tolist() == pytest.approx([1.0, 0.2, 0.0])
    assert np.all(planes[:, 33:, :] == 0)
    tall = prepared(Image.new("RGB", (32, 64), (255, 51, 0)), 64)
    assert np.all(tall[:, :, 33:] == 0)
    assert np.all(tall[0, :, :31] == 1)


def test_sampling_is_linear_between_the_centres_of_pixels() -> None:
    # Two pixels, 0 and 200, on four places: centres at -1/4, 1/4, 3/4, 5/4 of the first's.
    ramp = Image.fromarray(np.array([[[0] * 3, [200] * 3], [[0] * 3, [200] * 3]], dtype=np.uint8))
    row = prepared(ramp.resize((32, 32), Image.Resampling.NEAREST), 64)[0, 0] * 255
    assert row[[0, 30, 31, 32, 33, 63]].tolist() == pytest.approx([0, 0, 50, 150, 200, 200])


@pytest.mark.parametrize("changes", [{"labels": ()}, {"concepts": ()}, {"side": 100}, {"side": 0}])
def test_parameters_that_mean_nothing_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        NudeNet(network=answering(), **changes)  # type: ignore[arg-type]
