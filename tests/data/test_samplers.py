from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import config as cfg
from runner.data import samplers
from runner.data.samplers import batch_bounds, copies, epoch_order, order, quotas_of
from runner.errors import ConfigError


@given(seed=st.integers(0, 2**40), epoch=st.integers(0, 10_000), size=st.integers(1, 500))
def test_an_order_holds_every_image_once(seed: int, epoch: int, size: int) -> None:
    assert np.array_equal(np.sort(epoch_order(seed, epoch, size)), np.arange(size))


def test_an_order_is_a_function_of_seed_and_epoch_alone() -> None:
    first = epoch_order(1, 2, 100)
    np.random.seed(5)
    assert np.array_equal(first, epoch_order(1, 2, 100))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {epoch_order(seed, epoch, 50).tobytes() for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


@given(size=st.integers(1, 300), batch_size=st.integers(1, 64))
def test_one_process_sees_full_batches_and_the_rest(size: int, batch_size: int) -> None:
    sizes = [end - begin for begin, end in batch_bounds(size, batch_size, world=1)]
    assert len(sizes) == -(-size // batch_size)
    assert all(one == batch_size for one in sizes[:-1])


@given(size=st.integers(1, 300), batch_size=st.integers(1, 64), world=st.integers(1, 8))
def test_batches_cover_an_epoch_with_an_image_for_every_process_or_are_refused(
    size: int, batch_size: int, world: int
) -> None:
    steps = -(-size // batch_size)
    if steps * world > size:
        with pytest.raises(ConfigError, match=r"data\.batch_size"):
            batch_bounds(size, batch_size, world)
        return
    bounds = batch_bounds(size, batch_size, world)
    places = np.concatenate([np.arange(begin, end) for begin, end in bounds])
    assert np.array_equal(places, np.arange(size))
    assert len(bounds) == steps
    assert all(world <= end - begin <= batch_size for begin, end in bounds)


def test_the_number_of_processes_does_not_change_the_number_of_steps() -> None:
    assert len(batch_bounds(41, 8, world=2)) == len(batch_bounds(41, 8, world=1))


def test_fewer_images_in_a_batch_than_processes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size"):
        batch_bounds(8, 1, world=2)


#: Images of each class, some without any.
COUNTS = st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any)
CHOSEN = [cfg.Sampler.balanced, cfg.Sampler.sqrt]


def labels_of(counts, seed=0):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


@given(COUNTS, st.integers(0, 99), st.integers(0, 99))
def test_shuffling_is_the_order_of_an_epoch(counts, seed, epoch):
    labels = labels_of(counts)
    assert np.array_equal(order(cfg.Sampler.shuffle, seed, epoch, labels), epoch_order(seed, epoch, len(labels)))
    assert np.array_equal(quotas_of(cfg.Sampler.shuffle, np.array(counts)), counts)


@given(COUNTS, st.sampled_from(CHOSEN), st.integers(0, 2**40), st.integers(0, 1000))
def test_an_epoch_is_as_long_as_there_are_images_and_has_its_share_of_every_class(counts, sampler, seed, epoch):
    labels = labels_of(counts)
    seen = np.bincount(labels[order(sampler, seed, epoch, labels)], minlength=len(counts))
    parts = [min(count, 1) if sampler is cfg.Sampler.balanced else count**0.5 for count in counts]
    shares = [part * len(labels) / sum(parts) for part in parts]
    assert seen.sum() == len(labels)
    assert np.abs(seen - shares).max() < 1
    assert all((number > 0) == (count > 0) for number, count in zip(seen, counts, strict=True))
    assert np.array_equal(seen, quotas_of(sampler, np.array(counts)))


@given(COUNTS, st.sampled_from(CHOSEN), st.integers(0, 99), st.integers(1, 12))
def test_over_the_epochs_every_image_of_a_class_is_seen_equally_often_or_once_more(counts, sampler, seed, epochs):
    labels = labels_of(counts)
    seen = np.zeros(len(labels), dtype=int)
    for epoch in range(epochs):
        np.add.at(seen, order(sampler, seed, epoch, labels), 1)
    for label in np.unique(labels):
        own = seen[labels == label]
        assert own.max() - own.min() <= 1


def test_every_order_of_the_images_of_a_class_is_as_frequent_as_any_other():
    labels = labels_of([3, 9])
    firsts = Counter()
    for seed in range(600):
        chosen = order(cfg.Sampler.balanced, seed, 0, labels)
        # Two permutations of three images each.
        own = chosen[np.argsort(labels[chosen], kind="stable")][:6]
        assert sorted(own) == sorted([*np.flatnonzero(labels == 0)] * 2)
        small = samplers._stretches(seed, np.array([3, 9]), np.array([0, 0]), np.array([6, 6]))[:6].tolist()
        firsts[tuple(small[:3])] += 1
        firsts[tuple(small[3:])] += 1
    assert len(firsts) == 6
    # Of 1,200 draws 200 each, and five standard deviations of a binomial number.
    assert all(abs(count - 200) < 65 for count in firsts.values())


def test_a_stretch_of_permutations_goes_on_where_the_one_before_it_ended():
    counts, quotas = np.array([1, 0, 7, 400]), np.array([30, 0, 20, 150])
    whole = samplers._stretches(5, counts, 0 * quotas, 8 * quotas)
    ends = (8 * quotas).cumsum()
    for epoch in range(8):
        part = samplers._stretches(5, counts, epoch * quotas, quotas)
        expected = [whole[end - 8 * quota + epoch * quota :][:quota] for end, quota in zip(ends, quotas, strict=True)]
        assert np.array_equal(part, np.concatenate(expected))


def test_the_images_of_an_epoch_are_a_function_of_seed_epoch_and_labels_alone():
    labels = labels_of([3, 50, 12])
    orders = [order(cfg.Sampler.balanced, 1, epoch, labels) for epoch in (4, 4, 5)]
    np.random.seed(5)
    assert np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0], order(cfg.Sampler.balanced, 2, 4, labels))
    # Classes follow each other in no order.
    assert len(set(labels[orders[0]][:20].tolist())) == 3


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_copies_of_an_image_have_changes_of_their_own(size, seed):
    chosen = np.random.default_rng(seed).integers(0, size, size)
    changes = copies(chosen, size)
    assert all(0 <= one < size for one in changes)
    for image in np.unique(chosen):
        own = changes[chosen == image]
        assert own[0] == image
        assert len(set(own)) == len(own)


def test_without_images_nothing_is_drawn():
    for sampler in cfg.Sampler:
        assert quotas_of(sampler, np.zeros(3, np.int64)).tolist() == [0, 0, 0]
