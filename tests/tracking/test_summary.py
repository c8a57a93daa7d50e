"""The summary of a sweep in MLflow: a run of its own, which those of the jobs are folded below."""

from __future__ import annotations

import csv
import shutil
import sqlite3

import pytest

from runner import runs
from runner.cli import summary_run, sweep
from runner.cli.train import train_inline
from runner.config import store
from runner.config.addresses import sqlite_path
from runner.errors import CheckpointError, ServerLost
from runner.launch.command import Command
from runner.processes import locked
from runner.report import subject
from runner.runs import journal
from runner.runs import result as results
from runner.runs import sweep as sweeps
from runner.tracking import lookup, rebuilt, server, stores, summary
from runner.tracking.mlflow import Mirror
from tests.conftest import composed, run_inline

PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
CONFIGURATIONS = {"optimizer.lr=0.1": [0.90, 0.92, 0.94], "optimizer.lr=-1": [0.70, 0.72, 0.74]}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def a_sweep(folder, swept="x=1,2"):
    """The folder of a sweep that has begun."""
    folder.mkdir(parents=True)
    planned = sweeps.Sweep(sweeps.new_id([swept], []), ["name=tried", swept], ["name=tried"])
    journal.files.write_json(folder / journal.SWEEP, planned.__dict__)
    return folder


def add_job(folder, number, own, value=None, seed=0, status="FINISHED", tracking="tracking.register=models"):
    """A job, by default one that has ended, that no store has; it begins the sweep's summary as its command does."""
    directory = folder / f"{number}_{sweeps.PLAIN.sub('-', own)}_train.seed-{seed}"
    (directory / journal.RANKS).mkdir(parents=True)
    config = composed("name=tried", f"train.seed={seed}", tracking)
    store.write(config, directory / journal.CONFIG)
    (directory / journal.OVERRIDES).write_text(f"- name=tried\n- {own}\n- train.seed={seed}\n")
    lines = journal.Journal(directory)
    lines.append("started", command=[])
    lines.metrics(1, 1, {"train/loss": 0.5})
    final = {"top1": (value or 0) - 0.1, "params": 3.0, "macs": 1e6 * (number + 1), "size_mb": 1.0 + number}
    if value is not None:
        done = results.Result(final=final, test={}, monitor="val/student/top1", best=value, seconds=1.0)
        results.write(directory / journal.RESULT, done)
    if status:
        lines.append("ended", status=status, reason="" if status == "FINISHED" else "it broke", exit_code=0)
    summary.begin(folder, config)
    return directory


def repeated(folder):
    """A sweep over seeds of two configurations."""
    a_sweep(folder, "optimizer.lr=0.1,-1")
    pairs = [(own, seed, value) for own, values in CONFIGURATIONS.items() for seed, value in enumerate(values)]
    return folder, [add_job(folder, number, own, value, seed) for number, (own, seed, value) in enumerate(pairs)]


def deliver(directory):
    """Send a run, or a summary, as its mirror does; its run in MLflow."""
    config = store.read(directory / journal.CONFIG)
    stores.Delivery(directory).trained_into(config.tracking.uri)
    mirror = Mirror(directory, config, config.tracking, [].append)
    mirror.replay()
    return mirror.client.get_run(mirror.values["run_id"])


def end(folder):
    """Bring the summary up to date and send it; its run in MLflow."""
    return deliver(summary_run.update(folder, subject.jobs(folder)))


def in_store(uri=None):
    """(summaries by name, other runs) of the experiment in the store."""
    client = server.connect(stores.resolved(uri or composed().tracking.uri))
    [experiment] = [one for one in client.search_experiments() if one.name == "tried"]
    sent = client.search_runs([experiment.experiment_id])
    parents = [run for run in sent if "runner.summary" in run.data.tags]
    assert len({run.info.run_name for run in parents}) == len(parents)
    return {run.info.run_name: run for run in parents}, [run for run in sent if run not in parents]


def lines_of(folder):
    return (folder / sweeps.SUMMARY_RUN / journal.JOURNAL).read_bytes()


