"""A machine that understands a torch pickle without running it.

Instructions come from ``pickletools.genops``, which only decodes. The machine keeps a stack and a
memo of plain values; a name stays a name. Calling is possible for the names of ``CALLS`` alone, and
each of those is a function of this file.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tadasu.auditing.containers.file import Limits, checked_shape
from tadasu.errors import BadFile, shown

#: Most instructions of one pickle; a checkpoint of Stable Diffusion has about 30,000.
LONGEST = 5_000_000

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class Name:
    """A name the pickle asks for; never looked up."""

    text: str


@dataclass(frozen=True)
class Storage:
    """A run of values in the file."""

    dtype: torch.dtype
    key: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A tensor as a view into a storage."""

    storage: Storage
    first: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Inert:
    """A value of a class that is known to be harmless and of no interest; it stays empty."""

    name: str


class _Mark:
    """The stack's mark."""


_MARK = _Mark()


def interpret(program: bytes, limits: Limits) -> object:
    """The value a pickle describes, made of plain maps, lists, tuples, numbers, text and ``Saved``.

    Raises:
        BadFile: for a damaged pickle, or one that asks for more than tensors.
    """
    machine = _Machine(limits)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(program)):
            if count >= LONGEST:
                raise BadFile(f"Its pickle has more than {LONGEST:,} instructions.")
            if opcode.name == "STOP":
                return machine.pop()
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile("Its pickle is damaged.") from error
    raise BadFile("Its pickle has no end.")


_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,
    "MARK": lambda: _MARK,
}
_ARGUMENTS = frozenset(
    "BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINSTRING "
    "SHORT_BINSTRING BINBYTES SHORT_BINBYTES".split()
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise IndexError("a mark where a value was expected")
        return value

    def pop_to_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:  # an empty stack raises IndexError
            at -= 1
        if at < 0:
            raise IndexError("no mark")
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def step(self, op: str, argument: Any) -> None:
        """One instruction."""
        if op in _CONSTANTS:
            self.stack.append(_CONSTANTS[op]())
        elif op in _ARGUMENTS:
            self.stack.append(argument)
        elif op in _TUPLES:
            values = [self.pop() for _ in range(_TUPLES[op])]
            self.stack.append(tuple(reversed(values)))
        elif op in ("PROTO", "FRAME"):
            pass
        else:
            handler = getattr(self, f"_op_{op.lower()}", None)
            if handler is None:
                raise BadFile(f"Its pickle uses the instruction {op}, which tensors do not need.")
            handler(argument)

    def _op_tuple(self, _: object) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def _op_list(self, _: object) -> None:
        self.stack.append(self.pop_to_mark())

    def _op_append(self, _: object) -> None:
        value = self.pop()
        self._items(list).append(value)

    def _op_appends(self, _: object) -> None:
        values = self.pop_to_mark()
        self._items(list).extend(values)

    def _op_additems(self, _: object) -> None:
        self._op_appends(_)

    def _op_setitem(self, _: object) -> None:
        value, key = self.pop(), self.pop()
        self._set([key, value])

    def _op_setitems(self, _: object) -> None:
        self._set(self.pop_to_mark())

    def _set(self, flat: list[Any]) -> None:
        if isinstance(self.stack[-1], Inert):
            return
        target = self._items(dict)
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if not isinstance(key, str | int | float | None):
                key = f"({type(key).__name__})"
            elif key in target:
                raise BadFile(f"Its pickle names {shown(key)} twice.")
            target[key] = value

    def _items(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise TypeError("an item for something that holds none")
        return self.stack[-1]

    def _op_pop(self, _: object) -> None:
        self.stack.pop()

    def _op_pop_mark(self, _: object) -> None:
        self.pop_to_mark()

    def _op_binput(self, slot: int) -> None:
        self.memo[slot] = self.stack[-1]

    _op_long_binput = _op_binput

    def _op_memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _op_binget(self, slot: int) -> None:
        self.stack.append(self.memo[slot])

    _op_long_binget = _op_binget

    def _op_global(self, argument: str) -> None:
        self.stack.append(_known(argument.replace(" ", ".", 1)))

    def _op_stack_global(self, _: object) -> None:
        name, module = self.pop(), self.pop()
        self.stack.append(_known(f"{module}.{name}"))

    def _op_binpersid(self, _: object) -> None:
        match self.pop():
            case ("storage", Name(text), str(key), _, int(count)) if _storage(text) and count >= 0:
                self.stack.append(Storage(STORAGES[text.rpartition(".")[2]], key, count))
            case _:
                raise BadFile("Its pickle refers to something that is not a storage of values.")

    def _op_reduce(self, _: object) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise TypeError("a call of something that is no name")
        self.stack.append(_call(function.text, arguments, self.limits))

    _op_newobj = _op_reduce

    def _op_build(self, _: object) -> None:
        self.pop()  # attributes are of no interest and are set on nothing


def _storage(text: str) -> bool:
    return text.startswith("torch.") and text.rpartition(".")[2] in STORAGES


#: Classes that old checkpoints carry beside the weights; they become empty values.
INERT = frozenset(
    {
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "_codecs.encode",
        "torch.device",
        "torch.Size",
    }
)


def _ordered(arguments: tuple[Any, ...], _: Limits) -> object:
    if arguments:
        raise BadFile("Its pickle calls OrderedDict with values, which torch never does.")
    return {}


def _tensor(arguments: tuple[Any, ...], limits: Limits) -> Saved:
    storage, first, shape, stride = arguments[:4]
    if not isinstance(storage, Storage):
        raise TypeError("a tensor of no storage")
    sizes = checked_shape(shape, storage.key, limits)
    steps = checked_shape(stride, storage.key, Limits(values=2**62))
    if len(sizes) != len(steps) or type(first) is not int or first < 0:
        raise TypeError("shape and stride do not fit")
    last = first + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if math.prod(sizes) and (last >= storage.count or math.prod(sizes) > storage.count):
        raise BadFile("A tensor of its pickle reaches beyond its values.")
    return Saved(storage=storage, first=first, shape=sizes, stride=steps)


def _parameter(arguments: tuple[Any, ...], _: Limits) -> Saved:
    if not isinstance(arguments[0], Saved):
        raise TypeError("a parameter of no tensor")
    return arguments[0]


#: What a pickle may call.
CALLS: dict[str, Callable[[tuple[Any, ...], Limits], object]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
}


def _known(text: str) -> Name:
    """The name, when it is one that tensors need.

    Raises:
        BadFile: for every other name.
    """
    if text in CALLS or text in INERT or _storage(text):
        return Name(text)
    raise BadFile(f"Its pickle asks for {shown(text)}; it may run code, and it was not run.")


def _call(text: str, arguments: tuple[Any, ...], limits: Limits) -> object:
    if text in CALLS:
        return CALLS[text](arguments, limits)
    return Inert(text)
