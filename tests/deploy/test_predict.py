"""Any number of pictures, in their order, whatever some of them are."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref

import numpy as np
import pytest
from PIL import Image

from runner.deploy.predict import Deployed, answers
from runner.errors import DataError

from . import helpers


def picture(seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    return Deployed(helpers.export(tmp_path_factory.mktemp("deployed") / "export"))


@pytest.mark.parametrize("count", [0, 1, 2, 7, 70])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("concurrent", [True, False])
def test_answers_come_in_the_order_of_the_pictures(deployed, monkeypatch, count, workers, concurrent):
    monkeypatch.setattr(deployed, "concurrent", concurrent, raising=False)
    pictures = [picture(seed) for seed in range(count)]
    given = list(answers(deployed, pictures, batch_size=4, workers=workers))
    assert [answer.picture for answer in given] == pictures
    alone = [deployed([one])[0] for one in pictures]
    for answer, probabilities in zip(given, alone, strict=True):
        np.testing.assert_allclose(answer.probabilities, probabilities, atol=1e-6)


@pytest.mark.parametrize("concurrent", [True, False])
def test_pictures_that_cannot_be_read_do_not_keep_the_others_from_their_answers(deployed, monkeypatch, concurrent):
    monkeypatch.setattr(deployed, "concurrent", concurrent, raising=False)
    broken = {2, 3, 4, 5, 11}
    pictures = [b"no picture" if place in broken else picture(place) for place in range(13)]
    given = list(answers(deployed, pictures, batch_size=2, workers=2))
    assert {place for place, answer in enumerate(given) if answer.error} == broken
    assert all("not an image" in given[place].error and given[place].probabilities is None for place in broken)
    for place in set(range(13)) - broken:
        np.testing.assert_allclose(given[place].probabilities, deployed([pictures[place]])[0], atol=1e-6)


def test_a_sequence_with_what_is_no_picture_is_refused_as_a_whole(deployed):
    with pytest.raises(DataError, match="not an image"):
        deployed([picture(), b"no picture"])


def test_of_pictures_without_end_a_few_batches_are_read_ahead(deployed):
    read = itertools.count()
    pictures = (picture(seed) for seed in iter(lambda: next(read), None))
    given = answers(deployed, pictures, batch_size=4, workers=2)
    assert len(list(itertools.islice(given, 100))) == 100
    assert next(read) <= 100 + 3 * 2 * 4
    given.close()


def test_nothing_that_was_answered_stays_in_memory(deployed):
    seen = []

    def pictures():
        for seed in range(60):
            one = picture(seed) if seed % 3 else Image.new("F", (4, 4), 300)
            seen.append(weakref.ref(one))
            yield one

    for _answer in answers(deployed, pictures(), batch_size=2, workers=2):
        pass
    del _answer
    gc.collect()
    assert not [reference for reference in seen if reference() is not None]


def test_the_threads_end_with_the_answers(deployed):
    before = threading.active_count()
    assert len(list(answers(deployed, [picture(seed) for seed in range(9)], batch_size=2, workers=3))) == 9
    assert threading.active_count() == before
