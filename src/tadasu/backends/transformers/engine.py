"""A local vision-language model as an engine of alignment.

Any model that `AutoModelForImageTextToText` loads. Candidates come out of one batch whose
conversation was read once. The key-value cache is kept between requests where that is proven to
give what reading again gives: the kinds of cache layers are known, positions are plain, and at
loading time the logits of both ways were equal. Elsewhere everything is read again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tadasu.alignment.engine import Abilities, Continuation, Finish, Message, Reply, Request
from tadasu.backends.transformers import conversation as conversations
from tadasu.backends.transformers import resume
from tadasu.backends.transformers.conversation import Conversation
from tadasu.backends.transformers.drawing import Drawing
from tadasu.backends.transformers.load import complete, fingerprint, place, reading
from tadasu.backends.transformers.resume import State
from tadasu.backends.transformers.stopping import Decoder, Stop, boundary
from tadasu.errors import BadFile, BadInput, RunFailed, TadasuError
from tadasu.references import located

if TYPE_CHECKING:
    import torch


KIND = "a vision-language model"
TOLD = 100
"""How many likely tokens are told."""


class TransformersEngine:
    """A vision-language model with its processor, in evaluation mode.

    Args:
        ref: a folder or a hub id.
        device: a torch device; None for CUDA where there is one, else the CPU.
        dtype: of the weights; None for bfloat16 on CUDA and float32 elsewhere.
        cache: whether the key-value cache may be kept between requests where that is proven.

    Raises:
        BadFile: the reference holds no vision-language model, or it has no chat template.
        BadInput: there is no such device.
        MissingPart: the extra ``diffusers`` is not installed.
    """

    def __init__(
        self,
        ref: str,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        cache: bool = True,
    ) -> None:
        ref = located(ref, "vlm")
        with reading(ref, KIND) as transformers:
            import torch

            self.processor: Any = transformers.AutoProcessor.from_pretrained(ref)
            model = complete(transformers.AutoModelForImageTextToText, ref)
        on_gpu = (device or ("cuda" if torch.cuda.is_available() else "cpu")).startswith("cuda")
        placed = place(model, device=device, dtype=dtype or (torch.bfloat16 if on_gpu else None))
        self.model: Any = placed.model
        self.name = ref
        self._device, self._dtype = placed.device, placed.dtype
        if getattr(self.processor, "chat_template", None) is None:
            raise BadFile(f"{ref} has no chat template, so it cannot hold a conversation.")
        config = self.model.config.get_text_config()
        self._context: int | None = getattr(config, "max_position_embeddings", None)
        self._window = resume.window(self.model.config)
        self._marks: dict[int, bool] = {}
        self._keeps = False
        try:
            self._keeps = cache and self._proven()
        except Exception:  # a model whose cache cannot even be tried: everything is read again
            self._keeps = False

    @property
    def abilities(self) -> Abilities:
        """All of them; the cache only where it is proven."""
        return Abilities(resume=self._keeps)

    @property
    def content(self) -> str:
        """What its weights are; systems with other weights are other systems."""
        return fingerprint(self.model)

    def generate(self, request: Request) -> Reply:
        """Continues a conversation in ``request.n`` ways, in one batch.

        Raises:
            BadInput: the conversation does not fit the model, for example by its length.
            RunFailed: generation broke off.
        """
        began = time.monotonic()
        deadline = None if request.timeout is None else began + request.timeout
        state = request.resume if isinstance(request.resume, State) else None
        if state is not None and state.conversation.messages != request.messages:
            raise BadInput("A request can only resume a conversation with the same messages.")
        with _reported(self.name):
            talk = state.conversation if state else conversations.read(
                self.processor, request.messages
            )  # fmt: skip
            ids = self._ids(talk, request.prefill, state)
            return self._reply(request, talk, ids, state, deadline)

    def first_token(self, request: Request) -> dict[str, float]:
        """How likely the first token of an answer is: the likeliest with their probability.

        Args:
            request: a conversation; how tokens are drawn does not matter here.

        Raises:
            BadInput: the conversation does not fit the model, or the answer has a beginning.
            RunFailed: the model broke off, or its logits are not finite.
        """
        if request.prefill:
            raise BadInput("The first token of an answer that has begun is not asked for; leave "
                           "prefill out.")  # fmt: skip
        with _reported(self.name):
            talk = conversations.read(self.processor, request.messages)
            self._room(len(talk.ids), 1)
            logits = self._run(**self._placed(talk.inputs)).logits[0, -1].float().clone()
            logits[self._pictures()] = -math.inf
            chances, tokens = logits.softmax(-1).topk(min(TOLD, len(logits)))
        if not math.isfinite(float(chances.sum())):
            raise RunFailed(f"{self.name} gives logits that are not finite.")
        found: dict[str, float] = {}
        for token, chance in zip(tokens.tolist(), chances.tolist(), strict=True):
            text = self.processor.tokenizer.decode([token])
            found[text] = found.get(text, 0.0) + chance
        return found

    def _ids(self, talk: Conversation, prefill: str, state: State | None) -> list[int]:
        """The tokens that are gone on from."""
        if state is not None and state.text and prefill.startswith(state.text):
            rest = prefill[len(state.text) :]
            return state.ids + (conversations.more(self.processor, rest) if rest else [])
        return conversations.with_prefill(self.processor, talk, prefill)

    def _reply(
        self,
        request: Request,
        talk: Conversation,
        ids: list[int],
        state: State | None,
        deadline: float | None,
    ) -> Reply:
        limit = self._room(len(ids), request.max_tokens)
        keeps = self._keeps and (self._window is None or len(ids) + limit < self._window)
        if keeps and state is None:
            state = self._read(talk)
            read = len(ids)
        elif keeps and state is not None:
            read = len(ids) - min(
                conversations.common_length(state.ids[: state.covered], ids), len(ids)
            )
        else:
            state, read = None, len(ids)
        decoder = Decoder(self.processor.tokenizer, ids, self._marks)
        stop = Stop(decoder, start=len(ids), until=request.until, deadline=deadline)
        made = self._generate(request, talk, ids, state, limit, stop)
        rows = [
            stop.real(place, row)
            for place, row in enumerate(made.sequences[:, len(ids) :].tolist())
        ]
        rows = [rows[place % len(rows)] for place in range(request.n)]  # greedy ones are equal
        continuations = tuple(
            self._continuation(request, talk, ids, row, place, decoder, made if keeps else None)
            for place, row in enumerate(rows)
        )
        opened = state if state is None or not state.text else None
        return Reply(
            continuations=continuations,
            prompt_tokens=read,
            notes=talk.notes,
            resume=opened or (request.resume if keeps else None),
        )

    def _room(self, read: int, wanted: int) -> int:
        """How many tokens can be generated.

        Raises:
            BadInput: none.
        """
        if self._context is None:
            return wanted
        if read >= self._context:
            raise BadInput(
                f"The conversation has {read:,} tokens; {self.name} reads at most "
                f"{self._context:,}. Shorten the text."
            )
        return min(wanted, self._context - read)

    def _read(self, talk: Conversation) -> State:
        """A conversation whose keys and values are in a cache, but for its last token."""
        length = talk.inputs["input_ids"].shape[1]
        inputs = {
            name: value[:, :-1] if _by_token(name, value, length) else value
            for name, value in self._placed(talk.inputs).items()
        }
        output = self._run(**inputs)
        return State(
            conversation=talk,
            ids=talk.ids,
            text="",
            cache=output.past_key_values,
            row=0,
            covered=length - 1,
        )

    def _run(self, **inputs: Any) -> Any:
        import torch

        with torch.inference_mode():
            return self.model(**inputs, use_cache=True, return_dict=True)

    def _generate(
        self,
        request: Request,
        talk: Conversation,
        ids: list[int],
        state: State | None,
        limit: int,
        stop: Stop,
    ) -> Any:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        draws = request.sampling.temperature > 0
        rows = torch.tensor([ids], device=self._device)
        inputs: dict[str, Any]
        if state is not None:
            cache, _ = resume.branch(state, ids, request.n)
            rows = rows.repeat(request.n, 1)
            inputs = {"past_key_values": cache}
        else:
            inputs = self._placed(_lengthened(talk.inputs, len(ids)))
            if draws and request.n > 1:
                rows, inputs = self.model._expand_inputs_for_generation(
                    expand_size=request.n, is_encoder_decoder=False, input_ids=rows,
                    **{name: value for name, value in inputs.items() if name != "input_ids"},
                )  # fmt: skip
        drawing = [Drawing(request.sampling, self._device)] if draws else []
        with torch.inference_mode():
            made = self.model.generate(
                **{**inputs, "input_ids": rows, "attention_mask": torch.ones_like(rows)},
                generation_config=self._config(limit),
                logits_processor=LogitsProcessorList(drawing),
                stopping_criteria=StoppingCriteriaList([stop]),
            )
        return made

    def _config(self, limit: int) -> Any:
        from transformers import GenerationConfig

        own = self.model.generation_config
        ends = self._ends()
        pad = own.pad_token_id if own.pad_token_id is not None else ends[0]
        return GenerationConfig(
            do_sample=False,  # draws are made by `Drawing`, with a generator of their own
            max_new_tokens=limit,
            eos_token_id=ends,
            pad_token_id=pad,
            suppress_tokens=self._pictures() or None,
            return_dict_in_generate=True,
            use_cache=True,
        )

    def _ends(self) -> list[int]:
        """The tokens that end an answer."""
        own = self.model.generation_config.eos_token_id
        found = own if own is not None else self.processor.tokenizer.eos_token_id
        return [int(each) for each in (found if isinstance(found, list) else [found])]

    def _pictures(self) -> list[int]:
        """The tokens that stand for a picture; an answer that held one could not be read again."""
        names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
        found = (getattr(self.model.config, name, None) for name in names)
        return sorted({int(token) for token in found if token is not None})

    def _continuation(
        self,
        request: Request,
        talk: Conversation,
        ids: list[int],
        row: list[int],
        place: int,
        decoder: Decoder,
        made: Any | None,
    ) -> Continuation:
        """One row of what was generated, cut where the request wants it."""
        ends = set(self._ends())
        length = next((i for i, token in enumerate(row) if token in ends), None)
        ended = length is not None
        tokens = row[:length] if ended else row
        text = decoder(tokens)
        finish: Finish = "end" if ended else "length"
        cut = boundary(text, request.until, finished=ended)
        if cut is not None and (cut < len(text) or not ended):
            text, finish = text[:cut], "sentence"
        kept = _tokens_of(text, tokens, decoder)
        state = None
        if made is not None and kept is not None:
            state = State(
                conversation=talk,
                ids=ids + tokens[:kept],
                text=request.prefill + text,
                cache=made.past_key_values,
                row=place,
                covered=min(len(ids) + kept, int(made.past_key_values.get_seq_length())),
            )
        return Continuation(text=text, finish=finish, tokens=len(tokens) + int(ended), resume=state)

    def _placed(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Inputs on the model's device; pixels in its precision."""
        return {
            name: value.to(self._device, self._dtype)
            if value.is_floating_point()
            else value.to(self._device)
            for name, value in inputs.items()
        }

    def _proven(self) -> bool:
        """Whether going on from a cache gives the logits of reading everything again."""
        import torch
        from PIL import Image

        if not resume.positions_are_plain(self.model):
            return False
        picture = Image.new("RGB", (48, 32), "red")
        messages = (Message(text="What is this?", images=(picture,)),)
        talk = conversations.read(self.processor, messages)
        state = self._read(talk)
        if not resume.grows(state.cache):
            return False
        ids = conversations.with_prefill(self.processor, talk, "A thing that is")
        if self._window is not None and len(ids) >= self._window:
            return False
        cache, length = resume.branch(state, ids, 2)
        rest = torch.tensor([ids[length:]] * 2, device=self._device)
        went_on = self._run(
            input_ids=rest,
            attention_mask=torch.ones(2, len(ids), device=self._device, dtype=torch.long),
            past_key_values=cache,
        )
        rows = torch.tensor([ids], device=self._device)
        whole = self._placed(_lengthened(talk.inputs, len(ids)))
        again = self._run(**{**whole, "input_ids": rows, "attention_mask": torch.ones_like(rows)})
        return all(resume.same(again.logits[0, -1], row[-1]) for row in went_on.logits)


