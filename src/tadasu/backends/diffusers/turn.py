"""Whose turn it is: the parts of a pipeline serve one owner, and one run, at a time.

Two kinds of claims are laid on parts (a pipeline, its scheduler, denoiser and text encoders):

- a **block** claim lasts as long as a ``with attach(...)`` or ``with edit.applied(...)``. It
  belongs to the context that opened it (a thread or task, see `contextvars`) and to its copies;
- a **run** claim lasts for one call of a pipeline.

Whoever meets another's claim waits in line. It is refused where waiting cannot help: in the thread
that holds the claim, and when the owner has done nothing for a while.

A call of a pipeline that began before any block was open has no claim. It is seen on the stack of
its thread, and a block waits until it is over.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from tadasu.errors import BadInput, RunFailed

#: Seconds that a caller waits for an owner who has a block open and runs nothing in it.
IDLE = 5.0
#: Seconds that a caller waits for a run that makes no step and is not inside the denoiser.
STALLED = 120.0
#: Seconds that a block waits for a call that began before any block was open.
LONGEST = 600.0


@dataclass(eq=False, kw_only=True)
class Claim:
    """One claim on parts.

    Attributes:
        parts: what it lies on.
        run: whether it is a run's, else a block's.
        thread: who took it.
        touched: when its owner last did something, `time.monotonic`.
        busy: whether the denoiser is computing now.
        open: whether it still holds.
    """

    parts: tuple[Any, ...]
    run: bool
    thread: int = field(default_factory=threading.get_ident)
    touched: float = field(default_factory=time.monotonic)
    busy: bool = False
    open: bool = True

    def meets(self, other: Claim) -> bool:
        """Whether both lie on one part."""
        return any(ours is theirs for ours in self.parts for theirs in other.parts)

    @contextmanager
    def working(self) -> Iterator[None]:
        """While the denoiser computes, however long that takes."""
        self.busy = True
        try:
            yield
        finally:
            self.busy, self.touched = False, time.monotonic()


_TURN = threading.Condition()
_HELD: list[Claim] = []
_LINE: list[Claim] = []
_OWN: ContextVar[tuple[Claim, ...]] = ContextVar("tadasu_own_claims", default=())


def shares_with_owner(frame: FrameType | None, part: Any) -> bool:
    """Whether whoever calls a part from this stack shares more than it with another's claim.

    Its scheduler is what matters: a run sets it anew, so a call that waited would go on wrongly.
    """
    with _TURN:
        others = [h for h in _HELD if any(part is one for one in h.parts) and h not in _OWN.get()]
    taken = [one for held in others for one in held.parts if one is not part]
    return any(
        hasattr(value, "set_timesteps") and any(value is one for one in taken)
        for caller in callers(frame)
        for value in caller
    )


def owns(part: Any) -> bool:
    """Whether this context has a block open on a part."""
    return any(claim.open and any(part is one for one in claim.parts) for claim in _OWN.get())


@contextmanager
def claimed(parts: Iterable[Any], *, run: bool, in_line: bool = True) -> Iterator[Claim]:
    """Parts for this owner, or this run, alone.

    Args:
        parts: what is claimed.
        run: for a run, else for a block.
        in_line: whether those come first who have waited longer; not for a single call within a
            run that they wait for.

    Raises:
        BadInput: the claim that stands in the way is held by this very thread: a run inside a run
            of the same pipeline, or another task's block.
        RunFailed: another thread holds the parts and does nothing with them.
    """
    claim = Claim(parts=tuple(parts), run=run)
    _take(claim, in_line)
    if not run:
        _OWN.set((*(own for own in _OWN.get() if own.open), claim))
    try:
        yield claim
    finally:
        with _TURN:
            claim.open = False
            _HELD.remove(claim)
            now = time.monotonic()
            for held in _HELD:
                if held.meets(claim):
                    held.touched = now
            _TURN.notify_all()
        if not run:
            _OWN.set(tuple(own for own in _OWN.get() if own.open))


def _take(claim: Claim, in_line: bool) -> None:
    own = _OWN.get()
    owner = not in_line or any(each.open and each.meets(claim) for each in own)
    began = time.monotonic()
    with _TURN:
        _LINE.append(claim)
        try:
            while True:
                other = _in_the_way(claim, own, owner)
                if other in _HELD:
                    _refuse_where_waiting_is_vain(claim, other, began)
                if other is None and (owner or claim.run or not _called_without_claim(claim)):
                    break
                if time.monotonic() - began > LONGEST and other is None:
                    raise RunFailed(
                        "Another thread generates with this pipeline, or one that shares its "
                        f"parts, for more than {LONGEST:g} seconds; try again when it is done."
                    )
                _TURN.wait(0.05)
        finally:
            _LINE.remove(claim)
        claim.touched = time.monotonic()
        _HELD.append(claim)


def _in_the_way(claim: Claim, own: tuple[Claim, ...], owner: bool) -> Claim | None:
    """Another's block, any run, or whoever has waited longer."""
    for held in _HELD:
        if held.meets(claim) and (held.run or held not in own) and not _mine(held, claim):
            return held
    if owner:
        return None
    earlier = _LINE[: _LINE.index(claim)]
    return next((each for each in earlier if each.meets(claim)), None)


def _mine(held: Claim, claim: Claim) -> bool:
    """A block that is opened inside a run of the same thread waits for nobody."""
    return held.run and not claim.run and held.thread == claim.thread


def _called_without_claim(claim: Claim) -> bool:
    """Whether another thread is inside a call of an object that has one of these parts."""
    known = {threading.get_ident(), *(held.thread for held in _HELD if held.run)}
    return any(
        any(part is one for part in claim.parts for one in caller)
        for thread, top in sys._current_frames().items()
        if thread not in known
        for caller in callers(top)
    )


def callers(frame: FrameType | None) -> Iterator[tuple[Any, ...]]:
    """For every pipeline that is being called on a stack: the pipeline and its attributes."""
    from diffusers import DiffusionPipeline

    while frame is not None:
        caller = frame.f_locals.get("self") if frame.f_code.co_name == "__call__" else None
        if isinstance(caller, DiffusionPipeline):
            yield (caller, *vars(caller).values())
        frame = frame.f_back


def _refuse_where_waiting_is_vain(claim: Claim, other: Claim, began: float) -> None:
    if other.thread == claim.thread:
        if other.run:
            raise BadInput(
                "This pipeline, or one that shares its parts, is already generating in this "
                "thread; call it again when it is done."
            )
        raise BadInput(
            "Another task of this thread has a block open that steers or edits this pipeline, or "
            "one that shares its parts. Open the block where the pipeline is called, and call both "
            "in a thread of their own, for example with asyncio.to_thread(function)."
        )
    runs = [held for held in _HELD if held.run and (held is other or held.meets(other))]
    if any(run.busy for run in runs):
        return
    patience = STALLED if runs else IDLE
    latest = max((began, other.touched, *(run.touched for run in runs)))
    if time.monotonic() - latest > patience:
        raise RunFailed(
            "Another thread has this pipeline, or one that shares its parts, and "
            f"{'its run makes no progress' if runs else 'runs nothing on it'} for "
            f"{patience:g} seconds. What is attached in one thread never acts on another's "
            "pictures: open the block in the thread that calls the pipeline."
        )
