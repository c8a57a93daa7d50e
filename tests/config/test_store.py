"""A config survives the run directory, and every choice composes."""

from __future__ import annotations

import pytest
import yaml

from runner import config as cfg
from runner.cli import compose
from runner.cli.config_dir import choices
from runner.cli.help import ADDED
from runner.config import store
from runner.config.rules import validate_new
from runner.errors import ConfigError

NEEDED = {
    "launch=cluster": ["launch.master=node0:29500"],
    "model=custom": ["model.target=a.b:c"],
    "model=vision": ["model.architecture=vgg11"],
    "model=paddleclas": ["model.architecture=PPLCNet_x1_0"],
    "augment=custom": ["augment.target=a.b:c"],
    "data=custom": ["data.target=a.b:c"],
    "data=files": ["data.train=list.csv"],
    "data=image_folder": ["data.root=somewhere"],
    "data=shards": ["data.train=set.tar"],
    "loss=bce": ["data.labels=many"],
    "loss=asl": ["data.labels=many"],
    "loss=custom": ["loss.target=a.b:c"],
    "mimic=custom": ["mode=cls_distill", "mimic.target=a.b:c"],
    "features=attention_transfer": ["mode=cls_distill", "features.layers=[conv4]"],
    "features=rkd": ["mode=cls_distill", "features.layers=[conv4]"],
    "features=hint": ["mode=cls_distill", "features.layers=[conv4]"],
    "features=custom": ["mode=cls_distill", "features.layers=[conv4]", "features.target=a.b:c"],
    "optimizer=custom": ["optimizer.target=a.b:c"],
    "schedule=custom": ["schedule.target=a.b:c"],
    "tracking=custom": ["tracking.also.custom.target=a.b:c"],
    "mode=cls_teacher": ["mode.teacher_from=somewhere"],
}
EVERY_CHOICE = [
    (group, choice)
    for group, names in choices().items()
    for choice in names
    if group not in ("debug", "experiment") and (choice not in cfg.ARCHITECTURES or choice == "resnet50")
]


@pytest.mark.parametrize(("group", "choice"), EVERY_CHOICE)
def test_every_choice_composes_and_reads_back_equal(config_of, tmp_path, group, choice):
    needed = NEEDED.get(f"{group}={choice}", ["mode=cls_distill"] if group == "mimic" else [])
    config = config_of(f"{'+' if group in ADDED else ''}{group}={choice}", *needed)
    store.write(config, tmp_path / "config.yaml")
    assert store.read(tmp_path / "config.yaml") == config


def test_a_peer_of_another_kind_reads_back_as_that_kind(config_of, tmp_path):
    config = config_of(
        "mode=cls_distill_multiopt",
        "model@mode.peer=resnet18",
        "optimizer@mode.peer_optimizer=rmsprop",
        "schedule@mode.peer_schedule=piecewise",
    )
    store.write(config, tmp_path / "config.yaml")
    mode = store.read(tmp_path / "config.yaml").mode
    assert isinstance(mode, cfg.ClsDistillMultiopt)
    assert isinstance(mode.peer, cfg.Vision)
    assert isinstance(mode.peer_optimizer, cfg.RMSProp)
    assert isinstance(mode.peer_schedule, cfg.Piecewise)


def test_several_trackers_compose_in_any_order_and_read_back(config_of, tmp_path):
    words = ["tracking.uri=http://host", "tracking.also.tensorboard.folder=board"]
    config = config_of("tracking=[mlflow,csv,tensorboard]", *words)
    assert config == config_of("tracking=[tensorboard,csv,mlflow]", *words)
    assert list(config.tracking.trackers) == ["mlflow", "csv", "tensorboard"]
    store.write(config, tmp_path / "config.yaml")
    assert store.read(tmp_path / "config.yaml") == config
    assert not config_of("tracking=none").tracking.trackers


def test_a_tracker_that_does_not_exist_is_named_with_those_that_do(config_of):
    with pytest.raises(Exception, match="cvs") as refused:
        config_of("tracking=[mlflow,cvs]")
    assert "Did you mean 'csv'?" in str(compose.explain(refused.value))


def test_a_stored_config_with_an_unknown_key_is_refused(config_of, tmp_path):
    plain = store.to_plain(config_of())
    plain["optimizer"]["momentumm"] = 1
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(ConfigError, match="momentumm"):
        store.read(tmp_path / "config.yaml")


def test_every_leaf_becomes_a_dotted_parameter(config_of):
    flat = store.flatten(config_of("mode=cls_distill"))
    assert flat["optimizer.kind"] == "adamw"
    assert flat["mimic.kind"] == "dml"
    assert flat["augment.crop_padding"] == "3"
    assert flat["model.size"] == "large"


