"""What a config refuses, and what its messages say."""

from __future__ import annotations

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from runner import terminal
from runner.cli import compose
from runner.cli.config_dir import config_dir
from runner.errors import ConfigError
from runner.metrics import Goal
from runner.worker import experiment

ONCE = ["mode=cls_teacher", "mode.teacher_from=a", "mode.precompute_logits=true"]
TEACHERS = ["mode=cls_teacher", "mode.teacher_from=a", "+mode.more_teachers={big:{teacher_from:b}}"]
REFUSED = [
    (["optimizer.lr=-1"], "optimizer.lr=-1.0: must be above 0"),
    (["data.batch_size=0"], "data.batch_size=0: must be at least 1"),
    (["data.val_fraction=1.0"], "data.val_fraction=1.0: must be below 1"),
    (["data.std=[0.5,0,0.5]"], "data.std"),
    (["data.mean=[1,2]"], "needs a number for each channel, and data.channels=3"),
    (["train.epochs=-3"], "train.epochs=-3: must be at least 0"),
    (["optimizer.kind=sgd"], "Write optimizer=sgd instead"),
    (["mimic=kl"], "mode=cls has one network"),
    (["model.freeze_epochs=2"], "such as model.freeze=backbone"),
    (["+optimizer.lr_scale={conv1: 0}"], "at no cost, use model.freeze=conv1"),
    (["+optimizer.lr_scale={conv1: -1}"], "must be above 0"),
    (["deploy.recommend=int8"], "integer files are ONNX files of a network with compression.quantize"),
    (["deploy.recommend=int8"], "as with compression=ptq"),
    (["deploy.recommend=int8", "compression=qat", "deploy.formats=[paddle]"], "Use deploy.formats=[paddle,onnx], or"),
    (["deploy.recommend=int8", "compression=qat", "deploy.formats=[]"], "deploy.formats=[] has none. Use deploy.form"),
    (["model.freeze=[backbone]", "model.freeze_epochs=2", "train.epochs=2"], "such as model.freeze_epochs=1, or keep"),
    (
        [
            "mode=cls_distill",
            "model@mode.peer=resnet18",
            "mode.peer.freeze=[fc]",
            "mode.peer.freeze_epochs=3",
            "train.epochs=3",
        ],
        "mode.peer.freeze_epochs=3: the run ends before that, with train.epochs=3. Lower it",
    ),
    (["deploy.recommend=float16"], "deploy.formats=[onnx,onnx_fp16]"),
    (["optimizer.layer_decay=1.5"], "optimizer.layer_decay=1.5: must be at most 1"),
    (
        ["mode=cls_teacher", "mode.teacher_from=x", "model@mode.teacher=resnet18", "mode.teacher.freeze=[fc]"],
        "no part of a teacher is trained",
    ),
    (["mode=cls_distill", "~mimic"], "Add mimic=dml"),
    (["mode=cls_distill", "~mimic"], "features=attention_transfer"),
    (["features=attention_transfer", "features.layers=[conv4]"], "mode=cls has one network and no peer"),
    (["mode=cls_distill", "features=attention_transfer"], "such as features.layers=[conv4,conv9]"),
    (
        ["mode=cls_distill", "features=attention_transfer", "features.layers=[a,b]", "features.peer_layers=[a]"],
        "features.layers has 2, and each needs one of the peer",
    ),
    (["mode=cls_distill", "features=attention_transfer", "features.layers=[a,a]"], "each layer can be named once"),
    (
        ["mode=cls_distill", "features=custom", "features.layers=[a]", "features.target=nonsense"],
        "written package.module:callable",
    ),
    (["mode=cls_distill_multiopt", "mimic.detach_peer=false"], "Use mimic.detach_peer=true"),
    (["mode=cls_teacher"], "mode.teacher_from has no value"),
    (["+mimic@also.mimic.dist=dist"], "also.mimic.dist=dist: mode=cls has one network and no peer"),
    (
        ["mode=cls_distill", "data.labels=many", "loss=bce", "+mimic@also.mimic.b=dist"],
        "Use +mimic@also.mimic.b=dml (or kl, kd, rkd)",
    ),
    (["mode=cls_distill", "+mimic@also.mimic.student1=dist"], "not that of a network"),
    (["mode=cls_distill", "mimic=kd", "+mimic@also.mimic.b=kd"], "each would take its share of the label loss"),
    (["mode=cls_distill", "mimic=dkd", "augment.mixup=0.2"], "mixed images and soft labels have several"),
    (["mode=cls_distill", "mimic=dkd", "mimic.beta=-1"], "mimic.beta=-1.0: must be at least 0"),
    (
        ["mode=cls_distill_multiopt", "+mimic@also.mimic.b=rkd", "also.mimic.b.detach_peer=false"],
        "Use also.mimic.b.detach_peer=true",
    ),
    (["mode=cls_distill", "+features@also.features.b=rkd"], "also.features.b.layers names none"),
    (["mode=cls_distill", "mode.peers=1"], "mode.peers=1: must be at least 2"),
    (["mode=cls_distill", "mimic.teachers=[teacher]"], "mode=cls_distill has no teachers. Remove it"),
    ([*TEACHERS, "mimic.teachers=[bg]"], "mimic.teachers: there is no teacher 'bg'. Name some of teacher, big."),
    ([*TEACHERS, "mimic.teachers=[big,big]"], "mimic.teachers=['big', 'big']: each teacher can be named once"),
    ([*TEACHERS, "mimic.teachers=[big]"], "No term follows the teacher 'teacher'. Have one follow it, such as"),
    (
        [
            *TEACHERS,
            "+mimic@also.mimic.b=dist",
            "also.mimic.b.teachers=[big]",
            "mode.more_teachers.big.teacher_weight=0",
        ],
        "none of them has any weight. Give one of them a weight: mode.more_teachers.big.teacher_weight=1",
    ),
    (["mode=cls_distill", "mode.peers=3", "mimic=js_original", "mimic.detach_peer=false"], "one loss of two networks"),
    (["mode=cls_teacher", "mode.teacher_from=a", "mode.teacher_weight=0"], "no teacher has any weight"),
    (["mode=cls_teacher", "+mode.more_teachers={big:{teacher_from:a}}"], "Further teachers need a first one"),
    (
        ["mode=cls_teacher", "mode.teacher_from=a", "+mode.more_teachers={student1:{teacher_from:b}}"],
        "not the name of another network",
    ),
    (
        ["mode=cls_teacher", "mode.teacher_from=a", "+mode.more_teachers={big:{trust:true}}"],
        "big.teacher_from has no value",
    ),
    ([*ONCE, "augment.mixup=0.2"], "Use augment.mixup=0 augment.cutmix=0, or mode.precompute_logits=false"),
    ([*ONCE, "augment.cutmix=1"], "mixtures of images, and the logits are of single ones"),
    (
        [*ONCE, "+features@also.features.b=rkd", "also.features.b.layers=[conv4]"],
        "also.features.b=rkd compares layers, and mode.precompute_logits=true keeps nothing but the teachers' logits",
    ),
    (["mode=cls_distill", "mimic=rkd", "data.batch_size=8", "train.accumulate=4"], "at least data.batch_size=12"),
    (["mode=cls_distill", "mimic=dist", "data.batch_size=3", "launch.nproc_per_node=2"], "at least data.batch_size=4"),
    (["data.labels=many", "loss=bce", "mode=cls_distill", "mimic=dkd"], "Use mimic=dml (or kl, kd, rkd)"),
    (["data.labels=many", "loss=bce", "mode=cls_distill", "mimic=dist"], "Use mimic=dml (or kl, kd, rkd)"),
    (["data.labels=many", "loss=bce", "mode=cls_distill", "mimic=kl", "mimic.standardize=true"], "standardize=false"),
    (["train.eval_every=2", "train.eval_every_steps=50"], "Remove one of the two"),
    (["loss.class_weights=auot"], "give loss.class_weights=auto"),
    (["loss.class_weights=[1,-1]"], "loss.class_weights"),
    (["loss.class_weights=[0,0]"], "give loss.class_weights=auto"),
    (["loss.class_weights=[]"], "give loss.class_weights=auto"),
    (["loss.class_weights={cat:high}"], "give loss.class_weights=auto"),
    (["loss.class_weights={cat:0,dog:-1}"], "must be at least 0"),
    (["data.labels=many"], "Use loss=bce, or else loss=asl or loss=focal"),
    (["data.labels=many", "loss=label_smoothing"], "lets one class win"),
    (["loss=bce"], "Add data.labels=many, or use loss=cross_entropy"),
    (["loss=asl"], "Add data.labels=many, or use loss=cross_entropy"),
    (["data.labels=many", "loss=bce", "mode=cls_distill", "mimic=js_original"], "Use mimic=dml"),
    (["data.labels=many", "loss=bce", "data.sampler=balanced"], "Use data.sampler=shuffle"),
    (["data.labels=many", "loss=bce", "augment.mixup=0.2"], "Use augment.mixup=0 augment.cutmix=0"),
    (
        ["data.labels=many", "loss=bce", "train.monitor=val/student/mcc"],
        "Use train.monitor=val/average_precision (mAP)",
    ),
    (["data.labels=many", "loss=bce", "train.monitor=val/accuracy"], "Use train.monitor=val/average_precision (mAP)"),
    (["train.monitor=val/student/hamming_loss"], "Use train.monitor=val/top1 (top-1)"),
    (["schedule.warmup_epochs=99"], "warm-up is not shorter than the run"),
    (["schedule=piecewise", "schedule.boundaries=[1]"], "so give 2 factors"),
    (["schedule=piecewise", "schedule.boundaries=[3,2,1]"], "must increase"),
    (["train.accumulate=1000"], "more parts than it has images"),
    (
        ["data.mean=[123.675,116.28,103.53]", "data.std=[58.395,57.12,57.375]"],
        "Divide them by 255: data.mean=[0.485,0.456,0.406]",
    ),
    (["data.std=[58.395,57.12,57.375]"], "data.std=[0.229,0.224,0.225]"),
    (["data.labels=soft"], "images of data=digits have one class each. Use data=files or data=custom"),
    (["data=files", "data.train=a.csv", "data.labels=soft"], "such as data.label_columns=[cat,dog]"),
    (
        ["data=custom", "data.target=a:b", "data.labels=soft", "mode=cls_distill", "mimic=dkd"],
        "data.labels=one, or another loss, such as kd",
    ),
    (["train.epochs=0", "train.max_steps=20"], "Remove train.max_steps, or use train.epochs=1"),
    (["train.monitor=val/studnet/top1"], "Valid: val/student/top1"),
    (["train.monitor=val/student/marco_f1"], "Did you mean 'val/student/macro_f1'?"),
    (["train.monitor=val/recal/cat"], "of one class val/precision/CLASS, val/recall/CLASS, val/f1/CLASS"),
    (["train.monitor=val/recall/"], "such as val/recall/CLASS"),
    (["train.monitor=val/student1/recall/cat"], "Did you mean"),
    (["train.monitor='val/recall/a,b'"], "letters, digits, blanks"),
    (["train.monitor=val/recall/../top1"], "letters, digits, blanks"),
    (["train.monitor=val/recall/cat", "train.goal=min"], "Use train.goal=max"),
    (["train.monitor=val/marco_f1"], "Did you mean 'val/student/macro_f1'?"),
    (["train.monitor=macro_f1"], "Did you mean 'val/student/macro_f1'?"),
    (["train.monitor=macro_f1"], "(top5: of at least 6 classes)"),
    (["train.monitor=val/student1/top1"], "Did you mean 'val/student/top1'?"),
    (["train.monitor=student/top1"], "no such metric"),
    (["train.monitor=val/student/top6"], "Use train.topk=6"),
    (["train.monitor=val/student/top0"], "no such metric"),
    (["train.monitor=val/student/loss", "train.goal=max"], "Use train.goal=min"),
    (["train.monitor=val/macro_f1", "train.goal=min"], "Use train.goal=max"),
    (["train.goal=min"], "train.goal=max"),
    (["+train.metrics={kappa:{target:a.b:c}}"], "train.metrics.kappa.goal has no value"),
    (["+train.metrics={kappa:{target:nonsense,goal:max}}"], "package.module:callable"),
    (["+train.metrics={macro_f1:{target:a.b:c,goal:max}}"], "Choose another one"),
    (["+train.metrics={top3:{target:a.b:c,goal:max}}"], "Choose another one"),
    (["+train.metrics={latency_ms_p50:{target:a.b:c,goal:max}}"], "Choose another one"),
    (["+train.metrics={kappa:{target:a.b:c,goal:max}}", "train.monitor=val/kapa"], "Did you mean 'val/student/kappa'?"),
    (["tracking.uri=mlruns"], "tracking.uri=sqlite:///outputs/mlflow.db"),
    (["tracking.uri=file:///mlruns"], "tracking.uri=sqlite:///outputs/mlflow.db"),
    (["tracking.uri=http://me:secret@127.0.0.1:1"], "MLFLOW_TRACKING_PASSWORD"),
    (["tracking.uri=https://token@127.0.0.1:1"], "MLFLOW_TRACKING_TOKEN"),
    (["tracking.uri=postgresql://me:secret@host/runs"], "PGPASSWORD"),
    (["tracking.uri='mysql://host/runs?password=secret'"], "PGPASSWORD"),
    (["augment.cutout=64"], "larger than the image"),
    (["data=custom", "data.target=nonsense"], "package.module:callable"),
    (["launch.devices=[0,1]", "launch.nproc_per_node=3"], "Remove one of the two"),
    (["launch.devices=[0,0]"], "its own GPU"),
    (["launch.nproc_per_node=2", "launch.inline=true"], "Use launch.inline=false"),
    (["launch.nproc_per_node=9", "data.batch_size=8"], "at least data.batch_size=9"),
    (["launch=cluster"], "launch.master=node0:29500"),
    (["launch=cluster", "launch.master=node0:99999"], "meet at HOST:PORT"),
    (["launch=cluster", "launch.nnodes=2", "launch.master=a:1", "launch.rank=2"], "numbered from 0 to 1"),
    (
        ["mode=cls_distill", "mimic=js_original", "mimic.reduction=sum", "launch.nproc_per_node=2"],
        "Use mimic.reduction=mean",
    ),
    (["compression=fpgm", "compression.prune.criterion=l1norm"], "Did you mean 'l1_norm'? Valid: fpgm"),
    (["compression=fpgm", "compression.prune.parts=3"], "Set the first epoch: compression.prune.begin_epoch=1"),
    (
        ["compression=fpgm", "compression.prune.begin_epoch=9", "compression.prune.parts=3", "train.epochs=11"],
        "the last cut before epoch 11, and train.epochs=11. Train longer, such as train.epochs=13",
    ),
    (["compression=fpgm", "compression.prune.begin_epoch=1", "train.max_minutes=1"], "is not known with train.max_mi"),
    (["compression=fpgm", "compression.prune.begin_epoch=1", "amp=bf16", "amp.level=O2"], "Use amp.level=O1, or prune"),
    (
        [
            "compression=fpgm",
            "compression.prune.begin_epoch=1",
            "mode=cls_distill",
            "features=custom",
            "features.target=a.b:c",
            "features.layers=[conv1]",
        ],
        "may depend on the number of channels, which",
    ),
    (
        [
            "compression=fpgm",
            "compression.prune.begin_epoch=1",
            "mode=cls_distill",
            "+features@also.features.late=hint",
            "also.features.late.layers=[conv1]",
        ],
        "Use +features@also.features.late=attention_transfer, or prune before training",
    ),
    (["compression=fpgm_qat", "compression.prune.begin_epoch=1"], "fake-quantized networks cannot be pruned"),
    (["compression=fpgm", "compression.prune.penalty=decoupled"], "shrinks nothing with sparsity=0"),
    (
        ["mode=cls_teacher", "mode.teacher_from=a", "mode.teacher_image_size=[1,2,3]"],
        "mode.teacher_image_size=[64,256]",
    ),
    (["mode=cls_teacher", "mode.teacher_from=a", "mode.teacher_image_size=abc"], "mode.teacher_image_size=224"),
    (["mode=cls_teacher", "mode.teacher_from=a", "mode.teacher_image_size=0"], "mode.teacher_image_size=224"),
    (["compression=fpgm", "compression.prune.sparsity=1e-4"], "Add compression.prune.criterion=bn_scale, or remove it"),
    (
        ["compression=fpgm", "compression.prune.criterion=bn_scale", "compression.prune.sparsity=1e-4"],
        "Set an epoch: compression.prune.begin_epoch=5",
    ),
    (["compression=fpgm", "compression.prune.budget=latency", "deploy.bench_s=0"], "Use deploy.bench_s=0.3"),
    (["compression=fpgm", "compression.prune.budget=latency", "deploy.formats=[paddle]"], "Use deploy.formats=[onnx]"),
    (
        ["compression=fpgm", "compression.prune.budget=macs", "+compression.prune.ratios={conv1: 0.1}"],
        "with budget=macs the ratio of a layer depends on the others",
    ),
    (["compression=fpgm", "compression.prune.ratio=0"], "nothing would be removed"),
    (["compression=fpgm", "compression.prune.ratio=0", "compression.prune.allocation=ranking"], "compression=none"),
    (["compression=fpgm", "compression.prune.ratio=0", "+compression.prune.ratios={conv1: 0}"], "nothing would be"),
    (["compression=fpgm", "compression.prune.criterion=custom"], "compression.prune.target=package.module:callable"),
    (["compression=fpgm", "compression.prune.target=a.b:c"], "add compression.prune.criterion=custom, or remove it"),
    (["compression=fpgm", "+compression.prune.kwargs.a=1"], "compression.prune.kwargs is for custom scores"),
    (
        ["compression=fpgm", "compression.prune.criterion=custom", "compression.prune.target=nonsense"],
        "written package.module:callable",
    ),
    (
        ["compression=fpgm", "compression.prune.begin_epoch=2", "train.epochs=8", "sweep.pruner=median"],
        "those before the last cut decide nothing. Use sweep.pruner=none, or prune before training",
    ),
    (["name=a/b"], "it names a folder"),
    ([f"name={'x' * 201}"], "use at most 200"),
    ([f"name='{'数' * 67}'"], "name has 201 bytes"),
    (["checkpoint.init_from='http://host/run?token=secret'"], "MLFLOW_TRACKING_TOKEN"),
    (["data=custom", "data.target=a:b", "+data.kwargs.source='http://me:secret@host'"], "environment variables"),
    (["+tracking@tracking.also.other=csv", "tracking=csv"], "same destination as csv"),
    (["+tracking@tracking.also.mlflow=csv"], "it names files"),
    (["tracking=custom", "tracking.also.custom.target=my_trackers"], "written package.module:callable"),
    (["tracking=[mlflow,csv]", "tracking.also.csv.drain_s=-1"], "must be at least 0"),
    (["tracking=csv", "tracking.also.csv.kind=tensorboard"], "Write tracking=tensorboard instead"),
    (["+tracking.tags={runner.key:mine}"], "tracking.tags has 'runner.key': the run has a tag of that name itself"),
    (["+tracking.tags.run_dir=x"], "+tracking.tags.my_run_dir=x"),
    (["+tracking.tags={sweep.best:x}"], "+tracking.tags.my_sweep_best=x"),
    (["+tracking.tags={mlflow.runName:x}"], "tracking.tags has 'mlflow.runName'"),
    (["+tracking.tags={a@b:x}"], "tracking.tags has 'a@b': a tag's name has at most 250 letters"),
    (["+tracking.tags={a//b:x}"], "tracking.tags has 'a//b'"),
    ([f"+tracking.tags={{{'x' * 251}:x}}"], "at most 250"),
    ([f"+tracking.tags.team={'x' * 5001}"], "MLflow takes 5000 at most"),
    (["train.callbacks=[{target:my_callbacks}]"], "written package.module:callable"),
    (["train.callbacks=[{target:a:b,kwargs:{uri:'http://me:secret@host'}}]"], "environment variables"),
    (["+optimizer.momentum=0.9"], "no key 'momentum' in 'optimizer'"),
    (["+train.epoch=3"], "Did you mean train.epochs=3?"),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED, ids=[" ".join(case[0]) for case in REFUSED])
