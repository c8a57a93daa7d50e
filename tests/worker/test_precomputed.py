"""Logits of teachers that are computed once: what a student learns from them, and what they do not go with."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from runner import parallel
from runner.checkpoints import reading
from runner.data import EvalLoader
from runner.models import Networks
from runner.training import precomputed as precomputing
from runner.training import range_test, seeding
from runner.training.loop import fit, train_step
from tests.data import layouts
from tests.training.test_loop import Witness

from .students import ONCE, RUN, SET, assert_apart, ready, save, teach

#: How the teacher of another kind sees images, whose classes are in another order.
OTHERWISE = ["data.image_size=24", "data.mean=[0.1,0.2,0.3]", "data.std=[0.9,0.8,0.7]", "train.seed=3"]
#: Batches in parts, of 4 images: statistics of 2 would make much of a rounding error.
PARTS = ["train.accumulate=2", "data.batch_size=8"]


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
    return lambda *overrides: ready(config_of(*RUN, *overrides))


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
        ("other", ["mimic=dkd", *PARTS]),
        ("several", ["mimic=dist", "+mimic@also.mimic.big=kl", "also.mimic.big.teachers=[big]"]),
        ("several", ["mimic=dml", "data.sampler=balanced", "compression=fpgm"]),
        ("several", ["mimic=rkd"]),
        ("soft", ["mimic=kd"]),
        ("many", ["mimic=kl", *PARTS]),
    ],
)
def test_without_augmentation_each_step_is_that_of_a_teacher_in_every_step(built, teachers, images, words):
    # With small steps, rounding errors of one do not grow in those behind it.
    words = [*teachers[images], *words, "optimizer.lr=1e-6"]
    online, once = built(*words), built(*words, ONCE)
    assert not any("augmented" in note for note in once.notes)
    assert len(online.training.networks) > len(once.training.networks) == 1
    for logits in once.training.precomputed.logits.values():
        assert_apart(logits)
    for theirs, ours in zip(stepped(online), stepped(once), strict=True):
        assert theirs.keys() == ours.keys()
        np.testing.assert_allclose(ours.pop("losses"), theirs.pop("losses"), rtol=5e-5, atol=1e-5)
        # The gradients of biases before a normalisation are rounding errors of larger ones.
        least = 1e-5 * max(np.abs(value).max() for value in theirs.values())
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=2e-3, atol=least)


def answers(run, split):
    """The logits of the teacher of a run that has it in every step, for every image of a split."""
    loader = EvalLoader(split, run.training.loaders.train.config)
    run.training.networks["teacher"].eval()
    logits = np.concatenate([run.training.networks["teacher"](batch.images).numpy() for batch in loader])
    assert_apart(logits)
    return logits


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
    names = [f"{name}/{number:02}.png" for name in ("cat", "dog") for number in range(10)]
    drawn = {name: layouts.png(seed, 40, 36) for seed, name in enumerate(names)}
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
    online, once = (ready(config_of(*words, *own)) for own in ([], [ONCE]))
    split = once.training.loaders.source.train
    assert len(split) == len(once.training.precomputed.images)
    assert not any("cat/03.png" in name for name in split.names()) or layout != "folder"
    expected = answers(online, split)
    np.testing.assert_allclose(once.training.precomputed.logits["teacher"], expected, atol=1e-5)
    assert fit(once.training, Witness()).value == "complete"


@pytest.mark.parametrize("limit", [[], ["train.max_minutes=60"]], ids=str)
def test_a_short_run_computes_only_the_images_that_it_sees_and_so_does_one_that_goes_on(
    teachers, built, tmp_path, limit
):
    run = built(*teachers["one"], ONCE, "data.sampler=balanced", "train.max_steps=2", *limit)
    images = run.training.precomputed.images
    seen = [batch.indices for batch, _ in zip(run.training.loaders.train.epoch(0), range(2), strict=False)]
    assert images.tolist() == sorted({*np.concatenate(seen).tolist()})
    assert len(images) < 16
    expected = answers(built(*teachers["one"]), run.training.loaders.source.train)
    np.testing.assert_allclose(run.training.precomputed.logits["teacher"], expected[images], atol=1e-5)
    fit(run.training, Witness(stop_after=1))
    save(tmp_path, run)
    resumed = ready(run.config, reading.newest(tmp_path)[0])
    assert resumed.training.progress.step == 1
    for name, value in run.training.precomputed.logits.items():
        np.testing.assert_array_equal(resumed.training.precomputed.logits[name], value)
    assert fit(resumed.training, Witness()).value == "complete"


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


class Halves(parallel.Ranks):
    """The first of two processes; the other one computes the other images."""

    def __init__(self):
        super().__init__(0, 2, transport=object())

    def barrier_without_timeout(self):
        pass

    def all_reduce_sum(self, tensor):
        return tensor + self.others.pop(0)


def test_a_process_computes_its_share_and_receives_the_others(built, teachers, monkeypatch):
    monkeypatch.setattr(precomputing, "EXCHANGED", 50)
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
    progress = []
    precomputed = precomputing.compute(
        training.networks, loader, np.arange(len(split)), 10, training.precision, ranks,
        lambda *one: progress.append(one),
    )  # fmt: skip
    np.testing.assert_allclose(precomputed.logits["teacher"], whole, atol=1e-5)
    assert progress[-1] == (16, 16)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_without_an_image_of_the_last_batch_is_told_of_it_too(built, teachers, monkeypatch, rank):
    monkeypatch.setattr(precomputing, "_exchange", lambda logits, ranks: None)
    training, images = built(*teachers["one"]).training, np.arange(15)
    split = training.loaders.source.train.select(images)
    loader = EvalLoader(split, training.loaders.train.config, rank, 2)
    progress = []
    precomputing.compute(
        training.networks, loader, images, 10, training.precision, Halves(), lambda *one: progress.append(one)
    )
    assert progress == [(7, 15), (14, 15), (15, 15)]


def test_a_rate_is_searched_with_them_too(config_of, teachers, here, tmp_path):
    config = config_of(*RUN, *teachers["one"], ONCE)
    run = ready(range_test.configured(config, 1e-4, 1e-2, 10), whole=False)
    assert len(run.training.precomputed.images) == 16
    assert len(range_test.run(run.training, lambda done, count: None).losses) == 10
    done = here("lr", *RUN, *teachers["one"], ONCE, "--steps", "10", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the teachers' logits for 16 images were computed in" in done.stdout
