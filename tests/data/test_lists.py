"""Lists of pictures: how lines, tables and labels are read, and what is told about those that are wrong."""

from __future__ import annotations

import csv
import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner import config as cfg
from runner import data
from runner.data import identity, lists, tables
from runner.data.classes import Problems
from runner.errors import DataError

from . import layouts

NAMES = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(5)]


@pytest.fixture
def root(tmp_path):
    """A folder with five pictures of cats and five of dogs."""
    layouts.write_folder(tmp_path / "set", layouts.drawn(NAMES))
    return tmp_path / "set"


def listed(folder, text, name="list.txt", **changes):
    """The source of a list with this text beside the pictures, all of it for training."""
    content = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(content)
    return lists.load(cfg.FileList(train=str(folder / name), **{"test_fraction": 0.0, **changes}))


def pairs(split, source):
    return [(split.name(place), source.classes[split.labels[place]]) for place in range(len(split))]


@pytest.mark.parametrize("line", ["{} {}", "{}\t{}", "./{}   {} ", "  {} \t {}"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_a_line_is_a_path_and_a_label(root, line, end):
    source = listed(root, end.join(line.format(name, layouts.label(name)) for name in NAMES))
    assert pairs(source.train, source) == [(name, layouts.label(name)) for name in NAMES]


@pytest.mark.parametrize("line", ['"{}" {}', '"{}"\t"{}" ', '"{}"   {}\t'])
def test_fields_of_a_line_may_be_in_quotes(root, line):
    source = listed(root, "\r\n".join(line.format(name, layouts.label(name)) for name in NAMES))
    assert pairs(source.train, source) == [(name, layouts.label(name)) for name in NAMES]


def test_a_list_from_windows_gives_the_very_same_set(root):
    lines = [f"{name} {layouts.label(name)}" for name in NAMES]
    source = listed(root, "\r\n".join(lines).replace("/", "\\"))
    assert identity.digests(source) == identity.digests(listed(root, "\n".join(lines)))


def test_a_backslash_in_the_name_of_a_file_stays(root):
    (root / "my\\cat.png").write_bytes(layouts.png(0))
    source = listed(root, "my\\cat.png cat\ndog\\1.png dog")
    assert pairs(source.train, source) == [("dog/1.png", "dog"), ("my\\cat.png", "cat")]


def test_of_columns_that_differ_in_case_the_one_that_is_meant_counts(root):
    rows = "".join(f"x,{layouts.label(name)},{name}\n" for name in NAMES)
    assert len(listed(root, "Path,label,path\n" + rows, "list.csv").train) == len(NAMES)
    with pytest.raises(DataError, match=r"has several columns 'path'\. .*\. Give each a name of its own"):
        listed(root, "Path,label,PATH\n" + rows, "list.csv")


def test_columns_of_parquet_are_found_in_any_case(root):
    table = pa.table({"Path": NAMES, "other": [0] * len(NAMES), "LABEL": [layouts.label(name) for name in NAMES]})
    pq.write_table(table, root / "list.parquet")
    source = lists.load(cfg.FileList(train=str(root / "list.parquet"), test_fraction=0.0))
    assert pairs(source.train, source) == [(name, layouts.label(name)) for name in NAMES]


def test_a_root_that_is_not_there_is_named(root):
    (root / "list.txt").write_text(NUMBERED)
    for place in ("nowhere", "list.txt"):
        with pytest.raises(DataError, match=f"{place} is not a folder, and data.root"):
            lists.refuse_missing(cfg.FileList(root=str(root / place), train=str(root / "list.txt")))
        with pytest.raises(DataError, match=f"{place} is not a folder, and data.root"):
            lists.load(cfg.FileList(root=str(root / place), train=str(root / "list.txt")))


@pytest.mark.parametrize("between", [" ", "\t"])
def test_paths_may_have_spaces(root, between):
    (root / "my cat.png").write_bytes(layouts.png(0))
    source = listed(root, f"my cat.png{between}cat\ndog/1.png{between}dog")
    assert pairs(source.train, source) == [("dog/1.png", "dog"), ("my cat.png", "cat")]


def test_labels_may_have_spaces_after_a_tab(root):
    assert listed(root, "cat/1.png\tblack cat\ndog/1.png\tdog").classes == ["black cat", "dog"]


NUMBERED = "cat/0.png 0\ndog/0.png 1\ndog/1.png 1"


@pytest.mark.parametrize(
    "names",
    [
        "0 cat\n1 big dog\n",
        "1,big dog\n0,cat\n",
        "1; big dog\r0 : cat\r",
        "1\tbig dog\n0\tcat",
        "cat\nbig dog\n",
        "\ufeffcat\r\nbig dog",
    ],
)
def test_numbers_are_the_lines_of_a_file_of_names(root, names):
    (root / "names.txt").write_text(names, encoding="utf-8")
    source = listed(root, NUMBERED, label_file=str(root / "names.txt"))
    assert source.classes == ["cat", "big dog"]
    assert source.train.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize("names", [["3 series", "5 series", "i8"], ["class 0", "class 1"], ["12", "7"], ["0", "x 0"]])
def test_names_that_have_numbers_stay_as_they_are(root, names):
    (root / "names.txt").write_text("\n".join(names))
    text = "\n".join(f"cat/{number}.png\t{name}" for number, name in enumerate(names))
    source = listed(root, text, label_file=str(root / "names.txt"))
    assert (source.classes, source.train.labels.tolist()) == (names, [*range(len(names))])


def test_a_name_of_thousands_of_digits_is_a_name(root):
    assert listed(root, f"cat/0.png {'1' * 5000}\ncat/1.png 2").classes == ["1" * 5000, "2"]


def test_a_file_of_names_also_orders_labels_that_are_names(root):
    (root / "names.txt").write_text("dog\neel\ncat\n")
    source = listed(root, "cat/0.png cat\ndog/0.png dog", label_file=str(root / "names.txt"))
    assert source.train.labels.tolist() == [2, 0]


def test_numbers_without_names_are_names_in_the_order_of_numbers(root):
    source = listed(root, "cat/0.png 10\ndog/0.png 9\ndog/1.png 101")
    assert source.classes == ["9", "10", "101"]
    assert source.train.labels.tolist() == [1, 0, 2]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("0 cat\n2 dog\n", "not 0 to 1"),
        ("cat\ncat\n", "names 'cat' twice"),
        ("cat\n", "has 1 lines"),
        ("", "has 0 lines"),
        ("id name\n0 cat\n1 dog\n", "'id name' has no number before the name"),
        ("name\n1,cat\n0,dog\n", "'name' has no number before the name"),
        ("0 cat\n1dog\n", "'1dog' has no number before the name"),
        ("cat 1\ndog 0\n", "end with numbers that are in another order"),
        ("cat,1\ndog,0\n", "end with numbers that are in another order"),
    ],
)
def test_a_file_of_names_that_cannot_be_is_refused(root, names, said):
    (root / "names.txt").write_text(names)
    with pytest.raises(DataError, match=said):
        listed(root, NUMBERED, label_file=str(root / "names.txt"))


