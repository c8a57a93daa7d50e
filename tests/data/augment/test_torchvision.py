"""Operations and maps against torchvision's own (v2), where it is installed."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from runner.data.augment import geometry, operations
from runner.data.augment.apply import operated, resampled
from runner.data.augment.operations import Operation

from .test_apply import program
from .test_operations import pictures

torch = pytest.importorskip("torch")
# The wheel on PyPI has operators for a PyTorch with CUDA. No transform needs them, so another one does as well.
with mock.patch("torch.library.register_fake", return_value=lambda function: function):
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
pytestmark = pytest.mark.slow

#: Operation → the function of torchvision, the smallest and the largest strength, and whether it is compared with
#: floats: of bytes torchvision cuts off fractions, of saturation's twice.
RANDOM = {
    Operation.brightness: ("adjust_brightness", 0.0, 2.5, True),
    Operation.contrast: ("adjust_contrast", 0.0, 2.5, True),
    Operation.saturation: ("adjust_saturation", 0.0, 2.5, True),
    Operation.hue: ("adjust_hue", -0.5, 0.5, True),
    Operation.sharpness: ("adjust_sharpness", 0.0, 3.0, False),
    Operation.posterize: ("posterize", 1, 8, False),
    Operation.solarize: ("solarize", 0, 255, False),
}
COLOURS = {
    Operation.brightness: ("adjust_brightness", [0.3, 1.7]),
    Operation.contrast: ("adjust_contrast", [0.3, 1.7]),
    Operation.saturation: ("adjust_saturation", [0.0, 1.7]),
    Operation.hue: ("adjust_hue", [-0.3, 0.1]),
    Operation.sharpness: ("adjust_sharpness", [0.0, 1.9]),
    Operation.posterize: ("posterize", [1, 4]),
    Operation.solarize: ("solarize", [0, 128]),
    Operation.invert: ("invert", [None]),
    Operation.autocontrast: ("autocontrast", [None]),
    Operation.equalize: ("equalize", [None]),
}


def tensor(picture):
    return torch.from_numpy(picture.transpose(2, 0, 1).copy())


def far(changed, expected):
    """Grey levels between an image and a tensor."""
    return np.abs(changed.astype(int) - expected.numpy().transpose(1, 2, 0))


@pytest.mark.parametrize("operation", COLOURS, ids=lambda one: one.name)
def test_an_operation_is_that_of_torchvision_up_to_a_grey_level(operation):
    name, strengths = COLOURS[operation]
    for strength in strengths:
        for picture in pictures():
            arguments = [] if strength is None else [strength]
            expected = getattr(functional, name)(tensor(picture), *arguments)
            assert far(operated(picture, [(operation, strength or 0)]), expected).max() <= 1


@pytest.mark.parametrize("operation", RANDOM, ids=lambda one: one.name)
def test_random_strengths_on_random_pictures_are_those_of_torchvision(operation):
    name, least, most, as_floats = RANDOM[operation]
    generator = np.random.default_rng(int(operation))
    for _ in range(40):
        height, width = generator.integers(3, 60, 2)
        low, high = np.sort(generator.integers(0, 256, 2))
        picture = generator.integers(low, high + 1, (height, width, 3), dtype=np.uint8)
        strength = float(generator.uniform(least, most))
        if isinstance(least, int):
            strength = round(strength)
        given = tensor(picture) / 255 if as_floats else tensor(picture)
        expected = getattr(functional, name)(given, strength) * (255 if as_floats else 1)
        found = far(operated(picture, [(operation, strength)]), expected).max()
        assert found <= (0.7 if as_floats else 1), (strength, picture.shape)


def test_a_blur_is_that_of_torchvision():
    picture = pictures(1, 40, 33)[0]
    size = len(operations.blur_weights(1.3))
    assert (
        far(operations.blur(picture, 1.3), functional.gaussian_blur(tensor(picture), [size, size], [1.3, 1.3])).max()
        <= 1
    )


def smooth():
    y, x = np.mgrid[0:40, 0:32]
    return np.stack([128 + 100 * np.sin(x / 7 + c) * np.cos(y / 9) for c in range(3)], 2).astype(np.uint8)


def one(value):
    return np.array([float(value)])


MAPS = {
    "rotate": (geometry.rotated(one(20), 40, 32), {"angle": -20}),
    "translate": (geometry.shifted(one(5), one(-3)), {"translate": [5, -3]}),
    "zoom": (geometry.scaled(one(1.3), 40, 32), {"scale": 1.3}),
    "shear": (
        geometry.sheared(one(0.2), one(0)),
        {"shear": [float(np.degrees(np.arctan(0.2))), 0.0], "center": [0, 0]},
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_a_map_is_that_of_torchvision_within_the_image(name):
    maps, changes = MAPS[name]
    made = program(1, (40, 32), maps)
    made.fill = np.zeros(3, np.uint8)
    changed = resampled(smooth(), made.whole_maps[0], made.fill, made.size)
    arguments = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | changes
    expected = functional.affine(tensor(smooth()), interpolation=functional.InterpolationMode.BILINEAR, **arguments)
    # At the edges of what is filled torchvision blends the two.
    assert (far(changed, expected) <= 1).mean() > 0.95


def test_a_crop_that_is_scaled_up_is_that_of_torchvision_inside_its_edges():
    box = np.array([[7, 5, 20, 16]])
    made = program(1, (40, 32), geometry.cropped(box, 40, 32))
    changed = resampled(smooth(), made.whole_maps[0], made.fill, made.size)
    expected = functional.resized_crop(tensor(smooth()), *box[0].tolist(), [40, 32], antialias=True)
    assert far(changed, expected)[1:-1, 1:-1].max() <= 1