def test_the_summary_has_each_configuration_the_best_and_the_verdict(tmp_path):
    folder, jobs = repeated(tmp_path / "study")
    sent = [deliver(job) for job in jobs]
    run = end(folder)
    assert run.info.run_name == "sweep-study"
    assert run.info.status == "FINISHED"
    assert {one.data.tags[PARENT] for one in sent} == {run.info.run_id}
    assert PARENT not in run.data.tags
    assert "sweep_id" not in run.data.tags
    values = run.data.metrics
    assert values["sweep/optimizer.lr-0.1/mean"] == pytest.approx(0.92)
    assert values["sweep/optimizer.lr-0.1/deviation"] == pytest.approx(0.02)
    assert values["sweep/optimizer.lr-1/runs"] == 3
    assert values["sweep/optimizer.lr-1/behind_best"] == pytest.approx(-0.2)
    assert values["sweep/optimizer.lr-1/behind_best_low"] <= values["sweep/optimizer.lr-1/behind_best_high"] < 0
    assert (values["sweep/runs"], values["sweep/finished"], values["sweep/failed"]) == (6, 6, 0)
    assert values["sweep/best"] == pytest.approx(0.92)
    tags = run.data.tags
    assert tags["sweep.best"] == "optimizer.lr=0.1"
    assert tags["sweep.best_run"] == jobs[2].name
    assert "Worse by more than noise: optimizer.lr=-1." in tags["sweep.verdict"]
    assert tags["sweep.command"] == "python -m runner -m name=tried optimizer.lr=0.1,-1"
    assert tags["sweep.directory"] == str(folder)
    assert "| `optimizer.lr=-1` | 3 | 0.72 | 0.02 | -0.2 |" in tags[NOTE]


def test_the_table_is_an_artefact(tmp_path):
    folder, _ = repeated(tmp_path / "study")
    run = end(folder)
    client = server.connect(stores.resolved(composed().tracking.uri))
    [item] = client.list_artifacts(run.info.run_id)
    with open(client.download_artifacts(run.info.run_id, item.path, str(tmp_path))) as stream:
        best, other = csv.DictReader(stream)
    assert (best["configuration"], best["verdict"]) == ("optimizer.lr=0.1", "best")
    assert float(other["behind_best"]) == pytest.approx(-0.2)


def test_single_runs_are_counted_with_the_best_value_and_the_front(tmp_path):
    folder = a_sweep(tmp_path / "study")
    add_job(folder, 0, "x=1", 0.9)
    add_job(folder, 1, "x=2", 0.8)
    add_job(folder, 2, "x=3", status="FAILED")
    add_job(folder, 3, "x=4", status="STOPPED_EARLY")
    run = end(folder)
    assert run.info.status == "FAILED"
    assert run.data.tags["ended"] == "1 of 4 runs did not finish: 2"
    counts = {name.removeprefix("sweep/"): value for name, value in run.data.metrics.items()}
    assert counts == {"runs": 4, "finished": 2, "failed": 1, "stopped_early": 1, "best": 0.9}
    assert run.data.tags["sweep.best"] == "x=1"
    assert run.data.tags["sweep.front"] == "MB: 0; M MACs: 0"
    assert "| 0 | `x=1` | FINISHED | 0.9 | 0.8 |" in run.data.tags[NOTE]
    assert "run 2, FAILED: it broke" in run.data.tags[NOTE]


def test_configurations_whose_names_read_alike_have_metrics_of_their_own(tmp_path):
    folder = a_sweep(tmp_path / "study")
    for number, (own, seed) in enumerate([("x=1", 0), ("x=1", 1), ("x=-1", 0), ("x=-1", 1)]):
        add_job(folder, number, own, 0.9 - number / 10, seed)
    values = end(folder).data.metrics
    assert values["sweep/x-1/mean"] == pytest.approx(0.85)
    assert values["sweep/x-1_2/mean"] == pytest.approx(0.65)


@pytest.mark.parametrize("count", [1, 40])
def test_whatever_a_sweep_varies_mlflow_takes_its_names_and_texts(tmp_path, count):
    folder = a_sweep(tmp_path / "study")
    for number in range(count):
        odd = f"data.root='/a/../{number}//é|`<b>*' " + "long.key=" + "x" * 300
        for seed in range(2):
            job = add_job(folder, 2 * number + seed, "odd", 0.9 - number / 1000, seed)
            (job / journal.OVERRIDES).write_text(f'- "{odd}"\n- train.seed={seed}\n')
    tags = end(folder).data.tags
    assert 0 < len(tags[NOTE]) <= 5000
    assert ("more: summary.csv" in tags[NOTE]) == (count > 1)


def test_a_resumed_sweep_updates_its_summary_in_place(tmp_path):
    folder = a_sweep(tmp_path / "study")
    deliver(add_job(folder, 0, "x=1", 0.8))
    broken = add_job(folder, 1, "x=2", status="FAILED")
    first = end(folder)
    assert first.info.status == "FAILED"
    shutil.rmtree(broken)
    deliver(add_job(folder, 1, "x=2", 0.9))
    second = end(folder)
    assert second.info.run_id == first.info.run_id
    assert second.info.status == "FINISHED"
    assert "ended" not in second.data.tags
    assert (second.data.metrics["sweep/finished"], second.data.metrics["sweep/best"]) == (2, 0.9)
    before = lines_of(folder)
    assert end(folder).info.run_id == first.info.run_id
    assert lines_of(folder) == before
    parents, jobs = in_store()
    assert len(parents) == 1
    assert {run.data.tags[PARENT] for run in jobs} == {first.info.run_id}