ROWS = "".join(f"{layouts.label(name)},{name}\n" for name in NAMES)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("label,path\n" + ROWS, "list.csv"),
        (("label,path\n" + ROWS).encode("utf-8-sig"), "list.csv"),
        (("label,path\n" + ROWS).encode("utf-16"), "list.csv"),
        ("label,path\r\n" + ROWS.replace("\n", "\r\n"), "list.csv"),
        ("label;path\n" + ROWS.replace(",", ";"), "list.csv"),
        ("label\tpath\n" + ROWS.replace(",", "\t"), "list.tsv"),
        ("label path\n" + ROWS.replace(",", "   "), "list.csv"),
        (' "label", path \n' + ROWS.replace(",", " , "), "LIST.CSV"),
        ("Label,PATH\n" + ROWS, "list.csv"),
        (("LABEL,Path\n" + ROWS).replace("\n", "\r\n").encode("utf-8-sig"), "list.csv"),
        ("label,path\n" + ROWS.replace("\n", "\r"), "list.csv"),
        ("label , path  \n" + ROWS.replace("\n", "   \n"), "list.csv"),
        ('"label" ,"path" \n' + re.sub("(.+),(.+)", '"\\1"  ,"\\2"  ', ROWS), "list.csv"),
        ("label,path,note\n" + re.sub("(.+)", '\\1,"x"" , y" ', ROWS), "list.csv"),
        ("label,path\n" + ROWS.replace("/", "\\"), "list.csv"),
        ("label,path\n" + re.sub("(.+),", r"\1,.\\", ROWS).replace("/", "\\"), "list.csv"),
        ('label,path,"a, b"\n' + re.sub("(.+)", '\\1,"x, ""y"""', ROWS), "list.csv"),
    ],
)
def test_tables_are_read_by_the_names_of_their_columns(root, text, name):
    source = listed(root, text, name)
    assert pairs(source.train, source) == [(name, layouts.label(name)) for name in NAMES]


