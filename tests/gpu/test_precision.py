"""Mixed precision and quantization on a GPU: every mode, level and type against float32."""

from __future__ import annotations

import functools
import math

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner.compression import slim
from runner.training import precision
from runner.training.optimizers import Optimization
from tests.conftest import INLINE, run_inline
from tests.gpu.training import RECORDED, SMALL, STEPS, built, losses

MODES = {
    "cls": [],
    "cls_distill": ["mode=cls_distill"],
    "cls_distill with features": ["mode=cls_distill", "features=attention_transfer", "features.layers=[conv2,conv4]"],
    "cls_distill_multiopt": [
        "mode=cls_distill_multiopt", "optimizer@mode.peer_optimizer=momentum", "mode.peer_optimizer.lr=0.01",
    ],
    "cls_teacher": ["mode=cls_teacher"],
}  # fmt: skip
#: Part of the first loss that half precision may change, which has 11 (float16) or 8 (bfloat16) significant bits.
CLOSE = {"fp16": 0.01, "bf16": 0.03}


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """A run of one network, trained and exported on the GPU."""
    folder = tmp_path_factory.mktemp("teacher")
    done = run_inline(*SMALL, *INLINE, "deploy.formats=[onnx]", "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder / "run"


@functools.cache
def in_float32(mode, teacher):
    return losses(built(*overrides(mode, teacher)))


def overrides(mode, teacher):
    return [*MODES[mode], *([f"mode.teacher_from={teacher}"] if mode == "cls_teacher" else [])]


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", ["O1", "O2"])
@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_amp(kind, level, mode, teacher, record_property):
    wide = in_float32(mode, teacher)
    run = built(*overrides(mode, teacher), f"amp={kind}", f"amp.level={level}")
    if level == "O2" and not RECORDED:
        assert {run.training.precision.dtype} <= {
            str(p.dtype).rpartition(".")[2] for p in run.training.networks.parameters()
        }
    half = losses(run)
    record_property("figure", f"loss {half[0]:.3f} → {half[-1]:.3f}, in float32 {wide[0]:.3f} → {wide[-1]:.3f}")
    assert all(map(math.isfinite, half))
    assert half[0] == pytest.approx(wide[0], rel=CLOSE[kind])
    if not RECORDED:
        assert np.mean(half[-5:]) < 0.9 * np.mean(half[:5])


@pytest.mark.gpu(real=True)
@pytest.mark.parametrize(("amp", "dtype"), [(cfg.Fp16(), paddle.float16), (cfg.Bf16(), paddle.bfloat16)])
def test_a_matrix_product_is_of_half_precision(amp, dtype):
    with precision.build(amp, "gpu").autocast():
        assert nn.Linear(8, 8)(paddle.ones([2, 8])).dtype == dtype


@pytest.mark.gpu
def test_float32_computes_what_a_cpu_does(record_property):
    ours, theirs = losses(built(), 2), losses(built("train.device=cpu"), 2)
    record_property(
        "figure",
        f"{abs(ours[0] / theirs[0] - 1):.1e} of the first loss, {abs(ours[1] / theirs[1] - 1):.1e} of the second",
    )
    assert ours[0] == pytest.approx(theirs[0], rel=2e-3)
    assert ours[1] == pytest.approx(theirs[1], rel=2e-2)


def two_optimizers(dynamic):
    """Two networks of one weight matrix each: (what a step with a factor on the first loss moves, their precision)."""
    casting = precision.build(cfg.Fp16(initial_scale=8.0, dynamic=dynamic), "gpu")
    networks = [nn.Linear(3, 1, bias_attr=False) for _ in range(2)]
    both = [
        Optimization([name], paddle.optimizer.SGD(0.1, parameters=[{"params": one.parameters()}]), None, {})
        for name, one in zip("ab", networks, strict=True)
    ]

    def step(factor):
        with casting.autocast():
            outputs = [one(paddle.ones([1, 3])) for one in networks]
        assert {output.dtype for output in outputs} == {paddle.float16}
        before = [one.weight.numpy() for one in networks]
        casting.backward((outputs[0].astype("float32") * factor + outputs[1].astype("float32")).sum())
        casting.step(both)
        return [one.weight.numpy() - own for one, own in zip(networks, before, strict=True)]

    return step, casting


@pytest.mark.gpu
@pytest.mark.parametrize("dynamic", [True, False])
def test_two_optimizers_skip_a_step_together_and_go_on(dynamic, record_property):
    step, casting = two_optimizers(dynamic)
    for moved in step(1.0):
        np.testing.assert_allclose(moved, -0.1, rtol=1e-3)
    assert all(np.all(moved == 0) for moved in step(float("inf")))
    assert casting.loss_scale == (4.0 if dynamic else 8.0)
    np.testing.assert_allclose(step(2.0)[0], -0.2, rtol=1e-3)
    record_property("figure", f"scale 8 → {casting.loss_scale:g}")


@pytest.mark.gpu
@pytest.mark.parametrize("amp", ["off", "fp16", "bf16"])
def test_quantization_aware_training(amp, record_property):
    wide = losses(built("compression=qat"), 1)
    run = built("compression=qat", f"amp={amp}")
    values = losses(run)
    layers = slim.fake_quantized(run.training.networks).values()
    assert {tensor.dtype for layer in layers for tensor in slim.range_state(layer)} == {paddle.float32}
    record_property("figure", f"loss {values[0]:.3f} → {values[-1]:.3f} in {STEPS} steps, {len(layers)} layers")
    assert values[0] == pytest.approx(wide[0], rel=CLOSE.get(amp, 1e-3) * 3)
    assert all(map(math.isfinite, values))


@pytest.mark.gpu
@pytest.mark.parametrize(
    "overrides", [[], ["amp=fp16", "amp.level=O2"], ["compression=qat"]], ids=["float32", "fp16 O2", "qat"]
)
def test_a_whole_run_is_exported_and_evaluated(overrides, tmp_path, record_property):
    formats = "deploy.formats=[onnx]"
    done = run_inline(*SMALL, *INLINE, *overrides, formats, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not exported" not in done.stdout + done.stderr
    assert (tmp_path / "run" / "export" / "model.onnx").is_file()
    again = run_inline("eval", "run", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    resumed = run_inline(
        *SMALL, *INLINE, *overrides, formats, "hydra.run.dir=run", "train.max_steps=4", "checkpoint.resume=auto",
        cwd=tmp_path,
    )  # fmt: skip
    assert resumed.returncode == 0, resumed.stderr
    size = (tmp_path / "run" / "export" / "model.onnx").stat().st_size
    record_property("figure", f"model.onnx of {size / 1e6:.1f} MB; resumed")
