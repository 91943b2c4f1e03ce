"""The parts of a pipeline that a run needs, and a module's call with its arguments by name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tadasu.errors import BadInput

#: A module's own call, with everything that others installed on it.
Plain = Callable[..., Any]
ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
#: Marks classes that stand for another class while something acts on its objects.
MARK = "_tadasu_entered"


def unwrapped(module: Any) -> Any:
    """The module inside a compiler's wrapper."""
    return getattr(module, "_orig_mod", module)


def own_class(thing: Any) -> type:
    """An object's class as it is without what acts on it now."""
    return next(cls for cls in type(thing).__mro__ if MARK not in vars(cls))


def denoiser_of(pipe: Any) -> Any:
    """The pipeline's denoiser as it is now, a compiler's wrapper included.

    Raises:
        BadInput: it has none.
    """
    for name in ("unet", "transformer"):
        if getattr(pipe, name, None) is not None:
            return getattr(pipe, name)
    raise BadInput(f"{type(pipe).__name__} has neither a U-Net nor a transformer.")


def caches_of(module: Any) -> list[Any]:
    """Registries of diffusers' hooks that keep something from one call of a module to the next."""
    registries = (getattr(part, "_diffusers_hook", None) for part in unwrapped(module).modules())
    return [
        registry
        for registry in registries
        if any(hook._is_stateful for hook in getattr(registry, "hooks", {}).values())
    ]


def parts_of(pipe: Any) -> list[Any]:
    """What a run of a pipeline needs for itself: what it changes, and what acts on its text."""
    names = ("scheduler", "unet", "transformer", *ENCODERS)
    found = [unwrapped(getattr(pipe, name, None)) for name in names]
    return [pipe, *(part for part in found if part is not None)]


def by_name(
    module: Any, plain: Plain, args: Any, kwargs: Any
) -> tuple[dict[str, Any], Callable[[Mapping[str, Any]], Any]]:
    """A call's arguments by name, and the function that calls again in the same way with others."""
    # A forward that hooks or a compiler replaced may hide its arguments; the class does not.
    signature = _signature(own_class(unwrapped(module)))
    arguments = dict(signature.bind(None, *args, **kwargs).arguments)
    del arguments[next(iter(arguments))]
    given = list(arguments)[: len(args)]
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:  # goes back under its own names
            arguments |= arguments.pop(name, {})

    def again(changed: Mapping[str, Any]) -> Any:
        rest = {name: value for name, value in changed.items() if name not in given}
        return plain(*(changed[name] for name in given), **rest)

    return arguments, again


@functools.cache
def _signature(cls: Any) -> inspect.Signature:
    return inspect.signature(cls.forward)


def called_with(cls: type, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of a pipeline's call by name, with the defaults of its class and bases.

    A subclass may pass on ``*args, **kwargs``; positions then mean what they mean to its base.
    """
    signatures = _call_signatures(cls)
    named = [each for each in signatures if not _of_kind(each, inspect.Parameter.VAR_POSITIONAL)]
    bound = (named or signatures)[0].bind(None, *args, **kwargs)
    arguments = dict(bound.arguments)
    for name in _of_kind(bound.signature, inspect.Parameter.VAR_KEYWORD):
        arguments |= arguments.pop(name, {})
    defaults = {
        name: parameter.default
        for each in reversed(signatures)
        for name, parameter in each.parameters.items()
        if parameter.default is not parameter.empty
    }
    return defaults | arguments


def _of_kind(signature: inspect.Signature, kind: Any) -> list[str]:
    return [name for name, each in signature.parameters.items() if each.kind is kind]


@functools.cache
def _call_signatures(cls: type) -> list[inspect.Signature]:
    calls = [vars(each)["__call__"] for each in cls.__mro__ if "__call__" in vars(each)]
    return [inspect.signature(call) for call in calls if inspect.isfunction(call)]