FIELD = st.lists(st.sampled_from(["a", "b", '"', ",", ";", " ", "\t", "\n", '" ,', '",', '""']), max_size=5).map(
    "".join
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(FIELD, FIELD, FIELD), max_size=4),
    st.sampled_from([(",", "a.csv"), (";", "a.csv"), ("\t", "a.tsv")]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_fields_are_what_was_written_whatever_is_in_quotes(tmp_path_factory, rows, kind, quoting, end):
    path, rows = tmp_path_factory.mktemp("table") / kind[1], [("path", "label", "note"), *rows]
    with path.open("w", newline="") as stream:
        csv.writer(stream, delimiter=kind[0], quoting=quoting, lineterminator=end).writerows(rows)
    problems = Problems()
    found = [fields for _, fields in tables._csv(str(path), problems)]
    expected = [[field.strip() for field in row] for row in rows if any(field.strip() for field in row)]
    assert (found, problems.count) == (expected, 0)


def test_columns_of_a_table_without_a_header_have_numbers(root):
    text = "cat/0.png   1.0  mono\ncat/1.png   0.3333333333333333  poly\ndog/1.png 0.0 mono\n"
    source = listed(root, text, "labels.csv", path_column="0", label_column="1")
    assert source.classes == ["0.0", "0.3333333333333333", "1.0"]
    assert source.train.labels.tolist() == [2, 1, 0]


def test_a_column_that_a_table_does_not_have_is_named_with_those_it_has(root):
    with pytest.raises(
        DataError, match=r"no column 'path'\. Did you mean 'paths'\? Columns: label, paths\. .*data.path_column"
    ):
        listed(root, "label,paths\n" + ROWS, "list.csv")


def test_paths_of_lists_are_relative_to_the_root_the_list_or_home(root, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    (tmp_path / "away").mkdir()
    text = f"~/cat/0.png cat\n{root}/cat/1.png cat\ndog/0.png dog\n"
    (tmp_path / "away/list.txt").write_text(text)
    source = lists.load(cfg.FileList(root=str(root), train=str(tmp_path / "away/list.txt"), test_fraction=0.0))
    assert source.train.encoded.sizes().min() > 0
    with pytest.raises(DataError, match="1 pictures are missing"):
        lists.load(cfg.FileList(train=str(tmp_path / "away/list.txt")))


def test_a_folder_that_is_called_as_home_is_meant_where_there_is_one(root):
    (root / "cat").rename(root / "~")
    (root / "list.txt").write_text("~/0.png cat\ndog/0.png dog\n")
    source = lists.load(cfg.FileList(root=str(root), train="list.txt", test_fraction=0.0))
    assert source.train.encoded.sizes().min() > 0


def test_lists_are_looked_for_here_and_then_below_the_root(root, tmp_path, monkeypatch):
    (root / "list.txt").write_text(NUMBERED)
    monkeypatch.chdir(tmp_path)
    assert len(lists.load(cfg.FileList(root=str(root), train="list.txt", test_fraction=0.0)).train) == 3
    with pytest.raises(DataError, match=r"other.txt cannot be read: .*here, then in data\.root"):
        lists.load(cfg.FileList(root=str(root), train="other.txt"))


def test_each_split_may_have_a_list(root):
    (root / "val.txt").write_text("dog/4.png dog\n")
    source = listed(root, "cat/0.png cat\ndog/0.png dog", val=str(root / "val.txt"), test_fraction=None)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 2, "val": 1}


def test_one_list_alone_is_divided_by_class(root):
    text = "\n".join(f"{name} {layouts.label(name)}" for name in NAMES)
    (root / "list.txt").write_text(text)
    source = data.load(cfg.FileList(train=str(root / "list.txt"), val_fraction=0.0))
    assert [np.bincount(split.labels).tolist() for split in (source.train, source.test)] == [[4, 4], [1, 1]]


def test_a_column_can_say_the_splits(root):
    splits = ["train", "Train", "valid", "test", "train"] * 2
    text = "path,label,part\n" + "".join(
        f"{name},{layouts.label(name)},{split}\n" for name, split in zip(NAMES, splits, strict=True)
    )
    source = listed(root, text, "list.csv", split_column="part", test_fraction=None)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 6, "val": 2, "test": 2}
    assert pairs(source.val, source) == [("cat/2.png", "cat"), ("dog/2.png", "dog")]


