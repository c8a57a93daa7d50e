"""What is written for labels: names, several of them, a 0 or 1 for each class; and what is said of damaged ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import config as cfg
from runner import data
from runner.data import label_texts, lists, tables
from runner.data.classes import Problems
from runner.errors import DataError
from tests.data import layouts

#: What may have become of a vector.
DAMAGES = {
    "another number": lambda values: ["2", *values[1:]],
    "a fraction": lambda values: ["0.5", *values[1:]],
    "one less": lambda values: values[:-1],
    "one more": lambda values: [*values, "0"],
    "a comma at the end": lambda values: [*values, ""],
    "a hole": lambda values: ["", *values[1:]],
    "a name": lambda _: ["cat"],
    "semicolons": lambda values: [";".join(values)],
}


def written(folder, name, pairs, between="\t", **more):
    """A list with these paths and labels, as the config reads it, and what is wrong with it."""
    path, problems = folder / name, Problems()
    path.write_text("".join(f"{path}{between}{label}\n" for path, label in pairs), encoding="utf-8")
    return tables.read(str(path), cfg.FileList(train=str(path), **more), problems), problems


@pytest.mark.parametrize("labels", [cfg.Labels.one, cfg.Labels.many])
@settings(max_examples=60, deadline=None)
@given(draw=st.data())
def test_of_random_lists_of_vectors_exactly_the_damaged_lines_are_named(tmp_path_factory, labels, draw):
    folder, classes = tmp_path_factory.mktemp("lists"), draw.draw(st.integers(2, 6))
    vectors = draw.draw(st.lists(st.lists(st.sampled_from("01"), min_size=classes, max_size=classes), min_size=4))
    wrong = draw.draw(st.sets(st.integers(0, len(vectors) - 1), max_size=min((len(vectors) - 1) // 2, 9)))
    kinds = {place: draw.draw(st.sampled_from(sorted(DAMAGES))) for place in wrong}
    texts = [
        ",".join(DAMAGES[kinds[place]](values) if place in wrong else values) for place, values in enumerate(vectors)
    ]
    rows, problems = written(folder, "a.txt", [(f"{n}.png", text) for n, text in enumerate(texts)], labels=labels)
    assert rows.several
    assert [text.partition(": ")[0] for text in problems.first] == [f"{rows.source}:{n + 1}" for n in sorted(wrong)]
    for place, values in enumerate(vectors):
        if place not in wrong:
            assert rows.each(rows.labels[place]) == [str(number) for number, flag in enumerate(values) if flag == "1"]


LABELS = st.text("abc,_-. é0123456789", min_size=1, max_size=5).map(str.strip).filter(bool)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sets(LABELS, max_size=4), min_size=2, max_size=9), st.sampled_from(["a.txt", "a.tsv"]))
def test_separated_labels_are_the_same_from_lines_and_tables(tmp_path_factory, sets, name):
    folder, several = tmp_path_factory.mktemp("lists"), [sorted(labels) for labels in sets]
    pairs = [("path", "label")] * (name == "a.tsv")
    pairs += [(f"{place}.png", " ; ".join(labels)) for place, labels in enumerate(several)]
    if label_texts.vectors([";".join(labels) for labels in several], ";"):
        return
    rows, problems = written(folder, name, pairs, labels=cfg.Labels.many)
    assert not problems.count
    assert [label_texts.single(text) for text in rows.labels] == several


def of_list(folder, texts, name="a.txt", header="", **more):
    """The set of a list whose pictures are there."""
    names = [f"{place}.png" for place in range(len(texts))]
    layouts.write_folder(folder, layouts.drawn(names))
    (folder / name).write_text(header + "".join(f"{one}\t{text}\n" for one, text in zip(names, texts, strict=True)))
    return lists.load(cfg.FileList(train=str(folder / name), **{"test_fraction": 0.0, **more}))


VECTORS = ["1,0,1", "0,1,1", "0,0,0", "1,1,1"]
ROWS = [[1, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    "texts",
    [
        VECTORS,
        [text.replace(",", " , ") for text in VECTORS],
        [text.replace("0", "0.0").replace("1", "1.0") for text in VECTORS],
        [text.replace("0", "False").replace("1", "True") for text in VECTORS],
        [text.replace(",", ";") for text in VECTORS],
    ],
)
@pytest.mark.parametrize(("name", "header"), [("a.txt", ""), ("a.tsv", "path\tlabel\n")])
def test_vectors_are_read_however_they_are_written(tmp_path, texts, name, header):
    (tmp_path / "names.txt").write_text("cat\n1\n0\n")
    more = {"labels": cfg.Labels.many, "label_file": str(tmp_path / "names.txt")}
    source = of_list(tmp_path, texts, name, header, **more)
    # By their places, also where a class has the name of a number.
    assert (source.classes, source.train.labels.tolist()) == (["cat", "1", "0"], ROWS)


def test_vectors_of_another_length_than_the_names_or_another_list_are_refused(tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"a\.txt are 3 values of 0 or 1, and data.label_file names 2 classes"):
        of_list(tmp_path, VECTORS, labels=cfg.Labels.many, label_file=str(tmp_path / "names.txt"))
    (tmp_path / "val.txt").write_text("0.png\t1,0\n1.png\t0,0\n")
    with pytest.raises(DataError, match=r"other classes: .*a\.txt has 3, .*val\.txt has 2"):
        of_list(tmp_path, VECTORS, labels=cfg.Labels.many, val=str(tmp_path / "val.txt"))


def test_numbers_of_classes_are_not_vectors(tmp_path):
    source = of_list(tmp_path, ["0;1", "1", "0;2", "1;0"], labels=cfg.Labels.many)
    assert source.train.labels.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1], [1, 1, 0]]
    source = of_list(tmp_path, ["0,1", "1", "0,2", "3,11"], labels=cfg.Labels.many, label_separator=",")
    assert source.classes == ["0", "1", "2", "3", "11"]
    assert source.train.labels.sum(axis=1).tolist() == [2, 1, 2, 2]


def test_names_with_a_separator_are_taken_whole_on_request(tmp_path):
    texts = ["cat;dog", "0,1", "0,1", "0,2"]
    source = of_list(tmp_path, texts, label_separator=None)
    assert source.classes == ["0,1", "0,2", "cat;dog"]
    with pytest.raises(DataError, match=r"a.txt:1: 'cat;dog' is not 2 values.*data\.label_separator=null"):
        of_list(tmp_path, texts)
    config = cfg.FileList(train=str(tmp_path / "a.txt"), test_fraction=0.0, val_fraction=0.0)
    (tmp_path / "a.txt").write_text("0.png\tcat;dog\n1.png\tcat\n")
    with pytest.raises(DataError, match=r"several labels each.*data.labels=many.*';'.*data\.label_separator=null"):
        data.load(config)


@pytest.mark.parametrize("end", ["\t\n", "\t\r\n", " \t \n"])
def test_an_image_without_labels_has_nothing_after_the_tab(tmp_path, end):
    names = ["cat.png", "my dog.png", "owl"]
    layouts.write_folder(tmp_path, layouts.drawn(names))
    (tmp_path / "a.txt").write_text(f"cat.png\tsea;sky\nmy dog.png{end}owl{end}")
    config = cfg.FileList(train=str(tmp_path / "a.txt"), test_fraction=0.0, labels=cfg.Labels.many)
    source = lists.load(config)
    assert source.train.labels.tolist() == [[1, 1], [0, 0], [0, 0]]
    config.labels = cfg.Labels.one
    with pytest.raises(DataError, match="(?s)2 lines are wrong.*a.txt:2: not a path and a label.*a.txt:3"):
        lists.load(config)


def shards(folder: Path, values, layout, kind=None, metadata=None):
    """A set of shards with these values as labels."""
    pictures = layouts.drawn([f"{place}.png" for place in range(len(values))])
    if layout == "tar":
        members = dict(pictures)
        for place, value in enumerate(values):
            members[f"{place}.json"] = json.dumps({"label": value}).encode()
        layouts.write_tar(folder / "set.tar", members)
    else:
        table = pa.table({"image": pa.array(list(pictures.values()), pa.binary()), "label": pa.array(values, kind)})
        pq.write_table(table.replace_schema_metadata(metadata), folder / "set.parquet")
    return cfg.Shards(train=str(folder / f"set.{layout}"), **MANY)


MANY = {"labels": cfg.Labels.many, "val_fraction": 0.0, "test_fraction": 0.0, "image_size": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("layout", ["tar", "parquet"])
@pytest.mark.parametrize("kind", [int, float, bool])
def test_vectors_in_shards_are_not_numbers_of_classes(tmp_path, layout, kind):
    config = shards(tmp_path, [[kind(value) for value in row] for row in ROWS], layout)
    source = data.load(config)
    assert (source.classes, source.train.labels.tolist()) == (["0", "1", "2"], ROWS)
    (tmp_path / "names.txt").write_text("cat\ndog\nowl\n")
    config.label_file = str(tmp_path / "names.txt")
    assert data.load(config).classes == ["cat", "dog", "owl"]
    config.labels = cfg.Labels.one
    with pytest.raises(DataError, match="several labels"):
        data.load(config)


@pytest.mark.parametrize("layout", ["tar", "parquet"])
def test_separated_labels_in_shards_are_several(tmp_path, layout):
    config = shards(tmp_path, ["sea;sky", "sky", "; "], layout)
    source = data.load(config)
    assert (source.classes, source.train.labels.tolist()) == (["sea", "sky"], [[1, 1], [0, 1], [0, 0]])
    config.labels = cfg.Labels.one
    with pytest.raises(DataError, match=r"several labels.*';'.*data\.label_separator=null"):
        data.load(config)
    config.label_separator = None
    assert data.load(config).classes[-2:] == ["sea;sky", "sky"]


@pytest.mark.parametrize("layout", ["tar", "parquet"])
def test_a_separator_within_a_list_is_part_of_a_name(tmp_path, layout):
    assert data.load(shards(tmp_path, [["a;b", "c"], ["c"]], layout)).classes == ["a;b", "c"]


@pytest.mark.parametrize("layout", ["tar", "parquet"])
def test_a_damaged_vector_in_a_shard_is_named(tmp_path, layout):
    with pytest.raises(DataError, match=r"1 labels are wrong:\n.*: (row 1|1\.png): '0,1' is not 3 values of 0 or 1"):
        data.load(shards(tmp_path, [ROWS[0], [0, 1], ROWS[2], ROWS[3]], layout))


@pytest.mark.parametrize("layout", ["tar", "parquet"])
def test_shares_in_a_list_are_no_labels(tmp_path, layout):
    with pytest.raises(DataError, match=r"1\.json|neither a \.cls nor|column 'label' has \[0\.5, 0\.5\]"):
        data.load(shards(tmp_path, [[0.0, 1.0], [0.5, 0.5]], layout))


def test_missing_values_in_parquet_are_no_names(tmp_path):
    config = shards(tmp_path, [["sea", None], [None], [" sky", "sea "]], "parquet")
    assert data.load(config).train.labels.tolist() == [[1, 0], [0, 0], [1, 1]]
    with pytest.raises(DataError, match="row 1: no label"):
        data.load(shards(tmp_path, [1.0, float("nan"), 2.0], "parquet"))


@pytest.mark.parametrize("nested", [lambda one: {"feature": one, "_type": "List"}, lambda one: [one]])
def test_lists_of_class_indices_have_the_names_in_the_metadata(tmp_path, nested):
    features = {"label": nested({"names": ["cat", "dog", "owl"], "_type": "ClassLabel"})}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    source = data.load(shards(tmp_path, [[0, 1], [], [1]], "parquet", metadata=metadata))
    assert (source.classes, source.train.labels.tolist()) == (["cat", "dog", "owl"], [[1, 1, 0], [0, 0, 0], [0, 1, 0]])
    with pytest.raises(DataError, match=r"column 'label' has \[1, 3\]"):
        data.load(shards(tmp_path, [[0, 1], [1, 3]], "parquet", metadata=metadata))


@pytest.mark.parametrize("names", [["0", "1"], ["path", "label"]])
def test_numbers_are_names_of_columns_of_parquet(tmp_path, names):
    pictures = layouts.drawn(["a.png", "b.png"])
    layouts.write_folder(tmp_path, pictures)
    pq.write_table(pa.table(dict(zip(names, [list(pictures), ["cat", "dog"]], strict=True))), tmp_path / "a.parquet")
    config = cfg.FileList(train=str(tmp_path / "a.parquet"), path_column="0", label_column="1", test_fraction=0.0)
    if names == ["0", "1"]:
        source = lists.load(config)
        assert (source.classes, list(source.train.names())) == (["cat", "dog"], ["a.png", "b.png"])
        return
    with pytest.raises(DataError, match=r"no column '0'\. Columns: path, label\. Name it in data\.path_column\.$"):
        lists.load(config)


def test_a_lone_label_is_no_vector():
    assert label_texts.vectors(["0", "1", "", "1"], ";") is None
    assert label_texts.vectors(["", ""], ";") is None
    assert label_texts.vectors(["1, 2-dimethyl", "cat, dog"], ";") is None
    np.testing.assert_equal(label_texts.vectors(["0,1", "", "1,1"], ";"), [["0", "1"], [], ["1", "1"]])
