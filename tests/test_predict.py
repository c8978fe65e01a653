"""predict.py on pictures as people make them: the right digits, and one line for each bad file.

What it does with a picture before the network sees it is tested in tests/digits/test_photo.py.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pictures
import pytest
from PIL import Image, ImageOps

import predict
from digits import photo, picture, synthetic
from files import PictureError
from training.checkpoint import load

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = load(predict.SHIPPED) if predict.SHIPPED.exists() else {}
needs_weights = pytest.mark.skipif(not WEIGHTS, reason="pretrained/lenet5.pt is not there")


def read_digits(images):
    """The digits that predict.py reads in images: -1 where it finds none."""
    seen = []
    for image in images:
        try:
            seen.append(photo.prepare(picture.opaque(ImageOps.exif_transpose(image)))[0])
        except PictureError:
            seen.append(None)
    found = [image for image in seen if image is not None]
    answers = iter(predict.classify(WEIGHTS, found).argmax(axis=1)) if found else iter(())
    return np.array([-1 if image is None else next(answers) for image in seen])


def run(*arguments, folder):
    """predict.py as a process in a folder."""
    command = [sys.executable, str(ROOT / "predict.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, with a picture of a 7."""
    monkeypatch.chdir(tmp_path)
    pictures.pen_on_squared_paper(7, np.random.default_rng(0)).save("seven.png")
    return tmp_path


def mnist(count):
    """The first MNIST test images and labels in MNIST_DIR."""
    folder = Path(os.environ.get("MNIST_DIR", "/nowhere"))
    path = next(
        (folder / name for name in ("test.tar", "test.tar.gz") if (folder / name).exists()), None
    )
    if path is None:
        pytest.skip("MNIST_DIR names no folder with test.tar or test.tar.gz")
    images, labels = [], []
    with tarfile.open(path) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content and member.name.endswith(".png") and len(images) < count:
                images.append(np.asarray(Image.open(io.BytesIO(content.read()))))
                labels.append(int(member.name[-5]))
    return np.stack(images), np.array(labels)


def generated(count):
    """Digits drawn in code, and their labels."""
    images, labels = synthetic.draw(count, 5)
    return np.asarray(images), np.asarray(labels)


@needs_weights
@pytest.mark.parametrize(("source", "count"), [(mnist, 120), (generated, 60)])
def test_photographed_digits_are_read_as_well_as_plain_ones(source, count):
    images, labels = source(count)
    plain = predict.classify(WEIGHTS, list(images)).argmax(axis=1) == labels
    pages = [pictures.photographed(x, np.random.default_rng([1, i])) for i, x in enumerate(images)]
    assert (read_digits(pages) != labels).sum() <= (~plain).sum() + 3  # so few pictures: coarse


@needs_weights
@pytest.mark.parametrize("scene", pictures.SCENES, ids=lambda scene: scene.__name__)
def test_pictures_as_people_make_them(scene):
    digit = pictures.SCENES.index(scene) % 10
    assert read_digits([scene(digit, np.random.default_rng([0, digit]))]) == [digit]


@needs_weights
@pytest.mark.parametrize(
    "scene", [pictures.paper_on_desk, pictures.fills_the_picture], ids=lambda scene: scene.__name__
)
def test_pictures_whose_border_misleads(scene):
    pages = [scene(digit, np.random.default_rng([1, digit])) for digit in range(10)]
    assert list(read_digits(pages)) == list(range(10))


@needs_weights
def test_prints_the_answer_and_writes_the_figure(here, capsys):
    assert predict.main(["seven.png"]) == 0
    out = capsys.readouterr().out
    assert "lenet5.pt" in out and "seven.png: 7 (" in out and "predictions.png" in out
    assert Image.open("plots/predictions.png").size[0] > 300
    assert [path.name for path in Path("plots").iterdir()] == ["predictions.png"]


@needs_weights
def test_json_is_all_of_stdout(here, capsys):
    (here / "folder").mkdir()
    Image.new("L", (50, 50)).save(here / "folder" / "blank.png")
    (here / "folder" / "notes.txt").write_text("not a picture")
    assert predict.main(["--json", "seven.png", "folder"]) == 1
    seven, blank = json.loads(capsys.readouterr().out)["results"]
    assert seven["digit"] == 7 and abs(sum(seven["probabilities"]) - 1) < 1e-4
    assert "no digit found" in blank["error"] and "digit" not in blank