def test_a_split_that_does_not_exist_is_named_with_its_line(root):
    with pytest.raises(DataError, match="1 lines have no split in column 'part'.*\n.*list.csv:3: 'dev'"):
        listed(root, "path,label,part\ncat/0.png,cat,train\ndog/0.png,dog,dev\n", "list.csv", split_column="part")


SEVERAL = {
    "separated": ("path,label\ncat/0.png,cat;dog\ncat/1.png, dog ; cat\ndog/0.png,dog\ndog/1.png,\n", "a.csv", {}),
    "columns": (
        "path,cat,dog\ncat/0.png,1,1\ncat/1.png,1,True\ndog/0.png,0,1\ndog/1.png,0,0\n",
        "a.csv",
        {"label_columns": ["cat", "dog"]},
    ),
    "vectors": (
        "cat/0.png\t1,1\ncat/1.png\t1,1\ndog/0.png\t0,1\ndog/1.png\t0,0\n",
        "a.txt",
        {"label_file": "names.txt"},
    ),
}


@pytest.mark.parametrize(("text", "name", "changes"), SEVERAL.values(), ids=SEVERAL)
def test_several_labels_are_a_row_of_zeros_and_ones(root, text, name, changes):
    (root / "names.txt").write_text("cat\ndog\n")
    source = listed(root, text, name, root=str(root), **changes)
    assert source.classes == ["cat", "dog"]
    assert source.train.labels.dtype == np.uint8
    assert source.train.labels.tolist() == [[1, 1], [1, 1], [0, 1], [0, 0]]


def test_training_on_several_labels_is_refused_with_a_word(root):
    (root / "a.csv").write_text(SEVERAL["separated"][0])
    with pytest.raises(DataError, match="several labels each, of 2 classes"):
        data.load(cfg.FileList(train=str(root / "a.csv")))


def test_a_separator_can_be_part_of_a_name(root):
    source = listed(root, "path,label\ncat/0.png,cat;dog\ndog/0.png,dog\n", "a.csv", label_separator=None)
    assert source.classes == ["cat;dog", "dog"]


