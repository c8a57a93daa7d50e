"""Lists the native CPU kernels and the convolutions that they compute."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from ... import device
from ...terminal import screen, styled

if TYPE_CHECKING:
    from ...kernels.autotune import Measured


def main(arguments: list[str]) -> int:
    """`kernels [--json]`."""
    description = "Compile the CPU's kernels where they are not yet, and list the convolutions that were measured."
    parser = argparse.ArgumentParser(prog="runner kernels", description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    device.load_paddle(None)
    from ...kernels import autotune, build, native

    reason = native.unavailable()
    measured = [] if reason else autotune.all_measured()
    if options.json:
        rows = [describe(one) for one in measured]
        print(json.dumps({"library": None if reason else build.library()._name, "reason": reason, "measured": rows}))
        return 0
    if reason:
        print(f"No compiled kernels: {reason}.\nDepthwise convolutions are computed as matrix products instead.")
        return 0
    print(f"{build.library()._name}, {native.kernels().threads()} threads")
    if measured:
        screen().print(table(measured))
    else:
        print("Nothing was measured yet: training does it, once for every shape.")
    return 0


def describe(one: Measured) -> dict[str, Any]:
    """A measurement as a row: milliseconds of forward and backward pass, layout changes included."""
    g = one.geometry
    return {
        "images": g.batch, "maps": f"{g.channels}×{g.height}×{g.width}", "filters": g.filters,
        "kernel": "×".join(map(str, g.kernel)), "stride": g.stride[0], "groups": g.groups,
        "layout": {(True, True): "changed", (False, False): "kept"}.get((one.enters, one.leaves), "changed once"),
        "paddle_ms": one.paddle_ms, "kernels_ms": one.kernels_ms,
        "computed_by": "Paddle" if one.paddle_is_faster else "kernels",
    }  # fmt: skip


def table(measured: list[Measured]) -> Table:
    """One row per shape."""
    rows = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("images", "maps", "filters", "kernel", "stride", "groups", "layout", "Paddle ms", "kernels ms"):
        rows.add_column(heading, justify="left" if heading == "layout" else "right")
    rows.add_column("times as fast", justify="right")
    rows.add_column("computed by")
    for one in measured:
        *shape, theirs, ours, by = describe(one).values()
        times = (f"{theirs:.3f}", f"{ours:.3f}", f"{theirs / ours:.1f}")
        rows.add_row(*map(str, shape), *times, styled(by, "yellow") if one.paddle_is_faster else by)
    return rows
