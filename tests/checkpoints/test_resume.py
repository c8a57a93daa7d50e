"""A run that goes on from a checkpoint computes what it would have computed without stopping, bit for bit."""

from __future__ import annotations

import functools

import numpy as np
import paddle
import pytest
from safetensors.numpy import load_file

from runner.checkpoints import checkpoint, reading
from runner.checkpoints.state import ADAPTERS, AVERAGE, EMA, MODEL, OPTIMIZER, About
from runner.config import store
from runner.runs.journal import CONFIG
from runner.training.loop import fit
from runner.training.state import Ending
from runner.worker import distilling, experiment
from tests.data import layouts

#: 6 batches an epoch, 2 epochs; checkpoints within an epoch as well.
LENGTH = [
    "data.batch_size=8", "data.val_fraction=0.2", "train.epochs=2", "train.log_every=4", "checkpoint.every_steps=2",
    "checkpoint.keep=9", "train.threads=1", "tracking=none",
]  # fmt: skip
RUN = ["data=synthetic", "data.train_images=60", "data.test_images=8", *LENGTH]
SMALL = "model=mobilenet_v3_small_x0_35"
LINEAR = ["model=custom", "model.target=tests.samples:linear_network"]
#: With operations of each kind, and images that are mixed.
EVERY_AUGMENTATION = [
    "augment=[photos,rand]", "augment.crop_scale=[0.3,1]", "augment.flip_vertical=true", "augment.rotation=20",
    "augment.translation=0.1", "augment.zoom=[0.8,1.2]", "augment.grey=0.2", "augment.blur=0.3", "augment.equalize=0.2",
    "augment.cutout=2", "augment.erasing=0.5", "augment.mixup=0.4", "augment.cutmix=1",
    "augment.mix_last_probability=0.5",
]  # fmt: skip
SHARES = "every augmentation, mixed, shares of classes"
COMPOSITIONS = {
    "averages, parts of a batch": [*LINEAR, "train.ema=0.9", "train.accumulate=2"],
    "evaluations within epochs, plateau": [
        *LINEAR, "schedule=plateau", "schedule.patience=1", "schedule.min_delta=0.05",
        "train.eval_every_steps=4", "train.ema=0.9",
    ],
    "every augmentation, mixed, drawn by class": [*LINEAR, *EVERY_AUGMENTATION, "data.sampler=sqrt", "train.ema=0.9"],
    SHARES: [
        "data=custom", "data.target=tests.samples:voted", "+data.kwargs={images:60,side:32}", "data.labels=soft",
        *LENGTH, *LINEAR, *EVERY_AUGMENTATION,
    ],
    "balanced sampling, weights": [
        *LINEAR, "data.sampler=balanced", "loss=focal", "loss.class_weights=auto", "augment.flip=true",
    ],
    "many labels": [
        *LINEAR, "data.labels=many", "loss=asl", "train.eval_every_steps=4", "train.ema=0.9", "train.accumulate=2",
    ],
    "many labels, peers": [
        *LINEAR, "data.labels=many", "loss=bce", "mode=cls_distill", "mimic=kl", "loss.class_weights=auto",
    ],
    "many labels, two optimizers": [
        *LINEAR, "data.labels=many", "loss=focal", "mode=cls_distill_multiopt", "mimic=kd", "optimizer=momentum",
    ],
    "two optimizers": [*LINEAR, "mode=cls_distill_multiopt", "optimizer=momentum"],
    "layer-wise steps": [*LINEAR, "optimizer=lamb", "optimizer.clip_norm=1", "train.ema=0.9"],
    "dropout, augmented": [SMALL, "model.dropout=0.3", "augment.flip=true", "augment.crop_padding=2"],
    "mixed pictures, parts of a batch": [
        *LINEAR, "augment.mixup=0.4", "augment.cutmix=1", "augment.mix_off_epochs=1",
        "augment.mix_last_probability=0.3", "train.accumulate=2",
    ],
    "peers, quantized": [SMALL, "mode=cls_distill", "compression=qat"],
    "peers, quantized, features": [
        SMALL, "mode=cls_distill", "compression=qat", "features=attention_transfer", "features.layers=[conv2,conv4]",
    ],
    "three peers, several losses": [
        *LINEAR, "mode=cls_distill_multiopt", "mode.peers=3", "mimic=dkd", "mimic.standardize=true",
        "+mimic@also.mimic.order=dist", "+mimic@also.mimic.relations=rkd", "train.accumulate=2",
    ],
    "two optimizers, learnt ranges": [
        SMALL, "mode=cls_distill_multiopt", "compression=lsq", "compression.quantize.weight_bits=4",
    ],
    "hints, ramps, two optimizers, averages": [
        SMALL, "mode=cls_distill_multiopt", "optimizer=momentum", "features=hint", "features.layers=[conv2,conv4]",
        "features.ramp.epochs=1.5", "mimic=kd", "mimic.ramp.steps=7", "train.accumulate=2", "train.ema=0.9",
    ],
    "mean teacher, hints, quantized": [
        SMALL, "mode.average=true", "mode.average_decay=0.8", "mimic=kl", "features=hint", "features.layers=[conv4]",
        "compression=qat",
    ],
    "mean teacher, pruned, many labels": [
        SMALL, "mode.average=true", "mimic=kl", "data.labels=many", "loss=bce", "compression=fpgm",
    ],
    "pruned, quantized, averages": [SMALL, "compression=fpgm_qat", "train.ema=0.9"],
    "pruned in stages, averages": [
        SMALL, "compression=fpgm", "compression.prune.criterion=taylor", "compression.prune.batches=2",
        "compression.prune.begin_epoch=1", "compression.prune.parts=2", "train.epochs=3", "train.ema=0.9",
        "schedule=plateau", "schedule.patience=1", "compression.prune.allocation=ranking",
        "compression.prune.ratio=0.5", "compression.prune.budget=macs",
    ],
    "pruned in stages, two optimizers": [
        SMALL, "mode=cls_distill_multiopt", "optimizer@mode.peer_optimizer=momentum", "compression=fpgm",
        "compression.prune.criterion=bn_scale", "compression.prune.sparsity=0.001", "compression.prune.begin_epoch=1",
        "train.accumulate=2",
    ],
    "pruned where a frozen part begins to train": [
        SMALL, "compression=fpgm", "compression.prune.begin_epoch=1", "compression.prune.skip=[conv2.*]",
        "model.freeze=[conv2]", "model.freeze_epochs=1",
    ],
    "head first, then all, averages": [SMALL, "model.freeze=[backbone]", "model.freeze_epochs=1", "train.ema=0.9"],
    "head first, then all, quantized, two optimizers": [
        SMALL, "mode=cls_distill_multiopt", "optimizer@mode.peer_optimizer=momentum", "compression=qat",
        "model.freeze=[conv?,'*.bn']", "model.freeze_epochs=0.75", "optimizer.layer_decay=0.9",
        "+optimizer.lr_scale={head: 3}",
    ],
}  # fmt: skip


