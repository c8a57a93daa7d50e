"""Charts: every value has its place within the panel, whatever was logged."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.report import charts

values = st.floats(-1e6, 1e6)


@given(st.lists(values, min_size=1), st.booleans())
def test_an_axis_has_room_for_all_values_and_ticks_between_its_ends(found, wide):
    axis = charts.axis(found, 46, 366, wide=wide)
    assert all(46 <= axis(value) <= 366 for value in found)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)
    assert [axis(value) for value in sorted(found)] == sorted(axis(value) for value in found)


def test_costs_that_span_much_are_drawn_by_their_logarithm():
    axis = charts.axis([1, 1000], 0, 100, margin=0, wide=True)
    assert axis.log
    assert axis(math.sqrt(1000)) == pytest.approx(50)
    assert not charts.axis([1, 20], 0, 100, wide=True).log


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=700))
@example([math.inf, math.nan])
def test_a_line_of_any_values_is_valid_svg_within_its_panel(found):
    svg = charts.lines([charts.Line("1", "<a> & b", dict(enumerate(found)), 3)], "loss")
    root = ElementTree.fromstring(svg)
    line = root.find(".//g[@data-run='1']/path")
    assert (line is not None) == any(map(math.isfinite, found))
    path = "" if line is None else line.get("d")
    places = re.findall(r"([\d.-]+) ([\d.-]+)", path)
    assert len(places) <= charts.POINTS + 1
    assert all(0 <= float(x) <= charts.WIDTH and 0 <= float(y) <= charts.HEIGHT for x, y in places)


def test_a_thinned_line_keeps_its_end_and_its_mean():
    points = {step: float(step % 7) for step in range(10_000)}
    thinned = charts.thinned(points)
    assert len(thinned) <= charts.POINTS + 1
    assert thinned[-1] == (9_999, 9_999 % 7)
    assert sum(value for _, value in thinned[:-1]) / (len(thinned) - 1) == pytest.approx(3, abs=0.1)


def test_values_that_are_not_finite_take_no_others_with_them():
    whole = {step: 1.0 for step in range(10_000)}
    gaps = whole | {step: math.nan for step in range(0, 10_000, 3)} | {1: math.inf}
    never = dict.fromkeys(range(9), math.nan)
    drawn = [
        charts.Line(label, "", points, 0) for label, points in (("1", whole), ("2", gaps), ("3", never), ("4", {}))
    ]
    root = ElementTree.fromstring(charts.lines(drawn, "loss"))
    counts = {
        group.get("data-run"): group.find("path").get("d").count("L") for group in root.findall(".//g[@data-run]")
    }
    assert counts.keys() == {"1", "2"}
    assert counts["2"] > charts.POINTS / 2


def test_one_value_far_from_all_others_does_not_flatten_them():
    points = {step: 1 + step / 1000 for step in range(1, 500)} | {0: 1e9}
    svg = charts.lines([charts.Line("1", "", points, 0)], "loss")
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", svg)]
    assert max(heights[5:]) - min(heights[5:]) > 100


def test_the_front_is_joined_and_full():
    dots = [charts.Dot("1", "", 1, 0.5, 0, True), charts.Dot("2", "", 2, 0.9, 1, True), charts.Dot("3", "", 3, 0.6, 2)]
    root = ElementTree.fromstring(charts.scatter(dots, "ms", "top-1"))
    assert root.find(".//path[@class='front']") is not None
    assert [one.get("data-run") for one in root.findall(".//g") if "on-front" in one.get("class")] == ["1", "2"]


def test_shares_and_bins_are_drawn_within_the_panel_with_names_as_text():
    curves = [charts.Curve("<a> & b", [[0, 0], [0.2, 1], [1, 1]], 0), charts.Curve("c", [[1, 0.5]], 11)]
    root = ElementTree.fromstring(charts.shares(curves, "recall", "precision"))
    assert [group.find("title").text for group in root.findall(".//g[@class]")] == ["<a> & b", "c"]
    path = root.find(".//g[@class='line c0']/path").get("d")
    places = [(float(x), float(y)) for x, y in re.findall(r"([\d.-]+) ([\d.-]+)", path)]
    assert places[0] == (charts.LEFT, charts.HEIGHT - charts.BOTTOM)
    assert places[-1] == (charts.WIDTH - charts.RIGHT, charts.TOP)


def test_a_bin_with_more_images_has_a_larger_dot():
    root = ElementTree.fromstring(charts.reliability([[1, 0.0, 0.1], [50, 0.5, 0.6], [100, 1.0, 1.0]]))
    radii = [float(circle.get("r")) for circle in root.iter("circle")]
    assert radii == sorted(radii)
    assert "50 images" in root.findall(".//g[@class]")[1].find("title").text