def test_a_configuration_that_becomes_the_best_is_no_longer_behind(tmp_path):
    folder, jobs = repeated(tmp_path / "study")
    assert end(folder).data.metrics["sweep/optimizer.lr-1/behind_best"] < 0
    for number in (3, 4, 5):
        shutil.rmtree(jobs[number])
        add_job(folder, number, "optimizer.lr=-1", 0.98 + number / 1000, number - 3)
    values = end(folder).data.metrics
    assert [values[f"sweep/optimizer.lr-1/behind_best{end}"] for end in ("", "_low", "_high")] == [0, 0, 0]
    assert values["sweep/optimizer.lr-0.1/behind_best"] < 0


def test_a_verdict_that_no_longer_holds_is_taken_back(tmp_path):
    folder = a_sweep(tmp_path / "study")
    job = add_job(folder, 0, "x=1", 0.8)
    assert end(folder).data.tags["sweep.best_run"] == job.name
    shutil.rmtree(job)
    add_job(folder, 0, "x=1", status="FAILED")
    tags = end(folder).data.tags
    assert {tags[f"sweep.{name}"] for name in ("monitored", "best", "best_run", "verdict", "front")} == {""}


@pytest.mark.slow
def test_the_end_of_a_sweep_delivers_its_summary_and_a_complete_one_is_left_alone(tmp_path):
    folder = a_sweep(tmp_path / "study")
    add_job(folder, 0, "x=1", 0.9, tracking="tracking.drain_s=600")
    command = Command(train_inline)
    sweep._tell_of_results(command, folder)
    assert command.mirrors.followed == {folder / sweeps.SUMMARY_RUN}
    command.mirrors.drain()
    [run] = in_store()[0].values()
    assert run.info.status == "FINISHED"
    sweep._tell_of_results(command, folder)
    assert not command.mirrors.followed


