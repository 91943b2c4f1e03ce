"""The door of a module: every call of a denoiser or text encoder is seen, whatever lies behind it.

A ``forward`` is replaced by whoever comes last: offloading installs its hooks again after every
picture, tools restore what they had saved, compilers keep what they saw first. The class of a
module stays. So while something acts on a module its class is a subclass of its own class whose
``__call__`` asks who is calling:

- the run that has the module: what belongs to that run acts;
- the context that opened the block, outside a run: edits act, rules cannot and refuse;
- anybody else: waits until the block is closed, and is answered by the module as it is.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import nn

from tadasu.backends.diffusers.parts import MARK, Plain, unwrapped
from tadasu.backends.diffusers.turn import claimed, owns, shares_with_owner
from tadasu.errors import BadInput, RunFailed


class Visitor(Protocol):
    """Who acts on a module's calls: a run, or what is attached outside of one."""

    def enter(self, module: nn.Module, plain: Plain, args: Any, kwargs: Any) -> Any:
        """One call of the module."""
        ...


class Entry:
    """What acts on one module now.

    Attributes:
        outside: what acts on calls outside a run, one for each open block's pipeline.
        run: what acts on the calls of the run that has the module.
        thread: of that run.
    """

    def __init__(self) -> None:
        self.outside: list[Visitor] = []
        self.run: Visitor | None = None
        self.thread = 0


_LOCK = threading.RLock()
_ENTRIES: WeakKeyDictionary[nn.Module, Entry] = WeakKeyDictionary()
_CLASSES: WeakKeyDictionary[type, type] = WeakKeyDictionary()


@contextmanager
def entered(module: Any, visitor: Visitor) -> Iterator[None]:
    """Let a visitor act on a module's calls outside a run, while a block is open.

    Raises:
        BadInput: the module is none of torch's, so its calls cannot be seen.
    """
    with _LOCK:
        entry = _opened(module)
        entry.outside.append(visitor)
    try:
        yield
    finally:
        with _LOCK:
            entry.outside.remove(visitor)
            _closed(module, entry)


@contextmanager
def entered_by_run(module: Any, visitor: Visitor) -> Iterator[None]:
    """Let a run act on the calls that its thread makes of a module; claims keep others out."""
    with _LOCK:
        entry = _opened(module)
        before = entry.run, entry.thread
        entry.run, entry.thread = visitor, threading.get_ident()
    try:
        yield
    finally:
        with _LOCK:
            entry.run, entry.thread = before
            _closed(module, entry)


def _opened(module: Any) -> Entry:
    if not isinstance(module, nn.Module):
        raise BadInput(
            f"The pipeline's denoiser or text encoder is a {type(module).__name__}, not a torch "
            "module, so nothing can act on it. Use the model as diffusers loads it."
        )
    if module not in _ENTRIES:
        _ENTRIES[module] = Entry()
        if MARK not in vars(type(module)):
            _set_class(module, _entered_class(type(module)))
    return _ENTRIES[module]


def _closed(module: nn.Module, entry: Entry) -> None:
    if not entry.outside and entry.run is None:
        _ENTRIES.pop(module, None)
        _restore(module)


def _restore(module: nn.Module) -> None:
    """The class as it was; a class that somebody made from ours meanwhile lets calls pass."""
    if MARK in vars(type(module)):
        _set_class(module, type(module).__mro__[1])


def _set_class(module: nn.Module, cls: type) -> None:
    object.__setattr__(module, "__class__", cls)  # a compiler's wrapper passes attributes on


def _entered_class(cls: type) -> type:
    """The subclass of a class whose calls are seen; always the same one, which compilers like."""
    if cls not in _CLASSES:

        @functools.wraps(cls.__call__)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():  # seen already, at the door of the wrapper
                return cls.__call__(self, *args, **kwargs)
            return _called(self, functools.partial(cls.__call__, self), args, kwargs)

        names = {"__call__": call, "__module__": cls.__module__, "__doc__": cls.__doc__}
        _CLASSES[cls] = _stand_in(cls)(cls.__name__, (cls,), {**names, MARK: True})
    return _CLASSES[cls]


def _stand_in(cls: type) -> Any:
    """A metaclass whose classes equal the one they stand for, as ``from_pipe`` compares them."""

    def same(made: type, other: object) -> bool:
        return other is made or other is cls

    return type("StandIn", (type(cls),), {"__eq__": same, "__hash__": lambda made: hash(cls)})


def _called(module: nn.Module, plain: Plain, args: Any, kwargs: Any) -> Any:
    entry = _ENTRIES.get(module)
    if entry is None:  # a copy that was made while something acted on the original
        with _LOCK:
            _restore(module)
        return plain(*args, **kwargs)
    if entry.run is not None and entry.thread == threading.get_ident():
        return entry.run.enter(module, plain, args, kwargs)
    part = unwrapped(module)
    visitors = list(entry.outside) if owns(part) else []
    if not visitors and shares_with_owner(sys._getframe(), part):
        raise RunFailed(
            "Another thread has this pipeline's scheduler and denoiser, through a pipeline that "
            "shares them. Give this pipeline a scheduler of its own (copy.deepcopy), or try again "
            "when the other thread is done."
        )
    with claimed((part,), run=True, in_line=False):
        if not visitors:
            return plain(*args, **kwargs)
        if len(visitors) > 1:
            raise BadInput(
                "Several pipelines that share this module are steered or edited now, so a call of "
                "the module alone belongs to none of them. Call one of these pipelines."
            )
        return visitors[0].enter(module, plain, args, kwargs)