def _by_token(name: str, value: torch.Tensor, length: int) -> bool:
    """Whether an input has one column for each token."""
    plain = value.ndim == 2 and value.shape[1] == length
    return plain or name == "cross_attention_mask"


def _lengthened(inputs: dict[str, torch.Tensor], length: int) -> dict[str, torch.Tensor]:
    """Inputs of a conversation for more or fewer text tokens behind it; kinds of tokens are 0."""
    import torch

    old = inputs["input_ids"].shape[1]
    found = {}
    for name, value in inputs.items():
        if value.ndim == 2 and value.shape[1] == old and name not in ("input_ids",):
            more = torch.zeros(1, max(0, length - old), dtype=value.dtype)
            value = torch.cat([value[:, :length], more], dim=1)
        elif name == "cross_attention_mask":  # Mllama: which pictures each token looks at
            last = value[:, -1:].expand(-1, max(0, length - old), *value.shape[2:])
            value = torch.cat([value[:, :length], last], dim=1)
        found[name] = value
    return found


def _tokens_of(text: str, tokens: list[int], decoder: Decoder) -> int | None:
    """How many of the tokens give the text; None where it ends inside a token."""
    for length in range(len(tokens), -1, -1):
        said = decoder(tokens[:length])
        if said == text:
            return length
        if not said.startswith(text):
            return None
    return None


@contextmanager
def _reported(name: str) -> Iterator[None]:
    """Turns whatever breaks off inside a model into one clear failure."""
    try:
        yield
    except TadasuError:
        raise
    except Exception as error:  # whatever goes wrong withholds the answer; nothing is hidden
        reason = " ".join(str(error).split())
        raise RunFailed(f"{name} broke off: {type(error).__name__}: {reason}") from error
