"""Steer a diffusers pipeline that a user already has, and leave it exactly as it was.

``with attach(pipe, guidance, concepts): pipe(...)`` acts at the door of the pipeline's denoiser.
The concepts' rows join the rows that the pipeline asks for, in the same forward. The pipeline's
own formula u + s_g(p - u) stays in place: the door returns p as it is and an unconditional row

    u' = (s_g·p - ε̂) / (s_g - 1)

from which that formula makes the guided prediction ε̂. Nothing of the pipeline is forked, so its
schedulers, rescaling, masks and callbacks work as before.

Attachments nest: rules attached later see the prediction as the rules before left it, and all of
their rows still go through one forward.

What is attached belongs to one **run**, which is one call of the pipeline. The run takes the
pipeline, its scheduler, its denoiser and its text encoders for itself (`turn`), finds the denoiser
that the pipeline has then, sees every call of it whatever hooks lie on it (`entry`), and ends with
an error instead of a picture where something attached did not act on every step. A block belongs to
the thread or task that opened it; other threads wait until it is closed.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

from tadasu.backends.diffusers.context.moved import Maps, Mover, Moves
from tadasu.backends.diffusers.entry import entered, entered_by_run
from tadasu.backends.diffusers.families import family_of
from tadasu.backends.diffusers.parts import (
    Plain,
    by_name,
    called_with,
    denoiser_of,
    parts_of,
    unwrapped,
)
from tadasu.backends.diffusers.plan import Layer, Record
from tadasu.backends.diffusers.run import Run
from tadasu.backends.diffusers.turn import claimed, owns
from tadasu.errors import BadInput, shown
from tadasu.guidance.registry import parse
from tadasu.guidance.rule import Rule

if TYPE_CHECKING:
    from tadasu.concepts import Concept, Speaks

#: Where the class of an attached pipeline keeps its attachment.
_MARK = "_tadasu_attachment"
_LOCK = threading.RLock()


class Attached:
    """What ``attach`` returns: what was attached, and what ran.

    Attributes:
        rule: the rule that was attached.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self.rule = layer.rule

    @property
    def record(self) -> Record | None:
        """What ran in the latest call of the pipeline; None before the first call."""
        return self._layer.record


class Acting:
    """What ``applied`` returns: edits of one block, and what they did.

    Attributes:
        maps: maps per site.
    """

    def __init__(self, maps: Maps) -> None:
        self.maps = maps
        self.moves: Moves | None = None

    @property
    def record(self) -> Moves | None:
        """What all edits of the pipeline did in its latest call; None before the first."""
        return self.moves


class _Attachment:
    """What acts on one pipeline while blocks are open, and the class that opens its runs."""

    blocks: int

    def __init__(self, pipe: Any) -> None:
        before: _Attachment | None = getattr(type(pipe), _MARK, None)
        #: What a copy of an attached pipeline has from its original.
        self._before = before if before is not None and before.blocks else None
        self.pipe = pipe
        self.blocks = 0
        self._layers: list[Layer] = []
        self._edits: list[Acting] = []
        self._class = type(pipe)
        self._own = next(cls for cls in type(pipe).__mro__ if _MARK not in vars(cls))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Rules, the outermost first."""
        return (*(self._before.layers if self._before else ()), *self._layers)

    @property
    def edits(self) -> tuple[Acting, ...]:
        """Edits, the outermost first."""
        return (*(self._before.edits if self._before else ()), *self._edits)

    @contextmanager
    def block(self, layer: Layer | None, edits: Sequence[Acting]) -> Iterator[None]:
        """Rules and edits for as long as a block is open."""
        with _LOCK:
            if not self.blocks:
                self.pipe.__class__ = _attached_class(self._own, self)
            self.blocks += 1
            self._layers += [layer] if layer else []
            self._edits += edits
        try:
            with ExitStack() as stack:
                for module in self._modules(self.pipe):
                    stack.enter_context(entered(module, self))
                yield
        finally:
            with _LOCK:
                self._layers = [each for each in self._layers if each is not layer]
                self._edits = [each for each in self._edits if each not in edits]
                self.blocks -= 1
                if not self.blocks and vars(type(self.pipe)).get(_MARK) is self:
                    self.pipe.__class__ = self._class

    def _modules(self, pipe: Any) -> list[Any]:
        """Whose calls have to be seen, as the pipeline is now."""
        if not self.layers and not self.edits:
            return []
        found = [denoiser_of(pipe)]
        if Mover(pipe, [each.maps for each in self.edits]).layers:
            found.append(pipe.text_encoder)
        return found

    @contextmanager
    def open(
        self, pipe: Any, call: Mapping[str, Any], *, whole: bool = True, rules: bool = True
    ) -> Iterator[Run]:
        """One call of the pipeline: texts are encoded before it, state is dropped after it.

        Args:
            pipe: the pipeline that is called: this one, or a copy of it.
            call: its arguments.
            whole: whether the call has to make every step of its schedule.
            rules: whether rules act; edits always do.
        """
        with claimed(parts_of(pipe), run=True) as claim, ExitStack() as stack:
            layers = self.layers if rules else ()
            mover = Mover(pipe, [each.maps for each in self.edits])
            run = Run(pipe, layers, mover, call, claim)
            for module in self._modules(pipe):
                stack.enter_context(entered_by_run(module, run))
            try:
                with torch.no_grad():
                    run.begin()
                yield run
            finally:
                run.close()
                for acting in self.edits:
                    acting.moves = run.moves
            if whole:
                run.check()

    def enter(self, module: Any, plain: Plain, args: Any, kwargs: Any) -> Any:
        """A call of a module by the block's owner, outside every run."""
        mover = Mover(self.pipe, [each.maps for each in self.edits])
        if unwrapped(module) is not unwrapped(denoiser_of(self.pipe)):
            return mover.encode(plain, args, kwargs)
        if self.layers:
            names = ", ".join(layer.rule.name for layer in self.layers)
            raise BadInput(
                f"The denoiser was called outside a run of the pipeline that it is steered in "
                f"({names}), for example by another pipeline that shares it, or through a bound "
                "method from before the block. Attach the rule to the pipeline that is called, and "
                "call that pipeline."
            )
        arguments, again = by_name(module, plain, args, kwargs)
        return again(mover.move(arguments))