def test_a_config_that_cannot_work_is_refused_with_the_reason(config_of, overrides, message):
    with pytest.raises(ConfigError) as refused:
        config_of(*overrides)
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["数据", "x" * 200, "é.-_1"])
def test_a_name_of_an_experiment_is_letters_of_any_alphabet(config_of, name):
    assert config_of(terminal.override("name", name)).name == name


def test_a_value_that_hydra_cannot_read_comes_with_its_quoted_form():
    with pytest.raises(HydraException) as refused:
        OverridesParser.create().parse_overrides(["data.root=my set (1), new"])
    message = str(compose.explain(refused.value))
    assert """ "data.root='my set (1), new'"\n""" in message
    assert message.endswith(""" "data.root='my set (1)','new'\"""")


@pytest.mark.parametrize(
    ("overrides", "goal"),
    [
        ([], Goal.max),
        (["train.monitor=val/student/loss"], Goal.min),
        (["train.monitor=val/macro_f1"], Goal.max),
        (["train.monitor=val/top5"], Goal.max),
        (["train.monitor=val/recall/loss"], Goal.max),
        (["+train.metrics={cost:{target:a.b:c,goal:min}}", "train.monitor=val/cost"], Goal.min),
        (["mode=cls_distill", "train.monitor=val/student1/loss", "train.goal=min"], Goal.min),
    ],
)
def test_the_goal_is_that_of_the_monitored_metric(config_of, overrides, goal):
    assert config_of(*overrides).train.goal is goal


