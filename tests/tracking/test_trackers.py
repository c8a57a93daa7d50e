"""Trackers beside MLflow: what each is sent, once, whatever is resumed, torn, killed or forged."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import textwrap
import time
from pathlib import Path

import pandas
import pytest

from runner.cli import sweep
from runner.cli.train import train_inline
from runner.cli.verbs.sync import sync
from runner.config import store
from runner.errors import ConfigError, ForeignPath
from runner.launch.command import Command
from runner.launch.missing import refuse_unusable_trackers
from runner.runs.journal import CONFIG, JOURNAL, Journal, tracked, tracked_file, tracking_lock
from runner.tracking import custom as custom_tracker
from runner.tracking import tracker
from runner.tracking.__main__ import Followed
from runner.tracking.process import Mirrors

#: Writes what it gets to a file beside the run.
WRITING = """
    import json

    class Tracker:
        def __init__(self, run, fails=0):
            self.run, self.fails = run, fails

        def replay(self, events):
            with (self.run.directory.parent / "seen.jsonl").open("a") as stream:
                stream.writelines(json.dumps(event) + "\\n" for event in events)
            if self.fails:
                self.fails -= 1
                raise ConnectionError("not now")
"""


@pytest.fixture(autouse=True)
def own_user(tmp_path, monkeypatch):
    """A user of this test's, in a working directory of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("my_trackers", None)


@pytest.fixture
def run_of(config_of, tmp_path):
    """Makes a run that has begun and logged three steps."""

    def make(*overrides, name="run"):
        directory = tmp_path / name
        (directory / "ranks").mkdir(parents=True)
        store.write(config_of(*overrides), directory / CONFIG)
        journal = Journal(directory)
        journal.append("started", command=[])
        for step in (1, 2, 3):
            journal.metrics(step, 1, {"train/loss": 1 / step, "train/lr": 0.1})
        return directory

    return make


def built(directory, name, trained=True):
    """The tracker of a run, as the process of a command that trains it, or `sync`, makes it."""
    config = store.read(directory / CONFIG)
    settings = config.tracking.trackers[name]
    (tracker.begin if trained else tracker.agree)(directory, name, settings)
    return tracker.build(directory, config, name, settings, print)


def end(directory, status="FINISHED"):
    Journal(directory).append("ended", status=status, reason="", exit_code=0)


def rows(directory):
    """(step, name) → value of `metrics.csv`, in which none is there twice."""
    found = pandas.read_csv(directory / "metrics.csv")
    assert list(found.columns) == ["step", "epoch", "name", "value"]
    assert not found.duplicated(["step", "name"]).any()
    return {(row.step, row.name_): row.value for row in found.rename(columns={"name": "name_"}).itertuples()}


