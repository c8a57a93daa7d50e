"""Which convolutions Paddle computes: measured once, kept on disk."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, replace

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paddle import nn

from runner.files.digests import text_digest
from runner.kernels import autotune, build, native
from runner.kernels.accelerate import accelerate
from runner.kernels.autotune import Measured
from runner.kernels.native import Geometry

pytestmark = pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")
DEPTHWISE = Geometry(64, 96, 2, 2, 96, (3, 3), (1, 1), (1, 1), (1, 1), 96)


@pytest.fixture
def measurements(tmp_path, monkeypatch):
    """A file of measurements of its own."""
    monkeypatch.setattr(autotune, "_file", lambda: tmp_path / "measured.jsonl")
    autotune._measured.cache_clear()
    yield tmp_path / "measured.jsonl"
    autotune._measured.cache_clear()


@pytest.mark.parametrize(("theirs", "expected"), [(0.5, True), (0.95, False), (1.5, False)])
def test_paddle_computes_what_it_computes_clearly_faster(measurements, monkeypatch, theirs, expected):
    monkeypatch.setattr(autotune, "measure", lambda *shape: Measured(*shape, paddle_ms=theirs, kernels_ms=1.0))
    assert autotune.paddle_is_faster(DEPTHWISE, False, False) == expected


def test_what_is_measured_is_kept(measurements):
    autotune.paddle_is_faster(DEPTHWISE, False, False)
    [measured] = autotune.all_measured()
    assert measured.geometry == replace(DEPTHWISE, batch=32)
    assert min(measured.paddle_ms, measured.kernels_ms) > 0


def test_a_shape_is_measured_once_for_batches_of_a_size(measurements, monkeypatch):
    autotune.paddle_is_faster(DEPTHWISE, False, False)
    monkeypatch.setattr(autotune, "measure", lambda *_: pytest.fail("measured again"))
    autotune.paddle_is_faster(replace(DEPTHWISE, batch=33), False, False)
    autotune._measured.cache_clear()
    autotune.paddle_is_faster(DEPTHWISE, False, False)


def test_a_damaged_line_is_measured_again(measurements):
    autotune.paddle_is_faster(DEPTHWISE, False, False)
    measurements.write_text(measurements.read_text()[:40] + "\n")
    autotune._measured.cache_clear()
    autotune.paddle_is_faster(DEPTHWISE, False, False)
    assert len(autotune.all_measured()) == 1


@pytest.mark.parametrize(("enters", "leaves"), [(False, False), (True, True)])
def test_a_layer_that_paddle_computes_faster_gives_the_same(measurements, monkeypatch, enters, leaves):
    monkeypatch.setattr(autotune, "paddle_is_faster", lambda *_: True)
    layer = nn.Conv2D(3, 5, 3, stride=2)
    images = paddle.randn([4, 3, 9, 9])
    expected = layer(images).numpy()
    accelerate(layer, (3, 9, 9))
    layer.enters, layer.leaves = enters, leaves
    found = layer(images if enters else images.transpose([1, 2, 3, 0]))
    np.testing.assert_array_equal((found if leaves else found.transpose([3, 0, 1, 2])).numpy(), expected)


def test_without_a_compiler_depthwise_layers_become_matrix_products(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    for cached in (build.library, native.kernels, native.unavailable):
        cached.cache_clear()
    try:
        assert native.unavailable() == "there is no C++ compiler (Debian: apt-get install g++)"
        layer = nn.Conv2D(4, 4, 3, padding=1, groups=4)
        images = paddle.randn([8, 4, 6, 6])
        expected = F.conv2d(images, layer.weight, layer.bias, padding=1, groups=4).numpy()
        accelerate(layer, (3, 6, 6))
        assert type(layer).__name__ == "DepthwiseConv2D"
        np.testing.assert_allclose(layer(images).numpy(), expected, atol=1e-5)
    finally:
        for cached in (build.library, native.kernels, native.unavailable):
            cached.cache_clear()


def test_a_compiler_that_fails_is_named_with_its_message(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "g++ --no-such-option")
    build.library.cache_clear()
    with pytest.raises(build.Unavailable, match=r"g\+\+ failed: .*no-such-option"):
        build.library()
    build.library.cache_clear()


damages = st.one_of(
    st.tuples(st.just("cut"), st.integers(1, 400)),
    st.tuples(st.just("flip"), st.integers(0, 400)),
    st.tuples(st.just("junk"), st.binary(min_size=1, max_size=300)),
    st.tuples(
        st.just("value"), st.sampled_from(["NaN", "-1", "1e999", "0", '"x"', "null", "[]", "1" * 5000, "[" * 100_000])
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damages)
def test_whatever_became_of_the_file_a_shape_is_measured_once_more_and_kept(measurements, damage):
    kind, how = damage
    right = Measured(replace(DEPTHWISE, batch=32), False, False, 1.0, 2.0)
    text = json.dumps(asdict(right))
    whole = f"{text_digest(text)} {text}\n".encode()
    match kind:
        case "cut":
            left = whole[: -min(how, len(whole))]
        case "flip":
            place = how % len(whole)
            left = whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]
        case "junk":
            left = how
        case "value":
            left = whole.replace(b"2.0", how.encode())
    measurements.write_bytes(left)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autotune, "measure", lambda *shape: Measured(*shape, paddle_ms=1.0, kernels_ms=2.0))
        for _ in range(2):
            autotune._measured.cache_clear()
            autotune._read.cache_clear()
            assert autotune._measured(right.geometry, False, False) == right
            # What is kept is found by every later process.
            patch.setattr(autotune, "measure", lambda *_: pytest.fail("measured again"))


def test_a_file_beyond_all_measurements_is_begun_again(measurements):
    measurements.touch()
    os.truncate(measurements, 1 << 40)
    autotune.paddle_is_faster(DEPTHWISE, False, False)
    assert measurements.stat().st_size < 1000
    assert len(autotune.all_measured()) == 1


@pytest.mark.parametrize("there", ["folder", "pipe"])
def test_without_a_file_each_process_measures(measurements, monkeypatch, there):
    measurements.mkdir() if there == "folder" else os.mkfifo(measurements)
    monkeypatch.setattr(autotune, "measure", lambda *shape: Measured(*shape, paddle_ms=0.5, kernels_ms=1.0))
    assert autotune.paddle_is_faster(DEPTHWISE, False, False)


def test_a_lock_that_is_never_given_back_is_waited_for_once_a_process(measurements, monkeypatch):
    monkeypatch.setattr(autotune, "_patience", [0.3])
    monkeypatch.setattr(autotune, "measure", lambda *shape: Measured(*shape, paddle_ms=0.5, kernels_ms=1.0))
    with measurements.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for channels in range(1, 20):
            assert autotune.paddle_is_faster(replace(DEPTHWISE, channels=channels), False, False)
    assert autotune._patience == [0.0]
    assert measurements.read_text() == ""
