"""predict.py: what it prints, writes and draws, and one line for each bad file.

What is read of which picture is tested in tests/training/test_reading.py.
"""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pictures
import pytest
import warm
from PIL import Image

import predict
from handwriting import picture, reading

ROOT = Path(__file__).resolve().parent.parent
needs_weights = pytest.mark.skipif(
    not predict.SHIPPED.exists(), reason="pretrained/handwriting.pt is not there"
)


def number_page(*lines):
    """Digits on white paper, one line of them below the other."""
    random, size = np.random.default_rng(0), (500, 200 * len(lines))
    ink = [
        pictures.strokes(int(digit), size, (100 + 100 * column, 100 + 200 * row), 90, 7, random)
        for row, line in enumerate(lines)
        for column, digit in enumerate(line)
    ]
    return Image.fromarray(np.uint8(255 - 255 * np.max(ink, axis=0)))


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


@needs_weights
def test_prints_the_answer_and_writes_the_figure(here, capsys):
    assert predict.main(["seven.png"]) == 0
    out = capsys.readouterr().out
    assert "handwriting.pt" in out and "seven.png: 7 (" in out and "predictions.png" in out
    assert Image.open("plots/predictions.png").size[0] > 300
    assert [path.name for path in Path("plots").iterdir()] == ["predictions.png"]


@needs_weights
def test_no_digit_is_an_answer_and_not_an_error(here, capsys):
    Image.new("L", (50, 50)).save("blank.png")
    assert predict.main(["blank.png"]) == 0
    captured = capsys.readouterr()
    assert "blank.png: no digit found\n" in captured.out and not captured.err


@needs_weights
def test_a_page_is_printed_as_it_reads(here, capsys):
    number_page("56", "124").save("page.png")
    number_page("2026").save("line.png")
    assert predict.main(["page.png", "line.png"]) == 0
    out = capsys.readouterr().out
    assert "page.png:\n56\n124\n" in out and "line.png: 2026\n" in out
    assert Image.open("plots/predictions.png").size[0] > 600


@needs_weights
def test_json_has_every_digit_with_its_box_in_the_pictures_own_pixels(here, capsys):
    (here / "folder").mkdir()
    Image.new("L", (50, 50)).save(here / "folder" / "blank.png")
    (here / "folder" / "notes.txt").write_text("not a picture")
    large = number_page("47").resize((3000, 1200))
    large.save("large.png")
    assert predict.main(["--json", "large.png", "folder", "missing.png"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["threshold"] == reading.SURE and answer["checkpoint"].endswith("handwriting.pt")
    large, blank, missing = answer["results"]
    assert large["text"] == "47" and [one["digit"] for one in large["digits"]] == [4, 7]
    for digit, middle in zip(large["digits"], (600, 1200), strict=True):
        top, left, bottom, right = digit["box"]
        assert abs((top + bottom) / 2 - 600) < 120 and abs((left + right) / 2 - middle) < 120
        assert abs(sum(digit["probabilities"]) - 1) < 1e-4
    assert blank == {"file": "folder/blank.png", "text": "", "digits": []}
    assert "No such file" in missing["error"] and "digits" not in missing


@needs_weights
def test_the_first_frame_of_an_animation_is_read_with_a_word(here, capsys):
    blank = Image.new("RGB", (300, 300), "white")
    Image.open("seven.png").save("moving.gif", save_all=True, append_images=[blank])
    assert predict.main(["moving.gif"]) == 0
    assert re.search(r"moving.gif: 7 \(.*\) \(the first of 2 frames\)", capsys.readouterr().out)


@needs_weights
def test_weights_that_did_not_learn_to_refuse_say_so(here, capsys):
    best = ROOT / "pretrained" / "lenet5.pt"
    assert predict.main(["seven.png", "--checkpoint", str(best)]) == 0
    assert "trained without --recipe handwriting" in capsys.readouterr().out


@needs_weights
def test_labels_tell_how_many_pictures_are_right(here, capsys):
    number_page("56", "124").save("page.png")
    Image.new("L", (50, 50)).save("blank.png")
    rows = "page.png,56 124,page\nseven.png,7,digit\nseven.png,1,digit\nblank.png,none,other\n"
    Path("labels.csv").write_text(f"file,label,kind\n{rows}")
    assert predict.main(["--labels", "labels.csv"]) == 0
    table = capsys.readouterr().out.splitlines()
    shown = [line.split() for line in table[2:6]]
    assert shown[0] == ["page", "1", "1", "100.00", "%", "100.00", "%"]
    assert shown[1] == ["digit", "2", "1", "50.00", "%", "50.00", "%"]
    assert shown[2] == ["other", "1", "1", "100.00", "%", "-"]
    assert shown[3] == ["all", "4", "3", "75.00", "%", "85.71", "%"]


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


@pytest.mark.parametrize(
    "arguments", [[], ["x.png", "--labels", "x.csv"], ["--jso", "x.png"], ["x.png", "--nothing"]]
)
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
    done = warm.run(["-c", code], tmp_path, path=[ROOT])
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    lines = [x for x in (done.stdout + done.stderr).splitlines() if ".png: " in x]
    assert len(lines) == 60


@needs_weights
def test_program_ends_with_its_status(here):
    done = run("seven.png", folder=here)
    assert done.returncode == 0 and "seven.png: 7" in done.stdout and not done.stderr
