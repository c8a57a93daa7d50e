"""Where Python and the compiled kernels meet: types, constants, errors and what is kept."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

import runner
from runner.kernels import build, functions, native, optimizer
from runner.kernels.native import Geometry
from runner.parallel import shared

compiled = pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
SOURCES = {path.name: path.read_text() for path in sorted(build.SOURCES.iterdir())}
#: A type of C++, without its `const` and its names → what ctypes has for it; every pointer is an address.
TYPES = {
    "void": None,
    "int": ctypes.c_int,
    "Index": ctypes.c_int64,
    "float": ctypes.c_float,
    "std::uint32_t": ctypes.c_uint32,
    "char*": ctypes.c_char_p,
}
POINTED = {"void", "float", "char", "Index", "Plan", "Geometry", "Entry", "Seat", "std::uint8_t", "std::int32_t"}


def c_type(declared: str, is_result: bool = False) -> type | None:
    """What ctypes has for the declaration of an argument, or for a result."""
    words = re.sub(r"\bconst\b", " ", declared).replace("*", " * ").split()
    base, stars = words[0], words.count("*")
    if is_result and base == "char" and stars == 1:
        return TYPES["char*"]
    if stars:
        assert base in POINTED, declared
        return ctypes.c_void_p
    return TYPES[base]


def exported(sources: dict[str, str]) -> dict[str, tuple[type | None, list[type | None]]]:
    """Function that the library exports → types of its result and of its arguments."""
    found = {}
    for text in sources.values():
        for result, name, arguments in re.findall(r"^EXPORT ([^(]*?)\b(\w+)\(([^)]*)\)", text, re.MULTILINE):
            declared = [part for part in arguments.replace("\n", " ").split(",") if part.strip()]
            found[name] = (c_type(result, is_result=True), [c_type(part) for part in declared])
    return found


def differences(sources: dict[str, str], signatures: dict, results: dict) -> set[str]:
    """Functions that C++ and Python do not declare alike, or that one of them does not have."""
    there = exported(sources)
    return {
        name
        for name in there.keys() | signatures.keys()
        if name not in there or name not in signatures or there[name] != (results.get(name), signatures[name])
    }


def test_every_function_has_the_same_types_in_python_as_in_cpp():
    assert len(exported(SOURCES)) > 25
    assert not differences(SOURCES, native.SIGNATURES, native._RESULTS)


def test_that_check_sees_a_wrong_type_and_a_missing_function():
    signatures = native.SIGNATURES
    assert differences(SOURCES, signatures | {"hits": signatures["hits"][:-1]}, native._RESULTS) == {"hits"}
    assert differences(SOURCES, signatures | {"gone": []}, native._RESULTS) == {"gone"}
    assert differences(SOURCES, {k: v for k, v in signatures.items() if k != "adamw"}, native._RESULTS) == {"adamw"}
    assert differences(SOURCES, signatures, native._RESULTS | {"clip_gradient": ctypes.c_double}) == {"clip_gradient"}
    assert differences(SOURCES, signatures, native._RESULTS | {"transpose": ctypes.c_int}) == {"transpose"}
    wider = {**SOURCES, "metrics.cc": SOURCES["metrics.cc"].replace("Index most,", "int most,")}
    assert differences(wider, signatures, native._RESULTS) == {"hits"}


def test_functions_that_may_throw_are_guarded_and_raise_in_python():
    functions_ = [one for text in SOURCES.values() for one in text.split("\nEXPORT ")[1:]]
    guarded = {re.match(r"[^(]*?\b(\w+)\(", one)[1] for one in functions_ if "return guarded(" in one}
    assert guarded == set(native._FALLIBLE)


def parallel_regions(text: str) -> list[str]:
    """The statements behind `#pragma omp parallel`, each with its block."""
    regions, lines = [], text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("#pragma omp parallel"):
            first, *rest = lines[number + 1 :]
            indent = len(first) - len(first.lstrip())
            inside = [first]
            for other in rest:
                if not other.startswith("#") and len(other) - len(other.lstrip()) <= indent:
                    break
                inside.append(other)
            regions.append("\n".join(inside))
    return regions


def test_no_memory_is_taken_in_a_parallel_region():
    regions = [region for text in SOURCES.values() for region in parallel_regions(text)]
    assert len(regions) > 20
    taking = re.compile(r"\bBuffer\b|\bThreadBuffers\b|std::vector<|\bnew\b|push_back|emplace|resize|\bthrow\b")
    assert not [region for region in regions if taking.search(region)]


def constants(sources: dict[str, str]) -> dict[str, set[str]]:
    """Constant of C++ → its values, where these are plain numbers."""
    found: dict[str, set[str]] = {}
    for text in sources.values():
        for statement in re.findall(r"constexpr [\w:]+ ([^;]*);", text):
            for name, value in re.findall(r"(\w+) = ([\d' <]+)(?:,|$)", statement):
                found.setdefault(name, set()).add(str(eval(value.replace("'", ""))))
    return found


def test_constants_with_one_name_have_one_value_in_python_and_cpp():
    there = constants(SOURCES)
    assert there["LANES"] == {"16"}
    ours = [
        (path.name, name, value)
        for path in Path(runner.__file__).parent.rglob("*.py")
        for name, value in re.findall(r"^([A-Z][A-Z_\d]*)(?:: \w+)? = ([\d_.]+)$", path.read_text(), re.MULTILINE)
        if name in there
    ]
    assert ("native.py", "NOWHERE", "255") in ours
    assert not [one for one in ours if there[one[1]] != {str(int(one[2]))}]


def fields(struct: str, text: str) -> list[str]:
    """Names of the members of a struct of plain data, in their order."""
    body = re.search(rf"struct (?:alignas\(64\) )?{struct} \{{(.*?)^\}}", text, re.MULTILINE | re.DOTALL)[1]
    body = re.sub(r"//.*", "", body)
    return [name for line in body.split(";") for name in re.findall(r"(\w+)\s*(?:,|$)", line.strip())]


@pytest.mark.parametrize(
    ("source", "enum", "names"),
    [("activation.h", "Activation", native.ACTIVATIONS), ("boundary.h", "Outcome", native.OUTCOMES)],
)
def test_enumerations_have_the_same_order(source, enum, names):
    listed = re.search(rf"enum {enum} \{{(.*?)\}}", SOURCES[source])[1]
    assert [name.strip().lower().replace("_", " ") for name in listed.split(",")] == list(names)


def test_structures_have_the_same_members():
    assert fields("Entry", SOURCES["adamw.cc"]) == list(optimizer.ENTRY.names)
    assert fields("Seat", SOURCES["shared.cc"]) == list(shared.SEAT.names)
    numbers_ = " ".join(fields("Geometry", SOURCES["plan.h"]))
    assert numbers_ == (
        "batch channels height width filters kernel_rows kernel_columns stride_rows stride_columns pad_top pad_left "
        "dilation_rows dilation_columns rows columns groups"
    )


def numbers(*shape: int) -> paddle.Tensor:
    tensor = paddle.to_tensor(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
    tensor.stop_gradient = False
    return tensor


SCARCE = """
import resource
import paddle
from runner.kernels import functions
from runner.kernels.native import Geometry

