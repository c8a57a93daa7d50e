from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runner.config import ImageFolder
from runner.data import ImageFiles, Preparation, decode, load, resize_all
from runner.errors import DataError
from runner.images import prepare

from .official import write_folder


def test_the_centre_of_a_wide_image_is_kept() -> None:
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20] = 200
    assert np.array_equal(prepare(Image.fromarray(pixels), Preparation(10, 10)), np.full((10, 10, 3), 200))


def test_the_orientation_a_camera_noted_is_followed(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 3), dtype=np.uint8)
    pixels[:, 8:] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "turned.png", Preparation(16, 16)), pixels[:, ::-1])


def test_grey_sets_and_single_images_are_scaled_alike() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), dtype=np.uint8)
    single = prepare(Image.fromarray(grey[0, :, :, 0]), Preparation(32, 32))
    assert np.array_equal(single, np.repeat(resize_all(grey, 32)[0], 3, axis=2))


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n broken"])
def test_an_unreadable_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png cannot be read as an image"):
        decode(path, Preparation(8, 8))


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "cut.jpg")
    content = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cut\.jpg cannot be read as an image"):
        decode(tmp_path / "cut.jpg", Preparation(8, 8))


def folder_config(root: Path) -> ImageFolder:
    return ImageFolder(root=str(root), image_size=16, val_fraction=0.25)


def test_classes_are_the_sorted_folder_names(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets")
    source = load(folder_config(tmp_path / "pets"))
    assert source.classes == ["cat", "dog"]
    assert isinstance(source.train, ImageFiles)
    assert all(source.classes[label] in source.train.name(index) for index, label in enumerate(source.train.labels))


def test_without_a_val_folder_training_images_are_held_out(tmp_path: Path) -> None:
    write_folder(tmp_path / "pets")
    source = load(folder_config(tmp_path / "pets"))
    assert source.val is not None
    assert (len(source.train), len(source.val)) == (18, 6)
