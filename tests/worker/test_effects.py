"""What is said of the noise of a network's integers is of that network and those weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import paddle
from paddle import nn

from runner import config as cfg
from runner.__main__ import command as run_here
from runner.compression import ptq
from runner.config import store
from runner.data import Normalize, preparation
from runner.deploy import noise, quantization
from runner.deploy.manifest import EXPORT
from runner.runs.journal import CONFIG
from runner.worker import effects, finished
from runner.worker.finished import Classifier
from runner.worker.stage import sample
from tests.conftest import INLINE


def test_a_calibrated_network_is_compared_with_the_float_one_that_its_run_trained(tmp_path, capsys):
    network = ["data=synthetic", "model=custom", "model.target=tests.samples:linear_network", "deploy.formats=[]"]
    quantize = ["weight_bits=2", "bias_correction=true", "adaround.enabled=true", "adaround.iterations=20"]
    words = [*network, "compression=ptq", *(f"compression.quantize.{word}" for word in quantize)]
    run = tmp_path / "run"
    assert run_here([*INLINE, *words, f"hydra.run.dir={run}"]) == 0
    config = store.read(run / CONFIG)

    def measured():
        tested = finished.on_test_images(run, config, "student", "final")
        of = effects.measure(run, config, "student", "final", tested.stage, tested.classifier, 64, lambda *_: None)
        return tested.stage, of

    stage, found = measured()
    reference = finished.reference(run, config, len(stage.loaders.classes))
    _, loader = sample(stage.loaders, 64)
    decisions = np.concatenate([reference(batch.images).numpy().argmax(1) for batch in loader])
    assert found.rounded.right[0] == (decisions == loader.split.labels).sum()
    [layer] = found.rounded.layers
    assert found.rounded.changed == layer.alone == layer.restored > 0
    assert not found.notes
    (run / "checkpoints" / "best").unlink()
    _, without = measured()
    assert without.rounded.right == (None, found.rounded.right[1])
    assert "the checkpoint `best`, which has the float ones, cannot be read" in without.notes[0]
    capsys.readouterr()
    assert run_here(["explain", str(run), "trust=true"]) == 0
    said = capsys.readouterr().out
    assert "an unknown number of predictions" in said
    assert "not compared with floats" in said
    assert "not compared with floats" in (run / "explain.html").read_text()


def built():
    paddle.seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))


def test_the_noise_that_an_export_has_is_of_its_own_network_and_its_final_weights(tmp_path, config_of):
    config, reference, network = config_of("mode=cls_distill", "mimic=dml", "compression=qat"), built(), built()
    images = paddle.randn([8, 3, 32, 32])
    ptq.quantize_and_calibrate(network, cfg.CalibratedQuantization(), [images])
    written = noise.measure("student", network, reference, images.numpy())
    (tmp_path / EXPORT).mkdir()
    quantization.write(tmp_path / EXPORT, dataclasses.replace(written, images=1))
    classifier = Classifier(network, [*"abcd"], Normalize(config.data), preparation(config.data))

    def known(name, pointer):
        return effects._noise(tmp_path, config, name, pointer, classifier, [images])

    assert known("student", "final") == {layer.name: layer for layer in written.layers}
    # There is no checkpoint here that it could be measured of.
    assert known("student1", "final") == known("student", "last") == {}
