"""One process of a training, alone or one of several: writes down what it computed.

python trained.py FOLDER NAME…
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import paddle

from runner import parallel
from runner.checkpoints import checkpoint
from runner.checkpoints.state import About
from runner.config import store
from runner.runs.journal import CONFIG
from runner.training.loop import fit
from runner.worker import distilling, experiment
from tests.conftest import composed

#: 44 images in batches of 16, the last one smaller and odd for two processes; dropout is on.
SHARED = [
    "data=synthetic", "data.train_images=62", "data.val_fraction=0.3", "data.test_images=8", "data.batch_size=16",
    "data.eval_batch_size=9", "augment.flip=true", "train.epochs=2", "train.log_every=1", "train.threads=1",
    "schedule=cosine_warmup", "schedule.warmup_epochs=0.5", "tracking=none", "train.sync_batchnorm=true",
]  # fmt: skip
SMALL = ["model=mobilenet_v3_small_x0_35", "optimizer.lr=0.001"]
#: AdamW makes more of a rounding error from step to step.
PLAIN = [SMALL[0], "optimizer=momentum", "optimizer.lr=0.003"]
COMPOSITIONS = {
    "cls": SMALL,
    "cls by Paddle's own layers": [*SMALL, "train.accelerate=off"],
    "cls in parts, with averages and clipping": [
        "train.accumulate=2", "train.ema=0.9", "optimizer.clip_norm=0.5", *PLAIN,
    ],
    "cls, balanced, weighted": [
        "data.sampler=balanced", "loss=label_smoothing", "loss.class_weights=[3,0.5,1,1,1,1,1,1,1,2]",
        "train.accumulate=2", "train.eval_every_steps=2", *PLAIN,
    ],
    "many labels, peers": [
        "data.labels=many", "loss=bce", "loss.class_weights=auto", "mode=cls_distill_multiopt", "mimic=kd",
        "train.accumulate=2", *PLAIN,
    ],
    "cls_distill": ["mode=cls_distill", *SMALL],
    "cls_distill_multiopt": [
        "mode=cls_distill_multiopt", "optimizer@mode.peer_optimizer=momentum", "mode.peer_optimizer.lr=0.01", *SMALL,
    ],
    "cls_distill with js_original": ["mode=cls_distill", "mimic=js_original", "mimic.detach_peer=false", *SMALL],
    "cls_distill of three, two losses": [
        "mode=cls_distill", "mode.peers=3", "mimic=dkd", "+mimic@also.mimic.soft=kl", "train.accumulate=2", *PLAIN,
    ],
    "cls_distill with features": [
        "mode=cls_distill", "features=attention_transfer", "features.layers=[conv2,conv4]", "train.accumulate=2",
        *PLAIN,
    ],
    "cls_distill with hints, ramped": [
        "mode=cls_distill", "features=hint", "features.layers=[conv2,conv4]", "features.ramp.epochs=1",
        "train.accumulate=2", *PLAIN,
    ],
    "cls_distill_multiopt with hints, by Paddle's own layers": [
        "mode=cls_distill_multiopt", "features=hint", "features.layers=[conv2]", "train.accelerate=off", *PLAIN,
    ],
    "cls with its own average": ["mode.average=true", "mode.average_decay=0.9", "mimic=kl", *PLAIN],
    "cls with mixed pictures": ["augment.mixup=0.4", "augment.cutmix=1", "augment.mix_off_epochs=1", *PLAIN],
    "cls with every augmentation, mixed, drawn by class": [
        "augment=[photos,rand]", "augment.crop_scale=[0.3,1]", "augment.rotation=20", "augment.grey=0.2",
        "augment.blur=0.3", "augment.equalize=0.2", "augment.erasing=0.5", "augment.mixup=0.4", "augment.cutmix=1",
        "augment.mix_last_probability=0.5", "data.sampler=sqrt", "train.accumulate=2", *PLAIN,
    ],
    "cls, head first, then all": [
        "model.freeze=[backbone]", "model.freeze_epochs=1", "optimizer.layer_decay=0.8", "train.ema=0.9", *PLAIN,
    ],
    "cls, head first, then all, by Paddle's own layers, own statistics": [
        "model.freeze=[backbone]", "model.freeze_epochs=0.75", "train.accelerate=off", "train.sync_batchnorm=false",
        *PLAIN,
    ],
    "cls with qat": ["compression=qat", *PLAIN],
    "cls with lsq": ["compression=lsq", *PLAIN],
    "cls_distill_multiopt with fpgm": ["mode=cls_distill_multiopt", "compression=fpgm", *SMALL],
    "cls_distill, pruned in stages": [
        "mode=cls_distill", "compression=fpgm", "compression.prune.criterion=taylor", "compression.prune.begin_epoch=1",
        "train.epochs=3", "compression.prune.parts=2", "train.ema=0.9", *PLAIN,
    ],
    "cls with fpgm_qat, own statistics": ["compression=fpgm_qat", *SMALL, "train.sync_batchnorm=false"],
}  # fmt: skip


#: Two more compositions, whose teacher is beside what is written down.
TAUGHT = "cls_teacher of other images and classes"
PRECOMPUTED = "cls_teacher of logits that were computed before"


def taught(folder: Path) -> list[str]:
    """Overrides of a student, and the run of its teacher in a folder: of other sizes, colours, and order of classes."""
    directory = folder / "teacher"
    words = [*PLAIN, "data.image_size=24", "data.mean=[0.1,0.2,0.3]", "data.std=[0.9,0.8,0.7]"]
    if not directory.exists():
        directory.mkdir()
        config = composed(*SHARED, *words)
        run = experiment.build(config)
        about = About(data="", classes=run.training.loaders.classes[::-1])
        checkpoint.save(directory, run.training, True, about, seconds=0.0)
        store.write(config, directory / CONFIG)
    return ["mode=cls_teacher", f"mode.teacher_from={directory}", *PLAIN]


class Witness:
    """Keeps what the loop says."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.validations: list[dict[str, float]] = []

    def logged(self, progress, values):
        self.losses.append(values["train/loss"])
        self.rates.append(values["train/lr"])

    def evaluated(self, progress, evaluation, better):
        self.validations.append({"count": evaluation.count, **evaluation.values})

    def checkpoint(self, progress, better):
        pass

    def noted(self, text):
        pass

    def stepped(self):
        pass

    def stopping(self):
        return False


