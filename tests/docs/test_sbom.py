"""The bill of materials: whole, consistent, the same each time; and the page of licences."""

from __future__ import annotations

import json
import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docs import sbom
from tests.docs.pages import ROOT

tomllib = pytest.importorskip("tomllib")


@pytest.fixture(scope="module")
def bill():
    return sbom.bill(sbom.closure({"cpu"}), {"cpu"})


def required():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"]["cpu"]]
    return {canonicalize_name(Requirement(text).name) for text in texts}


def test_everything_that_is_asked_for_is_in_it_with_version_and_licence(bill):
    components = {canonicalize_name(one["name"]): one for one in bill["components"]}
    assert required() <= components.keys()
    for name, one in components.items():
        assert one["version"] == metadata.version(name)
        assert one["purl"] == f"pkg:pypi/{name}@{one['version']}"
        [stated] = one["licenses"]
        assert stated.keys() <= {"license", "expression"}
    assert components["numpy"]["licenses"] == [{"license": {"name": "BSD"}}]
    assert components["flask"]["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]


def test_an_extra_that_there_is_not_is_refused_and_what_is_not_installed_is_named(monkeypatch, capsys):
    with pytest.raises(SystemExit) as refused:
        sbom.main(["--extras", "cpu,nonsense"])
    assert refused.value.code == 2
    assert "no extra nonsense. It has bench, cpu" in capsys.readouterr().err
    distribution = metadata.distribution

    def without_pillow(name):
        if name == "pillow":
            raise metadata.PackageNotFoundError(name)
        return distribution(name)

    monkeypatch.setattr(metadata, "distribution", without_pillow)
    assert "pillow" not in sbom.closure({"cpu"})
    assert capsys.readouterr().err.count("pillow is required here and not installed") == 1


def test_references_are_unique_and_lead_somewhere(bill):
    references = [bill["metadata"]["component"]["bom-ref"], *(one["bom-ref"] for one in bill["components"])]
    assert len(references) == len(set(references))
    assert {edge["ref"] for edge in bill["dependencies"]} == set(references)
    assert all(set(edge["dependsOn"]) <= set(references) for edge in bill["dependencies"])
    [own] = [edge for edge in bill["dependencies"] if edge["ref"] == references[0]]
    assert len(own["dependsOn"]) == len(required())


def test_it_is_the_same_each_time_and_names_its_format(bill):
    again = sbom.bill(sbom.closure({"cpu"}), {"cpu"})
    assert json.dumps(again) == json.dumps(bill)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bill["serialNumber"])


@pytest.mark.parametrize(
    ("stated", "licence"),
    [
        ({"License-Expression": "MIT OR Apache-2.0"}, "MIT OR Apache-2.0"),
        ({"License": "Apache License 2.0"}, "Apache-2.0"),
        ({"License": "BSD-3-Clause\nRedistribution and use …"}, "BSD-3-Clause"),
        ({"License": "UNKNOWN", "Classifier": "License :: OSI Approved :: MIT License"}, "MIT"),
        ({}, "not stated"),
    ],
)
def test_a_licence_is_read_from_what_a_package_states(tmp_path, stated, licence):
    folder = tmp_path / "some-1.0.dist-info"
    folder.mkdir()
    lines = ["Metadata-Version: 2.1", "Name: some", "Version: 1.0"]
    for name, value in stated.items():
        lines.append(f"{name}: " + value.replace("\n", "\n        "))
    (folder / "METADATA").write_text("\n".join(lines) + "\n\n")
    assert sbom.licence(metadata.Distribution.at(folder)) == licence


def test_the_page_has_every_package_that_is_asked_for():
    rows = re.findall(r"^\| ([\w.-]+) \| .+ \| \*\*paddle-runner\*\* \|$", sbom.PAGE.read_text(), re.MULTILINE)
    assert set(rows) == required()
