"""The kernels of processors without AVX-512 compute the same; they are compiled as for such a processor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runner.kernels import native

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(native.unavailable()), reason="no compiled kernels here"),
]
#: Everything that is compared with Paddle over random shapes.
TESTS = ("test_functions.py", "test_tokens.py", "test_activations.py", "test_blocks.py")
AS_WITHOUT = """
import sys
import pytest
from runner.kernels import build
build.FLAGS.append("-mno-avx512f")
sys.exit(pytest.main(["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def test_kernels_without_avx512_are_as_exact(tmp_path):
    files = [str(Path(__file__).with_name(name)) for name in TESTS]
    command = [sys.executable, "-c", AS_WITHOUT, f"--basetemp={tmp_path / 'inner'}", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:]
