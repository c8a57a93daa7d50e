"""The study of a search: chosen values and results, in a file of the sweep's folder that survives kills."""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Any

from .. import files
from ..errors import Damaged
from .sweep import STUDY

#: The name of the only study in a file; attributes of a trial: the number of its job, and the earlier run it comes
#: from.
NAME, JOB, ORIGIN = "search", "job", "from"
#: Attributes of a study: the seconds that the search took; of its last command `sweep.max_minutes`, and how many jobs
#: the search should have.
SECONDS, MINUTES, JOBS = "seconds", "minutes", "jobs"


class _Unlocked:
    """No lock: a sweep belongs to one command at a time, and a killed one would leave its lock file."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None


def create(directory: Path, directions: list[Any]) -> Any:
    """The `optuna.Study` of a sweep's folder, a new one if there is none. Errors: Damaged. Imports Optuna."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("optuna").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    _cut_torn(directory / STUDY)
    try:
        return optuna.create_study(
            study_name=NAME, storage=_storage(directory), directions=directions, load_if_exists=True
        )
    except (OSError, MemoryError):
        raise
    except Exception as error:
        # Optuna replays the file as it is: what is in it decides what is raised.
        raise Damaged(f"{directory / STUDY} is damaged ({error}). Bring it back, or restart the search.") from error


def load(directory: Path) -> Any | None:
    """The study in the folder of a sweep, for reading; None if it does not exist, is damaged or Optuna is missing."""
    if not (directory / STUDY).is_file():
        return None
    try:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.load_study(study_name=NAME, storage=_storage(directory))
    except MemoryError:
        raise
    except Exception:
        return None


def used_up(study: Any) -> float | None:
    """`sweep.max_minutes` of a search whose time is up; else None."""
    minutes: float | None = study.user_attrs.get(MINUTES)
    return minutes if minutes is not None and study.user_attrs.get(SECONDS, 0.0) >= 60 * minutes else None


def is_complete(study: Any) -> bool:
    """Whether as many jobs of a search have ended as it should have; False for one of an earlier version."""
    from optuna.trial import TrialState

    states = {trial.user_attrs.get(JOB): trial.state for trial in study.get_trials(deepcopy=False)}
    states.pop(None, None)
    ended = sum(state is not TrialState.RUNNING for state in states.values())
    return bool(ended >= study.user_attrs.get(JOBS, math.inf))


def _storage(directory: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(directory / STUDY), lock_obj=_Unlocked()))  # type: ignore[arg-type]


def _cut_torn(path: Path) -> None:
    """Remove a torn last line: what is appended to it would be lost with it."""
    if not path.exists():
        return
    files.refuse_irregular(path)
    with path.open("rb+") as stream:
        content = stream.read()
        stream.truncate(content.rfind(b"\n") + 1)
