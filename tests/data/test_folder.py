"""Pictures in one folder a class: the layouts that are taken, and the mistakes that are told."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runner import config as cfg
from runner import data
from runner.data import folder, identity
from runner.errors import DataError


def made(root: Path, *names: str) -> Path:
    """A folder with files of these names, pictures where the name says so."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg"):
            Image.new("RGB", (4, 3), (number % 256, 0, 0)).save(path)
        else:
            path.write_bytes(b"text")
    return root


def loaded(root: Path, **changes) -> data.Source:
    return data.load(cfg.ImageFolder(root=str(root), val_fraction=0.0, **changes))


def names(split) -> list[str]:
    return [split.name(place) for place in range(len(split))]


def many(*classes: str, count: int = 10, within: str = "") -> list[str]:
    return [f"{within}{name}/{number:02}.png" for name in classes for number in range(count)]


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_the_validation_split_has_three_names(tmp_path, val):
    source = loaded(made(tmp_path, *(f"{split}/{name}/1.png" for split in ("train", val) for name in ("cat", "dog"))))
    assert source.classes == ["cat", "dog"]
    assert names(source.val) == [f"{val}/cat/1.png", f"{val}/dog/1.png"]
    assert source.val.labels.tolist() == [0, 1]
    assert source.test is None


def test_class_folders_alone_are_divided_by_class(tmp_path):
    source = loaded(made(tmp_path, *many("cat", "dog", "eel")))
    assert np.bincount(source.train.labels).tolist() == [8, 8, 8]
    assert np.bincount(source.test.labels).tolist() == [2, 2, 2]
    assert not set(names(source.train)) & set(names(source.test))


