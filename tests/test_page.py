"""The page in a real browser: its numbers are PyTorch's, and it answers what is drawn."""

import base64
import io
import itertools
import os
import re
import shutil

import export
import predict
from dataset import MNIST, normalize
from digits import synthetic
from handwriting import picture, reading
from model import build
from training.checkpoint import load, network

import numpy as np
import pictures
import pytest
import scenes
import torch
from helpers import ROOT
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Pointer events that the script of the page cannot tell from those of a mouse; they are
# dispatched in the page itself, because a thousand strokes would take minutes otherwise.
REPLAY = """drawings => drawings.map(strokes => {
  const pad = document.getElementById("pad"), box = pad.getBoundingClientRect();
  const send = (kind, [x, y]) => pad.dispatchEvent(new PointerEvent(kind, {
    pointerId: 1,
    clientX: box.x + x * box.width,
    clientY: box.y + y * box.height,
  }));
  pad.setPointerCapture = () => {};
  document.getElementById("clear").click();
  for (const stroke of strokes) {
    send("pointerdown", stroke[0]);
    stroke.slice(1).forEach(point => send("pointermove", point));
    send("pointerup", stroke.at(-1));
  }
  const {image, text} = page.update();
  return {image: [...image], text, picture: pad.toDataURL()};
})"""


@pytest.fixture(scope="module")
def chromium():
    """One headless browser for all tests; skips them where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("no Chromium on this system")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The checkpoint and the written page of each network; the MLP's weights are random."""
    folder, pages = tmp_path_factory.mktemp("pages"), {}
    torch.manual_seed(0)
    torch.save(build("mlp", {}).state_dict(), folder / "mlp.pt")
    for name, checkpoint in {"lenet5": predict.SHIPPED, "mlp": folder / "mlp.pt"}.items():
        path = folder / f"{name}.html"
        assert export.main([str(path), "--checkpoint", str(checkpoint)]) == 0
        pages[name] = checkpoint, path
    return pages


@pytest.fixture
def opened(chromium, files):
    """A function that opens a network's page, as a file and without a connection.

    Whatever is done with the page, its script finds no error and sends no request.
    """
    errors, requests = [], []

    def open_page(name="lenet5", **options):
        page = chromium.new_page(offline=True, **options)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(files[name][1].as_uri())
        return page

    yield open_page
    for context in chromium.contexts:
        context.close()
    assert errors == [] and len(requests) == 1, requests  # that of the page itself


def placed(digit, size=0.6, left=0.3, top=0.2):
    """A digit of tests/pictures.py as strokes: `size` high, its corner at left, top."""
    corner = np.array([left, top])
    return [(np.array(curve) * size / 1.5 + corner).tolist() for curve in pictures.CURVES[digit]]


def draw(page, strokes):
    """Draw strokes (points from 0 to 1, in sides of the paper) with the mouse; gives the answer."""
    box = page.locator("#pad").bounding_box()
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()
    return answer(page)


def answer(page):
    """What the page says: the answer, and how sure it is."""
    page.evaluate("page.update()")
    return page.locator("#answer strong").inner_text(), page.locator("#answer span").inner_text()


def drawn(url):
    """The picture on the paper."""
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))


def ink(page, *points):
    """Whether there is ink at points of the paper."""
    image = drawn(page.evaluate("document.getElementById('pad').toDataURL()"))
    return [image.getpixel((int(x * image.width), int(y * image.height)))[3] > 0 for x, y in points]


RUN = """images => images.map(image =>
  network.run(Float32Array.from(image, pixel => pixel / 255)).map(({values}) => [...values]))"""


@pytest.mark.parametrize("name", ["lenet5", "mlp"])
def test_every_layer_gives_what_pytorch_gives(opened, files, name):
    """For images of MNIST's test set where MNIST_DIR is, generated ones otherwise."""
    images = synthetic.draw(20, seed=7)[0]
    if folder := os.environ.get("MNIST_DIR"):
        images = MNIST(folder, train=False).data[:20]
    layers = export.layers_of(network(load(files[name][0])))
    outputs = opened(name).evaluate(RUN, images.flatten(1).tolist())
    assert [len(values) for values in outputs] == [len(layers)] * 20
    values = normalize(images)
    for number, layer in enumerate(layers):
        with torch.inference_mode():
            values = layer(values)
        pages = torch.tensor([of_image[number] for of_image in outputs])
        assert (pages - values.flatten(1)).abs().max() <= 1e-4, layer


