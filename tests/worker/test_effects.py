"""What is said of the noise of a network's integers is of that network and those weights."""

from __future__ import annotations

import dataclasses

import paddle
from paddle import nn

from runner import config as cfg
from runner.compression import ptq
from runner.data import Normalize, preparation
from runner.deploy import noise, quantization
from runner.deploy.manifest import EXPORT
from runner.worker import effects
from runner.worker.finished import Classifier


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