def test_after_an_outage_sync_delivers_the_summary_and_folds_the_runs_below_it(tmp_path, monkeypatch):
    folder = a_sweep(tmp_path / "study")
    job = add_job(folder, 0, "x=1", 0.9)

    def away(*_):
        raise ServerLost("the server is away")

    with monkeypatch.context() as outage:
        outage.setattr(server, "connect", away)
        for directory in (job, summary_run.update(folder, subject.jobs(folder))):
            with pytest.raises(ServerLost, match="away"):
                deliver(directory)
    done = run_inline("sync", "study", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "study/summary: delivered" in done.stdout
    parents, [child] = in_store()
    assert child.data.tags[PARENT] == parents["sweep-study"].info.run_id
    assert parents["sweep-study"].data.metrics["sweep/finished"] == 1
    again = run_inline("sync", "study/summary", cwd=tmp_path)
    assert again.stdout.count("up to date") == 2
    assert len(in_store()[0]) == 1


def test_a_run_that_is_synchronised_alone_has_its_parent_nevertheless(tmp_path):
    folder = a_sweep(tmp_path / "study")
    job = add_job(folder, 0, "x=1", 0.9)
    assert run_inline("sync", str(job), cwd=tmp_path).returncode == 0
    parents, [child] = in_store()
    assert child.data.tags[PARENT] == parents["sweep-study"].info.run_id
    assert parents["sweep-study"].info.status == "RUNNING"
    assert end(folder).info.run_id == parents["sweep-study"].info.run_id


def test_a_sweep_of_an_earlier_version_gets_its_summary_by_sync(tmp_path):
    folder = a_sweep(tmp_path / "study")
    job = add_job(folder, 0, "x=1", 0.9)
    shutil.rmtree(folder / sweeps.SUMMARY_RUN)
    assert PARENT not in deliver(job).data.tags
    assert run_inline("sync", "study", cwd=tmp_path).returncode == 0
    parents, [child] = in_store()
    assert child.data.tags[PARENT] == parents["sweep-study"].info.run_id


def test_in_another_store_the_runs_are_below_another_summary(tmp_path):
    folder = a_sweep(tmp_path / "study")
    deliver(add_job(folder, 0, "x=1", 0.9))
    end(folder)
    other = f"sqlite:///{tmp_path}/other.db"
    assert run_inline("sync", "study", "--uri", other, cwd=tmp_path).returncode == 0
    ids = []
    for uri in (None, other):
        parents, [child] = in_store(uri)
        assert child.data.tags[PARENT] == parents["sweep-study"].info.run_id
        ids.append(child.data.tags[PARENT])
    assert ids[0] != ids[1]


def test_each_of_two_sweeps_has_a_summary_of_its_own(tmp_path):
    for name in ("one", "two"):
        folder = a_sweep(tmp_path / name)
        deliver(add_job(folder, 0, "x=1", 0.9))
        end(folder)
    parents, children = in_store()
    assert set(parents) == {"sweep-one", "sweep-two"}
    assert {run.data.tags[PARENT] for run in children} == {run.info.run_id for run in parents.values()}


def test_a_copy_of_a_sweep_has_a_summary_of_its_own(tmp_path):
    folder = a_sweep(tmp_path / "study")
    job = add_job(folder, 0, "x=1", 0.9)
    deliver(job)
    end(folder)
    shutil.copytree(folder, tmp_path / "copy")
    copied = deliver(tmp_path / "copy" / job.name)
    parents, _ = in_store()
    assert copied.data.tags[PARENT] == parents["sweep-copy"].info.run_id != parents["sweep-study"].info.run_id
    assert end(tmp_path / "copy").info.run_id == parents["sweep-copy"].info.run_id


def test_jobs_that_are_delivered_at_the_same_time_create_one_summary(tmp_path):
    folder = a_sweep(tmp_path / "study")
    jobs = [add_job(folder, number, f"x={number}", 0.9) for number in range(2)]
    with locked(folder / sweeps.SUMMARY_RUN / journal.tracking_lock(journal.MLFLOW)):
        with pytest.raises(ServerLost, match="is creating"):
            deliver(jobs[0])
        add_job(folder, 2, "x=2", 0.9)
    assert deliver(jobs[0]).data.tags[PARENT] == deliver(jobs[1]).data.tags[PARENT]
    assert len(in_store()[0]) == 1


def test_a_sweep_without_mlflow_has_no_summary(tmp_path):
    folder = a_sweep(tmp_path / "study")
    add_job(folder, 0, "x=1", 0.9, tracking="tracking=csv")
    assert summary_run.update(folder, subject.jobs(folder)) is None
    assert not (folder / sweeps.SUMMARY_RUN).exists()


def test_while_jobs_run_the_summary_is_not_closed(tmp_path):
    folder = a_sweep(tmp_path / "study")
    job = add_job(folder, 0, "x=1", status="")
    with locked(job / journal.LOCK):
        assert summary_run.update(folder, subject.jobs(folder)) is None


def test_a_summary_that_was_deleted_keeps_no_run_from_its_store(tmp_path):
    folder = a_sweep(tmp_path / "study")
    first = deliver(add_job(folder, 0, "x=1", 0.9)).data.tags[PARENT]
    server.connect(stores.resolved(composed().tracking.uri)).delete_run(first)
    assert deliver(add_job(folder, 1, "x=2", 0.9)).data.tags[PARENT] == first


def test_a_store_that_lost_everything_gets_one_summary_again(tmp_path):
    folder = a_sweep(tmp_path / "study")
    job = add_job(folder, 0, "x=1", 0.9)
    lost = deliver(job).data.tags[PARENT]
    with sqlite3.connect(sqlite_path(stores.resolved(composed().tracking.uri))) as database:
        for table in ("latest_metrics", "metrics", "params", "tags", "inputs", "runs"):
            database.execute(f"DELETE FROM {table}")
    database.close()
    child = deliver(job)
    assert child.data.tags[PARENT] != lost
    assert end(folder).info.run_id == child.data.tags[PARENT]


def test_a_summary_is_no_run_to_what_takes_runs(tmp_path):
    folder = a_sweep(tmp_path / "study")
    job = add_job(folder, 0, "x=1", 0.9)
    deliver(job)
    run_id, place, uri = end(folder).info.run_id, folder / sweeps.SUMMARY_RUN, composed().tracking.uri
    assert list(runs.find(tmp_path)) == [job]
    assert rebuilt.experiment(uri, "tried") == [job]
    for named in (run_id, str(place), "study/summary"):
        with pytest.raises(CheckpointError, match="is the summary of the sweep .*study"):
            lookup.directory_of(named, uri)
        done = run_inline("report", named, cwd=tmp_path)
        assert done.returncode != 0
        assert "is the summary of the sweep" in done.stderr
    shutil.rmtree(folder)
    with pytest.raises(CheckpointError, match="is the summary of the sweep"):
        server.fetch(stores.resolved(uri), run_id)


def test_a_link_in_place_of_a_summary_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    folder = a_sweep(tmp_path / "study")
    (folder / sweeps.SUMMARY_RUN).symlink_to(tmp_path / "elsewhere")
    assert PARENT not in deliver(add_job(folder, 0, "x=1", 0.9)).data.tags
    assert not list((tmp_path / "elsewhere").iterdir())
