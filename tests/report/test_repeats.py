"""Runs that differ in seed and fold alone are one configuration."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from runner import config as cfg
from runner import runs
from runner.cli import end_of_sweep
from runner.report import costs, page, repeats, subject, verdict
from runner.runs.journal import SWEEP
from runner.runs.result import Result


def run(folder, label, score, own, seed=0, fold=None, goal=cfg.Goal.max, monitor="val/student/top1", **final):
    """A run that finished with this monitored value, whose test value is 0.1 lower."""
    data = cfg.Synthetic(folds=fold if fold is None else 3, fold=fold or 0)
    config = cfg.Config(train=cfg.Train(goal=goal, seed=seed), data=data)
    overrides = [*own, f"train.seed={seed}", *([] if fold is None else [f"data.fold={fold}"])]
    final = {"top1": score - 0.1, "params": 3.0, "macs": 1e6, **final}
    result = Result(final=final, test={}, monitor=monitor, best=score, seconds=1.0)
    state = runs.State("FINISHED", "", 0, 10, result)
    return subject.Run(str(label), f"run {label}", folder / str(label), state, config, overrides, dict(final))


def a_sweep(folder, means, seeds=(1, 2, 3, 4, 5), spread=0.002, **keys):
    """A sweep over seeds of configurations with these means."""
    noise = np.random.default_rng(0).normal(0, spread, (len(means), len(seeds)))
    found = [
        run(folder, row * len(seeds) + column, mean + noise[row, column], [f"optimizer.lr={row}"], seed, **keys)
        for row, mean in enumerate(means)
        for column, seed in enumerate(seeds)
    ]
    return subject.labelled(found)


def test_means_and_sample_deviations_are_of_each_configuration(tmp_path):
    values = {1: 0.9, 2: 0.92, 3: 0.94}
    found = [run(tmp_path, seed, value, ["optimizer.lr=1"], seed) for seed, value in values.items()]
    found += [run(tmp_path, 3 + seed, value - 0.2, ["optimizer.lr=2"], seed) for seed, value in values.items()]
    best, other = repeats.of(subject.labelled(found))
    assert best.own == ["optimizer.lr=1"]
    assert best.text() == "0.9200 ± 0.0200"
    assert best.text("top1") == "0.8200 ± 0.0200"
    assert other.verdict == repeats.WORSE
    # As results that count 50 images.
    assert other.interval == "-0.2000 (-0.2203 … -0.1797)"


def test_differences_are_told_from_noise_in_the_sentences_of_the_verdict(tmp_path):
    decided = verdict.of(a_sweep(tmp_path, [0.9, 0.9005, 0.8]))
    assert [one.verdict for one in decided.configurations] == [repeats.BEST, repeats.EQUAL, repeats.WORSE]
    assert decided.best in decided.configurations[0].runs
    assert any(reason == "Worse by more than noise: optimizer.lr=2." for reason in decided.reasons)
    assert any(reason.startswith("The difference from it is noise: optimizer.lr=") for reason in decided.reasons)


def test_one_lucky_seed_is_not_the_best(tmp_path):
    good = [run(tmp_path, seed, 0.9, ["optimizer.lr=1"], seed) for seed in (1, 2, 3)]
    lucky = [run(tmp_path, 3 + seed, 0.95 if seed == 1 else 0.5, ["optimizer.lr=2"], seed) for seed in (1, 2, 3)]
    decided = verdict.of(subject.labelled([*good, *lucky]))
    assert decided.best in good
    lines = end_of_sweep.best(subject.labelled([*good, *lucky]))
    assert lines[-1].startswith("Best     1, of the best configuration")


def test_a_front_leaves_out_runs_without_its_costs_and_names_them(tmp_path):
    def of(values):
        found = [
            run(tmp_path, number, score, [f"x={number}"], **({} if size is None else {"size_mb": size}))
            for number, (score, size) in enumerate(values)
        ]
        search = cfg.Optuna(minimize=[cfg.Cost.size_mb, cfg.Cost.macs])
        for one in found:
            one.config.sweep = cfg.Sweep(optuna=search)
        return end_of_sweep.best(found)

    assert of([(0.9, None), (0.8, 2.0), (0.7, 3.0), (0.6, 1.0)]) == [
        "Pareto   none is better in val/student/top1 and size_mb, macs at once: 1, 3",
        "Pareto   without size_mb or macs, and left out: 0",
    ]
    assert of([(0.9, None), (0.8, None)]) == ["Pareto   without size_mb or macs, and left out: 0, 1"]


def test_a_run_that_was_resumed_is_of_the_configuration_of_the_others(tmp_path):
    found = [run(tmp_path, seed, 0.9, ["loss=focal", "optimizer.lr=1"], seed) for seed in (1, 2)]
    resumed = run(tmp_path, 3, 0.8, ["optimizer.lr=1", "loss=focal", "checkpoint.resume=auto"], 3)
    other = run(tmp_path, 4, 0.7, ["loss=focal", "optimizer.lr=1", "checkpoint.resume=outputs/a"], 1)
    one, from_another = repeats.of(subject.labelled([*found, resumed, other]))
    assert [each.label for each in one.runs] == ["1", "2", "3"]
    assert from_another.own == ["checkpoint.resume=outputs/a"]
    assert resumed.command == "python -m runner optimizer.lr=1 loss=focal train.seed=3"
    assert "checkpoint.resume=outputs/a" in other.command


def test_launches_are_told_apart_where_the_sweep_varies_them_and_only_there(tmp_path):
    words = ["launch.nproc_per_node=1", "launch.nproc_per_node=2"]
    found = [run(tmp_path, number, 0.9, [word, "launch.timeout_s=60"]) for number, word in enumerate(words)]
    assert [one.own for one in subject.labelled(found)] == [[], []]
    planned = {"id": "x", "overrides": [], "shared": [], "varied": ["launch.nproc_per_node"]}
    (tmp_path / SWEEP).write_text(json.dumps(planned))
    assert [one.own for one in subject.labelled(found)] == [[word] for word in words]
    assert found[1].command == "python -m runner launch.nproc_per_node=2 train.seed=0"


def test_folds_are_paired_as_seeds_are(tmp_path):
    found = [
        run(tmp_path, 10 * row + fold, 0.91237 - fold / 10.0037 - row / 100, [f"optimizer.lr={row}"], fold=fold)
        for row in range(2)
        for fold in range(3)
    ]
    best, other = repeats.of(subject.labelled(found))
    # The folds are of very different difficulty, and the difference is the same in all of them.
    assert other.verdict == repeats.WORSE
    assert other.difference.mean == pytest.approx(0.01)
    assert best.text() == "0.8124 ± 0.1000"


def test_where_less_is_better_the_lowest_mean_is_the_best(tmp_path):
    found = a_sweep(tmp_path, [0.5, 0.3], goal=cfg.Goal.min, monitor="val/student/loss", loss=0.4)
    best, other = repeats.of(found)
    assert best.own == ["optimizer.lr=1"]
    assert other.verdict == repeats.WORSE
    assert float(other.interval.split()[0]) == pytest.approx(0.2, abs=0.01)


def test_where_less_is_better_zero_turns_no_sign_round(tmp_path):
    found = [run(tmp_path, seed, value, ["a=1"], seed, goal=cfg.Goal.min) for seed, value in ((1, 0.1), (2, 0.11))]
    found += [run(tmp_path, 2 + seed, value, ["b=1"], seed, goal=cfg.Goal.min) for seed, value in ((1, 0.0), (2, 0.9))]
    best, other = repeats.of(subject.labelled(found))
    assert best.own == ["a=1"]
    # 0.45 is more than 0.105: worse, where less is better.
    assert other.interval.startswith("+0.3450")


def test_a_metric_that_is_not_a_number_for_some_seed_has_no_mean(tmp_path):
    found = [run(tmp_path, seed, 0.9, ["a=1"], seed, roc_auc=value) for seed, value in ((1, math.nan), (2, 0.5))]
    [only] = repeats.of(subject.labelled(found))
    assert only.text("roc_auc") == only.text("missing") == ""
    assert only.text() == "0.9000 ± 0.0000"


def test_without_repeats_and_with_other_monitors_nothing_is_grouped(tmp_path):
    assert repeats.of(a_sweep(tmp_path, [0.9, 0.8], seeds=(1,))) == []
    mixed = [*a_sweep(tmp_path, [0.9]), run(tmp_path, 9, 0.9, ["x=1"], 1, monitor="val/student/macro_f1")]
    assert repeats.of(mixed) == []


def test_the_page_its_markdown_and_the_terminal_have_the_configurations(tmp_path, capsys):
    found = a_sweep(tmp_path, [0.9, 0.8])
    for one in found:
        one.directory.mkdir()
    [html, markdown] = page.write(found, "Sweep", "python -m runner report", "", tmp_path / "page.html")
    assert 'id="configurations"' in html.read_text()
    assert "| `optimizer.lr=1`  | 5 |" in markdown.read_text()
    assert markdown.read_text().count("| worse |") == 1
    table = end_of_sweep._of_configurations(repeats.of(found), found)
    assert [cell.plain for cell in table.columns[-1].cells] == ["best", "worse"]


def test_what_trackers_are_told_is_the_same_for_each_run_of_a_configuration(tmp_path):
    told = repeats.tags(repeats.of(a_sweep(tmp_path, [0.9, 0.8])))
    assert len(told) == 10
    assert told[tmp_path / "0"]["configuration.verdict"] == "best"
    assert told[tmp_path / "9"]["configuration.verdict"] == "worse"
    assert told[tmp_path / "5"] == told[tmp_path / "9"]


def test_latencies_that_differ_by_less_than_was_measured_are_equal(tmp_path):
    slow = run(tmp_path, 0, 0.9, [], latency_ms_p50=1.0, latency_spread=0.2)
    fast = run(tmp_path, 1, 0.8, [], latency_ms_p50=0.85, latency_spread=0.2)
    assert verdict.front_of(verdict.pareto_points([slow, fast], costs.LATENCY), [slow, fast], costs.LATENCY) == ["0"]
    for one in (slow, fast):
        one.final["latency_spread"] = 0.01
    both = verdict.front_of(verdict.pareto_points([slow, fast], costs.LATENCY), [slow, fast], costs.LATENCY)
    assert both == ["0", "1"]


def test_of_many_runs_each_curve_has_few_points(tmp_path):
    [few] = subject.labelled([run(tmp_path, 0, 0.9, ["x=0"])])
    many = subject.labelled([run(tmp_path, number, 0.9, [f"x={number}"]) for number in range(1000)])
    assert few.points == 300
    assert many[0].points == 30