def test_the_division_is_a_function_of_its_seed(tmp_path):
    made(tmp_path, *many("cat", "dog"))
    first, again, other = (names(loaded(tmp_path, split_seed=seed).test) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(("fraction", "images"), [(0.5, 10), (0.0, 0)])
def test_the_part_for_the_test_can_be_chosen(tmp_path, fraction, images):
    source = loaded(made(tmp_path, *many("cat", "dog")), test_fraction=fraction)
    assert (len(source.test) if source.test else 0) == images


def test_a_train_folder_alone_is_divided_on_request_only(tmp_path):
    made(tmp_path, *many("cat", "dog", within="train/"))
    assert loaded(tmp_path).test is None
    assert len(loaded(tmp_path, test_fraction=0.3).test) == 6


def test_a_fraction_beside_a_test_folder_is_refused(tmp_path):
    made(tmp_path, *many("cat", "dog", within="train/"), *many("cat", "dog", within="test/"))
    with pytest.raises(DataError, match="data.test_fraction"):
        loaded(tmp_path, test_fraction=0.3)


def test_hidden_names_those_of_systems_and_other_files_are_left_out_and_counted(tmp_path):
    odd = ("cat/.ipynb_checkpoints/1.png", "cat/._1.png", "cat/.DS_Store", "cat/@eaDir/1.png", "cat/Thumbs.db",
           "__MACOSX/cat/1.png", "cat/notes.txt", "labels.csv", "loose.png")  # fmt: skip
    source = loaded(made(tmp_path, *many("cat", "dog"), *odd), test_fraction=0.0)
    assert len(source.train) == 20
    assert source.skipped == {folder.HIDDEN: 6, folder.NO_PICTURE: 2, folder.LOOSE: 1}


def test_photos_of_other_formats_are_counted_by_suffix_with_what_to_do(tmp_path):
    made(tmp_path, *many("cat", "dog"), "cat/IMG_1.HEIC", "cat/IMG_2.heic", "dog/3.CR2", "dog/notes.txt")
    skipped = loaded(tmp_path).skipped
    assert skipped.pop(folder.NO_PICTURE) == 1
    assert {name.partition(",")[0]: count for name, count in skipped.items()} == {".heic files": 2, ".cr2 files": 1}
    assert all("convert them to JPEG or PNG" in name for name in skipped)
    made(tmp_path / "only", *many("cat", "dog"), "fox/IMG_1.HEIC")
    with pytest.raises(DataError, match=r"fox/ \(1 \.heic file, which is not read: convert"):
        loaded(tmp_path / "only")


def test_folders_within_a_class_belong_to_it_and_all_names_are_in_order(tmp_path):
    made(tmp_path, "cat/b/2.png", "cat/b.png", "cat/a/1.png", "cat 2/1.png", "dog/x.JPG.png")
    found = names(loaded(tmp_path, test_fraction=0.0).train)
    assert found == sorted(found)
    assert "cat/a/1.png" in found


def test_where_all_images_are_in_folders_within_the_classes_the_classes_are_named(tmp_path):
    nested = loaded(made(tmp_path / "nested", *many("a/x", "a/y", "b/y", "b/z")), test_fraction=0.0)
    assert nested.classes == ["a", "b"]
    assert nested.layout.startswith(f"classes are the folders in {tmp_path}/nested: a, b; all images are in folders")
    assert "such as a/x" in nested.layout
    # The folders of a split are classes, whatever is in them.
    named = loaded(made(tmp_path / "named", *many("a/x", "a/y", "b/x", "b/y", within="train/")), test_fraction=0.0)
    assert (named.classes, "such as a/x" in named.layout) == (["a", "b"], True)
    assert not loaded(made(tmp_path / "mixed", *many("a/x", "b/y", "b")), test_fraction=0.0).layout


def test_a_folder_above_the_set_is_answered_with_the_set(tmp_path):
    made(tmp_path, *many("my photos/cat", "my photos/dog", "new"), *(f"code/{number}.py" for number in range(41)))
    made(tmp_path, "code/logo.png")
    hint, mostly = loaded(tmp_path, test_fraction=0.0).layout.split("; ")
    assert hint.startswith(f"{tmp_path}/my photos, taken as one class, has several folders of images: did you mean ")
    assert shlex.split(hint.partition("mean ")[2]) == [f"data.root={tmp_path}/my photos?"]
    assert mostly == f"31 images, and more files that are left out: is {tmp_path} the right folder?"
    assert not loaded(tmp_path / "my photos", test_fraction=0.0).layout


TABLES = {
    "names": ("photo,kind\n00.png,cat\n01.png,dog\n", "images"),
    "paths": ("path,label\nimages/00.png,cat\nimages/01.png,dog\n", "."),
    "no header": ("cat;00.png\ndog;01.png\n", "images"),
    "several columns": ("id,file,label\n7,00.png,cat\n8,01.png,dog\n", "images"),
}


@pytest.mark.parametrize(("table", "root"), TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("given", ["", "images"])
def test_a_folder_of_images_with_a_table_is_answered_with_what_trains_on_it(tmp_path, config_of, table, root, given):
    place = made(tmp_path / "my set, $1", "images/00.png", "images/01.png")
    (place / "labels, all.csv").write_text(table)
    with pytest.raises(DataError) as caught:
        loaded(place / given)
    [words] = re.findall(r" If it has their labels: (data=files .*?)(?: \(or .*)?$", str(caught.value))
    config = config_of(*shlex.split(words), "data.test_fraction=0", "data.val_fraction=0")
    source = data.load(config.data)
    assert [source.classes[label] for label in source.train.labels] == ["cat", "dog"]
    assert os.path.samefile(source.train.pictures.root, place / root)


def test_a_table_of_something_else_is_not_named(tmp_path):
    made(tmp_path, "images/00.png", "images/01.png")
    (tmp_path / "sizes.csv").write_text("height,width\n1,2\n")
    with pytest.raises(DataError, match="one class folder only, 'images'.* Add another class folder"):
        loaded(tmp_path)


def test_links_are_followed(tmp_path):
    made(tmp_path / "store", "1.png", "2.png")
    made(tmp_path / "set", *many("dog"))
    (tmp_path / "set/cat").symlink_to(tmp_path / "store")
    (tmp_path / "set/dog/linked.png").symlink_to(tmp_path / "store/1.png")
    assert len(loaded(tmp_path / "set", test_fraction=0.0).train) == 13


def test_a_pipe_is_no_picture(tmp_path):
    made(tmp_path, *many("cat", "dog"))
    os.mkfifo(tmp_path / "cat/pipe.png")
    assert loaded(tmp_path).skipped == {folder.NO_PICTURE: 1}


PAIR = many("cat", "dog", count=1)
WRONG = {
    "nothing": ([], "no class folders"),
    "loose pictures": (["1.png", "2.png"], "2 images, but no class folders"),
    "one class": (many("cat"), "one class folder only, 'cat'"),
    "one class in train": (many("cat", within="train/"), "one class folder only, 'cat'"),
    "a level too many": (
        [f"data/{name}" for name in PAIR],
        r"one class folder only, 'data'.* Did you mean data.root=.*/data\?",
    ),
    "a level too many with splits": ([f"data/train/{name}" for name in PAIR], "data.root=.*data"),
    "a level too many beside another": ([*(f"data/train/{name}" for name in PAIR), "docs/1.txt"], "data.root=.*data"),
    "two levels too many": (
        ["notes.txt", *(f"photos/images/{name}" for name in PAIR)],
        r"one class folder only, 'photos'.* Did you mean data.root=.*/photos/images\?",
    ),
    "three levels too many with splits": (
        [f"a/b/c/train/{name}" for name in PAIR],
        r"Did you mean data.root=.*/a/b/c\?",
    ),
    "two levels too many beside others": (
        ["labels/1.txt", *(f"photos/images/{name}" for name in PAIR)],
        r"labels/ \(1 file that is not an image\)\. Add some, or remove the folder\. Did you mean .*/images\?",
    ),
    "a level too many in each": (
        [f"{part}/{name}" for part in ("2023", "2024") for name in PAIR],
        r"2023, 2024, and each of them has cat, dog: one level too many.*data.root=.*/2023\. If 2023, 2024 are,",
    ),
    "a level too few": ([f"cat/{number}.png" for number in range(3)], "one class folder only, 'cat'.* Add another"),
    "a level too many in train": (
        [f"train/all/{name}" for name in PAIR],
        r"Did you mean the folders in .*/train/all\? Move them up into .*/train\.",
    ),
    "splits within classes": (["cat/train/1.png", "dog/train/1.png"], "train/cat/"),
    "a class beside train": ([*many("cat", "dog", within="train/"), "eel/1.png"], "has train/, and next to it eel/"),
    "no train": (many("cat", "dog", within="test/"), "test/ but no train/"),
    "another case": (many("cat", "dog", within="Train/"), "Train: folders of splits are named train"),
    "another word": ([*many("cat", "dog", within="Training/"), *many("cat", "dog", within="Testing/")], "named train"),
    "two validation splits": (
        [f"{split}/{name}" for split in ("train", "val", "valid") for name in PAIR],
        "both val/ and valid/",
    ),
    "a class of the test alone": (
        [*many("cat", "dog", within="train/"), *many("cats", "dog", within="test/")],
        r"cats\. Did you mean 'cat'\?\n  train: cat, dog\n  test: cats, dog",
    ),
    "classes without pictures": (
        [*PAIR, "eel/1.txt", "eel/2.txt", "fox/deep/.hidden.png"],
        r"Class folders without images .*eel/ \(2 files that are not images\), .*fox/\. Add",
    ),
    "an empty class of the test": (
        [*many("cat", "dog", within="train/"), "test/cat/1.png", "test/dog/1.txt"],
        "Class folders without images .*test/dog/",
    ),
}


@pytest.mark.parametrize(("files", "said"), WRONG.values(), ids=WRONG)
def test_other_layouts_are_refused_with_the_reason(tmp_path, files, said):
    with pytest.raises(DataError, match=said):
        loaded(made(tmp_path, *files))


def test_folders_without_pictures_may_be_beside_train(tmp_path):
    made(tmp_path, *many("cat", "dog", within="train/"), "annotations/1.xml")
    assert len(loaded(tmp_path).train) == 20


@pytest.mark.parametrize("link", ["cat/again", "cat/deep/again"])
def test_a_link_without_end_is_named(tmp_path, link):
    made(tmp_path, *PAIR, "cat/deep/2.png")
    (tmp_path / link).symlink_to(tmp_path / "cat")
    with pytest.raises(DataError, match="again is a link that leads back"):
        loaded(tmp_path)


@pytest.mark.parametrize("root", ["nowhere", "file"])
def test_a_root_that_is_no_folder_is_named(tmp_path, root):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=f"{root} cannot be listed: .*data.root/train/<class>"):
        loaded(tmp_path / root)


def test_names_that_are_not_text_are_kept(tmp_path):
    made(tmp_path, *PAIR)
    path = os.fsencode(tmp_path / "cat") + b"/\xff.png"
    with open(path, "wb") as stream:
        stream.write((tmp_path / "cat/00.png").read_bytes())
    source = loaded(tmp_path, test_fraction=0.0)
    assert source.train.pictures.sizes().min() > 0
    assert os.fsencode(source.train.pictures.read(1)) == path
    before = identity.digests(source)
    os.rename(path, path.replace(b"\xff", b"\xfe"))
    assert identity.digests(loaded(tmp_path, test_fraction=0.0)) != before


def test_the_validation_split_is_held_out_of_what_the_test_leaves(tmp_path):
    config = cfg.ImageFolder(root=str(made(tmp_path, *many("cat", "dog"))), val_fraction=0.25)
    assert {name: len(split) for name, split in data.load(config).splits.items()} == {"train": 12, "val": 4, "test": 4}


def test_the_folder_of_a_class_is_answered_with_the_one_above_it(tmp_path):
    made(tmp_path / "set", *PAIR)
    with pytest.raises(DataError, match=r"1 image, but no class folders.* Did you mean data.root=.*/set\?"):
        loaded(tmp_path / "set" / "cat")


MEASURED = data.ExpectedClasses(["eel", "dog", "cat"], "a run", data.ClassMismatch.subset)


def measured(root: Path, **changes) -> data.Source:
    config = cfg.ImageFolder(root=str(root), **changes)
    return data.load(config, MEASURED, divide=False)


def test_where_networks_are_measured_a_test_folder_alone_will_do(tmp_path):
    source = measured(made(tmp_path, *many("cat", "dog", within="test/")), test_fraction=0.3)
    assert {name: len(split) for name, split in source.splits.items()} == {"test": 20}
    assert source.classes == MEASURED.names
    assert source.test.labels.tolist() == [2] * 10 + [1] * 10


def test_where_networks_are_measured_a_set_that_is_not_divided_is_test(tmp_path):
    source = measured(made(tmp_path, "cat/1.png", "dog/1.png", "dog/2.png"))
    assert {name: names(split) for name, split in source.splits.items()} == {
        "test": ["cat/1.png", "dog/1.png", "dog/2.png"]
    }


def test_where_networks_are_measured_one_class_that_they_know_will_do(tmp_path):
    assert measured(made(tmp_path / "set", *many("dog"))).test.labels.tolist() == [1] * 10
    with pytest.raises(DataError, match="one class folder only, 'ant'"):
        measured(made(tmp_path / "other", *many("ant")))
    with pytest.raises(DataError, match="they lack ant"):
        measured(made(tmp_path / "third", *many("ant", "cat")))
    with pytest.raises(DataError, match=r"Did you mean data.root=.*/deep/photos/all\?"):
        measured(made(tmp_path / "deep", *many("cat", "dog", within="photos/all/")))


def test_each_split_to_be_measured_may_have_classes_of_its_own(tmp_path):
    source = measured(made(tmp_path, *many("cat", within="train/"), *many("dog", "eel", within="test/")))
    assert set(source.train.labels.tolist()) == {2}
    assert source.test.labels.tolist() == [1] * 10 + [0] * 10


@pytest.mark.parametrize("files", [[], ["1.png"], ["cat/1.txt", "dog/1.txt"], [f"a/b/{name}" for name in PAIR]])
def test_what_is_missing_is_refused_early_in_the_same_words(tmp_path, files):
    made(tmp_path / "set", *files)
    for root in (tmp_path / "set", tmp_path / "nowhere", Path(__file__)):
        with pytest.raises(DataError) as early:
            folder.refuse_missing(cfg.ImageFolder(root=str(root)))
        with pytest.raises(DataError) as whole:
            loaded(root)
        assert str(early.value) == str(whole.value)


def test_the_early_refusal_lists_no_images(tmp_path, monkeypatch):
    made(tmp_path, *many("cat", "dog", within="train/"))
    monkeypatch.setattr(folder, "walk", None)
    folder.refuse_missing(cfg.ImageFolder(root=str(tmp_path)))
