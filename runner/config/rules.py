"""What must hold in a config beyond its types. Every message names the key and the override that mends it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from ..errors import ConfigError, nearest
from ..metrics import METRICS, Goal, find, k_in
from . import (
    ARCHITECTURES,
    Asl,
    Bce,
    Bf16,
    Cls,
    ClsDistill,
    ClsDistillMultiopt,
    ClsTeacher,
    Cluster,
    Config,
    CosineWarmup,
    CustomLoss,
    ExponentialWarmup,
    FileList,
    Focal,
    JsOriginal,
    Level,
    Local,
    Mlflow,
    Mode,
    Pictures,
    Piecewise,
    Policy,
    Polynomial,
    Pruning,
    Sampler,
    Schedule,
    Vision,
    WeightedLoss,
    credentials,
    field_rules,
    monitor,
    search_rules,
)
from .augment import RANGES
from .criteria import CRITERIA, CUSTOM
from .keys import walk

#: Tracking URIs of databases and servers; MLflow 3 has given up plain folders.
STORE = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://|databricks")

#: Bytes in the name of an experiment: file systems take 255 in a name, and others are made of it.
LONGEST_NAME = 200


def validate(config: Config) -> None:
    """Refuse a config that cannot work. Errors: ConfigError for the first rule that is broken."""
    for rule in (
        _secrets,
        field_rules.problems,
        _name,
        _data,
        _augment,
        _model,
        _mode,
        _loss,
        _labels,
        _features,
        _schedules,
        _train,
        _compression,
        _tracking,
        _launch,
        search_rules.problems,
    ):
        for problem in rule(config):
            raise ConfigError(problem)


def network_names(mode: Mode) -> list[str]:
    """Names of the networks a mode trains."""
    return ["student", "student1"] if isinstance(mode, ClsDistill) else ["student"]


def _secrets(config: Config) -> Iterator[str]:
    # First of all: the other messages name values.
    if any(credentials.carries(str(value)) for _, value, *_ in walk(config)):
        yield credentials.REFUSAL


def _name(config: Config) -> Iterator[str]:
    yield from name_problems(config.name)


def name_problems(name: str) -> Iterator[str]:
    """Why runs cannot have a name: folders are called so."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        yield f"name={name!r}: it names a folder; use letters, digits, '_', '-' and '.' only, such as name=mine"
    if len(name.encode()) > LONGEST_NAME:
        yield f"name has {len(name.encode())} bytes: it names a folder; use at most {LONGEST_NAME}."


def _data(config: Config) -> Iterator[str]:
    data = config.data
    sides = data.image_size if isinstance(data.image_size, list) else [data.image_size] * 2
    if len(sides) != 2 or not all(type(side) is int for side in sides):
        yield (
            f"data.image_size={data.image_size}: give the side of a square in pixels, such as data.image_size=224, or "
            "height and width, such as data.image_size=[64,256]"
        )
        return
    if len(data.background) != 3:
        yield f"data.background={data.background}: needs three numbers, such as data.background=[255,255,255]"
    numbers = {"mean": data.mean, "std": data.std}
    if wrong := [key for key, values in numbers.items() if len(values) != data.channels]:
        # What is grey has about the mean of the colours' numbers.
        fit = {key: [round(sum(values) / len(values), 4) if values else 0.5] for key, values in numbers.items()}
        fitting = " ".join(f"data.{key}={str(fit[key] * data.channels).replace(' ', '')}" for key in wrong)
        yield (
            f"data.{wrong[0]}={numbers[wrong[0]]}: needs a number for each channel, and data.channels={data.channels}, "
            f"such as {fitting}"
        )
    if isinstance(data, Pictures) and data.channels not in (1, 3):
        yield f"data.channels={data.channels}: pictures have 3 (RGB) or 1 (grey). Others need data=custom."
    if isinstance(data, FileList) and data.split_column and (data.val or data.test):
        yield f"data.split_column={data.split_column}: data.train has all splits, leave data.val and data.test out."


