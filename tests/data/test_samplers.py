from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.data.samplers import batch_bounds, epoch_order
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
