"""Random crops of files: cut out of the whole picture, and scaled once."""

from __future__ import annotations

import functools
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from runner import config as cfg
from runner import data, images
from runner.data.augment.draws import ATTEMPTS, Draws, Purpose
from runner.data.transforms import Augmentation
from runner.images import Preparation, decode
from runner.kernels.pictures import resampler

from . import photos
from .pictures import encoded, photo

CROPS = cfg.Augment(crop_scale=[0.08, 1.0], flip=True)
#: Of odd shapes, stored in all of EXIF's orientations.
SIZES = [(90, 40), (40, 90), (64, 64), (400, 300), (31, 200), (7, 5), (1, 60), (300, 20)]
WAYS = [cfg.Cache.memory, cfg.Cache.disk]


def oriented(picture: Image.Image, kind: str, orientation: int, **options: object) -> bytes:
    note = Image.Exif()
    note[0x112] = orientation
    return encoded(picture, kind, exif=note, **options)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Pictures of many shapes, and as large ones that are decoded at a part of their size."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, size in enumerate([*SIZES, (800, 600), (640, 960)]):
        kind = "JPEG" if max(size) > 300 else "PNG"
        place = folder / "train" / ("a", "b")[number % 3 == 0]
        place.mkdir(parents=True, exist_ok=True)
        content = oriented(photos.photo(*size, noise=8, seed=number), kind, number % 8 + 1)
        (place / f"{number:02}.{kind.lower()}").write_bytes(content)
    return folder


def settings_of(root, **changes):
    return cfg.ImageFolder(
        **{
            "root": str(root), "image_size": [24, 32], "batch_size": 4, "val_fraction": 0.0, "test_fraction": 0.0,
            "workers": 0, "mean": [0.0] * 3, "std": [1.0] * 3, **changes,
        }
    )  # fmt: skip


def loader(root, augment=CROPS, rank=0, world=1, **changes):
    return data.build(settings_of(root, **changes), 5, rank=rank, world=world, augment=augment).train


def drawn(train, epoch=0, start=0):
    """The batches of an epoch: indices, and images in grey levels."""
    return [(batch.indices, np.round(255 * batch.images.numpy()).astype(int)) for batch in train.epoch(epoch, start)]


def by_index(batches):
    return {int(index): image for indices, pixels in batches for index, image in zip(indices, pixels, strict=True)}


def assert_same(one, other):
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left[0], right[0])
        np.testing.assert_array_equal(left[1], right[1])


def box_of(epoch, index, size, scale, ratio=(3 / 4, 4 / 3)):
    """torchvision's rule with the numbers of an image: left, upper, right, lower."""
    numbers = Draws(5, epoch, np.array([index])).uniform(Purpose.crop, 2 * ATTEMPTS + 2)[0]
    width, height = size
    for attempt in range(ATTEMPTS):
        area = width * height * (scale[0] + (scale[1] - scale[0]) * numbers[attempt])
        spread = math.log(ratio[1]) - math.log(ratio[0])
        shape = math.exp(math.log(ratio[0]) + spread * numbers[ATTEMPTS + attempt])
        wide, high = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < wide <= width and 0 < high <= height:
            upper, left = int(numbers[-2] * (height - high + 1)), int(numbers[-1] * (width - wide + 1))
            return left, upper, left + wide, upper + high
    wide, high = width, height
    if width / height < ratio[0]:
        high = round(width / ratio[0])
    elif width / height > ratio[1]:
        wide = round(height * ratio[1])
    left, upper = (width - wide) // 2, (height - high) // 2
    return left, upper, left + wide, upper + high


def pillows(content, box, size, mode="RGB"):
    """The same as Pillow, and so torchvision and timm, have it."""
    with Image.open(io.BytesIO(content)) as image:
        whole = ImageOps.exif_transpose(image).convert(mode)
    pixels = np.asarray(whole.crop(box).resize(size, Image.Resampling.BILINEAR), dtype=int)
    return pixels.reshape(size[1], size[0], -1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_a_crop_is_that_of_pillow_in_any_orientation(orientation, channels, data):
    content = oriented(photos.photo(70, 40, 10), "PNG", orientation)
    width, height = (40, 70) if orientation > 4 else (70, 40)
    left, upper = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = left, upper, data.draw(st.integers(left + 1, width)), data.draw(st.integers(upper + 1, height))
    preparation = Preparation(20, 30, channels, data.draw(st.sampled_from(images.RESIZES)), 0.5)

    def crop(size):
        assert size == (width, height)
        return box

    expected = pillows(content, box, (30, 20), "L" if channels == 1 else "RGB")
    made = decode(content, preparation, crop=crop)
    # Pillow may round after scaling across where here it is after scaling down.
    np.testing.assert_allclose(made.astype(int), expected, atol=1)
    np.testing.assert_array_equal(decode(content, preparation, crop=crop, resample=resampler()), made)


@functools.cache
def large_photo():
    return photos.photo(1600, 1200, noise=10)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 1.0])