def test_patterns_of_layers_make_no_names_of_parameters(config_of):
    flat = store.flatten(config_of("compression=fpgm", "+compression.prune.ratios={*.mid_se.*:0.1}"))
    below = {key: value for key, value in flat.items() if key.startswith("compression.prune.ratios")}
    assert below == {"compression.prune.ratios": "{'*.mid_se.*': 0.1}"}


@pytest.mark.parametrize("mode", ["cls", "cls_distill", "cls_distill_multiopt"])
def test_the_original_recipes_have_the_originals_hyper_parameters(config_of, mode):
    config = config_of(f"experiment=original/{mode}")
    assert config.mode.kind == mode
    assert config.model == cfg.MobileNetV3(size=cfg.Size.large, scale=0.5)
    assert isinstance(config.data, cfg.Cifar100)
    assert config.data.batch_size == 1280
    assert config.train.epochs == 1000
    assert config.optimizer == cfg.Momentum(lr=0.001, momentum=0.9, weight_decay=2e-5, decay_exempt=cfg.Exempt.norms)
    assert isinstance(config.schedule, cfg.Cosine)
    assert (config.mimic is None) == (mode == "cls")


@pytest.mark.parametrize("override", ["deploy.bench_s=0", "deploy.formats=[paddle,safetensors]"])
def test_a_run_that_was_pruned_to_a_latency_can_be_exported_in_any_way(config_of, tmp_path, override):
    config = config_of("compression=fpgm", "compression.prune.budget=latency")
    store.write(config, tmp_path / "config.yaml")
    key, _, value = override.partition("=")
    changed = store.read(tmp_path / "config.yaml", [override])
    assert store.leaves(changed)[key] == yaml.safe_load(value)
    with pytest.raises(ConfigError, match="compression.prune.budget=latency"):
        config_of("compression=fpgm", "compression.prune.budget=latency", override)


def test_groups_are_read_alone_as_the_whole_config_has_them(config_of, tmp_path):
    config, path = config_of("compression=qat", "model=resnet18", "name=other"), tmp_path / "config.yaml"
    store.write(config, path)
    names = ("model", "compression", "data", "train")
    assert store.read_groups(path, names) == {name: getattr(config, name) for name in names}
    # What stands in another group is not looked at; what is not as `write` writes it is read as a whole.
    text = path.read_text()
    path.write_text(text.replace("\noptimizer:\n", "\noptimizer:\n  foo: 1\n"))
    assert store.read_groups(path, ["model"]) == {"model": config.model}
    path.write_text("# By hand.\n" + text)
    assert store.read_groups(path, ["model"]) == {"model": config.model}
    path.write_text(text.replace("\nmodel:\n", "\nmodel:\n  foo: 1\n"))
    with pytest.raises(ConfigError, match="no key 'foo' in 'model'"):
        store.read_groups(path, ["model"])


def test_every_field_of_the_schema_says_what_it_is():
    import ast
    from pathlib import Path

    for path in (Path(cfg.__file__).parent).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any("dataclass" in ast.dump(d) for d in node.decorator_list):
                for field, after in zip(node.body, [*node.body[1:], None], strict=True):
                    # The class above says what the kind is.
                    names_itself = ast.unparse(field).startswith("kind: str") and "???" not in ast.unparse(field)
                    if isinstance(field, ast.AnnAssign) and not names_itself:
                        assert isinstance(after, ast.Expr), f"{path.name}: {node.name}.{ast.unparse(field.target)}"


def test_a_key_that_an_earlier_version_stored_and_no_value_of_which_mattered_is_read_over(config_of, tmp_path):
    config = config_of("compression=fpgm")
    plain = store.to_plain(config)
    plain["compression"]["prune"]["axis"] = 0
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    assert store.read(tmp_path / "config.yaml") == config
    assert store.read(tmp_path / "config.yaml", ["compression.prune.ratio=0.5"]).compression.prune.ratio == 0.5


def test_a_stored_reduction_of_macs_is_a_budget_now(tmp_path, config_of):
    store.write(config_of("compression=fpgm"), tmp_path / "config.yaml")
    plain = yaml.safe_load((tmp_path / "config.yaml").read_text())
    for key in ("budget", "allocation"):
        del plain["compression"]["prune"][key]
    usual = (0.3, cfg.Budget.filters, cfg.Allocation.uniform)
    for value, wanted in ((0.4, (0.4, cfg.Budget.macs, cfg.Allocation.sensitivity)), (None, usual)):
        plain["compression"]["prune"]["macs_reduction"] = value
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
        prune = store.read(tmp_path / "config.yaml").compression.prune
        assert (prune.ratio, prune.budget, prune.allocation) == wanted


