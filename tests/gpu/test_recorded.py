"""What a GPU is asked for, on a machine without one: every such line is executed, with names that Paddle has."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner import device, parallel
from runner.checkpoints import reading
from runner.cli import import_probe
from runner.cli.verbs import doctor
from runner.config import store
from runner.errors import ConfigError
from runner.launch import nodes
from runner.models import Networks
from runner.models.ops import compile as operators
from runner.models.ops import relu
from runner.parallel import layers, network, ranks
from runner.training import precision, relations, seeding
from runner.training.loop import clock_is_due
from runner.worker import experiment, template
from tests.conftest import INLINE
from tests.e2e.processes import ENVIRONMENT, ROOT
from tests.gpu.places import Visited, places
from tests.gpu.recorded import COUNT, Gpus
from tests.gpu.test_precision import two_optimizers

HERE = Path(__file__).parent
#: Everything that asks for a GPU at once: two optimizers, a scaler, master weights, features, mixed pictures, averages.
EVERYTHING = [
    *INLINE, "model=mobilenet_v3_small_x0_35", "train.device=gpu", "launch.devices=[1]", "amp=fp16", "amp.level=O2",
    "mode=cls_distill_multiopt", "features=attention_transfer", "features.layers=[conv2,conv4]", "augment.mixup=0.4",
    "optimizer@mode.peer_optimizer=momentum", "optimizer.clip_norm=1", "train.accumulate=2", "train.ema=0.9",
]  # fmt: skip


#: A student of that run, whose teacher answers before training.
TAUGHT = [
    *INLINE, "model=mobilenet_v3_small_x0_35", "train.device=gpu", "launch.devices=[1]", "amp=fp16", "amp.level=O2",
    "mode=cls_teacher", "mode.teacher_from=run", "mode.precompute_logits=true",
]  # fmt: skip


@pytest.fixture
def gpus(monkeypatch):
    """Two recorded GPUs."""
    monkeypatch.delenv(device.SELECTED_GPU, raising=False)
    return Gpus(count=2).install(monkeypatch.setattr)


def asks_operators(monkeypatch):
    """The ReLU operator's sources, and what is said where its compiler is missing."""
    sources = []
    monkeypatch.setattr(relu, "register", lambda name, paths: sources.extend(path.name for path in paths))
    relu._registered.__wrapped__()
    assert sources == ["relu.cc", "relu.cu"]
    operators._key([relu.HERE / name for name in sources])
    monkeypatch.setattr(operators.processes, "compiler", lambda: ["g++"])
    assert operators._has_nvcc() in (True, False)
    monkeypatch.setattr(operators, "_has_nvcc", lambda: False)
    with pytest.raises(ConfigError, match=r"needs nvcc.*CUDA toolkit 12\.6"):
        operators._compiler()


def asks_processes(monkeypatch):
    """Two processes of a machine, which meet through NCCL; gradients go by Paddle's reducer."""
    node = nodes.node(cfg.Local(nproc_per_node=2))
    for name, value in node.environment(1, "127.0.0.1:29511").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PADDLE_DISTRI_BACKEND", raising=False)
    monkeypatch.setattr(network, "_retry_until_connected", lambda host, port: None)
    monkeypatch.setattr(paddle.base.core, "create_or_get_global_tcp_store", lambda: None)
    met = []
    monkeypatch.setattr(paddle.distributed, "init_parallel_env", lambda: met.append(True))
    both = parallel.join()
    assert (both.rank, both.world_size, met) == (1, 2, [True])
    for name in node.environment(1, ""):
        monkeypatch.delenv(name)
    networks = Networks({"student": nn.Linear(2, 2)})
    assert isinstance(ranks.Network, type)
    replicas = parallel.replicate(networks, both, [], packed=False)
    assert type(replicas).__name__ == "DataParallel"


def asks_diagnosis(monkeypatch, capsys):
    """`doctor`, with a GPU and with one that the driver hides."""
    found = import_probe.compute(paddle)
    assert found["gpus"] == ["Recorded GPU"] * 2
    for gpus, status in ((found["gpus"], "ok"), ([], "warn")):
        monkeypatch.setattr(doctor, "imported", lambda gpus=gpus: {"paddle": found | {"error": "", "gpus": gpus}})
        [finding] = doctor.device()
        assert finding.status == status
        assert ("make test-gpu" in finding.remedy) is bool(gpus)
        [forking] = doctor.sweeps()
        assert "a build for CUDA" in forking.found


