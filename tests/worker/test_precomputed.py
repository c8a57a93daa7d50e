"""Logits of teachers that are computed once: what a student learns from them, and what they do not go with."""

from __future__ import annotations

import gc
import os
import signal
import weakref

import numpy as np
import pytest

from runner import parallel, terminal
from runner.checkpoints import checkpoint, reading
from runner.checkpoints.state import About
from runner.config import store
from runner.data import EvalLoader
from runner.errors import ConfigError
from runner.models import Networks
from runner.runs import compatible
from runner.runs import result as results
from runner.runs.journal import CONFIG, RESULT, events
from runner.training import range_test, seeding
from runner.training.loop import fit, train_step
from runner.worker import distilling, experiment
from runner.worker.stop_signal import Interrupted, StopSignal
from tests.conftest import run_inline
from tests.data import layouts
from tests.training.test_loop import Witness

ONCE = "mode.precompute_logits=true"
SMALL = "model=mobilenet_v3_small_x0_35"
RUN = [
    "data.batch_size=6", "data.eval_batch_size=7", "train.epochs=2", "optimizer=momentum", "schedule.warmup_epochs=0",
    "train.log_every=1", "train.threads=1", "tracking=none", SMALL,
]  # fmt: skip
SET = ["data=synthetic", "data.train_images=24", "data.val_fraction=0.3", "data.test_images=8"]
#: How the teacher of another kind sees images, whose classes are in another order.
OTHERWISE = ["data.image_size=24", "data.mean=[0.1,0.2,0.3]", "data.std=[0.9,0.8,0.7]", "train.seed=3"]


def teach(directory, config, reverse=False):
    """Write the run of a teacher, whose weights are random."""
    directory.mkdir()
    run = experiment.build(config)
    classes = run.training.loaders.classes[:: -1 if reverse else 1]
    checkpoint.save(directory, run.training, True, About(data="", classes=classes), seconds=0.0)
    store.write(config, directory / CONFIG)


@pytest.fixture(scope="module")
def teachers(config_of, tmp_path_factory):
    """Kind of images → overrides of a student of one teacher of them; `several`: of two, which see images otherwise."""
    folder, words = tmp_path_factory.mktemp("teachers"), {}
    voted = ["data=custom", "data.target=tests.samples:voted", "+data.kwargs={images:24,side:32}", "data.labels=soft"]
    for name, own, further in (
        ("one", SET, []),
        ("other", SET, OTHERWISE),
        ("soft", voted, []),
        ("many", [*SET, "data.labels=many", "loss=bce"], []),
    ):
        teach(folder / name, config_of(*RUN, *own, *further), reverse=name == "other")
        words[name] = [*own, "mode=cls_teacher", f"mode.teacher_from={folder / name}"]
    big = f"+mode.more_teachers={{big:{{teacher_from:{folder / 'other'},teacher_weight:2}}}}"
    return words | {"several": [*words["one"], big]}


@pytest.fixture
def built(config_of):
    return lambda *overrides: experiment.build(config_of(*RUN, *overrides))


