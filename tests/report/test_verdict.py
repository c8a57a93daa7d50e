"""Which run is the best, why, and which one costs less."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import config as cfg
from runner import runs
from runner.cli import end_of_sweep
from runner.report import costs, page, ranking, subject, verdict
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


def test_of_equal_runs_one_that_costs_less_is_the_best(tmp_path):
    found = [run(tmp_path, 0, 0.95, 0.9, size_mb=13.4), run(tmp_path, 1, 0.95, 0.9, size_mb=3.6)]
    decided = verdict.of(found)
    assert decided.best.label == "1"
    assert "as good as run 0, which costs more." in decided.reasons[0]
    assert [one.label for one in ranking.of(found).order] == ["1", "0"]
    assert end_of_sweep.best(found)[0].startswith("Best     1,")
    # What a third run costs less than did not come later.
    costs = ((2.0, 2e6), (1.0, 3e6), (1.5, 1e6))
    found = [run(tmp_path, 10 + one, 0.95, 0.9, size_mb=size, macs=macs) for one, (size, macs) in enumerate(costs)]
    assert "as good as runs 10 and 12, which cost more or came later" in verdict.of(found).reasons[0]
    # Names of other lengths in the file are no reason.
    found = [run(tmp_path, 2, 0.95, 0.9, size_mb=13.401), run(tmp_path, 3, 0.95, 0.9, size_mb=13.4)]
    assert "as good as run 3, which came later" in verdict.of(found).reasons[0]


@given(
    st.lists(
        st.tuples(*map(st.sampled_from, ((0.9, 0.89, 0.8), (1.0, 1.02, 2.0), (1.0, 4.0), (1e6, 2e6)))),
        min_size=2, max_size=6,
    )
)  # fmt: skip
def test_no_run_beats_what_is_recommended_in_all_that_is_named(places):
    found = []
    for number, (value, milliseconds, size, macs) in enumerate(places):
        final = {"top1": 0.5, "latency_ms_p50": milliseconds, "size_mb": size, "macs": macs}
        result = Result(final=final, best=value, monitor="val/student/top1", seconds=1.0, test={})
        one = subject.Run(
            str(number), "", Path(), runs.State("FINISHED", "", 0, 1, result), cfg.Config(), [], dict(final)
        )
        one._history = runs.history.History({}, {"profile": {"val": 100}})
        found.append(one)
    # 2 % of the time are noise; time is measured anew for each page, and says nothing about which one is the best.
    every = [(value, -round(milliseconds), -size, -macs) for value, milliseconds, size, macs in places]
    decided = verdict.of(found)
    assert not beaten([(one[0], *one[2:]) for one in every], int(decided.best.label))
    if decided.cheaper:
        assert not beaten(every, int(decided.cheaper.label))


def beaten(points, chosen):
    """Whether another point is at least as good in everything, and better in something."""
    mine = points[chosen]
    return any(one != mine and all(a >= b for a, b in zip(one, mine, strict=True)) for one in points)


def test_a_run_is_recommended_for_what_it_saves_alone(tmp_path):
    found = [
        run(tmp_path, 0, 0.90, 0.9, 4e6, latency_ms_p50=10.0, size_mb=3.6),
        run(tmp_path, 1, 0.88, 0.8, 1e6, latency_ms_p50=5.0, size_mb=13.4),
        # As fast but for noise, and worse.
        run(tmp_path, 2, 0.87, 0.9, 1e6, latency_ms_p50=4.9, size_mb=13.4),
    ]
    decided = verdict.of(found)
    assert decided.cheaper.label == "1"
    assert decided.reasons[-1].endswith(
        "needs 0.50 × the latency and 0.25 × the MACs, but 3.72 × the bytes: the one to deploy where the latency "
        "counts."
    )


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


def test_beside_the_bytes_of_a_file_stands_what_that_file_reaches(tmp_path):
    sizes = {"size_mb": 3.0, "exported_top1": 0.5}, {"size_mb": 6.0}
    found = [run(tmp_path, number, 0.9, 0.9, **values) for number, values in enumerate(sizes)]
    assert verdict.pareto_points(found, costs.SIZE) == {"0": (0.5, -3.0), "1": (0.9, -6.0)}
    assert {top1 for top1, _ in verdict.pareto_points(found, costs.MACS).values()} == {0.9}
    top1 = subject.compared_by(found)
    titles = [verdict.reached_title(found, top1, column) for column in (costs.SIZE, costs.LATENCY, costs.MACS)]
    assert titles == ["test top-1 of the file", "test top-1 of the file", "test top-1"]
    assert verdict.reached_title(found[1:], top1, costs.SIZE) == "test top-1"


def test_a_file_that_is_smaller_by_a_name_is_not_on_the_front(tmp_path):
    found = [run(tmp_path, 0, 0.9, 0.93, size_mb=1.2095), run(tmp_path, 1, 0.9, 0.9, size_mb=1.2088)]
    assert verdict.front_of(verdict.pareto_points(found, costs.SIZE), found, costs.SIZE) == ["0"]


def test_a_legend_has_the_keys_of_numbers_and_of_choices_the_values(tmp_path):
    one = run(tmp_path, 3, 0.9, 0.9)
    one.own = [
        "experiment=compress/ptq", "compression.quantize.adaround.enabled=true", "optimizer.lr=0.1", "tracking=none",
        "~mimic", "model@mode.teacher=resnet50",
    ]  # fmt: skip
    assert one.short.split(" ") == [
        "3:", "compress/ptq", "adaround.enabled=true", "optimizer.lr=0.1", "tracking=none", "~mimic",
        "model@mode.teacher=resnet50",
    ]  # fmt: skip
    one.own = []
    assert one.short == "3: run 3"


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


def test_what_was_never_a_number_comes_last_and_is_never_the_best(tmp_path):
    found = [run(tmp_path, n, value, 0.9) for n, value in enumerate((0.5, math.nan, 0.9, 0.7))]
    assert [one.label for one in ranking.of(found).order] == ["2", "3", "0", "1"]
    decided = verdict.of(found)
    assert decided.best.label == "2"
    assert "the highest of 3 finished runs and 0.2000 better than run 3" in decided.reasons[0]
    alone = [run(tmp_path, "alone", math.nan, 0.9)]
    assert verdict.of(alone) is None
    assert ranking.of(alone).obstacle == "No run is the best: val/student/top1 was never a number."


@given(st.lists(st.one_of(st.floats(allow_nan=True), st.just(0.0)), min_size=1, max_size=8), st.sampled_from(cfg.Goal))
def test_the_first_is_the_best_of_all_numbers_wherever_the_others_are(values, goal):
    result = {"final": {"top1": 0.5}, "monitor": "val/student/top1", "seconds": 1.0, "test": {}}
    config = cfg.Config(train=cfg.Train(goal=goal))
    found = [
        subject.Run(str(n), "", Path(), runs.State("FINISHED", "", 0, 1, Result(best=value, **result)), config, [])
        for n, value in enumerate(values)
    ]
    numbers = [value for value in values if not math.isnan(value)]
    ranked = ranking.of(found).ranked
    assert len(ranked) == len(numbers)
    if numbers:
        assert ranked[0].monitored == (min if goal is cfg.Goal.min else max)(numbers)


def test_where_less_is_better_zero_is_the_lowest(tmp_path):
    found = [run(tmp_path, n, value, 0.9, goal=cfg.Goal.min) for n, value in enumerate((0.0, 0.5))]
    assert "0.0000, the lowest of 2 finished runs and 0.5000 better than run 1" in verdict.of(found).reasons[0]


def test_of_runs_that_monitored_different_metrics_none_is_the_best(tmp_path, capsys):
    loss = {"goal": cfg.Goal.min, "monitor": "val/student/loss"}
    found = [run(tmp_path, 0, 0.02, 0.5, loss=0.02, **loss), run(tmp_path, 1, 0.99, 0.99), run(tmp_path, 2, 0.9, 0.9)]
    assert verdict.of(found) is None
    why = "No run is the best: what decided differs, val/student/loss (run 0); val/student/top1 (run 1, 2)."
    assert ranking.of(found).obstacle == why
    assert end_of_sweep.best(found) == [f"Best     {why}"]
    for one in page.write(found, "Runs", "", "", tmp_path / "page.html"):
        assert "what decided differs" in one.read_text()
    assert verdict.of(found[1:]).best.label == "1"


def test_a_goal_that_is_not_the_metrics_own_is_another_one(tmp_path):
    found = [run(tmp_path, 0, 0.5, 0.9), run(tmp_path, 1, 0.9, 0.9, goal=cfg.Goal.min)]
    assert "val/student/top1 with train.goal=min (run 1)" in ranking.of(found).obstacle


def test_of_runs_on_different_data_none_is_the_best(tmp_path):
    found = [run(tmp_path, n, 0.9, 0.9, images=images) for n, images in enumerate((100, 100, 50))]
    why = "their data differ, 1,200 images of 0 classes (run 0, 1); 1,100 images of 0 classes (run 2)."
    assert ranking.of(found).obstacle.endswith(why)
    assert verdict.of(found[:2]).best.label == "0"


@pytest.mark.parametrize(
    ("first", "second", "differs"),
    [
        # Pixels depend on data.image_size; of files the sizes do not.
        ("90-a-b-c", "90-a-b-d", False),
        ("90-a-b-c", "90-a-x-c", True),
        ("90-a-b-c-d", "90-a-b-c-x", True),
    ],
)
def test_of_runs_validated_on_other_images_none_is_the_best_unless_they_are_folds(tmp_path, first, second, differs):
    def validated(label, digest, fold=0):
        one = run(tmp_path, label, 0.9, 0.9)
        one.config.data.folds, one.config.data.fold = 3, fold
        profile = {"train": 900, "val": 100, "test": 100}
        Journal(one.directory).append("dataset", name="x", digest="", source="", profile=profile, digests=digest)
        return one

    found = [validated(n, {"val": digest}) for n, digest in enumerate((first, second))]
    assert ("the images that decided differ" in ranking.of(found).obstacle) == differs
    assert not ranking.of([found[0], validated("fold", {"val": second}, fold=1)]).obstacle


def compared(folder, label, *own, train=900, compared=None, config=None, **digests):
    """A run with these own overrides and digests of its splits."""
    one = run(folder, label, 0.9, 0.9)
    one.own = list(own)
    for key, value in (config or {}).items():
        setattr(one.config.data, key, value)
    profile = {"train": train, "val": 100, "test": 100}
    event = {"name": "x", "digest": "", "source": "", "profile": profile, "digests": digests}
    Journal(one.directory).append("dataset", **event, compared=compared or {})
    return one


def test_runs_with_other_training_images_are_ranked_by_the_validation_images_they_share(tmp_path):
    found = [compared(tmp_path, n, f"data.limit={n}", train=n, val="90-a-b-c-d") for n in (500, 900)]
    assert not ranking.of(found).obstacle
    other = compared(tmp_path, "other", "data.limit=100", train=100, val="90-a-x-c-d")
    assert "their data differ, 700 images" in ranking.of([*found, other]).obstacle


def test_soft_and_hard_labels_of_the_same_pictures_are_ranked(tmp_path):
    hard = compared(tmp_path, 0, "data.labels=one", val="90-a-hard-c-d")
    soft = compared(tmp_path, 1, "data.labels=soft", val="90-a-soft-c-d", compared={"val": "90-a-hard-c-d"})
    assert not ranking.of([hard, soft]).obstacle


def test_folds_and_a_held_out_fraction_are_not_ranked_with_each_other(tmp_path):
    folds = [
        compared(tmp_path, f"{lr} {fold}", f"lr={lr}", f"data.fold={fold}", "data.folds=2", val=f"9-a-{fold}-c-d",
                 config={"folds": 2, "fold": fold})
        for fold in (0, 1) for lr in (1, 2)
    ]  # fmt: skip
    assert not ranking.of(folds).obstacle
    fraction = compared(tmp_path, "fraction", "lr=1", val="9-a-held-c-d")
    assert "the images that decided differ" in ranking.of([*folds, fraction]).obstacle


def test_seeds_that_redraw_the_split_are_ranked_within_repeats_only(tmp_path):
    def drawn(lr, seed):
        digest = f"9-a-{seed}-c-d"
        return compared(
            tmp_path, f"{lr} {seed}", f"lr={lr}", f"data.split_seed={seed}", val=digest, config={"split_seed": seed}
        )

    one, two, three, four = drawn(1, 1), drawn(1, 2), drawn(2, 1), drawn(2, 2)
    assert not ranking.of([one, two, three, four]).obstacle
    assert not ranking.of([one, two]).obstacle
    assert "the images that decided differ" in ranking.of([one, four]).obstacle


def test_the_page_of_a_single_run_has_macro_f1_on_top_and_no_table_of_runs(tmp_path):
    one = run(tmp_path, 1, 0.9, 0.8163, macro_f1=0.512, loss=0.3609)
    one.own = one.overrides = ["data.root=../my photos"]
    assert not [reason for reason in verdict.of([one]).reasons if "val/student/top1" in reason]
    html, _ = (path.read_text() for path in page.write([one], "Run", "", "", tmp_path / "page.html"))
    assert "<span>test macro-F1</span><b>0.5120</b>" in html
    assert "Also: loss 0.3609, time" in html
    assert 'id="runs"' not in html
    assert 'class="chip"' not in html
    other = run(tmp_path, 2, 0.8, 0.8)
    html, _ = (path.read_text() for path in page.write([one, other], "Runs", "", "", tmp_path / "page.html"))
    assert 'id="runs"' in html
    assert "Also: " not in html