def asks_template(monkeypatch):
    """Jobs of a sweep, which are not forked from a process that may have seen a GPU."""
    refusals = []
    monkeypatch.setattr(sys, "argv", ["template", "1", "0"])
    monkeypatch.setattr(template.processes, "die_with_parent", lambda parent: None)
    monkeypatch.setattr(template.processes, "exit_fast", lambda code: None)
    monkeypatch.setattr(template.gc, "freeze", lambda: None)
    monkeypatch.setattr(template.socket, "socket", lambda fileno: None)
    monkeypatch.setattr(template.forking, "serve", lambda connection, worker, refusal: refusals.append(refusal))
    template.main()
    assert refusals == ["this Paddle is built for GPUs"]


def resumes(directory, gpus):
    """The run of a directory from its checkpoint, scaler and all, on the other GPU."""
    config = store.read(directory / "config.yaml")
    config.launch.devices = []
    saved, _ = reading.newest(directory)
    assert saved.state.scaler["scale"] == [config.amp.initial_scale]
    run = experiment.build(config, saved)
    assert run.training.precision.loss_scale == config.amp.initial_scale
    assert run.training.precision.handles_overflow
    assert clock_is_due(run.training)
    pixels = np.zeros((1, *config.data.size, 3), np.uint8)
    assert run.training.loaders.train.normalize(pixels, np.array([0])).shape == [1, *config.data.input_shape]
    assert gpus.current == "gpu:0"


