"""What a sweep says of its jobs, and which keys choose their images."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from runner import config as cfg
from runner.cli import sweep
from runner.config import comparable
from runner.config.keys import walk
from runner.tracking import mlflow


def test_of_tags_of_one_name_the_last_one_counts():
    earlier = [{"event": "tags", "values": {"a": "1"}}, {"event": "ended"}, {"event": "tags", "values": {"a": "2"}}]
    assert sweep._last_tags(earlier) == {"a": "2"}


def test_keys_that_leave_the_images_as_they_are_exist_and_all_others_choose_them():
    parts = (cfg.Data(), cfg.ImageFolder(), cfg.Digits(), cfg.FileList(), cfg.Shards(), cfg.Cifar10())
    keys = {key for part in parts for key, *_ in walk(cfg.Config(data=part)) if key.startswith("data.")}
    assert set(comparable.SAME_IMAGES) <= keys
    chosen = {key for key in keys if comparable.chooses_images(key)}
    assert chosen == keys - set(comparable.SAME_IMAGES)
    assert {"data.kind", "data.fold", "data.group_column", "data.limit", "data.test_fraction"} <= chosen


@pytest.mark.parametrize("tag", [mlflow.KEY, "run_dir", "mode"])
def test_a_tag_of_the_user_never_replaces_one_of_the_run(tag, tmp_path):
    config = cfg.Config(data=cfg.Digits(), mode=cfg.Cls(), model=cfg.MobileNetV3())
    mirror = SimpleNamespace(
        values={"key": "own"}, config=config, directory=tmp_path, _place="/run", _own_tags={tag: "user", "team": "x"}
    )
    tags = mlflow.Mirror._tags(mirror, None)
    assert tags[tag] != "user"
    assert tags["team"] == "x"
