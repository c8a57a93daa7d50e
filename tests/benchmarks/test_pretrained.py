"""The comparison of what weights of ImageNet are worth fails where a bound is missed."""

from __future__ import annotations

import pytest

from benchmarks import pretrained

ENGINES = ("onnxruntime 1", "OpenVINO 2")


def seed(with_weights=0.9, without=0.7, int8=0.9):
    return {
        pretrained.TRAINED: {"test": {"balanced_accuracy": with_weights, "top1": 0.9}},
        pretrained.SCRATCH: {"test": {"balanced_accuracy": without, "top1": 0.7}},
        pretrained.INTEGERS: {"final": {"int8_top1": int8}},
    }


def timings(**times):
    """Those of files that are so many times as fast in integers: engine and batch size → times."""
    rows = []
    for engine in ENGINES:
        for batch in pretrained.BATCHES:
            faster = times.get(f"{engine.partition(' ')[0]}_{batch}", 1.0)
            for row, precision, ms in (
                (pretrained.TRAINED, "float32", 3.0 * batch),
                (pretrained.INTEGERS, "float32", 3.3 * batch),
                (pretrained.INTEGERS, "int8", 3.0 * batch / faster),
            ):
                run = f"/somewhere/seed-0/{row}"
                file = {"run": run, "path": f"model.{precision}.onnx", "engine": engine, "precision": precision}
                rows.append({**file, "batch": batch, "latency_ms_p50": ms})
    return rows


FAST = timings(OpenVINO_1=1.6, OpenVINO_32=2.4)


@pytest.mark.parametrize(
    ("results", "measured", "words"),
    [
        (seed(), FAST, None),
        (seed(), [], None),
        (seed(without=0.86), FAST, "+0.0400 with the weights; at least 0.05"),
        (seed(int8=0.89), FAST, "the integer files lose 1.00 points; at most 0.5"),
        (seed(), timings(), "1.00 times in onnxruntime 1, 1.00 times in OpenVINO 2 as fast; in one at least 1.5"),
        (
            seed(),
            timings(onnxruntime_1=1.6, onnxruntime_32=1.4),
            "are 1.40 times in onnxruntime 1, 1.00 times in OpenVINO",
        ),
        # Neither engine has both.
        (seed(), timings(onnxruntime_1=1.6, OpenVINO_32=1.6), "in one at least 1.5"),
    ],
)
def test_each_bound_is_one(results, measured, words):
    broken = pretrained.out_of_bounds([*results], [results], measured)
    assert len(broken) == (words is not None)
    assert all(words in line for line in broken)


def test_the_table_has_every_file_against_the_float_one_of_the_first_row():
    lines = [pretrained.line(FAST, row) for row in FAST]
    assert lines[:3] == [
        ["weights", "model.float32.onnx", "onnxruntime 1", "1", "3.00", "1.00 ×"],
        ["integers", "model.float32.onnx", "onnxruntime 1", "1", "3.30", "0.91 ×"],
        ["integers", "model.int8.onnx", "onnxruntime 1", "1", "3.00", "1.00 ×"],
    ]
    assert lines[-1][-1] == "2.40 ×"


def test_the_head_is_trained_first_unless_other_rows_are_named():
    assert "weights_head_first" in pretrained.DEFAULT_ROWS
    assert {*pretrained.ROWS, pretrained.INTEGERS} - {*pretrained.DEFAULT_ROWS} == {"random_head_first"}


@pytest.mark.parametrize("row", pretrained.DEFAULT_ROWS)
@pytest.mark.parametrize("chosen", pretrained.SETS)
def test_every_row_is_a_config(config_of, tmp_path, chosen, row):
    changed = pretrained.overrides(chosen, row, "weights.pdparams", tmp_path / "weights")
    config = config_of(*pretrained.SETS[chosen][1], f"data.root={tmp_path}", *changed)
    assert (config.compression.kind == "qat") == (row == pretrained.INTEGERS)
    assert (config.model.freeze_epochs == 2) == row.endswith("_head_first")