def stepped(run):
    """The losses and gradients of each step of an epoch."""
    training, steps = run.training, []
    exchange = training.replicas.reduce_gradients

    def reduce_gradients():
        exchange()
        own = training.networks.named_parameters()
        steps.append({name: one.grad.numpy().copy() for name, one in own if one.grad is not None})

    training.replicas.reduce_gradients = reduce_gradients
    training.networks.train()
    for batch in training.loaders.train.epoch(0):
        seeding.seed(5)
        reading = train_step(training, batch)
        steps[-1]["losses"] = np.array(reading.values, dtype=np.float64)
        training.progress.step += 1
    return steps


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ("one", ["mimic=kd", "mimic.alpha=0.9"]),
        ("other", ["mimic=dkd", "train.accumulate=2"]),
        ("several", ["mimic=dist", "+mimic@also.mimic.big=kl", "also.mimic.big.teachers=[big]"]),
        ("several", ["mimic=dml", "data.sampler=balanced", "compression=fpgm"]),
        ("several", ["mimic=rkd"]),
        ("soft", ["mimic=kd"]),
        ("many", ["mimic=kl", "train.accumulate=2"]),
    ],
)
def test_without_augmentation_each_step_is_that_of_a_teacher_in_every_step(built, teachers, images, words):
    # With small steps, rounding errors of one do not grow in those behind it.
    words = [*teachers[images], *words, "optimizer.lr=1e-6"]
    online, once = built(*words), built(*words, ONCE)
    assert not any("augmented" in note for note in once.notes)
    assert len(online.training.networks) > len(once.training.networks) == 1
    for theirs, ours in zip(stepped(online), stepped(once), strict=True):
        assert theirs.keys() == ours.keys()
        np.testing.assert_allclose(ours.pop("losses"), theirs.pop("losses"), rtol=5e-5)
        # The gradients of biases before a normalisation are rounding errors of larger ones, and the logits of images
        # from teachers that were never trained hardly differ, so that their relations have few digits.
        least = (2e-3 if "mimic=rkd" in words else 1e-5) * max(np.abs(value).max() for value in theirs.values())
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=2e-3, atol=least)


def answers(run, split):
    """The logits of the teacher of a run that has it in every step, for every image of a split."""
    loader = EvalLoader(split, run.training.loaders.train.config)
    run.training.networks["teacher"].eval()
    return np.concatenate([run.training.networks["teacher"](batch.images).numpy() for batch in loader])


def test_an_augmented_student_follows_what_the_teachers_make_of_the_images_as_they_are(built, teachers):
    words = [*teachers["several"], "augment.flip=true", "augment.crop_padding=2"]
    online, once = built(*words), built(*words, ONCE)
    expected, loader = answers(online, online.training.loaders.source.train), once.training.loaders.train
    for batch in loader.epoch(1):
        outputs = once.training.precomputed.outputs(batch.indices)
        assert list(outputs) == ["teacher", "big"]
        np.testing.assert_allclose(outputs["teacher"].logits.numpy(), expected[batch.indices], atol=1e-5)
    [note] = [note for note in once.notes if "augmented" in note]
    assert note.startswith("the teachers see each image as an evaluation prepares it")
    [note] = [note for note in once.notes if "were computed" in note]
    assert note == "the teachers' logits for 16 images were computed in 0:00 (mode.precompute_logits)"
    assert not any("were computed" in note or "augmented" in note for note in online.notes)
    assert fit(once.training, Witness()).value == "complete"


