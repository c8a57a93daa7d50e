import copy
from pathlib import Path

import numpy as np
import paddle
from paddle import inference, nn
from paddle.static import InputSpec


def untrained(network: nn.Layer, size: int = 64) -> list[str]:
    """Names of the trainable parameters that get no gradient or one that is 0 everywhere."""
    paddle.seed(0)
    network.train()
    labels = paddle.to_tensor([0, 1, 2, 3])
    nn.functional.cross_entropy(network(paddle.randn([4, 3, size, size])), labels).backward()
    return [
        name
        for name, parameter in network.named_parameters()
        if not parameter.stop_gradient and (parameter.grad is None or not parameter.grad.abs().sum() > 0)
    ]


def trainable_count(network: nn.Layer) -> int:
    # BatchNorm's running statistics are parameters to Paddle, without a gradient.
    return sum(int(parameter.size) for parameter in network.parameters() if not parameter.stop_gradient)


def weights(network: nn.Layer) -> dict:
    return {name: value.numpy() for name, value in network.state_dict().items()}


def save_in_old_ir(network: nn.Layer, path: Path) -> None:
    """Writes `path`.pdmodel and `path`.pdiparams of a network of any image size."""
    spec = [InputSpec([None, 3, None, None])]
    traced = paddle.jit.to_static(copy.deepcopy(network), input_spec=spec, full_graph=True)
    with paddle.pir_utils.OldIrGuard():
        paddle.jit.save(traced, str(path))


def predict(path: Path, images: paddle.Tensor) -> np.ndarray:
    """Logits of a saved network; paddle.jit.load does not read the old format."""
    options = inference.Config(f"{path}.pdmodel", f"{path}.pdiparams")
    options.disable_glog_info()
    (logits,) = inference.create_predictor(options).run([images])
    return logits.numpy()