def _augment(config: Config) -> Iterator[str]:
    augment, data = config.augment, config.data
    if not augment.enabled:
        return
    for key in ("cutout", "crop_padding"):
        if getattr(augment, key) > min(data.size):
            yield f"augment.{key}={getattr(augment, key)}: larger than the image; at most {min(data.size)}."
    for key in RANGES:
        limits = getattr(augment, key)
        if limits is not None and (len(limits) != 2 or limits[0] > limits[1]):
            yield f"augment.{key}={limits}: needs the smallest and the largest value, such as {RANGES[key]}"
    if len(augment.fill) not in (1, data.channels):
        yield f"augment.fill={augment.fill}: needs one number, or one for each of data.channels={data.channels}."
    if augment.mix_off_epochs and (augment.mixup or augment.cutmix):
        if config.train.max_minutes:
            yield (
                "augment.mix_off_epochs cannot be combined with train.max_minutes, whose number of epochs is not known "
                "in advance. Use augment.mix_off_epochs=0"
            )
        elif config.train.max_steps is None and 0 < config.train.epochs <= augment.mix_off_epochs:
            yield (
                f"augment.mix_off_epochs={augment.mix_off_epochs}: no image would ever be mixed in "
                f"train.epochs={config.train.epochs}. Lower it, or use augment.mixup=0 augment.cutmix=0"
            )
    if data.channels not in (1, 3):
        mixing = [key for key in ("contrast", "saturation", "hue", "grey") if getattr(augment, key)]
        mixing += ["policy"] * (augment.policy is not Policy.none)
        if mixing:
            off = "none" if mixing[0] == "policy" else 0
            yield (
                f"augment.{mixing[0]} is for RGB and grey images, and these have data.channels={data.channels}. "
                f"Use augment.{mixing[0]}={off}"
            )


def _model(config: Config) -> Iterator[str]:
    for key, value, part, field in walk(config):
        if isinstance(part, Vision) and field.name == "architecture" and value not in ARCHITECTURES:
            yield (
                f"{key}={value}: paddle.vision.models has no such network.{nearest(value, ARCHITECTURES)}\n"
                f"Valid: {', '.join(ARCHITECTURES)}"
            )


def _mode(config: Config) -> Iterator[str]:
    mode, mimic, features = config.mode, config.mimic, config.features
    match mode:
        case Cls() if mimic is not None:
            yield f"mimic={mimic.kind}: mode=cls has one network and no peer. Use mode=cls_distill or drop it."
        case Cls() if features is not None:
            yield f"features={features.kind}: mode=cls has one network and no peer. Use mode=cls_distill or drop it."
        case ClsDistill() | ClsTeacher() if mimic is None and features is None:
            yield (
                f"mode={mode.kind} needs a loss that follows the peer. Add mimic=dml (or kl, kd, js_original), or "
                "features=attention_transfer."
            )
        case ClsDistillMultiopt() if mimic is not None and not mimic.detach_peer:
            yield (
                "mimic.detach_peer=false: in mode=cls_distill_multiopt each optimizer owns one network, and the loss "
                "of one must not move the other. Use mimic.detach_peer=true, or mode=cls_distill."
            )
        case ClsTeacher() if mimic is not None and not mimic.detach_peer:
            yield "mimic.detach_peer=false: the teacher of mode=cls_teacher is frozen. Use mimic.detach_peer=true."


def _loss(config: Config) -> Iterator[str]:
    wanted = config.loss.class_weights if isinstance(config.loss, WeightedLoss) else None
    match wanted:
        case None | "auto":
            return
        case list() | dict():
            weights = [*(wanted.values() if isinstance(wanted, dict) else wanted)]
            if all(type(weight) in (int, float) and 0 <= weight < math.inf for weight in weights) and any(weights):
                return
    yield (
        f"loss.class_weights={wanted}: give loss.class_weights=auto, a number for each class, such as "
        "loss.class_weights=[1,2.5], or those of some by name, such as 'loss.class_weights={cat:2.5}'"
    )


def _labels(config: Config) -> Iterator[str]:
    loss, mimic = config.loss, config.mimic
    if not config.data.many:
        if isinstance(loss, (Bce, Asl)):
            yield (
                f"loss={loss.kind} decides each label by itself, and data.labels=one has one an image. Add "
                "data.labels=many, or use loss=cross_entropy."
            )
        return
    if not isinstance(loss, (Bce, Asl, Focal, CustomLoss)):
        yield (
            f"loss={loss.kind} lets one class win, and with data.labels=many an image has any number of them. Use "
            "loss=bce, or else loss=asl or loss=focal."
        )
    if isinstance(mimic, JsOriginal):
        yield (
            "mimic=js_original compares softmax outputs, and with data.labels=many each label is decided by itself. "
            "Use mimic=dml, mimic=kl or mimic=kd."
        )
    if config.augment.enabled and (config.augment.mixup or config.augment.cutmix):
        yield (
            "augment.mixup and augment.cutmix mix images of one label each, and with data.labels=many they have any "
            "number. Use augment.mixup=0 augment.cutmix=0"
        )
    if config.data.sampler is not Sampler.shuffle:
        yield (
            f"data.sampler={config.data.sampler.name} draws classes, and with data.labels=many an image is of several. "
            "Use data.sampler=shuffle; loss.class_weights=auto makes rare labels count for more."
        )


