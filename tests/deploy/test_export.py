"""The verb `export`: what it writes, that it is the trained network, what others make of it, and what is refused."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from safetensors.numpy import load_file

import runner
from runner import config as cfg
from runner.__main__ import command as run_here
from runner.checkpoints import preprocessing, weights
from runner.cli.verbs import runs
from runner.compression import slim
from runner.config import store
from runner.config.rules.search import measured
from runner.deploy import manifest, to_onnx
from runner.deploy.engines import is_installed
from runner.deploy.predict import Deployed
from runner.errors import ConfigError
from runner.processes import locked_folder
from runner.runs import result as results
from runner.runs.journal import CONFIG, LOCK, LOG, RESULT, events
from runner.worker import checks, finish
from tests.conftest import INLINE

SMALL, PEER = "model=mobilenet_v3_small_x0_35", "model@mode.peer=mobilenet_v3_small_x0_5"


def trained(directory, *overrides):
    assert run_here([*INLINE, SMALL, *overrides, f"hydra.run.dir={directory}"]) == 0
    return directory


def contents(folder):
    """Path → bytes of every file below a folder. The log of the process may go on after its run."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {path: content for path, content in found.items() if path != LOG}


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    """A run of two networks of different sizes, trained without an export."""
    folder = tmp_path_factory.mktemp("distilled")
    return trained(folder / "run", "mode=cls_distill", PEER, "deploy.formats=[]")


@pytest.fixture(scope="module")
def exported(distilled):
    """That run with its student in every format."""
    assert run_here(["export", str(distilled), "--format", "onnx,paddle,safetensors"]) == 0
    return distilled


@pytest.fixture(scope="module")
def peer_exported(exported):
    """That run with its peer, too, and what was in the rest of its files before."""
    before = contents(exported)
    assert run_here(["export", str(exported), "--network", "student1", "--format", "onnx,paddle"]) == 0
    return exported, before


def test_every_format_is_written_and_nothing_else(exported):
    assert contents(exported / "export").keys() == {
        "model.json", "model.onnx", "paddle/model.json", "paddle/model.pdiparams", "model.safetensors",
    }  # fmt: skip
    assert not list(exported.glob(".export*"))


def test_the_manifest_has_the_sizes_of_the_files(exported):
    sizes = {path: len(content) for path, content in contents(exported / "export").items()}
    assert {file.path: file.bytes for file in manifest.read(exported / "export").files} == {
        "model.onnx": sizes["model.onnx"],
        "paddle/model.json": sizes["paddle/model.json"] + sizes["paddle/model.pdiparams"],
        "model.safetensors": sizes["model.safetensors"],
    }


@pytest.mark.parametrize("network", ["student", "student1"])
def test_every_file_with_an_engine_agrees_with_its_network_on_all_images(peer_exported, network):
    directory, _ = peer_exported
    described = manifest.read((directory if network == "student" else directory / network) / "export")
    assert described.network == network
    running = [file for file in described.files if file.engine]
    optional = ["openvino"] if is_installed("openvino") else []
    assert [file.engine for file in running] == ["onnxruntime", "paddle", *optional]
    assert {file.agreement for file in running} == {1.0}


def test_the_students_export_counts_for_the_runs_results(exported):
    result = json.loads((exported / "result.json").read_text())
    assert result["final"]["size_mb"] == manifest.read(exported / "export").file().bytes / 1e6
    [values] = [event["values"] for event, _ in events(exported) if "final/size_mb" in event.get("values", {})]
    assert values["final/size_mb"] == result["final"]["size_mb"]


def test_another_network_goes_into_a_folder_of_its_name_and_leaves_export_and_results_alone(peer_exported):
    directory, before = peer_exported
    after = contents(directory)
    own = {path for path in after if path.startswith("student1/export/")}
    assert after.keys() - own == before.keys()
    assert {path for path in before if after[path] != before[path]} == set()
    described = manifest.read(directory / "student1" / "export")
    assert described.params > manifest.read(directory / "export").params