@needs_weights
def test_newest_run_is_the_default_and_named(here, capsys):
    for age, name in ((50, "old"), (0, "new")):
        path = here / "runs" / name / "checkpoint.pt"
        path.parent.mkdir(parents=True)
        path.write_bytes(predict.SHIPPED.read_bytes())
        os.utime(path, (1e9 - age, 1e9 - age))
    assert predict.newest_checkpoint() == Path("runs/new/checkpoint.pt")


@needs_weights
def test_each_bad_file_is_one_line_and_the_others_are_answered(here, capsys):
    (here / "text.png").write_text("not a picture")
    (here / "cut.png").write_bytes((here / "seven.png").read_bytes()[:3000])
    (here / "large.png").write_bytes(b"x" * (picture.MAX_BYTES + 1))
    Image.new("1", (4001, 4000)).save(here / "wide.png")
    Image.new("L", (9, 9)).save(here / "format.png", format="TIFF")
    (here / "empty").mkdir()
    names = ["text.png", "cut.png", "large.png", "wide.png", "format.png", "empty", "missing.png"]
    if hasattr(os, "mkfifo"):
        os.mkfifo(here / "pipe")
        (here / "line\nbreak.png").write_text("")
        names += ["pipe", "line\nbreak.png"]
    assert predict.main([*names, "seven.png"]) == 1
    captured = capsys.readouterr()
    errors = captured.err.splitlines()
    assert "seven.png: 7 (" in captured.out
    assert len(errors) == len(names)
    assert all(line.startswith("error: ") and "; " in line for line in errors)


@pytest.mark.parametrize("arguments", [[], ["--jso", "x.png"], ["x.png", "--nothing"]])
def test_bad_command_line_is_one_line(arguments, capsys):
    assert predict.main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@needs_weights
def test_a_figure_that_cannot_be_written_is_one_line_after_the_answers(here, capsys):
    (here / "plots").write_text("a file where the folder should be")
    assert predict.main(["seven.png"]) == 1
    captured = capsys.readouterr()
    assert "seven.png: 7 (" in captured.out
    assert captured.err.startswith("error: plots/predictions.png: ")
    assert len(captured.err.splitlines()) == 1


def test_missing_checkpoint_is_one_line(here, capsys):
    assert predict.main(["seven.png", "--checkpoint", "nothing.pt"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: nothing.pt") and len(err.splitlines()) == 1


def mutated(count):
    """Files (bytes) of small pictures, whole, damaged in places, cut short, and random."""
    rng = np.random.default_rng(0)
    for index in range(count):
        size = rng.integers(1, 90, 2)
        noisy = rng.random() < 0.5
        pixels = rng.integers(0, 256, (*size, 3)) if noisy else np.full((*size, 3), 200)
        image, file = Image.fromarray(pixels.astype(np.uint8)), io.BytesIO()
        mode = ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK")[index % 7]
        kind = "JPEG" if mode == "CMYK" else ("PNG", "GIF", "BMP", "WEBP")[index % 4]
        image.convert("L" if kind == "BMP" and mode == "LA" else mode).save(file, kind)
        content = bytearray(file.getvalue())
        for place in rng.integers(0, len(content), index % 5):
            content[place] = rng.integers(256)
        yield bytes(content[: rng.integers(1, len(content))] if index % 6 == 5 else content)


@needs_weights
def test_damaged_pictures_in_little_memory(tmp_path):
    resource = pytest.importorskip("resource", reason="no memory limit here")
    if not hasattr(resource, "RLIMIT_DATA"):
        pytest.skip("no memory limit here")
    for index, content in enumerate(mutated(60)):
        (tmp_path / f"{index:03}.png").write_bytes(content)
    code = (
        "import resource, sys, predict;"
        "resource.setrlimit(resource.RLIMIT_DATA, (1_500_000_000,) * 2);"
        f"sys.exit(predict.main([{str(tmp_path)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    lines = [x for x in (done.stdout + done.stderr).splitlines() if ".png: " in x]
    assert len(lines) == 60


@needs_weights
def test_program_ends_with_its_status(here):
    done = run("seven.png", folder=here)
    assert done.returncode == 0 and "seven.png: 7" in done.stdout and not done.stderr