def test_such_a_key_with_another_value_is_refused(config_of, tmp_path):
    plain = store.to_plain(config_of("compression=fpgm"))
    plain["compression"]["prune"]["axis"] = 1
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(ConfigError, match="There is no longer a key 'axis' in 'compression.prune'"):
        store.read(tmp_path / "config.yaml")


def test_a_key_that_an_earlier_version_had_cannot_be_set_any_more(config_of, tmp_path):
    store.write(config_of("compression=fpgm"), tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="There is no longer a key 'axis' in 'compression.prune'"):
        store.read(tmp_path / "config.yaml", ["compression.prune.axis=0"])


def test_augmentation_that_an_earlier_version_kept_among_the_data_means_the_same(config_of, tmp_path):
    plain = store.to_plain(config_of("data=cifar10"))
    del plain["augment"]
    plain["data"]["augment"] = {"crop_padding": 4, "flip": True, "cutout": 8}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    assert store.read(tmp_path / "config.yaml").augment == cfg.Augment(crop_padding=4, flip=True, cutout=8)
    assert store.read(tmp_path / "config.yaml", ["augment.flip=false"]).augment.flip is False


def test_a_config_with_augmentation_in_both_places_is_refused(config_of, tmp_path):
    plain = store.to_plain(config_of())
    plain["data"]["augment"] = {"flip": True}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    with pytest.raises(ConfigError, match="There is no key 'augment' in 'data'"):
        store.read(tmp_path / "config.yaml")


def test_averages_of_earlier_versions_go_on_as_they_began(config_of, tmp_path):
    store.write(config_of("train.ema=0.99"), tmp_path / "config.yaml")
    assert store.read(tmp_path / "config.yaml").train.ema_warmup
    plain = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del plain["train"]["ema_warmup"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    assert not store.read(tmp_path / "config.yaml").train.ema_warmup


def test_teachers_of_several_kinds_read_back_with_all_their_keys(config_of, tmp_path):
    config = config_of(
        "mode=cls_teacher",
        "mode.teacher_from=a",
        "+mode.more_teachers={big:{teacher_from:b,teacher_weight:2,teacher_image_size:[64,48]}}",
        "+model@mode.more_teachers.big.teacher=resnet18",
    )
    store.write(config, tmp_path / "config.yaml")
    mode = store.read(tmp_path / "config.yaml").mode
    assert mode == config.mode
    assert isinstance(mode.teachers["big"].teacher, cfg.Vision)
    assert [mode.teachers[name].teacher_weight for name in mode.teachers] == [1, 2]


def test_a_run_of_one_teacher_of_an_earlier_version_reads_back(config_of, tmp_path):
    config = config_of("mode=cls_teacher", "mode.teacher_from=a")
    plain = store.to_plain(config)
    plain["mode"] |= {"more_teachers": [], "teacher_weights": []}
    del plain["mode"]["precompute_logits"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    assert store.read(tmp_path / "config.yaml") == config


#: Values below a group that earlier versions accepted → what refuses a new run with them.
EARLIER = [
    ("tracking", {"tags": {"runner.key": "mine"}}, "the run has a tag of that name"),
    ("tracking", {"tags": {"sweep.best": "mine"}}, "the run has a tag of that name"),
    ("tracking", {"tags": {"a@b": "c"}}, "at most 250 letters"),
    ("tracking", {"uri": "http://"}, "tracking.uri"),
    ("data", {"mean": [123.7, 116.3, 103.5]}, "these numbers are of 0…255"),
    ("data", {"std": [58.4, 57.1, 57.4]}, "these numbers are of 0…255"),
    ("augment", {"crop_scale": [0.9, 0.1]}, "needs the smallest and the largest value"),
    ("train", {"monitor": "val/top5", "topk": 3}, "Use train.topk=5"),
]


@pytest.mark.parametrize(("group", "values", "message"), EARLIER)
def test_a_stored_run_is_read_with_values_that_only_new_runs_must_not_have(config_of, tmp_path, group, values, message):
    plain = store.to_plain(config_of())
    plain[group] |= values
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain))
    config = store.read(tmp_path / "config.yaml", ["data.batch_size=7"])
    assert config.data.batch_size == 7
    assert values.items() <= store.to_plain(config)[group].items()
    with pytest.raises(ConfigError, match=message):
        validate_new(config)


def test_an_override_for_a_stored_run_must_be_right_itself(config_of, tmp_path):
    store.write(config_of(), tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match=r"data\.mean=\[0\.4851,0\.4561,0\.4059\]"):
        store.read(tmp_path / "config.yaml", ["data.mean=[123.7,116.3,103.5]"])
