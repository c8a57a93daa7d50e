"""Serves an exported network over HTTP. Imports neither Paddle nor MLflow."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ...deploy import engines, manifest
from ...errors import STOPPED, ConfigError
from ...files import refuse_links
from ...tracking import lookup
from .arguments import URI, add_uri, bounded


def main(arguments: list[str]) -> int:
    """`serve EXPORT [--host NAME] [--port N] [--engine NAME] [--threads N] [--uri URI]`, until it is stopped."""
    parser = argparse.ArgumentParser(
        prog="runner serve", description="Serve an exported network's predictions over HTTP."
    )
    parser.add_argument(
        "export", metavar="EXPORT", help="folder of an export, or the run that has it (directory or MLflow run id)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine alone)")
    parser.add_argument("--port", type=bounded(int, 1, 65_535), default=8080, metavar="N", help="(%(default)s)")
    parser.add_argument("--engine", choices=tuple(engines.INSTALL), help="the inference engine (the recommended one)")
    parser.add_argument("--threads", type=bounded(int, 1, 1024), default=1, metavar="N", help="of one picture")
    add_uri(parser)
    options = parser.parse_args(arguments)
    folder = Path(options.export)
    if not (folder / manifest.MANIFEST).is_file():
        folder = lookup.exported(options.export, options.uri, URI) / manifest.EXPORT
    if not options.host.strip():
        raise ConfigError("--host is empty, which would listen on every address. Name one, or leave it out.")
    from ...deploy import serving
    from ...deploy.predict import Deployed

    refuse_links(folder)
    deployed = Deployed(folder, threads=options.threads, engine=options.engine)
    server = serving.Server(deployed, options.host, options.port)
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{options.port}"
    print(f"Serving  {deployed.manifest.model} at {address}{serving.PREDICT} (Ctrl-C ends it)", flush=True)
    print(f"         in a browser: {address}{serving.PAGE}", flush=True)
    print(f"         curl --data-binary @photo.jpg {address}{serving.PREDICT}", flush=True)
    code = 128 + serving.serve(server)
    print(f"\nStopped by {STOPPED[code]}.", file=sys.stderr)
    return code
