"""Engines on tiny LLaVA, Idefics3 and Gemma3 models with random weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tadasu.alignment.engine import Engine, Message, Reply, Request, Sampling, continued
from tadasu.alignment.sentences import sentence_end
from tadasu.backends.transformers import resume
from tadasu.backends.transformers.engine import TOLD, TransformersEngine
from tadasu.backends.transformers.resume import State
from tadasu.errors import BadFile, BadInput, MissingPart, RunFailed

FAMILIES = ("llava", "idefics3", "gemma3")
DRAW = Sampling(temperature=1.0, top_k=20, seed=3)


def ask(text: str = "What is this?") -> tuple[Message, ...]:
    return (Message(text=text, images=(Image.new("RGB", (40, 30), "blue"),)),)


@pytest.fixture(scope="module", params=FAMILIES)
def engine(request: pytest.FixtureRequest, vlm: Callable[[str], Path]) -> TransformersEngine:
    return TransformersEngine(str(vlm(request.param)), device="cpu")


@pytest.fixture(scope="module")
def llava(vlm: Callable[[str], Path]) -> TransformersEngine:
    return TransformersEngine(str(vlm("llava")), device="cpu")


@pytest.fixture(scope="module")
def without(vlm: Callable[[str], Path]) -> TransformersEngine:
    return TransformersEngine(str(vlm("llava")), device="cpu", cache=False)


def logits(engine: TransformersEngine, ids: list[int], messages: tuple[Message, ...]) -> Any:
    """The next token's logits when everything is read again, without any of the engine's code."""
    talk = engine.processor.apply_chat_template(
        [
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": messages[0].text}],
            }
        ],
        add_generation_prompt=True,
    )
    inputs = engine.processor(text=[talk], images=[list(messages[0].images)], return_tensors="pt")
    rows = torch.tensor([ids])
    if "token_type_ids" in inputs:
        more = torch.zeros(1, len(ids) - inputs["token_type_ids"].shape[1], dtype=torch.long)
        inputs["token_type_ids"] = torch.cat([inputs["token_type_ids"], more], 1)
    given = {**inputs, "input_ids": rows, "attention_mask": torch.ones_like(rows)}
    with torch.inference_mode():
        return engine.model(**given).logits[0, -1]


def test_it_is_an_engine_that_keeps_its_cache(engine: TransformersEngine) -> None:
    assert isinstance(engine, Engine)
    assert engine.abilities.resume


def test_greedy_equals_plain_generate(engine: TransformersEngine) -> None:
    messages = ask()
    reply = continued(engine, Request(messages=messages, max_tokens=12))
    talk = engine.processor.apply_chat_template(
        [
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}],
            }
        ],
        add_generation_prompt=True,
    )
    inputs = engine.processor(text=[talk], images=[list(messages[0].images)], return_tensors="pt")
    banned = engine._pictures()
    assert banned
    made = engine.model.generate(
        **inputs, max_new_tokens=12, do_sample=False, suppress_tokens=banned
    )
    new = made[0, inputs["input_ids"].shape[1] :]
    expected = engine.processor.tokenizer.decode(new, skip_special_tokens=True)
    assert reply.continuations[0].text == expected.rstrip("\ufffd")
    assert reply.prompt_tokens == inputs["input_ids"].shape[1]


def test_going_on_gives_the_logits_of_reading_again(engine: TransformersEngine) -> None:
    """The promise of the cache, checked after a branch, a choice and another branch."""
    messages = ask()
    first = engine.generate(
        Request(messages=messages, n=3, sampling=DRAW, max_tokens=6, prefill="As an AI")
    )
    states = [each.resume for each in first.continuations if each.resume is not None]
    assert states
    for state in states:
        cache, length = resume.branch(state, state.ids, 2)
        with torch.inference_mode():
            went_on = engine.model(
                input_ids=torch.tensor([state.ids[length:]] * 2),
                attention_mask=torch.ones(2, len(state.ids), dtype=torch.long),
                past_key_values=cache,
            ).logits[:, -1]
        again = logits(engine, state.ids, messages)
        assert torch.allclose(went_on, again.expand(2, -1), atol=1e-4, rtol=1e-4)


def test_the_check_of_the_cache_can_fail(llava: TransformersEngine) -> None:
    messages = ask()
    state = llava.generate(Request(messages=messages, max_tokens=4)).resume
    cache, length = resume.branch(state, state.ids, 1)
    cache.crop(-1)  # one token is missing
    with torch.inference_mode():
        wrong = llava.model(
            input_ids=torch.tensor([state.ids[length:]]), past_key_values=cache
        ).logits[0, -1]
    assert not resume.same(logits(llava, state.ids, messages), wrong)


def test_both_ways_answer_alike(llava: TransformersEngine, without: TransformersEngine) -> None:
    messages = ask()
    for prefill in ("", "As an AI assistant,"):
        kept = llava.generate(Request(messages=messages, prefill=prefill, max_tokens=10))
        read = without.generate(Request(messages=messages, prefill=prefill, max_tokens=10))
        assert kept.continuations[0].text == read.continuations[0].text
        assert read.resume is None
        assert read.continuations[0].resume is None


def test_candidates_are_gone_on_with_independently(llava: TransformersEngine) -> None:
    """Branching twice from one state gives twice the same: nothing is changed in place."""
    messages = ask()
    one = llava.generate(Request(messages=messages, n=4, sampling=DRAW, max_tokens=5))
    state = one.continuations[1].resume
    assert isinstance(state, State)

    def on() -> Reply:
        return llava.generate(
            Request(messages=messages, prefill=state.text, max_tokens=6, resume=state)
        )

    first, second = on(), on()
    assert first.continuations[0].text == second.continuations[0].text
    assert first.prompt_tokens <= 2
    fresh = llava.model.generate(
        **{
            **llava.processor(
                text=[state.conversation.rendered],
                images=[list(messages[0].images)],
                return_tensors="pt",
            ),
            "input_ids": torch.tensor([state.ids]),
            "attention_mask": torch.ones(1, len(state.ids), dtype=torch.long),
        },
        max_new_tokens=6,
        do_sample=False,
    )
    new = llava.processor.tokenizer.decode(fresh[0, len(state.ids) :], skip_special_tokens=True)
    assert first.continuations[0].text.strip("\ufffd ") == new.strip("\ufffd ")


def test_a_conversation_is_read_once(llava: TransformersEngine) -> None:
    messages = ask()
    draft = llava.generate(Request(messages=messages, max_tokens=4))
    aligned = llava.generate(
        Request(messages=messages, prefill="As an AI", n=2, resume=draft.resume, max_tokens=4)
    )
    assert aligned.prompt_tokens < 12 < draft.prompt_tokens
    fresh = llava.generate(Request(messages=messages, prefill="As an AI", n=2, max_tokens=4))
    assert aligned.continuations[0].text == fresh.continuations[0].text


def test_the_prefill_is_what_the_template_would_write(llava: TransformersEngine) -> None:
    from tadasu.backends.transformers import conversation

    talk = conversation.read(llava.processor, ask())
    ids = conversation.with_prefill(llava.processor, talk, "As an AI assistant,")
    said = llava.processor.tokenizer.decode(ids)
    assert said.endswith("ASSISTANT: As an AI assistant,")
    assert ids[: len(talk.ids)] == talk.ids


def test_sentences_stop_generation(llava: TransformersEngine, monkeypatch: Any) -> None:
    stop = llava.processor.tokenizer.convert_tokens_to_ids(".")
    plain = type(llava.model).forward

    def eager(self: Any, *args: Any, **named: Any) -> Any:
        """A model that likes full stops."""
        output = plain(self, *args, **named)
        output.logits[..., stop] += 4 * output.logits.std()
        return output

    monkeypatch.setattr(type(llava.model), "forward", eager)
    reply = llava.generate(
        Request(messages=ask(), n=6, sampling=DRAW, until="sentence", max_tokens=60)
    )
    assert any(each.finish == "sentence" for each in reply.continuations)
    assert len({each.tokens for each in reply.continuations}) > 1
    for each in reply.continuations:
        state = each.resume
        if state is not None:  # nothing that pads shorter rows is kept
            assert 3 not in state.ids
            assert len(state.ids) <= len(state.conversation.ids) + each.tokens
            said = llava.processor.tokenizer.decode(state.ids[len(state.conversation.ids) :])
            assert said == each.text == state.text
    for each in reply.continuations:
        if each.finish == "sentence":
            assert sentence_end(each.text, finished=True) == len(each.text)
            assert each.tokens < 60


def test_seeds_repeat_draws_and_leave_the_world_alone(llava: TransformersEngine) -> None:
    request = Request(messages=ask(), n=3, sampling=DRAW, max_tokens=6)
    before = torch.random.get_rng_state()
    first = [each.text for each in llava.generate(request).continuations]
    assert torch.equal(before, torch.random.get_rng_state())
    assert first == [each.text for each in llava.generate(request).continuations]
    assert len(set(first)) > 1


def test_control_tokens_typed_by_a_user(engine: TransformersEngine) -> None:
    text = "<image> <start_of_image> <image_soft_token> </s> <fake_token_around_image>"
    reply = engine.generate(Request(messages=ask(text), max_tokens=3))
    assert "control tokens" in reply.notes[0]
    assert engine.generate(Request(messages=ask("plain"), max_tokens=3)).notes == ()


def test_a_text_over_the_context(llava: TransformersEngine) -> None:
    with pytest.raises(BadInput, match=r"reads at most 256. Shorten the text"):
        llava.generate(Request(messages=ask("cat " * 300)))
    near = llava.generate(Request(messages=ask("a" * 180), max_tokens=500))
    assert near.continuations[0].tokens < 80


def test_without_a_picture(engine: TransformersEngine) -> None:
    reply = engine.generate(Request(messages=(Message(text="Hello?"),), max_tokens=3))
    assert reply.continuations[0].tokens == 3 or reply.continuations[0].finish == "end"


def test_time_and_failures(llava: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunFailed, match="within its time"):
        llava.generate(Request(messages=ask(), max_tokens=50, timeout=0.0))

    def broken(*args: Any, **named: Any) -> Any:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(llava.model, "generate", broken)
    with pytest.raises(RunFailed, match="broke off: RuntimeError: out of memory"):
        llava.generate(Request(messages=ask(), max_tokens=3))


def test_another_conversation_is_not_resumed(llava: TransformersEngine) -> None:
    state = llava.generate(Request(messages=ask(), max_tokens=2)).resume
    with pytest.raises(BadInput, match="same messages"):
        llava.generate(Request(messages=ask("Another?"), resume=state))


def test_a_model_with_other_positions_reads_again(vlm: Callable[[str], Path]) -> None:
    engine = TransformersEngine(str(vlm("llava")), device="cpu", cache=False)
    engine.model.rope_deltas = None
    assert not engine._proven()
    del engine.model.rope_deltas
    assert engine._proven()


def test_a_sliding_window_is_not_cut_back(vlm: Callable[[str], Path]) -> None:
    engine = TransformersEngine(str(vlm("gemma3")), device="cpu")
    inside = engine.generate(Request(messages=ask(), max_tokens=10))
    assert inside.resume is not None
    beyond = engine.generate(Request(messages=ask(), max_tokens=60))
    assert beyond.resume is None


def test_folders_that_hold_no_model(
    tmp_path: Path, vlm: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadFile, match="cannot be loaded as a vision-language model"):
        TransformersEngine(str(tmp_path))
    with pytest.raises(BadInput, match="device 'nowhere' is not usable"):
        TransformersEngine(str(vlm("llava")), device="nowhere")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPart, match=r"tadasu\[diffusers\]"):
        TransformersEngine(str(vlm("llava")))


def test_several_pictures_in_one_conversation(llava: TransformersEngine) -> None:
    """A script of the published code hands over a tuple of pictures and breaks."""
    red, blue = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    messages = (
        Message(text="Look.", images=(red, blue)),
        Message(role="assistant", text="I see."),
        Message(text="And now?", images=(red,)),
    )
    reply = llava.generate(Request(messages=messages, n=2, sampling=DRAW, max_tokens=3))
    assert len(reply.continuations) == 2
    assert llava.generate(Request(messages=ask(), max_tokens=3)).prompt_tokens < reply.prompt_tokens


def test_the_end_of_an_answer_is_seen_with_its_last_sentence(
    llava: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a look ahead every answer would cost one more round for nothing."""
    words = llava.processor.tokenizer
    sentence, more = (
        words(text, add_special_tokens=False)["input_ids"] for text in ("It is.", " ok")
    )
    plain = type(llava.model).forward

    def say(script: list[int]) -> None:
        def forward(self: Any, *args: Any, **named: Any) -> Any:
            output = plain(self, *args, **named)
            length = int(named["attention_mask"].shape[1]) - begun[0]
            output.logits[:, -1, script[min(length, len(script) - 1)]] = 1e4
            return output

        monkeypatch.setattr(type(llava.model), "forward", forward)

    request = Request(messages=ask(), until="sentence", max_tokens=20)
    begun = [llava.generate(request).prompt_tokens]
    say([*sentence, 2])
    found = llava.generate(request).continuations[0]
    assert (found.text, found.finish) == ("It is.", "end")
    say([*sentence, *more])
    found = llava.generate(request).continuations[0]
    assert (found.text, found.finish) == ("It is.", "sentence")
    published = llava.generate(
        Request(messages=ask(), until="full stop", max_tokens=20)
    ).continuations[0]
    assert (published.text, published.finish) == ("It is.", "sentence")
    assert published.tokens < found.tokens


