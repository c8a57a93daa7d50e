"""Which runs of a sweep are ended early, by what journals say."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from runner import config as cfg
from runner.config import store
from runner.runs import sweep
from runner.runs.early_stopping import StoppingRule, is_rung, verdict
from runner.runs.journal import CONFIG, Journal

OTHERS = [[0.1, 0.2], [0.1, 0.4], [0.1, 0.6], [0.9, 0.8], [0.2, 0.5]]


def settings(pruner, **more):
    return cfg.Sweep(pruner=cfg.Pruner[pruner], **{f"pruner_{key}": value for key, value in more.items()})


@pytest.mark.parametrize(
    ("own", "ends"),
    [([0.1, 0.4], True), ([0.1, 0.5], False), ([0.5, 0.1], False), ([0.1, math.nan], True), ([0.0], False)],
)
def test_median_ends_what_has_a_worse_best_validation_than_half_of_the_others(own, ends):
    reason = verdict(settings("median"), own, OTHERS, "val/student/top1")
    assert ("worse than the median of 5 others, 0.5000" in reason) == ends


@pytest.mark.parametrize(("own", "ends"), [([0.1, 0.5], True), ([0.1, 0.7], False), ([0.8], False), ([0.9] * 3, False)])
def test_asha_keeps_one_of_so_many_at_each_rung(own, ends):
    reason = verdict(settings("asha"), own, OTHERS, "val/loss", -1)
    assert ("not among the best 2 of 6" in reason) == ends


def test_rungs_are_powers_of_the_reduction_factor_apart():
    assert [count for count in range(1, 60) if is_rung(count, 2, 3)] == [2, 6, 18, 54]


@pytest.mark.parametrize("pruner", ["median", "asha", "none"])
def test_with_few_others_and_in_the_warm_up_nothing_ends(pruner):
    assert not verdict(settings(pruner, min_trials=6), [0.0, 0.0], OTHERS)
    assert not verdict(settings(pruner, warmup=2), [0.0, 0.0], OTHERS)
    assert bool(verdict(settings(pruner, min_trials=5), [0.0, 0.0], OTHERS)) == (pruner != "none")


def test_what_equals_the_others_never_ends():
    for pruner in ("median", "asha"):
        assert not verdict(settings(pruner), [0.3, 0.3], [[0.3, 0.3]] * 8)


def write(directory, values, first=1, dataset=None, **config):
    """A run whose validations, 10 steps apart, gave these values."""
    directory.mkdir(exist_ok=True)
    store.write(cfg.Config(**{"data": cfg.Digits()} | config), directory / CONFIG)
    journal = Journal(directory)
    if dataset:
        journal.append("dataset", **{"name": "x", "digest": "d", "source": "here", "profile": {"train": 90}} | dataset)
    for number, value in enumerate(values, first):
        journal.metrics(10 * number, number, {"train/loss": 1.0})
        journal.metrics(10 * number, number, {"val/student/loss": value, "val/student/top1": 0.0})


def test_journals_are_read_as_they_grow_and_what_a_resumed_run_writes_again_counts(tmp_path):
    config = cfg.Config(data=cfg.Digits(), train=cfg.Train(monitor="val/loss"), sweep=settings("median", min_trials=3))
    own = tmp_path / "3"
    for number in range(3):
        write(tmp_path / str(number), [1.0, 0.5])
    write(own, [9.0, 0.8])
    rule = StoppingRule(own, config)
    assert rule.judge(10) == ""
    assert "val/student/loss 0.8000 after 2 validations is worse than the median of 3 others, 0.5000" in rule.judge(20)
    # It went on from its first checkpoint and was better.
    write(own, [0.4], first=2)
    assert rule.judge(20) == ""
    assert rule.judge(30) == ""
    write(own, [0.4], first=3)
    # Nobody else has come as far.
    assert rule.judge(30) == ""
    for number in range(3):
        write(tmp_path / str(number), [0.1], first=3)
    assert rule.judge(30)
    assert StoppingRule(own, config).judge(30) == rule.judge(30)


def test_folders_that_are_no_jobs_and_damaged_journals_do_not_count(tmp_path):
    config = cfg.Config(data=cfg.Digits(), sweep=settings("median", min_trials=1))
    write(tmp_path / "0", [0.1])
    write(tmp_path / "notes", [0.1])
    (tmp_path / "1").mkdir()
    (tmp_path / "2" / "journal.jsonl").mkdir(parents=True)
    assert sweep.jobs(tmp_path) == [tmp_path / "0", tmp_path / "2"]
    assert StoppingRule(tmp_path / "0", config).judge(10) == ""


ONES = {"digests": {"train": "90-c-l-n-s", "val": "10-c-l-n-s"}}
SOFT = {"digests": ONES["digests"] | {"val": "10-c-s-n-s"}, "compared": ONES["digests"]}
STEPS = {"train": cfg.Train(eval_every_steps=5)}


@pytest.mark.parametrize(
    ("own", "other", "compares"),
    [
        ({}, {}, True),
        ({"dataset": ONES}, {"dataset": ONES}, True),
        ({"dataset": ONES}, {"dataset": {"digests": ONES["digests"] | {"val": "10-c-x-n-s"}}}, False),
        ({"dataset": ONES}, {"dataset": ONES | {"profile": {"train": 45}}}, False),
        ({"dataset": ONES}, {"dataset": SOFT}, True),
        # The same images, prepared otherwise.
        ({"dataset": {"digests": {"val": "10-c-l-p"}}}, {"dataset": {"digests": {"val": "10-c-l-q"}}}, True),
        ({"dataset": ONES}, {}, False),
        ({}, {"train": cfg.Train(eval_every=2)}, False),
        ({}, STEPS, False),
        (STEPS, STEPS, True),
        (STEPS, STEPS | {"data": cfg.Digits(batch_size=8)}, False),
        ({}, {"data": cfg.Digits(batch_size=8)}, True),
    ],
)
def test_validations_on_other_images_or_after_another_amount_of_training_do_not_count(tmp_path, own, other, compares):
    write(tmp_path / "0", [9.0, 9.0], **own)
    write(tmp_path / "1", [0.5, 0.5], **other)
    kept = {"data": cfg.Digits(), "train": cfg.Train()} | {key: own[key] for key in own if key != "dataset"}
    kept["train"] = replace(kept["train"], monitor="val/loss", goal=cfg.Goal.min)
    rule = StoppingRule(tmp_path / "0", cfg.Config(**kept, sweep=settings("median", min_trials=1)))
    assert bool(rule.judge(20)) == compares


def test_a_run_whose_config_cannot_be_read_does_not_count(tmp_path):
    config = cfg.Config(data=cfg.Digits(), sweep=settings("median", min_trials=1), train=cfg.Train(monitor="val/loss"))
    for name, value in (("0", 9.0), ("1", 0.5)):
        write(tmp_path / name, [value, value])
    assert StoppingRule(tmp_path / "0", config).judge(20)
    (tmp_path / "1" / CONFIG).write_text("name: [")
    assert not StoppingRule(tmp_path / "0", config).judge(20)
