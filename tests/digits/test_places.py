"""Data are found wherever they lie, in the forms in which people have them, or named."""

import gzip
import itertools
import re
import textwrap

from digits import download, places
from files import DataError

import numpy as np
import pytest
import torch
from archives import (
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
    raising,
    tarred,
    zipped,
)
from helpers import ROOT

FOLDERS = files_named("{1}/{0}.png")
IDX = idx_files()
SPLITS = ("train", "test")


def dotted(files):
    return {name.replace("-idx", ".idx"): content for name, content in files.items()}


def packed(files):
    return {f"{name}.gz": gzip.compress(content) for name, content in files.items()}


def nested(files):
    return {f"{name}/{name}": content for name, content in files.items()}


def both(pattern, files=FOLDERS):
    """Files of both splits, each in its folder."""
    return {pattern.format(split=s, name=n): c for s in SPLITS for n, c in files.items()}


JPEGS = {name.replace(".png", ".jpg"): content for name, content in FOLDERS.items()}
FORMS = {  # {name: content} of what people have
    "dots, as 7-Zip unpacks": dotted(IDX),
    "dots, packed": packed(dotted(IDX)),
    "packed": packed(IDX),
    "packed twice": {f"{n}.gz": gzip.compress(gzip.compress(c)) for n, c in IDX.items()},
    "one of them packed": IDX | packed(IDX),
    "Kaggle's folders": nested(IDX),
    "Kaggle's folders and dots": nested(IDX) | dotted(IDX),
    "7-Zip's folders": {f"{n.replace('.', '-')}/{n}": c for n, c in dotted(IDX).items()},
    "torchvision": {f"MNIST/raw/{name}": content for name, content in packed(IDX).items()},
    "four folders down": {f"a/b/c/d/{name}": content for name, content in IDX.items()},
    "EMNIST": idx_files(pattern="emnist-digits-{}-{}-ubyte", splits=SPLITS),
    "Keras": {"mnist.npz": keras()},
    "CSV": {f"mnist_{split}.csv": csv_file(header="") for split in SPLITS},
    "CSV, Kaggle": {f"{split}.csv": csv_file() for split in SPLITS},
    "CSV, Fashion": {f"fashion-mnist_{split}.csv": csv_file() for split in SPLITS},
    "tar": {f"{split}.tar": tarred(FOLDERS) for split in SPLITS},
    "one tar each in a folder": {f"x/{split}/{split}.tar": tarred(FOLDERS) for split in SPLITS},
    "training, testing": {"Training.zip": zipped(FOLDERS), "TESTING.zip": zipped(FOLDERS)},
    "folders": both("{split}/{name}"),
    "Kaggle's pictures": {
        f"{s}Set/{s}Set/{n}": c for s in ("training", "test") for n, c in JPEGS.items()
    },
    "mnist_png": both("mnist_png/{split}ing/{name}"),
    "mnist_png.zip": {"mnist_png.zip": zipped(both("mnist_png/{split}ing/{name}"))},
}


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found_and_nothing_of_it_is_changed(tmp_path, form):
    lay(tmp_path, FORMS[form])
    before = contents(tmp_path)
    assert download.ensure(tmp_path) == tmp_path
    for split in SPLITS:
        path, *data = places.load(tmp_path, split)
        assert_intact(data)
        assert path.exists()
    after = contents(tmp_path)
    assert before.items() <= after.items()
    assert all(path.name.endswith(".cache.npz") for path in after.keys() - before.keys())


def test_the_order_of_preference_and_what_is_left_out(tmp_path):
    lay(tmp_path, {f"generated/{split}.tar": b"x" for split in SPLITS})
    lay(tmp_path, {f".hidden/{split}.tar": b"x" for split in SPLITS})
    lay(tmp_path, {f"a/b/c/d/e/{split}.tar": b"x" for split in SPLITS})
    assert not places.find(tmp_path, "train")
    for form in ("CSV", "Keras", "packed", "mnist_png.zip", "tar"):
        lay(tmp_path, FORMS[form])
        assert places.find(tmp_path, "train")[0].name in FORMS[form]
        assert len(places.find(tmp_path, "train")) == len(places.find(tmp_path, "test"))
    assert_intact(places.load(tmp_path, "train")[1:])


@pytest.mark.parametrize(
    "second", ["copy/train.tar", "mnist.npz", "train-images-idx3-ubyte", "train/"]
)
def test_other_data_beside_them_are_an_error_that_names_both(tmp_path, second):
    lay(tmp_path, FORMS["tar"])
    other = IMAGES[::-1]
    files = {
        "copy/train.tar": {second: tarred(files_named("{1}/{0}.png", other))},
        "mnist.npz": {second: keras(other)},
        "train-images-idx3-ubyte": idx_files(other, splits=("train",)),
        "train/": files_named("train/{1}/{0}.png", other),
    }
    lay(tmp_path, files[second])
    with pytest.raises(DataError, match="hold different data; move one away") as error:
        places.load(tmp_path, "train")
    assert str(tmp_path / "train.tar") in str(error.value)
    assert str(tmp_path / second) in str(error.value)


