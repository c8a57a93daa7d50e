"""Files of PyTorch are read without it, and nothing in them is called."""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.checkpoints import torch_file, weights
from runner.checkpoints.torch_file import Opaque
from runner.errors import CheckpointError

from . import torch_pickles as made

ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(4, 2, 3, 1),
    "bn.running_mean": np.linspace(0, 1, 4, dtype=np.float16),
    "bn.num_batches_tracked": np.array(7, dtype=np.int64),
}


def reading(path) -> dict:
    return torch_file.load(path)


def test_both_formats_give_the_arrays(tmp_path):
    for path in (made.save(tmp_path / "new.pth", ARRAYS), made.save_legacy(tmp_path / "old.pth", ARRAYS)):
        read = reading(path)
        assert list(read) == list(ARRAYS)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(read[name], array)
            assert read[name].dtype == array.dtype


def test_a_view_is_read_by_its_strides(tmp_path):
    numbers = np.arange(12, dtype=np.float32)
    stored = made.storage("0", "FloatStorage", 12)
    content = made.dict_of(turned=made.tensor(stored, 1, (2, 3), (1, 4)))
    read = reading(made.write_zip(tmp_path / "w.pt", content, {"0": numbers.tobytes()}))
    np.testing.assert_array_equal(read["turned"], numbers[1:].reshape(-1)[[[0, 4, 8], [1, 5, 9]]])


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.0, -2.5, 3.0], np.float32)
    halves = (values.view(np.uint32) >> 16).astype(np.uint16)
    content = made.dict_of(w=made.tensor(made.storage("0", "BFloat16Storage", 3), 0, (3,), (1,)))
    read = reading(made.write_zip(tmp_path / "w.pt", content, {"0": halves.tobytes()}))
    np.testing.assert_array_equal(read["w"], values)


def test_what_else_a_checkpoint_holds_is_passed_over(tmp_path):
    state = {0: {"step": 3}, "lr": 0.1}
    content = made.dict_of(
        state_dict=made.dict_from({"w": made.tensor_of("0", np.ones(2, np.float32))}),
        args=made.name("argparse", "Namespace") + b")\x81" + made.dict_of(lr=made.whole(1)) + b"b",
        optimizer=pickle.dumps(state, 2)[2:-1],
        epoch=made.whole(3),
    )
    path = made.write_zip(tmp_path / "w.pt", content, {"0": np.ones(2, np.float32).tobytes()})
    read = reading(path)
    assert isinstance(read["args"], Opaque)
    assert read["optimizer"] == {"lr": 0.1}
    assert read["epoch"] == 3
    found = weights.read(path)
    assert list(found.arrays) == ["w"]
    assert found.by_torch
    assert found.origin == f"{path} (state_dict)"


@pytest.mark.parametrize("get", [b"h\x07", b"j\x07\x00\x00\x00"])
def test_a_list_that_is_in_two_places_is_passed_over(tmp_path, get):
    shared = made.dict_of(first=b"]q\x07", second=get)
    content = made.dict_of(model=made.dict_of(w=made.tensor_of("0", np.ones(2, np.float32))), lr_scheduler=shared)
    path = made.write_zip(tmp_path / "w.pt", content, {"0": np.ones(2, np.float32).tobytes()})
    assert list(weights.read(path).arrays) == ["w"]


def test_averaged_weights_go_before_plain_ones(tmp_path):
    one, other = np.ones(2, np.float32), np.zeros(2, np.float32)
    plain, averaged = (made.dict_of(w=made.tensor_of(key, array)) for key, array in (("0", one), ("1", other)))
    content = made.dict_of(model=plain, model_ema=averaged)
    path = made.write_zip(tmp_path / "w.pt", content, {"0": one.tobytes(), "1": other.tobytes()})
    assert not weights.read(path).arrays["w"].any()


class Hostile:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("place", ["alone", "inside"])
def test_code_in_a_file_does_not_run(tmp_path, place):
    target = tmp_path / "ran"
    call = pickle.dumps(Hostile(str(target)), 2)[2:-1]
    content = call if place == "alone" else made.dict_of(w=call)
    path = made.write_zip(tmp_path / "w.pth", content, {})
    with pytest.raises(CheckpointError, match="whole network|no arrays"):
        weights.read(path)
    assert not target.exists()


def test_a_network_that_was_saved_whole_is_refused_with_the_remedy(tmp_path):
    path = made.write_zip(tmp_path / "w.pth", made.name("my.code", "Net") + b")\x81}b", {})
    with pytest.raises(CheckpointError, match=r"Save its state_dict\(\) instead"):
        weights.read(path)


@pytest.mark.parametrize(
    ("offset", "size", "stride", "said"),
    [
        (0, (5,), (1,), "larger than its storage"),
        (1, (4,), (1,), "larger than its storage"),
        (0, (2, 2), (1, 3), "larger than its storage"),
        (0, (1000, 1000, 1000), (0, 0, 0), "too many tensors of the same storage"),
        (0, (-1,), (1,), "not a shape"),
        (0, (2,), (1, 1), "not a shape"),
        (0, (2,), (-1,), "not a shape"),
    ],
)
def test_a_tensor_outside_of_its_numbers_is_refused(tmp_path, offset, size, stride, said):
    content = made.dict_of(w=made.tensor(made.storage("0", "FloatStorage", 4), offset, size, stride))
    path = made.write_zip(tmp_path / "w.pth", content, {"0": bytes(16)})
    with pytest.raises(CheckpointError, match=said):
        weights.read(path)


def test_many_tensors_of_the_same_numbers_are_refused(tmp_path):
    stored = made.storage("0", "FloatStorage", 4096)
    content = made.dict_from({f"w{number}": made.tensor(stored, 0, (4096,), (1,)) for number in range(40)})
    path = made.write_zip(tmp_path / "w.pth", content, {"0": bytes(4 * 4096)})
    with pytest.raises(CheckpointError, match="too many tensors of the same storage"):
        weights.read(path)


def test_a_compressed_archive_is_refused(tmp_path):
    content = made.dict_of(w=made.tensor(made.storage("0", "FloatStorage", 1 << 20), 0, (1 << 20,), (1,)))
    path = made.write_zip(tmp_path / "w.pth", content, {"0": bytes(4 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed"):
        weights.read(path)


def test_a_storage_shorter_than_its_tensor_says_is_refused(tmp_path):
    content = made.dict_of(w=made.tensor(made.storage("0", "FloatStorage", 4), 0, (4,), (1,)))
    path = made.write_zip(tmp_path / "w.pth", content, {"0": bytes(8)})
    with pytest.raises(CheckpointError, match="larger than its storage"):
        weights.read(path)


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="PyTorch did not write"):
        weights.read(tmp_path / "w.pth")


@pytest.mark.parametrize("writer", [made.save, made.save_legacy])
@given(data=st.data())
def test_any_damage_is_read_or_named(tmp_path_factory, writer, data):
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    content = bytearray(writer(path, ARRAYS).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    with contextlib.suppress(CheckpointError):
        weights.read(path)
