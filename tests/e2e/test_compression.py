"""Every mode with every compression: trained, resumed, evaluated, exported, measured; and what is refused."""

from __future__ import annotations

import itertools
import json
import os

import pytest
from safetensors import safe_open

from runner.__main__ import command as run_here
from runner.compression import slim
from runner.deploy import manifest
from tests.conftest import INLINE, TINY
from tests.e2e.processes import assert_mlflow_has_every_point_once, mlflow_runs, run

MODES = ("cls", "cls_distill", "cls_distill_multiopt", "cls_teacher")
COMPRESSIONS = ("none", "qat", "lsq", "fpgm", "fpgm_qat", "ptq")
MODELS = ("mobilenet_v3_large_x0_5", "resnet18")
#: `make test-matrix` tries all of them; otherwise the networks take turns.
COMBINATIONS = [
    (mode, compression, model)
    for number, (mode, compression) in enumerate(itertools.product(MODES, COMPRESSIONS))
    for turn, model in enumerate(MODELS)
    if "RUNNER_EVERY_COMBINATION" in os.environ or number % 2 == turn
]
SIAMESE = ["model=siamese", "model.size=small", "model.scale=0.35"]


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """Model → a finished run of it without compression."""
    folder, made = tmp_path_factory.mktemp("dense"), {}

    def trained(*model):
        if model not in made:
            made[model] = folder / str(len(made))
            assert run_here([*INLINE, *model, "deploy.formats=[]", f"hydra.run.dir={made[model]}"]) == 0
        return made[model]

    return trained


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """A finished run that lost filters."""
    directory = tmp_path_factory.mktemp("pruned") / "run"
    assert run_here([*INLINE, *TINY[1:], "train.plots=true", "compression=fpgm", f"hydra.run.dir={directory}"]) == 0
    return directory


def train_and_resume(directory, teacher, model, mode, compression):
    """One step, then one more; each pruned or quantized run begins with trained weights."""
    overrides = [*INLINE, *model, f"mode={mode}", f"compression={compression}", f"hydra.run.dir={directory}"]
    overrides += [f"mode.teacher_from={teacher}"] if mode == "cls_teacher" else []
    overrides += [f"checkpoint.init_from={teacher}"]
    assert run_here([*overrides, "train.max_steps=1", "deploy.formats=[]"]) == 0
    assert run_here([*overrides, "train.max_steps=2", "train.plots=true", "checkpoint.resume=auto"]) == 0
    return json.loads((directory / "result.json").read_text())


