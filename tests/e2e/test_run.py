"""A whole run: what it prints, what it leaves behind, what MLflow has of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from runner.runs.journal import events
from runner.tracking.entities import step_of
from tests import cost


@pytest.fixture(scope="module")
def tracked(finished):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{finished / 'outputs' / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("tested").experiment_id])
    return client, run


@pytest.mark.smoke
def test_the_run_directory_has_everything_a_run_should_leave(finished):
    for name in (
        "config.yaml", "overrides.yaml", "environment.json", "journal.jsonl", "train.log", "result.json",
        "per_class.json", "checkpoints/best", "checkpoints/last", "plots/learning_curves.png",
        "plots/learning_rate.png", "plots/confusion_matrix.png", "plots/mistakes.png",
    ):  # fmt: skip
        assert (finished / "run" / name).is_file(), name


@pytest.mark.smoke
def test_the_weights_are_safetensors_with_the_originals_names(finished):
    folder = finished / "run" / "checkpoints"
    weights = load_file(folder / (folder / "best").read_text().strip() / "model.safetensors")
    assert "student.conv1.conv.weight" in weights
    assert "student.conv2.bottleneck_conv.bn._mean" in weights
    assert weights["student.out.weight"].shape == (1280, 10)


@pytest.mark.smoke
def test_mlflow_has_the_run_under_its_name_and_tags(tracked):
    _, run = tracked
    assert run.info.status == "FINISHED"
    assert run.info.run_name.startswith("cls-none-mobilenet_v3_small_x0_35-")
    expected = {
        "mode": "cls",
        "compression": "none",
        "model": "mobilenet_v3_small_x0_35",
        "data": "digits",
        "amp": "off",
    }
    assert expected.items() <= run.data.tags.items()


@pytest.mark.smoke
def test_mlflow_has_every_leaf_of_the_config(tracked, finished):
    from runner.config import store

    _, run = tracked
    leaves = store.flatten(store.read(finished / "run" / "config.yaml"))
    # A group's choice has the name of the group alone, and the model's says its size.
    named = {key.removesuffix(".kind"): value for key, value in leaves.items()}
    assert run.data.params == named | {"model": "mobilenet_v3_small_x0_35"}


@pytest.mark.smoke
def test_mlflow_has_every_metric_point_of_the_journal_once(tracked, finished):
    client, run = tracked
    points = {}
    for event, _ in events(finished / "run"):
        if event["event"] == "metrics":
            for name, value in event["values"].items():
                points.setdefault(name, []).append((event["step"], value))
    assert {"train/loss", "train/loss/ce/student", "train/top1", "train/lr", "train/images_per_s"} < points.keys()
    assert {
        "val/student/top1",
        "test/student/top1",
        "test/top1",
        "final/top1",
        "final/top5",
        "final/params",
    } < points.keys()
    for name, expected in points.items():
        history = client.get_metric_history(run.info.run_id, name)
        assert sorted((point.step, point.value) for point in history) == sorted(
            (step_of(name, step), value) for step, value in expected
        )


@pytest.mark.smoke
def test_mlflow_has_the_data_set_the_plots_and_the_best_checkpoint(tracked):
    client, run = tracked
    [dataset] = run.inputs.dataset_inputs
    assert dataset.dataset.name == "digits"
    about = json.loads(dataset.dataset.profile)["about"]
    assert (about["class_count"], about["modes"]) == (10, {"L": about["measured"]})
    found = {
        item.path
        for folder in ("", "plots", "checkpoints/best")
        for item in client.list_artifacts(run.info.run_id, folder)
    }
    assert {"config.yaml", "plots/confusion_matrix.png", "checkpoints/best/model.safetensors"} <= found


@pytest.mark.smoke
def test_replaying_the_journal_adds_nothing(tracked, finished, monkeypatch):
    import runner.config as cfg
    from runner.config import store
    from runner.tracking.mlflow import Mirror

    client, run = tracked
    before = client.get_metric_history(run.info.run_id, "train/loss")
    monkeypatch.chdir(finished)
    config = store.read(finished / "run" / "config.yaml")
    assert isinstance(config.tracking, cfg.Mlflow)
    mirror = Mirror(finished / "run", config, config.tracking, print)
    mirror.values["offset"] = 0
    assert mirror.replay()
    assert client.get_metric_history(run.info.run_id, "train/loss") == before


@pytest.mark.smoke
def test_the_end_of_a_run_shows_the_result_the_folder_and_how_to_compare(finished):
    shown = (finished / "stdout.txt").read_text()
    for part in ("test top-1", "cls", "mobilenet_v3_small_x0_35", "Run      run", "python -m runner ui"):
        assert part in shown
    assert (finished / "stderr.txt").read_text() == ""


@pytest.mark.smoke
def test_help_and_config_errors_import_neither_paddle_nor_mlflow_and_are_quick(tmp_path):
    watch = (
        "import sys, atexit; atexit.register(lambda: print([m for m in ('paddle', 'mlflow') if m in sys.modules]));"
        "from runner.__main__ import command; sys.exit(command(sys.argv[1:]))"
    )
    for arguments, code in ((["--help"], 0), (["--cfg", "job"], 0), (["optimizer.lr=-1"], 2), (["nonsense=1"], 2)):

        def run(arguments=arguments, code=code):
            done = subprocess.run(
                [sys.executable, "-c", watch, *arguments], cwd=tmp_path, capture_output=True, text=True
            )
            assert done.returncode == code, done.stderr
            assert done.stdout.endswith("[]\n")

        # A fifth more than a second on a busy machine; Paddle or MLflow would double it.
        assert cost.within(5, run)


@pytest.mark.smoke
def test_help_names_every_group_and_choice(command, tmp_path):
    from runner.cli.config_dir import choices

    page = command("--help", cwd=tmp_path).stdout
    for group, names in choices().items():
        assert group in page
        assert all(name in page for name in names)


@pytest.mark.smoke
@pytest.mark.parametrize("prefix", ["runner", "python -m runner"])
@pytest.mark.parametrize(
    ("typed", "expected"), [("optimizer=", "momentum"), ("mode=cls_d", "cls_distill"), ("train.see", "train.seed=")]
)
def test_tab_completes_choices_and_keys(tmp_path, prefix, typed, expected):
    line = f"{prefix} {typed}"
    words = line.replace("=", " = ").split()
    if line.endswith("="):
        words.append("")
    script = f"""
        export PATH="{Path(sys.executable).parent}:$PATH"
        eval "$(python -m runner completion)"
        COMP_LINE='{line}'; COMP_POINT={len(line)}; COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
        COMP_CWORD={len(words) - 1}
        {"_runner" if prefix == "runner" else "_runner_module"}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    completed = [typed[: typed.rfind("=") + 1] + word for word in done.stdout.split()]
    assert any(word.endswith(expected) for word in completed), done


