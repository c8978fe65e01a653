"""Data are found wherever they lie, in the forms in which people have them, or named."""

import gzip
import io
import re
import textwrap
from pathlib import Path
from unittest.mock import Mock

from digits import download, places
from files import DataError

import numpy as np
import pytest
import torch
from archives import (
    ARCHIVES,
    DATA,
    IMAGES,
    LABELS,
    assert_intact,
    csv_file,
    files_named,
    idx_files,
    keras,
    lay,
    png,
    tarred,
    zipped,
)
from helpers import ROOT

FOLDERS, JPEGS = files_named("{1}/{0}.png"), files_named("{1}/{0}.jpg")
IDX = idx_files()
SPLITS = ("train", "test")
PACKED = {kind: ARCHIVES[kind](files_named("{:05d}_{}.png")) for kind in ARCHIVES}


def packed(files):
    return {f"{name}.gz": gzip.compress(content) for name, content in files.items()}


def inside(files, *folders):
    """These files in each of the folders."""
    return {f"{folder}/{name}": content for folder in folders for name, content in files.items()}


DOTS = idx_files(pattern="{}-{}.{}-ubyte")
NESTED = idx_files(pattern="{0}-{1}-{2}-ubyte/{0}-{1}-{2}-ubyte")
FORMS = {  # {name: content} of what people have
    "dots, as 7-Zip unpacks": DOTS,
    "dots, packed": packed(DOTS),
    "packed": packed(IDX),
    "packed twice": {f"{n}.gz": gzip.compress(gzip.compress(c)) for n, c in IDX.items()},
    "one of them packed": IDX | packed(IDX),
    "Kaggle's folders": NESTED,
    "Kaggle's folders and dots": NESTED | DOTS,
    "7-Zip's folders": idx_files(pattern="{0}-{1}-{2}-ubyte/{0}-{1}.{2}-ubyte"),
    "torchvision": inside(packed(IDX), "MNIST/raw"),
    "four folders down": inside(IDX, "a/b/c/d"),
    "EMNIST": idx_files(pattern="emnist-digits-{}-{}-{}-ubyte", splits=SPLITS),
    "Keras": {"mnist.npz": keras()},
    "Keras, fractions": {"mnist.npz": keras(IMAGES.astype(float))},
    "CSV": {f"mnist_{split}.csv": csv_file(header="") for split in SPLITS},
    "CSV, Kaggle": {f"{split}.csv": csv_file() for split in SPLITS},
    "CSV, Fashion": {
        "fashion-mnist_train.csv": b"\xef\xbb\xbf" + csv_file(header='"label","1x1"\n'),
        "fashion-mnist_test.csv": csv_file().replace(b"\n", b"\r\n"),
    },
    "tar": {f"{split}.tar": tarred(FOLDERS) for split in SPLITS},
    "gzip": dict.fromkeys(("train.tar.gz", "test.tgz"), PACKED[".tar.gz"]),
    "bzip2": dict.fromkeys(("train.tar.bz2", "test.tbz2"), PACKED[".tar.bz2"]),
    "xz": dict.fromkeys(("train.tar.xz", "test.txz"), PACKED[".tar.xz"]),
    "one tar each in a folder": {f"x/{split}/{split}.tar": tarred(FOLDERS) for split in SPLITS},
    "training, testing": {"Training.zip": zipped(FOLDERS), "TESTING.zip": zipped(FOLDERS)},
    "folders": inside(FOLDERS, *SPLITS),
    "Kaggle's pictures": inside(JPEGS, "trainingSet/trainingSet", "testSet/testSet"),
    "mnist_png": inside(FOLDERS, "mnist_png/training", "mnist_png/testing"),
    "mnist_png.zip": {"mnist_png.zip": zipped(inside(FOLDERS, "Training", "TESTING"))},
}


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found_cached_and_not_changed(tmp_path, monkeypatch, capsys, form):
    before = contents(lay(tmp_path, FORMS[form]))
    assert download.ensure(tmp_path) == tmp_path
    for split in SPLITS:
        path, *data = places.load(tmp_path, split)
        assert_intact(data)
        assert path.exists()
    for reader in ("archive.decode", "idx.read_npz", "idx.read_csv"):
        monkeypatch.setattr(f"digits.{reader}", Mock(side_effect=AssertionError("read again")))
    capsys.readouterr()
    for split in SPLITS:
        assert_intact(places.load(tmp_path, split)[1:])
    assert capsys.readouterr() == ("", "")
    after = contents(tmp_path)
    assert before.items() <= after.items()
    assert all(path.name.endswith(".cache.npz") for path in after.keys() - before.keys())


def test_the_order_of_preference_and_what_is_left_out(tmp_path):
    for folder in ("generated", ".hidden", "a/b/c/d/e"):
        lay(tmp_path, {f"{folder}/{split}.tar": b"x" for split in SPLITS})
    assert not places.find(tmp_path, "train")
    for form in ("CSV", "Keras", "packed", "mnist_png.zip", "tar"):
        lay(tmp_path, FORMS[form])
        assert places.find(tmp_path, "train")[0].name in FORMS[form]
        assert len(places.find(tmp_path, "train")) == len(places.find(tmp_path, "test"))
    assert_intact(places.load(tmp_path, "train")[1:])


OTHER = IMAGES[::-1]
OTHERS = {
    "copy/train.tar": {"copy/train.tar": tarred(files_named("{1}/{0}.png", OTHER))},
    "train-images-idx3-ubyte": idx_files(OTHER, splits=("train",)),
}


