"""What is read of pictures as people make them: every digit in its row, and no other."""

import itertools
import os
from functools import partial

import predict
from dataset import MNIST, normalize
from digits import synthetic
from handwriting import nondigits, picture, reading
from training.checkpoint import load, network

import numpy as np
import pictures
import pytest
import torch
from pictures import eight_bits, page_of
from PIL import Image, ImageDraw, ImageOps
from scipy import ndimage


@pytest.fixture(scope="module")
def weights():
    """The shipped network."""
    return network(load(predict.SHIPPED))


def text(weights, image):
    """What is read of a picture."""
    page = picture.opaque(ImageOps.exif_transpose(image))
    return reading.as_text(reading.read(weights, page)).replace(" ", "")


def test_photographed_digits_are_read_as_well_as_plain_ones(weights):
    """MNIST's where MNIST_DIR is, drawn ones otherwise."""
    if folder := os.environ.get("MNIST_DIR"):
        test_set = MNIST(folder, train=False)
        images, labels = test_set.data[:40], test_set.targets[:40]
    else:
        images, labels = synthetic.draw(40, 5, unrest=0.5)
    with torch.inference_mode():
        plain = weights(normalize(images)).argmax(1) != labels
    wrong = 0
    for number, (image, label) in enumerate(zip(images.numpy(), labels.tolist(), strict=True)):
        page = pictures.photographed(image, np.random.default_rng([1, number]))
        wrong += text(weights, page) != str(label)
    assert wrong <= plain.sum() + 1  # so few pictures: coarse


@pytest.mark.parametrize("scene", ["paper_on_desk", "fills_the_picture"])
def test_pictures_whose_ground_misleads(scene, weights):
    drawn = [pictures.SCENES[scene](n, np.random.default_rng([1, n])) for n in range(10)]
    assert sum(text(weights, image) == str(digit) for digit, image in enumerate(drawn)) >= 8


def on_paper(ink, seed, rules=False):
    """A photograph of ink: grain, light from the side, and perhaps blue rules."""
    random = np.random.default_rng(seed)
    height, width = ink.shape
    paper = np.full((height, width), 225.0)
    if rules:
        paper[20::37] = 150
    paper *= np.linspace(0.75, 1, width)
    page = paper * (1 - 0.8 * ink) + random.normal(0, 3, ink.shape)
    return eight_bits(page)