WRONG_LINES = {
    "no label": ("cat/0.png\ncat/1.png cat\ndog/0.png\t\n", "a.txt", ["a.txt:1", "a.txt:3"]),
    "a name with a space and no label": ("my cat.png\ndog/0.png dog\n", "a.txt", ["a.txt:1"]),
    "too many fields": ("path,label\ncat/0.png,cat,1\ndog/0.png,dog\n", "a.csv", ["a.csv:2: 3 fields"]),
    "empty fields": ("path,label\n,cat\ndog/0.png,\n", "a.csv", ["a.csv:2: no path"]),
    "empty label": ("path,label\ncat/0.png,cat\ndog/0.png,\n", "a.csv", ["a.csv:3: no label"]),
    "after lines in quotes": ('path,label,x\ncat/0.png,cat,"1\n2"\ndog/0.png,,1\n', "a.csv", ["a.csv:4: no label"]),
    "an open quote": ('path,label\ncat/0.png,cat\n"dog/0.png,dog\n', "a.csv", ["a.csv:3: unexpected end of data"]),
    "vectors of two lengths": (
        "cat/0.png 0,1\ndog/0.png 0,1,1\n",
        "a.txt",
        ["a.txt:2: .0,1,1. is not 2 values of 0 or 1"],
    ),
    "two labels": (
        "cat/0.png cat\ndog/0.png dog\ncat/0.png dog\n",
        "a.txt",
        ["a.txt:3: cat/0.png has another label in line 1"],
    ),
    "missing files": (
        "cat/0.png cat\ndog/7.png dog\ndog/8.png dog\n",
        "a.txt",
        ["2 pictures", "a.txt:2: .*7", "a.txt:3: .*8"],
    ),
}


@pytest.mark.parametrize(("text", "name", "said"), WRONG_LINES.values(), ids=WRONG_LINES)
def test_wrong_lines_are_named_all_at_once(root, text, name, said):
    with pytest.raises(DataError, match="(?s)" + ".*".join(said)):
        listed(root, text, name)


def test_of_many_wrong_lines_the_first_ten_are_named_and_all_counted(root):
    with pytest.raises(DataError) as refused:
        listed(root, "x\n" * 1234)
    assert str(refused.value).startswith("1,234 lines are wrong:")
    assert str(refused.value).count("list.txt:") == 10
    assert "… and 1224 more" in str(refused.value)


def test_a_label_beyond_the_names_is_named(root):
    (root / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"list.txt:2: '2'\nClasses: cat, dog"):
        listed(root, "cat/0.png 0\ndog/0.png 2\n", label_file=str(root / "names.txt"))


def test_a_class_that_training_does_not_have_is_named_with_both_lists(root):
    (root / "val.txt").write_text("dog/4.png dogs\n")
    with pytest.raises(DataError, match=r"dogs\. Did you mean 'dog'\?\n  train: cat, dog\n  val: dogs"):
        listed(root, "cat/0.png cat\ndog/0.png dog", val=str(root / "val.txt"))


def test_one_class_alone_is_refused(root):
    with pytest.raises(DataError, match="list.txt have one class, 'cat', and a network needs two"):
        listed(root, "cat/0.png cat\ncat/1.png cat\n")


def test_numbers_are_in_their_order_whatever_zeros_they_begin_with(root):
    assert listed(root, "cat/0.png 7\ncat/1.png 10\ncat/2.png 07\n").classes == ["07", "7", "10"]


def test_a_pipe_which_would_be_waited_for_and_a_folder_are_no_pictures(root):
    os.mkfifo(root / "cat" / "pipe.png")
    (root / "cat" / "folder.png").mkdir()
    with pytest.raises(DataError, match="2 pictures are missing"):
        listed(root, "cat/1.png cat\ncat/pipe.png cat\ncat/folder.png cat\ndog/1.png dog")


def test_missing_files_are_left_out_on_request_and_counted(root):
    source = listed(root, "cat/0.png cat\ndog/7.png dog\ndog/1.png dog\n", on_error=cfg.OnError.skip)
    assert len(source.train) == 2
    assert source.skipped == {"missing files": 1}


