"""predict.py: what it prints, writes and draws, and one line for each bad file.

What is read of which picture is tested in tests/handwriting/test_reading.py.
"""

import io
import json
import os
import re
from pathlib import Path

import predict
from handwriting import picture, reading

import numpy as np
import pictures
import pytest
import warm
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(
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


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, with a 7, two pages and a blank picture."""
    monkeypatch.chdir(tmp_path)
    pictures.pen_on_squared_paper(7, np.random.default_rng(0)).save("seven.png")
    number_page("56", "124").save("page.png")
    number_page("2026").save("line.png")
    Image.new("L", (50, 50)).save("blank.png")
    return tmp_path


def test_answers_are_printed_as_they_read_and_drawn(here, capsys):
    assert predict.main(["seven.png", "page.png", "line.png", "blank.png"]) == 0
    captured = capsys.readouterr()
    assert re.fullmatch(
        r"weights: .*handwriting.pt \(.*\)\nseven.png: 7 \(\d+\.\d %\)\npage.png:\n56\n124\n"
        r"line.png: 2026\nblank.png: no digit found\nplots.predictions.png\n",
        captured.out,
    )
    assert not captured.err
    assert [path.name for path in Path("plots").iterdir()] == ["predictions.png"]
    assert Image.open("plots/predictions.png").size[0] > 600


def test_json_has_every_digit_with_its_box_in_the_pictures_own_pixels(here, capsys):
    number_page("47").resize((3000, 1200)).save("large.png")
    assert predict.main(["--json", "large.png", "blank.png", "missing.png"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["threshold"] == reading.SURE and answer["checkpoint"].endswith("handwriting.pt")
    large, blank, missing = answer["results"]
    assert large["text"] == "47" and [one["digit"] for one in large["digits"]] == [4, 7]
    for digit, middle in zip(large["digits"], (600, 1200), strict=True):
        top, left, bottom, right = digit["box"]
        assert abs((top + bottom) / 2 - 600) < 120 and abs((left + right) / 2 - middle) < 120
        assert abs(sum(digit["probabilities"]) - 1) < 1e-4
    assert blank == {"file": "blank.png", "text": "", "digits": []}
    assert "No such file" in missing["error"] and "digits" not in missing


def test_folders_and_patterns_stand_for_the_pictures_in_them(here, capsys):
    (here / "folder").mkdir()
    for name in ("b.jfif", "a.TIF", "notes.txt", "table.csv"):
        Image.new("L", (50, 50)).save(here / "folder" / name, "TIFF" if "T" in name else "JPEG")
    Image.new("L", (50, 50)).save("what?.png")
    names = [str(path) for path in predict.picture_paths(["folder", "[lp]*.png", "what?.png"])]
    files = [os.path.join("folder", name) for name in ("a.TIF", "b.jfif")]
    assert names == [*files, "line.png", "page.png", "what?.png"]
    assert capsys.readouterr().err == "note: folder: 2 other files were passed over\n"
    assert list(predict.picture_paths(["no*.png"])) == [Path("no*.png")]


def test_an_answer_is_printed_before_the_next_picture_is_read(here, capsys, monkeypatch):
    read, printed = picture.read, []

    def noted(path):
        printed.append(capsys.readouterr().out)
        return read(path)

    monkeypatch.setattr(picture, "read", noted)
    assert predict.main(["seven.png", "line.png"]) == 0
    assert "seven.png: 7" in printed[1]


def test_the_first_frame_of_an_animation_is_read_with_a_word(here, capsys):
    blank = Image.new("RGB", (300, 300), "white")
    Image.open("seven.png").save("moving.gif", save_all=True, append_images=[blank])
    assert predict.main(["moving.gif"]) == 0
    assert re.search(r"moving.gif: 7 \(.*\) \(the first of 2 frames\)", capsys.readouterr().out)


def test_weights_that_did_not_learn_to_refuse_say_so(here, capsys):
    best = ROOT / "pretrained" / "lenet5.pt"
    assert predict.main(["seven.png", "--checkpoint", str(best)]) == 0
    assert "trained without --recipe handwriting" in capsys.readouterr().out


def test_labels_tell_how_many_pictures_are_right(here, capsys):
    rows = "page.png,56 124,page\nseven.png,7,digit\nseven.png,1,digit\nblank.png,none,other\n"
    Path("labels.csv").write_text(f"file,label,kind\n{rows}")
    assert predict.main(["--labels", "labels.csv"]) == 0
    lines = [line.split("right")[0].split() for line in capsys.readouterr().out.splitlines()]
    assert [" ".join(words) for words in lines[1:5]] == [
        "page 1 of 1",
        "digit 1 of 2",
        "other 1 of 1",
        "all 3 of 4",
    ]


def test_each_bad_file_is_one_line_and_the_others_are_answered(here, capsys):
    (here / "text.png").write_text("not a picture")
    (here / "cut.png").write_bytes((here / "seven.png").read_bytes()[:3000])
    (here / "empty").mkdir()
    names = ["text.png", "cut.png", "empty", "missing.png", "no*.png"]
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
    ("argv", "status"),
    [
        ([], 2),
        (["x.png", "--labels", "x.csv"], 2),
        (["--jso", "x.png"], 2),
        (["x.png", "--nothing"], 2),
        (["seven.png", "--checkpoint", "nothing.pt"], 1),
    ],
)
def test_a_wrong_command_is_one_line(argv, status, here, capsys):
    assert predict.main(argv) == status
    err = capsys.readouterr().err
    assert err.startswith("error: ") and len(err.splitlines()) == 1


def test_a_figure_that_cannot_be_written_is_one_line_after_the_answers(here, capsys):
    (here / "plots").write_text("a file where the folder should be")
    assert predict.main(["seven.png"]) == 1
    captured = capsys.readouterr()
    assert "seven.png: 7 (" in captured.out
    assert captured.err.startswith("error: plots") and len(captured.err.splitlines()) == 1


def mutated(count):
    """Files (bytes) of small pictures, whole, damaged in places, cut short, and random."""
    rng = np.random.default_rng(0)
    for index in range(count):
        size = rng.integers(1, 90, 2)
        noisy = rng.random() < 0.5
        pixels = rng.integers(0, 256, (*size, 3)) if noisy else np.full((*size, 3), 200)
        image, file = Image.fromarray(pixels.astype(np.uint8)), io.BytesIO()
        mode = ("RGB", "L", "1", "P", "RGBA", "LA", "CMYK")[index % 7]
        kind = "JPEG" if mode == "CMYK" else ("PNG", "GIF", "BMP", "WEBP", "TIFF")[index % 5]
        image.convert("L" if kind == "BMP" and mode == "LA" else mode).save(file, kind)
        content = bytearray(file.getvalue())
        for place in rng.integers(0, len(content), index % 5):
            content[place] = rng.integers(256)
        yield bytes(content[: rng.integers(1, len(content))] if index % 6 == 5 else content)


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


def test_program_ends_with_its_status(here):
    done = warm.run([ROOT / "predict.py", "seven.png"], here)
    assert done.returncode == 0 and "seven.png: 7" in done.stdout and not done.stderr
