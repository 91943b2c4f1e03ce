"""Decoys: the same for the same update, and they open what the empty text does not show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from tadasu.auditing.adapter import Dense, Factored
from tadasu.auditing.decoys import acting, decoys, sizes
from tadasu.auditing.merge import merge
from tadasu.auditing.probe import Block, Plan, Probe
from tadasu.errors import BadInput

PLAN = Plan(times=(0.3,))


@pytest.fixture
def gated(closed_form: ModuleType) -> Any:
    """A denoiser on which updates act under any text but the empty one."""

    class Gated(closed_form.Diagonal):  # type: ignore[name-defined,misc]
        @contextmanager
        def adapted(
            self, weights: Mapping[str, Tensor], texts: Sequence[str]
        ) -> Iterator[Callable[[Tensor, Tensor, Tensor], Tensor]]:
            with super().adapted(weights, texts) as changed, super().adapted({}, texts) as plain:

                def predict(noised: Tensor, times: Tensor, rows: Tensor) -> Tensor:
                    acts = torch.tensor([bool(texts[int(row)]) for row in rows])
                    both = changed(noised, times, rows), plain(noised, times, rows)
                    return torch.where(acts.reshape(-1, 1, 1, 1), *both)

                yield predict

    return Gated()


def test_the_same_update_gets_the_same_decoys(closed_form: ModuleType) -> None:
    parameter = closed_form.Diagonal().parameter
    up, down = torch.randn(16, 2), torch.randn(2, 16)
    forms = [
        merge([({closed_form.MODULE: update}, strength)], parameter)
        for update, strength in (
            (Factored(up=up, down=down), 1.0),
            (Factored(up=up * 2, down=down / 2), 1.0),
            (Dense(change=up @ down), 2.0),
        )
    ]
    found = {decoys(form, parameter, 5) for form in forms}
    assert len(found) == 1
    (texts,) = found
    assert len(set(texts)) == 5
    other = merge([({closed_form.MODULE: Factored(up=up.flip(0), down=down)}, 1.0)], parameter)
    assert decoys(other, parameter, 5) != texts


def test_what_waits_for_words_is_opened(gated: Any, closed_form: ModuleType) -> None:
    block = Block(concept="", latents=closed_form.pictures(3))
    texts = ("", "brimtal wexo")
    moved = sizes(gated, closed_form.laid(3).weights, block, PLAN, texts)
    assert float(moved[0]) == 0 < float(moved[1])
    assert acting(moved, texts, 4.0).text == "brimtal wexo"


def test_what_acts_anyway_is_shown_without_words(closed_form: ModuleType) -> None:
    plain = closed_form.Diagonal()
    block = Block(concept="", latents=closed_form.pictures(3))
    moved = sizes(plain, closed_form.laid(3).weights, block, PLAN, ("", "brimtal", "wexo"))
    assert torch.allclose(moved, moved[:1])
    assert acting(moved, ("", "brimtal", "wexo"), 4.0).text == ""


def test_a_file_of_zeros_waits_for_nothing() -> None:
    assert acting(torch.zeros(3), ("", "brimtal", "wexo"), 4.0).text == ""


def test_the_probe_sees_the_concept_under_a_decoy_only(gated: Any, closed_form: ModuleType) -> None:
    probe = Probe(denoiser=gated, plan=PLAN)
    blocks = [Block(concept=str(at), latents=closed_form.pictures(at)) for at in (3, 5)]
    quiet = probe.gains(closed_form.laid(3), blocks)
    kept = len(probe.base)
    taught, other = probe.gains(closed_form.laid(3), blocks, text="brimtal wexo")
    assert [float(gain.abs().max()) for gain in quiet] == [0.0, 0.0]
    assert float(taught.mean()) > 10 * abs(float(other.mean())) > 0
    assert len(probe.base) == kept  # thousands of files with words of their own fill no memory


def test_no_text_is_refused(closed_form: ModuleType) -> None:
    block = Block(concept="", latents=closed_form.pictures(3))
    with pytest.raises(BadInput, match="text"):
        sizes(closed_form.Diagonal(), {}, block, PLAN, ())
