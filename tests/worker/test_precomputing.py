"""Computing the logits of teachers before training: when it is done, what it takes of a run's time, what ends it."""

from __future__ import annotations

import json
import os
import signal
from types import SimpleNamespace

import pytest

from runner import files, terminal
from runner.checkpoints import reading, state
from runner.errors import ConfigError
from runner.runs import compatible
from runner.runs import result as results
from runner.runs.journal import RESULT, events
from runner.training.loop import fit
from runner.worker import distilling
from runner.worker.stop_signal import Interrupted, StopSignal
from tests.conftest import run_inline
from tests.e2e.processes import run as run_processes
from tests.training.test_loop import Witness

from .students import ONCE, RUN, SET, ready, save, teach

#: What a run does not need behind its training.
SHORT = ["train.plots=false", "deploy.formats=[]"]


@pytest.fixture(scope="module")
def teachers(config_of, tmp_path_factory):
    """Two names → overrides of a student of a teacher, another one for each."""
    folder = tmp_path_factory.mktemp("teachers")
    for seed, name in enumerate(("one", "other")):
        teach(folder / name, config_of(*RUN, *SET, f"train.seed={seed}"))
    return {name: [*SET, "mode=cls_teacher", f"mode.teacher_from={folder / name}"] for name in ("one", "other")}


@pytest.fixture
def built(config_of, teachers):
    """(overrides, a checkpoint) → a student's run as it is when training begins."""
    return lambda *overrides, saved=None: ready(config_of(*RUN, *teachers["one"], ONCE, *overrides), saved)


@pytest.fixture
def slow(monkeypatch):
    """A clock on which a batch of the teacher takes 10 seconds; `batches`: (images done, all images) after each."""
    clock = SimpleNamespace(now=100.0, batches=[])
    monkeypatch.setattr(distilling, "time", SimpleNamespace(monotonic=lambda: clock.now))
    compute = distilling.precomputed.compute

    def slowly(*arguments):
        *others, tell = arguments

        def later(done, count):
            clock.now += 10
            clock.batches.append((done, count))
            tell(done, count)

        return compute(*others, later)

    monkeypatch.setattr(distilling.precomputed, "compute", slowly)
    return clock


def stopped(directory, run, seconds, waited=0):
    """The checkpoint of a run that stopped behind its first step, after some seconds and evaluations in vain."""
    fit(run.training, Witness(stop_after=1))
    assert run.training.progress.step == 1
    run.training.progress.waited = waited
    save(directory, run, seconds)
    return reading.newest(directory)[0]


def test_the_time_that_computing_takes_is_of_the_run(built, slow):
    run = built("train.max_minutes=2")
    # 16 images in batches of 7.
    assert run.training.precomputing_s == 30
    assert run.training.clock.budget == 90
    assert any("for 16 images were computed in 0:30" in note for note in run.notes)


def test_a_run_that_is_left_no_time_is_refused_at_once(built, slow):
    with pytest.raises(ConfigError) as refusal:
        built("train.max_minutes=0.25")
    assert str(refusal.value) == (
        "train.max_minutes=0.25: computing the teachers' logits of 14 of 16 images took 0:20, which leaves no time to "
        "train. Raise it, or use mode.precompute_logits=false."
    )
    assert slow.batches == [(7, 16), (14, 16)]


def test_the_computing_of_all_attempts_counts(built, slow, tmp_path):
    run = built("train.max_minutes=2")
    saved = stopped(tmp_path / "run", run, seconds=35.0)
    again = built("train.max_minutes=2", saved=saved)
    assert again.training.precomputing_s == 60
    assert again.training.clock.budget == 60
    assert again.training.clock.earlier == 35
    save(tmp_path / "run", again, seconds=45.0)
    slow.batches.clear()
    with pytest.raises(ConfigError) as refusal:
        built("train.max_minutes=2", saved=reading.newest(tmp_path / "run")[0])
    # 15 seconds are left. That key stays as it was when the run began.
    assert str(refusal.value).endswith("of 14 of 16 images took 0:20, which leaves no time to train. Raise it.")
    assert slow.batches == [(7, 16), (14, 16)]


def test_checkpoints_of_earlier_versions_say_nothing_of_it(built, slow, tmp_path):
    folder = save(tmp_path / "run", built())
    assert state.read(folder).precomputing_s == 30
    values = json.loads((folder / state.STATE).read_text())
    del values["digest"], values["precomputing_s"]
    files.write_json(folder / state.STATE, values | {"digest": state.digest(values)})
    assert state.read(folder).precomputing_s == 0


