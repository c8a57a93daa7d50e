"""What runs are compared by besides the metrics of the trained network."""

from __future__ import annotations

import json
import shutil

import pytest

from runner.report import costs, page, subject


def test_what_integers_made_of_a_network_has_columns_where_a_run_has_them():
    plain, integers = {"params": 1e6, "top1": 0.9}, {"params": 1e6, "int8_top1": 0.88, "int8_agreement": 0.97}
    assert costs.columns([plain, {}]) == costs.COSTS
    assert costs.columns([]) == costs.COSTS
    more = costs.columns([plain, integers])[len(costs.COSTS) :]
    assert [column.heading for column in more] == ["int8 top-1", "int8 agreement"]
    assert [column.text(integers) for column in more] == ["0.8800", "0.9700"]
    assert [column.text(plain) for column in more] == ["", ""]


def test_the_recommended_file_has_a_column_where_it_differs_from_its_network():
    same = {"top1": 0.9, "exported_top1": 0.9}
    assert costs.columns([same, {"top1": 0.8}]) == costs.COSTS
    [column] = costs.columns([same, {"top1": 0.9, "exported_top1": 0.8}])[len(costs.COSTS) :]
    assert (column.heading, column.text(same)) == ("file top-1", "0.9000")


@pytest.mark.parametrize("has_integers", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_report_has_the_int8_files_own_top1(finished, tmp_path, has_integers):
    shutil.copytree(finished / "run", tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    if has_integers:
        result["final"] |= {"int8_top1": 0.8765, "int8_agreement": 0.9876}
    (tmp_path / "run" / "result.json").write_text(json.dumps(result))
    found = [subject.read(tmp_path / "run", "1", "run")]
    [text, _] = (path.read_text() for path in page.write(found, "run", "runner report", "", tmp_path / "page.html"))
    assert all((said in text) == has_integers for said in ("int8 top-1", "0.8765", "int8 agreement", "0.9876"))
