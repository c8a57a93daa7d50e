"""One small set of pictures in every layout that a set may have."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from runner import config as cfg

#: Path of a picture → its content.
Pictures = dict[str, bytes]


def png(seed: int, width: int = 4, height: int = 3) -> bytes:
    """A small picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def drawn(names: list[str]) -> Pictures:
    """Pictures of these names, no two alike."""
    return {name: png(number) for number, name in enumerate(names)}


def label(name: str) -> str:
    """The class of a picture: the first folder of its name."""
    return name.partition("/")[0]


def write_folder(root: Path, pictures: Pictures) -> cfg.ImageFolder:
    for name, content in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return cfg.ImageFolder(root=str(root))


def write_list(path: Path, root: Path, pictures: Pictures) -> cfg.FileList:
    path.write_text("".join(f"{name} {label(name)}\n" for name in pictures), encoding="utf-8")
    return cfg.FileList(root=str(root), train=str(path))


def write_csv(path: Path, root: Path, pictures: Pictures) -> cfg.FileList:
    with path.open("w", newline="", encoding="utf-8-sig") as stream:
        writer = csv.writer(stream)
        writer.writerow(["label", "file", "note"])
        writer.writerows([label(name), name, 'a "note", with\r\ntwo lines'] for name in pictures)
    return cfg.FileList(root=str(root), train=str(path), path_column="file")


def write_table(path: Path, root: Path, pictures: Pictures) -> cfg.FileList:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"path": list(pictures), "label": [label(name) for name in pictures]}), path)
    return cfg.FileList(root=str(root), train=str(path))


def write_tar(path: Path, members: dict[str, bytes], **options) -> Path:
    """An archive with these files."""
    with tarfile.open(path, "w", **options) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def samples(pictures: Pictures, as_json: bool = False) -> dict[str, bytes]:
    """Pictures and their labels, as WebDataset names them."""
    members = {}
    for name, content in pictures.items():
        sample = name.partition(".")[0]
        text = {f"{sample}.json": json.dumps({"label": label(name)})} if as_json else {f"{sample}.cls": label(name)}
        members |= {name: content} | {key: value.encode() for key, value in text.items()}
    return members


def write_tars(folder: Path, pictures: Pictures, shards: int, as_json: bool = False) -> cfg.Shards:
    folder.mkdir(exist_ok=True)
    for number in range(shards):
        part = dict(list(pictures.items())[number::shards])
        write_tar(folder / f"set-{number:03}.tar", samples(part, as_json))
    return cfg.Shards(root=str(folder), train="set-*.tar")


def write_parquet(path: Path, pictures: Pictures, rows: int = 3, is_binary: bool = False, **options) -> cfg.Shards:
    """Parquet as Hugging Face's `datasets` writes it, or with a binary column; so many rows a group."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    classes = sorted({label(name) for name in pictures})
    images = [{"bytes": content, "path": name} for name, content in pictures.items()]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {
        "image": pa.array(list(pictures.values()), pa.binary()) if is_binary else pa.array(images, kind),
        "label": pa.array([classes.index(label(name)) for name in pictures], pa.int64()),
    }
    features = {"image": {"_type": "Image"}, "label": {"names": classes, "_type": "ClassLabel"}}
    noted = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(pa.table(columns).replace_schema_metadata(noted), path, row_group_size=rows, **options)
    return cfg.Shards(train=str(path))