def test_an_output_folder_is_made_and_the_run_stays_as_it_is(exported, tmp_path):
    before = contents(exported)
    place = tmp_path / "some" / "where"
    assert run_here(["export", str(exported), "--format", "safetensors", "--output", str(place)]) == 0
    assert contents(place).keys() == {"export/model.json", "export/model.safetensors"}
    written = weights.read(place / "export" / "model.safetensors")
    assert written.classes == [str(digit) for digit in range(10)]
    assert written.preprocessing == preprocessing.of(store.read(exported / "config.yaml").data)
    assert contents(exported) == before


def test_each_stage_is_named_on_standard_error_alone(exported, tmp_path, capsys):
    assert run_here(["export", str(exported), "--format", "paddle,safetensors", "--output", str(tmp_path)]) == 0
    said = capsys.readouterr()
    stages = [line for line in said.err.splitlines() if line.startswith("Export: ")]
    assert [line.split()[1] for line in stages] == ["reading", "writing", "comparing", "measuring"]
    assert "paddle, safetensors" in stages[1]
    assert "Export: " not in said.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--network", "nope", "--format", "paddle"], "has no such network. It has: student, student1"),
        (["--format", "onnx,nope"], "--format nope: unknown format. Valid: onnx, onnx_fp16, paddle, safetensors."),
        (
            ["--format", "int8"],
            "--format int8: unknown format. Valid: onnx, onnx_fp16, paddle, safetensors. onnx writes the int8 file",
        ),
        ([], "Name some: --format onnx,paddle,safetensors"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_what_can(distilled, capsys, arguments, said):
    before = contents(distilled)
    assert run_here(["export", str(distilled), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert contents(distilled) == before


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_cannot_be_made_is_one_line(distilled, tmp_path, capsys, place):
    (tmp_path / "file").write_text("")
    output = str(tmp_path / place)
    assert run_here(["export", str(distilled), "--format", "safetensors", "--output", output]) == 3
    said = capsys.readouterr().err.strip()
    assert output in said
    assert "--output DIR" in said
    assert len(said.splitlines()) == 1


@contextlib.contextmanager
def another_process_has(lock):
    """Within the context a process holds a lock."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from runner.processes import locked\n"
        "with locked(Path(sys.argv[1])) as lock:\n"
        "    print(lock is not None, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "True\n"
        yield
        process.stdin.close()


def test_a_run_that_another_process_works_on_is_refused(distilled, capsys):
    before = contents(distilled)
    with another_process_has(distilled / LOCK):
        assert run_here(["export", str(distilled), "--format", "safetensors"]) == 2
    assert f"{distilled} is being trained or exported by another process" in capsys.readouterr().err
    assert contents(distilled) == before


@pytest.mark.parametrize("formats", ["", "onnx", "onnx_fp16", "paddle", "safetensors"])
def test_a_run_has_the_costs_that_a_search_may_minimize(formats, tmp_path):
    """Where the rule for searches expects too much, all its trials fail; where too little, it refuses a good search."""
    network = ["data=synthetic", "model=custom", "model.target=tests.samples:linear_network"]
    for seconds in (0, 0.01):
        words = [*network, f"deploy.formats=[{formats}]", f"deploy.bench_s={seconds}"]
        directory = trained(tmp_path / str(seconds), *words)
        final = results.read(directory / RESULT).final
        expected = measured(store.read(directory / CONFIG).deploy)
        assert {cost for cost in cfg.Cost if cost.name in final} == expected


@pytest.fixture(scope="module", params=["fpgm", "qat"])
def compressed(request, tmp_path_factory):
    """The exported weights of a pruned and of a quantized run."""
    folder = tmp_path_factory.mktemp(request.param)
    directory = trained(folder / "run", f"compression={request.param}", "deploy.formats=[safetensors]")
    return directory / "export" / "model.safetensors"


def test_a_new_run_begins_with_exactly_the_exported_weights(compressed, tmp_path):
    begin = [f"checkpoint.init_from={compressed}", "train.epochs=0", "train.max_steps=null", "deploy.formats=[]"]
    directory = trained(tmp_path / "run", *begin)
    found = load_file(directory / "checkpoints" / "step-00000000" / "model.safetensors")
    weights = {name: value for name, value in load_file(compressed).items() if not slim.is_quantization(name)}
    assert found.keys() == {f"student.{name}" for name in weights}
    for name, value in weights.items():
        np.testing.assert_array_equal(found[f"student.{name}"], value, err_msg=name)


def test_exported_weights_can_be_the_teacher(compressed, tmp_path):
    mode = ["mode=cls_teacher", f"mode.teacher_from={compressed}"]
    directory = trained(tmp_path / "run", *mode, "deploy.formats=[]")
    count = sum(not slim.is_quantization(name) for name in load_file(compressed))
    notes = [event["text"] for event, _ in events(directory) if event["event"] == "note"]
    assert f"teacher: {count} of {count} tensors from {compressed}" in notes


@pytest.mark.slow
def test_half_precision_halves_the_file_and_is_compared_like_the_others(exported, tmp_path):
    assert run_here(["export", str(exported), "--format", "onnx_fp16", "--output", str(tmp_path)]) == 0
    assert contents(tmp_path / "export").keys() == {"model.json", "model.fp16.onnx"}
    half, single = manifest.read(tmp_path / "export").file("model.fp16.onnx"), manifest.read(exported / "export").file()
    assert (half.format, half.precision) == ("onnx", "float16")
    assert half.bytes < 0.55 * single.bytes
    # Two steps leave logits so near to each other that some classes may change.
    assert half.agreement > 0.5
    assert 0 < half.max_difference < 0.01
    session = onnxruntime.InferenceSession(tmp_path / "export" / "model.fp16.onnx")
    assert (session.get_inputs()[0].type, session.get_inputs()[0].shape[0]) == ("tensor(float)", "N")


def test_files_that_an_export_removes_are_named(exported, tmp_path, capsys):
    shutil.copytree(exported / "export", tmp_path / "export")
    (tmp_path / "export" / "model.pictures.onnx").touch()
    runner.open(exported).export("onnx", output=tmp_path)
    assert contents(tmp_path / "export").keys() == {"model.json", "model.onnx"}
    said = "removed from the export, which was replaced: model.pictures.onnx, model.safetensors, paddle/model.json"
    assert said in capsys.readouterr().out
    assert run_here(["export", str(exported), "--format", "onnx", "--output", str(tmp_path)]) == 0
    assert "removed" not in capsys.readouterr().out


def test_a_file_that_prepares_pictures_holds_the_recommended_network(exported, tmp_path):
    arguments = ["--format", "onnx", "--output", str(tmp_path), "deploy.preprocess=inside"]
    assert run_here(["export", str(exported), *arguments]) == 0
    described = manifest.read(tmp_path / "export")
    [added] = [file for file in described.files if file.engine is None]
    assert (added.path, added.format, added.precision) == ("model.pictures.onnx", "onnx", "float32")
    assert added.bytes == (tmp_path / "export" / added.path).stat().st_size
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "export" / added.path, providers=["CPUExecutionProvider"])
    expected = Deployed(tmp_path / "export", "model.onnx")([Image.fromarray(picture)])
    np.testing.assert_allclose(session.run(["probabilities"], {"pictures": picture[None]})[0], expected, atol=2e-3)


def test_a_file_that_prepares_pictures_otherwise_is_not_kept(exported, tmp_path, monkeypatch, capsys):
    add, words = to_onnx.add_pictures, ["--format", "onnx", "--output", str(tmp_path), "deploy.preprocess=inside"]
    monkeypatch.setattr(
        to_onnx, "add_pictures", lambda network, path, described: add(network, path, replace(described, std=[1e-3] * 3))
    )
    assert run_here(["export", str(exported), *words]) == 2
    assert "could not be made: ExportError: pictures are prepared otherwise than for" in capsys.readouterr().err
    assert contents(tmp_path / "export").keys() == {"model.json", "model.onnx"}


def fails(error):
    def fail(*_arguments):
        raise error

    return fail


@pytest.mark.parametrize("name", ["model.fp16.onnx", "model.pictures.onnx"])
def test_a_file_that_cannot_be_made_from_another_is_named_and_the_others_are_kept(
    exported, tmp_path, monkeypatch, capsys, name
):
    function = {"model.fp16.onnx": "halve_file", "model.pictures.onnx": "add_pictures"}[name]
    monkeypatch.setattr(to_onnx, function, fails(ValueError("something of the library")))
    words = ["--format", "onnx,onnx_fp16", "deploy.preprocess=inside", "--output", str(tmp_path)]
    assert run_here(["export", str(exported), *words]) == 2
    assert f"{name} could not be made: ValueError: something of the library" in capsys.readouterr().err
    others = {"model.json", "model.onnx", "model.fp16.onnx", "model.pictures.onnx"} - {name}
    assert contents(tmp_path / "export").keys() == others
    assert others == {"model.json", *(file.path for file in manifest.read(tmp_path / "export").files)}


def test_at_the_end_of_training_it_is_a_note(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(to_onnx, "halve_file", fails(ValueError("something of the library")))
    directory = trained(tmp_path / "run", "deploy.formats=[onnx,onnx_fp16]")
    assert "model.fp16.onnx could not be made: ValueError" in capsys.readouterr().out
    assert {file.path for file in manifest.read(directory / "export").files} == {"model.onnx"}


def test_a_full_disk_is_no_such_error(exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(to_onnx, "halve_file", fails(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    before = contents(tmp_path)
    assert run_here(["export", str(exported), "--format", "onnx_fp16", "--output", str(tmp_path)]) == 3
    assert os.strerror(errno.ENOSPC) in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_two_runs_are_not_exported_into_one_folder_at_once(exported, tmp_path, capsys):
    with locked_folder(tmp_path) as is_ours:
        assert is_ours
        assert run_here(["export", str(exported), "--format", "safetensors", "--output", str(tmp_path)]) == 2
    assert f"Another process exports into {tmp_path}. Wait" in capsys.readouterr().err
    assert not contents(tmp_path)


def test_unknown_is_refused_where_training_refuses_it(exported, tmp_path, monkeypatch, capsys):
    words = ["--format", "safetensors", "--output", str(tmp_path), "deploy.unknown_accuracy=0.9"]
    with monkeypatch.context() as patch:
        # A class of the digits.
        patch.setattr(checks, "UNKNOWN", "3")
        assert run_here(["export", str(exported), *words]) == 2
    assert "deploy.unknown_accuracy: a class is already called '3'" in capsys.readouterr().err
    assert run_here(["export", str(exported), *words, "data.val_fraction=0"]) == 2
    assert "deploy.unknown_accuracy needs a validation split" in capsys.readouterr().err


def test_a_run_that_was_stopped_before_its_quantization_is_exported_as_what_it_is(tmp_path, monkeypatch, capsys):
    directory = tmp_path / "run"
    monkeypatch.setattr(finish, "_quantize", fails(ConfigError("stopped")))
    assert run_here([*INLINE, SMALL, "compression=ptq", f"hydra.run.dir={directory}"]) == 2
    assert run_here(["export", str(directory), "--format", "onnx"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "exported with the best weights of" in printed
    assert "not quantized yet: the run was stopped before the end" in printed
    assert manifest.read(directory / "export").compression == "none"


def test_where_another_network_is_deployed_its_name_and_numbers_are_shown(tmp_path, capsys):
    directory = trained(tmp_path / "run", "mode=cls_distill", PEER, "deploy.network=student1", "deploy.formats=[]")
    printed = capsys.readouterr().out
    result, config = results.read(directory / "result.json"), store.read(directory / "config.yaml")
    model = cfg.model_name(config.mode.peer)
    assert f"{model}, {result.final['params'] / 1e6:.2f} M parameters" in printed
    assert "test top-1 of student " in printed
    assert "test top-1 of student1" not in printed
    assert runs.describe(directory)["model"] == model
    [tags] = [event["values"] for event, _ in events(directory) if event["event"] == "tags"]
    assert tags["parameters"] == str(int(result.final["params"]))
