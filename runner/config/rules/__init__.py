"""What must hold in a config beyond its types. Every message names the key and the override that fixes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator

from ...errors import ConfigError, nearest
from ...metrics import METRICS, Goal
from ...metrics.names import find, k_in, monitored, monitored_metric
from .. import (
    ARCHITECTURES,
    DEPTHS,
    ClsDistill,
    Cluster,
    Config,
    CustomModel,
    Dist,
    Format,
    JsOriginal,
    Local,
    Mode,
    PaddleClas,
    Precision,
    Preprocess,
    ResNet,
    Rkd,
    RkdFeatures,
    Stem,
    Vision,
    credentials,
    monitor,
    networks,
)
from ..keys import walk
from . import compression, data, distillation, fields, finetuning, objective, search, tracking

#: Most bytes in the name of an experiment: file systems allow 255 in a name, and longer ones are derived from it.
LONGEST_NAME = 200


def validate(config: Config) -> None:
    """Refuse a config that no run can have, stored or new. Errors: ConfigError for the first rule that is violated."""
    _refuse(config, ALWAYS)


def validate_new(config: Config) -> None:
    """Refuse a config that cannot be trained. Errors: ConfigError for the first rule that is violated."""
    _refuse(config, (*ALWAYS, *GIVEN, *BEFORE_TRAINING))


def validate_changed(config: Config, earlier: Config) -> None:
    """Refuse a stored config with overrides that break a rule for values, unless the stored one, `earlier`, does too.

    Errors: ConfigError for the first rule that is violated.
    """
    _refuse(config, ALWAYS)
    _refuse(config, GIVEN, {problem for rule in GIVEN for problem in rule(earlier)})


def _refuse(config: Config, rules: Iterable[Rule], accepted: Collection[str] = ()) -> None:
    for rule in rules:
        for problem in rule(config):
            if problem not in accepted:
                raise ConfigError(problem)


def network_names(mode: Mode) -> list[str]:
    """Names of the networks a mode trains."""
    further = mode.peers - 1 if isinstance(mode, ClsDistill) else 0
    return ["student", *(f"student{number}" for number in range(1, further + 1))]


def _secrets(config: Config) -> Iterator[str]:
    # First, because the other messages quote values.
    if any(credentials.carries(str(value)) for _, value, *_ in walk(config)):
        yield credentials.REFUSAL


def _name(config: Config) -> Iterator[str]:
    yield from name_problems(config.name)


def name_problems(name: str) -> Iterator[str]:
    """Why runs cannot have this name, which is also that of a folder."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        yield f"name={name!r}: it names a folder; use letters, digits, '_', '-' and '.' only, such as name=mine"
    if len(name.encode()) > LONGEST_NAME:
        yield f"name has {len(name.encode())} bytes: it names a folder; use at most {LONGEST_NAME}."


def _model(config: Config) -> Iterator[str]:
    for key, value, part, field in walk(config):
        if isinstance(part, Vision) and field.name == "architecture" and value not in ARCHITECTURES:
            yield (
                f"{key}={value}: paddle.vision.models has no such network.{nearest(value, ARCHITECTURES)}\n"
                f"Valid: {', '.join(ARCHITECTURES)}"
            )
        if isinstance(part, ResNet) and field.name == "depth" and value not in DEPTHS:
            yield f"{key}={value}: a ResNet of basic blocks has one of {', '.join(map(str, DEPTHS))} layers."
        if isinstance(part, CustomModel) and field.name == "stem" and value is not Stem.imagenet:
            yield f"{key}={value.name}: has no effect on a custom network. Remove it."
        if isinstance(part, PaddleClas) and field.name == "architecture" and value not in networks.paddleclas():
            yield (
                f"{key}={value}: PaddleClas has no such classifier.{nearest(value, networks.paddleclas())}\n"
                "`runner models paddleclas` lists them."
            )


def _weights(config: Config) -> Iterator[str]:
    mode, begun = config.mode, config.checkpoint.init_from
    named = {"model": config.model}
    if isinstance(mode, ClsDistill) and mode.peer is not None:
        named["mode.peer"] = mode.peer
    for key, model in named.items():
        if begun and model.weights:
            yield f"{key}.weights and checkpoint.init_from both set that network's initial weights. Use one of them."
    if (mirror := config.checkpoint.mirror) and not mirror.startswith(("http://", "https://")):
        yield f"checkpoint.mirror={mirror}: must be the address of a folder, such as http://HOST/weights"


def _deploy(config: Config) -> Iterator[str]:
    if config.deploy.network not in network_names(config.mode):
        valid = ", ".join(network_names(config.mode))
        yield f"deploy.network={config.deploy.network}: mode={config.mode.kind} has no such network. It has: {valid}"
    if config.deploy.preprocess is Preprocess.inside and config.deploy.formats:
        if Format.onnx not in config.deploy.formats:
            yield "deploy.preprocess=inside: only ONNX files can hold it. Add the format: deploy.formats=[onnx]"
        if config.data.channels not in (1, 3):
            yield (
                f"deploy.preprocess=inside: images with data.channels={config.data.channels} are not pictures. Use "
                "deploy.preprocess=outside."
            )
    match config.deploy.recommend:
        case Precision.int8 if not config.compression.quantize:
            yield (
                "deploy.recommend=int8: integer files are ONNX files of a network with compression.quantize. Quantize "
                "it, as with compression=ptq, or use deploy.recommend=null"
            )
        case Precision.int8 if Format.onnx not in config.deploy.formats:
            formats = [one.name for one in config.deploy.formats]
            yield (
                f"deploy.recommend=int8: integer files are ONNX files, and deploy.formats=[{','.join(formats)}] has "
                f"none. Use deploy.formats=[{','.join([*formats, Format.onnx.name])}], or deploy.recommend=null"
            )
        case Precision.float16 if Format.onnx_fp16 not in config.deploy.formats:
            yield "deploy.recommend=float16: none is exported. Add the format: deploy.formats=[onnx,onnx_fp16]"