def test_a_crop_of_a_large_photo_has_the_detail_of_the_whole_one(orientation, share):
    content = oriented(large_photo(), "JPEG", orientation, quality=90)
    width, height = (1200, 1600) if orientation > 4 else (1600, 1200)
    wide, high = round(share * width), round(share * height)
    box = width - wide, (height - high) // 3, width, (height - high) // 3 + high
    made = decode(content, Preparation(96, 64), crop=lambda _: box)
    difference = np.abs(made - pillows(content, box, (64, 96)))
    assert difference.mean() <= 2
    # Where the whole picture is decoded there is nothing to differ.
    assert share > 0.1 or difference.max() <= 1


@pytest.mark.parametrize(("share", "reduction"), [(0.02, 1), (0.08, 2), (0.2, 4), (1.0, 8)])
def test_the_crop_decides_at_which_size_a_photo_is_decoded(share, reduction):
    width, height = round(4000 * math.sqrt(share)), round(3000 * math.sqrt(share))
    box, size = images._geometry((4000, 3000), Preparation(160, 160), lambda _: (0, 0, width, height))
    assert images._reduction(box, size) == reduction


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("resize", list(cfg.Resize))
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_have_the_crops_of_whole_pictures(root, epoch, resize, channels):
    scale = (0.08, 0.5)
    mean = [0.0] * channels
    changes = {"resize": resize, "channels": channels, "mean": mean, "std": [1.0] * channels, "crop_ratio": 0.6}
    train = loader(root, cfg.Augment(crop_scale=list(scale)), **changes)
    made = by_index(drawn(train, epoch))
    assert len(made) == len(train.split) == 10
    for index, pixels in made.items():
        with open(train.split.encoded.read(index), "rb") as stream:
            content = stream.read()
        with Image.open(io.BytesIO(content)) as image:
            size = ImageOps.exif_transpose(image).size
        box = box_of(epoch, index, size, scale)
        expected = pillows(content, box, (32, 24), "L" if channels == 1 else "RGB").transpose(2, 0, 1)
        # Photos may be decoded at a part of their size.
        assert np.abs(pixels - expected).mean() <= 2
        assert max(size) > 300 or np.abs(pixels - expected).max() <= 1


def test_crops_reach_the_edges_of_the_picture(tmp_path):
    # Red grows to the right: what evaluation is given is the middle fifth.
    slope = np.zeros((60, 300, 3), np.uint8)
    slope[:, :, 0], slope[:, :, 1] = np.linspace(0, 255, 300), np.linspace(0, 255, 60)[:, None]
    for label in ("a", "b"):
        (tmp_path / "train" / label).mkdir(parents=True)
        for number in range(40):
            Image.fromarray(slope).save(tmp_path / "train" / label / f"{number}.png")
    [(_, pixels)] = drawn(loader(tmp_path, cfg.Augment(crop_scale=[0.1, 0.2]), image_size=16, batch_size=80))
    for level in pixels[:, :2].transpose(1, 0, 2, 3):
        assert level.min() < 8
        assert level.max() > 247
    middles = pixels[:, 0].mean(axis=(1, 2))
    assert middles.min() < 60
    assert middles.max() > 195


@pytest.mark.parametrize("sampler", list(cfg.Sampler))
@pytest.mark.parametrize("mix", [{}, {"mixup": 0.5, "cutmix": 0.5}])
def test_crops_do_not_depend_on_processes_that_decode_or_on_where_an_epoch_continues(root, sampler, mix):
    augment = replace(CROPS, rotation=20, hue=0.1, **mix)
    expected = drawn(loader(root, augment, sampler=sampler), 2)
    for workers, start in ((0, 1), (2, 0), (2, 2)):
        assert_same(drawn(loader(root, augment, workers=workers, sampler=sampler), 2, start), expected[start:])


@pytest.mark.parametrize("workers", [0, 2])
def test_crops_do_not_depend_on_the_batch_or_the_number_of_processes_of_the_run(root, workers):
    alone = by_index(drawn(loader(root), 1))
    shared = by_index(
        batch
        for rank in range(2)
        for batch in drawn(loader(root, rank=rank, world=2, workers=workers, batch_size=5), 1)
    )
    assert alone.keys() == shared.keys()
    for index, pixels in alone.items():
        np.testing.assert_array_equal(shared[index], pixels)


