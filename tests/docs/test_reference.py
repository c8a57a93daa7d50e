"""The reference in docs/configuration.md is that of the schema."""

from __future__ import annotations

import dataclasses

import pytest

from docs import reference
from runner import config as cfg
from runner.config import store
from tests.conftest import composed


def test_the_page_in_the_repository_is_up_to_date():
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "write it: python -m docs.reference"


def test_the_reference_has_every_key_of_a_composed_config():
    words = ["mode=cls_distill_multiopt", "compression=fpgm_qat", "amp=off"]
    keys = store.flatten(composed(*words, "features=attention_transfer", "features.layers=[conv4]"))
    text = reference.reference()
    # What a group's choice is has its heading; patterns and lists have no keys of their own.
    missing = [key for key in keys if f"`{key}`" not in text and not key.endswith("kind")]
    assert not [key for key in missing if not key.startswith(("mode.peer",))]


def test_no_key_of_the_reference_is_without_a_meaning():
    rows = [line for line in reference.reference().splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert not [row for row in rows if row.endswith("|  |")]


@pytest.mark.parametrize(
    "kind", [kind for group in cfg.GROUPS.values() for kind in group], ids=lambda kind: kind.__name__
)
def test_every_field_of_a_choice_is_in_the_reference(kind):
    text = reference.reference()
    names = [field.name for field in dataclasses.fields(kind) if field.name != "kind"]
    assert not [name for name in names if f".{name}` |" not in text]
