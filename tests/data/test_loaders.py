"""Batches: what is in them, in which order, for any number of processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from runner import config as cfg
from runner import data
from runner.data.samplers import batch_bounds
from runner.errors import ConfigError, DataError
from runner.training import seeding


def synthetic(**changes):
    return cfg.Synthetic(**{"train_images": 37, "val_fraction": 0.0, "batch_size": 8, "image_size": 8, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty readable images: the red channel is the number of the image."""
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 30), ("test", 7)):
        for index in range(count):
            place = root / split / f"class{index % 3}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((9, 12, 3), index, np.uint8)).save(place / f"{index:02}.png")
    return root


def image_folder(root, **changes):
    settings = {
        "root": str(root),
        "image_size": 8,
        "batch_size": 8,
        "val_fraction": 0.0,
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
    }
    return cfg.ImageFolder(**settings | changes)


def drawn(loader, epoch=0, start=0):
    return [(batch.indices, batch.images.numpy(), batch.labels.numpy()) for batch in loader.epoch(epoch, start)]


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 60), st.integers(4, 20), st.integers(1, 4), st.integers(0, 5))
def test_every_image_is_seen_once_per_epoch_over_all_processes(size, batch_size, world, epoch):
    assume(-(-size // batch_size) * world <= size)
    config = synthetic(train_images=size, batch_size=batch_size)
    loaders = [data.build(config, 0, rank=rank, world=world).train for rank in range(world)]
    batches = [list(loader.epoch(epoch)) for loader in loaders]
    assert len({len(own) for own in batches}) == 1
    assert all(len(batch.indices) for own in batches for batch in own)
    assert sorted(index for own in batches for batch in own for index in batch.indices) == list(range(size))
    for step in zip(*batches, strict=True):
        assert {batch.global_size for batch in step} == {sum(len(batch.indices) for batch in step)}


def test_the_order_is_a_function_of_seed_and_epoch():
    orders = [data.epoch_order(seed, epoch, 50).tolist() for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) == 3


EVERYTHING = cfg.Augment(
    crop_scale=[0.1, 1], flip=True, flip_vertical=True, rotation=20, translation=0.1, shear=5, zoom=[0.8, 1.2],
    brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, jitter=0.8, grey=0.2, blur=0.3, posterize=0.2, solarize=0.2,
    invert=0.2, sharpness=0.2, autocontrast=0.2, equalize=0.2, policy=cfg.Policy.rand, cutout=2, erasing=0.5,
)  # fmt: skip
AUGMENTED = [cfg.Augment(crop_padding=2, flip=True, cutout=3), EVERYTHING]
augmented = pytest.mark.parametrize("augment", AUGMENTED, ids=["simple", "everything"])
MIXED = replace(EVERYTHING, mixup=0.4, cutmix=1.0)
augmented_and_mixed = pytest.mark.parametrize("augment", [*AUGMENTED, MIXED], ids=["simple", "everything", "mixed"])


@augmented_and_mixed
@pytest.mark.parametrize("start", [1, 3])
def test_an_epoch_continued_in_its_middle_has_the_very_batches(start, augment):
    loader = data.build(synthetic(), 0, augment=augment).train
    for whole, rest in zip(drawn(loader, 2)[start:], drawn(loader, 2, start), strict=True):
        for one, other in zip(whole, rest, strict=True):
            np.testing.assert_array_equal(one, other)


@augmented_and_mixed
def test_workers_give_the_batches_that_the_main_process_would(folder, augment):
    one, two = (
        drawn(data.build(image_folder(folder, workers=workers), 0, augment=augment).train, 1, 1) for workers in (0, 2)
    )
    for whole, rest in zip(one, two, strict=True):
        for left, right in zip(whole, rest, strict=True):
            np.testing.assert_array_equal(left, right)


@augmented
def test_the_augmentation_of_an_image_depends_on_neither_batch_size_nor_process(augment):
    def by_index(batch_size, rank, world):
        config = synthetic(batch_size=batch_size)
        loader = data.build(config, 0, rank=rank, world=world, augment=augment).train
        return {int(i): image for indices, images, _ in drawn(loader) for i, image in zip(indices, images, strict=True)}

    alone = by_index(8, 0, 1)
    shared = by_index(11, 0, 2) | by_index(11, 1, 2)
    assert alone.keys() == shared.keys()
    for index, image in alone.items():
        np.testing.assert_array_equal(shared[index], image)


def test_evaluation_sees_every_image_once_in_order_without_changes():
    config = synthetic(test_images=21, eval_batch_size=8, mean=[0.0] * 3, std=[1.0] * 3)
    loaders = data.build(config, 0, augment=EVERYTHING)
    batches = list(loaders.test)
    assert np.concatenate([batch.indices for batch in batches]).tolist() == list(range(21))
    seen = np.concatenate([batch.images.numpy() for batch in batches])
    expected = loaders.source.test.images.transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(seen, expected, atol=1e-6)


def test_evaluation_counts_every_image_once_over_processes():
    config = synthetic(train_images=70, val_fraction=0.3, eval_batch_size=8)
    seen = [i for rank in range(3) for batch in data.build(config, 0, rank=rank, world=3).val for i in batch.indices]
    assert sorted(seen) == list(range(21))


def test_every_process_could_test_alone():
    config = synthetic(test_images=21, eval_batch_size=8)
    seen = [i for batch in data.build(config, 0, rank=1, world=3).test for i in batch.indices]
    assert seen == list(range(21))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named(folder, tmp_path, workers):
    import shutil

    root = Path(shutil.copytree(folder, tmp_path / "copy"))
    (root / "train" / "class1" / "04.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"class1/04\.png"):
        drawn(data.build(image_folder(root, workers=workers), 0).train)


def test_a_last_batch_smaller_than_the_processes_takes_from_the_one_before():
    assert batch_bounds(17, 8, 2) == [(0, 8), (8, 15), (15, 17)]
    assert batch_bounds(18, 8, 2) == [(0, 8), (8, 16), (16, 18)]


def test_overfitting_takes_the_first_batches_of_the_first_epoch_for_everything():
    loaders = data.build(synthetic(), 0, overfit_batches=2)
    assert len(loaders.source.train) == 16
    assert loaders.source.train is loaders.source.test


def test_workers_leave_the_random_state_of_the_process_alone(folder):
    before = seeding.state()
    drawn(data.build(image_folder(folder, workers=2), 0).train)
    assert seeding.state() == before


def test_random_crops_of_files_keep_the_detail_that_the_files_have(tmp_path):
    # Columns of 4 pixels, black and white: a crop of a quarter of the area shows columns of 4 pixels at half the size.
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, np.arange(96) // 4 % 2 == 1] = 255
    for label in ("a", "b"):
        for number in range(4):
            (tmp_path / "train" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(stripes).save(tmp_path / "train" / label / f"{number}.png")
    config = image_folder(tmp_path, image_size=48)
    crops = cfg.Augment(crop_scale=[0.25, 0.25], crop_ratio=[1.0, 1.0])
    loaders = data.build(config, 0, augment=crops)
    [batch] = loaders.train.epoch(0)
    assert list(batch.images.shape) == [8, 3, 48, 48]
    # Cut out of 48 pixels, stripes of 2 pixels would be scaled up to grey ramps: a third of the pixels and more.
    pixels = batch.images.numpy()
    assert ((pixels > 0.25) & (pixels < 0.75)).mean() < 0.3
    [plain] = loaders.unchanged()
    [unaugmented] = data.build(config, 0).train.epoch(0)
    assert np.array_equal(plain.images.numpy(), unaugmented.images.numpy())
    assert np.array_equal(plain.indices, unaugmented.indices)


@pytest.mark.parametrize(("fill", "fits"), [([255, 0, 0], False), ([9, 9, 9], True), ([9], True)])
def test_a_colour_does_not_fill_pictures_that_are_stored_as_grey_ones(fill, fits):
    grey = data.Images(np.zeros((6, 8, 8, 1), np.uint8), np.arange(6) % 2)
    source = data.Source("grey", ["a", "b"], grey)
    augment = cfg.Augment(rotation=45, fill=fill)
    if fits:
        data.build(synthetic(), 0, source=source, augment=augment)
        return
    with pytest.raises(ConfigError, match=r"augment\.fill=\[255, 0, 0\].*Use one number: augment\.fill=\[255\]"):
        data.build(synthetic(), 0, source=source, augment=augment)


def test_a_colour_that_fills_nothing_is_accepted():
    grey = data.Images(np.zeros((6, 8, 8, 1), np.uint8), np.arange(6) % 2)
    augment = cfg.Augment(enabled=False, rotation=45, fill=[255, 0, 0])
    assert data.build(synthetic(), 0, source=data.Source("grey", ["a", "b"], grey), augment=augment)
