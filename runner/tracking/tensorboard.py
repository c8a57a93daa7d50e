"""TensorBoard event files: scalars at their steps, hyperparameters, and the config as text."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

from .. import config as cfg
from .. import files
from ..config import store
from ..runs.journal import events
from .derived import Derived, Format
from .naming import names, run_name
from .stores import Delivery, folder_path

#: The first record of every event file.
MARK = "brain.Event:2"
#: The folder in a run directory.
FOLDER = "tensorboard"


def tracker(directory: Path, config: cfg.Config, name: str, settings: cfg.TensorBoard) -> Derived:
    """The tracker of a run."""
    tracked = Delivery(directory, name)
    if shared := folder_path(tracked.uri or settings.address):
        # Runs of different folders may share a name. The key comes from a file of the run, which cannot be trusted.
        name = f"{run_name(config, directory)}-{tracked.values['key'][:8]}"
        folder = files.inside(shared, name.replace("/", "_"))
    else:
        folder = files.inside(directory, FOLDER)
    began = next((event["time"] for event, _ in events(directory)), 0.0)
    head = functools.partial(_head, config, began)
    return Derived(tracked, folder / f"events.out.tfevents.{began:.0f}.runner", Format(MARK, head, encode))


def encode(event: dict[str, Any]) -> bytes:
    """The records of an event."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    match event["event"]:
        case "metrics":
            points = event["values"].items()
            values = [Summary.Value(tag=files.writable(name), simple_value=value) for name, value in points]
            return _record(event["time"], Summary(value=values), event["step"])
        case "ended":
            good = event["status"] == "FINISHED"
            status = api_pb2.STATUS_SUCCESS if good else api_pb2.STATUS_FAILURE
            info = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=event["time"])
            about = metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=info))
            end = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)
            return _record(event["time"], Summary(value=[end]))
    return b""


def _head(config: cfg.Config, began: float) -> bytes:
    """The beginning of an event file: its version, the hyperparameters, the config."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.plugins.hparams import summary_v2
    from tensorboard.plugins.text.metadata import create_summary_metadata

    # Markdown shows indented lines as code.
    text = "    " + files.writable(store.to_yaml(config)).replace("\n", "\n    ")
    about = create_summary_metadata("config", "What was trained, as YAML.")
    shown = Summary.Value(tag="config", metadata=about, tensor=TensorProto(dtype=DT_STRING, string_val=[text.encode()]))
    hyperparameters = summary_v2.hparams_pb(_hyperparameters(config), start_time_secs=began)
    version = _framed(Event(wall_time=began, file_version=MARK))
    return version + _record(began, hyperparameters) + _record(began, Summary(value=[shown]))


def _hyperparameters(config: cfg.Config) -> dict[str, Any]:
    """Every leaf of the config with a type that TensorBoard supports, the others as text."""
    leaves = {key.removesuffix(".kind"): value for key, value in store.leaves(config).items()} | names(config)
    return {
        key: value if isinstance(value, (bool, int, float)) else files.writable(str(value))
        for key, value in leaves.items()
    }


def _record(seconds: float, summary: Any, step: int = 0) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event

    return _framed(Event(wall_time=seconds, step=step, summary=summary))


def _framed(event: Any) -> bytes:
    from tensorboard.summary.writer.record_writer import RecordWriter

    stream = io.BytesIO()
    RecordWriter(stream).write(event.SerializeToString(deterministic=True))
    return stream.getvalue()
