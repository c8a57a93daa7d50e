"""Accuracy and the sums it is made of, kept on the device until somebody reads them."""

from __future__ import annotations

import paddle
from paddle import Tensor

from ..kernels import functions, native


def ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """Place of the label among the classes, 0 for the largest logit.

    logits: float [N, K]; labels: int64 [N]; returns int64 [N]. Of equal logits the smaller class comes first, as in
    `argmax`; a logit that is not a number ranks the label last.
    """
    logits = logits.astype("float32")
    label_logits = paddle.take_along_axis(logits, labels.unsqueeze(-1), axis=-1)
    classes = paddle.arange(logits.shape[-1], dtype="int64").unsqueeze(0)
    above = ~(logits <= label_logits)
    tied_before = (logits == label_logits) & (classes < labels.unsqueeze(-1))
    return (above | tied_before).astype("int64").sum(axis=-1)


def correct(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """How many labels are the largest logit, and how many are among the k largest: float32 [2]."""
    if logits.place.is_cpu_place() and logits.dtype == paddle.float32 and not native.unavailable():
        return functions.hits(logits, labels, k)
    place = ranks(logits, labels)
    return paddle.stack([(place < 1).astype("float32").sum(), (place < k).astype("float32").sum()])
