"""Objects of the user's in a run: when they are called, with what, and that training goes as without them."""

from __future__ import annotations

import json
import textwrap
from types import SimpleNamespace

import pytest

from runner import config as cfg
from runner.errors import CallbackFailed, ConfigError
from runner.worker.callbacks import Callbacks
from tests.conftest import TINY, run_command
from tests.e2e.test_resume import assert_equal

#: Notes what it is told, and does what a careless one might.
CALLBACKS = """
    import json, os, random

    import numpy as np
    import paddle

    class Notes:
        def __init__(self, path="notes.jsonl"):
            self.path = path
            paddle.seed(7)

        def note(self, moment, **values):
            random.seed(1), np.random.rand(3), paddle.seed(1), paddle.rand([3])
            with open(self.path, "a") as stream:
                stream.write(json.dumps({"moment": moment, "pid": os.getpid(), **values}) + "\\n")

        def on_begin(self, run):
            self.note("begin", directory=str(run.directory), lr=run.config["optimizer.lr"], step=run.step, of=run.steps)
            run.config.clear()
            self.directory = run.directory

        def on_step(self, step, epoch, metrics):
            self.note("step", step=step, epoch=epoch, loss=metrics["train/loss"])
            metrics.clear()

        def on_evaluation(self, step, epoch, metrics, better):
            self.note("evaluation", step=step, epoch=epoch, top1=metrics["student/top1"], better=better)
            metrics["student/top1"] = 2

        def on_checkpoint(self, step, epoch, better):
            saved = os.path.exists(f"{self.directory}/checkpoints/step-{step:08}/state.json")
            self.note("checkpoint", step=step, epoch=epoch, better=better, saved=saved)

        def on_end(self, result):
            self.note("end", top1=result["final"]["top1"])
            result.clear()

    class Fails:
        def __init__(self, at):
            setattr(self, at, self.fail)

        def fail(self, *_):
            raise ValueError("what it says")

    def leaves(*_):
        class Leaves:
            def on_step(self, step, epoch, metrics):
                raise SystemExit(0)
        return Leaves()

    class Never:
        def on_stepp(self):
            pass
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with the module `my_callbacks`."""
    (tmp_path / "my_callbacks.py").write_text(textwrap.dedent(CALLBACKS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(folder, name, *overrides):
    words = [*TINY, "tracking=none", "train.log_every=1", "optimizer.lr=0.002", f"hydra.run.dir={name}"]
    return run_command(*words, *overrides, cwd=folder)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_first_process_calls_and_training_goes_as_without(folder, processes):
    count = f"launch.nproc_per_node={processes}"
    told = "train.callbacks=[{target:my_callbacks:Notes},{target:my_callbacks:Notes,kwargs:{path:others.jsonl}}]"
    for name, words in {"run": [told], "alone": []}.items():
        done = train(folder, name, count, *words)
        assert done.returncode == 0, done.stderr
    assert_equal(folder / "run", folder / "alone")
    notes = [json.loads(line) for line in (folder / "notes.jsonl").read_text().splitlines()]
    result = json.loads((folder / "run" / "result.json").read_text())
    assert len({note.pop("pid") for note in notes}) == 1
    begin, *steps, evaluation, saved, end = notes
    assert begin == {"moment": "begin", "directory": str(folder / "run"), "lr": 0.002, "step": 0, "of": 2}
    assert [(note["moment"], note["step"], note["epoch"]) for note in steps] == [("step", 1, 1), ("step", 2, 1)]
    assert evaluation == {"moment": "evaluation", "step": 2, "epoch": 1, "top1": result["best"], "better": True}
    assert saved == {"moment": "checkpoint", "step": 2, "epoch": 1, "better": True, "saved": True}
    assert end == {"moment": "end", "top1": result["final"]["top1"]}
    # The second one got what the first one has changed.
    others = [json.loads(line) for line in (folder / "others.jsonl").read_text().splitlines()]
    assert [{**note, "pid": 0} for note in others] == [{**note, "pid": 0} for note in notes]


def test_a_note_is_handed_on_after_the_observer_has_it(folder, monkeypatch):
    heard = []
    observer = SimpleNamespace(stepped=None, stopping=None, noted=lambda text: heard.append(("observer", text)))
    (folder / "noting.py").write_text("class Hears:\n    def on_note(self, text): self.heard.append(('own', text))\n")
    monkeypatch.syspath_prepend(folder)
    callbacks = Callbacks([cfg.Callback("noting:Hears")], folder)
    callbacks._objects[0][1].heard = heard
    callbacks.around(observer).noted("pruned")
    assert heard == [("observer", "pruned"), ("own", "pruned")]


@pytest.mark.parametrize("target", ["Fails,kwargs:{at:on_step}", "leaves"])
def test_one_that_raises_an_error_fails_the_run_with_one_message(folder, target):
    done = train(folder, "run", f"train.callbacks=[{{target:my_callbacks:{target}}}]")
    assert done.returncode == 1
    message = "train.callbacks: my_callbacks:"
    assert done.stderr.count(message) == 1
    assert "failed in on_step" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "Traceback" in (folder / "run" / "train.log").read_text()


@pytest.mark.parametrize(
    ("target", "kwargs", "error", "message"),
    [
        ("Never", {}, ConfigError, "none of the methods on_begin, on_step"),
        ("Missing", {}, ConfigError, "has no 'Missing'"),
        ("Fails", {}, CallbackFailed, "my_callbacks:Fails failed in its constructor: TypeError"),
    ],
)
def test_what_is_no_callback_is_named(folder, target, kwargs, error, message):
    with pytest.raises(error, match=message):
        Callbacks([cfg.Callback(f"my_callbacks:{target}", kwargs)], folder)


def test_nothing_stands_between_the_loop_and_its_observer_where_there_is_none(folder):
    observer = object()
    assert Callbacks([], folder).around(observer) is observer
