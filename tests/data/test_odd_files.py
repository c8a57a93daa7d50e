"""Whatever has the name of a file that a user gives, it is refused by its name, and nothing is waited for."""

from __future__ import annotations

import ast
import os
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

import runner
from runner import config as cfg
from runner import images, runs
from runner.checkpoints import weights
from runner.cli import pictures
from runner.data import check, cifar, facts, lists, mnist, shards
from runner.data.names import Names
from runner.data.splits import FilesOnDisk, ImageFiles, Source
from runner.errors import DataError, UserError

PACKAGE = Path(runner.__file__).parent
PREPARATION = images.Preparation(8, 8)
#: How long a reader may take, in seconds.
PATIENCE = 5


def decode_named(path: Path) -> None:
    for picture in pictures.find([str(path)]):
        images.decode(picture, PREPARATION)


class Waited(BaseException):
    """A reader took too long; nothing handles it."""


def read_facts(path: Path) -> None:
    try:
        facts.decoded(str(path), 1 << 20)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def check_all(path: Path) -> None:
    """As training does, whose message names every picture."""
    split = ImageFiles(FilesOnDisk(str(path.parent), Names.of([path.name])), np.zeros(1, np.int64))
    source = Source("set", ["cat", "dog"], split)
    looked = check.inspect(source, cfg.ImageFolder(root=str(path.parent)))
    if looked.broken:
        raise DataError(check.refusal(looked, "set", None))


def read_names(path: Path) -> None:
    (path.parent / "list.csv").write_text("path,label\n1.png,cat\n")
    lists.load(cfg.FileList(train=str(path.parent / "list.csv"), label_file=str(path)))


def read_cifar(path: Path) -> None:
    (path.parent / "batches.meta").write_bytes(b"")
    cifar._Files(path.parent, cifar.FOLDERS["cifar10"], cifar.ARCHIVES["cifar10"], may_download=False).read(path.name)


#: What reads → the name that a user gives it.
READERS = {
    "predict": (decode_named, "1.png"),
    "the facts of a picture": (read_facts, "1.jpg"),
    "the check of pictures": (check_all, "1.tif"),
    "a list": (lambda path: lists.load(cfg.FileList(train=str(path))), "list.txt"),
    "a table": (lambda path: lists.load(cfg.FileList(train=str(path))), "list.csv"),
    "a table of Parquet": (lambda path: lists.load(cfg.FileList(train=str(path))), "list.parquet"),
    "names of classes": (read_names, "names.txt"),
    "an archive": (lambda path: shards.load(cfg.Shards(train=str(path))), "set.tar"),
    "Parquet": (lambda path: shards.load(cfg.Shards(train=str(path))), "set.parquet"),
    "CIFAR": (read_cifar, "data_batch_1"),
    "MNIST": (lambda path: mnist._read(path.parent, "train", 3), "train.gz"),
    **{f"weights, {suffix}": (weights.read, f"net{suffix}") for suffix in runs.WEIGHT_SUFFIXES},
}


def bind(path: Path) -> None:
    place = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as listening:
        # Names of sockets are short.
        listening.bind(f"/proc/self/fd/{place}/{path.name}")
    os.close(place)


def link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.parent / "pipe")
    path.symlink_to(path.parent / "pipe")


def close(path: Path) -> None:
    path.write_bytes(b"1")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root reads everything")


def enlarge(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, 8 << 30)


ODD = {
    "a pipe": os.mkfifo,
    "a link to a pipe": link_to_a_pipe,
    "a folder": os.mkdir,
    "a link to a device without end": lambda path: path.symlink_to("/dev/zero"),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a socket": bind,
    "unreadable": close,
    "8 GiB of zeros": enlarge,
}


@pytest.fixture(autouse=True)
def _patience(tmp_path, monkeypatch):
    def give_up(*_):
        raise Waited

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("reader", READERS)
def test_a_name_that_is_no_regular_file_is_refused_and_not_waited_for(tmp_path, reader, odd):
    read, name = READERS[reader]
    (tmp_path / "given").mkdir()
    path = tmp_path / "given" / name
    ODD[odd](path)
    with pytest.raises(UserError) as caught:
        read(path)
    assert caught.value.exit_code == 3
    # Of MNIST and of folders of pictures the folder is named.
    assert str(path) in str(caught.value) or name in str(caught.value)


#: Modules that open files of this package, or of the system.
OWN = {"data/cache.py", "data/digits.py", "data/download.py", "checkpoints/checkpoint.py", "checkpoints/migration.py"}
#: What has functions of these names that look at what a file is, or get an open one.
OWNERS = {"stored", "tables", "Image", "archive", "tarfile"}


def openings(source: str) -> list[str]:
    """Calls that open a file by its name without looking at what it is."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    plain = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "open"]
    methods = [call.func for call in calls if isinstance(call.func, ast.Attribute)]
    reading = [method for method in methods if method.attr in ("open", "read_bytes", "read_text")]
    return [
        *("open" for call in plain if "regular_descriptor" not in ast.unparse(call)),
        *(ast.unparse(method) for method in reading if ast.unparse(method.value) not in OWNERS),
    ]


def test_every_file_that_a_user_names_is_opened_by_one_function():
    modules = [
        *(PACKAGE / "images").rglob("*.py"),
        *(PACKAGE / "data").rglob("*.py"),
        *(PACKAGE / "checkpoints").rglob("*.py"),
    ]
    names = {str(module.relative_to(PACKAGE)): openings(module.read_text()) for module in modules}
    # fsspec opens URLs; what is written has a name of its own.
    known = {"data/storage.py": ["system.open"], "data/remembered.py": ["partial.open"]}
    known["data/shard_index.py"] = ["partial.open"]
    # Sources of Paddle and of PaddleClas.
    known["checkpoints/imagenet.py"] = ["source.read_text"] * 2
    assert {name: calls for name, calls in names.items() if calls and name not in OWN} == known


@pytest.mark.parametrize("source", ["open(x)", "Path(x).read_bytes()", "x.open('rb')", "os.open(x, 0)"])
def test_that_check_sees_every_way_to_open_a_file(source):
    assert len(openings(source)) == 1