def digest(tensors: dict[str, paddle.Tensor]) -> str:
    state = hashlib.blake2b()
    for name in sorted(tensors):
        state.update(name.encode() + tensors[name].numpy().tobytes())
    return state.hexdigest()


def trained(overrides: list[str], ranks: parallel.Ranks) -> dict[str, object]:
    run = experiment.build(composed(*SHARED, *overrides), None, ranks)
    distilling.precompute(run.config, run.training, run.notes)
    witness = Witness()
    fit(run.training, witness)
    networks = run.training.networks.state_dict()
    return {
        "losses": witness.losses, "rates": witness.rates, "validations": witness.validations,
        "next_rates": [optimization.lr for optimization in run.training.optimizations],
        "weights": digest(networks), "sum": sum(float(value.abs().sum()) for value in networks.values()),
        "optimizers": digest(checkpoint.optimizer_state(run.training.optimizations)),
        "adapters": digest(run.training.mode.adapters.parameters),
        "average": digest(run.training.average.averages if run.training.average else {}),
        "random": digest({"drawn": paddle.rand([4])}), "plan": run.plan,
    }  # fmt: skip


if __name__ == "__main__":
    ranks = parallel.join()
    folder, *names = sys.argv[1:]
    once = ["mode.precompute_logits=true", "train.accumulate=2"]
    of_teachers = {TAUGHT: [], PRECOMPUTED: once}
    said = {
        name: trained(
            [*taught(Path(folder)), *of_teachers[name]] if name in of_teachers else COMPOSITIONS[name], ranks
        )
        for name in names
    }  # fmt: skip
    (Path(folder) / f"{ranks.world_size}-{ranks.rank}.json").write_text(json.dumps(said))
