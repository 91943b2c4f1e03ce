"""Texts are encoded once per text encoder, and again when that encoder has changed."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tadasu.backends.diffusers import encoded
from tadasu.backends.diffusers.attach import attach
from tadasu.backends.diffusers.encoded import Encoded
from tadasu.backends.diffusers.families import family_of
from tadasu.policy import Policy

Latents = Callable[..., torch.Tensor]
LETTERS = ["a pistol", "a bomb", "an axe"]
#: What the pipeline asks of its encoder for itself: the prompt and the empty negative prompt.
OWN = 2
#: What the kept texts cost: whether the encoder still says the same about the empty text.
CHECK = 1


@contextmanager
def counted(pipe: Any) -> Iterator[list[int]]:
    """One entry per call of the text encoder."""
    calls: list[int] = []
    handle = pipe.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        handle.remove()


@pytest.fixture
def own(sd: Any, like: Callable[..., Any]) -> Any:
    """A pipeline with a text encoder of its own."""
    return like(sd, text_encoder=copy.deepcopy(sd.text_encoder))


def test_the_second_attachment_of_a_policy_encodes_nothing_again(
    own: Any, latents_of: Latents
) -> None:
    concepts = Policy.load("kids").concepts
    texts = {name for c in concepts for name in (*c.prompts, *c.names.get("en", ()))}
    with counted(own) as calls:
        with attach(own, "presence", concepts):
            first = latents_of(own, steps=1)
        assert len(calls) == OWN + CHECK + len(texts)
        calls.clear()
        for _ in range(2):
            with attach(own, "presence", concepts):
                assert torch.equal(latents_of(own, steps=1), first)
            assert len(calls) == OWN + CHECK
            calls.clear()


def test_pipelines_that_share_an_encoder_share_what_it_said(
    own: Any, like: Callable[..., Any], latents_of: Latents
) -> None:
    with attach(own, "sld:max", LETTERS):
        latents_of(own, steps=1)
    other = like(own)
    with counted(other) as calls, attach(other, "sld:max", LETTERS):
        latents_of(other, steps=1)
    assert len(calls) == OWN + CHECK


def changed_layer(encoder: Any) -> torch.Tensor:
    found: torch.Tensor = next(
        w for name, w in encoder.named_parameters() if "q_proj.weight" in name
    )
    return found


def changed_word(encoder: Any) -> torch.Tensor:
    """The row of the letter p, which the empty text never reads."""
    rows: torch.Tensor = encoder.get_input_embeddings().weight
    return rows[15:16]


@pytest.mark.parametrize("part", [changed_layer, changed_word])
def test_an_encoder_that_was_changed_is_asked_again(
    own: Any, like: Callable[..., Any], latents_of: Latents, part: Callable[[Any], torch.Tensor]
) -> None:
    with attach(own, "sld:max", LETTERS):
        before = latents_of(own, steps=2)
    with torch.no_grad():
        part(own.text_encoder).mul_(3.0)
    with attach(own, "sld:max", LETTERS):
        after = latents_of(own, steps=2)
    fresh = like(own, text_encoder=copy.deepcopy(own.text_encoder))
    with attach(fresh, "sld:max", LETTERS):
        assert torch.equal(after, latents_of(fresh, steps=2))
    assert not torch.equal(after, before)


def test_another_way_of_encoding_is_another_text(own: Any) -> None:
    family = family_of(own)
    with counted(own) as calls, torch.no_grad():
        for clean in (True, False, True):
            Encoded(own, family, {"clean_caption": clean}).of("a pistol")
    assert len(calls) == (CHECK + 1) + (CHECK + 1) + CHECK


def test_large_texts_are_given_up_but_what_they_are_compared_by_is_not(
    own: Any, latents_of: Latents, monkeypatch: pytest.MonkeyPatch
) -> None:
    with attach(own, "presence:every_step", LETTERS):
        expected = latents_of(own, "pistol", steps=3)
    encoded._KEPT.clear()
    monkeypatch.setattr(encoded, "MOST_BYTES", 1)
    for calls_more in (len(LETTERS) + 1, 1):  # the likest text is encoded once more to be predicted
        with counted(own) as calls, attach(own, "presence:every_step", LETTERS):
            assert torch.equal(latents_of(own, "pistol", steps=3), expected)
        assert OWN + CHECK <= len(calls) <= OWN + CHECK + calls_more


def test_what_was_kept_goes_with_the_encoder(own: Any, latents_of: Latents) -> None:
    with attach(own, "sld:max", LETTERS):
        latents_of(own, steps=1)
    assert own.text_encoder in encoded._KEPT
    alive = weakref.ref(own.text_encoder)
    own.text_encoder = None
    gc.collect()
    assert alive() is None