def _train(config: Config) -> Iterator[str]:
    train = config.train
    if not train.trains and config.checkpoint.init_from is None and config.model.weights is None:
        yield "train.epochs=0 trains nothing: name the weights to evaluate and export, checkpoint.init_from=RUN"
    if train.accumulate > config.data.batch_size and not config.debug.fast_dev_run:
        yield (
            f"train.accumulate={train.accumulate}: a batch of data.batch_size={config.data.batch_size} cannot be "
            "computed in more parts than it has images."
        )
    if train.eval_every_steps and train.eval_every > 1:
        yield (
            f"train.eval_every={train.eval_every} counts epochs, and "
            f"train.eval_every_steps={train.eval_every_steps} counts steps. Remove one of the two."
        )
    for name, custom in train.metrics.items():
        if problem := monitor.naming_problem(name):
            yield f"train.metrics.{name}: {problem}."
        if not isinstance(custom.goal, Goal):
            yield f"train.metrics.{name}.goal has no value. Give it one: train.metrics.{name}.goal=max (or min)"
    networks, metrics = network_names(config.mode), config.metrics()
    if not monitor.is_known(train.monitor, networks, metrics):
        yield monitor.refusal(train.monitor, networks, metrics, train.topk, knows_classes=False)
    if problem := monitor.class_problem(train.monitor):
        yield problem
    own = find(monitored_metric(train.monitor), metrics)
    if own and train.goal is not own.goal:
        yield (
            f"train.goal={train.goal and train.goal.name}: with train.monitor={train.monitor} the best is the "
            f"{own.goal.name}imum. Use train.goal={own.goal.name}, or remove it."
        )


def _launch(config: Config) -> Iterator[str]:
    launch = config.launch
    count = launch.processes
    if launch.devices and count != len(launch.devices):
        yield (
            f"launch.nproc_per_node={count}: launch.devices={launch.devices} has {len(launch.devices)}, and each "
            "process needs its own. Remove one of the two."
        )
    if isinstance(launch, Local) and launch.inline and count > 1:
        yield f"launch.inline=true is one process, and {count} are requested. Use launch.inline=false."
    if len(set(launch.devices)) < len(launch.devices):
        yield f"launch.devices={launch.devices}: each process needs its own GPU."
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
    """Refuse a batch size too small for this many processes. Errors: ConfigError."""
    for problem in _divided(config, processes):
        raise ConfigError(problem)


def _divided(config: Config, processes: int) -> Iterator[str]:
    if processes > config.data.batch_size:
        yield (
            f"data.batch_size={config.data.batch_size} is the total of all {processes} processes, and each "
            f"needs an image. Use at least data.batch_size={processes}."
        )
    several = processes > 1 or config.train.accumulate > 1
    for key, mimic in config.mimics.items():
        if several and isinstance(mimic, JsOriginal) and mimic.reduction.name == "sum":
            yield (
                f"{key}.reduction=sum grows with the part of the batch that is computed at once, so several processes "
                f"or parts (train.accumulate) would change it. Use {key}.reduction=mean with a larger {key}.weight."
            )
    parts = processes * config.train.accumulate
    for key, loss in config.peer_losses.items():
        least = 3 if isinstance(loss, (Rkd, RkdFeatures)) and loss.angle else 2
        if isinstance(loss, (Dist, Rkd, RkdFeatures)) and config.data.batch_size < least * parts:
            yield (
                f"{key}={loss.kind} relates images that are computed at once, and needs {least} in each of {parts} "
                f"parts. Use at least data.batch_size={least * parts}."
            )


def _k(config: Config) -> Iterator[str]:
    # The k that the classes of the data allow is known only after reading them.
    train = config.train
    network, _, name = monitored(train.monitor).partition("/")
    k = next((k for metric in METRICS if (k := k_in(name, metric))), 1)
    if k > train.topk:
        yield (
            f"train.monitor={train.monitor}: train.topk={train.topk} computes another one. Use train.topk={k}, or "
            f"train.monitor=val/{network}/{name.replace(str(k), str(train.topk))}"
        )


def _no_training(config: Config) -> Iterator[str]:
    train = config.train
    if train.epochs == 0 and train.max_steps and not config.debug.fast_dev_run:
        yield (
            f"train.epochs=0 trains nothing, and train.max_steps={train.max_steps} would count in its place. Remove "
            "train.max_steps, or use train.epochs=1."
        )


Rule = Callable[[Config], Iterator[str]]
#: What every reader of a config relies on. A new rule here refuses the stored runs of earlier versions that break it.
ALWAYS: tuple[Rule, ...] = (
    _secrets, fields.problems, _name, data.problems, _model, _weights, distillation.problems, objective.problems,
    finetuning.problems, _train, compression.problems, _deploy, tracking.problems, _launch,
)  # fmt: skip
#: Values that are refused where somebody gives them, by a composition or by overrides for a stored run.
GIVEN: tuple[Rule, ...] = (data.statistics, tracking.texts, tracking.address, _no_training)
#: What forbids only to train: a run that was trained can be evaluated, exported and sent in spite of it.
BEFORE_TRAINING: tuple[Rule, ...] = (
    data.augmentation, finetuning.length, search.problems, compression.amount, compression.latency, _k,
)  # fmt: skip
