from __future__ import annotations

from types import SimpleNamespace

from tadasu import world
from tadasu.backends.diffusers.context.text import fingerprint
from tadasu.editing.prior import found_prior


def test_the_prior_of_the_bundled_text_encoder_is_found() -> None:
    from transformers import AutoTokenizer, CLIPTextModel

    folder = world.folder("pipeline")
    pipe = SimpleNamespace(
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
    )
    prior = found_prior(fingerprint(pipe))
    assert prior is not None
    assert prior.captions >= 1000
    assert prior.moments["context"].mean.shape == (256, 256)