def check(directory, teacher, model, mode, compression, capsys):
    result = train_and_resume(directory, teacher, model, mode, compression)
    assert result["progress"]["step"] == 2
    before = json.loads((teacher / "result.json").read_text())["final"]
    if "fpgm" in compression:
        assert result["final"]["macs"] < 0.75 * before["macs"]
        assert result["final"]["params"] < 0.75 * before["params"]
    else:
        assert result["final"]["macs"] == before["macs"]

    capsys.readouterr()
    assert run_here(["eval", str(directory), "--json"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    for name, value in again.items():
        if "/" in name:
            assert value == result["test"][name], name

    described = manifest.read(directory / "export")
    quantized = compression not in ("none", "fpgm")
    pictures = {path.stem for path in (directory / "plots").iterdir()}
    assert ("pruning" in pictures, "rounding" in pictures) == ("fpgm" in compression, quantized)
    assert {file.precision for file in described.files} == {"float32", *(["int8"] if quantized else [])}
    assert described.macs == result["final"]["macs"]
    assert described.params == result["final"]["params"]
    if not quantized:
        assert described.files[0].agreement == 1.0
    assert run_here(["bench", str(directory), "--batch", "1", "--seconds", "0.02", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["path"] for row in rows} == {file.path for file in described.files}
    assert all(0 < row["latency_ms_p50"] <= row["latency_ms_p99"] for row in rows)


@pytest.mark.parametrize(("mode", "compression", "model"), COMBINATIONS)
def test_a_mode_with_a_compression_trains_resumes_evaluates_exports_and_is_measured(
    tmp_path, dense, capsys, mode, compression, model
):
    overrides = [f"model={model}"]
    check(tmp_path / "run", dense(*overrides), overrides, mode, compression, capsys)


@pytest.mark.parametrize(("mode", "compression"), [("cls", "ptq"), ("cls_distill", "fpgm_qat")])
def test_so_does_the_siamese_network(tmp_path, dense, capsys, mode, compression):
    check(tmp_path / "run", dense(*SIAMESE), SIAMESE, mode, compression, capsys)


@pytest.mark.parametrize("recipe", ["qat", "fpgm", "fpgm_qat", "ptq"])
def test_a_recipe_compresses_a_trained_run(tmp_path, dense, recipe):
    small = ["model=mobilenet_v3_small_x0_35"]
    directory = tmp_path / "run"
    begin = [f"experiment=compress/{recipe}", f"checkpoint.init_from={dense(*small)}"]
    assert run_here([*INLINE, *small, *begin, "deploy.formats=[]", f"hydra.run.dir={directory}"]) == 0
    checkpoint = directory / "checkpoints" / ("quantized" if recipe == "ptq" else "step-00000002")
    with safe_open(checkpoint / "model.safetensors", "np") as stored:
        names = list(stored.keys())
    assert any("_fake_quant_input" in name for name in names) == (recipe != "fpgm")
    pruned = json.loads((directory / "compression.json").read_text())["student"]["pruned"]
    assert bool(pruned) == ("fpgm" in recipe)


def test_calibration_alone_needs_no_training_step(tmp_path, dense):
    small = ["model=mobilenet_v3_small_x0_35"]
    begin = ["experiment=compress/ptq", f"checkpoint.init_from={dense(*small)}", "data.limit=24"]
    options = [*INLINE[1:], *small, *begin, "deploy.formats=[]", f"hydra.run.dir={tmp_path / 'run'}"]
    assert run_here(options) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["progress"]["step"] == 0


def test_a_pruned_run_is_what_quantization_and_another_pruning_begin_with(tmp_path, pruned):
    for compression in ("qat", "fpgm"):
        begin = [f"compression={compression}", f"checkpoint.init_from={pruned}"]
        assert run_here([*INLINE, *TINY[1:], *begin, f"hydra.run.dir={tmp_path / compression}"]) == 0
    first, quantized, twice = (
        json.loads((directory / "result.json").read_text())["final"]["macs"]
        for directory in (pruned, tmp_path / "qat", tmp_path / "fpgm")
    )
    assert quantized == first
    assert twice < first


@pytest.mark.parametrize("compression", ["qat", "fpgm", "ptq"])
def test_a_compressed_run_can_be_the_teacher(tmp_path, compression):
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    assert run_here([*INLINE, *TINY[1:], f"compression={compression}", f"hydra.run.dir={teacher}"]) == 0
    mode = ["mode=cls_teacher", f"mode.teacher_from={teacher}"]
    assert run_here([*INLINE, *TINY[1:], *mode, f"hydra.run.dir={student}"]) == 0


REFUSED = {
    "a ratio of one": (["compression=fpgm", "compression.prune.ratio=1.0"], 2, "must be below 1"),
    "a ratio of a pattern": (["compression=fpgm", "+compression.prune.ratios.conv1=1.5"], 2, "ratios.conv1=1.5"),
    "a pattern that matches nothing": (
        ["compression=qat", "compression.quantize.skip=[cnov1.*]"], 2, "'cnov1.*' matches no layer",
    ),
    "a pattern that matches nothing at the end of training": (
        ["compression=ptq", "compression.quantize.skip=[cnov1.*]"], 2, "'cnov1.*' matches no layer",
    ),
    "a recipe without a trained run": (["experiment=compress/qat"], 2, "Give it one: checkpoint.init_from=RUN"),
    "everything skipped": (["compression=fpgm", "compression.prune.skip=['*']"], 2, "removes nothing from"),
    "no kind of layer": (["compression=qat", "compression.quantize.layers=[]"], 2, "Name some: [Conv2D,Linear]"),
    "a network without layers to prune": (
        ["model=custom", "model.target=tests.samples:linear_network", "compression=fpgm"], 2, "removes nothing from",
    ),
    "a network that is not there": (["deploy.network=student1"], 2, "It has: student"),
    "half precision weights": (["compression=qat", "amp=fp16", "amp.level=O2"], 2, "amp.level=O1"),
    "no training and no weights": (["train.epochs=0", "train.max_steps=null"], 2, "checkpoint.init_from=RUN"),
    "settings without a compression": (["compression.prune.ratio=0.1"], 2, "null"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compressed_is_refused_with_the_remedy(tmp_path, case):
    overrides, code, reason = REFUSED[case]
    done = run(*TINY, "tracking=none", "hydra.run.dir=run", *overrides, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_network_of_ones_own_is_pruned_without_the_layer_that_gives_its_logits(tmp_path):
    model = ["model=custom", "model.target=tests.samples:fully_convolutional"]
    options = [*INLINE, *model, "compression=fpgm", "deploy.formats=[]"]
    assert run_here([*options, f"hydra.run.dir={tmp_path}"]) == 0
    channels = json.loads((tmp_path / "compression.json").read_text())["student"]["pruned"]["channels"]
    assert set(channels) == {"trunk.0", "trunk.3"}


@pytest.mark.parametrize(
    ("other", "said", "lines"),
    [
        (["model=resnet18"], "was pruned from another network", 1),
        # Both lists of classes are on lines of their own.
        (["data=synthetic", "data.classes=12"], "The classes of 'synthetic' are not those of", 4),
    ],
    ids=["another architecture", "another number of classes"],
)
def test_a_pruned_run_does_not_fit_another_network(tmp_path, pruned, other, said, lines):
    done = run(*TINY, "tracking=none", *other, "hydra.run.dir=run", f"checkpoint.init_from={pruned}", cwd=tmp_path)
    assert done.returncode in (2, 3)
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == lines
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_calibrated_run_is_evaluated_from_mlflow_alone_and_its_model_is_there(tmp_path):
    options = ["+debug=fast_dev_run", "model=mobilenet_v3_small_x0_35", "train.threads=1", "deploy.bench_s=0.02"]
    done = run(*options, "compression=ptq", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    client, [found] = mlflow_runs(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    for name in (
        "top1",
        "params",
        "macs",
        "size_mb",
        "latency_ms_p50",
        "latency_ms_p99",
        "int8_top1",
        "int8_agreement",
    ):
        assert found.data.metrics[f"final/{name}"] == result["final"][name]
    assert found.outputs.model_outputs
    assert {item.path for item in client.list_artifacts(found.info.run_id, "export")} >= {
        "export/model.json", "export/model.onnx", "export/model.int8.onnx",
    }  # fmt: skip
    (tmp_path / "run").rename(tmp_path / "gone")
    again = run("eval", found.info.run_id, "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["student/loss"] == result["test"]["student/loss"]


def test_only_the_final_checkpoint_of_a_calibrated_run_in_mlflow_is_quantized(tmp_path):
    done = run(*TINY, "compression=ptq", "tracking.checkpoints=last", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    client, [found] = mlflow_runs(f"sqlite:///{tmp_path}/outputs/mlflow.db")
    for name, quantized in (("last", False), ("final", True)):
        path = client.download_artifacts(found.info.run_id, f"checkpoints/{name}/model.safetensors", str(tmp_path))
        with safe_open(path, "np") as stored:
            names = list(stored.keys())
        assert names
        assert any(map(slim.is_quantization, names)) == quantized


def test_a_run_with_ratios_by_pattern_reaches_mlflow_whole(tmp_path):
    ratios = ["compression=fpgm", "+compression.prune.ratios={*.mid_se.*:0.1}"]
    done = run(*TINY, *ratios, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = assert_mlflow_has_every_point_once(f"sqlite:///{tmp_path}/outputs/mlflow.db", tmp_path / "run")
    assert found.info.status == "FINISHED"
    assert found.data.params["compression.prune.ratios"] == "{'*.mid_se.*': 0.1}"
    assert found.data.params["compression.prune.ratio"] == "0.3"


def test_a_sweep_over_compressions_ends_in_a_table_with_costs_and_a_plot(tmp_path):
    options = ["+debug=fast_dev_run", "model=mobilenet_v3_small_x0_35", "train.threads=1", "deploy.bench_s=0.02"]
    done = run("-m", *options, "compression=none,ptq", "tracking=none", cwd=tmp_path, env={"COLUMNS": "160"})
    assert done.returncode == 0, done.stderr
    heading = next(line for line in done.stdout.splitlines() if "test top-1" in line and "status" in line)
    assert all(text in heading for text in ("M parameters", "M MACs", "MB", "ms/image", "int8 top-1", "int8 agreement"))
    [plot] = (tmp_path / "outputs" / "default" / "sweeps").rglob("accuracy_latency.png")
    results = [json.loads(path.read_text())["final"] for path in plot.parent.rglob("result.json")]
    assert len(results) == 2
    for final in results:
        assert f"{final['size_mb']:.3f}" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if "FINISHED" in line]
    assert len(rows) == 2
    [integers] = [final for final in results if "int8_top1" in final]
    assert [row[-3:-1] for row in rows if len(row) > len(rows[0])] == [
        [f"{integers['int8_top1']:.4f}", f"{integers['int8_agreement']:.4f}"]
    ]
    # Latencies are measured anew, all jobs in turns.
    assert all(0 < float(row[len(rows[0]) - 2]) < 1000 for row in rows)
    assert "1 thread, in turns" in done.stdout


def test_a_file_that_is_not_the_network_is_refused_and_the_earlier_export_kept(tmp_path, dense, monkeypatch):
    from runner.deploy import engines

    directory = tmp_path / "run"
    small = ["model=mobilenet_v3_small_x0_35"]
    assert run_here([*INLINE, *small, f"hydra.run.dir={directory}"]) == 0
    before = (directory / "export" / "model.onnx").read_bytes()
    opened = engines.open_

    def wrong(*arguments):
        engine = opened(*arguments)
        return lambda images: engine(images)[:, ::-1]

    monkeypatch.setattr(engines, "open_", wrong)
    assert run_here(["export", str(directory)]) == 3
    assert (directory / "export" / "model.onnx").read_bytes() == before
    assert not list(directory.glob(".export*"))
