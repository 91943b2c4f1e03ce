"""Steer a diffusers pipeline that a user already has, and leave it exactly as it was.

``with attach(pipe, guidance, concepts): pipe(...)`` wraps the forward of the pipeline's denoiser.
The concepts' rows join the rows that the pipeline asks for, in the same forward. The pipeline's
own formula u + s_g(p - u) stays in place: the wrapper returns p as it is and an unconditional row

    u' = (s_g·p - ε̂) / (s_g - 1)

from which that formula makes the guided prediction ε̂. Nothing of the pipeline is forked, so its
schedulers, rescaling, masks and callbacks work as before.

Attachments nest: rules attached later see the prediction as the rules before left it, and all of
their rows still go through one forward.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from tadasu.backends.diffusers.families import Family, family_of
from tadasu.backends.diffusers.plan import Layer, Record
from tadasu.backends.diffusers.run import Run
from tadasu.errors import BadInput, shown
from tadasu.guidance.registry import parse
from tadasu.guidance.rule import Rule

if TYPE_CHECKING:
    from tadasu.concepts import Concept

#: Where the class of an attached pipeline keeps its attachment.
_MARK = "_tadasu_attachment"


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


class _Attachment:
    """The wrapped forward of one pipeline's denoiser, and the rules that use it."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.family: Family = family_of(pipe)
        self.layers: list[Layer] = []
        self.run: Run | None = None
        self._denoiser = getattr(pipe, self.family.denoiser)
        self._class = type(pipe)
        self._had_forward = "forward" in vars(self._denoiser)
        self._forward: Callable[..., Any] = self._denoiser.forward

    def install(self) -> None:
        """Wrap the denoiser's forward, and the pipeline's call, which opens and closes a run."""
        inner = self._forward
        # A forward that hooks or a compiler replaced may hide its arguments; the class does not.
        model = getattr(self._denoiser, "_orig_mod", self._denoiser)
        signature = inspect.signature(type(model).forward.__get__(model))
        kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
        open_ended = [name for name, kind in kinds.items() if kind is kind.VAR_KEYWORD]

        @functools.wraps(inner)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if self.run is None:
                return inner(*args, **kwargs)
            arguments = dict(signature.bind(*args, **kwargs).arguments)
            given = list(arguments)[: len(args)]
            for name in open_ended:  # what a ``**rest`` caught goes back under its own names
                arguments |= arguments.pop(name, {})

            def again(changed: dict[str, Any]) -> Any:
                """The inner forward, called the way the pipeline called it."""
                rest = {name: value for name, value in changed.items() if name not in given}
                return inner(*(changed[name] for name in given), **rest)

            return self.run.forward(again, arguments)

        self._denoiser.forward = forward
        self.pipe.__class__ = _attached_class(self._class, self)

    def remove(self) -> None:
        """Put the class and the forward back."""
        self.pipe.__class__ = self._class
        if self._had_forward:
            self._denoiser.forward = self._forward
        else:
            del self._denoiser.forward

    @contextmanager
    def open(self, call: dict[str, Any]) -> Iterator[None]:
        """One call of the pipeline: texts are encoded before it, state is dropped after it."""
        if self.run is not None:
            raise BadInput("This pipeline is already generating; call it again when it is done.")
        with torch.no_grad():
            self.run = Run(self.pipe, self.family, tuple(self.layers), call)
        try:
            yield
        finally:
            self.run.close()
            self.run = None


def _attached_class(cls: type, attachment: _Attachment) -> type:
    """The pipeline's class, whose call tells the attachment when a run begins and ends."""
    call: Callable[..., Any] = cls.__call__
    signature = inspect.signature(call)

    @functools.wraps(call)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        with attachment.open(dict(bound.arguments)):
            return call(self, *args, **kwargs)

    names = {"__call__": run, "__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls,), {**names, _MARK: attachment})


@contextmanager
def attach(
    pipe: Any,
    guidance: Rule[Any] | str,
    concepts: Sequence[Concept | str | Sequence[Concept | str]] = (),
    *,
    strength: float | Sequence[float] | Sequence[Sequence[float]] = 1.0,
) -> Iterator[Attached]:
    """Steer every call of a pipeline away from concepts, inside a ``with`` block.

    Args:
        pipe: a diffusers pipeline of a known family.
        guidance: a rule, or ``"NAME"``, ``"NAME:PRESET"``, ``"NAME:key=value,…"``.
        concepts: concepts or plain texts for every image; or one list of them per prompt, which
            may be empty for prompts that nothing concerns.
        strength: factor on the rule's effect: one number, one per concept, or with one list of
            concepts per prompt one list of numbers per prompt. 0 leaves the pipeline's result
            bit-identical, 1 is the rule as published. A rule that joins the concepts of an image
            into one text uses the largest of their strengths.

    Yields:
        Attached: its ``record`` says what ran.

    Raises:
        UnknownName: the rule or the pipeline's class is unknown.
        BadInput: concepts are missing or empty, a strength is not finite or their number is wrong;
            or, when the pipeline is called, it runs without classifier-free guidance.
        RunFailed: when the pipeline is called, a prediction is not finite.
    """
    rule = parse(guidance) if isinstance(guidance, str) else guidance
    if not isinstance(rule, Rule):
        raise BadInput(f"{shown(guidance)} is not a guidance rule; give a Rule or its name.")
    layer = Layer.plan(rule, concepts, strength)
    attachment: _Attachment | None = getattr(type(pipe), _MARK, None)
    first = attachment is None
    if attachment is None:
        attachment = _Attachment(pipe)
    attachment.layers.append(layer)
    if first:
        attachment.install()
    try:
        yield Attached(layer)
    finally:
        attachment.layers.remove(layer)
        if first:
            attachment.remove()


@contextmanager
def running(pipe: Any, call: dict[str, Any]) -> Iterator[bool]:
    """A run that is opened by hand, for those who call the denoiser themselves, as attacks do.

    Args:
        pipe: a pipeline; without an attachment nothing happens.
        call: what the pipeline would have been called with.

    Yields:
        Whether anything is attached; if so, the denoiser must be called once a step and in the
        scheduler's order, with the rows that the pipeline would send.
    """
    attachment: _Attachment | None = getattr(type(pipe), _MARK, None)
    if attachment is None:
        yield False
        return
    with attachment.open(call):
        yield True