def test_settings_of_changes_that_are_off_are_no_augmentation(config_of):
    for words in (["augment.fill=[3]", "augment.rand_n=5"], ["augment.enabled=false", "augment.flip=true"]):
        assert not config_of("data=synthetic", *words).augment.changes_images
    for word in ("augment.zoom=[0.9,1]", "augment.policy=rand", "augment.target=a.b:c", "augment.cutout=3"):
        assert config_of("data=synthetic", word).augment.changes_images


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Layout → overrides of the same 20 pictures in it, one of which is damaged in the folder."""
    root = tmp_path_factory.mktemp("pictures")
    drawn = {f"{name}/{number:02}.png": layouts.png(number, 40, 36) for name in ("cat", "dog") for number in range(10)}
    layouts.write_tars(root / "tars", drawn, 3)
    layouts.write_folder(root / "folder", drawn)
    (root / "folder" / "cat" / "03.png").write_bytes(b"not a picture")
    return {
        "tars": ["data=shards", f"data.root={root / 'tars'}", "data.train=set-*.tar"],
        "folder": ["data=image_folder", f"data.root={root / 'folder'}", "data.on_error=skip"],
    }


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("tars", ["data.workers=0", "data.cache=none"]),
        ("folder", ["data.workers=2", "data.cache=memory"]),
        # What is kept for crops is larger than what an evaluation sees.
        ("folder", ["data.workers=2", "data.cache=memory", "augment.crop_scale=[0.5,1]"]),
        ("tars", ["data.workers=2", "data.cache=none", "augment.crop_scale=[0.5,1]"]),
    ],
)
def test_pictures_of_every_kind_have_logits_of_their_own(config_of, tmp_path, pictures, layout, words):
    words = [*RUN, *pictures[layout], "data.image_size=32", "data.val_fraction=0.2", *words]
    teach(tmp_path / "teacher", config_of(*words))
    words += ["mode=cls_teacher", f"mode.teacher_from={tmp_path / 'teacher'}"]
    online, once = (experiment.build(config_of(*words, *own)) for own in ([], [ONCE]))
    split = once.training.loaders.source.train
    assert len(split) == len(once.training.precomputed.images)
    assert not any("cat/03.png" in name for name in split.names()) or layout != "folder"
    expected = answers(online, split)
    np.testing.assert_allclose(once.training.precomputed.logits["teacher"], expected, atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 1e-4
    assert fit(once.training, Witness()).value == "complete"


def test_a_short_run_computes_what_it_sees_alone_and_so_does_one_that_goes_on(config_of, teachers, built, tmp_path):
    words = [*teachers["one"], ONCE, "data.sampler=balanced", "train.max_steps=2"]
    run = built(*words)
    images = run.training.precomputed.images
    seen = [batch.indices for batch, _ in zip(run.training.loaders.train.epoch(0), range(2), strict=False)]
    assert images.tolist() == sorted({*np.concatenate(seen).tolist()})
    assert len(images) < 16
    expected = answers(built(*teachers["one"]), run.training.loaders.source.train)
    np.testing.assert_allclose(run.training.precomputed.logits["teacher"], expected[images], atol=1e-5)
    (tmp_path / "checkpoints").mkdir()
    fit(run.training, Witness(stop_after=1))
    about = About(data="", classes=run.training.loaders.classes, teachers=run.teachers)
    checkpoint.save(tmp_path, run.training, True, about, seconds=0.0)
    resumed = experiment.build(run.config, reading.newest(tmp_path)[0])
    assert resumed.training.progress.step == 1
    for name, value in run.training.precomputed.logits.items():
        np.testing.assert_array_equal(resumed.training.precomputed.logits[name], value)
    fit(resumed.training, Witness())
    checkpoint.save(tmp_path, resumed.training, True, about, seconds=0.0)
    assert experiment.build(run.config, reading.newest(tmp_path)[0]).training.precomputed is None


def test_the_memory_of_teachers_is_freed(built, teachers, monkeypatch):
    removed, weights = Networks.remove_frozen, []

    def remove(networks, name):
        weights.extend(weakref.ref(value) for value in networks[name].parameters())
        removed(networks, name)

    monkeypatch.setattr(Networks, "remove_frozen", remove)
    run = built(*teachers["several"], ONCE)
    gc.collect()
    assert weights
    assert not any(value() is not None for value in weights)
    assert [*run.training.networks] == ["student"]


def test_where_nothing_trains_nothing_is_computed(built, teachers):
    begin = teachers["one"][-1].partition("=")[2]
    run = built(*teachers["one"], ONCE, "train.epochs=0", f"checkpoint.init_from={begin}")
    assert run.training.precomputed is None
    assert run.precomputing_s == 0
    assert not any("were computed" in note for note in run.notes)


def test_a_rate_is_searched_with_them_too(config_of, teachers):
    config = config_of(*RUN, *teachers["one"], ONCE)
    run = experiment.build(range_test.configured(config, 1e-4, 1e-2, 10), whole=False)
    assert len(run.training.precomputed.images) == 16
    assert len(range_test.run(run.training, lambda done, count: None).losses) == 10


class Slow:
    """A clock on which a batch of the teacher takes 10 seconds."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(distilling.time, "monotonic", lambda: self.now)
        computed = distilling.precomputed.compute

        def compute(*arguments):
            *others, tell = arguments

            def later(done, count):
                self.now += 10
                tell(done, count)

            return computed(*others, later)

        monkeypatch.setattr(distilling.precomputed, "compute", compute)


