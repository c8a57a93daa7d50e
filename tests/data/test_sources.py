"""Sets read from their official files, written here in the official formats."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import pickle
import struct
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image

from runner import config as cfg
from runner import data
from runner.data import cifar, download, mnist
from runner.errors import DataError
from runner.images import Preparation, decode


def test_the_digits_are_1797_images_of_ten_classes_split_by_class():
    source = data.load(cfg.Digits(image_size=8, val_fraction=0.0))
    assert (len(source.train), len(source.test), len(source.classes)) == (1437, 360, 10)
    assert source.train.images.max() == 255
    assert np.bincount(source.test.labels).min() >= 34


def test_the_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    source = data.load(cfg.Digits(image_size=8, val_fraction=0.0))
    ours = np.sort(np.concatenate([source.train.images, source.test.images]).reshape(1797, -1).sum(axis=1))
    theirs = np.sort(np.round(load_digits().data * 255 / 16).sum(axis=1))
    np.testing.assert_array_equal(ours, theirs.astype(ours.dtype))


def rows(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


def write_cifar10(folder):
    for number in range(1, 6):
        write_pickle(folder / f"data_batch_{number}", {b"data": rows(4, number), b"labels": [number % 10] * 4})
    write_pickle(folder / "test_batch", {b"data": rows(3, 9), b"labels": [1, 2, 3]})
    write_pickle(folder / "batches.meta", {b"label_names": [f"class {n}".encode() for n in range(10)]})


def write_cifar100(folder):
    for name, count in (("train", 6), ("test", 3)):
        write_pickle(
            folder / name,
            {b"data": rows(count, count), b"fine_labels": list(range(count)), b"coarse_labels": [0] * count},
        )
    write_pickle(folder / "meta", {b"fine_label_names": [f"class {n}".encode() for n in range(100)]})


@pytest.mark.parametrize("place", ["", "cifar-10-batches-py"])
def test_cifar10_is_read_from_its_batches(tmp_path, place):
    write_cifar10(tmp_path / place)
    source = data.load(cfg.Cifar10(root=str(tmp_path), val_fraction=0.0))
    assert (len(source.train), len(source.test), len(source.classes)) == (20, 3, 10)
    np.testing.assert_array_equal(source.train.images[4], rows(4, 2)[0].reshape(3, 32, 32).transpose(1, 2, 0))


def test_cifar100_is_read_from_its_archive_with_fine_labels(tmp_path):
    write_cifar100(tmp_path / "made" / "cifar-100-python")
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made" / "cifar-100-python", "cifar-100-python")
    source = data.load(cfg.Cifar100(root=str(tmp_path), val_fraction=0.0))
    assert source.train.labels.tolist() == list(range(6))
    assert len(source.classes) == 100


class Hostile:
    def __reduce__(self):
        return (eval, ("1/0",))


def test_code_in_a_cifar_file_does_not_run(tmp_path):
    write_cifar10(tmp_path)
    write_pickle(tmp_path / "data_batch_3", {b"data": Hostile()})
    with pytest.raises(DataError, match="data_batch_3 is damaged"):
        data.load(cfg.Cifar10(root=str(tmp_path)))


def test_a_missing_cifar_batch_is_named(tmp_path):
    write_cifar10(tmp_path)
    (tmp_path / "data_batch_4").unlink()
    with pytest.raises(DataError, match="data_batch_4 is missing"):
        data.load(cfg.Cifar10(root=str(tmp_path)))


def idx(array):
    return struct.pack(f">{array.ndim + 1}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def write_mnist(root, compressed):
    generator = np.random.default_rng(0)
    for split, count in (("train", 20), ("t10k", 10)):
        arrays = {
            f"{split}-images-idx3-ubyte": generator.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            f"{split}-labels-idx1-ubyte": (np.arange(count) % 10).astype(np.uint8),
        }
        for name, array in arrays.items():
            if compressed:
                (root / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (root / name).write_bytes(idx(array))


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("kind", [cfg.Mnist, cfg.FashionMnist])
def test_mnist_and_fashion_mnist_are_read_from_idx_files(tmp_path, kind, compressed):
    write_mnist(tmp_path, compressed)
    source = data.load(kind(root=str(tmp_path), image_size=28, val_fraction=0.0))
    assert source.train.images.shape == (20, 28, 28, 1)
    assert source.test.labels.tolist() == list(range(10))
    assert len(source.classes) == 10


def test_a_truncated_idx_file_is_named(tmp_path):
    write_mnist(tmp_path, compressed=False)
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte is damaged"):
        data.load(cfg.Mnist(root=str(tmp_path)))


@pytest.mark.parametrize(
    ("config", "file"),
    [
        (cfg.Cifar10, "cifar-10-python.tar.gz"),
        (cfg.Cifar100, "cifar-100-python.tar.gz"),
        (cfg.Mnist, "train-images-idx3-ubyte.gz"),
        (cfg.FashionMnist, "train-images-idx3-ubyte.gz"),
    ],
)
def test_a_missing_set_says_which_file_is_expected_where_and_how_to_get_it(tmp_path, config, file):
    with pytest.raises(DataError) as missing:
        data.load(config(root=str(tmp_path / "nowhere")))
    assert f"nowhere/{file} is missing" in str(missing.value)
    assert "data.download=true" in str(missing.value)


@pytest.fixture
def server(tmp_path):
    """A real server on loopback that serves a folder."""
    (tmp_path / "served").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(tmp_path / "served"))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield tmp_path / "served", f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def official(url, content):
    return download.OfficialFile("file", f"{url}/file", hashlib.md5(content).hexdigest())


def test_a_download_arrives_whole(tmp_path, server):
    served, url = server
    (served / "file").write_bytes(b"content")
    download.require(tmp_path / "root", [official(url, b"content")], download=True)
    assert (tmp_path / "root" / "file").read_bytes() == b"content"


@pytest.mark.parametrize(("content", "said"), [(b"damaged", "arrived damaged"), (None, "cannot be fetched")])
def test_a_download_that_fails_leaves_nothing_behind(tmp_path, server, content, said):
    served, url = server
    if content:
        (served / "file").write_bytes(content)
    with pytest.raises(DataError, match=said):
        download.require(tmp_path / "root", [official(url, b"content")], download=True)
    assert list((tmp_path / "root").iterdir()) == []


def test_every_official_file_has_a_checksum_and_a_home():
    assert {file.url.partition(":")[0] for file in cifar.ARCHIVES.values()} == {"https"}
    assert mnist.CHECKSUMS.keys() == mnist.HOMES.keys() == mnist.CLASSES.keys()


def picture(path, size=(10, 20), mode="RGB", color=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "RGB", "CMYK", "1"])
def test_images_of_every_kind_become_square_rgb(tmp_path, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    picture(tmp_path / f"image.{suffix}", mode=mode, color=1 if mode in ("P", "1", "L") else None)
    assert decode(tmp_path / f"image.{suffix}", Preparation(16, 16)).shape == (16, 16, 3)


def test_an_image_stands_upright_whatever_the_camera_said(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 3  # turned by half
    image.save(tmp_path / "turned.png", exif=exif)
    assert decode(tmp_path / "turned.png", Preparation(8, 8))[6, 4, 0] == 255


def custom(**kwargs):
    return cfg.CustomData(target="tests.samples:stripes", kwargs=kwargs, val_fraction=0.0)


def test_a_source_of_the_user_is_used():
    assert data.load(custom(images=10)).classes == ["vertical", "horizontal"]


def test_a_label_out_of_range_is_named():
    with pytest.raises(DataError, match="the label of image 7 is 5, but there are 2 classes"):
        data.load(custom(wrong_label=True))


def test_images_of_another_size_than_the_config_says_are_refused():
    with pytest.raises(DataError, match="Set data.image_size"):
        data.load(cfg.CustomData(target="tests.samples:stripes", image_size=64))


def test_a_target_that_returns_something_else_is_refused():
    with pytest.raises(DataError, match="not a runner.data.Source"):
        data.load(cfg.CustomData(target="builtins:dict"))


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["cat", "cat"], "have 'cat' twice"),
        ("ab", "are 'ab', and must be a list"),
        (None, "are None, and must be a list"),
        ([], r"are \[\], and must be a list"),
        ([0, 1], "that of label 0 is 0"),
        (["cat", None], "that of label 1 is None"),
        (["cat", ""], "that of label 1 is ''"),
        (["cat", " \t"], r"that of label 1 is ' \\t'"),
    ],
)
def test_classes_that_are_not_different_names_are_refused(classes, said):
    with pytest.raises(DataError, match=f"The classes of 'stripes' .*{said}"):
        data.load(custom(classes=classes))


def test_a_limit_applies_to_every_split():
    source = data.load(cfg.Synthetic(limit=12))
    assert {len(source.train), len(source.test), len(source.val)} == {12}


def test_synthetic_images_are_a_function_of_their_seed():
    first, again, other = (data.load(cfg.Synthetic(split_seed=seed)).test.images for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
