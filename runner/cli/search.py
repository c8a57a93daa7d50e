"""A search: Optuna chooses values, Hydra's launcher runs jobs with them, and the study on disk keeps their results."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import math
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from .. import config as cfg
from .. import runs
from ..config import store
from ..config.keys import expanded
from ..errors import ConfigError, install_extra
from ..metrics.names import monitored
from ..runs import study as studies
from ..runs import sweep
from ..runs.early_stopping import STOPPED_EARLY, Reading
from ..runs.journal import latest
from ..runs.study import JOB, JOBS, MINUTES, ORIGIN, SECONDS
from . import engines, spaces, warm_start

#: Attributes of a study: its space, its goals, and when the running command started.
SPACE, GOALS, SINCE = "space", "goals", "since"
#: Events that prove a job alive: those that only its own worker adds.
SIGNS = ("metrics", "checkpoint")
#: Most reasons shown for leaving out jobs of an earlier sweep.
REASONS = 5


def run(composed: Any, launcher: Any, arguments: list[str]) -> None:
    """Run a search until its trials or its minutes are used up, or until it is stopped.

    `composed`: the config of all that is not varied; `arguments`: the overrides of the command. Errors: ConfigError if
    the space or goals differ from those of the study in the folder, Damaged.
    """
    settings: Any = OmegaConf.to_object(composed.sweep)
    space, fixed = spaces.read(settings.optuna.space, arguments)
    search = Search(Path(str(composed.hydra.sweep.dir)), settings, store.train_of(composed), space, fixed)
    search.begin_with(composed)
    search.run(launcher, engines.side_by_side(composed.hydra.launcher, settings.optuna.parallel))


class Search:
    """A search in the folder of its sweep."""

    def __init__(
        self, directory: Path, settings: cfg.Sweep, train: cfg.Train, space: spaces.Space, fixed: list[str]
    ) -> None:
        """Open the study. `fixed`: overrides that all jobs have. Errors: as in `run`."""
        assert settings.optuna
        self.directory, self.settings, self.options = directory, settings, settings.optuna
        self.space, self.fixed = space, fixed
        self.metric = f"val/{monitored(train.monitor)}"
        directions = spaces.directions(train, self.options.minimize)
        if not (directory / sweep.STUDY).exists() and sweep.jobs(directory):
            raise ConfigError(
                f"{directory} has jobs and no {sweep.STUDY}: an earlier version searched there, or it was removed. "
                "Choose another name (name=NAME) or folder (hydra.sweep.dir=DIR)."
            )
        self.study = studies.create(directory, directions)
        goals = [self.metric, *(cost.name for cost in self.options.minimize)]
        known_directions = [one.name.lower() for one in self.study.directions]
        if known_directions != directions or self.study.user_attrs.get(GOALS, goals) != goals:
            raise ConfigError(
                f"The search in {directory} has other goals. Repeat its train.monitor and sweep.optuna.minimize."
            )
        if self.study.user_attrs.get(SPACE, spaces.to_json(space)) != spaces.to_json(space):
            raise ConfigError(
                f"The search in {directory} has another space. Repeat its sweep.optuna.space, or choose another name "
                "(name=NAME) and begin with what it found: sweep.warm_start=[DIR]"
            )
        own = {SPACE: spaces.to_json(space), GOALS: goals, MINUTES: settings.max_minutes, JOBS: self._most()}
        for name, value in own.items():
            self.study.set_user_attr(name, value)
        self._count_time_of_a_killed_command()

    def begin_with(self, composed: Any) -> None:
        """Add the results of earlier sweeps to the study, each once, and say how many. Errors: ConfigError."""
        origins = {trial.user_attrs.get(ORIGIN) for trial in self.study.get_trials(deepcopy=False)}
        for text in self.settings.warm_start:
            folder = Path(expanded(text))
            earlier = warm_start.trials(folder, composed, self.options, self.space)
            for trial in earlier.trials:
                if trial.user_attrs[ORIGIN] not in origins:
                    self.study.add_trial(trial)
                    origins.add(trial.user_attrs[ORIGIN])
            why = "; ".join(f"{count} ({reason})" for reason, count in earlier.left_out.most_common(REASONS))
            others = ", ".join(f"{key} ({count})" for key, count in earlier.differing.most_common(REASONS))
            print(
                f"{folder}: the search begins with {len(earlier.trials)} of its jobs"
                f"{f'. Left out: {why}' if why else ''}{f'. They differ from it in: {others}' if others else ''}"
            )

    def run(self, launcher: Any, side_by_side: int) -> None:
        """Choose and launch jobs and record their results until the search is complete.

        `side_by_side`: how many jobs the launcher runs at a time; with `sweep.max_minutes` it is given no more, since
        all that it is given begin. Errors: at the end the first defect that a job raised, as in Hydra's own sweepers;
        no user errors.
        """
        size = self.options.parallel if self.settings.max_minutes is None else side_by_side
        if (points := self._points()) and points > self.options.trials:
            print(
                f"sweep.optuna.sampler=grid: {points - self.options.trials} of {points} points are left out. All of "
                f"them: sweep.optuna.trials={points}"
            )
        defects: list[Exception] = []
        unfinished = self._unfinished()
        while batch := self._next(unfinished):
            unfinished = unfinished[len(batch) :]
            # Those that time leaves out stay in the study, for a command with more of it.
            while batch and not self._has_ended:
                defects += self._launch(launcher, batch[:size])
                batch = batch[size:]
        if defects:
            raise defects[0]

    def _launch(self, launcher: Any, batch: Sequence[Any]) -> list[Exception]:
        """Run the jobs of some trials and record their results. Returns the defects that they raised."""
        defects: list[Exception] = []
        with self._clocked():
            for group in _consecutive(batch):
                jobs = [[*spaces.overrides(trial.params), *self.fixed] for trial in group]
                defects += _defects(launcher.launch(jobs, initial_job_idx=_job(group[0])))
        for trial in batch:
            self._tell(trial)
        return defects

    def _next(self, unfinished: Sequence[Any]) -> list[Any]:
        """The next trials to run concurrently; none at the end."""
        if self._has_ended:
            return []
        if unfinished:
            return list(unfinished[: self.options.parallel])
        jobs = len({_job(trial) for trial in self.study.get_trials(deepcopy=False)} - {None})
        return [self._ask(jobs + place) for place in range(min(self.options.parallel, self._most() - jobs))]

    @property
    def _has_ended(self) -> bool:
        """Whether no further job may begin: the command was asked to stop, or the minutes are used up."""
        return sweep.asked_to_stop(self.directory) != 0 or studies.used_up(self.study) is not None

    def _points(self) -> int | None:
        """How many points the grid has; None for other samplers."""
        if self.options.sampler is not cfg.SearchSampler.grid:
            return None
        return math.prod(len(one.points() or []) for one in self.space.values())

    def _most(self) -> int:
        return min(self.options.trials, self._points() or self.options.trials)

    def _ask(self, job: int) -> Any:
        """A new trial, with its number and its values in the study."""
        self.study.sampler = sampler(self.options, job, self.space)
        trial = self.study.ask()
        trial.set_user_attr(JOB, job)
        return self._complete(trial)

    def _complete(self, trial: Any) -> Any:
        """The trial with a value for every key: a kill may have left some unset."""
        for name, dimension in self.space.items():
            dimension.choose(trial, name)
        return trial

    def _unfinished(self) -> list[Any]:
        """Trials of earlier commands that did not end, or failed, in the order of their jobs.

        A failed trial is added again, since a study never changes a finished trial. So is one that was pruned, if
        `sweep.pruner` is now none.
        """
        import optuna
        from optuna.trial import TrialState, create_trial

        repeated = {TrialState.FAIL} | ({TrialState.PRUNED} if self.settings.pruner is cfg.Pruner.none else set())
        last = {}
        for trial in self.study.get_trials(deepcopy=False):
            if (job := _job(trial)) is not None:
                last[job] = trial
            elif trial.state is TrialState.RUNNING:
                # Killed before its job was created.
                self.study.tell(trial.number, state=TrialState.FAIL)
        unfinished = []
        for job, trial in sorted(last.items()):
            if trial.state in repeated:
                again = create_trial(
                    state=TrialState.RUNNING, params=trial.params, distributions=trial.distributions,
                    user_attrs=trial.user_attrs, system_attrs=trial.system_attrs,
                )  # fmt: skip
                self.study.add_trial(again)
                trial = self.study.get_trials(deepcopy=False)[-1]
            if trial.state is TrialState.RUNNING:
                self.study.sampler = sampler(self.options, job, self.space)
                unfinished.append(self._complete(optuna.Trial(self.study, trial._trial_id)))
        return unfinished

    def _tell(self, trial: Any) -> None:
        """Record the result of a job; not of a stopped one, which continues when the search is resumed."""
        from optuna.trial import TrialState

        folder = sweep.of_number(self.directory, _job(trial) or 0)
        state = runs.state(folder) if folder else None
        if state and state.status == "FINISHED" and state.result:
            try:
                self.study.tell(trial, spaces.values(self.options, state.result))
                return
            except spaces.Unfit as reason:
                print(f"Job {_job(trial)} finished, but counts as a failed trial: {reason}")
        elif state and state.status == STOPPED_EARLY and folder:
            for number, score in enumerate(Reading(folder, self.metric).in_order(), 1):
                trial.report(score, number)
            self.study.tell(trial, state=TrialState.PRUNED)
            return
        elif sweep.asked_to_stop(self.directory):
            return
        self.study.tell(trial, state=TrialState.FAIL)

    @contextlib.contextmanager
    def _clocked(self) -> Iterator[None]:
        """Count time within the context towards `sweep.max_minutes`."""
        self.study.set_user_attr(SINCE, time.time())
        try:
            yield
        finally:
            self._add_seconds(time.time())

    def _count_time_of_a_killed_command(self) -> None:
        """Add the time of a command that was killed, until the last sign of life of one of its jobs."""
        since = self.study.user_attrs.get(SINCE)
        if since:
            # Events that others add after the end of a job do not count.
            signs = [next(latest(job, SIGNS), {"time": since})["time"] for job in sweep.jobs(self.directory)]
            self._add_seconds(max([since, *signs]))

    def _add_seconds(self, until: float) -> None:
        attributes = self.study.user_attrs
        self.study.set_user_attr(SECONDS, attributes.get(SECONDS, 0.0) + max(0.0, until - attributes[SINCE]))
        self.study.set_user_attr(SINCE, 0.0)


def sampler(options: cfg.Optuna, job: int, space: spaces.Space) -> Any:
    """The sampler of a job: a function of the seed, the job's number and the results so far.

    A resumed search with one generator for all its jobs would draw the first numbers again.
    """
    from optuna import samplers

    seed = (options.seed * 1_000_003 + job) % 2**32
    match options.sampler:
        case cfg.SearchSampler.tpe:
            # Jobs that run at the same time should not try the same values.
            return samplers.TPESampler(seed=seed, constant_liar=options.parallel > 1)
        case cfg.SearchSampler.qmc:
            return samplers.QMCSampler(
                seed=options.seed, scramble=True, independent_sampler=samplers.RandomSampler(seed=seed)
            )
        case cfg.SearchSampler.cmaes:
            return samplers.CmaEsSampler(seed=seed)
        case cfg.SearchSampler.nsgaii:
            return samplers.NSGAIISampler(seed=seed, population_size=max(4, min(50, options.trials // 4)))
        case cfg.SearchSampler.random:
            return samplers.RandomSampler(seed=seed)
        case cfg.SearchSampler.grid:
            points = itertools.product(*(one.points() or [] for one in space.values()))
            point = dict(zip(space, next(itertools.islice(points, job, None)), strict=True))
            return samplers.PartialFixedSampler(point, samplers.RandomSampler(seed=seed))


def _defects(returns: Iterable[Any]) -> Iterator[Exception]:
    """The exceptions in jobs' `hydra.core.utils.JobReturn`; each traceback is shown at once."""
    for one in returns:
        try:
            one.return_value  # noqa: B018
        except Exception as error:
            traceback.print_exception(error)
            yield error


def _job(trial: Any) -> int | None:
    """The number of a trial's job; None for a trial that an earlier sweep ran."""
    return trial.user_attrs.get(JOB)


def _consecutive(trials: Sequence[Any]) -> Iterator[list[Any]]:
    """Trials in groups with consecutive job numbers, as launchers number the jobs of one call."""
    for _, group in itertools.groupby(enumerate(trials), key=lambda pair: (_job(pair[1]) or 0) - pair[0]):
        yield [trial for _, trial in group]


def require_packages() -> None:
    """Errors: ConfigError naming the extra that searches need."""
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("+sweep/optuna=… needs a package that is not installed: " + install_extra("sweep"))
