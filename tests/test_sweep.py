"""The folder of a sweep: what its jobs are called, and which folders are jobs."""

from __future__ import annotations

import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from runner import sweep
from runner.journal import OVERRIDES


@given(st.integers(0, 10**6), st.lists(st.text(max_size=300), max_size=5))
def test_whatever_a_sweep_varies_its_folders_need_no_quotes(tmp_path_factory, number, overrides):
    name = sweep.folder_name(str(tmp_path_factory.getbasetemp()), number, overrides)
    assert re.fullmatch(r"[0-9]+[A-Za-z0-9._-]*", name)
    assert len(name.encode()) <= 120
    assert sweep.NUMBERED.match(name)
    assert int(name.partition("_")[0]) == number
    [parsed] = OverridesParser.create().parse_overrides([f"checkpoint.init_from=outputs/a/{name}"])
    assert parsed.value() == f"outputs/a/{name}"


def test_a_long_value_in_another_alphabet_is_no_reason_to_fail(tmp_path):
    assert sweep.folder_name(str(tmp_path), 0, [f"data.root='{'数' * 110}'"]) == "0_data.root"


def test_a_folder_says_what_its_job_varies():
    overrides = [
        "mode=cls_distill",
        "optimizer.lr=0.001",
        "hydra.launcher.n_jobs=2",
        "data.root=a b",
    ]
    assert sweep.folder_name("/nowhere", 3, overrides) == "3_mode-cls_distill_optimizer.lr-0.001_data.root-a-b"


def test_a_job_of_an_earlier_version_keeps_its_folder(tmp_path):
    earlier = tmp_path / "0_mode=cls,train.seed=0"
    earlier.mkdir()
    (earlier / OVERRIDES).touch()
    assert sweep.folder_name(str(tmp_path), 0, ["mode=cls", "train.seed=0"]) == earlier.name


@pytest.mark.parametrize("name", ["0_mode-cls", "12", "3_"])
def test_only_numbered_folders_of_runs_are_jobs(tmp_path, name):
    (tmp_path / name).mkdir()
    assert sweep.jobs(tmp_path) == []
    (tmp_path / name / OVERRIDES).touch()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / OVERRIDES).touch()
    (tmp_path / "7_photos").mkdir()
    (tmp_path / "7_photos" / "cat.jpg").touch()
    assert sweep.jobs(tmp_path) == [tmp_path / name]
