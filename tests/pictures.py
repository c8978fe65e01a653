"""Pictures of digits as people make them, drawn in code.

`photographed` makes a photograph of an MNIST-like image (28 x 28). Each of `SCENES` draws a digit
with our own strokes: on the paper, with the pens and in the light that people have. `BLANKS` names
the pictures without a digit, which `blank` makes.
"""

from inspect import signature
from itertools import pairwise
from types import FunctionType

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

# Each digit from 0 on: curves, each through its points x,y, in a box of 100 x 150.
STROKES = """
55,0 12,35 8,100 50,150 90,110 90,40 50,2
35,30 60,0 / 60,0 56,70 54,150
10,35 40,0 80,20 75,65 40,110 5,148 / 5,148 50,145 95,147
10,20 45,0 80,25 70,60 35,70 / 35,70 80,85 85,125 45,150 5,130
40,0 25,45 5,90 / 5,90 50,90 98,87 / 72,35 70,90 67,150
25,5 20,35 17,65 / 17,65 50,52 85,80 80,125 45,150 5,135 / 25,5 55,3 88,2
75,0 30,45 8,100 30,145 70,140 85,105 55,80 12,105
5,8 50,7 92,3 / 92,3 60,70 40,150
75,20 45,0 20,25 50,68 85,110 50,150 13,115 50,68 80,35 72,15
82,25 50,0 15,30 35,68 75,50 83,20 / 83,20 80,80 68,150
"""
INK, DARK, BLUE = (30, 30, 50), (40, 40, 60), (120, 160, 200)


def parsed(strokes):
    """Curves, each a list of points in boxes of 1 x 1.5, of a line of STROKES."""
    curves = [curve.split() for curve in strokes.split("/")]
    return [[tuple(int(n) / 100 for n in p.split(",")) for p in curve] for curve in curves]


CURVES = dict(enumerate(map(parsed, STROKES.strip().splitlines())))


def curve_through(points, steps=16):
    """A smooth curve through points (Catmull-Rom): from N x 2 to (steps * (N - 1) + 1) x 2."""
    points = np.array(points, float)
    p = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    parts = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
        bend, twist = 2 * a - 5 * b + 4 * c - d, 3 * (b - c) + d - a
        parts.append(b + (t * (c - a) + t**2 * bend + t**3 * twist) / 2)
    return np.concatenate([*parts, points[-1:]])


def strokes(digit, size, centre, height, width, generator, gaps=()):
    """Ink (H x W, 0 to 1) of a digit drawn by a round pen `width` pixels wide, a little uneven.

    Other things than digits are drawn from their curves.
    """
    scale, dots = 3, []
    slant, lean = generator.uniform(0.0, 0.2), generator.uniform(-0.06, 0.06)
    for curve in digit if isinstance(digit, list) else CURVES[digit]:
        uneven = np.array(curve) + generator.normal(0, 0.015, (len(curve), 2))
        points = curve_through(uneven) - [0.5, 0.75]  # (0, 0) is now the centre of the box
        x = points[:, 0] - slant * points[:, 1] + lean * points[:, 1]
        points = np.stack([x, points[:, 1]], axis=1) * height / 1.5 + centre
        for index, (a, b) in enumerate(pairwise(points)):
            if not any(low <= index / len(points) < high for low, high in gaps):
                n = max(1, int(np.hypot(*(b - a)) / max(1 / scale, width / 4)))
                dots += [*(a + (b - a) * np.linspace(0, 1, n + 1)[:, None])]
    # Of a large page only the part with ink is drawn.
    left, top = np.clip(np.min(dots, axis=0) - width, 0, size).astype(int)
    right, bottom = np.clip(np.max(dots, axis=0) + width + 1, 0, size).astype(int)
    image = Image.new("L", (scale * (right - left), scale * (bottom - top)))
    draw, r = ImageDraw.Draw(image), width * scale / 2
    for x, y in scale * (np.array(dots) - (left, top)):
        draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    ink = np.zeros(size[::-1], np.float32)
    small = image.resize((right - left, bottom - top), Image.Resampling.BOX)
    ink[top:bottom, left:right] = np.asarray(small, np.float32) / 255
    return ink


