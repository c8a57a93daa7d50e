"""The folder of a sweep: its jobs, its command, and messages from the command to the jobs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TypedDict

import yaml

from .. import device, files, stored, terminal
from ..config import credentials
from ..errors import STOPPED, ConfigError, Damaged, UserError
from ..files.disk_errors import disk_error
from ..processes import is_locked, locked
from . import swept
from .journal import CONFIG, JOURNAL, OVERRIDES, RANKS, SWEEP, Journal

#: Characters that are replaced in the name of a job's folder, and the prefix of such a name.
PLAIN = re.compile(r"[^A-Za-z0-9._]+")
NUMBERED = re.compile(r"[0-9]+(_|$)")
#: In a sweep's folder: the lock of its command, the signal that ends its jobs, reasons why jobs were not started.
COMMAND, STOP, REFUSED = ".command.lock", ".stop", ".refused.jsonl"
#: Accuracy, latency and size of the jobs; the page that compares them, also as Markdown.
PLOT, REPORT, SUMMARY = "accuracy_latency.png", "report.html", "report.md"
#: The folder of the sweep's own run in MLflow.
SUMMARY_RUN = "summary"
#: The study of a search.
STUDY = "study.log"
#: All files that a sweep creates in its folder besides its jobs, including those of Hydra's sweepers.
NAMES = (
    SWEEP, COMMAND, STOP, REFUSED, PLOT, REPORT, SUMMARY, STUDY, SUMMARY_RUN, "multirun.yaml",
    "optimization_results.yaml",
)  # fmt: skip
#: A folder with one of these is a job's.
OF_A_JOB = (CONFIG, OVERRIDES, JOURNAL, RANKS)


@dataclass
class Sweep:
    """The contents of `sweep.json`."""

    id: str
    """The tag `sweep_id` of its runs."""
    overrides: list[str]
    """The overrides of its command."""
    shared: list[str]
    """Those that all jobs share."""
    launcher: str = ""
    """The class of the Hydra launcher of the current command."""
    outlives: bool = False
    """Whether its jobs outlive the command that started them, as those of a cluster's queue do."""
    at_once: int = 1
    """Jobs that run concurrently on one machine, and share its cores."""
    varied: list[str] = field(default_factory=list)
    """The keys that it varies; empty in those that earlier versions began."""

    @property
    def digest(self) -> str:
        """`digest` of its command."""
        return swept.digest(self.overrides, self.varied)


class _Needed(TypedDict):
    id: str
    overrides: list[str]
    shared: list[str]


class _Stored(_Needed, total=False):
    launcher: str
    outlives: bool
    at_once: int
    varied: list[str]


def varied_beside(directory: Path) -> list[str]:
    """The keys that the sweep varies of which a run is a job; empty if it is none."""
    with contextlib.suppress(OSError, Damaged):
        return read(directory.parent).varied
    return []


@contextlib.contextmanager
def lock_sweep(directory: Path, sweep: Sweep, resume: bool) -> Iterator[None]:
    """Within the context a sweep belongs to this command.

    Its folder is created or reused. If no job starts, what was created is removed again. Errors: ConfigError if the
    sweep may not be resumed, another command has it, or files would be overwritten.
    """
    if not _holds_a_sweep(directory):
        _refuse_overwriting(directory)
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    own = [name for name in NAMES if not (directory / name).exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error) from error
    # Jobs that were left behind look at the lock now and then.
    with locked(directory / COMMAND, patience_s=1) as lock:
        if lock is None:
            raise ConfigError(f"{directory} is in use by another command. Wait for it, or choose another name.")
        again = (directory / SWEEP).exists()
        if again:
            sweep = _restarted(directory, sweep, resume)
        files.write_json(directory / SWEEP, asdict(sweep))
        for name in (STOP, REFUSED):
            files.remove_file(directory / name)
        try:
            yield
        finally:
            if not again and directory.is_dir() and not jobs(directory):
                for name in own:
                    files.remove_file(directory / name)
                for path in missing:
                    files.remove_empty(path)


def _holds_a_sweep(directory: Path) -> bool:
    """Whether a folder is a sweep's, also if its file is damaged: it still has its jobs."""
    try:
        read(directory)
    except Damaged:
        return (directory / SWEEP).is_file() and bool(jobs(directory))
    return True


def _refuse_overwriting(directory: Path) -> None:
    """Errors: ConfigError if a folder without a sweep is a run's, or has a file that a sweep writes."""
    for place in (directory, *directory.absolute().parents):
        if (place / JOURNAL).is_file():
            raise ConfigError(
                f"{directory} is in the directory of a run, {place}. Choose another name (name=NAME) or folder "
                "(hydra.sweep.dir=DIR)."
            )
    if taken := [name for name in NAMES if (directory / name).exists() and name != COMMAND]:
        raise ConfigError(
            f"{directory} holds no sweep, and {', '.join(taken)} in it would be overwritten. Choose another folder: "
            "hydra.sweep.dir=DIR"
        )


def _restarted(directory: Path, sweep: Sweep, resume: bool) -> Sweep:
    """The sweep as it runs now, with its original id."""
    earlier = read(directory)
    if not resume:
        raise ConfigError(
            f"This sweep was started before, in {directory}. Continue it: sweep.resume=true. For a new one choose "
            "another name (name=NAME) or folder (hydra.sweep.dir=DIR)."
        )
    if earlier.digest != sweep.digest:
        raise ConfigError(
            f"{directory} holds another sweep, started with: {terminal.words(earlier.overrides)}\n"
            "Repeat those, or choose another folder: hydra.sweep.dir=DIR"
        )
    return replace(sweep, id=earlier.id, overrides=earlier.overrides, shared=earlier.shared, varied=earlier.varied)


