"""Reading foreign pickles of arrays and plain containers safely: nothing in them is called.

Python's own unpickler calls what a file names and hands NumPy an object's inner state, addresses included. The stack
machine here knows the instructions that such files need (protocols 2 to 5), only records the names they use, and
creates an array from its recorded data type, shape, order and bytes once these are consistent.
"""

from __future__ import annotations

import math
import os
import pickle
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, ClassVar

import numpy as np

#: Most instructions of a file. CIFAR-100 has 200,000; a million small objects take about 200 MB.
MOST_INSTRUCTIONS = 1_000_000
#: NumPy's own limit.
MOST_DIMENSIONS = 32
#: Longest name or key. Comparing longer ones again and again would take seconds.
_LONGEST_NAME = 1024

#: The names with which arrays and containers are pickled, as in Python 3 and NumPy 1.
_NAMES = {
    "numpy.ndarray", "numpy.dtype", "numpy.core.multiarray._reconstruct", "numpy.core.multiarray.scalar",
    "numpy.core.numeric._frombuffer", "_codecs.encode", "builtins.bytes", "builtins.tuple", "collections.OrderedDict",
}  # fmt: skip
_DTYPES = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


class Recorded:
    """Stands for something that Python's unpickler would have called or created; never part of a result."""


@dataclass
class Name(Recorded):
    name: str


@dataclass
class _Dtype(Recorded):
    text: str
    order: str = "="


@dataclass
class _Array(Recorded):
    made: np.ndarray | None = None


class _Arguments(tuple, Recorded):  # type: ignore[type-arg]
    """A tuple that contains something recorded."""


def load(stream: IO[bytes]) -> Any:
    """The contents of a seekable pickle: arrays, numbers, text, bytes, None, and lists, tuples and dicts of them.

    Python 2's text is bytes; keys are text or bytes; arrays of booleans, integers and floats are read-only, in the
    machine's byte order. Memory stays near the file's size, whatever the file claims. Errors: `pickle.UnpicklingError`
    for anything else in it, OSError.
    """
    machine = Machine(Reader(stream))
    try:
        return machine.run()
    except (ValueError, LookupError, TypeError, struct.error) as error:
        raise pickle.UnpicklingError(f"it is damaged ({error})") from error


class Reader:
    """A stream from `start` on that is never asked for more than it has: `read(n)` would allocate n bytes first."""

    def __init__(self, stream: IO[bytes], start: int = 0) -> None:
        self.size = self.left = stream.seek(0, os.SEEK_END) - start
        stream.seek(start)
        self.stream = stream

    def read(self, size: int) -> bytes:
        data = self.stream.read(min(size, self.left))
        self.left -= len(data)
        return data

    def readline(self) -> bytes:
        line = self.stream.readline(_LONGEST_NAME)
        self.left -= len(line)
        return line