def limit(free):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + free, -1))

def compute(batch):
    x, weight = (paddle.ones(shape) for shape in ([64, 3, 3, batch], [4, 64, 3, 3]))
    x.stop_gradient = weight.stop_gradient = False
    geometry = Geometry(batch, 64, 3, 3, 4, (3, 3), (1, 1), (0, 0), (1, 1), 1)
    forward = lambda: functions.Convolution.apply(x, weight, None, geometry)
    return forward, x

forward, x = compute(32)
forward().sum().backward()
forward, x = compute(16384)
backward = forward().sum().backward
# 36 MiB are enough for the gradient of x, but not for what the threads gather.
limit(56 << 20)
for attempt in (forward, backward):
    try:
        attempt()
    except Exception as error:
        print(type(error).__name__, "ran out of memory" in str(error))
limit(4 << 30)
forward().sum().backward()
print(float(x.grad.sum()) != 0)
"""


@compiled
def test_a_lack_of_memory_within_a_parallel_region_is_an_error_and_the_process_goes_on():
    threads = os.environ | {"OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", SCARCE], capture_output=True, text=True, timeout=120, env=threads)
    assert done.returncode == 0, done.stderr
    first, second, after = done.stdout.split("\n")[:3]
    assert first == "MemoryError True"
    # Paddle wraps what a backward pass raises.
    assert second.endswith("True")
    assert after == "True"


@compiled
@pytest.mark.parametrize(
    ("geometry", "what"),
    [
        (Geometry(1 << 31, 1, 1, 1, 2, (1, 1), (1, 1), (0, 0), (1, 1), 1), "2³¹ columns"),
        (Geometry(1 << 20, 4, 64, 64, 4, (3, 3), (1, 1), (1, 1), (1, 1), 1), "2³¹ columns"),
        (Geometry(1, 1, 1, 1, 1 << 31, (1, 1), (1, 1), (0, 0), (1, 1), 1), "2³¹ rows"),
        (Geometry(1, 1 << 28, 3, 3, 2, (3, 3), (1, 1), (1, 1), (1, 1), 1), "2³¹ rows"),
        (Geometry(1, 8, 1 << 16, 1 << 15, 8, (1, 1), (1, 1), (0, 0), (1, 1), 8), "2³¹ pixels"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(geometry, what):
    with pytest.raises(RuntimeError, match=f"new_plan .* no room for .* {what}"):
        native.Plan(geometry)


@compiled
def test_a_plan_is_freed_when_it_is_forgotten_and_nobody_needs_it(monkeypatch):
    freed = []
    real = native.Plan.__del__

    def counted(plan):
        freed.append(plan._as_parameter_.value)
        real(plan)

    monkeypatch.setattr(native.Plan, "__del__", counted)
    before = native.plan.cache_info()
    assert before.maxsize == native.MOST_PLANS
    x, weight = numbers(3, 5, 5, 7), numbers(4, 3, 3, 3)
    geometry = Geometry(7, 3, 5, 5, 4, (3, 3), (1, 1), (1, 1), (1, 1), 1)
    y = functions.Convolution.apply(x, weight, None, geometry)
    address = native.plan(geometry)._as_parameter_.value
    # As many others as are kept.
    for batch in range(1, native.MOST_PLANS + 1):
        native.plan(Geometry(batch, 1, 1, 1, 1, (1, 1), (1, 1), (0, 0), (1, 1), 1))
    gc.collect()
    assert address not in freed
    y.sum().backward()
    expected = paddle.grad(F.conv2d(x.transpose([3, 0, 1, 2]), weight, None, 1, 1).sum(), [x, weight])
    for ours, theirs in zip((x.grad, weight.grad), expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-4)
    del y
    gc.collect()
    assert address in freed