def test_a_set_of_ones_own_is_never_completed_with_another(tmp_path):
    lay(tmp_path, {"train.tar": tarred(FOLDERS)} | idx_files(splits=("t10k",)))
    with pytest.raises(DataError, match=r"test.tar: missing, but there is .*train.tar"):
        download.ensure(tmp_path)
    assert download.ensure(tmp_path, splits=("train",)) == tmp_path
    with pytest.raises(DataError, match="test.tar: not found"):
        places.load(tmp_path, "test")
    lay(tmp_path, idx_files())  # one set has both: the other must be the same
    assert_intact(places.load(tmp_path, "test")[1:])


def test_missing_and_damaged_files_are_named(tmp_path, monkeypatch):
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="test.tar: not found; what is read are train and test"):
            places.load(root, "test")
    images = tmp_path / "train-images-idx3-ubyte"
    images.write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(DataError, match=f"{images}: .*begins with b'<!DOCTYPE html>'"):
        places.load(tmp_path, "train")
    images.write_bytes(IDX[images.name])
    with pytest.raises(DataError, match="train-labels-idx1-ubyte.gz: No such file"):
        places.load(tmp_path, "train")
    (tmp_path / "train.tar").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="train.tar: No such file"):
        places.load(tmp_path, "train")
    monkeypatch.setattr("builtins.open", raising(PermissionError(13, "Permission denied")))
    with pytest.raises(DataError, match="train.tar: Permission denied"):
        places.load(lay(tmp_path, {"x/train.tar": b"x"}) / "x", "train")


def test_links_to_data_are_followed(tmp_path):
    lay(tmp_path / "elsewhere", FORMS["packed"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mnist").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "circle").symlink_to(tmp_path / "data")
    assert_intact(places.load(tmp_path / "data", "train")[1:])


@pytest.mark.parametrize(
    ("path", "name"),
    {
        "a/fashion/train.tar": "fashion",
        "FashionMNIST/raw/train-images-idx3-ubyte.gz": "FashionMNIST",
        "mine/train-images-idx3-ubyte/train-images.idx3-ubyte": "mine",
        "mine/train/train.tar": "mine",
        "m/mnist.npz": "m",
    }.items(),
)
def test_the_folder_that_names_the_data(tmp_path, path, name):
    assert places.place(tmp_path / path).name == name


# What is not read


NOT_READ = "digits.zip Train.rar train.npy test2.tar emnist-letters-train-images-idx3-ubyte x.mat"


@pytest.mark.parametrize("name", [*NOT_READ.split(), "0/img_1.png", "train/0/1.bmp", "a/b/c/d/e/x"])
def test_what_is_not_read_is_named_and_nothing_is_downloaded(tmp_path, monkeypatch, name):
    monkeypatch.setattr(download, "download", lambda _: pytest.fail("downloads"))
    lay(tmp_path, {name: png()})
    shown = name if "e/x" not in name else "a/b/c/d/e"
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


def code_in_the_readme(word):
    """The lines of Python in data/README.md, after the line that holds a word."""
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8").partition(word)[2]
    lines = itertools.takewhile(lambda line: line[:1] in (" ", ""), text.splitlines()[2:])
    return textwrap.dedent("\n".join(lines))


@pytest.fixture
def run_readme(tmp_path, monkeypatch):
    """Run lines of the README in the data folder, where nothing is read before."""

    def run(word):
        with pytest.raises(DataError, match="not used.*README.md has lines"):
            download.ensure(tmp_path)
        monkeypatch.chdir(tmp_path)
        exec(code_in_the_readme(word), {})
        return places.load(tmp_path, "train")[1:]

    return run


def test_the_readme_converts_pictures(tmp_path, run_readme):
    picture = png(np.full((50, 40, 3), 200, np.uint8), "JPEG")
    lay(tmp_path, {"pictures/1/a.jpg": picture, "pictures/7/a.jpg": picture})
    images, labels = run_readme("to\n`train/0`")
    assert labels.tolist() == [1, 7] and set(images.flatten().tolist()) == {200}


def test_the_readme_converts_torchvisions_old_files(tmp_path, run_readme):
    (tmp_path / "processed").mkdir()
    for split in ("training", "test"):
        torch.save(DATA, tmp_path / "processed" / f"{split}.pt")
    assert_intact(run_readme("processed/test.pt"))


def test_the_readme_converts_parquet_files(tmp_path, run_readme, monkeypatch):
    pandas = pytest.importorskip("pandas")
    rows = [{"bytes": png(image)} for image in IMAGES]
    tables = {f"{s}-00000-of-00001.parquet": {"image": rows, "label": LABELS} for s in SPLITS}
    lay(tmp_path, dict.fromkeys(tables, b"PAR1"))
    monkeypatch.setattr(pandas, "read_parquet", tables.get)  # pyarrow may not be installed
    assert_intact(run_readme("Parquet files"))
