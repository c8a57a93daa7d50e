"""A run that is disturbed, what must hold after every fault, and what must have come of it in the end."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.exceptions import MlflowException

from runner.checkpoints import reading
from runner.errors import CheckpointError
from runner.runs.history import curves
from runner.runs.journal import MEASURED, events, tracked
from runner.tracking.entities import step_of
from tests.e2e.processes import Server, below, gone, mlflow_runs, run, start, wait_until
from tests.e2e.test_resume import SMALL, assert_equal

from .faults import DONE, Fault

#: 10 steps an epoch, checkpoints within it, a log window that does not end with them.
LENGTH = [
    "data=synthetic", "data.train_images=100", "data.val_fraction=0.2", "data.test_images=16", "data.batch_size=8",
    "train.epochs=3", "train.log_every=3", "checkpoint.every_steps=4", "checkpoint.keep=2", "train.threads=1",
    "schedule.warmup_epochs=1", "deploy.formats=[]", *SMALL,
]  # fmt: skip
COMPOSITIONS = {
    "cls": ["deploy.formats=[safetensors]"],
    "cls, parts and averages": ["train.accumulate=2", "train.ema=0.9", "optimizer=momentum"],
    "cls_distill": ["mode=cls_distill"],
    "cls_distill_multiopt": ["mode=cls_distill_multiopt", "optimizer@mode.peer_optimizer=rmsprop"],
    "cls, qat": ["compression=qat"],
    "cls_distill, fpgm": ["mode=cls_distill", "compression=fpgm"],
    "cls, fpgm_qat": ["compression=fpgm_qat"],
}
#: Seconds without a step after which a process counts as stalled; starting takes less.
TIMEOUT_S = 20
#: Seconds from the end of a command to the end of all it started, with a server that comes back.
SETTLE_S = 60


@dataclass
class Account:
    """What is counted over all runs. Everything but `faults` and `points` should stay empty."""

    faults: Counter[str] = field(default_factory=Counter)
    exits: dict[str, Counter[int]] = field(default_factory=dict)
    points: int = 0
    checkpoints: int = 0
    lost_checkpoints: list[str] = field(default_factory=list)
    lost_points: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    running: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    @property
    def broken(self) -> dict[str, list[str]]:
        """What was promised and does not hold, by its name."""
        return {
            "lost checkpoints": self.lost_checkpoints, "lost or doubled metric points": self.lost_points,
            "orphans": self.orphans, "runs left RUNNING": self.running, "results that differ": self.differing,
            "unexpected ends": self.unexpected,
        }  # fmt: skip


class Disturbed:
    """One run in a folder of its own, on a small disk where one can be mounted."""

    def __init__(self, name: str, world: int, folder: Path, server: Server, account: Account) -> None:
        self.name, self.folder, self.server, self.account = f"{name}, {world}", folder, server, account
        folder.mkdir(parents=True)
        self.disk = folder / "disk"
        self.disk.mkdir()
        self.has_disk = not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(self.disk)], capture_output=True
        ).returncode
        self.directory = self.disk / "run"
        self.overrides = [
            *LENGTH, *COMPOSITIONS[name], f"launch.nproc_per_node={world}", f"launch.timeout_s={TIMEOUT_S}",
            f"tracking.uri={server.uri}", f"hydra.run.dir={self.directory}", "checkpoint.resume=auto", "name=chaos",
            "tracking.drain_s=20",
        ]  # fmt: skip
        self.process: subprocess.Popen[str] | None = None
        self.cut: set[str] = set()
        """Checkpoints that lost an end with the power."""

    def close(self) -> None:
        """Give the disk back."""
        if self.has_disk:
            subprocess.run(["umount", "--lazy", str(self.disk)], check=True)

    # What faults do.

    def processes(self) -> set[int]:
        """Ids of the command and all below it."""
        assert self.process is not None
        return {self.process.pid, *(number for _, number in below(self.process.pid))}

    def fill_disk(self, left: int) -> None:
        """Take all but some bytes of the disk."""
        with (self.disk / "ballast").open("wb") as stream:
            while True:
                free = os.statvfs(self.disk)
                # The run writes meanwhile.
                with contextlib.suppress(OSError):
                    os.posix_fallocate(stream.fileno(), 0, max(1, free.f_bavail * free.f_frsize - left))
                    return

    def cut_files(self, generator: random.Random) -> None:
        """Cut what may not have been on the disk: the journal behind the newest checkpoint, and that checkpoint."""
        checkpoints = sorted((self.directory / "checkpoints").glob("step-*"))
        found = list(events(self.directory))
        offset = end = 0
        for event, behind in found:
            if event["event"] == "checkpoint" and checkpoints and event["name"] == checkpoints[-1].name:
                offset = end
            end = behind
        journal = self.directory / "journal.jsonl"
        if offset:
            os.truncate(journal, generator.randrange(offset, journal.stat().st_size + 1))
        # One that is older is there to go back to.
        if len(checkpoints) > 1 and generator.random() < 0.5:
            path = generator.choice(sorted(checkpoints[-1].iterdir()))
            os.truncate(path, generator.randrange(path.stat().st_size))
            self.cut.add(checkpoints[-1].name)

    # The course of a run.

    @property
    def is_complete(self) -> bool:
        """Whether it has come to its end, with or without faults."""
        return self.process is None and (self.directory / "result.json").is_file()

    def suffer(self, fault: Fault, moment: float, generator: random.Random) -> None:
        """Let the run go on for so many seconds, and do something to it then."""
        self._go_on()
        assert self.process is not None
        limit = time.monotonic() + moment
        while time.monotonic() < limit and self.process.poll() is None:
            time.sleep(0.02)
        before = self.processes()
        name = fault.__name__
        if self.process.poll() is None:
            codes = fault(self, generator)
            self.account.faults[name] += 1
            if codes is not None:
                self._end(name, codes | {DONE}, before)
                return
        if self.process.poll() is not None:
            self._end(name, {DONE}, before)

    def finish(self) -> None:
        """Let it come to its end."""
        self._go_on()
        self._end("none", {DONE}, set())

    def _go_on(self) -> None:
        if self.process is None:
            self.process = start(*self.overrides, cwd=self.folder)

    def _end(self, cause: str, codes: set[int], before: set[int]) -> None:
        """Wait for the end of the command, and look at what it leaves behind."""
        process, self.process = self.process, None
        assert process is not None
        where = f"{self.name}: {cause}"
        try:
            _, said = process.communicate(timeout=TIMEOUT_S + SETTLE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            _, said = process.communicate()
            self.account.unexpected.append(f"{where}: no end")
        (self.disk / "ballast").unlink(missing_ok=True)
        self.account.exits.setdefault(cause, Counter())[process.returncode] += 1
        if process.returncode not in codes or "Traceback" in said:
            self.account.unexpected.append(f"{where}: exit {process.returncode}: {said.strip()[-1500:]}")
        if not self.server.answers():
            wait_until(self.server.answers)
        if not gone(before, within=SETTLE_S):
            self.account.orphans.append(where)
        self._look_at_checkpoints(where)
        if cause != "power_cut":
            self._look_at_status(where)

    def _look_at_checkpoints(self, where: str) -> None:
        """The newest one that was written and not cut is whole."""
        names = [event["name"] for event, _ in events(self.directory) if event["event"] == "checkpoint"]
        expected = [name for name in names if name.startswith("step-") and name not in self.cut]
        if not expected:
            return
        self.account.checkpoints += 1
        try:
            saved, _ = reading.newest(self.directory)
        except CheckpointError as error:
            self.account.lost_checkpoints.append(f"{where}: {error}")
            return
        if saved is None or saved.folder.name < expected[-1]:
            self.account.lost_checkpoints.append(f"{where}: {saved and saved.folder.name} instead of {expected[-1]}")

    def _look_at_status(self, where: str) -> None:
        run_id = tracked(self.directory).get("run_id")
        if run_id is None:
            return
        limit = time.monotonic() + SETTLE_S / 2
        while (status := self._status(run_id)) == "RUNNING" and time.monotonic() < limit:
            time.sleep(0.5)
        if status == "RUNNING":
            # What an outage kept from the run's own process.
            run("sync", str(self.directory), cwd=self.folder)
            status = self._status(run_id)
        if status == "RUNNING":
            self.account.running.append(where)

    def _status(self, run_id: str) -> str:
        from mlflow.tracking import MlflowClient

        try:
            return MlflowClient(tracking_uri=self.server.uri).get_run(run_id).info.status
        except MlflowException as error:
            return f"unknown: {error}"

    # The end.

    def compare(self, undisturbed: Path) -> None:
        """The result is that of a run which nothing happened to, and MLflow has each of its points once."""
        try:
            assert_equal(self.directory, undisturbed)
        except (AssertionError, OSError) as error:
            self.account.differing.append(f"{self.name}: {str(error).strip()[:1500]}")
        delivered = run("sync", str(self.directory), cwd=self.folder)
        if delivered.returncode:
            self.account.unexpected.append(f"{self.name}: sync: {delivered.stdout}{delivered.stderr}")
        client, runs = mlflow_runs(self.server.uri, "chaos")
        own = [one for one in runs if one.data.tags["run_dir"] == str(self.directory.resolve())]
        if [one.info.status for one in own] != ["FINISHED"]:
            self.account.running.append(f"{self.name}: {[one.info.status for one in own]} at its end")
        for name, points in curves(self.directory).items():
            expected = sorted((step_of(name, step), value) for step, value in points.items())
            history = client.get_metric_history(own[0].info.run_id, name) if own else []
            sent = sorted((point.step, point.value) for point in history)
            self.account.points += len(expected)
            if name in MEASURED:
                # One that was measured again keeps the value that was sent first.
                expected, sent = [step for step, _ in expected], [step for step, _ in sent]
            if sent != expected:
                self.account.lost_points.append(f"{self.name}: {name}: {sent} instead of {expected}")


def undisturbed(name: str, world: int, folder: Path) -> tuple[Path, float]:
    """The directory of a whole run, and the seconds it took."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.monotonic()
    options = [*LENGTH, *COMPOSITIONS[name], f"launch.nproc_per_node={world}", "tracking=none", "name=chaos"]
    done = run(*options, "hydra.run.dir=run", cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder / "run", time.monotonic() - began


def note(text: str) -> None:
    """A line of what is under way."""
    print(text, file=sys.stderr, flush=True)
