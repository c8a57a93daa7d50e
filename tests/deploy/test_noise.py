"""What `quantization.json` says of each layer, against NumPy and with layers of which the noise is known."""

from __future__ import annotations

import json

import numpy as np
import paddle
import pytest
from paddle import nn

from runner import config as cfg
from runner.__main__ import command
from runner.compression import ptq, slim
from runner.deploy import noise, quantization
from runner.deploy.quantization import QUANTIZATION
from runner.errors import Damaged
from tests.conftest import INLINE, TINY

ADAROUND = [
    "compression=ptq", "compression.quantize.adaround.enabled=true", "compression.quantize.adaround.iterations=2",
    "compression.quantize.bias_correction=true", "compression.quantize.weight_bits=4",
]  # fmt: skip


def network():
    paddle.seed(0)
    layers = nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    layers.eval()
    return layers


def images():
    return np.random.default_rng(0).standard_normal((20, 3, 8, 8), dtype=np.float32)


def quantized(**settings):
    layers = network()
    ptq.quantize_and_calibrate(layers, cfg.CalibratedQuantization(**settings), [paddle.to_tensor(images())])
    layers.eval()
    return layers


def decibels(before, after):
    return 10 * np.log10((before.astype(float) ** 2).sum() / ((before.astype(float) - after) ** 2).sum())


def test_noise_is_that_of_each_layer_alone_and_of_all_before_it():
    reference, layers = network(), quantized(weight_bits=4)
    described = noise.measure("student", layers, reference, images())
    assert [(layer.name, layer.kind, layer.weight_bits) for layer in described.layers] == [
        ("0", "Conv2D", 4), ("3", "Linear", 4),
    ]  # fmt: skip
    x = paddle.to_tensor(images())
    with paddle.no_grad():
        inside = reference[2](reference[1](reference[0](x)))
        expected, alone, together = reference[3](inside), layers[3](inside), layers(x)
    first, last = described.layers
    assert first.output_snr_db == pytest.approx(first.accumulated_snr_db)
    assert last.output_snr_db == pytest.approx(decibels(expected.numpy(), alone.numpy()))
    assert last.accumulated_snr_db == pytest.approx(decibels(expected.numpy(), together.numpy()))
    weights = reference[3].weight.numpy(), slim.rounded_weight(layers[3]).numpy()
    assert last.weight_snr_db == pytest.approx(decibels(*weights))
    assert described.weight_bits == 4
    assert described.packed_bytes == (3 * 4 * 9 + 4 * 36 * 5) // 2


def test_a_bit_more_is_about_six_decibels():
    by_bits = [
        noise.measure("student", quantized(weight_bits=bits), network(), images()).layers[1].weight_snr_db
        for bits in (4, 6)
    ]
    assert by_bits[1] - by_bits[0] == pytest.approx(12, abs=1.5)


def test_what_is_written_is_read_and_what_is_damaged_is_named(tmp_path):
    described = noise.measure("student", quantized(), network(), images())
    quantization.write(tmp_path, described)
    assert quantization.read(tmp_path) == described
    assert quantization.read(tmp_path / "nowhere") is None
    content = json.loads((tmp_path / QUANTIZATION).read_text())
    content["layers"][0]["weight_bits"] = 99
    (tmp_path / QUANTIZATION).write_text(json.dumps(content))
    with pytest.raises(Damaged, match="its entry for layer 0 is invalid"):
        quantization.read(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["compression=qat"], ["compression=ptq"], ADAROUND], ids=["qat", "ptq", "adaround"])
def test_a_run_and_its_later_export_say_the_same_and_the_report_lists_the_layers(tmp_path, words):
    run = tmp_path / "run"
    assert command([*INLINE, *TINY[1:4], *words, "deploy.formats=[onnx]", f"hydra.run.dir={run}"]) == 0
    described = quantization.read(run / "export")
    assert len(described.layers) == 55
    assert all(layer.output_snr_db > 0 for layer in described.layers)
    assert command(["export", str(run), "--output", str(tmp_path), "trust=true"]) == 0
    assert quantization.read(tmp_path / "export") == described
    page = tmp_path / "page.html"
    assert command(["report", str(run), "--output", str(page)]) == 0
    assert f'<th scope="row">{described.worst_first[0].name}</th>' in page.read_text()
