"""PaddleClas' networks are choices by name, of a student and of a peer, without PaddleClas."""

from __future__ import annotations

import pytest

from runner import config as cfg
from runner.cli import config_dir
from runner.cli.compose import config_of
from runner.config import networks, store
from runner.errors import ConfigError


def test_a_network_of_paddleclas_is_built_for_the_images_of_the_run(tmp_path):
    config = config_of(["model=paddleclas/PPLCNet_x1_0", "data.image_size=[64,96]"])
    assert config.model == cfg.PaddleClas(architecture="PPLCNet_x1_0", image_size=[64, 96])
    assert cfg.model_name(config.model) == "PPLCNet_x1_0"
    store.write(config, tmp_path / "config.yaml")
    assert store.read(tmp_path / "config.yaml") == config


def test_so_is_a_peer_and_arguments_reach_it():
    peer = "paddleclas/DeiT_tiny_patch16_224"
    config = config_of(["mode=cls_distill", f"model@mode.peer={peer}", "+mode.peer.kwargs.depth=2"])
    expected = cfg.PaddleClas(architecture="DeiT_tiny_patch16_224", image_size=32, kwargs={"depth": 2})
    assert config.mode.peer == expected


def test_all_names_compose(tmp_path):
    # The whole composition of each would take minutes.
    for name in networks.paddleclas()[::40]:
        assert config_of([f"model=paddleclas/{name}"]).model.architecture == name


@pytest.mark.parametrize("stem", [[], ["model.stem=small"]])
def test_every_network_is_found_in_the_table_by_its_choice(stem):
    own = [name for name in networks.by_name() if not name.startswith(networks.PADDLECLAS)]
    for name in [*own, *(f"{networks.PADDLECLAS}{name}" for name in networks.paddleclas()[::40])]:
        model = config_of([f"model={name}", *stem]).model
        assert cfg.choice_name(model) == name
        assert cfg.model_choice(model) == " ".join([f"model={name}", *stem])


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        ("paddleclas/pplcnet_x1_0", "paddleclas/PPLCNet_x1_0"),
        ("PPLCNet_x0_25", "paddleclas/PPLCNet_x0_25"),
        ("paddleclas/PPLCNet_x1_00", "paddleclas/PPLCNet_x1_0"),
        ("resnet51", "resnet50"),
    ],
)
def test_a_name_that_there_is_not_leads_to_the_nearest(choice, meant):
    with pytest.raises(ConfigError, match=rf"no model={choice}\. Did you mean '{meant}'"):
        config_of([f"model={choice}"])


def test_every_choice_of_a_network_is_listed():
    assert set(config_dir.choices()["model"]) - {"custom", "vision", "paddleclas"} <= networks.by_name().keys()


def test_so_does_an_architecture():
    with pytest.raises(ConfigError, match=r"model\.architecture=ResNet19.*Did you mean 'ResNet1"):
        config_of(["model=paddleclas", "model.architecture=ResNet19"])


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("runner model=resnet15", ["model=resnet152"]),
        ("runner mode=cls_distill model@mode.peer=resnet3", ["model@mode.peer=resnet34"]),
        ("runner -m model=resnet18,vgg11,googl", ["model=resnet18,vgg11,googlenet"]),
        ("runner model=paddl", ["model=paddleclas", "model=paddleclas/"]),
        ("runner model=paddleclas/PPLCNet_x0_2", ["model=paddleclas/PPLCNet_x0_25"]),
        ("runner experiment=original/cls_distill_", ["experiment=original/cls_distill_multiopt"]),
        ("runner +debug=fast", ["+debug=fast_dev_run"]),
    ],
)
def test_completion_offers_choices_of_packages_folders_and_lists(here, tmp_path, monkeypatch, line, offered):
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    done = here("-sc", "query=bash", cwd=tmp_path)
    assert done.stdout.split() == offered


@pytest.mark.parametrize("line", ["runner optimizer.lr=", "runner mod", "runner "])
def test_completion_of_keys_is_hydras(line):
    assert config_dir.completed(line) is None


def test_the_costs_of_every_network_are_in_the_list():
    """docs/models.md says so."""
    lacking = [network.name for network in networks.by_name().values() if None in vars(network).values()]
    assert lacking == []
