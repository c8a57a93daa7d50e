"""What a Python program has of the package does what the command does, and leaves the program as it was."""

from __future__ import annotations

import contextlib
import copy
import errno
import inspect
import io
import json
import logging
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import runner
from runner import errors, runs
from runner.cli import api, call
from runner.cli.compose import register
from runner.cli.config_dir import config_dir
from tests.conftest import TINY
from tests.docs.pages import ROOT

#: Such a run with values as data.
VALUES = {"train": {"threads": 1, "plots": False}, "deploy.formats": [], "tracking": "none"}
OVERRIDES = ["+debug=fast_dev_run", "model=mobilenet_v3_small_x0_35"]


def surroundings():
    """What of this process is the caller's."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "arguments": list(sys.argv),
        "signals": handlers,
        "logging": (list(logging.root.handlers), logging.root.level),
        "python": random.getstate(),
        "numpy": str(np.random.get_state()),
        "hydra": GlobalHydra.instance().hydra,
    }


@pytest.fixture
def run(finished, monkeypatch):
    monkeypatch.chdir(finished)
    return runner.open("run")


@pytest.fixture
def pictures(tmp_path):
    """Three pictures, the second of which is none."""
    draw = np.random.default_rng(0)
    for name in "ac":
        Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    return tmp_path


def test_importing_it_loads_nothing():
    code = "import sys, runner; print(sorted({'paddle', 'mlflow', 'hydra', 'numpy', 'yaml'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_it_has_a_few_names_each_with_an_example():
    assert sorted(dir(runner)) == sorted([*runner.__all__, "__version__"])
    for name in ("train", "sweep", "open"):
        assert f"runner.{name}(" in vars(api)[name].__doc__
    for kind in (runner.Run, runner.Sweep):
        methods = [one for name, one in vars(kind).items() if not name.startswith("_") and hasattr(one, "__doc__")]
        documented = [inspect.getdoc(one) or "" for one in methods if callable(one) or isinstance(one, property)]
        assert documented
        assert all("run." in text or "sweep." in text or "run(" in text for text in documented)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        runner.trian  # noqa: B018


@pytest.mark.parametrize("error", [errors.Diverged("x"), errors.Damaged("x"), errors.RunFailed("x", 143)])
def test_an_error_of_another_process_is_the_same(error):
    again = errors.of_kind(errors.kind_of(error), str(error), error.exit_code)
    assert (type(again), str(again), again.exit_code) == (type(error), str(error), error.exit_code)
    assert type(errors.of_kind("SystemExit", "x", 1)) is errors.RunFailed


def test_a_refusal_is_raised_and_not_printed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    before = surroundings()
    with pytest.raises(runner.errors.ConfigError, match="Did you mean 'cls'") as refused:
        runner.train("mode=clss")
    assert refused.value.exit_code == 2
    assert capfd.readouterr() == ("", "")
    assert surroundings() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("word", "message"), [("-m", "runner.sweep"), ("--cfg", "no options"), (3, "text")])
def test_what_is_no_override_is_refused(word, message):
    with pytest.raises(errors.ConfigError, match=message):
        runner.train(word)


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(errors.CheckpointError, match="There is no run"):
        runner.open(tmp_path / "nothing")


def test_a_run_says_what_is_in_its_directory(run, finished):
    assert run.directory == finished / "run"
    assert run.config.name == "tested"
    assert run.metrics == json.loads((finished / "run" / "result.json").read_text())["test"]
    assert run.history["train/loss"].loc[1] > 0
    assert run.history.index.name == "step"
    assert run.classes == list("0123456789")
    assert run.classes == run._classifier(None, None).classes


def test_predictions_are_those_of_the_command(run, finished, pictures, here):
    paths = [str(pictures / f"{name}.png") for name in "ac"]
    done = here("predict", "run", *paths, "--json", cwd=finished)
    expected = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one.picture, one.label, round(one.probability, 6)) for one in run.predict(paths)] == [
        (one["image"], one["classes"][0]["class"], one["classes"][0]["probability"]) for one in expected
    ]


def test_pictures_come_in_any_form(run, pictures):
    image = Image.open(pictures / "a.png")
    array = np.array(image)
    [expected] = run.predict(pictures / "a.png")
    forms = [
        image, array, array[..., None], np.stack([array] * 3, axis=-1), array[None, ..., None],
        [str(pictures / "a.png")], (one for one in [array]), (pictures / "a.png").read_bytes(),
    ]  # fmt: skip
    for form in forms:
        [prediction] = run.predict(form)
        assert np.array_equal(prediction.probabilities, expected.probabilities)
    assert run.predict([]) == []


def test_a_prediction_shows_its_probabilities_if_they_are_few(run, pictures):
    good, bad = run.predict([pictures / "a.png", None], on_error="skip")
    few = [round(float(one), 4) for one in good.probabilities]
    assert f"label={good.label!r}, probability={good.probability!r}, probabilities={few})" in repr(good)
    assert "probabilities" not in repr(replace(good, probabilities=np.zeros(11, np.float32)))
    assert repr(bad).startswith('Prediction(picture=1, label=None, probability=0.0, error="A value of type NoneType')


def test_what_cannot_be_read_ends_predicting_or_keeps_its_place(run, pictures):
    with pytest.raises(errors.DataError, match=r"Picture 1: .*b\.png"):
        run.predict(pictures)
    labels = [one.label for one in run.predict(pictures, on_error="skip")]
    assert [label is None for label in labels] == [False, True, False]
    with pytest.raises(errors.DataError, match=r"float64 \[8, 8\]"):
        run.predict(np.zeros((8, 8)))
    good, bad = np.zeros((8, 8), np.uint8), np.zeros((8, 8))
    answers = run.predict([good, bad, None, good], on_error="skip")
    assert [bool(one.error) for one in answers] == [False, True, True, False]
    assert "float64 [8, 8]" in answers[1].error


@pytest.mark.parametrize("duplicate", [lambda run: pickle.loads(pickle.dumps(run)), copy.deepcopy, copy.copy])
def test_a_run_is_copied_and_pickled(run, pictures, duplicate):
    expected = run.predict(pictures / "a.png")
    again = duplicate(run)
    assert again == run
    assert again.predict(pictures / "a.png") == expected


def test_an_export_is_used_by_the_next_prediction(run, monkeypatch):
    used = iter("ab")
    monkeypatch.setattr(api, "classifier_of", lambda *_: next(used))
    monkeypatch.setattr(api, "call", lambda *_: None)
    assert [run._classifier("onnxruntime", None), run._classifier("onnxruntime", None)] == ["a", "a"]
    run.export()
    assert run._classifier("onnxruntime", None) == "b"


def test_a_network_is_that_of_the_predictions(run, pictures):
    import paddle

    network = run.network()
    assert not network.training
    classifier = run._classifier(None, None)
    batch = classifier.prepare(pictures / "a.png")[None]
    with paddle.no_grad():
        logits = network(classifier.normalize(batch, np.arange(1))).numpy()
    [prediction] = run.predict(pictures / "a.png")
    assert logits.argmax() == run.classes.index(prediction.label)
    with pytest.raises(errors.ConfigError, match="'final', 'best' or 'last'"):
        run.network(weights="newest")


def test_using_a_run_leaves_the_caller_as_it_was(run, pictures):
    import paddle

    before, drawn = surroundings(), str(paddle.get_rng_state()[0].__getstate__())
    run.predict(pictures / "a.png")
    run.network()
    assert surroundings() == before
    assert str(paddle.get_rng_state()[0].__getstate__()) == drawn


def test_code_of_a_foreign_run_is_not_called_unless_it_is_trusted(finished, tmp_path):
    copied = shutil.copytree(finished / "run", tmp_path / "copied")
    config = yaml.safe_load((copied / "config.yaml").read_text())
    config["loss"] = {"kind": "custom", "target": "os:getcwd", "kwargs": {}}
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(errors.ConfigError, match="trust=true"):
        runner.open(copied).network()
    assert runner.open(copied, trust=True).network()


class Full(io.TextIOBase):
    """A stream that takes nothing more."""

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-16", "utf-8"])
def test_what_the_callers_stream_has_no_character_for_is_escaped(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    with contextlib.redirect_stdout(stream):
        call._Screen().write("é ━ 数\n".encode())
    shown = stream.buffer.getvalue().decode(encoding)
    assert shown == ("é ━ 数\n" if encoding.startswith("utf") else shown)
    assert "\\u6570" in shown or encoding.startswith("utf")


@pytest.mark.parametrize("stream", [Full, closed, lambda: io.TextIOWrapper(io.BytesIO(), "ascii")])
def test_a_process_whose_output_cannot_be_shown_goes_on(stream):
    code = "import time\nfor _ in range(3):\n    print('━', flush=True); time.sleep(0.1)"
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    with contextlib.redirect_stdout(stream()):
        assert not call._wait(process)
    assert process.returncode == 0


class Tee:
    """What many programs put in the place of standard output; a `kind` claims to be a terminal."""

    def __init__(self, kind):
        self.texts = []
        if "tty" in kind:
            self.isatty = lambda: True
        if "file" in kind:
            self.fileno = io.StringIO().fileno
        if "number" in kind:
            self.fileno = lambda: 0

    def write(self, text):
        self.texts.append(text)


@pytest.mark.parametrize("kind", ["", "tty", "tty file", "file", "number", "tty number"])
def test_an_object_in_the_place_of_standard_output_gets_what_is_printed(monkeypatch, kind):
    monkeypatch.setattr(call.child, "command", lambda *_: [sys.executable, "-c", "print('shown')"])
    monkeypatch.setattr(sys, "stdout", tee := Tee(kind))
    with pytest.raises(errors.ProcessLost, match="exit code 0"):
        call.call("train", [])
    assert "".join(tee.texts) == "shown\n"


def test_a_process_that_leaves_no_answer_is_lost(monkeypatch):
    monkeypatch.setattr(call.child, "command", lambda *_: [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])
    with pytest.raises(errors.ProcessLost, match="SIGKILL"):
        call.call("train", [])


@pytest.mark.slow
def test_a_run_is_trained_from_a_thread_beside_hydra_and_paddle(tmp_path, monkeypatch, capsys):
    import paddle

    monkeypatch.chdir(tmp_path)
    found = []
    register()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        before = surroundings()
        thread = threading.Thread(target=lambda: found.append(runner.train(*OVERRIDES, **VALUES, name="mine")))
        thread.start()
        thread.join()
        assert surroundings() == before
        assert compose("config", ["mode=cls"]).mode.kind == "cls"
    [run] = found
    assert run.config.name == "mine"
    assert run.metrics["top1"] >= 0
    assert "step 2/2" in capsys.readouterr().out
    assert isinstance(run.network(), paddle.nn.Layer)
    folder = run.export(format="safetensors")
    assert (folder / "model.json").is_file()
    page = run.report("page.html")
    assert page == tmp_path / "page.html"
    assert page.is_file()


@pytest.mark.slow
def test_a_run_that_fails_raises_what_its_process_raised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.Diverged) as failed:
        runner.train(*OVERRIDES, **VALUES, optimizer="sgd", **{"optimizer.lr": 1e30, "++train.max_steps": 30})
    assert failed.value.exit_code == 4


@pytest.mark.slow
def test_a_sweep_has_runs_and_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = runner.sweep(*OVERRIDES, **VALUES, **{"optimizer.lr": [0.01, -1]})
    assert list(sweep.table["status"]) == ["FINISHED", "FAILED"]
    assert list(sweep.table["optimizer.lr"]) == [0.01, -1]
    assert sweep.runs[0].metrics["top1"] == sweep.table["top1"].iloc[0]
    assert sweep.report().is_file()


#: A notebook in small: what is interrupted says how it goes on, and the program goes on itself.
INTERRUPTED = f"""
import runner
words = {TINY}
try:
    runner.train(*words, **{{"hydra.run.dir": "run", "++train.max_steps": 100000, "++train.epochs": 100000}})