def test_the_page_and_photo_see_the_same_drawing(opened, files):
    """Of each digit in each of three sizes, somewhere on the paper."""
    weights, random = network(load(files["lenet5"][0])), np.random.default_rng(0)
    digits, _ = scenes.hands(test=False)
    drawings = []
    for number, size in zip(range(30), itertools.cycle((0.25, 0.5, 0.8)), strict=False):
        styles, slant = digits[number % 10], [[1, 0], [random.normal(0, 0.2), 1]]
        style = styles[random.integers(len(styles))]
        curves = [pictures.curve_through(random.normal(curve, 0.03)) @ slant for curve in style]
        low, high = np.vstack(curves).min(0), np.vstack(curves).max(0)
        corner, scale = random.uniform(0.05, 0.95 - size, 2), size / (high - low).max()
        drawings.append([((curve - low) * scale + corner).tolist() for curve in curves])
    differences, same = [], []
    for answered in opened().evaluate(REPLAY, drawings):
        rows = reading.read(weights, picture.opaque(drawn(answered["picture"])))
        text = answered["text"]
        same.append(reading.as_text(rows) == ("" if text == "no digit" else text.split()[0]))
        digits = sum(rows, [])
        if len(digits) == 1:
            differences.append(np.abs(digits[0].seen.flatten() / 255 - answered["image"]).mean())
    assert len(differences) >= 0.97 * len(drawings)
    assert np.mean(differences) <= 0.04
    assert np.mean(same) >= 0.97


def test_digits_drawn_small_large_and_in_corners_are_read(opened):
    places = [(0.2, 0.05, 0.05), (0.25, 0.8, 0.7), (0.5, 0.3, 0.2), (0.9, 0.15, 0.05)]
    cases = list(itertools.product(range(10), places))
    answers = opened().evaluate(REPLAY, [placed(digit, *place) for digit, place in cases])
    read = [answer["text"].split()[0] for answer in answers]
    wrong = [(case, text) for case, text in zip(cases, read, strict=True) if text != str(case[0])]
    assert len(wrong) <= 1, wrong


def test_a_digit_is_answered_and_spoken_then_undone_and_cleared(opened):
    """By buttons and by keys; clearing can be undone, too."""
    page = opened()
    spoken = page.locator("[aria-live]")
    assert answer(page) == ("", "")
    before = draw(page, placed(4))
    assert before[0] == "4" and re.fullmatch(r"4 \d+\.\d %", spoken.inner_text())
    page.get_by_role("button", name="Clear").click()
    assert answer(page) == ("", "") and spoken.inner_text() == ""
    assert page.evaluate("page.update().probabilities") == [0] * 10
    page.get_by_role("button", name="Undo").click()
    for key in ("c", "Escape"):
        assert answer(page) == before
        page.keyboard.press(key)
        assert answer(page) == ("", "")
        page.keyboard.press("z")
    images = [page.evaluate("[...page.update().image]")]
    for key in ("z", "Control+z"):
        page.keyboard.press(key)
        images.append(page.evaluate("[...page.update().image]"))
    assert images[0] != images[1] != images[2]


SCRIBBLE = [np.random.default_rng(1).uniform(0.1, 0.9, (25, 2)).tolist()]
NO_DIGITS = [  # what is drawn, and what the answer says before it says that one digit is read
    (SCRIBBLE, r"\d+\.\d % sure, and an answer needs 50\.0 %\."),
    (placed(1, left=0.05) + placed(7, left=0.5), r"\d+\.\d % sure, and .*\."),
    ([[(0.3, 0.6)]], r"A dot is too small to read\."),
]