def _attached_class(cls: type, attachment: _Attachment) -> type:
    """The pipeline's class, whose call tells the attachment when a run begins and ends."""
    call: Callable[..., Any] = cls.__call__

    @functools.wraps(call)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not attachment.blocks and self is not attachment.pipe:  # a copy that outlived the block
            self.__class__ = cls
            return call(self, *args, **kwargs)
        with attachment.open(self, called_with(cls, args, kwargs)):
            return call(self, *args, **kwargs)

    names = {"__call__": run, "__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), {**names, _MARK: attachment})


def _attachment_of(pipe: Any) -> _Attachment | None:
    """What acts on exactly this pipeline now."""
    found: _Attachment | None = getattr(type(pipe), _MARK, None)
    return found if found is not None and found.blocks else None


@contextmanager
def block(
    pipe: Any, layer: Layer | None = None, edits: Sequence[Acting] = ()
) -> Iterator[_Attachment]:
    """A pipeline for this thread or task alone, with a rule and edits on every call of it.

    Raises:
        BadInput: a part cannot be acted on, or another task of this thread has the pipeline.
        RunFailed: another thread has it and does not let go.
    """
    with claimed(parts_of(pipe), run=False):
        attachment = _attachment_of(pipe)
        if attachment is None or attachment.pipe is not pipe:
            attachment = _Attachment(pipe)
        with attachment.block(layer, edits):
            yield attachment


@contextmanager
def attach(
    pipe: Any,
    guidance: Rule[Any] | str,
    concepts: Sequence[Concept | str | Sequence[Concept | str]] | Speaks = (),
    *,
    strength: float | Sequence[float] | Sequence[Sequence[float]] = 1.0,
) -> Iterator[Attached]:
    """Steer every call of a pipeline away from concepts, inside a ``with`` block.

    The pipeline belongs to the thread or task that opened the block, and to threads that inherit
    its context (`asyncio.to_thread`): calls and blocks of others wait until the block is closed.

    Args:
        pipe: a diffusers pipeline of a known family.
        guidance: a rule, or ``"NAME"``, ``"NAME:PRESET"``, ``"NAME:key=value,…"``.
        concepts: concepts or plain texts for every image, or a policy; or one list of them per
            prompt, which may be empty for prompts that nothing concerns.
        strength: factor on the rule's effect: one number, one per concept, or with one list of
            concepts per prompt one list of numbers per prompt. 0 leaves the pipeline's result
            bit-identical, 1 is the rule as published. A rule that joins the concepts of an image
            into one text uses the largest of their strengths.

    Yields:
        Attached: its ``record`` says what ran.

    Raises:
        UnknownName: the rule or the pipeline's class is unknown.
        BadInput: concepts are missing or empty, a strength is not finite or their number is wrong;
            or, when the pipeline is called, it runs without classifier-free guidance, or is
            generating already.
        RunFailed: another thread has the pipeline and does not let go; or, when the pipeline is
            called, a prediction is not finite, or the rule did not act on every step.
    """
    rule = parse(guidance) if isinstance(guidance, str) else guidance
    if not isinstance(rule, Rule):
        raise BadInput(f"{shown(guidance)} is not a guidance rule; give a Rule or its name.")
    layer = Layer.plan(rule, concepts, strength)
    family_of(pipe)
    with block(pipe, layer):
        yield Attached(layer)


@contextmanager
def owned(pipe: Any) -> Iterator[None]:
    """A pipeline for this thread or task alone; nothing is put on it.

    Raises:
        BadInput: another task of this thread has the pipeline.
        RunFailed: another thread has it and does not let go.
    """
    with block(pipe):
        yield


@contextmanager
def running(pipe: Any, call: dict[str, Any], *, rules: bool = True) -> Iterator[bool]:
    """A run that is opened by hand, for those who call the denoiser themselves, as attacks do.

    Args:
        pipe: a pipeline; without an attachment nothing happens.
        call: what the pipeline would have been called with.
        rules: False lets only edits act.

    Yields:
        Whether a rule is attached; if so, the denoiser must be called once a step and in the
        scheduler's order, with the rows that the pipeline would send.
    """
    attachment = _attachment_of(pipe)
    if attachment is None:
        yield False
        return
    with attachment.open(pipe, call, whole=False, rules=rules):
        yield rules and bool(attachment.layers)


def acting(pipe: Any) -> tuple[Maps, ...]:
    """The maps of the edits that act on a pipeline now at run time, the outermost first."""
    return tuple(each.maps for each in _edits_of(pipe))


def moved(pipe: Any) -> Moves | None:
    """What the edits that act on a pipeline now did in its latest call; None without any."""
    edits = _edits_of(pipe)
    return edits[-1].record if edits else None


def _edits_of(pipe: Any) -> tuple[Acting, ...]:
    """Edits of this thread's or task's blocks; another's do not act on its pictures."""
    attachment = _attachment_of(pipe)
    return attachment.edits if attachment and owns(pipe) else ()