def page_of(lines, seed, tilt=0.0, gap=90, size=60):
    """Ink (H x W, 0 to 1) with digits of a pen in lines, and the middle of each."""
    random, ink, middles = np.random.default_rng(seed), [], []
    shape = 100 + gap * max(map(len, lines)), 60 + 110 * len(lines)
    for row, line in enumerate(lines):
        for column, digit in enumerate(line):
            middles.append((80 + gap * column, 75 + 110 * row + tilt * gap * column))
            ink.append(strokes(int(digit), shape, middles[-1], size, 5, random))
    return np.max(ink, axis=0), middles


def grain(generator, size, spot, amount):
    """Paper's grain (H x W x 1, in grey levels): normal noise in spots `spot` pixels wide."""
    small = [max(1, round(n / spot)) for n in size]
    spots = generator.normal(0, amount, (small[1], small[0])).astype(np.float32)
    return np.asarray(Image.fromarray(spots).resize(size, Image.Resampling.BICUBIC))[..., None]


def sheet(size, colour):
    """A sheet (H x W x 3, in grey levels) of one colour."""
    return np.full((size[1], size[0], 3), colour, np.float32)


def inked(page, ink, colour):
    """The page with a colour where there is ink (H x W, 0 to 1)."""
    return page + (np.array(colour, np.float32) - page) * ink[..., None]


def lines(size, period, width, tilt, offset=0.3, upright=False, bend=0.0, fan=0.0):
    """Ink of parallel lines (H x W): tilted, bent as paper bends, fanning out as in perspective."""
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    if upright:
        x, y = y, x
    along = (x - x.mean()) / size[0]
    y = y + tilt * (x - x.mean()) + bend * size[0] * along**2 + fan * along * (y - y.mean())
    away = np.abs((y / period + offset) % 1 - 0.5) * period
    return np.clip(width / 2 + 0.5 - away, 0, 1)


def squared(page, strength, period, tilt, colour):
    """The page with squares on it."""
    for upright in (False, True):
        ink = lines(page.shape[1::-1], period, 2, -tilt if upright else tilt, upright=upright)
        page = inked(page, strength * ink, colour)
    return page


def lit(page, generator, gradient=0.4, vignette=0.0):
    """The page in light that comes from one side and gets weaker towards the corners."""
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, n) for n in page.shape[:2]), indexing="ij")
    angle = generator.uniform(0, 2 * np.pi)
    light = 1 + gradient * (x * np.cos(angle) + y * np.sin(angle)) - vignette * (x * x + y * y) * 2
    return page * light[..., None]


def shaded(page, generator, depth=0.5, soft=0.02):
    """The page with a straight-edged shadow over one side of it."""
    y, x = np.meshgrid(*(np.linspace(-0.5, 0.5, n) for n in page.shape[:2]), indexing="ij")
    angle = generator.uniform(0, 2 * np.pi)
    away = x * np.cos(angle) + y * np.sin(angle) - generator.uniform(-0.1, 0.25)
    return page * (1 - depth / (1 + np.exp(-np.clip(away / soft, -50, 50))))[..., None]


def eight_bits(levels):
    """An image of grey levels or colours (H x W or H x W x 3), cut off at 0 and 255."""
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def picture(page, generator, noise=3.0):
    """The page (H x W x 3) as a camera gives it: with noise, in 8 bits."""
    page = page + grain(generator, page.shape[1::-1], 2, noise)
    page = page + generator.normal(0, noise, page.shape)
    return eight_bits(page)


def photographed(digit, generator):
    """An MNIST image as a picture: 60 to 400 pixels, off-centre, dark on uneven, noisy paper."""
    size = int(generator.integers(60, 401))
    large = Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)
    left, top, right, bottom = (generator.uniform(0, 0.5, 4) * size).astype(int)
    ink = np.zeros((size + top + bottom, size + left + right), np.float32)
    ink[top : top + size, left : left + size] = np.asarray(large, np.float32) / 255
    page = sheet(ink.shape[::-1], generator.uniform(170, 255, 3))
    page = lit(inked(page, ink, generator.uniform(0, 70, 3)), generator, generator.uniform(0, 0.5))
    return picture(page, generator, generator.uniform(0, 8))


# Scenes: each draws a digit with a generator of random numbers


def written(digit, g, page, centre, height, width, colour, light=(), noise=3.0):
    """A photograph of a digit on a page; `light` are a gradient and a vignette."""
    ink = strokes(digit, page.shape[1::-1], centre, height, width, g)
    page = inked(page, ink, colour)
    return picture(lit(page, g, *light) if light else page, g, noise)


