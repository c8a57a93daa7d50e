"""What a pruned network is compared with is the network that its run began with, as that computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import paddle
import pytest

from runner import models
from runner.__main__ import command as run_here
from runner.checkpoints import preprocessing, weights
from runner.compression import slim
from runner.config import store
from runner.data import Normalize
from runner.errors import CheckpointError
from runner.runs.journal import CONFIG
from runner.worker import initial, unpruned
from runner.worker.initial import InitialWeights
from tests.conftest import INLINE

CLASSES = [f"pattern {number}" for number in range(10)]
NETWORK = ["data=synthetic", "model=custom", "model.target=tests.samples:fully_convolutional"]
PRUNED = [*NETWORK, "compression=fpgm", "checkpoint.init_from=before"]


def arrays_of(config, *names):
    """Weights of networks that all differ."""
    arrays = {}
    for number, name in enumerate(names):
        paddle.seed(number)
        network = models.build(config.model, len(CLASSES))
        arrays |= {f"{name}.{key}": value.numpy() for key, value in network.state_dict().items()}
    return arrays


def begun(config, *names, **own):
    """What `initial.read_source` gives of a run with this config and these networks."""
    known = {"classes": CLASSES, "preprocessing": preprocessing.of(config.data)}
    arrays = arrays_of(config, *(names or ["student"]))
    return InitialWeights(weights.Weights("before", arrays, **(known | own)), config)


@pytest.fixture
def found(config_of, monkeypatch):
    """The network before pruning of a network of a run with some overrides, and the notes."""

    def find(sources, name="student", *words):
        monkeypatch.setattr(initial, "read_source", lambda named, config: sources[named])
        notes = []
        return unpruned.find(config_of(*PRUNED, *words), name, CLASSES, notes), notes

    return find


def is_of(origin, arrays, name):
    state = origin.network.state_dict()
    return all(np.array_equal(value.numpy(), arrays[f"{name}.{key}"]) for key, value in state.items())


def test_it_sees_the_images_in_its_own_normalisation(config_of, found):
    theirs = config_of(*NETWORK, "data.mean=[0.2,0.3,0.4]", "data.std=[0.5,0.6,0.7]")
    source = begun(theirs)
    origin, notes = found({"before": source}, "student", "data.mean=[0.5,0.5,0.5]", "data.std=[0.25,0.25,0.25]")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    ours = config_of(*NETWORK, "data.mean=[0.5,0.5,0.5]", "data.std=[0.25,0.25,0.25]")
    logits = origin.network(Normalize(ours.data)(pixels, np.arange(4))).numpy()
    paddle.seed(0)
    plain = models.build(theirs.model, len(CLASSES))
    plain.eval()
    expected = plain(Normalize(theirs.data)(pixels, np.arange(4))).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert "the network before pruning: it sees the images in its own normalisation" in notes[0]


def test_images_that_were_cut_otherwise_labels_and_classes_are_refused(config_of, found):
    config = config_of(*NETWORK)
    many = config_of(*NETWORK, "data.labels=many", "loss=bce")
    padded = {**preprocessing.of(config.data), "resize": "pad"}
    for source in (
        begun(config, preprocessing=padded), begun(many), begun(config, classes=[*reversed(CLASSES)])
    ):  # fmt: skip
        with pytest.raises(CheckpointError, match="before has other images"):
            found({"before": source})
    unknown = replace(begun(config, preprocessing=preprocessing.Preprocessing()), run=None)
    with pytest.raises(CheckpointError, match="does not say how its images were preprocessed"):
        found({"before": unknown})


def test_a_file_of_plain_arrays_is_taken_as_the_run_took_it(config_of, found):
    config = config_of(*NETWORK)
    arrays = {name.removeprefix("student."): array for name, array in arrays_of(config, "student").items()}
    origin, notes = found({"before": InitialWeights(weights.Weights("before", arrays, is_foreign=True))})
    assert is_of(origin, arrays_of(config, "student"), "student")
    assert not notes


@pytest.mark.parametrize(
    ("theirs", "peers", "expected"),
    [
        (["student"], 2, "student"),
        (["student", "student1"], 2, "student1"),
        # A run that has more networks than its weights gives all of them those of the student.
        (["student", "student1"], 3, "student"),
    ],
)
def test_it_is_the_network_whose_weights_the_run_gave_it(config_of, found, theirs, peers, expected):
    config = config_of(*NETWORK)
    words = ["mode=cls_distill", f"mode.peers={peers}"]
    origin, _ = found({"before": begun(config, *theirs)}, "student1", *words)
    assert is_of(origin, arrays_of(config, *theirs), expected)


def test_it_is_that_of_an_earlier_run_where_that_pruned(config_of, found):
    first, pruned = begun(config_of(*NETWORK)), begun(config_of(*PRUNED))
    pruned.weights.origin = "pruned"
    origin, _ = found(
        {"before": first, "pruned": pruned}, "student1", "mode=cls_distill", "compression=qat",
        "checkpoint.init_from=pruned",
    )  # fmt: skip
    assert is_of(origin, first.weights.arrays, "student")


def test_runs_that_began_with_each_other_are_not_followed_for_ever(config_of, found):
    """Such as after one of them was trained again."""
    sources = {name: begun(config_of(*NETWORK, f"checkpoint.init_from={other}")) for name, other in ("ab", "ba")}
    for name, source in sources.items():
        source.weights.origin = name
    with pytest.raises(CheckpointError, match="checkpoint.init_from leads back to"):
        found(sources, "student", "compression=none", "checkpoint.init_from=a")


def test_it_decides_by_its_own_thresholds(config_of, found):
    many = ["data.labels=many", "loss=bce"]
    source = begun(config_of(*NETWORK, *many), thresholds={"student": [0.9] * 5 + [0.2] * 5})
    origin, _ = found({"before": source}, "student1", "mode=cls_distill", *many)
    assert origin.decide(np.zeros((2, 10), np.float32)).tolist() == [[0] * 5 + [1] * 5] * 2


def test_of_a_quantized_run_it_is_the_float_network_that_was_the_best(tmp_path):
    before, pruned = tmp_path / "before", tmp_path / "pruned"
    rounded = ["weight_bits=2", "adaround.enabled=true", "adaround.iterations=20"]
    words = ["compression=ptq", *(f"compression.quantize.{word}" for word in rounded)]
    assert run_here([*INLINE, *NETWORK, "deploy.formats=[]", *words, f"hydra.run.dir={before}"]) == 0
    words = ["compression=fpgm", f"checkpoint.init_from={before}"]
    assert run_here([*INLINE, *NETWORK, "deploy.formats=[]", *words, f"hydra.run.dir={pruned}"]) == 0
    best = weights.read(before, "best").arrays
    final = weights.read(before, "final").arrays
    origin = unpruned.find(store.read(pruned / CONFIG), "student", CLASSES, [])
    assert not slim.fake_quantized(origin.network)
    assert is_of(origin, best, "student")
    assert not np.array_equal(best["student.out.weight"], final["student.out.weight"])
