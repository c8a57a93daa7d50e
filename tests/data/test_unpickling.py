"""Foreign pickles: arrays come back as they were, and whatever else a file holds is refused without harm."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import pickletools
import resource
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from runner.checkpoints import weights
from runner.data import cifar, unpickling
from runner.errors import CheckpointError, DataError

#: Files that are tried by each test, the same ones each time; `make test-fuzz` tries 8,000 others.
EXAMPLES = 8 * int(os.environ.get("RUNNER_FUZZ", "60"))
TRIED = settings(
    max_examples=EXAMPLES, deadline=None, derandomize="RUNNER_FUZZ" not in os.environ, print_blob=True, database=None
)
#: What any of these files may take, however large they claim to be.
MOST_MEMORY = 256 << 20


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory():
    """Whoever asks for more than `MOST_MEMORY` gets a MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as stream:
        used = int(stream.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def load(content: bytes) -> Any:
    return unpickling.load(io.BytesIO(content))


def equal(value: Any, expected: Any) -> bool:
    match expected:
        case np.ndarray():
            native = expected.dtype.newbyteorder("=")
            return type(value) is np.ndarray and value.dtype == native and np.array_equal(value, expected)
        case np.generic():
            return equal(value, expected.item())
        case dict():
            return list(value) == list(expected) and all(equal(value[key], expected[key]) for key in expected)
        case list() | tuple():
            return type(value) is type(expected) and len(value) == len(expected) and all(map(equal, value, expected))
    return type(value) is type(expected) and value == expected


DTYPES = [np.dtype(order + text) for order in "<>" for text in sorted(unpickling._DTYPES)]
PROTOCOLS = [2, 3, 4, 5]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays.arrays(
            dtype, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0),
            elements={"allow_nan": False} if dtype.kind == "f" else None,
        )
    ),
    st.sampled_from("CF"),
    st.sampled_from(PROTOCOLS),
)  # fmt: skip
def test_any_array_comes_back_equal(array, order, protocol):
    array = np.asarray(array, order=order)
    values = {"array": array, "again": array, "name": ("name", array), "number": array.ravel()[:1]}
    assert equal(load(pickle.dumps(values, protocol)), values)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_values_come_back_equal(protocol):
    values = [
        1,
        -1,
        300,
        70_000,
        2**62,
        None,
        True,
        False,
        1.5,
        "text",
        b"",
        b"\0\xff",
        (),
        (1, 2),
        {"key": [np.int8(3)]},
    ]
    assert equal(load(pickle.dumps(values, protocol)), values)
    ordered = collections.OrderedDict(first=np.ones(2), second=np.bool_(True))
    assert equal(load(pickle.dumps(ordered, protocol)), {"first": np.ones(2), "second": True})


def test_the_names_of_numpy_1_and_2_are_the_same():
    content = pickle.dumps({"array": np.arange(3)}, protocol=2)
    assert b"numpy.core.multiarray" in content
    assert equal(load(content.replace(b"numpy.core.", b"numpy._core.")), {"array": np.arange(3)})


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_weights_are_read_as_paddle_saves_them(tmp_path, protocol):
    network = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4))
    state = {**network.state_dict(), "half": paddle.ones([2], "bfloat16"), "parameter": network[0].weight}
    paddle.save(state, str(tmp_path / "w.pdparams"), protocol=protocol)
    read = weights.read(tmp_path / "w.pdparams").arrays
    assert list(read) == list(state)
    assert equal(read["half"], np.full(2, 0x3F80, np.uint16))
    for name in network.state_dict():
        assert equal(read[name], state[name].numpy())


def test_weights_that_paddle_cut_into_parts_are_refused_with_the_remedy(tmp_path):
    parts = {"a@@.0": np.ones(2), "UnpackBigParamInfor@@": {"a": {"OriginShape": (2,), "slices": ["a@@.0"]}}}
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps(parts, 2))
    with pytest.raises(CheckpointError, match="protocol=4"):
        weights.read(tmp_path / "w.pdparams")