def polygon(size, corners):
    """The inside (H x W, 0 or 1) of a polygon."""
    image = Image.new("L", size)
    ImageDraw.Draw(image).polygon(corners, fill=255)
    return np.asarray(image) / 255


def pen_on_squared_paper(digit, g):
    page = sheet((600, 640), (246, 246, 240))
    page = squared(page, 0.6, 40, g.uniform(-0.06, 0.06), BLUE)
    return written(digit, g, page, (310, 320), 330, 8, (30, 35, 70), [0.25])


def pencil_on_squared_paper(digit, g):
    page = squared(sheet((500, 500), (235, 236, 238)), 0.5, 25, 0.02, (140, 160, 190))
    ink = strokes(digit, (500, 500), (240, 255), 260, 5, g) * g.uniform(0.7, 1, (500, 500))
    return picture(lit(inked(page, 0.7 * ink, (90, 90, 95)), g, 0.3), g)


def ballpoint_on_ruled_paper(digit, g):
    size = (700, 500)
    rules = 0.7 * lines(size, 60, 3, 0.05, bend=0.03, fan=0.05)
    page = inked(sheet(size, (250, 250, 245)), rules, (110, 130, 190))
    page = inked(page, 0.8 * lines(size, 2000, 3, 0.04, offset=0.46, upright=True), (220, 90, 90))
    return written(digit, g, page, (400, 250), 240, 7, (25, 40, 130), [0.3])


def digit_between_two_rules(digit, g):
    page = inked(sheet((300, 300), 245), 0.6 * lines((300, 300), 150, 3, 0.03), (120, 120, 160))
    return written(digit, g, page, (150, 150), 150, 8, (30, 30, 30))


def marker_on_whiteboard(digit, g):
    y, x = np.mgrid[:600, :800]
    glare = np.exp(-((x - 620) ** 2 + (y - 120) ** 2) / 90**2)
    page = lit(sheet((800, 600), (225, 228, 232)), g, 0.3)
    page = inked(page, 0.9 * glare, (255, 255, 255))
    ink = strokes(digit, (800, 600), (380, 320), 360, 22, g)
    return picture(inked(page, ink * 0.9, (20, 60, 160)), g, 2)


def chalk_on_board(digit, g):
    size = (640, 480)
    page = sheet(size, (38, 62, 50)) + grain(g, size, 60, 8)
    ink = strokes(digit, size, (320, 240), 300, 18, g)
    ink = ink * np.clip(0.8 + grain(g, size, 2, 0.35)[..., 0], 0, 1)
    return picture(lit(inked(page, ink, (225, 225, 215)), g, 0.5), g, 4)


def phone_with_shadow_and_vignette(digit, g):
    size = (1200, 1600)
    ink = strokes(digit, size, (560, 760), 640, 16, g)
    page = lit(inked(sheet(size, (215, 210, 200)), ink, DARK), g, 0.4, 0.8)
    return picture(shaded(page, g, 0.45, 0.015), g, 6)


def hard_shadow(digit, g):
    ink = strokes(digit, (500, 500), (250, 250), 300, 14, g)
    page = inked(sheet((500, 500), (240, 238, 230)), ink, (30, 30, 40))
    return picture(shaded(page, g, 0.5, 0.003), g)


def typed(digit, size, ground, place, height, colour):
    image = Image.new("RGB", size, ground)
    font = ImageFont.load_default(height)
    ImageDraw.Draw(image).text(place, str(digit), font=font, fill=colour)
    return image


def screenshot(digit, g):
    return typed(digit, (360, 240), "white", (140, 40), 120, (20, 20, 20))


def screenshot_dark_mode(digit, g):
    return typed(digit, (800, 600), (30, 30, 34), (300, 150), 200, (230, 230, 230))


def paint_program(digit, g):
    ink = strokes(digit, (280, 280), (140, 140), 200, 18, g) > 0.5
    return eight_bits(255 * ~ink).convert("1")


def canvas_white_on_black(digit, g):
    return eight_bits(255 * strokes(digit, (280, 280), (150, 130), 190, 20, g))


def thin_pencil(digit, g):
    size = (900, 900)
    ink = strokes(digit, size, (450, 430), 500, 4, g)
    ink = ink * np.clip(0.75 + grain(g, size, 2, 0.25)[..., 0], 0, 1)
    page = inked(sheet(size, (238, 236, 230)) + grain(g, size, 4, 3), 0.6 * ink, (80, 80, 85))
    return picture(lit(page, g, 0.3), g, 3)


