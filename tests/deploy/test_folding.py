"""Folding evaluates what is constant, branches included, and changes no output."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, parser

from runner.deploy.graph.folding import fold

HEAD = '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 4] x) => (float[N, M] y) '
#: Name → a graph, and the operations that are left of it.
GRAPHS = {
    # The branch that is not taken would fail, in the file too. The other one reads `own`, of the graph around it, and
    # has a tensor `more` of its own.
    "a branch of what is around it": (
        """{
        yes = Constant<value_int = 1>()
        condition = Cast<to = 9>(yes)
        two = Constant<value = float {2}>()
        twice = Mul(x, two)
        own = Identity(twice)
        three = Constant<value = float {3}>()
        made = If(condition) <
          then_branch = then () => (float[N, M] inner) { more = Mul(own, three) inner = Add(more, twice) },
          else_branch = other () => (float[N, M] wrong) { wrong = Concat<axis = 7>(own, own) }>
        more = Relu(made)
        y = Add(more, x)
        }""",
        ["Mul", "Mul", "Add", "Relu", "Add"],
    ),
    "a condition of the images": (
        """{
        total = ReduceSum<keepdims = 0>(x)
        zero = Constant<value = float {0}>()
        condition = Greater(total, zero)
        kept = Add(x, x)
        same = Identity(kept)
        y = If(condition) <
          then_branch = then () => (float[N, M] inner) { inner = Relu(same) },
          else_branch = other () => (float[N, M] other_inner) { other_inner = Neg(kept) }>
        }""",
        ["ReduceSum", "Greater", "Add", "If"],
    ),
    "a sequence of constants": (
        """{
        two = Constant<value = float[1, 4] {1, 2, 3, 4}>()
        parts = SequenceConstruct(two, two)
        joined = ConcatFromSequence<axis = 0>(parts)
        most = ReduceMax<axes = [0], keepdims = 1>(joined)
        y = Add(x, most)
        }""",
        ["SequenceConstruct", "ConcatFromSequence", "ReduceMax", "Add"],
    ),
}


def run(model: ModelProto, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": images})[0]


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("sign", [1, -1])
def test_branches_and_sequences_of_constants(name, sign):
    text, left = GRAPHS[name]
    model = parser.parse_model(HEAD + text)
    images = sign * np.arange(8, dtype=np.float32).reshape(2, 4)
    expected = run(model, images) if name != "a branch of what is around it" else images + np.maximum(8 * images, 0)
    folded = fold(model)
    np.testing.assert_allclose(run(folded, images), expected, atol=1e-6)
    assert [node.op_type for node in folded.graph.node] == left
