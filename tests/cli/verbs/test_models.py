"""`runner models` lists what `model=` takes by name, and measures some of it."""

from __future__ import annotations

import json

import pytest

from runner.cli import compose
from runner.config import networks


def rows(here, cwd, *arguments):
    done = here("models", *arguments, "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_network_is_listed(here, tmp_path):
    names = [row["name"] for row in rows(here, tmp_path)]
    assert names == list(networks.by_name())
    assert {"resnet18", "siamese", "mobilenet_v3_small_x0_35", "paddleclas/PPLCNet_x1_0"} <= set(names)


@pytest.mark.parametrize("pattern", ["resnet18", "RESNET18*", "paddleclas/ResNet18", "resnet?8_vd"])
def test_a_pattern_is_part_of_a_name_or_as_in_a_shell_in_either_case(here, tmp_path, pattern):
    names = [row["name"] for row in rows(here, tmp_path, pattern)]
    assert "paddleclas/ResNet18_vd" in names
    assert all("resnet" in name.lower() for name in names)


def test_rows_are_sorted_by_what_networks_cost_with_those_that_nobody_measured_last(here, tmp_path):
    macs = [row["macs"] for row in rows(here, tmp_path, "--sort", "macs")]
    measured = [value for value in macs if value is not None]
    assert measured == sorted(measured)
    assert macs[len(measured) :] == [None] * (len(macs) - len(measured))


def test_the_table_has_millions(here, tmp_path):
    text = here("models", "resnet18", cwd=tmp_path).stdout
    assert any(line.split() == ["resnet18", "224", "11.69", "1,814"] for line in text.splitlines())


def test_a_name_that_nothing_has_leads_to_the_nearest(here, tmp_path):
    done = here("models", "resnet51", cwd=tmp_path)
    assert done.returncode == 2
    assert "Did you mean 'resnet" in done.stderr


def test_too_many_networks_are_not_measured(here, tmp_path):
    done = here("models", "--latency", cwd=tmp_path)
    assert done.returncode == 2
    assert "at most 50" in done.stderr


def test_latency_is_measured_in_the_engine_that_computes_exported_files(here, tmp_path):
    [small] = rows(here, tmp_path, "mobilenet_v3_small_x0_35", "--latency", "--seconds", "0.01")
    assert small["latency_ms"] > 0
    assert small["reason"] == ""


def test_every_name_of_the_list_is_a_choice():
    compose.register()
    for name in ("siamese", "vgg11", "mobilenet_v3_large_x1_25", "paddleclas/PPLCNet_x0_25"):
        assert name in networks.by_name()
        assert compose.config_of([f"model={name}"])
