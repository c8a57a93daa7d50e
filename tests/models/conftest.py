import os
import subprocess
import sys
from pathlib import Path

import pytest

USE_OPERATOR = "import paddle; from runner.models.ops import custom_relu; print(custom_relu(paddle.ones([3])).sum())"


def start_python(code: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="session")
def first_users(tmp_path_factory):
    """An empty cache folder with a space in its name, and two processes that used the operator at once."""
    folder = tmp_path_factory.mktemp("my cache")
    processes = [start_python(USE_OPERATOR, XDG_CACHE_HOME=str(folder)) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in processes]
    return folder, [process.returncode for process in processes], outputs


@pytest.fixture(scope="session")
def custom_relu(first_users):
    folder, _, _ = first_users
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        from runner.models.ops import custom_relu

        yield custom_relu
