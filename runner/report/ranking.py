"""The order of finished runs, and what forbids one: values that are compared have to be of one metric and one data
set."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from ..runs import compared
from ..terminal import counted
from . import costs
from .subject import Run

#: Costs that decide between runs of equal values, which two measurements agree on, with what counts as equal.
DECISIVE = {column: column.noise for column in (costs.SIZE, costs.MACS)}


@dataclass(frozen=True)
class Ranking:
    """Finished runs in the order in which they are listed."""

    order: list[Run]
    """All of them: the best first, of equal ones the earlier, those whose value is not a number last; as they came
    where they cannot be ranked. Of several that are equally good the first is one that no other is smaller than."""
    ranked: list[Run]
    """Those that can be the best, the best first."""
    obstacle: str = ""
    """Why none is the best, as a sentence; empty if there is one, or if no run has finished."""


def of(subjects: Sequence[Run]) -> Ranking:
    """The ranking of the finished ones among some runs."""
    finished = [run for run in subjects if run.finished]
    if reason := _difference(finished):
        return Ranking(finished, [], reason)
    order = sorted(finished, key=lambda run: (math.isnan(run.score), -run.score))
    ranked = [run for run in order if not math.isnan(run.score)]
    if ranked:
        first = _cheapest([run for run in ranked if run.score == ranked[0].score])
        order, ranked = ([first, *(run for run in runs if run is not first)] for runs in (order, ranked))
    if order and not ranked:
        return Ranking(order, [], f"No run is the best: {order[0].decided_by} was never a number.")
    return Ranking(order, ranked)


def beats(one: Run, other: Run) -> bool:
    """Whether a run of the same value has a smaller file or fewer MACs than another, and more of neither."""
    return costs.undominated([one.final, other.final], DECISIVE) == [0]


def _cheapest(equal: Sequence[Run]) -> Run:
    """The first of some equally good runs that no other one costs less than."""
    return equal[costs.undominated([run.final for run in equal], DECISIVE)[0]]


def _difference(finished: Sequence[Run]) -> str:
    """Why the values of some runs do not compare; empty if they do."""
    if monitors := _differing({run.label: _monitor(run) for run in finished}):
        return f"No run is the best: what decided differs, {monitors}."
    is_other = _compare_other_images(finished)
    sets = _differing({run.label: _data(run) for run in finished})
    if sets and (is_other or not all(map(_digest, finished))):
        return f"No run is the best: their data differ, {sets}."
    return "No run is the best: the images that decided differ." if is_other else ""


def _compare_other_images(finished: Sequence[Run]) -> bool:
    """Whether the values of some runs are of other images, and not as repeats of configurations on the same ones."""
    of_repeat: dict[Hashable, set[str]] = {}
    of_configuration: dict[Hashable, set[str]] = {}
    for run in finished:
        if digest := _digest(run):
            of_repeat.setdefault(_repeat(run), set()).add(digest)
            of_configuration.setdefault(run.varied, set()).add(digest)
    if any(len(digests) > 1 for digests in of_repeat.values()):
        return True
    # Configurations are compared on the images that they share; one that shares none with another is on its own.
    linked, *others = of_configuration.values() or [set[str]()]
    while near := [digests for digests in others if digests & linked]:
        others = [digests for digests in others if not digests & linked]
        linked = linked.union(*near)
    return bool(others)


def _differing(texts: Mapping[str, str]) -> str:
    """The texts that runs have, by label, if there are several; those that are empty are unknown."""
    labels: dict[str, list[str]] = {}
    for label, text in texts.items():
        labels.setdefault(text, []).append(label)
    labels.pop("", None)
    return "; ".join(f"{text} (run {', '.join(some)})" for text, some in labels.items()) if len(labels) > 1 else ""


def _monitor(run: Run) -> str:
    """What decided, with its direction where that is not the metric's own."""
    return run.decided_by if run.goal is run.metric.goal else f"{run.decided_by} with train.goal={run.goal.name}"


def _data(run: Run) -> str:
    """How large the data set of a run is, whatever the splits; empty if its journal does not say it.

    It is all that is known of journals without digests.
    """
    counts = dict(run.profile)
    classes = counts.pop("classes", 0)
    return f"{counted(sum(counts.values()), 'image')} of {counted(classes, 'class', 'classes')}" if counts else ""


def _repeat(run: Run) -> Hashable:
    """What chose the images that were held out."""
    if run.config is None:
        return None
    data = run.config.data
    return data.folds, data.fold, data.split_seed


def _digest(run: Run) -> str:
    """What identifies the images of the value that decided; empty if the journal does not say it."""
    assert run.result
    return compared.split_digest(run.dataset, "test" if run.result.best is None else "val")
