"""predict.py: what it prints, writes and draws, and one line for each bad file.

What is read of which picture is tested in tests/handwriting/test_reading.py.
"""

import io
import json
import os
import re
import runpy
import sys
from pathlib import Path

import predict
from handwriting import picture, reading

import numpy as np
import pictures
import pytest
from helpers import ROOT
from matplotlib.figure import Figure
from PIL import Image


def number_page(*lines):
    """Digits on white paper, one line of them below the other."""
    return pictures.eight_bits(255 - 255 * pictures.page_of(lines, 0)[0])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a 7, an animation that begins with it, two pages and a blank picture."""
    monkeypatch.chdir(tmp_path)
    image = pictures.pen_on_squared_paper(7, np.random.default_rng(0))
    image.save("seven.png")
    image.save("moving.gif", save_all=True, append_images=[Image.new("L", image.size)])
    number_page("56", "124").save("page.png")
    number_page("2026").save("line.png")
    Image.new("L", (50, 50)).save("blank.png")


@pytest.fixture
def undrawn(monkeypatch):
    """The figure of the answers stays unwritten: it takes half a second."""
    monkeypatch.setattr(Figure, "savefig", lambda *_, **options: None)


def test_the_program_prints_answers_as_they_read_and_draws_them(here, monkeypatch, capsys):
    names = ["seven.png", "page.png", "line.png", "blank.png", "moving.gif"]
    monkeypatch.setattr(sys, "argv", ["predict.py", *names])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(predict.__file__, run_name="__main__")
    captured = capsys.readouterr()
    assert re.fullmatch(
        r"weights: .*handwriting.pt \(lenet5, test accuracy 99\.\d\d %\)\n"
        r"seven.png: 7 \(\d+\.\d %\)\npage.png:\n56\n124\n"
        r"line.png: 2026\nblank.png: no digit found\n"
        r"moving.gif: \(the first of 2 frames\) 7 \(\d+\.\d %\)\nplots.predictions.png\n",
        captured.out,
    )
    assert not captured.err
    assert [path.name for path in Path("plots").iterdir()] == ["predictions.png"]
    assert Image.open("plots/predictions.png").size[0] > 600


def test_json_has_every_digit_with_its_box_in_the_pictures_own_pixels(here, undrawn, capsys):
    number_page("47").resize((2800, 1700)).save("large.png")
    assert predict.main(["--json", "large.png", "blank.png", "missing.png"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["threshold"] == reading.SURE and answer["checkpoint"].endswith("handwriting.pt")
    large, blank, missing = answer["results"]
    assert large["text"] == "47" and [one["digit"] for one in large["digits"]] == [4, 7]
    for digit, middle in zip(large["digits"], (800, 1700), strict=True):
        top, left, bottom, right = digit["box"]
        assert abs((top + bottom) / 2 - 750) < 120 and abs((left + right) / 2 - middle) < 120
        assert abs(sum(digit["probabilities"]) - 1) < 1e-4
    assert blank == {"file": "blank.png", "text": "", "digits": []}
    assert "No such file" in missing["error"] and "digits" not in missing


def test_folders_and_patterns_stand_for_the_pictures_in_them(here, capsys):
    Path("folder").mkdir()
    files = [os.path.join("folder", name) for name in ("a.TIF", "b.jfif")]
    for name in (*files, "folder/notes.txt", "folder/table.csv", "what?.png"):
        Path(name).touch()
    names = [str(path) for path in predict.picture_paths(["folder", "[lp]*.png", "what?.png"])]
    assert names == [*files, "line.png", "page.png", "what?.png"]
    assert capsys.readouterr().err == "note: folder: 2 other files were passed over\n"
    for name in ("no*.png", "pag[e].png"):
        assert list(predict.picture_paths([name])) == [Path(name)]


def test_an_answer_is_printed_before_the_next_picture_is_read(here, capsys, monkeypatch):
    """Also where no figure can be drawn of them, which is one line at the end."""
    read, printed = picture.read, []

    def noted(path):
        printed.append(capsys.readouterr().out)
        return read(path)

    monkeypatch.setattr(picture, "read", noted)
    Path("plots").write_text("a file where the folder should be")
    assert predict.main(["seven.png", "line.png"]) == 1
    assert "seven.png: 7" in printed[1]
    captured = capsys.readouterr()
    assert captured.out == "line.png: 2026\n"
    assert captured.err.startswith("error: plots") and captured.err.count("\n") == 1


def test_labels_beside_pictures_tell_how_many_are_right(here, undrawn, capsys):
    rows = "page.png,56 124,page", "seven.png,7,", "seven.png,1,", "line.png,7,", "blank.png,none,x"
    Path("table").mkdir()
    Path("table/labels.csv").write_text("\n../".join(["file,label,kind", *rows]))
    assert predict.main(["--labels", "table/labels.csv"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[1:5]]
    assert lines[:2] == ["page 1 of 1 right 100.00 %", "picture 1 of 3 right 33.33 %"]
    assert lines[2:] == ["x 1 of 1 right 100.00 %", "all 3 of 5 right 60.00 %"]


def test_each_bad_file_is_one_line_and_the_others_are_answered(here, undrawn, capsys):
    """Also with weights that did not learn to refuse, which say so."""
    Path("text.png").write_text("not a picture")
    Path("empty").mkdir()
    names = ["text.png", "empty", "missing.png", "no*.png", "line\nbreak.png"]
    weights = str(ROOT / "pretrained" / "lenet5.pt")
    assert predict.main([*names, "seven.png", "--checkpoint", weights]) == 1
    out, err = capsys.readouterr()
    weights = r"weights: .*\(lenet5, test accuracy 99\.\d\d %, trained without --recipe handwriting"
    assert re.match(weights, out) and "seven.png: 7 (" in out
    errors = err.splitlines()
    assert len(errors) == len(names)
    assert all(line.startswith("error: ") and "; " in line for line in errors)


@pytest.fixture
def little_memory():
    """A limit of the memory, where Linux says how much of it the process has."""
    status = Path("/proc/self/status")
    if not status.exists():
        yield
        return
    import resource

    used = 1024 * int(re.search(r"VmData:\s+(\d+) kB", status.read_text())[1])
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + 670_000_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, limits)


def test_damaged_pictures_in_little_memory(tmp_path, undrawn, monkeypatch, capsys, little_memory):
    """Black ones and noise, whole, with other bytes in places, or cut short."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for number in range(60):
        shape = *random.integers(1, 90, 2), 3
        pixels = random.integers(1 + 255 * (number % 2), size=shape, dtype=np.uint8)
        mode = ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK")[number % 7]
        kind = "JPEG" if mode == "CMYK" else ("PNG", "GIF", "BMP", "WEBP", "TIFF")[number % 5]
        image, file = Image.fromarray(pixels), io.BytesIO()
        image.convert("L" if kind == "BMP" and mode == "LA" else mode).save(file, kind)
        content = bytearray(file.getvalue())
        for place in random.integers(0, len(content), number % 5):
            content[place] = random.integers(256)
        end = random.integers(1, len(content)) if number % 6 == 5 else None
        Path(f"{number}.png").write_bytes(content[:end])
    assert predict.main(["."]) in (0, 1)
    lines = "".join(capsys.readouterr()).splitlines()
    assert len([line for line in lines if ".png: " in line]) == 60