#: Those with convolutions that the fast suite resumes, and behind which step.
CONVOLUTIONAL = {
    "hints, ramps, two optimizers, averages": 9,
    "dropout, augmented": 9,
    "peers, quantized, features": 9,
    "pruned in stages, averages": 9,
    "pruned where a frozen part begins to train": 6,
    "head first, then all, averages": 9,
}


class Keeping:
    """Keeps a checkpoint whenever the loop offers one, and asks to stop behind a step."""

    def __init__(self, directory, run, last=None):
        self.directory, self.run, self.last, self.metrics = directory, run, last, {}

    def logged(self, progress, values):
        self._note(progress, {name: value for name, value in values.items() if name != "train/images_per_s"})

    def evaluated(self, progress, evaluation, better):
        self._note(progress, evaluation.values)

    def _note(self, progress, values):
        self.metrics |= {(progress.step, name): value for name, value in values.items()}

    def checkpoint(self, progress, better):
        about = About(data="d", classes=self.run.training.loaders.classes, plan=self.run.plan)
        checkpoint.save(self.directory, self.run.training, better, about, seconds=0.0)

    def noted(self, text):
        pass

    def stepped(self):
        pass

    def stopping(self):
        return self.run.training.progress.step == self.last


def trained(directory, config, saved=None, last=None):
    run = experiment.build(config, saved)
    distilling.precompute(config, run.training, run.notes)
    observer = Keeping(directory, run, last)
    ending = fit(run.training, observer)
    return observer, ending


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, config_of):
    """Name of a composition → its config, what a run without a stop noted, and where that run is."""

    @functools.cache
    def run(name):
        directory = tmp_path_factory.mktemp("whole")
        config = config_of(*COMPOSITIONS[name] if name == SHARES else [*RUN, *COMPOSITIONS[name]])
        whole, ending = trained(directory, config)
        assert ending is Ending.complete
        return config, whole, directory

    return run


def stops(name):
    """Steps to stop behind: within an epoch, behind a checkpoint within one, and at its end."""
    quick = (4, 6, 9) if LINEAR[0] in COMPOSITIONS[name] else (CONVOLUTIONAL.get(name),)
    return [pytest.param(name, stop, marks=[] if stop in quick else pytest.mark.slow) for stop in (4, 6, 9)]