def test_every_line_that_asks_for_a_gpu_is_executed(gpus, here, tmp_path, monkeypatch, capsys):
    wanted = places()
    visited = Visited(wanted)
    with visited():
        done = here(*EVERYTHING, "deploy.formats=[]", "hydra.run.dir=run", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert gpus.asked("set_device") == [{"device": "gpu:1"}]
        taught = here(*TAUGHT, "deploy.formats=[]", "hydra.run.dir=taught", cwd=tmp_path)
        assert taught.returncode == 0, taught.stderr
        again = here("eval", "run", cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        resumes(tmp_path / "run", gpus)
        device.move_to_cpu(nn.Linear(2, 2))
        assert gpus.current == "cpu"
        relations.rkd(paddle.ones([2, 3]), paddle.ones([2, 3]), 1.0, 1.0)
        gpus.capability = (6, 1)
        with pytest.raises(ConfigError, match="too old for float16"):
            precision.build(cfg.Fp16(), "gpu")
        with monkeypatch.context() as patch:
            asks_operators(patch)
        with monkeypatch.context() as patch:
            asks_diagnosis(patch, capsys)
        with monkeypatch.context() as patch:
            asks_template(patch)
        with monkeypatch.context() as patch:
            asks_processes(patch)
    assert not visited.missed(wanted)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["device"] == "gpu"
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["gpus"] == 2
    assert {call["level"] for call in gpus.asked("decorate")} == {"O2"}
    assert {call.get("dtype") for call in gpus.asked("auto_cast") if call.get("enable", True)} == {"float16"}


def test_that_check_sees_a_line_that_was_not_executed():
    wanted = places()
    visited = Visited(wanted)
    with visited():
        device.is_cpu()
    missed = visited.missed(wanted)
    assert len(missed) == len(wanted) - sum(
        "get_device()" in place.text and place.file == "device.py" for place in wanted
    )
    assert any("precision.py" in text and "GradScaler" in text for text in missed)


def test_a_question_leads_to_the_side_of_a_gpu():
    texts = {str(place).partition(": ")[2] for place in places()}
    assert "_tune_gpu()" in texts
    assert any(text.startswith("changed = ((drawn.of") for text in texts), (
        "what stands behind `if device.is_cpu(): return`"
    )


@pytest.mark.parametrize(("count", "selected", "devices"), [(1, "1", ()), (2, "", (5,))])
def test_a_gpu_that_is_not_there_is_refused_before_processes_meet(monkeypatch, gpus, count, selected, devices):
    gpus.count = count
    monkeypatch.setenv(device.SELECTED_GPU, selected)
    with pytest.raises(ConfigError, match=rf"Paddle sees {count}.*launch\.nproc_per_node={count}"):
        device.choose(cfg.Train(), devices)


def test_processes_on_the_cpu_of_a_machine_with_gpus_exchange_as_on_any(monkeypatch, gpus):
    for name, value in {"PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": "0", "PADDLE_DISTRI_BACKEND": "gloo"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(ranks.PEERS, "")
    monkeypatch.setattr(ranks, "Sockets", lambda rank, numbers: "sockets")
    monkeypatch.setattr(ranks, "PEERS", device.SELECTED_GPU)
    monkeypatch.setenv(device.SELECTED_GPU, "7")
    assert parallel.join().transport == "sockets"


@pytest.mark.parametrize(("amp", "least"), [(cfg.Fp16(fallback=True), (7, 0)), (cfg.Bf16(fallback=True), (8, 0))])
def test_a_gpu_too_old_for_a_precision_falls_back_where_that_is_allowed(gpus, amp, least):
    gpus.capability = (least[0] - 1, 5)
    assert precision.build(amp, "gpu").fell_back
    gpus.capability = least
    assert not precision.build(amp, "gpu").fell_back


@pytest.mark.parametrize("dynamic", [True, False])
def test_paddles_own_scaler_lets_both_optimizers_skip_a_step_and_goes_on(gpus, dynamic):
    step, casting = two_optimizers(dynamic)
    for moved in step(1.0):
        np.testing.assert_allclose(moved, -0.1, rtol=1e-6)
    assert all(np.all(moved == 0) for moved in step(float("inf")))
    assert casting.loss_scale == (4.0 if dynamic else 8.0)
    np.testing.assert_allclose(step(2.0)[0], -0.2, rtol=1e-6)


def test_generators_are_those_of_the_own_gpu(gpus):
    paddle.device.set_device("gpu:1")
    seeding.seed(3)
    before = seeding.state()
    expected = paddle.rand([3]).numpy()
    seeding.restore(before)
    np.testing.assert_array_equal(paddle.rand([3]).numpy(), expected)


def test_synchronised_normalisation_of_half_precision_computes_in_float32():
    generator = np.random.default_rng(0)
    values = (300 * generator.standard_normal((4, 3, 5, 5))).astype(np.float16)
    upstream = generator.standard_normal(values.shape).astype(np.float16)
    results = {}
    for dtype in ("float16", "float32"):
        x = paddle.to_tensor(values.astype(dtype), stop_gradient=False)
        gamma, beta = (paddle.to_tensor(np.full(3, value, np.float32), stop_gradient=False) for value in (2.0, 1.0))
        y, mean, variance = layers._Normalize.apply(x, gamma, beta, parallel.ALONE, 1, 1e-5)
        y.backward(paddle.to_tensor(upstream.astype(dtype)))
        assert {y.dtype, x.grad.dtype} == {x.dtype}
        assert {mean.dtype, variance.dtype, gamma.grad.dtype, beta.grad.dtype} == {paddle.float32}
        tensors = (y, mean, variance, x.grad, gamma.grad, beta.grad)
        results[dtype] = [tensor.astype("float32").numpy() for tensor in tensors]
    for half, wide in zip(results["float16"], results["float32"], strict=True):
        np.testing.assert_allclose(half, wide, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["test_precision.py", "test_step.py", "test_processes.py"])
def test_every_test_of_a_gpu_gets_to_its_end_on_recorded_ones(file):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", f"tests/gpu/{file}"]
    done = subprocess.run(
        command, cwd=ROOT, env=ENVIRONMENT | {COUNT: "2", "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "on GPUs that are only recorded" in done.stdout


def test_what_the_tests_of_a_gpu_name_exists():
    """Every module loads, and every attribute of Paddle and of this package that its source names is there."""
    missing = []
    for path in sorted(HERE.glob("*.py")):
        module = importlib.import_module(f"tests.gpu.{path.stem}")
        for node in ast.walk(ast.parse(path.read_text())):
            dotted = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if re.fullmatch(r"paddle(\.\w+)+", dotted):
                value = paddle
            elif re.fullmatch(r"[a-z_]+\.\w+", dotted) and _is_own(getattr(module, dotted.split(".")[0], None)):
                value = getattr(module, dotted.split(".")[0])
            else:
                continue
            for name in dotted.split(".")[1:]:
                if not hasattr(value, name):
                    missing.append(f"{path.name}:{node.lineno}: {dotted}")
                    break
                value = getattr(value, name)
    assert not missing


def _is_own(value):
    return type(value).__name__ == "module" and value.__name__.partition(".")[0] in ("runner", "tests")