def test_a_picture_that_an_epoch_has_twice_has_two_crops(root):
    seen: dict[int, list[np.ndarray]] = {}
    for indices, pixels in drawn(loader(root, cfg.Augment(crop_scale=[0.1, 0.3]), sampler=cfg.Sampler.balanced)):
        for index, image in zip(indices, pixels, strict=True):
            seen.setdefault(int(index), []).append(image)
    several = [shown for shown in seen.values() if len(shown) > 1]
    assert several
    assert all(not np.array_equal(*shown[:2]) for shown in several)


def test_a_mirrored_crop_has_the_very_pixels(root):
    plain, flipped = (by_index(drawn(loader(root, replace(CROPS, flip=flip)), 1)) for flip in (False, True))
    is_mirrored = [np.array_equal(flipped[index], pixels[:, :, ::-1]) for index, pixels in plain.items()]
    is_same = [np.array_equal(flipped[index], pixels) for index, pixels in plain.items()]
    assert all(np.logical_or(is_mirrored, is_same))
    assert any(is_mirrored)
    assert any(is_same)


def test_other_geometry_comes_after_the_crop(root):
    turned = replace(CROPS, rotation=40, fill=[9], crop_padding=3)
    train, plain = loader(root, turned), by_index(drawn(loader(root, replace(CROPS, flip=False))))
    augmentation = Augmentation(train.config, replace(turned, crop_scale=None, crop_padding=0), 5, 0, 10)
    # Draws of a border come before those of mirrors, whether or not there is one.
    augmentation.flips = Augmentation(train.config, turned, 5, 0, 10).flips
    for index, pixels in by_index(drawn(train)).items():
        crop = np.ascontiguousarray(plain[index].transpose(1, 2, 0)[None].astype(np.uint8))
        np.testing.assert_array_equal(augmentation(np.array([index])).of(crop)[0], pixels)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("way", WAYS)
def test_kept_pictures_are_cropped_as_they_are_kept(root, monkeypatch, tmp_path, way, workers):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    augment = replace(CROPS, rotation=20)
    train = loader(root, augment, cache=way, workers=workers)
    kept = np.stack([
        decode(train.split.encoded.read(index), Preparation(36, 48)) for index in range(len(train.split))
    ])  # fmt: skip
    for epoch in range(2):
        program = Augmentation(train.config, augment, 5, epoch, 10)(np.arange(10), (36, 48))
        expected = program.of(kept)
        made = by_index(drawn(train, epoch))
        np.testing.assert_array_equal(np.stack([made[index] for index in range(10)]), expected)


def test_what_a_page_shows_is_what_an_epoch_shows(root):
    train = loader(root, replace(CROPS, rotation=10))
    made = by_index(drawn(train, 1))
    shown = train.seen(np.arange(10), 1).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(shown, np.stack([made[index] for index in range(10)]))


def test_a_function_of_the_user_is_given_the_crop(root):
    same = by_index(drawn(loader(root, replace(CROPS, target=f"{__name__}:inverted", flip=False))))
    for index, pixels in by_index(drawn(loader(root, replace(CROPS, flip=False)))).items():
        np.testing.assert_array_equal(same[index], 255 - pixels)


def inverted(image, generator):
    assert image.shape == (24, 32, 3)
    return 255 - image


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 12), st.sampled_from([[0.001, 0.01], [0.08, 1.0], [1.0, 1.0]]),
    st.sampled_from([[0.75, 4 / 3], [9.0, 20.0], [0.05, 0.1]]), st.integers(0, 99),
)  # fmt: skip
def test_every_picture_has_a_crop_however_small(width, height, scale, ratio, epoch):
    augmentation = Augmentation(
        cfg.Data(), cfg.Augment(crop_scale=scale, crop_ratio=ratio), 0, epoch, 1, crops_pictures=True
    )
    crop = augmentation.crops([np.arange(1)])(0)
    left, upper, right, lower = crop((width, height))
    assert 0 <= left < right <= width
    assert 0 <= upper < lower <= height
    picture = photo(epoch, width, height)
    assert decode(encoded(picture, "PNG"), Preparation(9, 7), crop=crop).shape == (9, 7, 3)


def test_a_crop_of_what_is_transparent_shows_the_background():
    pixels = np.full((20, 20, 4), (200, 0, 0, 0), dtype=np.uint8)
    pixels[:, 10:, 3] = 255
    made = decode(
        encoded(Image.fromarray(pixels), "PNG"),
        Preparation(8, 8, background=(0, 0, 255)),
        crop=lambda _: (5, 0, 15, 10),
    )
    assert (made[:, 0] == (0, 0, 255)).all()
    assert (made[:, -1] == (200, 0, 0)).all()