def _features(config: Config) -> Iterator[str]:
    features = config.features
    if features is None:
        return
    if not features.layers:
        yield (
            f"features={features.kind} compares layers, and features.layers names none. Name some of the network's, "
            "such as features.layers=[conv4,conv9] of a MobileNetV3 or [layer1,layer2] of a resnet18."
        )
    if features.peer_layers and len(features.peer_layers) != len(features.layers):
        yield (
            f"features.peer_layers={features.peer_layers}: features.layers has {len(features.layers)}, and each needs "
            "one of the peer. Leave it out where the names are the same."
        )
    for key in ("layers", "peer_layers"):
        names = getattr(features, key)
        if len(set(names)) < len(names):
            yield f"features.{key}={names}: each layer can be named once."


def _compression(config: Config) -> Iterator[str]:
    prune, quantize = config.compression.prune, config.compression.quantize
    for pattern, ratio in (prune.ratios if prune else {}).items():
        if not 0 <= ratio < 1:
            yield f"compression.prune.ratios.{pattern}={ratio}: must be at least 0 and below 1."
    if prune:
        yield from _criterion(prune)
    if prune and prune.macs_reduction is not None and prune.ratios:
        yield (
            "compression.prune.ratios: with macs_reduction every layer's ratio comes from the sensitivity analysis. "
            "Use one of them, and compression.prune.skip for layers that stay whole."
        )
    if quantize and not quantize.layers:
        yield "compression.quantize.layers=[]: nothing would be quantized. Name some: [Conv2D,Linear]"
    if quantize and isinstance(config.amp, Bf16) and config.amp.level is Level.O2 and not config.amp.fallback:
        yield (
            "amp.level=O2 keeps weights in half precision, too coarse to simulate integers with. Use amp.level=O1, or "
            "compression=none."
        )
    if config.deploy.network not in network_names(config.mode):
        valid = ", ".join(network_names(config.mode))
        yield f"deploy.network={config.deploy.network}: mode={config.mode.kind} has no such network. It has: {valid}"


def _criterion(prune: Pruning) -> Iterator[str]:
    valid = [*CRITERIA, CUSTOM]
    if prune.criterion not in valid:
        yield (
            f"compression.prune.criterion={prune.criterion}: there is no such criterion."
            f"{nearest(prune.criterion, valid)} Valid: {', '.join(valid)}"
        )
    if prune.criterion == CUSTOM and prune.target is None:
        yield (
            "compression.prune.criterion=custom needs the function that scores filters: "
            "compression.prune.target=package.module:callable"
        )
    for key in ("target", "kwargs"):
        if prune.criterion != CUSTOM and getattr(prune, key):
            yield f"compression.prune.{key} is for your own scores: add compression.prune.criterion=custom, or drop it."


def _tracking(config: Config) -> Iterator[str]:
    if isinstance(config.tracking, Mlflow) and not STORE.match(config.tracking.uri):
        yield (
            f"tracking.uri={credentials.masked(config.tracking.uri)}: MLflow keeps runs in a database or on a server, "
            "such as tracking.uri=sqlite:///outputs/mlflow.db or tracking.uri=http://HOST:5000"
        )
    for name, tracker in config.tracking.also.items():
        if name == "mlflow" or not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
            yield (
                f"tracking.also.{name}: it names files. Use small letters, digits, '_' and '-', and not 'mlflow', such "
                f"as +tracking@tracking.also.mine={tracker.kind}"
            )
    addresses: dict[str, str] = {}
    for name, tracker in config.tracking.trackers.items():
        first = addresses.setdefault(tracker.address, name)
        if first != name:
            yield f"tracking.also.{name}: it sends the run where {first} sends it already. Drop one of the two."


def _schedules(config: Config) -> Iterator[str]:
    yield from _schedule(config, "schedule", config.schedule)
    if isinstance(config.mode, ClsDistillMultiopt) and config.mode.peer_schedule:
        yield from _schedule(config, "mode.peer_schedule", config.mode.peer_schedule)


def _schedule(config: Config, key: str, schedule: Schedule) -> Iterator[str]:
    match schedule:
        case Piecewise(boundaries=boundaries, factors=factors):
            if len(factors) != len(boundaries) + 1:
                yield (
                    f"{key}.factors={factors}: {len(boundaries)} boundaries make {len(boundaries) + 1} stretches, "
                    f"so give {len(boundaries) + 1} factors."
                )
            if boundaries != sorted(set(boundaries)):
                yield f"{key}.boundaries={boundaries}: must rise."
        case CosineWarmup() | ExponentialWarmup() | Polynomial():
            whole = config.train.max_steps is None and config.train.max_minutes is None
            wanted = schedule.warmup_epochs
            if whole and config.train.epochs and wanted is not None and wanted >= config.train.epochs:
                yield (
                    f"{key}.warmup_epochs={schedule.warmup_epochs}: the warm-up is not shorter than the run "
                    f"(train.epochs={config.train.epochs}). Lower it, such as {key}.warmup_epochs=0"
                )
            if wanted and config.train.max_minutes:
                yield (
                    f"{key}.warmup_epochs={wanted} cannot be combined with train.max_minutes, whose number of epochs "
                    "is not known in advance. Leave it out: the warm-up then takes a fifth of the run, at most 5 epochs"
                )