@pytest.mark.parametrize("content", [b"path,label\na.png,c\0", "path,label\na.png,c".encode("utf-16-le")])
@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_a_zero_byte_is_named_with_its_line(root, name, content):
    with pytest.raises(DataError, match=rf"{name}:{2 if content[1] else 1}: a zero byte"):
        listed(root, content, name)


@pytest.mark.parametrize(("key", "name"), [("path_column", "x"), ("label_column", "y"), ("split_column", "z")])
def test_a_column_that_is_missing_is_named_with_its_key(root, key, name):
    with pytest.raises(DataError, match=rf"has no column '{name}'\. Columns: .*\. Name it in data\.{key}"):
        listed(root, "path,label,split\na.png,cat,train\n", "list.csv", **{key: name})


@pytest.mark.parametrize(("name", "said"), [("a.txt", "a.txt:2: not UTF-8"), ("a.csv", "a.csv:2: not UTF-8")])
def test_text_in_another_encoding_is_named_with_its_line(root, name, said):
    with pytest.raises(DataError, match=said):
        listed(root, "path,label\nKäfer.png,käfer\n".encode("latin-1"), name)


@pytest.mark.parametrize("again", ["cat", "CAT"])
def test_a_column_of_labels_that_is_named_twice_is_refused(root, again):
    with pytest.raises(DataError, match=r"data\.label_columns names a column twice.*: cat, dog, cat"):
        listed(root, "path,cat,dog\ncat/0.png,1,0\n", "a.csv", label_columns=["cat", "dog", again])


@pytest.mark.parametrize("names", [None, "cat\ndog\n"])
@pytest.mark.parametrize(
    ("name", "text", "changes"),
    [
        ("a.csv", "path,label\ncat/0.png,\ndog/0.png,\n", {}),
        ("a.csv", "path,label\ncat/0.png, ; \ndog/0.png,;\n", {"label_separator": ";"}),
        ("a.csv", "path,cat,dog\ncat/0.png,0,0\ndog/0.png,0,0\n", {"label_columns": ["cat", "dog"]}),
        ("a.txt", "cat/0.png 0,0\ndog/0.png 0,0\n", {}),
    ],
)
def test_where_no_picture_has_a_label_that_is_said(root, name, text, changes, names):
    if names:
        (root / "names.txt").write_text(names)
        changes = {**changes, "label_file": str(root / "names.txt")}
    with pytest.raises(DataError, match=rf"No image of .*{name} has a label"):
        listed(root, text, name, labels=cfg.Labels.many, **changes)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.parquet"])
def test_a_list_that_names_nothing_or_is_damaged_is_refused(root, name):
    with pytest.raises(DataError, match="names no pictures|not Parquet"):
        listed(root, "", name)
    with pytest.raises(DataError, match="names no pictures|not Parquet"):
        listed(root, "path,label\n" if name == "a.csv" else "\n", name)


@pytest.mark.parametrize(("text", "said"), [("", "names no pictures"), ('"a,b', "list.csv:1: unexpected end of data")])
def test_a_table_without_a_line_is_refused_also_if_its_columns_have_numbers(root, text, said):
    with pytest.raises(DataError, match=said):
        listed(root, text, "list.csv", path_column="0", label_column="1")


def test_names_that_are_not_text_are_told_and_not_taken_for_others(root):
    with open(os.fsencode(root) + b"/\xff.png", "wb") as stream:
        stream.write(layouts.png(0))
    with pytest.raises(DataError, match="list.txt:1: not UTF-8"):
        listed(root, b"\xff.png cat\ndog/0.png dog\n")


def test_a_column_of_splits_beside_lists_is_refused(config_of):
    from runner.errors import ConfigError

    with pytest.raises(ConfigError, match="data.split_column=part"):
        config_of("data=files", "data.train=a.csv", "data.test=b.csv", "data.split_column=part")