def scalars(folder):
    """(step, name) → value as TensorBoard itself reads them; none is there twice."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    names = accumulator.Tags()["scalars"]
    points = [((point.step, name), point.value) for name in names for point in accumulator.Scalars(name)]
    assert len(dict(points)) == len(points)
    return dict(points)


READ = {"csv": rows, "tensorboard": lambda directory: scalars(directory / "tensorboard")}
FILES = pytest.mark.parametrize("name", READ)


def expected(last=3, **changed):
    points = {(step, "train/loss"): 1 / step for step in range(1, last + 1)}
    points |= {(step, "train/lr"): 0.1 for step in range(1, last + 1)}
    return points | {(int(step[1:]), "train/loss"): value for step, value in changed.items()}


@FILES
def test_every_point_is_there_once_while_a_run_goes_on(run_of, name):
    directory = run_of(f"tracking={name}")
    sent = built(directory, name)
    assert sent.behind
    assert not sent.replay()
    assert not sent.behind
    assert READ[name](directory) == pytest.approx(expected())
    Journal(directory).metrics(4, 2, {"train/loss": 1 / 4, "train/lr": 0.1})
    end(directory)
    assert sent.replay()
    assert READ[name](directory) == pytest.approx(expected(4))
    assert tracked(directory, name)["ended"]


@FILES
def test_what_is_appended_and_what_is_written_at_once_are_the_same_bytes(run_of, name):
    directory = run_of(f"tracking={name}")
    sent = built(directory, name)
    sent.replay()
    Journal(directory).metrics(4, 2, {"val/student/top1": float("nan")})
    end(directory)
    sent.replay()
    bit_by_bit = sent.path.read_bytes()
    built(directory, name).replay()
    assert sent.path.read_bytes() == bit_by_bit


@FILES
@pytest.mark.parametrize("again", [False, True], ids=["one process", "another process"])
def test_points_that_a_resumed_run_computes_again_replace_the_earlier_ones(run_of, name, again):
    directory = run_of(f"tracking={name}")
    sent = built(directory, name)
    sent.replay()
    end(directory, "KILLED")
    assert sent.replay()
    journal = Journal(directory)
    journal.append("resumed", command=[])
    journal.continue_from(1)
    journal.metrics(2, 1, {"train/loss": 0.7, "train/lr": 0.1})
    journal.metrics(3, 1, {"train/loss": 0.6, "train/lr": 0.1})
    sent = built(directory, name) if again else sent
    assert not sent.replay()
    assert READ[name](directory) == pytest.approx(expected(s2=0.7, s3=0.6))


@FILES
def test_a_torn_line_of_the_journal_is_left_out_and_what_follows_is_not(run_of, name):
    directory = run_of(f"tracking={name}")
    whole = (directory / JOURNAL).read_bytes()
    with (directory / JOURNAL).open("ab") as stream:
        stream.write(b'{"event": "metrics", "step": 4, "val')
    sent = built(directory, name)
    sent.replay()
    assert READ[name](directory) == pytest.approx(expected())
    Journal(directory).metrics(4, 1, {"train/loss": 1 / 4, "train/lr": 0.1})
    sent.replay()
    assert READ[name](directory) == pytest.approx(expected(4))
    # A power cut took the end of what was delivered.
    (directory / JOURNAL).write_bytes(whole)
    Journal(directory).metrics(4, 1, {"train/loss": 0.3, "train/lr": 0.1})
    sent.replay()
    assert READ[name](directory) == pytest.approx(expected(4, s4=0.3))


@FILES
def test_what_a_killed_process_left_half_written_is_replaced(run_of, name):
    directory = run_of(f"tracking={name}")
    sent = built(directory, name)
    sent.replay()
    with sent.path.open("ab") as stream:
        stream.write(b"4,1,train/lo")
    built(directory, name).replay()
    assert READ[name](directory) == pytest.approx(expected())
    sent.path.unlink()
    assert sent.behind
    sync(directory, None, one_of_many=False)
    assert READ[name](directory) == pytest.approx(expected())


@FILES
def test_a_file_of_another_program_and_a_link_are_left_alone(run_of, tmp_path, name):
    directory = run_of(f"tracking={name}")
    sent = built(directory, name)
    sent.path.parent.mkdir(exist_ok=True)
    sent.path.write_text("mine")
    with pytest.raises(ForeignPath, match="not written by this command"):
        sent.replay()
    assert sent.path.read_text() == "mine"
    sent.path.unlink()
    (tmp_path / "outside").write_text("mine")
    sent.path.symlink_to(tmp_path / "outside")
    with pytest.raises(ForeignPath):
        sent.replay()
    assert (tmp_path / "outside").read_text() == "mine"


def test_tensorboard_has_the_config_and_every_key_of_it_as_a_hyperparameter(run_of):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    directory = run_of("tracking=tensorboard", "optimizer=momentum", "optimizer.lr=0.25", "name=called")
    end(directory)
    built(directory, "tensorboard").replay()
    read = EventAccumulator(str(directory / "tensorboard"))
    read.Reload()
    assert b"lr: 0.25" in read.Tensors("config")[0].tensor_proto.string_val[0]
    found = read.PluginTagToContent("hparams")
    about = metadata.parse_session_start_info_plugin_data(found[metadata.SESSION_START_INFO_TAG]).hparams
    assert about["optimizer.lr"].number_value == 0.25
    assert about["optimizer"].string_value == "momentum"
    assert about["name"].string_value == "called"
    assert metadata.parse_session_end_info_plugin_data(found[metadata.SESSION_END_INFO_TAG]).end_time_secs


def test_runs_of_one_name_have_folders_of_their_own_and_so_has_a_copy(run_of, tmp_path):
    words = ("tracking=tensorboard", "tracking.also.tensorboard.folder=board")
    for parent in ("a", "b"):
        built(run_of(*words, name=f"{parent}/run"), "tensorboard").replay()
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    built(tmp_path / "c" / "run", "tensorboard").replay()
    assert len(list((tmp_path / "board").iterdir())) == 3
    assert all(scalars(folder) == pytest.approx(expected()) for folder in (tmp_path / "board").iterdir())
    # A moved one is the same run.
    (tmp_path / "a").rename(tmp_path / "moved")
    built(tmp_path / "moved" / "run", "tensorboard").replay()
    assert len(list((tmp_path / "board").iterdir())) == 3


def test_a_run_leaves_its_folder_of_tensorboard_by_no_name(run_of, tmp_path):
    directory = run_of("tracking=tensorboard", "tracking.also.tensorboard.folder=board/runs")
    tracker.begin(directory, "tensorboard", store.read(directory / CONFIG).tracking.trackers["tensorboard"])
    known = tracked(directory, "tensorboard")
    (directory / tracked_file("tensorboard")).write_text(json.dumps(known | {"key": "/../../x"}))
    sync(directory, None, one_of_many=False)
    assert [path.name for path in (tmp_path / "board").iterdir()] == ["runs"]
    assert not (tmp_path / "x").exists()


def custom(fails=0):
    return [
        "tracking=custom",
        "tracking.also.custom.target=my_trackers:Tracker",
        f"+tracking.also.custom.kwargs.fails={fails}",
    ]


def seen(tmp_path):
    if not (tmp_path / "seen.jsonl").is_file():
        return []
    return [json.loads(line) for line in (tmp_path / "seen.jsonl").read_text().splitlines()]


def write_module(tmp_path, source=WRITING):
    (tmp_path / "my_trackers.py").write_text(textwrap.dedent(source))


def test_a_tracker_of_the_users_gets_every_event_in_order(run_of, tmp_path):
    write_module(tmp_path)
    directory = run_of(*custom())
    sent = built(directory, "custom")
    assert not sent.replay()
    assert [event["event"] for event in seen(tmp_path)] == ["started", "metrics", "metrics", "metrics"]
    end(directory)
    # Another process goes on where the one before came to.
    assert built(directory, "custom").replay()
    assert [event["event"] for event in seen(tmp_path)][4:] == ["ended"]


def test_events_that_a_tracker_of_the_users_failed_to_take_come_again(run_of, tmp_path):
    write_module(tmp_path)
    directory = run_of(*custom(fails=1))
    sent = built(directory, "custom")
    with pytest.raises(ConnectionError):
        sent.replay()
    assert sent.behind
    sent.replay()
    assert seen(tmp_path)[:4] == seen(tmp_path)[4:]


@pytest.mark.parametrize(
    ("source", "message"),
    [("def Tracker(run, fails): return 3", r"int without a method replay"), ("x = 1", "has no 'Tracker'")],
)
def test_what_is_no_tracker_is_named(run_of, tmp_path, source, message):
    write_module(tmp_path, source)
    with pytest.raises(ConfigError, match=message):
        built(run_of(*custom()), "custom").replay()


def test_a_module_that_is_missing_is_named_before_anything_starts(config_of, monkeypatch):
    with pytest.raises(ConfigError, match="my_trackers is not installed: my_trackers:Tracker is looked for"):
        refuse_unusable_trackers(config_of(*custom()))
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install tensorboard"):
        refuse_unusable_trackers(config_of("tracking=[csv,tensorboard]"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class Tracker:\n    def __init__(self, run, fails): pass", r"a class without a method replay"),
        ("def Tracker(run): pass", "called with run, fails, which it does not take: .*'fails'"),
        ("import nothing_of_this_name", "cannot be imported: ModuleNotFoundError"),
        ("raise SystemExit(3)", "cannot be imported: SystemExit"),
        ("x = 1", "has no 'Tracker'"),
    ],
)
def test_what_can_be_no_tracker_is_refused_before_anything_starts(config_of, tmp_path, capfd, source, message):
    write_module(tmp_path, f"print('imported')\n{source}")
    custom_tracker.require.cache_clear()
    with pytest.raises(ConfigError, match=message):
        refuse_unusable_trackers(config_of(*custom()))
    assert capfd.readouterr() == ("", "")


def test_a_place_that_can_never_take_a_run_is_refused_before_anything_starts(config_of):
    Path("file").write_text("not a store")
    Path("folder").mkdir()
    with contextlib.closing(sqlite3.connect("other.db")) as database:
        database.execute("CREATE TABLE songs (name TEXT)")
    for place, message in {
        "file": "file is not a store of MLflow's",
        "other.db": "a database of another program",
        "file/x.db": "file is not a folder",
        "folder": "folder is a folder. Name a file",
    }.items():
        with pytest.raises(ConfigError, match=message):
            refuse_unusable_trackers(config_of("tracking=mlflow", f"tracking.uri=sqlite:///{place}"))
    for place in ("file", "file/below"):
        with pytest.raises(ConfigError, match="file is not a folder"):
            refuse_unusable_trackers(config_of("tracking=tensorboard", f"tracking.also.tensorboard.folder={place}"))


@pytest.mark.parametrize("word", ["custom", "tensorboard"])
@pytest.mark.parametrize("forged", [False, True])
def test_a_run_of_somebody_else_chooses_neither_code_nor_folders(run_of, tmp_path, capsys, word, forged):
    write_module(tmp_path, "raise AssertionError('imported')")
    options = {"custom": custom(), "tensorboard": ["tracking.also.tensorboard.folder=theirs"]}
    words = ["tracking=[csv,tensorboard]"] if word == "tensorboard" else ["tracking=[csv,custom]", *custom()[1:]]
    directory = run_of(*words, *(options[word] if word == "tensorboard" else []))
    if forged:
        said = store.read(directory / CONFIG).tracking.also[word].address
        own = {"said": said, "own": "run:metrics.csv", "uri": said, "key": "k", "home": str(directory)}
        (directory / tracked_file(word)).write_text(json.dumps(own))
    if forged and word == "tensorboard":
        # It is sent into the run directory, if anywhere.
        sync(directory, None, one_of_many=False)
    else:
        with pytest.raises(ConfigError, match=r"sync run --trust"):
            sync(directory, None, one_of_many=False)
    assert not (tmp_path / "theirs").exists()
    assert rows(directory) == pytest.approx(expected())


def test_a_job_of_a_sweep_that_is_resumed_chooses_no_code_either(run_of, tmp_path, capsys):
    write_module(tmp_path, "raise AssertionError('imported')")
    directory = run_of("tracking=[custom,csv]", *custom()[1:])
    command = Command(train_inline)
    sweep._deliver(command, directory)
    command.mirrors.drain()
    assert "--trust" in capsys.readouterr().err
    assert list(command.mirrors.processes) == ["csv"]
    assert rows(directory) == pytest.approx(expected())


def test_who_trusts_a_run_says_so_once(run_of, tmp_path):
    write_module(tmp_path)
    directory = run_of(*custom())
    sync(directory, None, one_of_many=False, trust=True)
    assert len(seen(tmp_path)) == 5
    Journal(directory).append("note", text="more")
    sync(directory, None, one_of_many=False)
    assert seen(tmp_path)[-1]["text"] == "more"
    # The same code with another word may send it elsewhere.
    store.write(store.read(directory / CONFIG, ["tracking.also.custom.kwargs.fails=2"]), directory / CONFIG)
    with pytest.raises(ConfigError, match="--trust"):
        sync(directory, None, one_of_many=False)


def test_one_that_is_down_holds_up_no_other_and_each_goes_on_where_it_was(run_of, tmp_path, capfd):
    write_module(tmp_path, WRITING)
    words = ["tracking=[mlflow,csv,tensorboard,custom]", "tracking.uri=http://127.0.0.1:9", "tracking.drain_s=1"]
    directory = run_of(*words, *custom()[1:])
    mirrors = Mirrors()
    for name, settings in store.read(directory / CONFIG).tracking.trackers.items():
        mirrors.follow(directory, name, settings)
    wait_until(lambda: tracked(directory, "csv").get("offset"))
    killed = mirrors.processes["csv"].process
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    Journal(directory).metrics(4, 1, {"train/loss": 1 / 4, "train/lr": 0.1})
    mirrors.look()
    assert mirrors.processes["csv"].process is not killed
    end(directory)
    mirrors.ended(directory, None)
    mirrors.drain()
    assert all(read(directory) == pytest.approx(expected(4)) for read in READ.values())
    assert [event["event"] for event in seen(tmp_path)] == ["started", *["metrics"] * 4, "ended"]
    errors = capfd.readouterr().err
    assert errors.count("Not everything reached") == 1
    assert "http://127.0.0.1:9" in errors
    assert not tracked(directory).get("ended")
    assert all(tracked(directory, name)["ended"] for name in ("csv", "tensorboard", "custom"))


def test_the_end_of_a_run_whose_journal_cannot_take_it_arrives(run_of):
    directory = run_of("tracking=[csv,tensorboard]")
    for name in READ:
        sent = built(directory, name)
        sent.replay()
        sent.end({"event": "ended", "time": time.time(), "status": "FAILED", "reason": "", "exit_code": 1})
        assert tracked(directory, name)["ended"]
        assert READ[name](directory) == pytest.approx(expected())


def test_waiting_for_an_earlier_process_opens_no_more_and_more_files(run_of):
    from runner.processes import locked
    from runner.tracking.__main__ import Followed

    followed = Followed(run_of("tracking=csv"), "csv")
    with locked(followed.directory / tracking_lock("csv")):
        followed.deliver(orphaned=False)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            followed.deliver(orphaned=False)
        assert len(os.listdir("/proc/self/fd")) == before
    followed.deliver(orphaned=False)
    assert tracked(followed.directory, "csv")["offset"]


def test_a_run_is_sent_to_a_tracker_by_one_process_at_a_time(run_of, capsys):
    from runner.processes import locked

    directory = run_of("tracking=[csv,tensorboard]")
    with locked(directory / tracking_lock("csv")):
        sync(directory, None, one_of_many=False)
    said = capsys.readouterr().out
    assert "run, csv: the run's own mirror is delivering it" in said
    assert "run, tensorboard: delivered" in said


def wait_until(holds, seconds=30):
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds
        time.sleep(0.1)


@pytest.mark.parametrize(("failure", "attempts"), [("TypeError('no')", 2), ("FileNotFoundError(2, 'no')", 2)])
def test_a_failure_that_will_stay_is_not_waited_for_and_says_how_to_go_on(run_of, tmp_path, failure, attempts):
    write_module(
        tmp_path, f"class Tracker:\n    def __init__(self, run, fails): pass\n    def replay(self, _): raise {failure}"
    )
    run = run_of(*custom())
    tracker.begin(run, "custom", store.read(run / CONFIG).tracking.trackers["custom"])
    followed = Followed(run, "custom")
    for _ in range(attempts):
        assert not followed.done
        followed.deliver(orphaned=False)
    assert followed.done
    refused = tracked(run, "custom")["refused"]
    assert "did not take the run" in refused
    assert "python -m runner sync run" in refused
