"""Files of runs that are damaged or of somebody else: one message, and the others are listed."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import checkpoint, runs, stored, sweep, weights
from runner.__main__ import command
from runner.config import store
from runner.deploy import manifest
from runner.errors import Damaged, ForeignPath, UserError
from runner.journal import Journal
from runner.report import subject
from runner.verbs.runs import describe
from tests.damage.kinds import DAMAGES

RESULT = {
    "ending": "complete", "final": {"top1": 0.5, "params": 3.0}, "exported": None, "test": {"top1": 0.5},
    "test_images": 2, "monitor": "val/student/top1", "best": 0.5, "epochs": 1, "seconds": 1.0, "device": "cpu",
    "progress": {"step": 2, "epoch": 1, "batch": 0, "best": 0.5, "best_step": 2, "waited": 0, "settled": 2,
                 "unread": {}},
}  # fmt: skip
FILES = {
    "config.yaml": "status", "overrides.yaml": "report", "journal.jsonl": "status", "result.json": "status",
    "mlflow.json": "status", "per_class.json": "report", "mistakes.json": "report",
}  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*RESULT, *RESULT["final"], "step", "worst"]), inner, max_size=4)
    ),
    max_leaves=8,
)


def a_run(folder, config, name="run"):
    """A complete run as far as lists look at it."""
    run = folder / name
    (run / "checkpoints").mkdir(parents=True)
    store.write(config, run / "config.yaml")
    (run / "overrides.yaml").write_text(yaml.safe_dump(["mode=cls"]))
    journal = Journal(run)
    journal.append("started", command=[])
    journal.append("dataset", name="digits", digest="0", source="digits", profile={"test": 2})
    journal.append("checkpoint", name="step-00000002", better=True)
    journal.append("checkpoint", name="quantized", better=False, final=True)
    journal.append("ended", status="FINISHED", reason="", exit_code=0)
    (run / "result.json").write_text(json.dumps(RESULT))
    known = {"key": "k", "uri": "sqlite:///x.db", "run_id": "0" * 32, "experiment_id": "1", "params_sent": True}
    (run / "mlflow.json").write_text(json.dumps(known | {"offset": 0}))
    part = {"top1": [0.5], "confusion": [[2]]}
    (run / "per_class.json").write_text(json.dumps({"classes": ["cat"], "student": part}))
    (run / "mistakes.json").write_text(json.dumps({"images": 2, "wrong": 0, "worst": []}))
    for pointer, target in (("last", "step-00000002"), ("best", "step-00000002"), ("final", "quantized")):
        (run / "checkpoints" / pointer).write_text(target)
    return run


@pytest.fixture(scope="session")
def config(config_of):
    return config_of("mode=cls")


@pytest.fixture
def run(tmp_path, config):
    (tmp_path / "secret").write_text("secret")
    return a_run(tmp_path, config)


def test_a_whole_run_is_listed_as_it_is(run):
    assert describe(run)["status"] == "FINISHED"
    read = subject.read(run, "1", "run")
    assert read.state.status == "FINISHED"
    assert read.per_class["classes"] == ["cat"]


@pytest.mark.parametrize("damage", ["list", "number", "nested deep", "folder", "pipe", "link outside", "NULs", "empty"])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_run_is_listed_with_the_file_and_hides_no_other(run, config, capsys, file, damage):
    if (file, damage) == ("overrides.yaml", "list") or (file, damage) == ("overrides.yaml", "empty"):
        pytest.skip("an empty list of overrides is one")
    a_run(run.parent, config, "other")
    DAMAGES[damage](run / file)
    assert command(["runs", str(run.parent), "--json"]) == 0
    rows = {os.path.basename(row["run"]): row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["other"]["status"] == "FINISHED"
    read = subject.read(run, "1", "run")
    if FILES[file] == "status":
        assert rows["run"]["status"] == "DAMAGED"
        assert file in rows["run"]["reason"]
    assert read.state.status == "DAMAGED"
    assert file in read.state.reason


@settings(max_examples=40, deadline=None)
@given(file=st.sampled_from([*FILES]), content=anything)
def test_whatever_a_file_holds_lists_go_on(file, content, tmp_path_factory, config):
    run = a_run(tmp_path_factory.mktemp("any"), config)
    (run / file).write_text(json.dumps(content))
    assert describe(run)["run"]
    read = subject.read(run, "1", "run")
    assert read.curves is not None
    assert read.profile is not None


@given(part=st.sampled_from([*RESULT]), content=anything)
def test_a_result_is_as_later_code_needs_it_or_refused(part, content, tmp_path_factory):
    path = tmp_path_factory.mktemp("result") / "result.json"
    path.write_text(json.dumps(RESULT | {part: content}))
    try:
        found = stored.result(path, whole=True)
    except Damaged:
        pass
    else:
        assert isinstance(runs.monitored(found), float)
        assert f"{found['final']['params'] / 1e6 + found['seconds']:.2f}"
        assert found["progress"]["best_step"] < 2**63


def test_a_number_that_nobody_can_compute_with_is_refused(tmp_path):
    path = tmp_path / "value.json"
    for text in ("1" + "0" * 30, "true", '"1"', '"\\ud800"'):
        path.write_text(text)
        with pytest.raises(Damaged, match=r"value\.json is damaged"):
            stored.read_json(path, float)
    path.write_text("NaN")
    assert stored.read_json(path, float) != 0


def test_the_torn_end_of_a_journal_is_passed_over(run):
    with (run / "journal.jsonl").open("ab") as stream:
        stream.write(b'{"event": "metr\n\0\0\0\n{"event": "ended"}\n')
    Journal(run).metrics(2, 1, {"final/top1": 0.5})
    assert runs.state(run).status == "FINISHED"
    assert runs.state(run).step == 2


@pytest.mark.parametrize(("pointer", "next_one"), [("final", "best"), ("best", "last"), ("last", None)])
@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_a_pointer_that_a_complete_run_lost_is_no_reason_to_take_another_network(run, pointer, next_one, damage):
    DAMAGES[damage](run / "checkpoints" / pointer)
    with pytest.raises(Damaged, match=f"checkpoints/{pointer}") as caught:
        weights.read(run, pointer)
    if next_one and damage == "missing":
        assert f"--weights {next_one}" in str(caught.value)


def test_a_pointer_to_another_checkpoint_than_the_run_wrote_is_refused(run):
    (run / "checkpoints" / "final").write_text("step-00000002")
    with pytest.raises(Damaged, match="quantized"):
        weights.read(run, "final")


@pytest.mark.parametrize("name", ["../../secret", "/etc", "step-1/../..", "quantized\0", ""])
def test_a_pointer_names_a_checkpoint_and_nothing_else(run, name):
    (run / "checkpoints" / "best").write_text(name)
    with pytest.raises(Damaged, match="names no checkpoint"):
        checkpoint.pointed(run / "checkpoints", "best")


def test_a_state_names_the_files_of_a_checkpoint_and_no_others(run):
    folder = run / "checkpoints" / "step-00000002"
    folder.mkdir()
    state = {
        "format": checkpoint.FORMAT, "networks": ["student"], "classes": ["cat"], "steps": 2, "seconds": 1.0,
        "data": "0", "progress": RESULT["progress"], "schedules": [2], "scaler": {}, "random": {},
        "digests": {"model.safetensors": "0", "../../../secret": "0"},
    }  # fmt: skip
    (folder / "state.json").write_text(json.dumps(state | {"digest": checkpoint._digest(state)}))
    with pytest.raises(Damaged, match="names files that no checkpoint has"):
        checkpoint.verify(folder)


@pytest.mark.parametrize("path", ["../../secret", "/etc/passwd", "model.safetensors2", "paddle/../../secret"])
def test_an_export_names_the_files_of_an_export_and_no_others(tmp_path, path):
    described = manifest.Manifest("student", "m", ["cat"], 32, [0.5] * 3, [0.5] * 3, "none", 1, 1)
    described.files = [manifest.ExportedFile(path, "onnx", "float32", 1, "onnxruntime")]
    manifest.write(tmp_path, described)
    with pytest.raises(Damaged, match="no export has a file"):
        manifest.read(tmp_path)


@pytest.mark.parametrize("place", ["train.log", "ranks/lock", "checkpoints/best", "export/model.onnx", "plots/a.png"])
def test_a_link_in_a_run_is_followed_by_no_verb(run, place):
    path = run / place
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(run.parent / "secret")
    for read in (lambda: runs.open_(str(run), []), lambda: weights.read(run, "best")):
        with pytest.raises((ForeignPath, Damaged), match="link"):
            read()
    assert subject.read(run, "1", "run").state.status == "DAMAGED"
    assert (run.parent / "secret").read_text() == "secret"


@pytest.mark.parametrize("content", ["{}", "[]", '{"id": 1, "overrides": [], "shared": []}', "", "null"])
def test_a_damaged_sweep_is_named(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(Damaged, match=r"sweep\.json"):
        sweep.read(tmp_path)
    assert sweep.is_orphaned(tmp_path) is False


def test_damaged_lines_hide_no_refusal_of_a_sweep(tmp_path):
    said = {"job": "1_a", "reason": "why", "exit_code": 2}
    (tmp_path / ".refused.jsonl").write_text(f"null\n{json.dumps(said)}\n[1]\n{{\n")
    assert sweep.refusals(tmp_path) == {"1_a": said}


@pytest.mark.parametrize(
    "leaf", ["data.batch_size: abc", "data.batch_size: null", "optimizer: 3", "train.epochs: [1]", "data: null"]
)
def test_a_config_with_a_value_of_another_kind_is_refused(run, leaf):
    keys, _, value = leaf.partition(": ")
    plain = yaml.safe_load((run / "config.yaml").read_text())
    place = plain
    *parents, last = keys.split(".")
    for key in parents:
        place = place[key]
    place[last] = yaml.safe_load(value)
    (run / "config.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(UserError, match=keys):
        store.read(run / "config.yaml")


def test_loops_and_odd_folders_do_not_stop_the_search_for_runs(run):
    (run.parent / "loop").symlink_to(run.parent)
    (run.parent / "odd" / "journal.jsonl").mkdir(parents=True)
    assert run in list(runs.find(run.parent))


def test_a_run_without_its_journal_is_listed(run):
    (run / "journal.jsonl").unlink()
    (run / "ranks").mkdir()
    (run.parent / "artifacts").mkdir()
    (run.parent / "artifacts" / "config.yaml").write_text((run / "config.yaml").read_text())
    assert list(runs.find(run.parent)) == [run]
    assert "journal.jsonl" in describe(run)["reason"]


@pytest.mark.skipif(os.getuid() != 0, reason="gives its rights up")
def test_what_must_not_be_read_is_not_said_to_be_unwritable():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "result.json"
        path.touch(mode=0)
        child = os.fork()
        if not child:
            os.setuid(65534)
            try:
                stored.result(path)
            except Damaged as error:
                os._exit("cannot be read" not in str(error))
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