def test_an_own_data_set_network_and_loss_train(command, tmp_path):
    done = command(
        "+debug=fast_dev_run", "tracking=none", "data=custom", "data.target=tests.samples:stripes", "model=custom",
        "model.target=tests.samples:linear_network", "loss=custom", "loss.target=tests.samples:scaled_error",
        "+loss.kwargs.scale=2.0", "hydra.run.dir=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_images"] == 24


def test_overfitting_a_few_batches_learns_them(command, tmp_path):
    done = command(
        "+debug=overfit_batches", "tracking=none", "data=synthetic", "data.batch_size=8", "train.epochs=15",
        "model=custom", "model.target=tests.samples:linear_network", "hydra.run.dir=run", "deploy.formats=[]",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["final"]["top1"] == 1.0


def test_the_profiler_writes_a_trace_of_ten_steps(command, tmp_path):
    done = command(
        "+debug=profiler", "tracking=none", "data=synthetic", "data.batch_size=32", "train.max_steps=16",
        "schedule.warmup_epochs=0", "model=custom", "model.target=tests.samples:linear_network", "hydra.run.dir=run",
        "deploy.formats=[]", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [trace] = (tmp_path / "run" / "profile").glob("*.json")
    names = [event.get("name", "") for event in json.loads(trace.read_text())["traceEvents"]]
    assert sum(name.startswith("ProfileStep#") for name in names) >= 10