def hairline(digit, g):
    return eight_bits(255 - 255 * strokes(digit, (400, 400), (200, 200), 300, 1.2, g))


def transparent(digit, g, level):
    image = np.full((300, 300, 4), level, np.uint8)
    image[..., 3] = 255 * strokes(digit, (300, 300), (150, 150), 220, 16, g)
    return Image.fromarray(image)


def transparent_black(digit, g):
    return transparent(digit, g, 0)


def transparent_white(digit, g):
    return transparent(digit, g, 255)


def sixteen_bit(digit, g):
    ink = strokes(digit, (300, 300), (150, 150), 220, 16, g)
    page = 3900 - 3000 * ink + g.normal(0, 40, ink.shape)
    return Image.fromarray(page.clip(0, 4095).astype(np.uint16))


def palette(digit, g):
    page = sheet((300, 300), (255, 250, 220))
    return written(digit, g, page, (150, 150), 220, 16, (120, 20, 60)).quantize(16)


def sideways_with_exif(digit, g):
    image = written(digit, g, sheet((500, 400), 235), (250, 200), 240, 12, (20, 20, 90), [0.3])
    image = image.transpose(Image.Transpose.ROTATE_90)
    image.getexif()[274] = 6
    return image


def sticky_note(digit, g):
    size = (900, 700)
    page = sheet(size, (120, 85, 60)) + grain(g, size, 20, 10)
    note = polygon(size, [(270, 130), (690, 160), (660, 580), (240, 550)])
    page = inked(page, note, (250, 235, 120))
    return written(digit, g, page, (465, 355), 260, 13, (30, 30, 40), [0.3])


def paper_on_desk(digit, g):
    size = (1000, 800)
    page = sheet(size, (60, 50, 45)) + grain(g, size, 15, 8)
    note = polygon(size, [(120, 60), (930, 90), (890, 760), (80, 720)])
    page = inked(page, note, (225, 225, 222))
    return written(digit, g, page, (500, 400), 380, 14, DARK, [0.4])


def table_edge(digit, g):
    page = sheet((800, 800), (235, 232, 228))
    page[:, :150] = page[640:] = (70, 50, 40)
    return written(digit, g, page, (480, 310), 380, 16, (30, 30, 60), [0.4], 4)


def finger_in_the_corner(digit, g):
    size = (800, 800)
    ink = strokes(digit, size, (420, 380), 420, 14, g)
    finger = Image.new("L", size)
    ImageDraw.Draw(finger).ellipse((-200, 560, 240, 1000), fill=255)
    finger = np.asarray(finger.filter(ImageFilter.GaussianBlur(4))) / 255
    page = inked(inked(sheet(size, (235, 232, 228)), ink, DARK), finger, (190, 130, 110))
    return picture(lit(page, g, 0.3), g, 4)


def receipt(digit, g):
    image = Image.new("L", (400, 700))
    text, font = "ITEM 4.95  x 2 TOTAL 9.90", ImageFont.load_default(20)
    for row in range(8):
        ImageDraw.Draw(image).text((40, 30 + 24 * row), text, font=font, fill=200)
    page = inked(sheet((400, 700), (240, 238, 235)), np.asarray(image) / 255, (70, 70, 80))
    return written(digit, g, page, (200, 450), 300, 10, (20, 30, 120), [0.4])


def fills_the_picture(digit, g):
    ink = strokes(digit, (400, 500), (200, 250), 380, 42, g)
    rows, columns = (np.flatnonzero(ink.any(axis=a)) for a in (1, 0))
    ink = ink[rows[0] + 4 : rows[-1] - 3, columns[0] + 4 : columns[-1] - 3]
    return picture(inked(sheet(ink.shape[::-1], 235), ink, INK), g)


def large_phone_picture(digit, g):
    page = sheet((1000, 750), (200, 196, 188))
    image = written(digit, g, page, (480, 390), 300, 7, (60, 60, 90), [0.5, 0.6], 5)
    return image.resize((4000, 3000))


def broken_strokes(digit, g):
    gaps = [(0.3, 0.36), (0.62, 0.68)]
    ink = strokes(digit, (400, 400), (200, 200), 280, 14, g, gaps)
    return picture(inked(sheet((400, 400), 240), ink, INK), g)


def highlighter_band(digit, g):
    page = sheet((500, 400), 245)
    page[120:290] = (250, 245, 110)
    return written(digit, g, page, (250, 200), 240, 12, INK, [0.3])


