"""What is drawn for an image: from which distributions, and that nothing else has a say in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import config as cfg
from runner.data.augment import colour, geometry, policies
from runner.data.augment.draws import ATTEMPTS, Draws, Purpose, orders, rectangles
from runner.data.augment.operations import Operation
from runner.data.transforms import Augmentation

MANY = Draws(seed=3, epoch=1, indices=np.arange(20_000))


@given(st.integers(0, 2**70), st.integers(0, 10**6), st.lists(st.integers(0, 10**9), min_size=1), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_the_numbers_of_an_image_do_not_depend_on_the_others(seed, epoch, indices, count):
    together = Draws(seed, epoch, np.array(indices)).uniform(Purpose.policy, count)
    alone = [Draws(seed, epoch, np.array([index])).uniform(Purpose.policy, 9)[0, :count] for index in indices]
    np.testing.assert_array_equal(together, alone)
    assert ((together >= 0) & (together < 1)).all()


def test_numbers_are_uniform_and_differ_between_images_epochs_seeds_and_purposes():
    numbers = MANY.uniform(Purpose.crop, 3)
    counts = np.histogram(numbers, 50, (0, 1))[0]
    assert abs(counts / counts.mean() - 1).max() < 0.15
    assert np.abs(np.corrcoef(numbers.T) - np.eye(3)).max() < 0.03
    assert len(np.unique(numbers)) == numbers.size
    others = [Draws(4, 1, MANY.indices), Draws(3, 2, MANY.indices), Draws(3, 1, MANY.indices + 1)]
    for other in [one.uniform(Purpose.crop, 3) for one in others] + [MANY.uniform(Purpose.affine, 3)]:
        assert abs(np.corrcoef(numbers.ravel(), other.ravel())[0, 1]) < 0.02


def test_random_crops_have_the_areas_and_ratios_that_are_asked_for_and_are_within_the_image():
    boxes, found = rectangles(MANY.uniform(Purpose.crop, 2 * ATTEMPTS + 2), 200, 300, [0.1, 0.5], [0.75, 4 / 3], False)
    assert found.all()
    top, left, height, width = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 200).all()
    assert (left + width <= 300).all()
    area, ratio = height * width / 60_000, width / height
    assert 0.098 < area.min() < 0.102
    assert 0.49 < area.max() < 0.505
    assert 0.73 < ratio.min() < 0.77
    assert abs(np.log(ratio).mean()) < 0.01


def test_a_ratio_that_no_crop_has_gives_the_largest_part_in_the_middle():
    augment = cfg.Augment(crop_scale=[1.0, 1.0], crop_ratio=[0.5, 0.5])
    maps = geometry.cropped(geometry.random_boxes(augment, Draws(0, 0, np.arange(3)), 100, 300), 10, 10)
    np.testing.assert_allclose(maps[:, :2], [[[5, 0, 125], [0, 10, 0]]] * 3)


def test_every_order_of_four_is_as_likely():
    counts = np.unique(orders(MANY.uniform(Purpose.jitter, 1)[:, 0], 4), axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert abs(counts / counts.mean() - 1).max() < 0.2


def test_factors_of_colours_are_between_their_bounds_and_what_is_off_does_not_happen():
    codes, values = colour.jitter(cfg.Augment(brightness=0.4, hue=0.1, jitter=0.25), MANY)
    assert set(np.unique(codes)) == {Operation.nothing, Operation.brightness, Operation.hue}
    happens = codes == Operation.brightness
    assert abs(happens.any(axis=1).mean() - 0.25) < 0.01
    assert 0.6 <= values[happens].min() < 0.61
    assert 1.39 < values[happens].max() <= 1.4
    assert abs(values[codes == Operation.hue]).max() <= 0.1


def test_single_operations_have_their_probabilities():
    codes, values = colour.singles(cfg.Augment(grey=0.2, solarize=0.5, blur=0.1, solarize_threshold=99), MANY)
    assert codes.shape[1] == 3
    for operation, probability in ((Operation.saturation, 0.2), (Operation.solarize, 0.5), (Operation.blur, 0.1)):
        assert abs((codes == operation).any(axis=1).mean() - probability) < 0.012
    assert set(values[codes == Operation.solarize]) == {99}
    assert 0.1 <= values[codes == Operation.blur].min() < values[codes == Operation.blur].max() <= 2


def test_another_change_does_not_alter_what_the_others_draw():
    config = cfg.Data(image_size=16)
    one = Augmentation(config, cfg.Augment(crop_scale=[0.1, 1], erasing=0.5), 5, 2, 40)(np.arange(40))
    two = Augmentation(config, cfg.Augment(crop_scale=[0.1, 1], erasing=0.5, hue=0.2, grey=0.5), 5, 2, 40)(
        np.arange(40)
    )
    np.testing.assert_array_equal(one.maps, two.maps)
    np.testing.assert_array_equal(one.boxes, two.boxes)


@pytest.mark.parametrize(("policy", "count"), [(cfg.Policy.rand, 3), (cfg.Policy.trivial, 1)])
def test_policies_draw_every_operation_as_often(policy, count):
    drawn = policies.draw(cfg.Augment(policy=policy, rand_n=3), MANY, 32, 32)
    codes = drawn.operations[0]
    assert codes.shape == (20_000, count)
    shares = np.array([(codes == Operation[name]).mean() for name in policies.COLOURS])
    assert abs(shares - 1 / 14).max() < 0.006
    still = (drawn.maps == np.eye(3)).all(axis=(1, 2)).mean()
    # Five of fourteen operations move pixels; a few of TrivialAugment's with a strength of 0, or of less than a pixel.
    assert abs(still - (9 / 14) ** count) < 0.03


def test_the_strengths_of_policies_are_those_of_torchvision():
    _, (codes, values) = vars(policies.draw(cfg.Augment(policy=cfg.Policy.rand, rand_n=1), MANY, 32, 32)).values()
    found = {Operation(code).name: sorted(set(np.round(values[codes == code], 4))) for code in np.unique(codes)}
    assert found["brightness"] == found["sharpness"] == pytest.approx([0.73, 1.27])
    assert found["posterize"] == [7]
    assert found["solarize"] == pytest.approx([178.5])
    _, (codes, values) = vars(policies.draw(cfg.Augment(policy=cfg.Policy.trivial), MANY, 32, 32)).values()
    assert set(values[codes == Operation.posterize]) == {2, 3, 4, 5, 6, 7, 8}
    assert values[codes == Operation.contrast].min() == pytest.approx(0.01)
    assert values[codes == Operation.contrast].max() == pytest.approx(1.99)
    assert len(set(values[codes == Operation.solarize])) == 31


def test_what_is_not_enabled_does_nothing():
    augment = cfg.Augment(enabled=False, flip=True, policy=cfg.Policy.rand, crop_padding=3, target="no.such:thing")
    augmentation = Augmentation(cfg.Data(image_size=8), augment, 0, 0, 4)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    images, places = augmentation.prepare(images, np.arange(4), np.arange(4))
    np.testing.assert_array_equal(augmentation(np.arange(4)).of(images[places]), images.transpose(0, 3, 1, 2))
