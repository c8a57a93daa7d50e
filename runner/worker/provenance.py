"""Where a result comes from: versions, hardware, the code's commit and the images."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from typing import Any

import numpy as np
import paddle

from .. import __version__, device
from ..data import identity
from ..files.digests import text_digest
from .experiment import Experiment


def environment() -> dict[str, Any]:
    """Versions and hardware that the run used; no environment variables, which may hold secrets."""
    return {
        "runner": __version__,
        "python": platform.python_version(),
        "paddle": paddle.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpus": device.gpus(),
        "git": git_revision(),
    }


def git_revision() -> str | None:
    """The commit of the working directory, with `+` if files differ from it; None if it is not a repository."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        commit, changed = (
            subprocess.run(["git", *question], capture_output=True, text=True, timeout=2, check=True).stdout.strip()
            for question in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
        return commit + "+" * bool(changed)
    return None


def describe_data(run: Experiment) -> dict[str, Any]:
    """The data set as MLflow shows it."""
    source = run.training.loaders.source
    digests = identity.digests(source)
    digest = text_digest(" ".join(digests.values()))
    profile = {name: len(split) for name, split in source.splits.items()} | {"classes": len(source.classes)}
    return {
        "name": source.name,
        "digest": digest,
        "source": run.about.place,
        "profile": profile,
        "digests": digests,
        "compared": identity.compared(source),
        "about": run.about.as_json(),
    }
