"""What a user might write: targets of the `custom` choices."""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from runner.compression import pruning
from runner.data import Images, Source


def scaled_error(logits, labels, scale=1.0):
    return scale * F.cross_entropy(logits, labels)


def squared_distance(logits, peer_logits):
    return ((logits - peer_logits) ** 2).mean()


def mean_difference(features, peer_features, scale=1.0):
    """A feature loss: how far the means over channels and pixels are apart."""
    pairs = zip(features.values(), peer_features.values(), strict=True)
    return scale * sum((own.mean([1, 2, 3]) - other.mean([1, 2, 3])).square().mean() for own, other in pairs)


def unequal(features, peer_features):
    """A feature loss that only equal shapes suit."""
    pairs = zip(features.values(), peer_features.values(), strict=True)
    return sum((own - other).square().mean() for own, other in pairs)


def not_reduced(features, peer_features):
    """A feature loss that forgets to reduce."""
    return next(iter(features.values()))


def by_first_weight(weight, sign=1):
    """A pruning criterion: the filters with the smallest first weight go."""
    first = sign * weight[:, 0, 0, 0].copy()
    weight[:] = 0
    return first


def one_score(weight):
    """A criterion that forgets the filters."""
    return weight.sum()


def no_score(weight):
    """A criterion that knows nothing of one filter."""
    return [float("nan"), *range(len(weight) - 1)]


def evidence(accuracy=lambda: 1.0, batches=lambda: iter(()), engine=None, medians=None):
    """What pruning may ask of a network that is trained on nothing."""
    return pruning.Evidence(accuracy, batches, F.cross_entropy, engine, medians)


def linear_network(num_classes, pixels=3 * 32 * 32):
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, num_classes))


def fully_convolutional(num_classes):
    """A network whose logits are the means of its last maps."""

    class FullyConvolutional(nn.Layer):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(
                nn.Conv2D(3, 16, 3, 2, 1), nn.BatchNorm2D(16), nn.ReLU(), nn.Conv2D(16, 32, 3, 2, 1), nn.ReLU()
            )
            self.out = nn.Conv2D(32, num_classes, 1)

        def forward(self, images):
            return self.out(self.trunk(images)).mean([2, 3])

    return FullyConvolutional()


def not_a_network(num_classes):
    return num_classes


def stripes(images=40, wrong_label=False, classes=("vertical", "horizontal")):
    """Vertical stripes in class 0, horizontal ones in class 1."""
    labels = np.arange(images, dtype=np.int64) % 2
    lines = np.where(np.arange(32) % 4 < 2, 255, 0).astype(np.uint8)
    vertical = np.broadcast_to(lines[None, :, None], (32, 32, 1))
    pictures = np.stack([vertical if label == 0 else vertical.transpose(1, 0, 2) for label in labels])
    if wrong_label:
        labels[7] = 5
    classes = list(classes) if isinstance(classes, tuple) else classes
    return Source("stripes", classes, Images(pictures, labels), Images(pictures, labels))


def always(confusion, value):
    """A metric that learns nothing."""
    return value


def kappa(confusion):
    """Agreement beyond chance (Cohen, 1960)."""
    images = confusion.sum()
    by_chance = (confusion.sum(axis=0) * confusion.sum(axis=1)).sum() / images**2
    return (np.trace(confusion) / images - by_chance) / (1 - by_chance)


def greedy(confusion):
    """A metric that spoils what it is given."""
    assert confusion.dtype == np.int64
    images = confusion.sum()
    confusion[:] = 0
    return images


def not_a_number(confusion):
    return "high"


def explode_at_third_step(logits, labels, _calls=[]):  # noqa: B006
    """A loss that stops being finite in the third step of the process."""
    _calls.append(1)
    loss = F.cross_entropy(logits, labels)
    return loss * float("nan") if len(_calls) >= 3 else loss