def python2_cifar(pixels: np.ndarray, labels: bytes) -> bytes:
    """A batch as Python 2 wrote the official ones: text and the array's bytes are strings of bytes."""
    return b"".join(
        [b"\x80\x02}q\x01(U\x0bbatch_labelq\x02U\x15training batch 1 of 5q\x03U\x06labelsq\x04]q\x05("]
        + [b"K" + bytes([label]) for label in labels]
        + [
            b"eU\x04dataq\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87Rq\t(K\x01"
        ]
        + [
            b"M",
            struct.pack("<H", len(pixels)),
            b"M\x00\x0c\x86cnumpy\ndtype\nq\nU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|",
        ]
        + [b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T", struct.pack("<i", pixels.size), pixels.tobytes()]
        + [b"tbU\tfilenamesq\x0c]q\x0d(U\x05a.pngq\x0eU\x05b.pngq\x0feu."]
    )


PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)


def test_a_batch_that_python_2_wrote_is_read():
    batch = load(python2_cifar(PIXELS, b"\3\5"))
    assert equal(batch[b"data"], PIXELS)
    assert batch[b"labels"] == [3, 5]
    assert batch[b"filenames"] == [b"a.png", b"b.png"]


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
DTYPE = b"cnumpy\ndtype\nX\x02\0\0\0f4\x89\x88\x87R(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
OBJECTS = b"cnumpy\ndtype\nX\x02\0\0\0O8\x89\x88\x87R(K\x03X\x01\0\0\0|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
HUGE = b"\x8a\x08" + b"\xff" * 7 + b"\x7f"


def array(
    shape: bytes = b"K\x01\x85", dtype: bytes = DTYPE, data: bytes = b"C\x04abcd", fortran: bytes = b"\x89"
) -> bytes:
    return RECONSTRUCT + b"(K\x01" + shape + dtype + fortran + data + b"tb"


