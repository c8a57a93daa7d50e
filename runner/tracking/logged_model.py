"""The exported network of a run as a logged model in MLflow, found as `runs:/<run id>/model`."""

from __future__ import annotations

import base64
import io
import logging
import os
import shutil
import tempfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__, files
from ..deploy import manifest
from ..deploy.manifest import EXPORT
from ..deploy.pyfunc import COLUMN
from ..files.digests import digest_of
from .artifacts import Artifacts

#: Name of the logged model, and the tag that says what is in it.
NAME, DIGEST = "model", "runner.digest"
#: Engine → the package that contains it.
PACKAGES = {manifest.ONNXRUNTIME: "onnxruntime", manifest.OPENVINO: "openvino", manifest.PADDLE: "paddlepaddle"}
#: The package inside the model. Under its own name it would shadow an installed `runner`, whose other modules a
#: notebook may need.
PACKAGE = "runner_served"
MODULES = (
    "__init__.py", "errors.py", "terminal.py", "files/__init__.py", "files/digests.py", "colours.py", "stored.py",
    "images/__init__.py", "images/formats.py", "images/resampling.py", "deploy/__init__.py", "deploy/preprocessing.py",
    "deploy/manifest.py", "deploy/engines.py", "deploy/picture_forms.py", "deploy/predict.py", "deploy/quantization.py",
    "deploy/pyfunc.py",
)  # fmt: skip


def log_model(client: Any, experiment_id: str, run_id: str, folder: Path) -> str:
    """Log the recommended file of an export folder as the run's model, once; returns the id of the logged model.

    An interrupted upload is completed; an export that has changed becomes a new model, the one that
    `runs:/<run id>/model` then names. Errors: CheckpointError for a folder that is not an export, ForeignPath,
    MlflowException.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        described = _copy_recommended(folder, place / EXPORT)
        digest = _digest(place / EXPORT)
        logged = newest(client, experiment_id, run_id)
        if logged is None or logged.tags.get(DIGEST) != digest:
            params = {"network": described.network, "file": described.file().path}
            logged = client.create_logged_model(
                experiment_id, name=NAME, source_run_id=run_id, tags={DIGEST: digest}, params=params
            )
        if logged.status is not LoggedModelStatus.READY:
            # MLflow refuses the same output a second time.
            outputs = client.get_run(run_id).outputs
            if not any(output.model_id == logged.model_id for output in (outputs.model_outputs if outputs else [])):
                client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
            artifacts = Artifacts(client.tracking_uri, logged.artifact_location, logged.model_id)
            artifacts.send_folder(_save(place, described, logged))
            client.finalize_logged_model(logged.model_id, "READY")
        return str(logged.model_id)


def _copy_recommended(folder: Path, target: Path) -> manifest.Manifest:
    """An export folder with only the recommended file."""
    described = manifest.read(folder)
    file = described.file()
    for path in file.paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files.inside(folder, path), target / path)
    alone = replace(described, files=[file])
    manifest.write(target, alone)
    return alone


def newest(client: Any, experiment_id: str, run_id: str) -> Any:
    """The run's last logged model; None before the first."""
    models = client.search_logged_models([experiment_id], f"source_run_id = '{run_id}' AND name = '{NAME}'")
    return max(models, key=lambda logged: logged.creation_timestamp, default=None)


def _digest(folder: Path) -> str:
    """Sixteen hexadecimal digits that change when a file does."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest_of(part for path in paths for part in (f"{path.relative_to(folder)}\n", path.read_bytes()))


def _save(place: Path, described: manifest.Manifest, logged: Any) -> Path:
    """Write the model's files into a folder of `place`, next to the export folder."""
    # MLflow would add the lock file of whatever uv project this process runs in.
    os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    from mlflow import pyfunc
    from mlflow.models import Model

    package = place / PACKAGE
    root = Path(__file__).parents[1]
    for module in MODULES:
        (package / module).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / module, package / module)
    pyfunc.save_model(
        str(place / NAME),
        loader_module=f"{PACKAGE}.deploy.pyfunc",
        data_path=str(place / EXPORT),
        code_paths=[str(package)],
        mlflow_model=Model(
            artifact_path=logged.artifact_location,
            run_id=logged.source_run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
            metadata={"runner": __version__},
        ),
        signature=_signature(described.labels == "many"),
        input_example=_example(described.image_size),
        pip_requirements=_requirements(described.file()),
    )
    return place / NAME


def _signature(many: bool) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, DataType, Map, Schema

    answer = [
        ColSpec(DataType.string, "class"),
        ColSpec(DataType.double, "probability"),
        ColSpec(Map(DataType.double), "probabilities"),
    ]
    if many:
        answer = [ColSpec(Map(DataType.double), name) for name in ("labels", "probabilities")]
    return ModelSignature(Schema([ColSpec(DataType.string, COLUMN)]), Schema(answer))


def _example(size: list[int]) -> Any:
    """A frame with one grey image."""
    import pandas
    from PIL import Image

    content = io.BytesIO()
    Image.new("L", (size[1], size[0]), 128).save(content, "PNG")
    return pandas.DataFrame({COLUMN: [base64.b64encode(content.getvalue()).decode()]})


def _requirements(file: manifest.ExportedFile) -> list[str]:
    """The packages that the served model imports, in their installed versions."""
    packages = ["mlflow", "numpy", "pillow", PACKAGES.get(file.engine or "", "onnxruntime")]
    return [f"{package}=={version}" if (version := _version(package)) else package for package in packages]


def _version(package: str) -> str:
    """The installed version; empty if the package has another name, as Paddle has for GPUs."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
