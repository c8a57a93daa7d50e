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