def halving(step, steps, steps_per_epoch):
    return 0.5 ** (step / steps)


def plain_descent(learning_rate, parameters):
    return paddle.optimizer.SGD(learning_rate=learning_rate, parameters=parameters)


def crash(num_classes):
    raise RuntimeError("a defect in the user's own code")


def leave(num_classes, how):
    raise {"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit}[how](0)


def slow(num_classes):
    """A network whose step takes a while, STEP_S seconds, so that a test can interrupt it."""
    import os
    import time

    seconds = float(os.environ.get("STEP_S", "0.05"))

    class Slow(nn.Layer):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(3 * 32 * 32, num_classes)

        def forward(self, images):
            if self.training:
                time.sleep(seconds)
            return self.out(images.flatten(1))

    return Slow()


def deadly(logits, labels, _calls=[]):  # noqa: B006
    """Cross entropy that kills its process where the environment says: at a call, or at a call of `os.fsync`."""
    import os
    import signal

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    _calls.append(1)
    if len(_calls) == int(os.environ.get("KILL_AT_CALL", -1)):
        kill()
    if len(_calls) == 1 and "KILL_AT_FSYNC" in os.environ:
        left, sync = [int(os.environ["KILL_AT_FSYNC"])], os.fsync

        def fsync(descriptor):
            left[0] -= 1
            if not left[0]:
                kill()
            sync(descriptor)

        os.fsync = fsync
    return F.cross_entropy(logits, labels)


def faulty(logits, labels, _calls=[]):  # noqa: B006
    """Cross entropy with one fault of one process, as the environment says.

    FAULT: kill, raise or stop; FAULT_RANK: the process; FAULT_AT: the call; FAULT_MARK: a file that says it was done.
    """
    import os
    import signal
    from pathlib import Path

    _calls.append(1)
    due = len(_calls) == int(os.environ.get("FAULT_AT", -1))
    if due and os.environ["FAULT_RANK"] == os.environ.get("PADDLE_TRAINER_ID", "0"):
        mark = Path(os.environ["FAULT_MARK"])
        if not mark.exists():
            mark.touch()
            match os.environ["FAULT"]:
                case "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "stop":
                    os.kill(os.getpid(), signal.SIGSTOP)
                case "raise":
                    raise RuntimeError("a defect in one process")
    return F.cross_entropy(logits, labels)


def by_chance(weight):
    """Scores that come from the generators of a run."""
    return np.random.random(len(weight)) + paddle.rand([len(weight)]).numpy()


def of_wide_filters(weight):
    """Scores of filters that are larger than a pixel."""
    if weight.shape[2:] == (1, 1):
        raise ValueError("no filters of one pixel")
    return np.abs(weight).sum(axis=(1, 2, 3))


def validated_on_one_class():
    """A data set whose validation images are all of one class."""
    train, val = (Images(np.zeros((count, 32, 32, 3), np.uint8), np.arange(count) % 2) for count in (20, 10))
    return Source("pets", ["cat", "dog"], train, val=val.select(np.flatnonzero(val.labels == 1)))


def polynomial(step, steps, steps_per_epoch):
    """A schedule that is a complex number after its last step."""
    return (1 - step / (steps - 1)) ** 0.9


def listed_rates(step, steps, steps_per_epoch, rates):
    """A schedule that has a rate for each step, and no more."""
    return rates[step]


def soft_cross_entropy(logits, labels):
    """A loss as the documentation has it where images are mixed: of float32 [N, K]."""
    return -(labels * F.log_softmax(logits)).sum(-1).mean()


def voted(images=24, side=8):
    """Grey images and the votes of five people on each."""
    generator = np.random.default_rng(3)
    votes = generator.multinomial(5, [0.5, 0.3, 0.2], images).astype(np.float32)
    return Source(
        "voted", ["a", "b", "c"], Images(generator.integers(0, 255, (images, side, side, 3), np.uint8), votes)
    )
