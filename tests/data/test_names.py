"""Many names in one piece of memory are the names that were put in."""

from __future__ import annotations

import os

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.data.names import Names

TEXTS = st.lists(st.one_of(st.text(), st.binary(max_size=9).map(os.fsdecode)))


@settings(deadline=None)
@given(TEXTS, st.randoms())
def test_names_come_out_as_they_went_in_and_in_any_order(texts, random):
    # What UTF-8 cannot hold is no file name.
    texts = [text for text in texts if not any("\ud800" <= letter <= "\udfff" for letter in text) or text.isascii()]
    names = Names.of(texts)
    assert list(names) == texts
    order = random.sample(range(len(texts)), random.randint(0, len(texts)))
    assert list(names.select(np.array(order, dtype=np.int64))) == [texts[place] for place in order]


def test_names_of_files_that_are_no_text_stay_bytes():
    name = os.fsdecode(b"caf\xe9.png")
    assert os.fsencode(Names.of([name])[0]) == b"caf\xe9.png"
    assert Names.of(["a", name])[-1] == name