@pytest.mark.parametrize(
    ("monitor", "name"),
    [
        ("val/nll", "val/loss"),
        ("val/student/macro_recall", "val/student/balanced_accuracy"),
        ("val/ece", "val/calibration_error"),
        ("val/recall/map", "val/recall/map"),
        ("val/student/recall/a/macro_recall", "val/student/recall/a/macro_recall"),
    ],
)
def test_a_metric_may_be_called_by_its_other_name(config_of, monitor, name):
    train = config_of(f"train.monitor={monitor}").train
    assert train.monitor == name
    assert train.goal is (Goal.max if "recall" in monitor else Goal.min)


def test_a_metric_of_ones_own_has_its_name_before_others(config_of):
    train = config_of("+train.metrics={ece:{target:a.b:c,goal:max}}", "train.monitor=val/ece").train
    assert (train.monitor, train.goal) == ("val/ece", Goal.max)


def test_a_metric_of_ones_own_in_parts_is_refused_with_the_way_to_give_it():
    compose.register()
    with initialize_config_dir(str(config_dir()), version_base="1.3"), pytest.raises(HydraException) as refused:
        hydra_compose("config", ["+train.metrics.kappa.target=a.b:c"])
    assert "'+train.metrics={kappa:{target:package.module:callable,goal:max}}'" in str(compose.explain(refused.value))


