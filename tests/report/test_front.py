"""Which runs no other one is better than, where what they cost is measured with noise."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.report import costs

NUMBERS = st.integers(0, 9)


def test_what_is_equal_to_its_neighbour_alone_stays_on_the_front():
    """Each is 4 % faster than the one before it; the last one 8 % faster than the first, which is more than noise."""
    points = {"exact": (0.95, -1.0), "between": (0.94, -0.96), "fast": (0.93, -0.92)}
    assert costs.front(points, [0, 0.05]) == ["exact", "fast"]


@settings(deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=12))
def test_without_noise_the_front_is_what_no_point_is_better_than(places):
    points = dict(enumerate(places))
    better = [
        (one, other)
        for one in points
        for other in points
        if points[one] != points[other] and all(a >= b for a, b in zip(points[one], points[other], strict=True))
    ]
    beaten = {other for _, other in better}
    assert costs.front(points) == [name for name in points if name not in beaten]
