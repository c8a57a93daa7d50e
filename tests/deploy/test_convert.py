"""What is said where paddle2onnx ends without a file."""

from __future__ import annotations

import re
import sys

import pytest

from runner.deploy import to_onnx
from runner.errors import ExportError

WARNING = """site-packages/paddle/utils/cpp_extension/extension_utils.py:712: UserWarning: No ccache found. An error?
  warnings.warn(warning_message)
"""


@pytest.mark.parametrize(
    ("stdout", "stderr", "reason"),
    [
        ("", WARNING, "it ended without a reason"),
        ("[Paddle2ONNX] Start parsing the Paddle model file...\n", "", "it ended without a reason"),
        ("[ERROR][Paddle2ONNX] Not a tensor: x\n", WARNING, "Not a tensor: x"),
        ("", f"\033[1m[ERROR][Paddle2ONNX] [OP: p2o] is wrong\n{WARNING}", "[OP: p2o] is wrong"),
        ("", f"[Paddle2ONNX] Oops, some operators are not supported yet: a\n{WARNING}", "not supported yet: a"),
        ("", f"Traceback (most recent call last):\n  raise KeyError(x)\nKeyError: 'x'\n{WARNING}", "KeyError: 'x'"),
        ("", f"terminate called\n  what():  std::bad_alloc\n{WARNING}", "what():  std::bad_alloc"),
    ],
)
def test_the_reason_is_the_converters_own_error_and_never_a_warning(tmp_path, monkeypatch, stdout, stderr, reason):
    program = f"import os, sys; sys.stdout.write({stdout!r}); sys.stderr.write({stderr!r}); sys.exit(255)"
    monkeypatch.setattr(to_onnx.child, "command", lambda *_: [sys.executable, "-c", program])
    with pytest.raises(ExportError, match=re.escape("(exit code 255): ") + f".*{re.escape(reason)}$"):
        to_onnx.convert(tmp_path / "net", tmp_path / "net.onnx")
