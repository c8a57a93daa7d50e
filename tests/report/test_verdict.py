"""Which run is the best, why, and which one costs less."""

from __future__ import annotations

from runner import config as cfg
from runner import runs
from runner.report import costs, subject, verdict
from runner.runs.journal import Journal
from runner.runs.result import Result


def run(folder, label, best, top1, macs=1e6, images=100, goal=cfg.Goal.max, monitor="val/student/top1", **final):
    """A run that finished with these numbers."""
    directory = folder / str(label)
    directory.mkdir()
    profile = {"train": 1000, "val": images, "test": images}
    Journal(directory).append("dataset", name="digits", digest="", source="", profile=profile)
    numbers = {"top1": top1, "macs": macs, **final}
    result = {"final": numbers, "best": best, "monitor": monitor, "seconds": 1.0, "test": {}}
    config = cfg.Config(train=cfg.Train(goal=goal))
    state = runs.State("FINISHED", "", 0, 10, Result(**result))
    return subject.Run(str(label), f"run {label}", directory, state, config, [], dict(numbers))


def test_the_best_is_decided_by_the_monitored_metric_alone(tmp_path):
    found = [run(tmp_path, 0, 0.90, 0.99), run(tmp_path, 1, 0.95, 0.80), run(tmp_path, 2, 0.94, 0.85)]
    decided = verdict.of(found)
    assert decided.best.label == "1"
    assert "0.9500, the highest of 3 finished runs and 0.0100 better than run 2" in decided.reasons[0]
    # sqrt(p (1 - p) / 102) with p = 81 / 102, and the difference in units of both runs' errors together.
    assert "0.8000 ± 0.0400" in decided.reasons[1]
    assert "Run 0 has 0.9900: 4.5 standard errors of the difference more" in decided.reasons[1]


def test_of_equal_runs_the_earlier_is_the_best(tmp_path):
    decided = verdict.of([run(tmp_path, 0, 0.9, 0.9), run(tmp_path, 1, 0.95, 0.9), run(tmp_path, 2, 0.95, 0.95)])
    assert decided.best.label == "1"
    assert "as good as run 2, which came later" in decided.reasons[0]


def test_a_metric_that_should_fall_is_best_where_it_is_lowest(tmp_path):
    decided = verdict.of([run(tmp_path, n, value, 0.9, goal=cfg.Goal.min) for n, value in enumerate((0.3, 0.2, 0.4))])
    assert decided.best.label == "1"
    assert "lowest of 3" in decided.reasons[0]


def test_what_was_monitored_is_what_the_test_split_is_asked_for_and_what_is_set_against_costs(tmp_path):
    f1 = {"monitor": "val/student/macro_f1"}
    found = [run(tmp_path, 0, 0.8, 0.9, 2e6, **f1, macro_f1=0.7), run(tmp_path, 1, 0.7, 0.9, 1e6, **f1, macro_f1=0.75)]
    decided = verdict.of(found)
    assert decided.best.label == "0"
    assert "Test macro-F1 is 0.7000; no choice was based on it. Run 1 has 0.7500." in decided.reasons
    assert any(reason.startswith("Test top-1 is 0.9000 ± 0.0307") for reason in decided.reasons)
    assert "It is on no Pareto front of test macro-F1 against a cost: others are better and cheaper there." in (
        decided.reasons
    )
    # Its standard error is not that of a proportion.
    assert decided.cheaper is None


def test_runs_that_monitored_different_metrics_are_set_against_costs_by_the_headline(tmp_path):
    found = [run(tmp_path, 0, 0.8, 0.9), run(tmp_path, 1, 0.7, 0.9, monitor="val/student/macro_f1", macro_f1=0.75)]
    assert subject.compared_by(found).name == "top1"


def test_a_loss_is_the_better_the_lower_it_is_on_the_front_too(tmp_path):
    said = {"goal": cfg.Goal.min, "monitor": "val/student/loss"}
    found = [run(tmp_path, n, value, 0.9, 1e6 * (3 - n), loss=value, **said) for n, value in enumerate((0.1, 0.3, 0.2))]
    assert sorted(costs.front(verdict.pareto_points(found, costs.MACS))) == ["0", "2"]


def test_a_cheaper_run_within_one_standard_error_is_named(tmp_path):
    # One standard error of 0.90 on 100 images is 0.03.
    found = [run(tmp_path, 0, 0.90, 0.9), run(tmp_path, 1, 0.88, 0.9, 5e5), run(tmp_path, 2, 0.86, 0.9, 1e5)]
    decided = verdict.of(found)
    assert decided.cheaper.label == "1"
    assert "0.50 × the MACs" in decided.reasons[-1]


def test_a_run_that_is_hardly_cheaper_is_not(tmp_path):
    assert verdict.of([run(tmp_path, 0, 0.90, 0.9), run(tmp_path, 1, 0.89, 0.9, 9.5e5)]).cheaper is None


def test_without_a_finished_run_there_is_no_verdict(tmp_path):
    lost = subject.Run("0", "run 0", tmp_path, runs.State("FAILED", "diverged", 4, 3, None), None, [])
    assert verdict.of([lost]) is None


def test_nothing_on_the_pareto_front_is_beaten(tmp_path):
    found = [run(tmp_path, n, top1, top1, macs) for n, (top1, macs) in enumerate([(0.9, 3e6), (0.8, 1e6), (0.7, 2e6)])]
    assert sorted(costs.front(verdict.pareto_points(found, costs.MACS))) == ["0", "1"]


def test_latencies_within_noise_are_equal_on_the_front(tmp_path):
    points = {
        "exact": (0.95, -0.540),
        "faster by noise": (0.94, -0.536),
        "faster": (0.94, -0.30),
        "twin": (0.95, -0.545),
    }
    assert costs.front(points, [0, costs.LATENCY.noise]) == ["exact", "faster", "twin"]
    found = [
        run(tmp_path, n, top1, top1, latency_ms_p50=ms) for n, (top1, ms) in enumerate([(0.9, 0.54), (0.8, 0.536)])
    ]
    assert any("against ms/image" in reason for reason in verdict.of(found).reasons)
    assert costs.MACS.noise == 0