def test_a_warm_up_longer_than_a_fast_dev_run_is_accepted(config_of):
    config = config_of("+debug=fast_dev_run", "data=synthetic", "schedule.warmup_epochs=99", "train.device=cpu")
    assert experiment.build(config).training.steps == 2


@pytest.mark.parametrize("length", ["train.max_steps=9", "train.max_minutes=1", "debug.fast_dev_run=true"])
def test_parts_may_be_frozen_for_longer_than_epochs_that_do_not_count(config_of, length):
    config_of("model.freeze=[backbone]", "model.freeze_epochs=2", "train.epochs=2", length)


def test_cuts_of_a_run_whose_steps_are_given_may_be_behind_its_usual_epochs(config_of):
    config_of("compression=fpgm", "compression.prune.begin_epoch=60", "train.max_steps=100000")


def test_a_warm_up_longer_than_max_steps_is_refused(config_of):
    with pytest.raises(ConfigError, match="the run of 3 steps"):
        experiment.build(config_of("data=synthetic", "train.max_steps=3", "schedule.warmup_epochs=1"))


@pytest.mark.parametrize("schedule", ["cosine_warmup", "exponential_warmup", "polynomial"])
def test_a_warm_up_that_was_not_chosen_suits_a_run_of_any_length(config_of, schedule):
    for length in ("train.max_steps=3", "train.epochs=1", "train.max_minutes=0.01"):
        experiment.build(config_of("data=synthetic", "data.limit=40", f"schedule={schedule}", length))


def test_many_labels_are_monitored_by_their_mean_average_precision(config_of):
    many = ["data.labels=many", "loss=bce"]
    for words, name, goal in (
        ([], "val/student/average_precision", Goal.max),
        (["train.monitor=val/map"], "val/average_precision", Goal.max),
        (["train.monitor=val/hamming_loss"], "val/hamming_loss", Goal.min),
    ):
        train = config_of(*many, *words).train
        assert (train.monitor, train.goal) == (name, goal)
    assert config_of().train.monitor == "val/student/top1"


def test_a_short_trial_of_a_run_accumulates_as_far_as_its_batches_go(config_of):
    config_of("train.accumulate=16", "+debug=fast_dev_run")