@pytest.mark.parametrize("second", OTHERS)
def test_other_data_beside_them_are_an_error_that_names_both(tmp_path, second):
    lay(tmp_path, FORMS["tar"] | OTHERS[second])
    with pytest.raises(DataError, match="hold different data; move one away") as error:
        places.load(tmp_path, "train")
    named = re.split("[: ]", str(error.value))
    assert {str(tmp_path / "train.tar"), str(tmp_path / second)} <= {*named}


def test_a_set_of_ones_own_is_never_completed_with_another(tmp_path):
    lay(tmp_path, {"train.tar": tarred(FOLDERS)} | idx_files(splits=("t10k",)))
    with pytest.raises(DataError, match=r"test.tar: missing, but there is .*train.tar"):
        download.ensure(tmp_path)
    assert download.ensure(tmp_path, splits=("train",)) == tmp_path
    with pytest.raises(DataError, match="test.tar: not found"):
        places.load(tmp_path, "test")
    lay(tmp_path, idx_files())  # one set has both: the other must be the same
    assert_intact(places.load(tmp_path, "test")[1:])


def test_missing_files_are_named(tmp_path, monkeypatch):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="test.tar: not found; what is read are train and test"):
            places.load(root, "test")
    lay(tmp_path, {"train-images-idx3-ubyte": IDX["train-images-idx3-ubyte"]})
    with pytest.raises(DataError, match="train-labels-idx1-ubyte.gz: No such file"):
        places.load(tmp_path, "train")
    (tmp_path / "train.tar").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="train.tar: No such file"):
        places.load(tmp_path, "train")
    denied = PermissionError(13, "Permission denied")
    monkeypatch.setattr(places.Path, "read_bytes", Mock(side_effect=denied))
    with pytest.raises(DataError, match="train.tar: Permission denied"):
        places.load(lay(tmp_path, {"x/train.tar": b"x"}) / "x", "train")


def test_links_to_data_are_followed(tmp_path):
    lay(tmp_path / "elsewhere", FORMS["packed"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mnist").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "circle").symlink_to(tmp_path / "data")
    assert_intact(places.load(tmp_path / "data", "train")[1:])


PLACES = {
    "a/fashion/train.tar": "fashion",
    "FashionMNIST/raw/train-images-idx3-ubyte.gz": "FashionMNIST",
    "mine/train-images-idx3-ubyte/train-images.idx3-ubyte": "mine",
    "mine/train/train.tar": "mine",
    "m/mnist.npz": "m",
}


def test_the_folder_that_names_the_data():
    assert {path: places.place(Path(path)).name for path in PLACES} == PLACES


# What is not read

NOT_READ = "digits.zip Train.rar train.npy test2.tar emnist-letters-train-images-idx3-ubyte x.mat"


@pytest.mark.parametrize("name", [*NOT_READ.split(), "0/img_1.png", "train/0/1.bmp", "a/b/c/d/e/x"])
def test_what_is_not_read_is_named_and_nothing_is_downloaded(tmp_path, monkeypatch, name):
    monkeypatch.setattr(download, "download", lambda _: pytest.fail("downloads"))
    lay(tmp_path, {name: png()})
    shown = name.removesuffix("/x")
    with pytest.raises(DataError, match=f"{re.escape(shown)}: not used.*what is read are") as error:
        download.ensure(tmp_path)
    assert str(error.value).isprintable() and "data/README.md" in str(error.value)
    assert list(contents(tmp_path)) == [tmp_path / name]


def test_only_notes_and_what_this_project_puts_there_are_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "download", lambda root: lay(root, FORMS["tar"]))
    names = ["README.md", ".DS_Store", "train.cache.npz", ".x/train.tar", "generated/train.tar"]
    lay(tmp_path, dict.fromkeys(names, b"x"))
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert download.ensure(tmp_path) == tmp_path
    assert_intact(places.load(tmp_path, "train")[1:])


README = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
PICTURES, PROCESSED, PARQUET = re.findall(r"\n\n((?:    .*\n|\n(?=    ))+)", README)


@pytest.fixture
def converted(tmp_path, monkeypatch):
    """What is read of files after lines of the README ran among them; nothing is read before."""

    def converted(files, code):
        lay(tmp_path, files)
        with pytest.raises(DataError, match="not used.*README.md has lines"):
            download.ensure(tmp_path)
        monkeypatch.chdir(tmp_path)
        exec(textwrap.dedent(code), {})
        return places.load(tmp_path, "train")[1:]

    return converted


def test_the_readme_converts_pictures(converted):
    picture = png(np.full((50, 40, 3), 200, np.uint8), "JPEG")
    names = "pictures/1/a.jpg", "pictures/7/a.jpg"
    images, labels = converted(dict.fromkeys(names, picture), PICTURES)
    assert labels.tolist() == [1, 7] and set(images.flatten().tolist()) == {200}


def test_the_readme_converts_torchvisions_old_files(converted):
    saved = io.BytesIO()
    torch.save(DATA, saved)
    names = "processed/training.pt", "processed/test.pt"
    assert_intact(converted(dict.fromkeys(names, saved.getvalue()), PROCESSED))


def test_the_readme_converts_parquet_files(converted, monkeypatch):
    pandas = pytest.importorskip("pandas")
    rows = [{"bytes": png(image)} for image in IMAGES]
    tables = {f"{s}-00000-of-00001.parquet": {"image": rows, "label": LABELS} for s in SPLITS}
    monkeypatch.setattr(pandas, "read_parquet", tables.get)  # pyarrow may not be installed
    assert_intact(converted(dict.fromkeys(tables, b"PAR1"), PARQUET))