def test_no_digit_says_what_was_missing_and_moves_nothing(opened):
    page = opened()
    before = page.locator("#legend").bounding_box()
    for strokes, words in NO_DIGITS:
        text, score = draw(page, strokes)
        assert text == "no digit"
        assert re.fullmatch(rf"{words} This page reads one digit at a time\.", score)
        assert page.locator("#legend").bounding_box() == before
        assert ink(page, strokes[0][0]) == [True]
        page.keyboard.press("c")


def test_ink_is_where_the_pen_is_on_the_paper_also_in_a_page_that_is_scaled(opened):
    page = opened()
    draw(page, [[(0.7, 0.2), (0.98, 0.2), (1.2, 0.2), (1.2, 0.8), (0.98, 0.8), (0.7, 0.8)]])
    assert ink(page, (0.97, 0.2), (0.97, 0.8)) == [True, True]
    assert ink(page, (0.7, 0.5), (0.97, 0.5), (0.99, 0.5)) == [False] * 3
    page.keyboard.press("c")
    for style in ("zoom: 0.6", "transform: scale(0.7)", "zoom: 1.5"):
        page.evaluate("style => { document.body.style.cssText = style }", style)
        draw(page, [[(0.2, 0.2), (0.8, 0.9)]])
        assert ink(page, (0.21, 0.21), (0.5, 0.55), (0.79, 0.89)) == [True] * 3, style
        assert ink(page, (0.15, 0.15), (0.85, 0.95)) == [False] * 2, style
        page.keyboard.press("c")


def test_a_finger_draws_and_does_not_scroll(opened):
    page = opened(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    touch = page.context.new_cdp_session(page)

    def swipe(x, start, end):
        for step, y in enumerate(np.linspace(start, end, 12)):
            kind = "touchMove" if step else "touchStart"
            points = [{"x": x, "y": float(y)}]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        page.wait_for_timeout(100)

    box = page.locator("#pad").bounding_box()
    swipe(180, box["y"] + 280, box["y"] + 40)
    assert page.evaluate("scrollY") == 0 and answer(page)[0] == "1"
    swipe(180, 620, 420)  # below the paper, a finger scrolls as anywhere
    assert page.evaluate("scrollY") > 0


@pytest.mark.parametrize(("name", "words"), [("lenet5", "Point at a map"), ("mlp", "Coloured")])
def test_small_screens_show_the_answer_and_the_legend(opened, name, words):
    """The answer above the fold; a narrow screen needs no scrolling sideways."""
    page = opened(name, viewport={"width": 360, "height": 640})
    draw(page, SCRIBBLE)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
    legend = page.locator("#legend").inner_text()
    assert legend.startswith(words) and "oloured squares are weights" in legend
    for width, height in ((853, 480), (853, 400), (1280, 600), (640, 360)):
        page.set_viewport_size({"width": width, "height": height})
        answer(page)
        box = page.locator("#answer span").bounding_box()
        assert box["y"] + box["height"] <= height


def test_a_map_shows_its_kernels_to_the_pointer_and_to_the_keyboard(opened):
    page = opened()
    kernel = "document.querySelector('.kernel').toDataURL()"
    first = page.evaluate(kernel)
    page.get_by_label("Kernels of map 4").first.locator("..").hover()
    page.wait_for_function(f"{kernel} !== {first!r}")
    page.get_by_label("Kernels of map 4").first.press("ArrowRight")
    assert page.get_by_label("Kernels of map 5").first.is_checked()


def test_the_page_in_docs_is_what_the_program_writes_and_needs_no_other_file(files, capsys):
    _, path = files["lenet5"]
    written = (ROOT / "docs" / "index.html").read_bytes()
    assert written == path.read_bytes(), "run python export.py docs/index.html"
    assert export.main([str(path)]) == 0 and path.read_bytes() == written  # it replaces its own
    assert "handwriting.pt" in capsys.readouterr().out
    text = written.decode()
    assert "LeNet-5, 44,426 parameters, test accuracy 99." in text and "{{" not in text
    assert "http:" not in text and "https:" not in text and "url(" not in text
    assert len(written) <= 450_000
    assert len(export.TEMPLATE.read_text(encoding="utf-8").splitlines()) <= 475