def test_candidates_without_a_cache(without: TransformersEngine) -> None:
    drawn = without.generate(Request(messages=ask(), n=3, sampling=DRAW, max_tokens=5))
    assert len({each.text for each in drawn.continuations}) > 1
    assert {each.resume for each in drawn.continuations} == {None}
    greedy = without.generate(Request(messages=ask(), n=3, max_tokens=5))
    assert len(greedy.continuations) == 3
    assert len({each.text for each in greedy.continuations}) == 1


def test_the_first_tokens_chances_are_those_of_the_models_own_logits(
    engine: TransformersEngine,
) -> None:
    messages = ask()
    chances = engine.first_token(Request(messages=messages))
    talk = engine.processor.apply_chat_template(
        [
            {
                "role": "user",
                "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}],
            }
        ],
        add_generation_prompt=True,
    )
    inputs = engine.processor(text=[talk], images=[list(messages[0].images)], return_tensors="pt")
    with torch.inference_mode():
        given = engine.model(**inputs).logits[0, -1]
    logits = given.clone()
    logits[engine._pictures()] = -torch.inf
    expected: dict[str, float] = {}
    for token in logits.topk(TOLD).indices.tolist():
        text = engine.processor.tokenizer.decode([token])
        expected[text] = expected.get(text, 0.0) + float(logits.softmax(-1)[token])
    assert chances == pytest.approx(expected, rel=1e-3)
    assert len(chances) > 20
    with pytest.raises(BadInput, match="prefill"):
        engine.first_token(Request(messages=messages, prefill="Yes"))
