"""The verdict on several runs: which is best and why, and which is cheaper but not measurably worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..metrics import Goal, Metric
from ..terminal import counted
from . import costs, ranking, repeats, subject
from .subject import Run

#: Fraction of the best run's cost below which another one counts as cheaper; smaller savings are noise or not worth it.
WORTH = 0.9
#: The costs that a cheaper run is recommended for, in words.
NAMED = {costs.LATENCY: "latency", costs.SIZE: "bytes", costs.MACS: "MACs"}


@dataclass
class Verdict:
    """The best run and the sentences that say why."""

    best: Run
    reasons: list[str] = field(default_factory=list)
    configurations: list[repeats.Configuration] = field(default_factory=list)
    """Runs that differ only in seed and fold, the best first; empty if there are none."""
    cheaper: Run | None = None
    """The fastest run (or else that of the fewest MACs) within one standard error of the best, if that is another one
    and no further run beats it."""


def of(subjects: Sequence[Run]) -> Verdict | None:
    """The verdict on some runs; None if none is the best, for which `ranking.of` has the reason."""
    order = ranking.of(subjects).ranked
    if not order:
        return None
    configurations = repeats.of(subjects)
    if configurations:
        # One lucky seed means little: the best run is one of the best configuration.
        chosen = configurations[0].run
        order = [chosen, *(run for run in order if run is not chosen)]
    verdict = Verdict(order[0], configurations=configurations)
    # What decided between runs says nothing of a single one.
    decisive = repeats.sentences(configurations) or [_first(order) for _ in order[1:2]]
    verdict.reasons = [*decisive, *_on_test(order), *_front(order)]
    verdict.cheaper = _cheaper(order)
    if verdict.cheaper:
        verdict.reasons.append(_saving(order, verdict.cheaper))
    return verdict


def _first(order: Sequence[Run]) -> str:
    best = order[0]
    assert best.result
    sentence = f"{best.decided_by} is {best.monitored:.4f}"
    extreme, ahead = "lowest" if best.goal is Goal.min else "highest", best.score - order[1].score
    behind = f"{ahead:.4f} better than run {order[1].label}"
    if ahead == 0:
        equal = [run for run in order[1:] if run.score == best.score]
        behind = f"as good as {_runs([run.label for run in equal])}, {_behind(best, equal)}"
    return f"{sentence}, the {extreme} of {len(order)} finished runs and {behind}."


def _behind(best: Run, equal: Sequence[Run]) -> str:
    """Why other runs of the same value are not the best."""
    dearer = sum(any(ranking.beats(other, run) for other in (best, *equal)) for run in equal)
    cost = "costs" if len(equal) == 1 else "cost"
    if dearer == len(equal):
        return f"which {cost} more"
    return f"which {cost} more or came later" if dearer else "which came later"


def _on_test(order: Sequence[Run]) -> list[str]:
    """The best run's test results, in the monitored metric and in the headline."""
    decisive = subject.compared_by(order)
    return [
        sentence
        for metric in dict.fromkeys((decisive, subject.headline_in(order)))
        if (sentence := _proportion_on_test(order, metric) if metric.is_proportion else _number_on_test(order, metric))
    ]


def _proportion_on_test(order: Sequence[Run], metric: Metric) -> str:
    best, name = order[0], metric.name
    value, error = best.final[name], best.error_of(best.final[name], "test")
    if error is None:
        return ""
    sentence = (
        f"Test {metric.title} is {value:.4f} ± {error:.4f} "
        f"(standard error of {counted(best.profile['test'], 'image')}); no choice was based on it."
    )
    above = max(order, key=lambda run: run.final[name])
    if above.final[name] > value:
        both = math.hypot(error, above.error_of(above.final[name], "test") or 0)
        sentence += (
            f" Run {above.label} has {above.final[name]:.4f}: "
            f"{(above.final[name] - value) / both:.1f} standard errors of the difference more."
        )
    return sentence


def _number_on_test(order: Sequence[Run], metric: Metric) -> str:
    best, above = order[0], max(order, key=lambda run: _score(run, metric))
    sentence = f"Test {metric.title} is {best.final[metric.name]:.4f}; no choice was based on it."
    if _score(above, metric) > _score(best, metric):
        sentence += f" Run {above.label} has {above.final[metric.name]:.4f}."
    return sentence


def _score(run: Run, metric: Metric) -> float:
    """A final metric, negated if lower is better."""
    return _signed(float(run.final.get(metric.name, math.nan)), metric)


