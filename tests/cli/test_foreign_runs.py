"""Runs of other users and of anybody: what may not be read is said, and nothing outside of a run is touched."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
import traceback
from pathlib import Path

import pytest

from runner.__main__ import command
from runner.checkpoints import weights
from runner.cli.open_run import open_run
from runner.cli.train import train_inline
from runner.cli.verbs import runs as _runs  # noqa: F401  A child without rights finds no module any more.
from runner.cli.verbs import sync  # noqa: F401
from runner.errors import Damaged, ForeignPath
from runner.launch import supervisor
from runner.launch.command import Command
from runner.report import subject
from runner.runs.journal import Journal
from tests.damage.written import a_run


@pytest.fixture(scope="module")
def config(config_of):
    return config_of("mode=cls")


@pytest.fixture
def run(tmp_path, config):
    (tmp_path / "secret").write_text("secret")
    return a_run(tmp_path, config)


@pytest.mark.parametrize("place", ["train.log", "ranks/lock", "checkpoints/best", "export/model.onnx", "plots/a.png"])
def test_a_link_in_a_run_is_followed_by_no_verb(run, place):
    path = run / place
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(run.parent / "secret")
    for read in (lambda: open_run(str(run), []), lambda: weights.read(run, "best")):
        with pytest.raises((ForeignPath, Damaged), match="link"):
            read()
    assert subject.read(run, "1", "run").state.status == "DAMAGED"
    assert (run.parent / "secret").read_text() == "secret"


@pytest.mark.parametrize("place", ["ranks", "checkpoints", "ranks/lock", "journal.jsonl"])
def test_a_run_that_goes_on_writes_through_no_link(run, config, place):
    elsewhere = run.parent / "elsewhere"
    if (run / place).is_dir() or place == "ranks":
        shutil.rmtree(run / place, ignore_errors=True)
        elsewhere.mkdir()
    else:
        (run / place).parent.mkdir(exist_ok=True)
        (run / place).unlink(missing_ok=True)
        elsewhere.touch()
    (run / place).symlink_to(elsewhere)
    with pytest.raises(ForeignPath, match="symbolic link"):
        supervisor.run(Command(train_inline), config, run, [])
    assert not (list(elsewhere.iterdir()) if elsewhere.is_dir() else elsewhere.read_bytes())


def as_nobody(work):
    """What work prints, and its result, in a child without the rights of root."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgid(65534)
            os.setuid(65534)
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = work()
            os.write(writes, f"{code}\n{said.getvalue()}".encode())
        except BaseException:
            os.write(writes, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writes)
    with open(reads, encoding="utf-8") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


CLOSED = {
    "ranks/lock is not to be written": lambda run: None,
    "ranks cannot be entered": lambda run: (run / "ranks").chmod(0),
    "the run cannot be entered": lambda run: run.chmod(0o744),
    "the run cannot be looked into": lambda run: run.chmod(0o700),
    "config.yaml cannot be read": lambda run: (run / "config.yaml").chmod(0),
    "journal.jsonl cannot be read": lambda run: (run / "journal.jsonl").chmod(0),
    "result.json cannot be read": lambda run: (run / "result.json").chmod(0),
}


@pytest.mark.skipif(os.getuid() != 0, reason="gives its rights up")
@pytest.mark.parametrize("closed", CLOSED)
def test_a_run_of_another_user_hides_no_other_and_is_not_said_to_be_unwritable(config, closed):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        folder.chmod(0o755)
        run = a_run(folder, config, "run")
        a_run(folder, config, "other")
        (run / "ranks").mkdir()
        (run / "ranks" / "lock").touch()
        journal = Journal(run)
        journal.append("resumed", command=[])
        CLOSED[closed](run)
        code, _, said = as_nobody(lambda: command(["runs", place, "--json"])).partition("\n")
        assert code == "0", said
        assert "cannot be written" not in said
        listed = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        rows = {os.path.basename(row["run"]): row for row in listed}
        assert rows["other"]["status"] == "FINISHED"
        if "looked into" in closed:
            assert f"{run} cannot be read" in said
        else:
            assert rows["run"]["status"] == ("LOST" if "written" in closed else "DAMAGED")
        code, _, said = as_nobody(lambda: command(["sync", place])).partition("\n")
        assert code == "3", said
        assert f"{os.path.basename(place)}/other" in said
