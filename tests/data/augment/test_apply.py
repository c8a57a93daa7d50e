"""Programs: the compiled way against NumPy, resampling against Pillow."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from runner import config as cfg
from runner.data.augment import geometry
from runner.data.augment.apply import Program, resampled
from runner.data.augment.build import build
from runner.data.augment.changes import Changes
from runner.data.augment.draws import Draws
from runner.data.augment.operations import Operation
from runner.data.transforms import Augmentation, Normalize
from runner.kernels import native

compiled = pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here")


def program(batch, size, maps=None, codes=None, values=None, boxes=None, channels=3):
    return Program(
        maps=maps,
        fill=np.array([10, 20, 30], np.uint8)[:channels],
        codes=np.zeros((batch, 0), np.int32) if codes is None else codes,
        values=np.zeros((batch, 0), np.float32) if values is None else values,
        boxes=np.zeros((batch, 0, 4), np.int64) if boxes is None else boxes,
        hole=np.array([1, 2, 3], np.uint8)[:channels],
        size=size,
    )


def pictures(batch, height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, channels), dtype=np.uint8)


@compiled
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_compiled_way_gives_the_same_bytes(data):
    seed, batch, count = data.draw(st.integers(0, 999)), data.draw(st.integers(1, 5)), data.draw(st.integers(0, 5))
    channels = data.draw(st.sampled_from([1, 3, 3, 4]))
    source = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    is_moved = data.draw(st.booleans())
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40))) if is_moved else source
    generator = np.random.default_rng(seed)
    maps = geometry.identity(batch)
    maps[:, :2] += generator.normal(0, 0.5, (batch, 2, 3)) * [1, 1, 8]
    codes = generator.integers(0, len(Operation), (batch, count)).astype(np.int32)
    values = generator.uniform(0, 2, (batch, count)).astype(np.float32)
    values[codes == Operation.posterize] = generator.integers(1, 9, (codes == Operation.posterize).sum())
    values[codes == Operation.solarize] *= 128
    values[codes == Operation.blur] += 0.05
    boxes = np.sort(generator.integers(-9, 40, (batch, 2, 2, 2)), axis=2).reshape(batch, 2, 4)
    images = pictures(batch, *source, channels, seed) // data.draw(st.sampled_from([1, 3]))
    made = program(batch, size, maps if is_moved else None, codes, values, boxes)
    made.fill, made.hole = np.resize(made.fill, channels), np.resize(made.hole, channels)
    np.testing.assert_array_equal(made.of(images), made.interpreted(images))


@compiled
@settings(max_examples=60, deadline=None)
@given(st.sampled_from([1, 3]), st.sampled_from([(1, 1), (1, 2), (3, 90), (2, 1023), (1024, 3), (5, 2500)]), st.data())
def test_pictures_of_any_width_are_sampled_alike(channels, source, data):
    generator = np.random.default_rng(data.draw(st.integers(0, 999)))
    size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 300)))
    maps = geometry.cropped(np.tile([0, 0, *source], (3, 1)), *size)
    maps[:, :2, :2] *= generator.choice([-1, 1, 0.1, 1e-4, 30], (3, 2, 2))
    maps[:, :2, 2] += generator.uniform(-1, 1, (3, 2)) * source[::-1]
    made = program(3, size, maps)
    made.fill = np.resize(made.fill, channels)
    images = pictures(3, *source, channels)
    np.testing.assert_array_equal(made.of(images), made.interpreted(images))


@compiled
@pytest.mark.parametrize("channels", [1, 3])
def test_what_the_network_is_given_has_the_same_bits_either_way(monkeypatch, channels):
    config = cfg.Data(image_size=[9, 14], mean=[0.5, 0.25, 0.75], std=[0.5, 0.25, 1.0])
    augment = cfg.Augment(crop_scale=[0.2, 1], policy=cfg.Policy.rand, erasing=1.0, brightness=0.5)
    images, places = pictures(30, 9, 14, channels), np.array([4, 29, 0, 17])
    changes, normalize = Augmentation(config, augment, 3, 1, 30)(places), Normalize(config)
    fast = normalize(images, places, changes).numpy()
    monkeypatch.setattr(native, "unavailable", lambda: "none here")
    assert isinstance(changes, Program)
    np.testing.assert_array_equal(normalize(images, places, changes).numpy(), fast)
    assert fast.shape == (4, 3, 9, 14)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 999))
def test_a_map_samples_as_pillow_does(seed):
    generator = np.random.default_rng(seed)
    maps = geometry.identity(1)
    maps[:, :2] += generator.normal(0, 0.3, (1, 2, 3)) * [1, 1, 8]
    # Noise would make much of the bits that Pillow has more of a pixel's place.
    slope = np.linspace(0, 255, 20 * 26 * 3).reshape(20, 26, 3).astype(np.uint8)
    made = program(1, (18, 23), maps)
    moved = resampled(slope, made.whole_maps[0], made.fill, made.size)
    pillow = Image.fromarray(slope).transform(
        (23, 18),
        Image.Transform.AFFINE,
        maps[0, :2].ravel().tolist(),
        Image.Resampling.BILINEAR,
        fillcolor=(10, 20, 30),
    )
    assert (np.abs(moved - np.asarray(pillow).astype(int)) <= 1).mean() > 0.995


def test_shifts_and_mirrors_move_bytes_without_a_change():
    config = cfg.Data(image_size=8, mean=[0.5, 0.25, 0.75], std=[0.5, 0.25, 1.0])
    chosen = cfg.Augment(crop_padding=2, flip=True, cutout=3)
    simple = Augmentation(config, chosen, 4, 2, 6)(np.arange(6))
    made = build(chosen, Draws(4, 2, np.arange(6)), simple, (8, 8), config)
    assert isinstance(simple, Changes)
    images = pictures(6, 8, 8)
    np.testing.assert_array_equal(made.interpreted(images), simple.of(images))


def test_a_larger_picture_is_sampled_down_to_the_size_of_the_image():
    config = cfg.Data(image_size=[6, 4])
    augmentation = Augmentation(config, cfg.Augment(), 0, 0, 2)
    even = np.full((2, 12, 8, 3), 99, np.uint8)
    made = augmentation(np.arange(2), (12, 8))
    assert made.of(even).shape == (2, 3, 6, 4)
    assert (made.of(even) == 99).all()


def test_an_operation_without_compiled_code_is_done_in_numpy(monkeypatch):
    from runner.data.augment import apply as module

    made = program(1, (5, 5), codes=np.array([[Operation.blur]], np.int32), values=np.ones((1, 1), np.float32))
    images = pictures(1, 5, 5)
    expected = made.of(images)
    monkeypatch.setattr(module, "COMPILED", Operation.equalize)
    assert not made.is_compiled
    normalize = Normalize(cfg.Data(image_size=5))
    found = normalize(images, np.arange(1), made)
    np.testing.assert_array_equal(found.numpy(), normalize.pixels(paddle.to_tensor(expected)).numpy())