@pytest.mark.parametrize(
    ("words", "seconds", "waited"),
    [
        (["train.max_steps=1"], 0, 0),
        (["train.max_minutes=1"], 60, 0),
        (["train.max_minutes=60", "train.max_steps=1"], 0, 0),
        (["train.max_minutes=60", "train.patience=3"], 0, 3),
        (["train.patience=3"], 0, 3),
    ],
    ids=str,
)
def test_a_run_that_is_over_computes_nothing(built, slow, tmp_path, words, seconds, waited):
    saved = stopped(tmp_path / "run", built(*words), seconds, waited)
    slow.batches.clear()
    again = built(*words, saved=saved)
    assert slow.batches == []
    assert again.training.precomputed is None
    assert again.training.precomputing_s == saved.state.precomputing_s > 0
    fit(again.training, Witness())
    assert again.training.progress.step == 1


def test_where_nothing_trains_nothing_is_computed(built, teachers):
    begin = teachers["one"][-1].partition("=")[2]
    run = built("train.epochs=0", f"checkpoint.init_from={begin}")
    assert run.training.precomputed is None
    assert run.training.precomputing_s == 0
    assert not any("were computed" in note for note in run.notes)


def test_progress_is_shown_once_it_takes_long(built, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "PROGRESS_AFTER_S", 0.0)
    monkeypatch.setattr(terminal, "PROGRESS_EVERY_S", 0.0)
    built()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("computing the teachers' logits")]
    assert [line.split(",")[0].partition(": ")[2] for line in lines] == ["7 of 16", "14 of 16", "16 of 16"]


def test_a_signal_ends_it_within_a_batch(built, monkeypatch):
    beats = []

    def beat(_):
        beats.append(None)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(distilling.Heartbeat, "beat", beat)
    with StopSignal() as stop, pytest.raises(Interrupted):
        built()
    assert len(beats) == 1
    assert stop.exit_code == 128 + signal.SIGTERM


def test_a_run_that_goes_on_keeps_to_it(config_of, teachers):
    before, after = (config_of(*RUN, *teachers["one"], f"mode.precompute_logits={one}") for one in ("false", "true"))
    with pytest.raises(ConfigError, match="mode.precompute_logits: the run has False, this command True"):
        compatible.check(before, after, "RUN", [])


def test_a_run_counts_it_in_its_seconds_whether_it_was_interrupted_or_not(teachers, slow, tmp_path):
    words = [*RUN, *SHORT, *teachers["one"], ONCE, "augment.flip=true", "hydra.run.dir=student"]
    seconds = []
    for word in ("checkpoint.resume=never", "checkpoint.resume=auto"):
        slow.now = 0.0
        done = run_inline(*words, word, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        result = results.read(tmp_path / "student" / RESULT, whole=True)
        assert result.progress.step == 6
        seconds.append(result.seconds)
        texts = [event["text"] for event, _ in events(tmp_path / "student", kinds=("note",))]
        assert sum("logits for 16 images were computed in 0:30" in text for text in texts) == 1
        assert sum("while the student sees it augmented" in text for text in texts) == 1
        # As after a kill within the export.
        (tmp_path / "student" / RESULT).unlink()
    saved = reading.newest(tmp_path / "student")[0].state
    assert saved.precomputing_s == 30
    assert len(slow.batches) == 3
    for each in seconds:
        assert each == pytest.approx(30 + saved.seconds, abs=5)
        assert each > 30


@pytest.mark.parametrize("other", ["images", "teacher"])
def test_other_images_and_another_teacher_are_refused_before_anything_is_computed(teachers, slow, tmp_path, other):
    words = [*RUN, *SHORT, ONCE, "hydra.run.dir=student"]
    done = run_inline(*words, *teachers["one"], "train.max_steps=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = reading.newest(tmp_path / "student")[0].folder
    if other == "images":
        kept = state.read(folder)
        before = kept.splits["train"]
        kept.splits["train"] = before[:-1] + ("0" if before[-1] != "0" else "1")
        state.write(folder / state.STATE, kept)
    slow.batches.clear()
    further = [*teachers["other" if other == "teacher" else "one"], "train.max_steps=2", "checkpoint.resume=auto"]
    done = run_inline(*words, *further, cwd=tmp_path)
    assert done.returncode == 3
    assert {"images": "are not those that", "teacher": "is not the teacher that"}[other] in done.stderr
    assert slow.batches == []


def test_several_processes_are_refused_together(teachers, tmp_path):
    words = [*RUN, *SHORT, *teachers["one"], ONCE, "launch.nproc_per_node=2", "hydra.run.dir=student"]
    done = run_processes(*words, "train.max_minutes=0.00001", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("the teachers' logits of 7 of 16 images took 0:00, which leaves no time to train") == 1