def _signed(value: float, metric: Metric) -> float:
    return -value if metric.goal is Goal.min else value


def _front(order: Sequence[Run]) -> list[str]:
    """The Pareto fronts, deciding test metric against each cost, that the best run is on."""
    best, title, on = order[0], subject.compared_by(order).title, []
    for column in (costs.LATENCY, costs.SIZE, costs.MACS):
        points = pareto_points(order, column)
        if best.label in points and best.label in front_of(points, order, column):
            on.append(column.heading)
    if len(order) == 1:
        return []
    if not on:
        return [f"It is on no Pareto front of test {title} against a cost: others are better and cheaper there."]
    return [f"It is on the Pareto front of test {title} against {_and(on)}."]


def pareto_points(subjects: Sequence[Run], column: costs.Column) -> dict[str, tuple[float, float]]:
    """Label → (deciding metric, higher is better; negated cost) of the finished runs that have the cost."""
    metric = subject.compared_by(subjects)
    values = {run.label: (run, column.value(run.final)) for run in subjects if run.finished}
    return {
        label: (_signed(reached(run, metric, column), metric), -value)
        for label, (run, value) in values.items() if value is not None
    }  # fmt: skip


def reached(run: Run, metric: Metric, column: costs.Column) -> float:
    """A final metric; beside bytes or latency, which are of the recommended file, that of the file if it is known."""
    return float(run.final.get(_reached_name(run, metric, column), math.nan))


def reached_title(runs: Sequence[Run], metric: Metric, column: costs.Column) -> str:
    """What `reached` is of these runs, for the axis of a chart."""
    is_of_file = any(_reached_name(run, metric, column) != metric.name for run in runs)
    return f"test {metric.title}" + (" of the file" if is_of_file else "")


def _reached_name(run: Run, metric: Metric, column: costs.Column) -> str:
    of_file = f"exported_{metric.name}"
    return of_file if column in (costs.SIZE, costs.LATENCY) and of_file in run.final else metric.name


def front_of(points: dict[str, tuple[float, float]], runs: Sequence[Run], column: costs.Column) -> list[str]:
    """Labels of the points that none beats by more than noise."""
    return costs.front(points, [0, column.noise_in(run.final for run in runs)])


def _cheaper(order: Sequence[Run]) -> Run | None:
    best = order[0]
    assert best.result
    split = "val" if best.result.best is not None else "test"
    if not best.metric.is_proportion or not 0 <= best.monitored <= 1:
        return None
    error = best.error_of(best.monitored, split)
    if error is None:
        return None
    column = _sought(order)
    good = [run for run in order if run.score >= best.score - error and column.name in run.final]
    if best not in good:
        return None
    # As fast within noise, a smaller or better one is the one to have.
    finals, scores = [run.final for run in good], [run.score for run in good]
    kept = costs.undominated(finals, {one: one.noise_in(finals) for one in NAMED}, scores)
    cheapest = min((good[number] for number in kept), key=lambda run: run.final[column.name])
    worth = min(WORTH, 1 - column.noise_in(run.final for run in order))
    return cheapest if cheapest.final[column.name] <= worth * best.final[column.name] else None


def _sought(order: Sequence[Run]) -> costs.Column:
    """The cost that a cheaper run has to have less of."""
    return costs.LATENCY if all(costs.LATENCY.name in run.final for run in order) else costs.MACS


def _saving(order: Sequence[Run], other: Run) -> str:
    """What a cheaper run saves, and what it does not."""
    best, sought = order[0], _sought(order)
    less: list[str] = []
    more: list[str] = []
    for column, what in NAMED.items():
        if best.final.get(column.name) and other.final.get(column.name):
            ratio = other.final[column.name] / best.final[column.name]
            if ratio <= WORTH:
                less.append(f"{ratio:.2f} × the {what}")
            elif round(ratio, 2) > 1:
                more.append(f"{ratio:.2f} × the {what}")
    but = f", but {_and(more)}" if more else ""
    return (
        f"Run {other.label} is within one standard error of it ({other.monitored:.4f}) and needs {_and(less)}{but}: "
        f"the one to deploy where the {NAMED[sought]} count{'s' * (sought is costs.LATENCY)}."
    )


def _runs(labels: Sequence[str]) -> str:
    return f"run {labels[0]}" if len(labels) == 1 else f"runs {_and(labels)}"


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
