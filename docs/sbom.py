"""What an installation consists of: `python -m docs.sbom [--extras cpu,remote] [--output sbom.json]`.

Writes a bill of materials (CycloneDX 1.5, JSON) of the package and all that it needs in this environment, by what the
installed packages say of themselves; nothing is asked of anybody. `--page` writes the list of licences instead, into
docs/licences.md. The same environment gives the same file.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NAME = "paddle-runner"
PAGE = Path(__file__).with_name("licences.md")
#: What stands before the generated part of the page.
MARK = "<!-- The rest is written by python -m docs.sbom --page -->\n\n"
#: End of a classifier `License :: OSI Approved :: …` → SPDX; of others the words themselves are given.
SPDX = {
    "MIT License": "MIT", "BSD License": "BSD", "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC", "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0", "The Unlicense (Unlicense)": "Unlicense",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
}  # fmt: skip
#: How packages spell licences, those among them that put the whole text into the field, in small letters → SPDX.
WORDS = {
    "apache 2.0": "Apache-2.0", "apache license 2.0": "Apache-2.0", "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0", "apache-2.0": "Apache-2.0", "apache 2": "Apache-2.0", "mit license": "MIT",
    "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "bsd 3-clause license": "BSD-3-Clause", "bsd": "BSD",
    "new bsd": "BSD-3-Clause", "3-clause bsd license": "BSD-3-Clause", "bsd-2-clause": "BSD-2-Clause", "isc": "ISC",
}  # fmt: skip
#: Identifiers of SPDX that CycloneDX takes as such; anything else is a name.
IDENTIFIERS = {*SPDX.values(), *WORDS.values()} - {"BSD"} | {"0BSD", "Zlib", "MIT-CMU", "BSL-1.0"}


def closure(extras: set[str]) -> dict[str, metadata.Distribution]:
    """Canonical name → every installed distribution that the package needs with some extras, and itself."""
    found: dict[str, metadata.Distribution] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(NAME, frozenset(extras))]
    seen = set(waiting)
    while waiting:
        name, asked = waiting.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            print(f"{name} is required here and not installed: it is not in the bill", file=sys.stderr)
            continue
        found[canonicalize_name(name)] = distribution
        for requirement in needs(distribution, set(asked)):
            step = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            if step not in seen:
                seen.add(step)
                waiting.append(step)
    return dict(sorted(found.items()))


def needs(distribution: metadata.Distribution, extras: set[str]) -> list[Requirement]:
    """What a distribution requires here, with some of its extras."""
    every = [Requirement(text) for text in distribution.requires or ()]
    environments = [{"extra": extra} for extra in {"", *extras}]
    return [
        one for one in every if one.marker is None or any(one.marker.evaluate(where) for where in environments)
    ]  # fmt: skip


def licence(distribution: metadata.Distribution) -> str:
    """The licence by what the package says of itself: an SPDX expression where it can be told, else its own words."""
    about = distribution.metadata
    if "License-Expression" in about:
        return about["License-Expression"].strip()
    text = about["License"].strip() if "License" in about else ""
    first = text.splitlines()[0].strip() if text else ""
    if spdx := WORDS.get(first.lower().rstrip(".")):
        return spdx
    classified = [
        line.rpartition(" :: ")[2] for line in about.get_all("Classifier") or () if line.startswith("License ::")
    ]  # fmt: skip
    if names := sorted({SPDX.get(name, name) for name in classified if name != "OSI Approved"}):
        return " AND ".join(names)
    return first[:60] if first and first.upper() != "UNKNOWN" else "not stated"


def bill(found: dict[str, metadata.Distribution], extras: set[str]) -> dict[str, Any]:
    """The bill of materials of some distributions. Its serial number follows from what is in it."""
    references = {name: purl(one) for name, one in found.items()}
    components = [component(found[name]) for name in found if name != NAME]
    edges = [
        {
            "ref": references[name],
            "dependsOn": sorted(
                {references[key] for one in needs(distribution, extras if name == NAME else set())
                 if (key := canonicalize_name(one.name)) in references}
            ),
        }
        for name, distribution in found.items()
    ]  # fmt: skip
    content = json.dumps([components, edges], sort_keys=True)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {"component": component(found[NAME]) | {"type": "application"}},
        "components": components,
        "dependencies": edges,
    }


def component(distribution: metadata.Distribution) -> dict[str, Any]:
    """One entry of a bill."""
    spoken = licence(distribution)
    licences: list[dict[str, Any]]
    if spoken in IDENTIFIERS:
        licences = [{"license": {"id": spoken}}]
    elif "License-Expression" in distribution.metadata:
        licences = [{"expression": spoken}]
    else:
        licences = [{"license": {"name": spoken}}]
    return {
        "type": "library", "bom-ref": purl(distribution), "name": distribution.metadata["Name"],
        "version": distribution.version, "purl": purl(distribution), "licenses": licences,
    }  # fmt: skip


def purl(distribution: metadata.Distribution) -> str:
    """The package URL."""
    return f"pkg:pypi/{canonicalize_name(distribution.metadata['Name'])}@{distribution.version}"


def page(found: dict[str, metadata.Distribution]) -> str:
    """The page of licences as it should be, without versions, which differ from one installation to the next."""
    written, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    spoken = {name: licence(one) for name, one in found.items() if name != NAME}
    direct = {canonicalize_name(one.name) for one in needs(found[NAME], {"cpu"})}
    lines = ["| licence | packages |", "|---|---:|"]
    lines += [f"| {_cell(name)} | {count} |" for name, count in sorted(Counter(spoken.values()).items())]
    lines += ["", "| package | licence | asked for by |", "|---|---|---|"]
    for name, text in spoken.items():
        by = sorted(
            other for other in found
            if name in {canonicalize_name(one.name) for one in needs(found[other], {"cpu"} if other == NAME else set())}
        )  # fmt: skip
        asked = f"**{NAME}**" if name in direct else ", ".join(by[:3]) + (", …" if len(by) > 3 else "")
        lines.append(f"| {name} | {_cell(text)} | {asked} |")
    return written + mark + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "/").replace("<", "&lt;")


def main(arguments: list[str] | None = None) -> int:
    """Write the bill, or the page."""
    parser = argparse.ArgumentParser(prog="python -m docs.sbom", description=__doc__.partition("\n")[0])
    parser.add_argument("--extras", default="cpu", help="extras of the package, with commas (%(default)s)")
    parser.add_argument("--output", type=Path, help="a file to write to (standard output)")
    parser.add_argument("--page", action="store_true", help=f"write the list of licences into {PAGE.name}")
    options = parser.parse_args(arguments)
    extras = set(filter(None, options.extras.split(",")))
    try:
        known = metadata.distribution(NAME).metadata.get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        parser.error(f"{NAME} is not installed here: pip install -e '.[cpu]'")
    if unknown := sorted(extras - set(known)):
        parser.error(f"{NAME} has no extra {', '.join(unknown)}. It has {', '.join(sorted(known))}")
    found = closure(extras)
    if options.page:
        PAGE.write_text(page(found), encoding="utf-8")
        return 0
    text = json.dumps(bill(found, extras), indent=2) + "\n"
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