except KeyboardInterrupt as stop:
    print("interrupted:", stop)
"""


@pytest.fixture
def training(tmp_path):
    """Such a program, whose run has validated once."""
    program = subprocess.Popen(
        [sys.executable, "-u", "-c", INTERRUPTED], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        start_new_session=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert any("val student" in line for line in program.stdout)
    yield program
    program.stdout.close()


@pytest.mark.slow
def test_an_interrupted_run_can_be_resumed(training, tmp_path):
    training.send_signal(signal.SIGINT)
    printed = training.stdout.read()
    assert training.wait() == 0, printed
    assert "interrupted: Stopped by Ctrl-C. Continue with the same command" in printed
    assert (tmp_path / "run" / "checkpoints" / "last").is_file()
    assert runner.open(tmp_path / "run").history.index[-1] > 0


@pytest.mark.slow
def test_a_run_whose_program_is_killed_ends_and_can_be_resumed(training, tmp_path):
    training.kill()
    training.wait()
    patience = time.monotonic() + 60
    while (state := runs.state(tmp_path / "run")).status == "RUNNING" and time.monotonic() < patience:
        time.sleep(0.2)
    assert (state.status, state.exit_code) == ("KILLED", 143)
    assert (tmp_path / "run" / "checkpoints" / "last").is_file()


@pytest.mark.slow
def test_a_typed_program_passes_strict_checks(tmp_path):
    (tmp_path / "program.py").write_text(
        "import runner\n"
        "from pathlib import Path\n\n\n"
        "def main(folder: Path) -> float:\n"
        '    run: runner.Run = runner.train("mode=cls", train={"epochs": 3})\n'
        "    labels: list[str | None] = [one.label for one in run.predict(folder)]\n"
        "    epochs: int = run.config.train.epochs\n"
        '    sweep: runner.Sweep = runner.sweep("mode=cls,cls_distill")\n'
        "    try:\n"
        '        runner.open(folder, trust=True).export(format=["onnx"])\n'
        "    except runner.errors.UserError as error:\n"
        "        print(error.exit_code, labels, epochs, sweep.runs)\n"
        '    return run.metrics["top1"]\n'
    )
    mypy = [sys.executable, "-m", "mypy", "--strict", "program.py"]
    done = subprocess.run(
        mypy, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"MYPYPATH": "", "PYTHONPATH": str(ROOT)}
    )
    own = [line for line in done.stdout.splitlines() if line.startswith("program.py")]
    assert not own, done.stdout
    assert "Cannot find" not in done.stdout