def letters():
    page = Image.new("L", (700, 300), 255)
    for number, letter in enumerate(nondigits.draw(12, 13)):
        place = 30 + 110 * (number % 6), 30 + 130 * (number // 6)
        page.paste(Image.fromarray(255 - letter.numpy()).resize((90, 90)), place)
    return page


PICTURES = {  # what draws it, what is read of it
    "a tilted line": (lambda: on_paper(page_of(["1234567"], 5, tilt=0.12)[0], 6), "1234567"),
    "white on black": (lambda: eight_bits(255 * page_of(["204", "68"], 7)[0]), "204\n68"),
    "a page of letters": (letters, ""),
}
for name, draw in pictures.BLANKS.items():
    PICTURES[name] = partial(draw, np.random.default_rng(0)), ""
for number, (name, draw) in enumerate(pictures.SCENES.items()):
    digit = number % 10
    PICTURES[name] = partial(draw, digit, np.random.default_rng([0, digit])), str(digit)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_as_people_make_them(name, weights):
    draw, digits = PICTURES[name]
    assert text(weights, draw()) == digits


LINES = ["5328", "794", "616"], ["0123456789"], ["31", "46", "59"], ["7", "2", "9"], ["47", "90"]


@pytest.mark.parametrize("rules", [False, True], ids=["plain", "ruled"])
@pytest.mark.parametrize("lines", LINES, ids=" ".join)
def test_every_digit_is_read_in_its_row_with_its_box(lines, rules, weights):
    ink, middles = page_of(lines, 1)
    page = picture.opaque(on_paper(ink, 2, rules))
    rows = reading.read(weights, page)
    assert reading.as_text(rows).replace(" ", "").split() == lines
    for digit, (x, y) in zip(sum(rows, []), middles, strict=True):
        top, left, bottom, right = digit.box * max(ink.shape) / max(page.size)
        assert abs((top + bottom) / 2 - y) < 12 and abs((left + right) / 2 - x) < 12


def test_a_page_of_sixty_digits_is_read(weights):
    lines = ["".join(str((row + column) % 10) for column in range(10)) for row in range(6)]
    read = text(weights, on_paper(page_of(lines, 3)[0], 4)).split()
    assert len(read) == 6 and all(len(row) == 10 for row in read)
    pairs = zip("".join(read), "".join(lines), strict=True)
    assert sum(a == b for a, b in pairs) >= 57


def boxed(x, y, width=6, length=10, digit=1):
    """A digit at a place, 10 pixels high; one without a length is a mark."""
    probabilities = np.eye(10)[digit]
    box, sureness = np.array([y, x, y + 10, x + width]), float(length > 0)
    return reading.Digit(box, np.zeros((28, 28)), probabilities, sureness, length)


@pytest.mark.parametrize(
    ("digits", "text"),
    [
        ([boxed(0, 0), boxed(9, 1, digit=4), boxed(30, 1)], "14 1"),  # wider than a digit is high
        ([boxed(0, 0, digit=3), boxed(8, 4, 2, 0), boxed(12, 0)], "3?1"),
        ([boxed(0, 3, 5, 0), boxed(9, 0, digit=4)], "?4"),
        ([boxed(0, 0, digit=5), boxed(2, 1, 4, 0), boxed(12, 0)], "51"),  # a part of the 5
        ([boxed(0, 0), boxed(60, 0, 5, 0)], "1"),  # far away
        ([boxed(0, 0)._replace(sureness=reading.SURE - 0.01)], ""),
        ([], ""),
    ],
)
def test_gaps_are_spaces_and_marks_between_digits_are_no_digits(digits, text):
    assert reading.as_text(reading.in_rows(digits)) == text


@pytest.mark.parametrize(
    "rows",
    [
        [[boxed(x, y) for x in (0, 20, 40)] for y in (0, 14, 28)],
        [[boxed(20 * n, 3 * n + y) for n in range(10)] for y in (0, 15)],  # of a tilted page
        [],
    ],
)
def test_rows_go_from_the_top_and_each_from_the_left(rows):
    digits = sum(rows, [])
    order = np.random.default_rng(0).permutation(len(digits))
    read = reading.in_rows([digits[number] for number in order])
    assert [list(map(id, row)) for row in read] == [list(map(id, row)) for row in rows]


def test_mnist_image_passes_unchanged(weights):
    digit = np.zeros((28, 28), np.uint8)
    digit[4:24, 11:17] = np.arange(120, dtype=np.uint8).reshape(20, 6) + 100
    digit = np.roll(digit, round(14 - np.average(np.arange(28), weights=digit.sum(axis=1))), 0)
    (shape,) = reading.Reader(weights, weights).read(picture.opaque(Image.fromarray(digit)))
    assert (shape.seen == digit).all()


class Counted(torch.nn.Module):
    """A network that is sure of every shape, or of none, and counts what it is asked."""

    def __init__(self, sure):
        super().__init__()
        self.sure, self.calls, self.images = sure, 0, 0

    def forward(self, images):
        self.calls, self.images = self.calls + 1, self.images + len(images)
        return torch.eye(10)[torch.full((len(images),), 8)] * (20.0 if self.sure else 0.0)


def print_of(random):
    page = Image.new("L", (800, 900), 255)
    for row in range(40):
        text = "the quick brown fox jumps over the lazy dog " * 2
        ImageDraw.Draw(page).text((10, 20 + 21 * row), text, fill=0, font_size=18)
    return page


def foliage(random):
    leaves = [pictures.grain(random, (900, 700), spot, spot**0.5) for spot in (3, 9, 27, 81)]
    return eight_bits(128 + 20 * sum(leaves)[..., 0])


PAGES = {
    "noise": lambda random: pictures.noise(random, 800, 800),
    "foliage": foliage,
    "specks": lambda random: eight_bits(
        255 * ndimage.minimum_filter(random.random((700, 900)) > 0.02, 3)
    ),
    "print": print_of,
    "stripes": lambda random: eight_bits(255 * (np.indices((600, 600)).sum(0) % 30 > 9)),
    "strip": lambda random: pictures.noise(random, 8, 960),
    "rings": lambda random: eight_bits(255 * (np.hypot(*(np.indices((700, 700)) - 350)) % 24 > 8)),
}


@pytest.mark.parametrize("sure", [True, False])
@pytest.mark.parametrize("name", PAGES)
def test_the_work_for_any_picture_is_bounded(name, sure):
    network = Counted(sure)
    reading.read(network, picture.opaque(PAGES[name](np.random.default_rng(0))), network)
    assert network.calls <= 50 and network.images <= 3 * reading.MOST_PIECES


def test_a_judge_decides_what_is_a_digit_and_the_network_which(weights):
    ink, _ = page_of(["1"], 14)
    page = picture.opaque(on_paper(ink, 15))
    assert reading.as_text(reading.read(Counted(sure=True), page, weights)) == "8"
    assert reading.as_text(reading.read(weights, page, Counted(sure=False))) == ""


def test_digits_that_touch_are_cut_or_refused_and_never_one_wrong_digit(weights):
    cut = 0
    for first, second in itertools.product("0235689", repeat=2):
        ink, _ = page_of(["1", first + second, "1"], 10, gap=38, size=70)
        read = text(weights, on_paper(ink, 11)).split("\n")
        cut += read == ["1", first + second, "1"]
        assert all(len(row) != 1 or row in "1?" for row in read), (first + second, read)
    assert cut >= 25  # of 49


@pytest.mark.parametrize(
    ("tops", "bottoms", "expected"),
    [((30, 25), (130, 125), True), ((27, 61), (150, 147), False), ((65, 30), (184, 115), False)],
    ids=["two digits", "loop and tail", "stem and arm"],
)
def test_the_pieces_of_a_shape_are_about_as_high_as_each_other(tops, bottoms, expected):
    boxes = [np.array([top, 0, bottom, 90]) for top, bottom in zip(tops, bottoms, strict=True)]
    pieces = [reading.Digit(box, np.empty(0), np.empty(0), 1, 1) for box in boxes]
    assert reading.are_side_by_side(pieces) is expected


def test_letters_and_signs_that_were_never_learned_are_mostly_refused(weights):
    images = nondigits.draw(50, 12, use="test")
    pages = [Image.fromarray(255 - image.numpy()).resize((140, 140)) for image in images]
    assert sum(text(weights, page) == "" for page in pages) >= 38  # of 50


def test_letters_and_signs_of_other_fonts_are_mostly_refused(weights, monkeypatch):
    monkeypatch.setattr(nondigits, "FONTS", ("DejaVuSansMono", "DejaVuSerif-BoldItalic"))
    images = nondigits.prints(500, np.random.default_rng(0))
    sureness = weights(normalize(images)).softmax(1).amax(1)
    assert (sureness < reading.SURE).sum() >= 450


def test_a_word_beside_a_number_is_marked_and_the_number_is_read(weights):
    ink, _ = page_of(["1234"], 14)
    page = on_paper(ink, 15)
    ImageDraw.Draw(page).line([(20, 50), (30, 95), (40, 50), (50, 95), (60, 50)], fill=40, width=5)
    assert text(weights, page).replace("?", "")[-3:] == "234"
