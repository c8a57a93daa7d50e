"""What a user sees who got something wrong: one message, the documented exit code, no traceback."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import runner.worker  # noqa: F401  What Paddle says when it is imported is no part of a refusal.
from runner import terminal
from tests.conftest import TINY

CONFIG_ERRORS = [
    (["optimzer.lr=1"], ["no key 'optimzer'", "Did you mean optimizer.lr=1?"]),
    (["optimizer.learning_rate=1"], ["no key 'learning_rate' in 'optimizer'", "optimizer.lr=1?", "Valid keys:", "lr"]),
    (["seed=3"], ["no key 'seed' in the config", "Did you mean train.seed=3?"]),
    (["+seed=3"], ["no key 'seed' in the config", "Did you mean train.seed=3?"]),
    (["augmnt.flip=true"], ["no key 'augmnt' in the config", "Did you mean augment.flip=true?"]),
    (["data.augment.flip=true"], ["no key 'augment' in 'data'", "Did you mean augment.flip=true?"]),
    (["root=/x"], ["data.root=/x with data=cifar10|", "image_folder"]),
    (["model.architecture=resnet50"], ["model.architecture=resnet50 with model=vision|paddleclas?"]),
    (["model=resnet51"], ["no model=resnet51", "Did you mean 'resnet50'?"]),
    (["model=vision", "model.architecture=resnet51"], ["Did you mean 'resnet50'?"]),
    (["train=True"], ["train=True", "config group", "train=default", "train.epochs"]),
    (["compression=null"], ["compression=null", "compression=none"]),
    (["mimic=null"], ["mimic=null", "~mimic for none"]),
    (["mode=cls_distill", "mimic=[kd,dist]"], ["+mimic@also.mimic.dist=dist"]),
    (["--seed", "3"], ["--seed: unknown option", "train.seed=1"]),
    (["mode=cls", "--train.seed=3"], ["--train.seed=3: unknown option"]),
    (["train.epochs", "=", "3"], ["KEY=VALUE without spaces"]),
    (["Train.Epochs=3"], ["Did you mean train.epochs=3?"]),
    (["deploy=false"], ["deploy=false", "has keys of its own", "deploy.formats"]),
    (["experiment=nope"], ["no experiment=nope"]),
    (["+experiment=nope"], ["no experiment=nope", "digits/best"]),
    (["debug=nope"], ["no debug=nope", "fast_dev_run"]),
    (["name=${oc.env:NOT_SET_ANYWHERE}"], ["NOT_SET_ANYWHERE is not set", "export NOT_SET_ANYWHERE"]),
    (["hydra.run.dir=${oc.env:NOT_SET_ANYWHERE}"], ["hydra.run.dir", "NOT_SET_ANYWHERE is not set"]),
    (["name=${nowhere}"], ["name", "nowhere"]),
    (["mode=cls,cls_distill"], ["mode=cls,cls_distill has several values", "-m"]),
    (["name=a,b"], ["several values", "-m", "\"name='a,b'\""]),
    (["tracking=mlflow,csv"], ["'tracking=[mlflow,csv]'"]),
    (["train.callbacks=[3]"], ["'train.callbacks=[{target:package.module:callable}]'"]),
    (
        ["-m", "checkpoint.init_from=a (1),b c"],
        ["cannot be parsed", "\"checkpoint.init_from='a (1)','b c'\""],
    ),
    (["name=" + "x" * 300], ["name has 300 bytes"]),
    (["hydra.run.dir=a/b/" + "x" * 300], ["255 bytes"]),
    (["model.kwargs.a=b c)"], ["cannot be parsed", "\"model.kwargs.a='b c)'\""]),
    (
        ["compression=fpgm", "+compression.prune.ratios={\"*\":0.5,'out': 0.1}"],
        ["cannot be parsed", "'+compression.prune.ratios={*:0.5,out: 0.1}'"],
    ),
    (["optimizer.lr=fast"], ["optimizer.lr", "could not be converted to Float"]),
    (["train.ema.enabled=true"], ["train.ema is a single value and has no key 'enabled'. Write train.ema=VALUE"]),
    (["optimizer=adam"], ["no optimizer=adam", "Did you mean 'adamw'?", "momentum"]),
    (["+optimizer.foo=1"], ["no key 'foo' in 'optimizer'"]),
    (["data.batch_size=-5"], ["data.batch_size=-5", "at least 1"]),
    (["train.epochs=0"], ["train.epochs=0", "checkpoint.init_from=RUN"]),
    (["model.size=medium"], ["model.size", "large, small"]),
    (["experiment=orignal/cls"], ["no experiment=orignal/cls", "original/cls"]),
    (
        ["-m", "hydra/sweeper=optuna"],
        ["no longer a hydra/sweeper=optuna", "hydra/sweeper=search", "+sweep/optuna=default"],
    ),
    (["mode.peer.scale=1"], ["no key 'peer' in 'mode'"]),
    (["mode=cls_distill", "mode.peer.scale=1"], ["null"]),
    (["optimizer.lr="], ["optimizer.lr"]),
    (["x=["], ["no key 'x'"]),
    (["data.mean=["], ["'['"]),
    (["checkpoint.init_from="], ["checkpoint.init_from is empty"]),
    (["mode=cls_teacher", "mode.teacher_from="], ["mode.teacher_from is empty"]),
    (["optimizer.lr=1e999"], ["optimizer.lr=inf", "finite"]),
    (["-m", "train.seed=0", "name=../evil"], ["name='../evil'", "it names a folder"]),
    (["-m", "train.seed=range(3,1)"], ["train.seed=range(3,1) has no values"]),
    (["-m", "hydra.launcher=joblib", "train.seed=1,2"], ["written with a slash: hydra/launcher=joblib"]),
    (["="], ["= is not an override. Write KEY=VALUE"]),
    (["~"], ["~ is not an override"]),
    (["hydra.run.dir="], ["hydra.run.dir is empty"]),
    (["hydra.run.dir=''"], ["hydra.run.dir is empty"]),
    (["train.threads=100000"], ["at most 1024"]),
    (["train.seed=99999999999999999999"], ["at most 4294967295"]),
    (["tracking.uri=postgres://host/runs"], ["no store postgres://", "Did you mean 'postgresql'?"]),
    (["tracking.uri=nonsense://x"], ["no store nonsense://", "Valid: http, https, sqlite"]),
    (["tracking.uri=http://"], ["tracking.uri=http://: it names no host"]),
    (["-m", "train.seed=1,2", "tracking.uri=postgresql+pg8000://h/d"], ["pg8000, which is not installed"]),
    (["ui", "nope://"], ["runner ui nope://: MLflow has no store nope://"]),
    (["sync", "--uri", "nope://"], ["--uri nope://: MLflow has no store nope://"]),
    (["evl", "run"], ["Unknown command 'evl'", "Did you mean 'eval'?"]),
]


@pytest.mark.parametrize(("overrides", "said"), CONFIG_ERRORS, ids=[" ".join(o)[:60] for o, _ in CONFIG_ERRORS])
def test_a_bad_config_ends_with_2_and_one_message(here, tmp_path, overrides, said):
    done = here(*overrides, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert all(part in done.stderr for part in said), done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3
    assert not list(tmp_path.iterdir())


def folder_of_images(root, classes=("cat", "dog"), count=6):
    for split in ("train", "test"):
        for number, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                picture = np.full((40, 50, 3), 100 * number + index, dtype=np.uint8)
                Image.fromarray(picture).save(root / split / name / f"{index}.png")
    return root


FOLDER = [
    *TINY,
    "tracking=none",
    "data=image_folder",
    "data.root=images",
    "data.image_size=32",
    "data.val_fraction=0",
]


def data_error(here, tmp_path, *overrides):
    done = here(*overrides, cwd=tmp_path)
    assert done.returncode == 3, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def test_missing_files_are_named_with_the_remedy(here, tmp_path):
    said = data_error(here, tmp_path, "data=cifar10", "tracking=none")
    assert "data/cifar10/cifar-10-python.tar.gz is missing" in said
    assert "data.download=true" in said


def test_a_missing_image_folder_is_named(here, tmp_path):
    assert "images cannot be listed" in data_error(here, tmp_path, *FOLDER)


def test_a_class_folder_without_images_is_named(here, tmp_path):
    folder_of_images(tmp_path / "images")
    (tmp_path / "images" / "train" / "bird").mkdir()
    assert "images/train/bird" in data_error(here, tmp_path, *FOLDER)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named(here, tmp_path, workers):
    root = folder_of_images(tmp_path / "images")
    for index in range(6):
        (root / "train" / "cat" / f"{index}.png").write_bytes(b"no image")
    said = data_error(here, tmp_path, *FOLDER, f"data.workers={workers}", "data.check=none")
    assert "images/train/cat/" in said
    assert len(said.strip().splitlines()) <= 3


def test_a_label_out_of_range_is_named(here, tmp_path):
    said = data_error(
        here, tmp_path, "tracking=none", "data=custom", "data.target=tests.samples:stripes",
        "+data.kwargs.wrong_label=true",
    )  # fmt: skip
    assert "label of image 7 is 5" in said


def test_weights_of_another_network_are_refused_with_what_does_not_match(here, tmp_path, finished):
    weights = finished / "run"
    others = ("model=mobilenet_v3_small_x0_5", "data.image_size=48", f"checkpoint.init_from={weights}")
    done = here("tracking=none", *others, cwd=tmp_path)
    assert done.returncode == 3
    assert "does not fit the network" in done.stderr
    assert "That run has model=mobilenet_v3_small_x0_35 and data=digits, data.image_size=32: repeat" in done.stderr
    assert "checkpoint.strict=false" in done.stderr
    done = here("tracking=none", "experiment=compress/ptq", *others, cwd=tmp_path)
    assert done.returncode == 2
    assert "Use its settings: model=mobilenet_v3_small_x0_35 data.image_size=32" in done.stderr


def test_a_gpu_that_is_not_there_is_said_so(here, tmp_path):
    import paddle

    if paddle.is_compiled_with_cuda():
        pytest.skip("this Paddle has CUDA")
    done = here("train.device=gpu", "tracking=none", cwd=tmp_path)
    assert done.returncode == 2
    assert "train.device=cpu" in done.stderr


def test_a_directory_that_holds_a_run_is_not_overwritten(here, finished):
    before = (finished / "run" / "config.yaml").read_text()
    done = here("hydra.run.dir=run", "train.seed=5", cwd=finished)
    assert done.returncode == 2
    assert "already holds a run" in done.stderr
    assert (finished / "run" / "config.yaml").read_text() == before


def test_a_loss_that_diverges_ends_with_4_and_keeps_the_log(command, tmp_path):
    done = command(
        "data=synthetic", "tracking=none", "model=custom", "model.target=tests.samples:linear_network",
        "loss=custom", "loss.target=tests.samples:explode_at_third_step", "hydra.run.dir=run",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "step 3 of epoch 1" in done.stderr
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_defect_in_the_users_code_ends_with_1_and_says_where_the_log_is(here, tmp_path):
    done = here("tracking=none", "model=custom", "model.target=tests.samples:crash", "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1
    assert "a defect in the user's own code" in done.stderr
    assert "train.log" in done.stderr
    assert "Traceback" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.parametrize("how", ["KeyboardInterrupt", "SystemExit"])
def test_the_users_code_cannot_end_a_run_as_a_signal_or_as_done(here, tmp_path, how):
    custom = ["model=custom", "model.target=tests.samples:leave", f"+model.kwargs.how={how}"]
    done = here("tracking=none", *custom, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 1
    assert how in done.stderr
    assert "train.log" in done.stderr
    assert here("tracking=none", "model.scale=-1", "hydra.run.dir=run", cwd=tmp_path).returncode == 2
    assert "already holds" not in here("tracking=none", *custom, "hydra.run.dir=run", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=mobilenet_v3_small_x0_5"], "model.scale: the run has 0.35, this command 0.5"),
        (["mode=cls_distill"], "mode.kind: the run has cls, this command cls_distill"),
        (["optimizer=sgd"], "optimizer.kind: the run has adamw, this command sgd"),
        (["augment.flip=true"], "augment.flip: the run has False, this command True"),
    ],
)
@pytest.mark.parametrize("where", ["auto", "run"])
def test_a_run_is_not_continued_with_another_composition(here, finished, tmp_path, overrides, said, where):
    shutil.copytree(finished / "run", tmp_path / "run")
    directory = "run" if where == "auto" else "other"
    options = ["tracking=none", f"hydra.run.dir={directory}", f"checkpoint.resume={where}"]
    done = here(*TINY, *overrides, *options, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert f"started with: {terminal.words(TINY)}" in done.stderr
    assert "checkpoint.init_from" in done.stderr
    assert (tmp_path / "run" / "config.yaml").read_bytes() == (finished / "run" / "config.yaml").read_bytes()


@pytest.mark.parametrize(
    "use", ["checkpoint.resume=old", "checkpoint.init_from=old", "mode=cls_teacher mode.teacher_from=old"]
)
def test_a_checkpoint_of_a_future_version_is_told_as_one(here, finished, tmp_path, use):
    shutil.copytree(finished / "run", tmp_path / "old")
    for path in (tmp_path / "old").rglob("state.json"):
        path.write_text(path.read_text().replace('"format": 2', '"format": 99'))
    done = here(*TINY, "tracking=none", "hydra.run.dir=new", *use.split(), cwd=tmp_path)
    assert done.returncode == 3
    assert "newer version of runner" in done.stderr
    assert "Update runner" in done.stderr
    assert not (tmp_path / "new" / "checkpoints").exists()


def test_a_run_of_a_future_version_is_told_as_one(here, finished, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "old")
    with (tmp_path / "old" / "config.yaml").open("a") as stream:
        stream.write("teleportation: true\n")
    done = here("eval", "old", cwd=tmp_path)
    assert done.returncode == 2
    assert "does not fit this version" in done.stderr
    assert "teleportation" in done.stderr


def test_images_that_changed_since_are_not_trained_on_further(here, tmp_path):
    folder_of_images(tmp_path / "images", count=8)
    options = [*FOLDER, "hydra.run.dir=run"]
    assert here(*options, cwd=tmp_path).returncode == 0
    Image.fromarray(np.zeros((40, 50, 3), dtype=np.uint8)).save(tmp_path / "images" / "train" / "cat" / "new.png")
    done = here(*options, "checkpoint.resume=auto", "train.max_steps=4", cwd=tmp_path)
    assert done.returncode == 3
    assert "not those" in done.stderr


class Hostile:
    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_code_in_a_weight_file_does_not_run(here, tmp_path):
    (tmp_path / "w.pdparams").write_bytes(pickle.dumps({"weight": Hostile()}))
    done = here(*TINY, "tracking=none", "checkpoint.init_from=w.pdparams", cwd=tmp_path)
    assert done.returncode == 3
    assert "not an array or a plain container" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["checkpoint.init_from=nope"], ["model.weights=nope.pth"], ["mode=cls_teacher", "mode.teacher_from=nope"],
        ["mode=cls_distill", "model@mode.peer=resnet18", "mode.peer.weights=nope.pth"],
        ["-m", "train.seed=1,2", "checkpoint.init_from=nope"],
    ],
    ids=str,
)  # fmt: skip
def test_weights_that_are_not_there_are_refused_before_anything_is_written(here, tmp_path, words):
    done = here(*words, "tracking=none", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.strip().startswith("nope")
    assert ": no weights were found. Give a run" in done.stderr
    assert not list(tmp_path.iterdir())


UNKNOWN = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("run", ["nowhere", UNKNOWN])
@pytest.mark.parametrize(
    "words",
    [
        "eval RUN", "predict RUN .", "sync RUN", "checkpoint.resume=RUN", "checkpoint.init_from=RUN",
        "mode=cls_teacher mode.teacher_from=RUN",
    ],
)  # fmt: skip
def test_a_run_that_does_not_exist_is_told_as_such(here, finished, run, words):
    said = words.replace("RUN", run).split()
    options = [] if words[0] in "eps" else [*TINY, "tracking=none", "hydra.run.dir=here"]
    shutil.rmtree(finished / "here", ignore_errors=True)
    done = here(*said, *options, cwd=finished)
    assert done.returncode == 3, done.stderr
    assert run in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2


def test_the_code_of_a_stored_run_is_imported_only_when_trusted(here, tmp_path):
    custom = ["data=synthetic", "data.limit=20", "model=custom", "model.target=tests.samples:linear_network"]
    assert here(*TINY[:1], *custom, "tracking=none", "hydra.run.dir=run", cwd=tmp_path).returncode == 0
    refused = here("eval", "run", cwd=tmp_path)
    assert refused.returncode == 2
    assert "tests.samples:linear_network" in refused.stderr
    assert "trust=true" in refused.stderr
    assert here("eval", "run", "trust=true", cwd=tmp_path).returncode == 0
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    assert "trust=true" in here("predict", "run", "x.png", cwd=tmp_path).stderr
    done = here("predict", "run", "x.png", "trust=true", "data.eval_batch_size=4", "--json", cwd=tmp_path)
    assert '"image": "x.png"' in done.stdout


@pytest.mark.parametrize("what", [".", "run/config.yaml"])
def test_what_is_no_run_and_no_file_of_weights_is_told_as_such(here, finished, what):
    done = here(*TINY, "tracking=none", f"checkpoint.init_from={what}", f"hydra.run.dir=other{len(what)}", cwd=finished)
    assert done.returncode == 3
    assert "no weights were found" in done.stderr or "is not a file of weights" in done.stderr
    assert "damaged" not in done.stderr


@pytest.mark.parametrize("place", ["hydra.sweep.dir=run", "hydra.sweep.dir=run/sweeps/x"])
def test_a_sweep_is_not_run_within_a_run(here, finished, place):
    before = sorted((finished / "run").rglob("*"))
    done = here("-m", *TINY, "tracking=none", "train.seed=0,1", place, cwd=finished)
    assert done.returncode == 2
    assert "is in the directory of a run" in done.stderr
    assert sorted((finished / "run").rglob("*")) == before


@pytest.mark.parametrize("line", ["[1,2]", " ", '{"event": "x"}'])
def test_a_run_whose_journal_says_nothing_is_not_up_to_date(here, finished, tmp_path, line):
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "run" / "journal.jsonl").write_text(line)
    done = here("sync", "run", cwd=tmp_path)
    assert done.returncode == 3
    assert "journal.jsonl" in done.stderr
    assert "Bring back" in done.stderr


@pytest.mark.parametrize("body", ["import sys; sys.exit(0)", "raise KeyboardInterrupt", "return 10**400"])
def test_a_metric_that_ends_the_process_or_is_beyond_numbers_is_named(here, tmp_path, monkeypatch, body):
    name = f"metrics_{len(body)}"
    (tmp_path / f"{name}.py").write_text(f"def own(confusion):\n    {body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = here(
        *TINY,
        "tracking=none",
        f"+train.metrics={{k:{{target:{name}:own,goal:max}}}}",
        "hydra.run.dir=run",
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "train.metrics.k" in done.stderr


@pytest.mark.parametrize("words", [["--experimental-rerun", "x.pickle"], ["--experimental-rerun=x"], ["--exp", "x"]])
def test_a_flag_that_unpickles_a_file_is_refused(here, tmp_path, words):
    done = here("mode=cls", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "would run code" in done.stderr
    assert list(tmp_path.iterdir()) == []
