"""The folder of a sweep: what its jobs are called, and which folders are jobs."""

from __future__ import annotations

import json
import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ConfigError
from runner.runs import sweep, sweep_again, swept
from runner.runs.journal import OVERRIDES, SWEEP


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


def test_what_a_job_was_refused_for_stands_neither_in_its_files_nor_in_its_name(tmp_path):
    secret = "tracking.uri=http://me:kangaroo@host"
    job = tmp_path / sweep.folder_name(str(tmp_path), 0, [secret])
    sweep.note_refusal(job, ["mode=cls", secret], ConfigError("refused"))
    assert b"kangaroo" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert "kangaroo" not in job.name
    assert "mode=cls" in (job / OVERRIDES).read_text()


@pytest.mark.parametrize("content", ['{"a": 1}', "", "[]", "x"])
def test_a_file_of_a_sweeps_name_is_no_sweep(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    one = planned(["mode=cls,cls_distill"])
    with pytest.raises(ConfigError, match="holds no sweep"), sweep.lock_sweep(tmp_path, one, resume=False):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]
    assert (tmp_path / "sweep.json").read_text() == content


def digest(overrides, varied=()):
    """The digest of a sweep that varies these keys."""
    return swept.digest(overrides, varied)


def planned(overrides, varied=()):
    return sweep.Sweep("x", overrides, [], varied=list(varied))


def begun(folder, overrides, id="x"):
    """A folder in which a sweep of these overrides was begun."""
    folder.mkdir(parents=True)
    content = {"id": id, "overrides": overrides, "shared": []}
    (folder / SWEEP).write_text(json.dumps(content))
    return folder


@given(st.permutations(["mode=cls,cls_distill", "train.seed=1,2", "+loss=focal", "sweep.resume=true"]))
def test_a_sweep_is_the_same_in_whatever_order_its_keys_are_written(overrides):
    assert digest(overrides) == digest(["+loss=focal", "mode=cls,cls_distill", "train.seed=1,2"])


def test_of_one_key_the_last_override_counts():
    assert digest(["a=1", "b=1", "a=2"]) == digest(["b=1", "a=1", "a=2"])
    assert digest(["a=1", "a=2"]) != digest(["a=2", "a=1"])


@pytest.mark.parametrize("cleared", ["tracking.tags={}", "~tracking.tags", "+tracking={tags:{b:2}}"])
def test_what_a_mapping_has_before_it_is_replaced_is_another_sweep(cleared):
    assert digest([cleared, "+tracking.tags.a=1"]) != digest(["+tracking.tags.a=1", cleared])
    assert digest([cleared, "+tracking.tags.a=1", "b=2"]) == digest(["b=2", cleared, "+tracking.tags.a=1"])


def test_keys_of_a_chosen_group_are_the_same_before_and_after_it():
    assert digest(["model=resnet18", "model.stem=small"]) == digest(["model.stem=small", "model=resnet18"])


@pytest.mark.parametrize(("name", "id"), [("mine", "0123abcd-1f"), ("0123abcd-backup", "0123abcd-1f"), ("x", "y")])
def test_a_copy_of_a_sweep_and_one_in_a_folder_of_its_own_are_not_taken(tmp_path, name, id):
    begun(tmp_path / name, ["mode=cls", "train.seed=1,2"], id)
    overrides = ["train.seed=1,2", "mode=cls"]
    assert sweep_again.folder_of(tmp_path, overrides, []) == tmp_path / digest(overrides)


def test_a_sweep_of_an_earlier_version_is_found_in_its_folder(tmp_path):
    earlier = begun(tmp_path / "0123abcd", ["mode=cls", "train.seed=1,2"], "0123abcd-1f")
    begun(tmp_path / "4567abcd", ["mode=cls", "train.seed=1,2,3"], "4567abcd-1f")
    again = ["sweep.resume=true", "train.seed=1,2", "mode=cls"]
    assert sweep_again.folder_of(tmp_path, again, []) == earlier
    assert sweep_again.folder_of(tmp_path, ["mode=cls"], []) == tmp_path / digest(["mode=cls"])
    named = begun(tmp_path / digest(again), again)
    assert sweep_again.folder_of(tmp_path, again, []) == named


def test_jobs_are_numbered_in_the_order_in_which_their_sweep_was_begun(tmp_path):
    folder = begun(tmp_path / "sweep", ["mode=cls,cls_distill", "train.seed=1,2", "sweep.resume=false"])
    again = ["train.seed=1,2", "sweep.resume=true", "mode=cls,cls_distill"]
    assert sweep_again.in_order(folder, planned(again)) == [
        "sweep.resume=true",
        "mode=cls,cls_distill",
        "train.seed=1,2",
    ]
    for foreign in (folder, tmp_path):
        assert sweep_again.in_order(foreign, planned(["train.seed=1,2"])) == ["train.seed=1,2"]


LAUNCHES = ["launch.nproc_per_node"]


def test_a_sweep_over_launches_is_another_one_with_other_values_and_not_with_another_launch():
    one = digest(["launch.nproc_per_node=1,2", "name=x"], LAUNCHES)
    assert one != digest(["launch.nproc_per_node=4,8", "name=x"], LAUNCHES)
    assert one == digest(["launch.nproc_per_node=1,2", "launch.timeout_s=9", "name=x"], LAUNCHES)
    assert digest(["launch.nproc_per_node=1", "train.seed=1,2"], ["train.seed"]) == digest(
        ["train.seed=1,2"], ["train.seed"]
    )


def test_other_launches_are_not_taken_for_jobs_that_are_complete(tmp_path):
    with sweep.lock_sweep(tmp_path, planned(["launch.nproc_per_node=1,2"], LAUNCHES), resume=False):
        (tmp_path / "0").mkdir()
        (tmp_path / "0" / OVERRIDES).touch()
    others = planned(["launch.nproc_per_node=4,8"], LAUNCHES)
    with pytest.raises(ConfigError, match="holds another sweep"), sweep.lock_sweep(tmp_path, others, resume=True):
        pass


def test_the_folders_of_a_sweep_over_launches_say_which_is_which(tmp_path):
    words = ["launch.nproc_per_node=2", "launch.timeout_s=9"]
    with sweep.lock_sweep(tmp_path, planned(["launch.nproc_per_node=1,2"], LAUNCHES), resume=False):
        assert sweep.folder_name(str(tmp_path), 1, words) == "1_launch.nproc_per_node-2"
        (tmp_path / SWEEP).write_text(json.dumps({"id": "x", "overrides": ["launch.nproc_per_node=1,2"], "shared": []}))
        # Of an earlier version.
        assert sweep.folder_name(str(tmp_path), 1, words) == "1"
