"""Where the package asks for a GPU, found in its source, and which of these places a piece of code has come by."""

from __future__ import annotations

import ast
import contextlib
import functools
import itertools
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import runner

PACKAGE = Path(runner.__file__).parent
#: What is true, or not, where there is a GPU.
ON_GPU = {"is_compiled_with_cuda": True, "gpus": True, "is_cpu": False}
#: Whatever else has to do with one: a new name in the package belongs here.
NAMES = {
    *ON_GPU, "DataParallel", "GradScaler", "SELECTED_GPU", "_has_nvcc", "_scaled_step", "_tune_gpu",
    "auto_cast", "autocast", "cuda", "decorate", "device_count", "get_device", "get_device_capability",
    "get_device_name", "get_rng_state", "graphics_cards", "init_parallel_env", "own_gpu", "prefetched", "scaler",
    "set_device", "set_flags", "set_rng_state",
}  # fmt: skip
TEXTS = {"gpu", "cuda", "nvcc", "nvidia-smi"}
_INERT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Place:
    """Lines of a file of which one has to be executed."""

    file: str
    first: int
    last: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.first}: {self.text}"


@functools.cache
def places() -> tuple[Place, ...]:
    """Every statement within a function that asks for a GPU, and what a GPU leads to behind a question."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text()
        for function in ast.walk(ast.parse(source)):
            if isinstance(function, ast.FunctionDef):
                found += [_place(path, source, lines) for lines in _lines(function.body)]
    return tuple(dict.fromkeys(found))


def _place(path: Path, source: str, lines: tuple[int, int]) -> Place:
    return Place(str(path.relative_to(PACKAGE)), *lines, source.splitlines()[lines[0] - 1].strip())


def _lines(block: list[ast.stmt]) -> Iterator[tuple[int, int]]:
    for statement, following in itertools.zip_longest(block, block[1:]):
        if isinstance(statement, _INERT):
            continue
        inner = [part for part in ast.iter_child_nodes(statement) if not isinstance(part, ast.stmt)]
        if any(_asks(node) for part in inner for node in ast.walk(part)):
            yield _header(statement)
            if isinstance(statement, ast.If) and (truth := _truth(statement.test)) is not None:
                side = statement.body[0] if truth else (statement.orelse or [following])[0]
                if side is not None:
                    yield _header(side)
        for part in ("body", "orelse", "finalbody"):
            yield from _lines(getattr(statement, part, []))
        for case in [*getattr(statement, "handlers", []), *getattr(statement, "cases", [])]:
            yield from _lines(case.body)


def _header(statement: ast.stmt) -> tuple[int, int]:
    """Its lines; of a compound one those before its body."""
    body = getattr(statement, "body", None) or getattr(statement, "cases", None)
    if not isinstance(body, list):
        return statement.lineno, statement.end_lineno or statement.lineno
    first = body[0].pattern.lineno if isinstance(body[0], ast.match_case) else body[0].lineno
    return statement.lineno, max(statement.lineno, first - 1)


def _asks(node: ast.AST) -> bool:
    return _name(node) in NAMES or (isinstance(node, ast.Constant) and node.value in TEXTS)


def _name(node: ast.AST) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else None


def _truth(test: ast.expr) -> bool | None:
    """What the answer is where there is a GPU; None where that depends on something else."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            truth = _truth(operand)
            return None if truth is None else not truth
        case ast.BoolOp(op=operation, values=values):
            decisive = isinstance(operation, ast.Or)
            return decisive if decisive in map(_truth, values) else None
        case ast.Compare(left=_, ops=[ast.Eq()], comparators=[ast.Constant(value="gpu" | "cpu" as value)]):
            return bool(value == "gpu")
        case ast.Compare(left=left, ops=[ast.Gt()], comparators=[ast.Constant(value=0)]):
            return _truth(left)
        case ast.Call(func=function):
            return ON_GPU.get(_name(function) or "")
    return None


class Visited:
    """The lines of the package's files that were executed within its context, in any thread."""

    def __init__(self, wanted: tuple[Place, ...]) -> None:
        self.files = {str(PACKAGE / place.file): place.file for place in wanted}
        self.lines: set[tuple[str, int]] = set()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._called)
        threading.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(before)
            threading.settrace(before)  # type: ignore[arg-type]

    def _called(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._at_line if frame.f_code.co_filename in self.files else None

    def _at_line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            self.lines.add((self.files[frame.f_code.co_filename], frame.f_lineno))
        return self._at_line

    def missed(self, wanted: tuple[Place, ...]) -> list[str]:
        """The places none of whose lines was executed."""
        return [
            str(place)
            for place in wanted
            if not any((place.file, line) in self.lines for line in range(place.first, place.last + 1))
        ]
