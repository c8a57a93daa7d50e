import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runner.config import Size
from runner.models import MobileNetV3

from .conftest import USE_OPERATOR, start_python
from .helpers import predict, save_in_old_ir

PRINT_ERROR = f"""
from runner.errors import ConfigError
try:
    {USE_OPERATOR}
except ConfigError as error:
    print(error)
"""

arrays = st.sampled_from([np.float32, np.float64]).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(max_dims=4, min_side=0, max_side=5), elements=st.floats(-3, 3, width=32)
    )
)
quick = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def value_and_gradient(function, array, upstream):
    x = paddle.to_tensor(array, stop_gradient=False)
    y = function(x)
    y.backward(paddle.to_tensor(upstream))
    return y, x.grad


@quick
@given(arrays)
def test_value_and_gradient_equal_those_of_paddle(custom_relu, array):
    upstream = np.random.default_rng(0).normal(size=array.shape).astype(array.dtype)
    y, gradient = value_and_gradient(custom_relu, array, upstream)
    expected, expected_gradient = value_and_gradient(F.relu, array, upstream)
    assert y.dtype == expected.dtype
    assert np.array_equal(y.numpy(), expected.numpy())
    assert np.array_equal(gradient.numpy(), expected_gradient.numpy())


def test_gradient_at_zero_is_zero(custom_relu):
    _, gradient = value_and_gradient(custom_relu, np.array([0.0, -0.0, 1.0]), np.ones(3))
    assert gradient.tolist() == [0, 0, 1]


def test_not_a_number_stays_visible(custom_relu):
    assert np.isnan(custom_relu(paddle.to_tensor([float("nan")])).numpy()).all()


def test_transposed_input_and_gradient_are_read_in_order(custom_relu):
    array, factor = np.arange(-6.0, 6).reshape(3, 4), paddle.arange(12.0, dtype="float64").reshape([3, 4])

    def through_transpositions(function):
        x = paddle.to_tensor(array, stop_gradient=False)
        y = function(x.t()).t()
        (y * factor).sum().backward()
        return y.numpy(), x.grad.numpy()

    for ours, theirs in zip(through_transpositions(custom_relu), through_transpositions(F.relu), strict=True):
        assert np.array_equal(ours, theirs)


def test_without_gradients_nothing_is_recorded(custom_relu):
    x = paddle.ones([2])
    x.stop_gradient = False
    with paddle.no_grad():
        assert custom_relu(x).stop_gradient


def test_integers_are_refused(custom_relu):
    with pytest.raises(Exception, match="not implemented for data type"):
        custom_relu(paddle.to_tensor([1, 2]))


def test_network_with_the_operator_computes_the_same(custom_relu):
    images = paddle.randn([2, 3, 32, 32])
    logits = []
    for relu in (None, custom_relu):
        paddle.seed(0)
        network = MobileNetV3(Size.small, 0.35, 3, 0.0, relu=relu)
        logits.append(network(images).numpy())
    assert np.array_equal(*logits)


def test_traced_network_does_without_the_operator(custom_relu, tmp_path):
    network = MobileNetV3(Size.small, 0.35, 3, 0.2, relu=custom_relu)
    network.eval()
    images = paddle.randn([2, 3, 32, 32])
    expected = network(images).numpy()
    save_in_old_ir(network, tmp_path / "model")
    assert b"runner_relu" not in (tmp_path / "model.pdmodel").read_bytes()
    assert predict(tmp_path / "model", images) == pytest.approx(expected, abs=1e-5)


def test_two_processes_that_compile_at_once_both_get_the_operator(first_users):
    _, codes, outputs = first_users
    assert codes == [0, 0], outputs


def test_processes_that_start_at_once_compile_once(first_users):
    folder, _, outputs = first_users
    assert len(list(folder.rglob("*.so"))) == 1
    assert sum("Compiling" in stderr for _, stderr in outputs) == 1


def test_missing_compiler_is_named_with_the_remedy(tmp_path):
    process = start_python(PRINT_ERROR, PATH="", CXX="", XDG_CACHE_HOME=str(tmp_path))
    output, errors = process.communicate(timeout=100)
    assert "install g++" in output, errors
    assert "model.custom_relu=false" in output


def test_missing_compiler_does_not_matter_once_compiled(first_users):
    folder, _, _ = first_users
    process = start_python(USE_OPERATOR, PATH="", XDG_CACHE_HOME=str(folder))
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_an_unwritable_cache_is_named_and_the_operator_works(tmp_path):
    (tmp_path / "runner").write_text("a file where the folder should be")
    output, errors = start_python(USE_OPERATOR, XDG_CACHE_HOME=str(tmp_path)).communicate(timeout=100)
    assert "XDG_CACHE_HOME" in errors
    assert "3." in output, errors