@pytest.mark.parametrize(("name", "stop"), [case for name in COMPOSITIONS for case in stops(name)])
def test_a_run_goes_on_bit_for_bit(tmp_path, uninterrupted, name, stop):
    config, whole, directory = uninterrupted(name)
    begun, ending = trained(make(tmp_path / "parts"), config, last=stop)
    assert ending is Ending.interrupted
    paddle.seed(99)
    np.random.seed(99)
    saved, notes = reading.newest(tmp_path / "parts")
    assert not notes
    assert saved.progress.step == stop
    rest, ending = trained(tmp_path / "parts", config, saved)
    assert ending is Ending.complete
    assert begun.metrics | rest.metrics == whole.metrics
    resumed, expected = newest(tmp_path / "parts"), newest(directory)
    assert resumed.name == expected.name
    for file in (MODEL, EMA, OPTIMIZER, ADAPTERS, AVERAGE):
        if (expected / file).exists():
            ours, theirs = load_file(resumed / file), load_file(expected / file)
            assert ours.keys() == theirs.keys()
            assert all(np.array_equal(ours[name], theirs[name]) for name in ours), file


@pytest.mark.parametrize(
    "words",
    [
        ["data.labels=many", "loss=bce", "mimic=kd"],
        ["augment.mixup=0.4"],
        ["mode.precompute_logits=true", "mimic=dkd", "augment.flip=true"],
    ],
    ids=str,
)
def test_a_student_of_a_teacher_goes_on_bit_for_bit(tmp_path, config_of, words):
    teacher = [text for text in words if text.startswith(("data.", "loss="))]
    trained(make(tmp_path / "teacher"), config_of(*RUN, *LINEAR, *teacher))
    store.write(config_of(*RUN, *LINEAR, *teacher), tmp_path / "teacher" / CONFIG)
    taught = ["mode=cls_teacher", f"mode.teacher_from={tmp_path / 'teacher'}", "mode.trust=true"]
    config = config_of(*RUN, *LINEAR, *taught, *words)
    whole, _ = trained(make(tmp_path / "whole"), config)
    begun, ending = trained(make(tmp_path / "parts"), config, last=4)
    assert ending is Ending.interrupted
    rest, ending = trained(tmp_path / "parts", config, reading.newest(tmp_path / "parts")[0])
    assert ending is Ending.complete
    assert begun.metrics | rest.metrics == whole.metrics
    ours, theirs = (load_file(newest(tmp_path / name) / MODEL) for name in ("parts", "whole"))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def make(directory):
    directory.mkdir()
    return directory


def newest(directory):
    return max((directory / "checkpoints").glob("step-*"))


#: Where pictures are, whether they are kept, and in how many processes they are decoded.
STORED = [
    ("folder", "none", 0), ("folder", "none", 2), ("folder", "memory", 0), ("folder", "disk", 2), ("list", "memory", 2),
    ("tars", "none", 2), ("tars", "disk", 0), ("parquet", "none", 0), ("parquet", "memory", 2),
]  # fmt: skip
PICTURES = [
    "data.batch_size=8", "data.image_size=12", "data.val_fraction=0.2", "augment.crop_padding=2",
    "augment.flip=true", "train.epochs=3", "train.log_every=4", "checkpoint.every_steps=2", "checkpoint.keep=9",
    "schedule.warmup_epochs=1", "train.threads=1", "tracking=none", *LINEAR, "+model.kwargs.pixels=432",
]  # fmt: skip


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Layout → overrides of the same 40 pictures in it."""
    root = tmp_path_factory.mktemp("sets")
    pictures = {
        f"{name}/{number:02}.png": layouts.png(number, 16, 14) for name in ("cat", "dog") for number in range(20)
    }
    layouts.write_folder(root / "folder", pictures)
    layouts.write_list(root / "list.txt", root / "folder", pictures)
    layouts.write_tars(root / "tars", pictures, 3)
    layouts.write_parquet(root / "set.parquet", pictures)
    return {
        "folder": ["data=image_folder", f"data.root={root / 'folder'}"],
        "list": ["data=files", f"data.root={root / 'folder'}", f"data.train={root / 'list.txt'}"],
        "tars": ["data=shards", f"data.root={root / 'tars'}", "data.train=set-*.tar"],
        "parquet": ["data=shards", f"data.train={root / 'set.parquet'}"],
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory, config_of, sets):
    """What a run on the folder noted, without a cache and without processes, and where it is."""
    directory = tmp_path_factory.mktemp("plain")
    return trained(directory, config_of(*sets["folder"], *PICTURES, "data.workers=0"))[0], directory


@pytest.mark.parametrize(("layout", "cache", "workers"), STORED)
def test_pictures_train_the_same_from_every_layout_and_a_run_on_them_goes_on(
    tmp_path, config_of, sets, plain, monkeypatch, layout, cache, workers
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = config_of(*sets[layout], *PICTURES, f"data.cache={cache}", f"data.workers={workers}")
    begun, ending = trained(make(tmp_path / "parts"), config, last=5)
    assert ending is Ending.interrupted
    rest, ending = trained(tmp_path / "parts", config, reading.newest(tmp_path / "parts")[0])
    assert ending is Ending.complete
    assert begun.metrics | rest.metrics == plain[0].metrics
    ours, theirs = (load_file(newest(directory) / MODEL) for directory in (tmp_path / "parts", plain[1]))
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