def test_the_time_that_computing_takes_is_of_the_run(built, teachers, monkeypatch):
    Slow(monkeypatch)
    words = [*teachers["one"], ONCE]
    run = built(*words, "train.max_minutes=2")
    # 16 images in batches of 7.
    assert run.precomputing_s == 30
    assert run.training.clock.budget == 90
    assert any("for 16 images were computed in 0:30" in note for note in run.notes)
    with pytest.raises(ConfigError, match=r"max_minutes=0.5: computing .* took 0:30, .* no time to train. Raise it,"):
        built(*words, "train.max_minutes=0.5")


def test_progress_is_shown_once_it_takes_long(built, teachers, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "PROGRESS_AFTER_S", 0.0)
    monkeypatch.setattr(terminal, "PROGRESS_EVERY_S", 0.0)
    built(*teachers["one"], ONCE)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("computing the teachers' logits")]
    assert [line.split(",")[0].partition(": ")[2] for line in lines] == ["7 of 16", "14 of 16", "16 of 16"]


def test_a_signal_ends_it_within_a_batch(built, teachers, monkeypatch):
    beats = []

    def beat(_):
        beats.append(None)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(distilling.Heartbeat, "beat", beat)
    with StopSignal() as stop, pytest.raises(Interrupted):
        built(*teachers["one"], ONCE)
    assert len(beats) == 1
    assert stop.exit_code == 128 + signal.SIGTERM


class Halves(parallel.Ranks):
    """The first of two processes; the other one computes the other images."""

    def __init__(self):
        super().__init__(0, 2, transport=object())

    def barrier_without_timeout(self):
        pass

    def all_reduce_sum(self, tensor):
        return tensor + self.others.pop(0)


def test_a_process_computes_its_share_and_receives_the_others(built, teachers, monkeypatch):
    monkeypatch.setattr(distilling.precomputed, "EXCHANGED", 50)
    training = built(*teachers["one"]).training
    split, ranks = training.loaders.source.train, Halves()
    whole = answers(built(*teachers["one"]), split)
    is_own = np.zeros(len(split), bool)
    loader = EvalLoader(split, training.loaders.train.config, 0, 2)
    for batch in loader:
        is_own[batch.indices] = True
    assert 0 < is_own.sum() < len(split)
    theirs = np.where(is_own[:, None], 0, whole)
    object.__setattr__(ranks, "others", [theirs[begin : begin + 5] for begin in range(0, len(split), 5)])
    told = []
    made = distilling.precomputed.compute(
        training.networks, loader, np.arange(len(split)), 10, training.precision, ranks, lambda *one: told.append(one)
    )
    np.testing.assert_allclose(made.logits["teacher"], whole, atol=1e-5)
    assert told[-1] == (16, 16)


def test_a_run_that_goes_on_keeps_to_it(config_of, teachers):
    before, after = (config_of(*RUN, *teachers["one"], f"mode.precompute_logits={one}") for one in ("false", "true"))
    with pytest.raises(ConfigError, match="mode.precompute_logits: the run has False, this command True"):
        compatible.check(before, after, "RUN", [])


def test_a_run_says_how_long_it_took_and_counts_it(teachers, tmp_path, monkeypatch):
    took = distilling.precompute
    monkeypatch.setattr(distilling, "precompute", lambda *arguments: 1000 + took(*arguments))
    words = [*RUN, *teachers["other"], ONCE, "train.plots=false", "deploy.formats=[]", "augment.flip=true"]
    done = run_inline(*words, "hydra.run.dir=student", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    texts = [event["text"] for event, _ in events(tmp_path / "student", kinds=("note",))]
    assert sum("logits for 16 images were computed in" in text for text in texts) == 1
    assert sum("while the student sees it augmented" in text for text in texts) == 1
    result = results.read(tmp_path / "student" / RESULT, whole=True)
    assert result.progress.step == 6
    assert 1000 < result.seconds < 2000
