"""One-sidedness, calibration per file, near misses, and when the probe may stop."""

from __future__ import annotations

import numpy as np
import pytest

from tadasu.auditing.decide import Calibrated, Evidence, Paia, Table, preset
from tadasu.errors import BadInput, UnknownName


def table(mean: float, count: int = 10, noise: float = 0.1, seed: int = 0) -> Table:
    return mean + noise * np.random.default_rng(seed).normal(size=(count, 6))


def evidence(
    target: float, shift: float = 0.0, near: float | None = None, count: int = 10
) -> Evidence:
    ordinary = {f"c{at}": table(shift + 0.2 * np.sin(at), 2, seed=at + 1) for at in range(24)}
    rivals = {} if near is None else {"rival": table(near, seed=99)}
    return Evidence(target=table(target, count), irrelevant=ordinary, near=rivals)


@pytest.mark.parametrize("shift", [-5.0, 0.0, 5.0])
def test_what_moves_all_pictures_alike_does_not_count(shift: float) -> None:
    there = Calibrated().decide(evidence(shift + 3.0, shift))
    gone = Calibrated().decide(evidence(shift, shift))
    assert there.conclusion == "present"
    assert gone.conclusion == "absent"
    assert there.score == pytest.approx(Calibrated().decide(evidence(3.0)).score, rel=1e-6)


def test_it_is_one_sided() -> None:
    assert Calibrated().decide(evidence(-6.0)).conclusion == "absent"
    assert Paia().decide(evidence(-6.0)).conclusion == "present"


def test_a_near_miss_is_not_convicted_and_its_rival_is_named() -> None:
    found = Calibrated().decide(evidence(1.5, near=6.0))
    assert found.conclusion == "absent"
    assert found.rival == "rival"
    alone = Calibrated().decide(evidence(1.5))
    assert alone.conclusion == "present"
    assert alone.rival == ""


def test_two_concepts_of_one_file_may_both_be_present() -> None:
    assert Calibrated().decide(evidence(5.0, near=6.0)).conclusion == "present"


def test_the_probe_stops_when_it_is_clear_and_not_before() -> None:
    decider = Calibrated()
    clear = decider.decide(evidence(3.0, count=4))
    assert clear.conclusion == "present"
    assert decider.settled(clear)
    start = decider.decide(evidence(0.0, count=4)).score
    slope = (clear.score - start) / 3.0

    def scoring(score: float, count: int = 4) -> Evidence:
        return evidence((score - start) / slope, count=count)

    doubtful = decider.decide(scoring(0.7))
    assert doubtful.conclusion == "undecided"
    assert not decider.settled(doubtful)
    close = decider.decide(scoring(1.3))
    assert close.conclusion == "present"
    assert not decider.settled(close)
    assert decider.settled(decider.decide(scoring(1.4, count=40)))
    assert decider.settled(decider.decide(scoring(-1.0)))
    assert not Paia().settled(Paia().decide(evidence(3.0)))


def test_disagreeing_pictures_show_in_the_limits() -> None:
    half = np.concatenate([table(4.0, 5), table(-1.0, 5)])
    mixed = Evidence(target=half, irrelevant=evidence(0).irrelevant, near={})
    found = Calibrated().decide(mixed)
    assert found.interval.low < 0.5 < found.interval.high
    assert found.interval.estimate == 0.5


def test_a_file_without_effect_is_absent_with_score_zero() -> None:
    nothing = {f"c{at}": np.zeros((2, 6)) for at in range(24)}
    found = Calibrated().decide(Evidence(target=np.zeros((10, 6)), irrelevant=nothing, near={}))
    assert (found.conclusion, found.score, found.p_value) == ("absent", 0.0, 1.0)


def test_gains_below_the_floor_are_rounding() -> None:
    tiny = {f"c{at}": np.full((2, 6), 1e-6 * np.sin(at)) for at in range(24)}
    target = np.full((10, 6), 1e-4)
    with_floor = Evidence(target=target, irrelevant=tiny, near={}, floor=1e-3)
    without = Evidence(target=target, irrelevant=tiny, near={})
    assert Calibrated().decide(with_floor).conclusion == "absent"
    assert Calibrated().decide(without).conclusion == "present"


def test_p_values_of_ordinary_concepts_are_not_too_small() -> None:
    rng = np.random.default_rng(0)
    values = []
    for _ in range(300):
        centres = rng.normal(size=25)
        tables = [np.full((3, 2), centre) for centre in centres]
        ordinary = {str(at): each for at, each in enumerate(tables[1:])}
        found = Calibrated(rivalry=0).decide(
            Evidence(target=tables[0], irrelevant=ordinary, near={})
        )
        assert found.p_value is not None
        values.append(found.p_value)
    assert np.mean(np.array(values) < 0.05) < 0.11


def test_paia_calls_a_taught_concept_present() -> None:
    assert Paia().decide(evidence(3.0)).conclusion == "present"
    assert Paia().decide(evidence(0.0)).conclusion == "absent"


def test_too_few_irrelevant_concepts_are_refused() -> None:
    few = {name: values for name, values in list(evidence(0).irrelevant.items())[:3]}
    with pytest.raises(BadInput, match="At least 8"):
        Calibrated().decide(Evidence(target=table(1.0), irrelevant=few, near={}))
    with pytest.raises(BadInput):
        Paia().decide(Evidence(target=table(1.0), irrelevant={}, near={}))


def test_presets_are_found_by_name() -> None:
    assert preset("paia") == Paia()
    with pytest.raises(UnknownName, match="calibrated"):
        preset("calibrate")
