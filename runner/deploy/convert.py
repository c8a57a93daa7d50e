"""The process that converts a Paddle program to an ONNX file: `… runner.deploy.convert PROGRAM WEIGHTS FILE FOLDED`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import paddle2onnx

from . import to_onnx


def main(program: str, weights: str, target: str, folded: str) -> None:
    """Convert, and fold unless `folded` is empty."""
    # paddle2onnx would install any other tool from a foreign index at run time.
    content = json.loads(Path(program).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        readable = Path(folder, "model.json")
        readable.write_text(json.dumps(to_onnx.with_single_scales(content)), encoding="utf-8")
        paddle2onnx.export(
            str(readable), weights, target, opset_version=17, optimize_tool="None", enable_onnx_checker=True
        )
    to_onnx.correct_attributes(Path(target), content)
    to_onnx.name_ends(Path(target))
    if folded:
        to_onnx.fold_file(Path(target), Path(target))


if __name__ == "__main__":
    main(*sys.argv[1:])
