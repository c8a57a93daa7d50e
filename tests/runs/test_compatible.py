"""What a resumed run may change."""

from __future__ import annotations

import pytest

from runner.errors import ConfigError
from runner.runs import compatible
from tests.conftest import composed

CROPS = "augment.crop_scale=[0.1,1]"


@pytest.mark.parametrize(
    ("before", "after", "augment", "may"),
    [
        ("none", "memory", [], True),
        ("none", "memory", [CROPS], False),
        ("disk", "none", [CROPS], False),
        ("disk", "memory", [CROPS], True),
        ("none", "memory", [CROPS, "augment.enabled=false"], True),
    ],
)
def test_a_cache_may_change_unless_that_changes_what_is_cropped(before, after, augment, may):
    words = ["data=image_folder", "data.root=photos", *augment]
    stored, wanted = (composed(*words, f"data.cache={cache}") for cache in (before, after))
    if may:
        assert list(compatible.check(stored, wanted, "RUN", words)) == ["data.cache"]
    else:
        with pytest.raises(ConfigError, match=f"data.cache: the run has {before}, this command {after}"):
            compatible.check(stored, wanted, "RUN", words)


@pytest.mark.parametrize("kind", ["files", "shards"])
def test_lists_shards_and_names_of_classes_may_be_elsewhere(kind):
    keys = ("data.root", "data.train", "data.val", "data.test", "data.label_file")
    stored, wanted = (composed(f"data={kind}", *(f"{key}={place}/x" for key in keys)) for place in ("here", "there"))
    assert sorted(compatible.check(stored, wanted, "RUN", [])) == sorted(keys)


def test_names_of_classes_may_not_be_elsewhere_where_weights_follow_their_order():
    words = ["data=files", "data.train=a.txt", "loss.class_weights=[1,2]"]
    stored, wanted = (composed(*words, f"data.label_file={place}/x") for place in ("here", "there"))
    with pytest.raises(ConfigError, match="data.label_file: the run has here/x, this command there/x"):
        compatible.check(stored, wanted, "RUN", words)
