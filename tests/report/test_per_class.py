"""What a page says of the best run's classes, and of the set that they are of."""

from __future__ import annotations

import json

import pytest

from runner import config as cfg
from runner.config import store
from runner.report import page, per_class, subject
from runner.runs.journal import Journal
from tests.damage.written import a_run


def page_of(run, folder):
    page.write([subject.read(run, "1", "run")], "run", "python -m runner report", "", folder / "page.html")
    return (folder / "page.html").read_text()


def classes(confusion):
    recalls = [row[number] / sum(row) for number, row in enumerate(confusion)]
    return {"classes": ["cat", "dog", "eel"], "student": {"top1": recalls, "confusion": confusion}}


@pytest.mark.parametrize(
    ("confusion", "pairs", "sentence"),
    [
        ([[8, 2, 1], [0, 9, 0], [1, 0, 9]], [("cat", "dog", 2)], "Most often taken for another: cat → dog (2)</p>"),
        (
            [[8, 1, 0], [0, 9, 0], [0, 1, 9]],
            [("cat", "dog", 1), ("eel", "dog", 1)],
            "Taken for another, each once: cat → dog (1), eel → dog (1)</p>",
        ),
        ([[8, 0, 0], [0, 9, 0], [0, 0, 9]], [], None),
    ],
)
def test_pairs_that_were_confused_once_are_named_where_no_other_was(config_of, tmp_path, confusion, pairs, sentence):
    assert per_class.confusion(classes(confusion))["pairs"] == pairs
    run = a_run(tmp_path, config_of())
    (run / "per_class.json").write_text(json.dumps(classes(confusion)))
    html = " ".join(page_of(run, tmp_path).split())
    assert "Recall of each class, the worst first" in html
    if sentence:
        assert sentence in html
    else:
        assert "aken for another" not in html


def test_the_heading_names_the_folder_of_a_set(config_of, tmp_path):
    config = config_of()
    run = a_run(tmp_path, config)
    assert "1 run · digits (2 test images)" in page_of(run, tmp_path)
    config.data = cfg.ImageFolder(root="photos <of> cats")
    store.write(config, run / "config.yaml")
    Journal(run).append("dataset", name="photos <of> cats", digest="0", source="", profile={"train": 7, "test": 2})
    assert "1 run · image_folder photos &lt;of&gt; cats (7 train, 2 test images)" in page_of(run, tmp_path)
