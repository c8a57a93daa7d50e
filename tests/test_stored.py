"""Files of runs that are damaged or of somebody else: one message, and the others are listed."""

from __future__ import annotations

import json
import math
import os

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import files, runs, stored
from runner.__main__ import command
from runner.checkpoints import reading, weights
from runner.checkpoints import state as state_file
from runner.cli.verbs import sync, ui  # noqa: F401  A child without rights finds no module any more.
from runner.cli.verbs.runs import describe
from runner.config import store
from runner.deploy import manifest
from runner.errors import ConfigError, Damaged, UserError
from runner.report import subject
from runner.runs import result as results
from runner.runs import sweep
from runner.runs.journal import Journal, events
from runner.tracking import urls
from tests.damage.kinds import DAMAGES
from tests.damage.written import RESULT, a_run

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
        found = results.read(path, whole=True)
    except Damaged:
        pass
    else:
        assert isinstance(found.monitored, float)
        assert f"{found.final['params'] / 1e6 + found.seconds:.2f}"
        assert found.final_progress.best_step < 2**63


def test_a_number_that_nobody_can_compute_with_is_refused(tmp_path):
    path = tmp_path / "value.json"
    for text in ("1" + "0" * 30, "true", '"1"', '"\\ud800"'):
        path.write_text(text)
        with pytest.raises(Damaged, match=r"value\.json is damaged"):
            stored.read_json(path, float)
    path.write_text("NaN")
    assert stored.read_json(path, float) != 0


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_a_text_in_it_and_a_number_again(tmp_path, number):
    directory, final = tmp_path, {"top1": 0.5, "mine": number}
    result = results.Result(final=final, test={}, monitor="val/student/mine", best=number, seconds=1.0)
    results.write(directory / "result.json", result)
    strict = json.loads((directory / "result.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert strict["final"] == {"top1": 0.5, "mine": str(files.spelt(number))}
    back = results.read(directory / "result.json")
    assert [repr(back.final["mine"]), repr(back.best)] == [repr(number)] * 2
    Journal(directory).metrics(1, 0, {"train/loss": number})
    json.loads((directory / "journal.jsonl").read_text(), parse_constant=lambda word: pytest.fail(word))
    [(event, _)] = events(directory)
    assert repr(event["values"]["train/loss"]) == repr(number)


def test_a_text_is_no_number_where_a_text_should_be(tmp_path):
    files.write_json(tmp_path / "classes.json", {"classes": ["NaN", "Infinity"]})
    assert stored.read_json(tmp_path / "classes.json", dict[str, list[str]]) == {"classes": ["NaN", "Infinity"]}


def test_a_bare_word_of_an_earlier_version_is_read(tmp_path):
    (tmp_path / "value.json").write_text('{"a": NaN, "b": -Infinity}')
    assert repr(stored.read_json(tmp_path / "value.json", dict[str, float])) == "{'a': nan, 'b': -inf}"


def test_a_text_may_have_bytes_of_a_name_that_are_not_text_but_no_other_half_character(tmp_path):
    path = tmp_path / "value.json"
    for name in (b"caf\xe9", b"\x80", b"\xff"):
        path.write_text(files.to_json(os.fsdecode(name)))
        assert os.fsencode(str(stored.read_json(path, str))) == name
    for text in ('"\\ud800"', '"\\udc7f"', '"\\udd00"', '"\\udfff"'):
        path.write_text(text)
        with pytest.raises(Damaged, match=r"value\.json is damaged"):
            stored.read_json(path, str)


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


def test_a_quantized_run_that_lost_its_journal_too_is_not_taken_for_the_float_network(tmp_path, config_of):
    run = a_run(tmp_path, config_of("compression=ptq"))
    (run / "checkpoints" / "final").unlink()
    (run / "journal.jsonl").unlink()
    with pytest.raises(Damaged, match="checkpoints/final is missing"):
        weights.read(run, "final")


def test_a_pointer_to_another_checkpoint_than_the_run_wrote_is_refused(run):
    (run / "checkpoints" / "final").write_text("step-00000002")
    with pytest.raises(Damaged, match="quantized"):
        weights.read(run, "final")


@pytest.mark.parametrize("name", ["../../secret", "/etc", "step-1/../..", "quantized\0", ""])
def test_a_pointer_names_a_checkpoint_and_nothing_else(run, name):
    (run / "checkpoints" / "best").write_text(name)
    with pytest.raises(Damaged, match="does not name a checkpoint"):
        reading.pointed(run / "checkpoints", "best")


def test_a_state_names_the_files_of_a_checkpoint_and_no_others(run):
    folder = run / "checkpoints" / "step-00000002"
    folder.mkdir()
    state = {
        "format": state_file.FORMAT, "networks": ["student"], "classes": ["cat"], "steps": 2, "seconds": 1.0,
        "data": "0", "progress": RESULT["progress"], "schedules": [2], "scaler": {}, "random": {},
        "digests": {"model.safetensors": "0", "../../../secret": "0"},
    }  # fmt: skip
    (folder / "state.json").write_text(json.dumps(state | {"digest": state_file.digest(state)}))
    with pytest.raises(Damaged, match="names files that no checkpoint has"):
        reading.verify(folder)


@pytest.mark.parametrize("path", ["../../secret", "/etc/passwd", "model.safetensors2", "paddle/../../secret"])
def test_an_export_names_the_files_of_an_export_and_no_others(tmp_path, path):
    described = manifest.Manifest("student", "m", ["cat"], [32, 32], [0.5] * 3, [0.5] * 3, "none", 1, 1)
    described.files = [manifest.ExportedFile(path, "onnx", "float32", 1, "onnxruntime")]
    manifest.write(tmp_path, described)
    with pytest.raises(Damaged, match="no export has a file"):
        manifest.read(tmp_path)


@pytest.mark.parametrize("content", ["{}", "[]", '{"id": 1, "overrides": [], "shared": []}', "", "null"])
def test_a_damaged_sweep_is_named(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(Damaged, match=r"sweep\.json"):
        sweep.read(tmp_path)
    assert sweep.is_orphaned(tmp_path) is False


def test_damaged_lines_hide_no_refusal_of_a_sweep(tmp_path):
    said = {"job": "1_a", "reason": "why", "exit_code": 2}
    (tmp_path / ".refused.jsonl").write_text(f"null\n{json.dumps(said)}\n[1]\n{{\n")
    assert sweep.refusals(tmp_path) == {"1_a": sweep.Refusal(**said)}


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


@pytest.mark.parametrize("part", ["all", "model", "data", "model.kind", "mode", "optimizer.kind"])
def test_a_config_that_lost_a_part_which_nothing_stands_for_is_refused(run, part):
    place = plain = yaml.safe_load((run / "config.yaml").read_text())
    *parents, last = part.split(".")
    for key in parents:
        place = place[key]
    plain = {} if part == "all" else plain
    place.pop(last, None)
    (run / "config.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(UserError, match=r"kind has no value|does not fit"):
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


@pytest.mark.parametrize("text", ["a: &a [1]\nb: *a\n", "a: &a {b: *a}\n"])
def test_a_config_with_aliases_which_stand_for_more_than_fits_into_memory_is_refused(tmp_path, text):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(Damaged, match="alias"):
        store.read(tmp_path / "config.yaml")


def test_a_report_has_a_run_without_its_config_and_the_others(run, config, monkeypatch):
    monkeypatch.chdir(run.parent)
    a_run(run.parent, config, "other")
    (run / "config.yaml").unlink()
    assert command(["report", "run", "other", "--output", "page.html"]) == 0
    page = (run.parent / "page.md").read_text()
    assert "DAMAGED" in page
    assert "config.yaml is missing" in page
    assert "| 0.5000 |" in page


def test_a_job_that_could_not_be_started_is_not_damaged(tmp_path):
    sweep.note_refusal(tmp_path / "0_a", ["mode=cls"], ConfigError("there is no key a"))
    (tmp_path / ".refused.jsonl").unlink()
    assert describe(tmp_path / "0_a")["status"] == "FAILED"
    assert subject.read(tmp_path / "0_a", "0", "0 a").state.reason == "there is no key a"


def test_the_pages_of_a_sweep_are_those_of_its_jobs_that_are_not_damaged(run, config):
    folder = run.parent / "sweep"
    for number in range(3):
        a_run(folder, config, f"{number}_a")
    (folder / "sweep.json").write_text(json.dumps({"id": "s", "overrides": [], "shared": []}))
    (folder / "1_a" / "mlflow.json").write_text("[]")
    (run.parent / "gone").mkdir()
    (run.parent / "gone" / "sweep.json").symlink_to("nowhere")
    assert ui._last_sweep(f"sqlite:///{run.parent / 'x.db'}") is None
    for number in (0, 2):
        known = json.loads((folder / f"{number}_a" / "mlflow.json").read_text())
        known["uri"] = f"sqlite:///{run.parent / 'x.db'}"
        (folder / f"{number}_a" / "mlflow.json").write_text(json.dumps(known))
    assert ui._last_sweep(f"sqlite:///{run.parent / 'x.db'}") == folder
    known, damaged = urls.tracked_jobs(folder)
    assert len(known) == 2
    assert "1_a/mlflow.json" in str(damaged[0])
    assert "Charts" in urls.of_sweep(folder)
    (folder / "sweep.json").write_text("null")
    assert list(urls.of_sweep(folder)) == ["Compare"]
