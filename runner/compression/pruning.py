"""Pruning: removes filters of convolutions, at once or in several cuts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
from paddle import nn

from .. import config as cfg
from ..errors import ConfigError
from . import allocation, dependencies, importance, patterns, shapes, slim
from .allocation import Costs, Counts, Division
from .dependencies import Group
from .plan import Evidence, PruningPlan, grown
from .shapes import Kept

InputShape = tuple[int, int, int]
#: Shares of a single group's units at which accuracy is measured; shares of all groups' units at which latency is.
SHARES, TIMED_SHARES = (0.2, 0.4, 0.6, 0.8), (0.0, 0.25, 0.5, 0.75, 1.0)
#: The costs in a plan.
COUNTED = (cfg.Budget.macs, cfg.Budget.params, cfg.Budget.filters)
#: Factor applied to the MACs limit if a network is slower than requested; how often it is applied.
TIGHTER, TRIES = 0.92, 8


def prune(network: nn.Layer, settings: cfg.Pruning, input_shape: InputShape, evidence: Evidence) -> PruningPlan:
    """Remove filters at once, in place: to the budget or, with budget=filters and allocation=uniform, by each layer's
    ratio. Errors: as `begin` and `choose_cut`."""
    costs = _costs(network, settings, input_shape)
    plan = begin(network, settings, input_shape, evidence, costs)
    kept, done = choose_cut(network, settings, input_shape, evidence, plan, costs)
    shapes.cut(network, kept)
    return done


def begin(
    network: nn.Layer, settings: cfg.Pruning, input_shape: InputShape, evidence: Evidence, costs: Costs | None = None
) -> PruningPlan:
    """The plan of an unpruned network. Its latency is measured if that is the budget.

    The network is restored afterwards. Errors: ConfigError if nothing or not enough can be removed, and for a
    user-defined criterion that gives no scores.
    """
    costs = costs or _costs(network, settings, input_shape)
    groups = costs.groups
    if not groups:
        _refuse_nothing(network, settings, False)
    importance.check(network, groups, settings)
    counts = [group.units for group in groups]
    macs, params, all_filters = ((value, value) for value in (costs.of(one, counts) for one in COUNTED))
    plan = PruningPlan({}, macs, params, filters=all_filters)
    division = _division(groups, settings, plan, network, lambda counts: True)
    if _has_own_ratios(settings):
        if _own_ratios(division, settings, 1.0) == division.whole:
            _refuse_nothing(network, settings, bool(groups))
        return plan
    if division.least() == division.whole or not settings.ratio:
        _refuse_nothing(network, settings, bool(groups))
    if settings.budget is cfg.Budget.latency:
        plan.latency = _latency(network, division, costs, evidence)
    limit = _limit(settings, plan, 1.0)
    if (least := costs.of(settings.budget, division.least())) > limit:
        whole = _before(settings, plan)
        raise ConfigError(
            f"compression.prune.ratio={settings.ratio}: all that may be removed of {type(network).__name__} is "
            f"{1 - least / whole:.1%} of its {'MACs' if whole == plan.macs[0] else settings.budget.name}, and "
            f"budget={settings.budget.name} requires {1 - limit / whole:.1%}. Lower it, or skip fewer layers."
        )
    return plan


def choose_cut(
    network: nn.Layer,
    settings: cfg.Pruning,
    input_shape: InputShape,
    evidence: Evidence,
    plan: PruningPlan,
    costs: Costs | None = None,
    report: Callable[[str], None] | None = None,
) -> tuple[Kept, PruningPlan]:
    """The remaining channels of each parameter after the next cut, and the plan then; the network does not change.

    With budget=latency the network is as fast as requested after the last cut. If no cut makes it that fast, `report`
    is told so, and the smallest network counts. Errors: ConfigError without `report`; if the last cut would remove
    nothing; for a user-defined criterion that gives no scores.
    """
    costs = costs or _costs(network, settings, input_shape)
    groups = costs.groups
    scores = importance.of_units(network, groups, settings, evidence.batches, evidence.loss)
    ordered = [np.argsort(score, kind="stable") for score in scores]

    def without(counts: Sequence[int]) -> Kept:
        removed = [np.sort(order[: len(order) - left]) for order, left in zip(ordered, counts, strict=True)]
        return dependencies.kept(network, groups, removed)

    losses = functools.cache(lambda: _losses(network, groups, without, evidence))
    is_verified = settings.budget is cfg.Budget.latency and plan.cuts + 1 == settings.parts
    part = grown(settings, plan.cuts + 1)
    limit = 0.0 if _has_own_ratios(settings) else _limit(settings, plan, part)
    for _ in range(TRIES):
        fits = functools.partial(costs.are_within, settings.budget, limit)
        counts = _allocated(_division(groups, settings, plan, network, fits), settings, part, scores, losses)
        kept = without(counts)
        done = _after(network, costs, settings, plan, counts, kept)
        if not is_verified:
            return kept, done
        done.ms = before, after = _measured(network, kept, evidence, plan)
        if after <= (1 - settings.ratio) * before:
            return kept, done
        limit *= TIGHTER
    slow = (
        f"compression.prune.ratio={settings.ratio}: {type(network).__name__} is not that much faster here with "
        f"{done.macs[1] / done.macs[0]:.0%} of its MACs"
    )
    if report is None:
        raise ConfigError(f"{slow}. Lower it, or use budget=macs.")
    report(slow)
    return kept, done


def _after(
    network: nn.Layer, costs: Costs, settings: cfg.Pruning, plan: PruningPlan, counts: Counts, kept: Kept
) -> PruningPlan:
    """The plan after a cut that leaves these units. Errors: ConfigError where the last cut removes nothing."""
    groups, filters = costs.groups, shapes.channels(network)
    after = {name: len(kept.get(f"{name}.weight", {}).get(0, range(count))) for name, count in filters.items()}
    before = filters | {name: first for name, (first, _) in plan.channels.items()}
    channels = {name: (before[name], after[name]) for name in filters if before[name] != after[name]}
    if not channels and plan.cuts + 1 == settings.parts:
        _refuse_nothing(network, settings, bool(groups))
    free = {name for group in groups for name in group.members}
    whole = [name for name in filters if name not in channels and _is_wanted(name, before, settings, free)]
    macs, params, all_filters = (costs.of(one, counts) for one in COUNTED)
    return PruningPlan(
        channels, (plan.macs[0], macs), (plan.params[0], params), whole, (plan.filters[0], all_filters),
        plan.cuts + 1, plan.latency,
    )  # fmt: skip


def _costs(network: nn.Layer, settings: cfg.Pruning, input_shape: InputShape) -> Costs:
    """The costs of the groups that may lose filters. Errors: ConfigError where the criterion can score none."""
    if slim.fake_quantized(network):
        raise ConfigError(f"{type(network).__name__} is quantized, and pruning comes first: use compression=fpgm_qat.")
    groups = dependencies.find(network, input_shape)
    scored = [group for group in groups if importance.can_be_scored(network, group, settings)]
    if groups and not scored:
        raise ConfigError(
            f"compression.prune.criterion={settings.criterion}: no convolution of {type(network).__name__} has "
            "BatchNorm after it. Use criterion=fpgm, l1_norm or taylor."
        )
    unskipped = [group for group in scored if not any(patterns.matches(name, settings.skip) for name in group.members)]
    return Costs(network, unskipped, input_shape)


def _division(
    groups: list[Group], settings: cfg.Pruning, plan: PruningPlan, network: nn.Layer, fits: Callable[[Counts], bool]
) -> Division:
    filters = shapes.channels(network)
    first = [plan.channels.get(group.layers[0], (filters[group.layers[0]], 0))[0] for group in groups]
    before = [count // group.cuts[group.master].shape[1] for count, group in zip(first, groups, strict=True)]
    return Division(groups, before, settings.channel_multiple, fits)


def _allocated(
    division: Division,
    settings: cfg.Pruning,
    part: float,
    scores: list[np.ndarray],
    losses: Callable[[], list[dict[float, float]]],
) -> Counts:
    if _has_own_ratios(settings):
        return _own_ratios(division, settings, part)
    match settings.allocation:
        case cfg.Allocation.uniform:
            return allocation.uniform(division)
        case cfg.Allocation.ranking:
            return allocation.ranking(division, scores)
        case cfg.Allocation.sensitivity:
            return allocation.sensitivity(division, losses())


def _losses(
    network: nn.Layer, groups: list[Group], without: Callable[[Sequence[int]], Kept], evidence: Evidence
) -> list[dict[float, float]]:
    """For each group, share → fraction of the accuracy that is lost when it alone loses that share of its units."""
    whole = evidence.accuracy()
    curves: list[dict[float, float]] = []
    for place, group in enumerate(groups):
        curves.append({})
        for share in SHARES:
            counts = [one.units for one in groups]
            counts[place] = max(1, round((1 - share) * group.units))
            with dependencies.without(network, without(counts)):
                curves[-1][share] = (whole - evidence.accuracy()) / max(whole, 1e-9)
    return curves


def _before(settings: cfg.Pruning, plan: PruningPlan) -> int:
    """The original value of what the budget limits; MACs if it limits latency."""
    match settings.budget:
        case cfg.Budget.filters:
            return plan.filters[0]
        case cfg.Budget.params:
            return plan.params[0]
    return plan.macs[0]


def _limit(settings: cfg.Pruning, plan: PruningPlan, part: float) -> float:
    """How much may be left after this fraction of the reduction. Errors: ConfigError for a latency below the least
    measured one."""
    left = 1 - settings.ratio * part
    if settings.budget is not cfg.Budget.latency:
        return left * _before(settings, plan)
    macs, taken = (np.array(column, dtype=np.float64) for column in zip(*reversed(plan.latency), strict=True))
    if left * taken[-1] < taken[0]:
        raise ConfigError(
            f"compression.prune.ratio={settings.ratio}: one image takes {taken[-1]:.3g} ms here, and with all filters "
            f"removed that may be {taken[0]:.3g} ms. Lower it, or skip fewer layers."
        )
    return float(np.interp(left * taken[-1], taken, macs))


def _latency(network: nn.Layer, division: Division, costs: Costs, evidence: Evidence) -> list[tuple[int, float]]:
    """MACs and milliseconds of the network with decreasing numbers of filters; times are made monotone."""
    counts = [[division.left(place, share) for place in range(len(division.groups))] for share in TIMED_SHARES]
    engines = []
    for left in counts:
        # The time does not depend on which filters are removed.
        removed = [np.arange(count, group.units) for count, group in zip(left, division.groups, strict=True)]
        with dependencies.without(network, dependencies.kept(network, division.groups, removed)):
            engines.append(evidence.engine())
    taken = np.minimum.accumulate(evidence.medians(engines)).tolist()
    return [(costs.of(cfg.Budget.macs, left), time) for left, time in zip(counts, taken, strict=True)]


def _measured(network: nn.Layer, kept: Kept, evidence: Evidence, plan: PruningPlan) -> tuple[float, float]:
    """Milliseconds of one image before the first cut and without these filters.

    Both are measured now, since a machine's speed varies; the saving of earlier cuts is in the plan.
    """
    engines = [evidence.engine()]
    with dependencies.without(network, kept):
        engines.append(evidence.engine())
    before, after = evidence.medians(engines)
    macs, taken = (np.array(column, dtype=np.float64) for column in zip(*reversed(plan.latency), strict=True))
    return before * taken[-1] / float(np.interp(plan.macs[1], macs, taken)), after


def _has_own_ratios(settings: cfg.Pruning) -> bool:
    """Whether every layer loses its own ratio of filters, whatever that saves."""
    return settings.budget is cfg.Budget.filters and settings.allocation is cfg.Allocation.uniform


def _own_ratios(division: Division, settings: cfg.Pruning, part: float) -> Counts:
    """Every group loses the smallest ratio of its layers."""
    ratios = [min(_own_ratio(layer, settings) for layer in group.members) for group in division.groups]
    return [division.left(place, part * ratio) for place, ratio in enumerate(ratios)]


def _own_ratio(layer: str, settings: cfg.Pruning) -> float:
    ratio = settings.ratio
    for pattern, chosen in settings.ratios.items():
        if patterns.matches(layer, [pattern]):
            ratio = chosen
    return ratio


def _is_wanted(layer: str, filters: dict[str, int], settings: cfg.Pruning, free: set[str]) -> bool:
    """Whether a layer should lose filters, by its own ratio or that of all layers."""
    if patterns.matches(layer, settings.skip):
        return False
    if not _has_own_ratios(settings):
        return layer not in free
    multiple = settings.channel_multiple
    left = max(multiple, round((1 - _own_ratio(layer, settings)) * filters[layer] / multiple) * multiple)
    return _own_ratio(layer, settings) > 0 and left < filters[layer]


def _refuse_nothing(network: nn.Layer, settings: cfg.Pruning, can_be_pruned: bool) -> None:
    filters = shapes.channels(network)
    remedy = (
        f"Raise compression.prune.ratio (it is {settings.ratio}), lower compression.prune.channel_multiple (it is "
        f"{settings.channel_multiple}), or skip fewer layers."
    )
    if not filters:
        remedy = "Only convolutions are pruned. Use compression=none or qat."
    elif not can_be_pruned and not settings.skip:
        remedy = "Their channels are bound to what cannot be pruned, such as layer norms. Use compression=none or qat."
    raise ConfigError(
        f"compression.prune removes nothing from {type(network).__name__}: none of its {len(filters)} "
        f"convolutions loses a filter. {remedy}"
    )
