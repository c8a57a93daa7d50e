"""Measuring exported files, and what `bench` shows and records of it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from runner.cli.verbs import bench as verb
from runner.config import Mlflow, Tracking, store
from runner.deploy import bench, manifest
from runner.errors import CheckpointError
from runner.runs.journal import Journal, events, tracked
from runner.tracking import stores
from runner.tracking.mlflow import Mirror
from tests.conftest import composed
from tests.e2e.processes import mlflow_runs

from . import helpers


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run with an export, not tracked."""
    monkeypatch.chdir(tmp_path)
    without_openvino(monkeypatch)
    return write_run(tmp_path / "run", Tracking())


def without_openvino(monkeypatch):
    monkeypatch.setattr(bench.engines, "is_installed", lambda engine: engine != "openvino")


def write_run(directory, tracking):
    helpers.export(directory / "export")
    (directory / "ranks").mkdir()
    store.write(replace(composed(), tracking=tracking), directory / "config.yaml")
    (directory / "overrides.yaml").write_text("[]")
    journal = Journal(directory)
    journal.append("started", command=[])
    journal.metrics(7, 2, {"train/loss": 0.5})
    journal.append("ended", status="FINISHED", reason="", exit_code=0)
    return directory


#: Seconds of a call of either engine; their sums are exact, so that turns end with the call they should end with.
FAST, SLOW = 1 / 1024, 4 / 1024


class Fake:
    """An engine of known speed that notes when it is called. On a clock of its own: a busy machine slows it no more."""

    threads = 1

    def __init__(self, name, seconds, calls, sleep):
        self.name, self.seconds, self.calls, self.sleep = name, seconds, calls, sleep

    def __call__(self, images):
        self.calls.append((self.name, images.shape))
        self.sleep(self.seconds)
        return np.zeros((len(images), 4), dtype=np.float32)


def fakes(monkeypatch, sleep):
    """The calls of a fast engine for ONNX and a slow one for Paddle."""
    made = []

    def open_(folder, described, file, threads):
        return Fake(file.engine, FAST if file.engine == "onnxruntime" else SLOW, made, sleep)

    monkeypatch.setattr(bench.engines, "open_", open_)
    return made


@pytest.fixture
def calls(monkeypatch):
    """The calls of such engines, where no time goes by but theirs."""
    spent = [0.0]
    without_openvino(monkeypatch)
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: sum(spent)))
    return fakes(monkeypatch, spent.append)


def test_latency_and_throughput_are_those_of_the_engine(run, calls):
    timings = bench.measure(bench.entries("run", run / "export"), [2], seconds=160 / 1024)
    for timing, seconds, count in zip(timings, (FAST, SLOW), (160, 40), strict=True):
        assert timing.p50_ms == timing.p90_ms == timing.p99_ms == 1000 * seconds
        assert timing.images_per_s == 2 / seconds
        assert timing.calls == count


def test_a_call_is_as_long_as_it_really_takes(run, monkeypatch):
    fakes(monkeypatch, time.sleep)
    fast, slow = bench.measure(bench.entries("run", run / "export"), [1], seconds=0.05)
    assert fast.p50_ms >= 1000 * FAST
    assert slow.p50_ms >= 1000 * SLOW
    assert slow.images_per_s <= 1 / SLOW


def test_percentiles_are_of_all_calls():
    entry = bench.Entry("run", None, None, None)
    measured = bench.Measurement(Fake("engine", 0, [], None), np.zeros((4, 1)), [k / 1000 for k in range(101)])
    timing = measured.timing(entry)
    assert (timing.p50_ms, timing.p90_ms, timing.p99_ms) == pytest.approx((50, 90, 99))
    assert timing.images_per_s == pytest.approx(101 * 4 / 5.05)


def test_all_files_and_batch_sizes_are_measured_in_turns(run, calls):
    bench.measure(bench.entries("run", run / "export"), [1, 3], seconds=160 / 1024)
    kinds = [call for call, before in zip(calls, [None, *calls], strict=False) if call != before]
    around = [(name, (size, 3, 16, 16)) for name in ("onnxruntime", "paddle") for size in (1, 3)]
    assert kinds == (1 + bench.TURNS) * around


@helpers.needs_openvino
def test_an_onnx_file_is_measured_in_every_engine_that_is_installed(tmp_path):
    timings = bench.measure(bench.entries("run", helpers.export(tmp_path / "export")), [1, 4], seconds=0.02)
    assert [(timing.entry.file.path, timing.engine.split()[0]) for timing in timings[::2]] == [
        ("model.onnx", "onnxruntime"), ("paddle/model.json", "Paddle"), ("model.onnx", "OpenVINO"),
    ]  # fmt: skip
    assert [timing.recommended for timing in timings[::2]] == [True, False, False]


def test_speed_is_relative_to_the_first_runs_float_file_in_the_same_engine():
    def timing(run, engine, precision, batch, p50):
        file = manifest.ExportedFile("net", engine, precision, 1, engine)
        return bench.Timing(
            bench.Entry(run, None, None, file), batch, engine, 1, 1, p50, p50, p50, 1000 * batch / p50, p50
        )

    timings = [
        timing("a", "onnx", "int8", 1, 2.0), timing("a", "onnx", "float32", 1, 4.0),
        timing("a", "onnx", "float32", 8, 9.0), timing("b", "onnx", "float32", 1, 8.0),
        timing("b", "onnx", "float32", 8, 3.0), timing("b", "paddle", "float32", 1, 1.0),
    ]  # fmt: skip
    assert bench.speedups(timings) == [2.0, 1.0, 1.0, 0.5, 3.0, None]