class Machine:
    """The unpickler's stack, marks and memo."""

    #: Instruction → its implementation.
    actions: ClassVar[dict[str, Callable[[Any, Any], None]]] = {}

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.made = 0

    def run(self) -> Any:
        """Execute the instructions to the end."""
        for number, (opcode, argument, _) in enumerate(pickletools.genops(self.reader)):  # type: ignore[arg-type]
            if number == MOST_INSTRUCTIONS:
                raise pickle.UnpicklingError(f"it has more than {MOST_INSTRUCTIONS:,} instructions")
            if opcode.name in _VALUES:
                self.stack.append(argument)
            elif opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name]())
            elif opcode.name in self.actions:
                self.actions[opcode.name](self, argument)
            else:
                raise pickle.UnpicklingError(f"it has the instruction {opcode.name}, which no arrays need")
        return _plain(self.stack.pop())

    def marked(self) -> list[Any]:
        """Pop what was pushed since the last mark."""
        values, self.stack = self.stack, self.below.pop()
        return values

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def tuple_of(self, values: list[Any]) -> None:
        recorded = any(isinstance(value, Recorded) for value in values)
        self.stack.append(_Arguments(values) if recorded else tuple(values))

    def last(self, count: int) -> list[Any]:
        """Pop the last `count` values."""
        return [self.stack.pop() for _ in range(count)][::-1]

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise pickle.UnpicklingError("it adds elements to what is not a list")
        target.extend(map(_plain, values))

    def update(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise pickle.UnpicklingError("it adds keys to what is not a dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Integer keys can be chosen to collide, which makes a dict quadratic.
            if not isinstance(key, (str, bytes)) or len(key) > _LONGEST_NAME:
                raise pickle.UnpicklingError("it has a key that is not a name")
            target[key] = _plain(value)

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        value = self.memo[index]
        if isinstance(value, (list, dict)):
            # Otherwise some 100 bytes could be a list of 2¹⁰⁰ elements, or one that contains itself.
            raise pickle.UnpicklingError("it has one list or dict in two places")
        is_array = isinstance(value, _Array) and value.made is not None
        self.stack.append(value.made if is_array else value)

    def name(self, module: str, name: str) -> None:
        name_now = f"{module}.{name}".replace("numpy._core.", "numpy.core.", 1).replace("__builtin__.", "builtins.", 1)
        if name_now not in _NAMES:
            raise pickle.UnpicklingError(f"it refers to {name_now[:200]}, which is not an array or a plain container")
        self.stack.append(Name(name_now))

    def name_on_stack(self) -> None:
        module, name = self.last(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise pickle.UnpicklingError("it refers to what is not a name")
        self.name(module, name)

    def reduce(self) -> None:
        """What calling a name with its arguments stands for."""
        function, arguments = self.last(2)
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise pickle.UnpicklingError("it calls what is not a name")
        match function.name, arguments:
            case "numpy.core.multiarray._reconstruct", (Name("numpy.ndarray"), (0,), b"b" | "b"):
                value: Any = _Array()
            case "numpy.dtype", (str() | bytes() as text, int(), int()) if len(text) == 2:
                value = _Dtype(_text(text))
            case "numpy.core.multiarray.scalar", (_Dtype() as dtype, bytes() as data):
                value = self.array(dtype, (), "C", data).item()
            case "numpy.core.numeric._frombuffer", (
                bytes() as data,
                _Dtype() as dtype,
                tuple() as shape,
                "C" | "F" as o,
            ):
                value = self.array(dtype, shape, o, data)
            case "_codecs.encode", (str() as text, "latin1" | "latin-1"):
                self.take(len(text))
                value = text.encode("latin-1")
            case "builtins.bytes", ():
                value = b""
            case "builtins.tuple", (tuple() as value,):
                pass
            case "collections.OrderedDict", ():
                value = {}
            case _:
                raise pickle.UnpicklingError(f"it calls {function.name} as neither NumPy nor Paddle writes it")
        self.stack.append(value)

    def build(self) -> None:
        """Give a recorded data type or array its state."""
        target, state = self.last(2)
        match target, state:
            case _Dtype(), (3, "<" | ">" | "|" | b"<" | b">" | b"|" as order, None, None, None, -1, -1, 0):
                target.order = _text(order)
                self.stack.append(target)
            case _Array(made=None), (1, tuple() as shape, _Dtype() as dtype, bool() as fortran, bytes() as data):
                target.made = self.array(dtype, shape, "F" if fortran else "C", data)
                self.stack.append(target.made)
            case _:
                raise pickle.UnpicklingError("it gives an object a state that neither NumPy nor Paddle writes")

    def array(self, recorded: _Dtype, shape: tuple[Any, ...], order: Any, data: bytes) -> np.ndarray:
        """The array of recorded parts."""
        if recorded.text not in _DTYPES:
            raise pickle.UnpicklingError("it has an array that is not of booleans, integers or floats")
        dtype = np.dtype(recorded.order + recorded.text)
        if len(shape) > MOST_DIMENSIONS or not all(type(side) is int and side >= 0 for side in shape):
            raise pickle.UnpicklingError("it has an array whose shape is not a shape")
        if math.prod(shape) * dtype.itemsize != len(data):
            raise pickle.UnpicklingError(f"it has an array of {len(data):,} bytes whose shape asks for another number")
        self.take(len(data))
        array = np.ndarray(shape, dtype, data, order=order).astype(dtype.newbyteorder("="), copy=False)
        array.flags.writeable = False
        return array

    def take(self, size: int) -> None:
        """Count what is created from the file's bytes, each of which is used for one string of bytes and one array."""
        self.made += size
        if self.made > 2 * self.reader.size:
            raise pickle.UnpicklingError("it makes many arrays of the same bytes")


def _plain(value: Any) -> Any:
    if isinstance(value, Recorded):
        raise pickle.UnpicklingError("it has an array without content, or a name, among its values")
    return value


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


#: Instructions whose argument is the value.
_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8",
}  # fmt: skip
#: Instructions without an argument that put a value on the stack.
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple, "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}  # fmt: skip
Machine.actions = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "STOP": lambda machine, _: None,
    "MARK": lambda machine, _: machine.mark(),
    "SHORT_BINSTRING": lambda machine, text: machine.stack.append(text.encode("latin-1")),
    "BINSTRING": lambda machine, text: machine.stack.append(text.encode("latin-1")),
    "BYTEARRAY8": lambda machine, data: machine.stack.append(bytes(data)),
    "TUPLE": lambda machine, _: machine.tuple_of(machine.marked()),
    "TUPLE1": lambda machine, _: machine.tuple_of(machine.last(1)),
    "TUPLE2": lambda machine, _: machine.tuple_of(machine.last(2)),
    "TUPLE3": lambda machine, _: machine.tuple_of(machine.last(3)),
    "APPEND": lambda machine, _: machine.extend(machine.last(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.marked()),
    "SETITEM": lambda machine, _: machine.update(machine.last(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.marked()),
    "BINPUT": lambda machine, index: machine.put(index),
    "LONG_BINPUT": lambda machine, index: machine.put(index),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "BINGET": lambda machine, index: machine.get(index),
    "LONG_BINGET": lambda machine, index: machine.get(index),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.name_on_stack(),
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
}