def new_id(overrides: list[str], varied: Collection[str]) -> str:
    """The id of a new sweep."""
    return f"{swept.digest(overrides, varied)}-{secrets.token_hex(3)}"


def read(directory: Path) -> Sweep:
    """The sweep of a folder. Errors: Damaged."""
    content = stored.read_json(directory / SWEEP, _Stored, "Bring it back, or run the sweep in another folder.")
    if content is None:
        raise Damaged(f"{directory / SWEEP} is missing.")
    return Sweep(**{field.name: content[field.name] for field in fields(Sweep) if field.name in content})


def ask_to_stop(directory: Path, number: int) -> None:
    """Ask every job of a sweep to end as by a signal; jobs on other processes and machines read that in its folder."""
    with contextlib.suppress(OSError):
        files.write_text(directory / STOP, str(number))


def asked_to_stop(directory: Path) -> int:
    """The signal with which the jobs of a sweep should end: SIGTERM if their command is gone; 0 for none."""
    with contextlib.suppress(OSError, ValueError, Damaged):
        if 128 + (number := int(stored.read_text(directory / STOP) or "")) in STOPPED:
            return number
    return signal.SIGTERM if is_orphaned(directory) else 0


def is_orphaned(directory: Path) -> bool:
    """Whether the command of a sweep is gone, and its jobs must not outlive it."""
    with contextlib.suppress(OSError, Damaged):
        if not read(directory).outlives:
            return not is_locked(directory / COMMAND)
    return False


def is_swept(directory: Path) -> bool:
    """Whether the run of a directory is a job of a sweep."""
    return (directory.parent / SWEEP).is_file()


def folder_name(directory: str, number: int, overrides: Iterable[str]) -> str:
    """Name of a job's folder: its number and the overrides that it does not share with the others.

    `0_mode-cls_optimizer.lr-0.01`: at most 120 letters, digits, `.`, `-` and `_`, so that neither a shell nor an
    override needs quotes.
    """
    path = Path(directory) / SWEEP
    sweep = read(Path(directory)) if path.is_file() else Sweep("", [], [])
    own = [credentials.without(text) for text in swept.of_jobs(overrides, sweep.varied) if text not in sweep.shared]
    name = "_".join([str(number), *(PLAIN.sub("-", text).strip("-") for text in own)])
    earlier = f"{number}_{','.join(own).replace(os.sep, '-')}"[:120].rstrip(" ._,")
    # A sweep of an earlier version is resumed under the name that it has.
    is_known = len(os.fsencode(earlier)) <= files.LONGEST_NAME and is_job(Path(directory) / earlier)
    return earlier if is_known else name[:120].rstrip("._-")


def prefix(directory: Path) -> str:
    """`[3] ` before the lines of a job that runs concurrently with others; else empty."""
    return f"[{directory.name.partition('_')[0]}] " if device.AT_ONCE in os.environ else ""


def jobs(directory: Path) -> list[Path]:
    """The directories of a sweep's jobs in their order; other folders are foreign."""
    refused = refusals(directory)
    numbered = [path for path in directory.iterdir() if path.is_dir() and NUMBERED.match(path.name)]
    folders = [path for path in numbered if path.name in refused or is_job(path)]
    return sorted(folders, key=lambda path: int(path.name.partition("_")[0]))


def of_number(directory: Path, number: int) -> Path | None:
    """The directory of the job with a number; None if there is none."""
    return next((path for path in jobs(directory) if int(path.name.partition("_")[0]) == number), None)


def is_job(directory: Path) -> bool:
    """Whether a folder within a sweep has files of a run."""
    return any((directory / name).exists() for name in OF_A_JOB)


@dataclass(frozen=True)
class Refusal:
    """Why a job of a sweep was not started."""

    job: str
    """Its folder's name."""
    reason: str
    exit_code: int


def note_refusal(directory: Path, overrides: list[str], error: UserError) -> None:
    """Record why a job could not be started; in its own folder as well, unless that is not empty."""
    refusal = Refusal(directory.name, str(error), error.exit_code)
    with (directory.parent / REFUSED).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(refusal)) + "\n")
    if (directory / CONFIG).exists() or (directory.is_dir() and not is_job(directory) and any(directory.iterdir())):
        return
    directory.mkdir(parents=True, exist_ok=True)
    # Overrides that were refused for a secret in them are not written to a file either.
    shown = list(map(credentials.without, overrides))
    files.write_text(directory / OVERRIDES, yaml.safe_dump(shown))
    journal = Journal(directory)
    journal.append("started", command=shown)
    journal.append("ended", status="FAILED", reason=refusal.reason, exit_code=error.exit_code)


def refusals(directory: Path) -> dict[str, Refusal]:
    """Job's folder → why it was not started, of those that this command could not start."""
    # A damaged entry is skipped: the folder of the job has the reason as well.
    with contextlib.suppress(Damaged):
        lines = (stored.read_bytes(directory / REFUSED) or b"").splitlines()
        return {refusal.job: refusal for line in lines if (refusal := stored.fitting(line, Refusal))}
    return {}