def timed(precision, *milliseconds):
    file = manifest.ExportedFile("net", "onnx", precision, 1, "onnxruntime")
    entry = bench.Entry("run", None, SimpleNamespace(params=1, macs=1, is_recommended=lambda _: False), file)
    return bench.Measurement(
        Fake("onnxruntime", 0, [], None), np.zeros((1, 1)), [k / 1000 for k in milliseconds]
    ).timing(entry)


def test_on_a_busy_machine_speeds_are_of_undisturbed_calls_and_that_is_noted(capsys):
    quiet = [timed("float32", *[4.0] * 20), timed("int8", *[2.0] * 20)]
    verb.show(quiet)
    assert "note:" not in capsys.readouterr().out
    # Most calls of the one and half of the other's were disturbed.
    busy = [timed("float32", *[4.0] * 4, *[30.0] * 16), timed("int8", *[2.0] * 11, *[32.0] * 9)]
    assert bench.speedups(quiet) == bench.speedups(busy) == [1.0, 2.0]
    assert [timing.is_disturbed for timing in busy] == [False, True]
    verb.show(busy)
    shown = capsys.readouterr().out
    assert "note: the machine was busy while run int8 was measured" in shown.replace("run net", "run int8")
    assert "speed compares the fastest tenth of the calls" in shown


def test_json_has_a_line_for_every_file_and_batch_size(run, capsys):
    assert verb.main(["run", "--batch", "1,4", "--seconds", "0.02", "--threads", "2", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [(row["path"], row["batch"], row["recommended"], row["threads"]) for row in rows]
    assert kinds == [
        ("model.onnx", 1, True, 2),
        ("model.onnx", 4, True, 2),
        ("paddle/model.json", 1, False, 2),
        ("paddle/model.json", 4, False, 2),
    ]
    assert all(0 < row["latency_ms_p50"] <= row["latency_ms_p90"] <= row["latency_ms_p99"] for row in rows)
    assert {row["params"] for row in rows} == {388}


def test_the_table_names_files_engines_and_threads(run, capsys):
    assert verb.main(["run", "--batch", "1", "--seconds", "0.02"]) == 0
    shown = capsys.readouterr().out
    for text in (
        "model.onnx",
        "paddle/model.json",
        "1.0000",
        "1.00 ×",
        "onnx: onnxruntime",
        "paddle: Paddle Inference",
        ", 1 thread\n",
    ):
        assert text in shown


def test_the_journal_gets_the_recommended_files_latency(run, capsys):
    assert verb.main(["run", "--batch", "4,1", "--seconds", "0.02", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [row] = [row for row in rows if row["recommended"] and row["batch"] == 1]
    *_, (event, _) = events(run)
    assert (event["step"], event["epoch"]) == (7, 2)
    assert event["values"] == {
        "final/latency_ms_p50": row["latency_ms_p50"], "final/latency_ms_p99": row["latency_ms_p99"],
        "final/images_per_s": row["images_per_s"], "final/size_mb": row["bytes"] / 1e6,
    }  # fmt: skip


def test_without_batch_size_one_nothing_is_recorded(run, calls):
    before = (run / "journal.jsonl").read_bytes()
    assert verb.main(["run", "--batch", "2", "--seconds", "0.01"]) == 0
    assert (run / "journal.jsonl").read_bytes() == before


def test_numbers_of_other_threads_than_the_runs_are_only_printed(run, calls, capsys):
    before = (run / "journal.jsonl").read_bytes()
    assert verb.main(["run", "--threads", "2", "--seconds", "0.01"]) == 0
    assert (run / "journal.jsonl").read_bytes() == before
    assert "run: only printed, since its results are of 1 thread (deploy.threads)" in capsys.readouterr().err


def test_a_finished_runs_latency_reaches_mlflow(tmp_path, calls):
    tracking = Mlflow(uri=f"sqlite:///{tmp_path}/mlflow.db")
    directory = write_run(tmp_path / "run", tracking)
    assert Mirror(directory, replace(composed(), tracking=tracking), tracking, print).replay()
    # As the command did that trained the run.
    stores.remember(tracking.uri)
    assert verb.main([str(directory), "--seconds", "0.01"]) == 0
    _, [found] = mlflow_runs(tracking.uri)
    assert found.info.run_id == tracked(directory)["run_id"]
    assert found.info.status == "FINISHED"
    assert found.data.metrics["final/latency_ms_p50"] == 1000 * FAST


def test_a_server_that_is_away_does_not_fail_the_measurement(tmp_path, calls, capsys):
    directory = write_run(tmp_path / "run", Mlflow(uri="http://127.0.0.1:9"))
    assert verb.main([str(directory), "--seconds", "0.01", "--json"]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 6
    assert "python -m runner sync" in said.err


def test_a_run_without_an_export_is_named_with_its_remedy(run):
    (run / "export" / "model.json").unlink()
    with pytest.raises(CheckpointError, match="run has neither an exported network nor a checkpoint"):
        verb.main(["run"])
    (run / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="run has no exported network.*python -m runner export run") as error:
        verb.main(["run"])
    assert error.value.exit_code == 3


@pytest.mark.parametrize("wrong", [["--batch", "0"], ["--batch", "1,x"], ["--threads", "0"]])
def test_sizes_that_make_no_sense_are_refused(run, wrong, capsys):
    with pytest.raises(SystemExit) as error:
        verb.main(["run", *wrong])
    assert error.value.code == 2
    assert wrong[0] in capsys.readouterr().err
