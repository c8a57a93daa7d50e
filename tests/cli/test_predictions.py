"""`Run.predict` answers the same whatever the program around it does, and leaves that as it was."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import threading

import numpy as np
import pytest
from PIL import Image

import runner
from runner import errors
from runner.cli.prediction import each
from runner.cli.undisturbed import undisturbed


@pytest.fixture
def run(finished, monkeypatch):
    monkeypatch.chdir(finished)
    return runner.open("run")


@pytest.fixture
def arrays():
    return list(np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8))


@contextlib.contextmanager
def defaults(dtype, is_static):
    """Paddle as a program may have set it."""
    import paddle

    paddle.set_default_dtype(dtype)
    if is_static:
        paddle.enable_static()
    try:
        yield
        assert (paddle.get_default_dtype(), paddle.in_dynamic_mode()) == (dtype, not is_static)
    finally:
        paddle.disable_static()
        paddle.set_default_dtype("float32")


@pytest.mark.parametrize("is_static", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_paddles_defaults_in_the_program_change_nothing(run, arrays, dtype, is_static):
    expected = run.predict(arrays)
    with defaults(dtype, is_static):
        later = run.predict(arrays)
        anew = runner.open("run").predict(arrays)
        network = run.network()
    for given in (later, anew):
        assert all(np.array_equal(a.probabilities, b.probabilities) for a, b in zip(given, expected, strict=True))
    assert {str(parameter.dtype) for parameter in network.parameters()} == {"paddle.float32"}


def test_what_a_generator_of_pictures_does_is_kept(run, monkeypatch):
    monkeypatch.delenv("OF_THE_GENERATOR", raising=False)
    handler = logging.NullHandler()

    def drawn():
        os.environ["OF_THE_GENERATOR"] = "1"
        logging.root.addHandler(handler)
        yield np.random.randint(0, 256, (8, 8)).astype(np.uint8)

    first, second = ([one.probabilities for one in run.predict(drawn())] for _ in range(2))
    try:
        assert not np.array_equal(first, second)
        assert os.environ.pop("OF_THE_GENERATOR") == "1"
        assert handler in logging.root.handlers
    finally:
        logging.root.removeHandler(handler)


def test_a_generator_may_wait_for_a_thread_that_predicts(run, arrays):
    def asking():
        thread = threading.Thread(target=lambda: answers.append(runner.open("run").predict(arrays)), daemon=True)
        thread.start()
        thread.join(60)
        assert answers
        yield arrays[0]

    answers = []
    assert run.predict(asking())[0].label == answers[0][0].label


def test_one_thread_of_the_process_uses_paddle_at_a_time(run, arrays, monkeypatch):
    runs, inside, most = [runner.open("run") for _ in range(3)], [], []

    def watched(compute):
        def call(batch):
            inside.append(1)
            most.append(len(inside))
            result = compute(batch)
            inside.pop()
            return result

        return call

    for one in runs:
        classifier = one._classifier(None, None)
        monkeypatch.setattr(classifier, "compute", watched(classifier.compute))
    threads = [threading.Thread(target=one.predict, args=(arrays * 20,)) for one in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}


def test_what_is_done_undisturbed_may_be_done_within_it():
    with undisturbed(), undisturbed():
        pass


def test_a_file_is_one_picture_and_texts_are_paths(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    path, content = str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes()
    with open(path, "rb") as stream:
        for one in (content, bytearray(content), memoryview(content), io.BytesIO(content), stream):
            assert list(each(one)) == [one]
    for kind in (str, object):
        assert list(each(np.array([path, path], dtype=kind))) == [path, path]
    assert list(each([3, None])) == [3, None]


@pytest.mark.parametrize("value", [None, 3, {"a": 1}, np.uint8(3)])
def test_what_is_neither_a_picture_nor_several_is_refused_by_its_type(run, value):
    with pytest.raises(errors.ConfigError, match=f"A value of type {type(value).__name__} is not a picture"):
        run.predict(value)
    if not isinstance(value, dict):
        with pytest.raises(errors.ConfigError, match=f"A value of type {type(value).__name__} is not a run"):
            runner.open(value)


TWO_CHANNELS = """
import numpy as np
from runner.data import Images, Source


def two():
    labels = np.arange(40) % 2
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 2), dtype=np.uint8)
    return Source("two", ["plain", "spot"], train=Images(pixels, labels), test=Images(pixels, labels))
"""


@pytest.mark.slow
def test_a_run_on_two_channels_predicts_arrays_as_it_is_evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two_channels.py").write_text(TWO_CHANNELS)
    monkeypatch.syspath_prepend(str(tmp_path))
    run = runner.train(
        "+debug=fast_dev_run", "model=mobilenet_v3_small_x0_35", "tracking=none", "data=custom", "data.channels=2",
        "data.target=two_channels:two", "data.mean=[0.5,0.5]", "data.std=[0.5,0.5]",
        **{"train.plots": False, "train.threads": 1, "deploy.formats": ["onnx"], "data.limit": None},
    )  # fmt: skip
    images = importlib.import_module("two_channels").two().test
    for engine in (None, "onnxruntime"):
        predictions = run.predict(images.images, engine=engine)
        right = [one.label == run.classes[label] for one, label in zip(predictions, images.labels, strict=True)]
        assert np.mean(right) == run.metrics["top1"]
        with pytest.raises(errors.DataError, match="2 channels, which no picture file has"):
            run.predict(tmp_path / "two_channels.py", engine=engine)