def cardboard(digit, g):
    size = (600, 600)
    page = sheet(size, (165, 125, 85)) + grain(g, size, 3, 8) + grain(g, size, 40, 8)
    return written(digit, g, page, (300, 300), 360, 24, (35, 30, 30), [0.4], 4)


def underlined(digit, g):
    page = sheet((500, 500), 240)
    page[400:412, 130:380] = INK
    return written(digit, g, page, (250, 220), 280, 14, INK)


def blurred(digit, g):
    page = sheet((500, 500), 225)
    image = written(digit, g, page, (250, 250), 300, 16, INK, [0.4], 0)
    return image.filter(ImageFilter.GaussianBlur(7))


def through_the_paper(digit, g):
    back = strokes(int(g.integers(10)), (600, 600), (200, 280), 400, 20, g)[:, ::-1]
    page = inked(sheet((600, 600), 238), 0.13 * back, (60, 60, 60))
    return written(digit, g, page, (330, 320), 330, 12, (30, 30, 70), [0.3])


def form_box(digit, g):
    page = sheet((300, 360), 246)
    page[30:330, 30:270] = 60
    page[34:326, 34:266] = 246
    return written(digit, g, page, (150, 180), 190, 10, (20, 20, 110))


def table_cells(digit, g):
    size = (420, 300)
    page = inked(sheet(size, 246), lines(size, 280, 3, 0, offset=0.55), (40, 40, 40))
    page = inked(page, lines(size, 380, 3, 0, offset=0.55, upright=True), (40, 40, 40))
    return written(digit, g, page, (210, 150), 180, 9, (20, 20, 30))


PLAIN = {  # size and colour of a page; the digit's centre, height, stroke, colour; light, noise
    "yellow_pen": [(400, 400), 248, (200, 210), 260, 14, (250, 225, 60), [0.15], 2],
    "light_blue_pen": [(400, 400), 250, (200, 210), 260, 8, (150, 215, 250), [0.2], 2],
    "red_on_green": [(400, 400), (110, 160, 110), (200, 200), 250, 14, (200, 120, 110), [0.2], 2],
    "white_on_red": [(400, 400), (190, 30, 40), (200, 200), 250, 20, (250, 250, 250), [0.3], 2],
    "fat_marker": [(300, 300), 240, (150, 150), 200, 38, (20, 20, 20)],
    "small_in_the_corner": [(1600, 1200), 235, (1380, 180), 130, 9, INK, [0.3], 4],
    "night_shot": [(640, 640), (60, 50, 40), (320, 300), 360, 16, (18, 15, 14), [0.8, 0.5], 4],
    "overexposed": [(640, 640), 262, (320, 300), 360, 16, (190, 190, 205), (), 4],
    "tiny_image": [(40, 48), 250, (21, 22), 28, 3.2, (20, 20, 20), (), 2],
}


def plain(size, colour, *how):
    return lambda digit, g: written(digit, g, sheet(size, colour), *how)


SCENES = {
    name: scene
    for name, scene in globals().items()
    if isinstance(scene, FunctionType) and list(signature(scene).parameters) == ["digit", "g"]
} | {name: plain(*row) for name, row in PLAIN.items()}


def noise(g, *shape):
    return Image.fromarray(g.integers(0, 256, shape, dtype=np.uint8))


BLANKS = {
    "white": lambda g: Image.new("RGB", (400, 300), "white"),
    "black": lambda g: Image.new("L", (400, 300)),
    "black, MNIST's size": lambda g: Image.new("L", (28, 28)),
    "transparent": lambda g: Image.new("RGBA", (400, 300)),
    "one pixel": lambda g: Image.new("L", (1, 1), 7),
    "noise": lambda g: noise(g, 300, 400, 3),
    "strip of noise": lambda g: noise(g, 100, 5),  # a 4 in the eyes of the network
    "grain": lambda g: picture(lit(sheet((400, 300), (220, 214, 200)), g, 0.5, 0.3), g, 6),
    "ruled": lambda g: picture(
        lit(inked(sheet((400, 300), 246), 0.6 * lines((400, 300), 25, 2, 0.03), BLUE), g, 0.3), g
    ),
    "squared": lambda g: picture(
        lit(squared(sheet((400, 300), 246), 0.6, 25, 0.03, BLUE), g, 0.3), g
    ),
}
