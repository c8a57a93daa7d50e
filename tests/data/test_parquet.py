"""Parquet with a wrong bit anywhere is read, or refused by its name: never a traceback, nor the end of the process."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner import config as cfg
from runner.data import parquet, tables
from runner.data.classes import Problems
from runner.errors import DataError
from tests.data import layouts

NAMES = ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"]


def of_list(path):
    tables.read(str(path), cfg.FileList(train=str(path)), Problems())


def of_shard(path):
    entries, _, _ = parquet.pictures(str(path), "image", "label", Problems())
    for _, row, _, _ in entries:
        parquet.read(str(path), "image", row)


@pytest.mark.parametrize("read", [of_list, of_shard])
def test_whichever_bit_is_wrong_the_file_is_named(tmp_path, read):
    path, damaged = tmp_path / "whole.parquet", tmp_path / "damaged.parquet"
    if read is of_list:
        pq.write_table(pa.table({"path": NAMES, "label": [name[:3] for name in NAMES]}), path)
    else:
        layouts.write_parquet(path, layouts.drawn(NAMES))
    whole = path.read_bytes()
    read(path)
    # Behind the images, which are checked when they are decoded.
    said = []
    for place in range(max(4, len(whole) - 1500), len(whole), 2):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        damaged.write_bytes(content)
        try:
            read(damaged)
        except DataError as error:
            said.append(str(error))
    assert said
    assert all("damaged.parquet" in text for text in said)