def _train(config: Config) -> Iterator[str]:
    train = config.train
    if not train.trains and config.checkpoint.init_from is None:
        yield "train.epochs=0 trains nothing: name weights to begin (and end) with, checkpoint.init_from=RUN"
    if train.accumulate > config.data.batch_size:
        yield (
            f"train.accumulate={train.accumulate}: a batch of data.batch_size={config.data.batch_size} cannot be "
            "computed in more parts than it has images."
        )
    if train.eval_every_steps and train.eval_every > 1:
        yield (
            f"train.eval_every={train.eval_every} counts epochs, and train.eval_every_steps={train.eval_every_steps} "
            "steps in their place. Drop one of the two."
        )
    for name, custom in train.metrics.items():
        if problem := monitor.naming_problem(name):
            yield f"train.metrics.{name}: {problem}."
        if not isinstance(custom.goal, Goal):
            yield f"train.metrics.{name}.goal has no value. Give it one: train.metrics.{name}.goal=max (or min)"
    networks, metrics = network_names(config.mode), monitor.metrics_of(train.metrics, config.data.many)
    if not monitor.is_known(train.monitor, networks, metrics):
        yield monitor.refusal(train.monitor, networks, metrics, train.topk)
    own = find(monitor.monitored(train.monitor).partition("/")[2], metrics)
    if own and train.goal is not own.goal:
        yield (
            f"train.goal={train.goal and train.goal.name}: with train.monitor={train.monitor} the best is the "
            f"{own.goal.name}imum. Use train.goal={own.goal.name}, or leave it out."
        )


def _launch(config: Config) -> Iterator[str]:
    launch = config.launch
    count = launch.processes
    if launch.devices and count != len(launch.devices):
        yield (
            f"launch.nproc_per_node={count}: launch.devices={launch.devices} has {len(launch.devices)}, and each "
            "process needs one of its own. Drop one of the two."
        )
    if isinstance(launch, Local) and launch.inline and count > 1:
        yield f"launch.inline=true is one process, and {count} are wanted. Use launch.inline=false."
    if len(set(launch.devices)) < len(launch.devices):
        yield f"launch.devices={launch.devices}: each process needs a GPU of its own."
    if isinstance(launch, Cluster):
        host, _, port = (launch.master or "").rpartition(":")
        if not re.fullmatch(r"[\w.-]+", host) or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            yield (
                f"launch.master={launch.master}: the machines meet at HOST:PORT of the first one, such as "
                "launch.master=node0:29500"
            )
        if launch.rank is not None and launch.rank >= launch.nnodes:
            yield (
                f"launch.rank={launch.rank}: with launch.nnodes={launch.nnodes} the machines are numbered from 0 to "
                f"{launch.nnodes - 1}."
            )
        count *= launch.nnodes
    yield from _divided(config, count)


def check_divisible(config: Config, processes: int) -> None:
    """Refuse a batch that so many processes cannot share. Errors: ConfigError."""
    for problem in _divided(config, processes):
        raise ConfigError(problem)


def _divided(config: Config, processes: int) -> Iterator[str]:
    if processes > config.data.batch_size:
        yield (
            f"data.batch_size={config.data.batch_size} is of all {processes} processes together, and each needs an "
            f"image. Use at least data.batch_size={processes}."
        )
    several = processes > 1 or config.train.accumulate > 1
    if several and isinstance(config.mimic, JsOriginal) and config.mimic.reduction.name == "sum":
        yield (
            "mimic.reduction=sum grows with the part of the batch that is computed at once, so several processes or "
            "parts (train.accumulate) would change it. Use mimic.reduction=mean with a larger mimic.weight."
        )


def check_monitor(config: Config) -> None:
    """Refuse, before anything is started, to monitor a top-k of which `train.topk` has another k. Errors: ConfigError.

    Which k there is with the classes of the data is known once they are read.
    """
    train = config.train
    network, _, name = monitor.monitored(train.monitor).partition("/")
    k = next((k for metric in METRICS if (k := k_in(name, metric))), 1)
    if k > train.topk:
        raise ConfigError(
            f"train.monitor={train.monitor}: train.topk={train.topk} computes another one. Use train.topk={k}, or "
            f"train.monitor=val/{network}/{name.replace(str(k), str(train.topk))}"
        )