FORGED = {
    "an object dtype whose flags are cleared": array(dtype=OBJECTS, data=b"C\x08\1\2\3\4\5\6\7\x08"),
    "a structured dtype": array(dtype=DTYPE.replace(b"NNN", b"NX\x01\0\0\0a\x85}", 1)),
    "a dtype of another size": array(dtype=DTYPE.replace(b"NNNJ\xff\xff\xff\xff", b"NNNK\x40", 1)),
    "a dtype of text": array(dtype=DTYPE.replace(b"f4", b"U1")),
    "a dtype with metadata": array(dtype=DTYPE.replace(b"K\x03X", b"K\x04X", 1).replace(b"K\x00tb", b"K\x00}tb")),
    "more elements than bytes": array(shape=b"K\x02\x85"),
    "fewer elements than bytes": array(shape=b"K\x00\x85"),
    "a giant shape": array(shape=HUGE + b"\x85"),
    "a giant shape that is nothing": array(shape=HUGE * 2 + b"K\x00\x87", data=b"C\x00"),
    "a product that overflows": array(shape=(b"\x8a\x09" + b"\0" * 8 + b"\1") + b"K\x01\x86"),
    "a negative side": array(shape=b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86"),
    "a side that is text": array(shape=b"X\x01\0\0\x001\x85"),
    "a side that is a truth value": array(shape=b"\x88\x85"),
    "a shape that is a list": array(shape=b"]K\x01a"),
    "forty dimensions": array(shape=b"(" + b"K\x01" * 40 + b"t"),
    "elements in a list": array(data=b"]K\x01a"),
    "elements in text": array(data=b"X\x04\0\0\0abcd"),
    "an order that is a dict": array(fortran=b"}"),
    "a state that is a dict": RECONSTRUCT + b"}b",
    "a state that is a list": RECONSTRUCT + b"]b",
    "an array without a state": RECONSTRUCT,
    "an array without a state in a list": b"]" + RECONSTRUCT + b"a",
    "an array within its own state": RECONSTRUCT + b"q\x00(K\x01K\x01\x85" + DTYPE + b"\x89h\x00tb",
    "a second state": array() + b"(K\x01K\x01\x85" + DTYPE + b"\x89C\x04abcdtb",
    "a state for an integer": b"K\x01(K\x03tb",
    "a state for a dict": b"}}b",
    "a subclass of arrays": RECONSTRUCT.replace(b"cnumpy\nndarray", b"cnumpy\nmatrix") + b"(K\x01tb",
    "an array of an array type's size": RECONSTRUCT.replace(b"K\x00\x85", b"\x8a\x04\xff\xff\xff\x7f\x85"),
    "a scalar of an object": b"cnumpy.core.multiarray\nscalar\n" + OBJECTS + b"C\x08\1\2\3\4\5\6\7\x08\x86R",
    "a call of a name that is not known": b"cbuiltins\neval\nX\x01\0\0\x001\x85R",
    "a module's attribute of an attribute": b"\x80\x04X\x05\0\0\0numpyX\x0d\0\0\0ndarray.dumps\x93.",
    "a name alone": b"cnumpy\nndarray\n",
    "a name in a list": b"]cnumpy\nndarray\na",
    "a call of a number": b"K\x01)R",
    "a call with a list": b"c_codecs\nencode\n]R",
    "encoding as something else": b"c_codecs\nencode\nX\x01\0\0\0aX\x03\0\0\0zip\x86R",
    "a new object": b"cbuiltins\ntuple\n)\x81",
    "a persistent id": b"Pid\n",
    "an extension": b"\x82\x01",
    "an instance": b"(ibuiltins\nlist\n",
    "protocol 0": b"(lp0\nI1\na",
    "a list within itself": b"]q\x00h\x00a",
    "a dict within itself": b"}q\x00X\x01\0\0\0ah\x00s",
    "a list in two places": b"]q\x00h\x00\x86",
    "a dict key that is a number": b"}K\x01K\x02s",
    "a dict key that is a list": b"}]K\x02s",
    "a dict key without a value": b"}(X\x01\0\0\0au",
    "elements of a tuple": b")K\x01a",
    "an element of nothing": b"a",
    "the end of nothing": b"",
    "a mark too few": b"e",
    "a memo that was not written": b"j" + u32(2**31),
    "bytes that are not there": b"\x8e" + u64(2**62),
    "a terabyte that is not there": b"\x8e" + u64(2**40),
    "a mutable terabyte": b"\x96" + u64(2**40),
    "text that is not there": b"\x8d" + u64(2**40),
    "a number that is not there": b"\x8b" + u32(2**31 - 1),
    "a negative length": b"T" + u32(2**32 - 1),
    "an unknown instruction": b"\xff",
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_what_is_forged_is_refused(name):
    with pytest.raises(pickle.UnpicklingError):
        load(b"\x80\x04" + FORGED[name] + b".")


def test_the_forged_arrays_differ_from_a_true_one_in_one_thing():
    assert equal(load(b"\x80\x04" + array() + b"."), np.frombuffer(b"abcd", "<f4"))


def test_a_frame_or_a_memo_takes_only_what_the_file_has():
    content = b"\x80\x04\x95" + u64(2**50) + b"Nr" + u32(2**32 - 1) + b"."
    tracemalloc.start()
    assert load(content) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    "content",
    [
        b"]" * 100_000 + b"a" * 99_999,
        b"(" * 100_000 + b"t" * 100_000,
        b"}" * 5_000_000,
        # The same megabyte of bytes again and again: as arrays of the other byte order, as Latin-1 text.
        b"B" + u32(1 << 20) + b"x" * (1 << 20) + b"q\x000"
        + array(b"J\0\0\4\0\x85", DTYPE.replace(b"\0<N", b"\0>N"), b"h\x00") * 1000,
        b"X" + u32(1 << 20) + b"x" * (1 << 20) + b"q\x00"
        + b"c_codecs\nencode\nh\x00X\x06\0\0\0latin1\x86R" * 1000,
    ],
    ids=["nested lists", "nested marks", "dicts", "arrays", "text"],
)  # fmt: skip
def test_memory_stays_near_the_size_of_the_file(content, tmp_path):
    """In a process of its own, where nothing else is traced."""
    (tmp_path / "file").write_bytes(b"\x80\x04" + content + b".")
    code = (
        "import contextlib, pickle, sys, tracemalloc\n"
        "from runner.data import unpickling\n"
        "stream = open(sys.argv[1], 'rb')\n"
        "tracemalloc.start()\n"
        "with contextlib.suppress(pickle.UnpicklingError): unpickling.load(stream)\n"
        "print(tracemalloc.get_traced_memory()[1])\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "file")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < 160 << 20


FILES = [
    python2_cifar(PIXELS, b"\3\5"),
    *(
        pickle.dumps(content, protocol)
        for protocol in PROTOCOLS
        for content in (
            {b"data": PIXELS, b"labels": [1, 2], b"batch_label": b"of 5"},
            {"weight": np.ones((3, 2), np.float32), "bias": ("b_0", np.ones(2, ">f8")), "step": np.int64(3)},
        )
    ),
]
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
OBJECTS_OF_FILES = [
    RECONSTRUCT,
    DTYPE,
    OBJECTS,
    array(),
    b"(K\x01K\x01\x85",
    b"\x89C\x04abcd",
    b"tb",
    b"q\x00",
    b"h\x00",
]
NAMES = [b"c%b\n" % b"\n".join(name.encode().rsplit(b".", 1)) for name in sorted(unpickling._NAMES)]


def sized(codes: list[bytes], size: Callable[[int], bytes], most: int) -> st.SearchStrategy[bytes]:
    """An instruction whose length is true or any other one."""
    return st.builds(
        lambda code, claimed, data: code + size(claimed or len(data)) + data,
        st.sampled_from(codes),
        st.just(0) | st.integers(0, most),
        st.binary(max_size=8),
    )


#: What a file is forged of: instructions with arguments that fit and that do not, and whole objects.
PIECES = st.one_of(
    st.sampled_from(OPCODES),
    st.sampled_from(OBJECTS_OF_FILES),
    st.sampled_from(NAMES),
    sized([b"B", b"T", b"X"], u32, 2**32 - 1),
    sized([b"\x8e", b"\x8d", b"\x95", b"\x96"], u64, 2**64 - 1),
    st.integers(0, 255).map(lambda number: b"K" + bytes([number])),
    st.binary(max_size=4),
)
FORGERIES = st.lists(PIECES, max_size=30).map(lambda pieces: b"\x80\x04" + b"".join(pieces) + b".")
KINDS = st.sampled_from(["set", "insert", "cut", "copy", "end"])
EDITS = st.lists(st.tuples(st.integers(0, 2**20), KINDS, PIECES), min_size=1, max_size=4)


def edited(content: bytes, edits: list[tuple[int, str, bytes]]) -> bytes:
    """A file with some bytes replaced, inserted, cut out or repeated, or with its end cut off."""
    for place, edit, piece in edits:
        # Half of them near an end, where the structure is.
        at = place % min(len(content) + 1, 64 if place % 2 else 1 << 20)
        at = len(content) - at if place % 4 == 3 else at
        match edit:
            case "set":
                content = content[:at] + piece + content[at + len(piece) :]
            case "insert":
                content = content[:at] + piece + content[at:]
            case "cut":
                content = content[:at] + content[at + len(piece) + 1 :]
            case "copy":
                content = content[:at] + content[max(0, at - 20) :]
            case "end":
                content = content[:at]
    return content


def assert_plain(value: Any, depth: int = 0) -> None:
    """It is of the types that `unpickling.load` promises, down to its elements."""
    assert type(value) in (type(None), bool, int, float, str, bytes, list, tuple, dict, np.ndarray)
    if isinstance(value, np.ndarray):
        assert value.dtype.str[1:] in unpickling._DTYPES
        assert not value.flags.writeable
        value.sum()
    elif isinstance(value, (list, tuple, dict)) and depth < 30:
        for element in value.values() if isinstance(value, dict) else value:
            assert_plain(element, depth + 1)


@contextlib.contextmanager
def naming(error: type[Exception], words: str = "") -> Iterator[None]:
    """Nothing, or this one error, short and with these words in it."""
    try:
        yield
    except error as refusal:
        message = str(refusal)
        assert words in message and len(message) < 1000, message  # noqa: PT018


@TRIED
@given(FORGERIES)
def test_any_instructions_are_plain_values_or_refused(content):
    with naming(pickle.UnpicklingError):
        assert_plain(load(content))


@TRIED
@given(st.sampled_from(FILES), EDITS)
def test_any_damage_gives_plain_values_or_is_refused(content, edits):
    with naming(pickle.UnpicklingError):
        assert_plain(load(edited(content, edits)))


@TRIED
@given(st.sampled_from(FILES), EDITS)
def test_any_damage_is_read_or_named_by_whoever_reads_the_file(tmp_path_factory, content, edits):
    path = tmp_path_factory.getbasetemp() / "damaged.pdparams"
    path.write_bytes(edited(content, edits))
    with naming(CheckpointError, path.name):
        weights.read(path)
    files = cifar._Files.__new__(cifar._Files)
    files.where = path.parent
    with naming(DataError, path.name):
        cifar._images([files.read(path.name)], b"labels", 32, path)
