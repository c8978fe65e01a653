"""Pictures of digits as people make them, drawn in code.

`photographed` makes a photograph of an MNIST-like image (28 x 28). Each of `SCENES` draws a digit
with our own strokes: on the paper, with the pens and in the light that people have. `BLANKS` names
the pictures without a digit, which `blank` makes.
"""

from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

# Each digit: curves, each through its points (x, y), in a box 1 wide and 1.5 high.
CURVES = {
    0: [[(0.55, 0), (0.12, 0.35), (0.08, 1), (0.5, 1.5), (0.9, 1.1), (0.9, 0.4), (0.5, 0.02)]],
    1: [[(0.35, 0.3), (0.6, 0)], [(0.6, 0), (0.56, 0.7), (0.54, 1.5)]],
    2: [
        [(0.1, 0.35), (0.4, 0), (0.8, 0.2), (0.75, 0.65), (0.4, 1.1), (0.05, 1.48)],
        [(0.05, 1.48), (0.5, 1.45), (0.95, 1.47)],
    ],
    3: [
        [(0.1, 0.2), (0.45, 0), (0.8, 0.25), (0.7, 0.6), (0.35, 0.7)],
        [(0.35, 0.7), (0.8, 0.85), (0.85, 1.25), (0.45, 1.5), (0.05, 1.3)],
    ],
    4: [
        [(0.4, 0), (0.25, 0.45), (0.05, 0.9)],
        [(0.05, 0.9), (0.5, 0.9), (0.98, 0.87)],
        [(0.72, 0.35), (0.7, 0.9), (0.67, 1.5)],
    ],
    5: [
        [(0.25, 0.05), (0.2, 0.35), (0.17, 0.65)],
        [(0.17, 0.65), (0.5, 0.52), (0.85, 0.8), (0.8, 1.25), (0.45, 1.5), (0.05, 1.35)],
        [(0.25, 0.05), (0.55, 0.03), (0.88, 0.02)],
    ],
    6: [
        [
            (0.75, 0),
            (0.3, 0.45),
            (0.08, 1),
            (0.3, 1.45),
            (0.7, 1.4),
            (0.85, 1.05),
            (0.55, 0.8),
            (0.12, 1.05),
        ]
    ],
    7: [[(0.05, 0.08), (0.5, 0.07), (0.92, 0.03)], [(0.92, 0.03), (0.6, 0.7), (0.4, 1.5)]],
    8: [
        [
            (0.75, 0.2),
            (0.45, 0),
            (0.2, 0.25),
            (0.5, 0.68),
            (0.85, 1.1),
            (0.5, 1.5),
            (0.13, 1.15),
            (0.5, 0.68),
            (0.8, 0.35),
            (0.72, 0.15),
        ]
    ],
    9: [
        [(0.82, 0.25), (0.5, 0), (0.15, 0.3), (0.35, 0.68), (0.75, 0.5), (0.83, 0.2)],
        [(0.83, 0.2), (0.8, 0.8), (0.68, 1.5)],
    ],
}


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
    """Ink (H x W, 0 to 1) of a digit drawn by a round pen `width` pixels wide, a little uneven."""
    scale = 3
    image = Image.new("L", (size[0] * scale, size[1] * scale))
    draw = ImageDraw.Draw(image)
    slant, lean = generator.uniform(0.0, 0.2), generator.uniform(-0.06, 0.06)
    for curve in CURVES[digit]:
        uneven = np.array(curve) + generator.normal(0, 0.015, (len(curve), 2))
        points = curve_through(uneven) - [0.5, 0.75]  # (0, 0) is now the centre of the box
        x = points[:, 0] - slant * points[:, 1] + lean * points[:, 1]
        points = (np.stack([x, points[:, 1]], axis=1) * height / 1.5 + centre) * scale
        r = width * scale / 2
        for index, (a, b) in enumerate(pairwise(points)):
            if any(low <= index / len(points) < high for low, high in gaps):
                continue
            n = max(1, int(np.hypot(*(b - a)) / max(1, r / 2)))
            for x, y in a + (b - a) * np.linspace(0, 1, n + 1)[:, None]:
                draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return np.asarray(image.resize(size, Image.Resampling.BOX), np.float32) / 255


def grain(generator, size, spot, amount):
    """Paper's grain (H x W, in grey levels): normal noise in spots `spot` pixels wide."""
    small = [max(1, round(n / spot)) for n in size]
    spots = generator.normal(0, amount, (small[1], small[0])).astype(np.float32)
    return np.asarray(Image.fromarray(spots).resize(size, Image.Resampling.BICUBIC))


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


def picture(page, generator, noise=3.0):
    """The page (H x W x 3) as a camera gives it: with noise, in 8 bits."""
    page = page + grain(generator, page.shape[1::-1], 2, noise)[..., None]
    page = page + generator.normal(0, noise, page.shape)
    return Image.fromarray(page.clip(0, 255).astype(np.uint8))


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


def pen_on_squared_paper(digit, g):
    size = (600, 640)
    page = sheet(size, (246, 246, 240))
    tilt = g.uniform(-0.06, 0.06)
    for upright in (False, True):
        page = inked(
            page,
            0.6 * lines(size, 40, 2, -tilt if upright else tilt, upright=upright),
            (120, 160, 200),
        )
    ink = strokes(digit, size, (310, 320), 330, 8, g)
    return picture(lit(inked(page, ink, (30, 35, 70)), g, 0.25), g)


def pencil_on_squared_paper(digit, g):
    size = (500, 500)
    page = sheet(size, (235, 236, 238))
    for upright in (False, True):
        page = inked(
            page,
            0.5 * lines(size, 25, 2, 0.02 * (1 - 2 * upright), upright=upright),
            (140, 160, 190),
        )
    ink = strokes(digit, size, (240, 255), 260, 5, g) * g.uniform(0.7, 1, size[::-1])
    return picture(lit(inked(page, 0.7 * ink, (90, 90, 95)), g, 0.3), g)


def ballpoint_on_ruled_paper(digit, g):
    size = (700, 500)
    page = sheet(size, (250, 250, 245))
    page = inked(page, 0.7 * lines(size, 60, 3, 0.05, bend=0.03, fan=0.05), (110, 130, 190))
    page = inked(page, 0.8 * lines(size, 2000, 3, 0.04, offset=0.46, upright=True), (220, 90, 90))
    ink = strokes(digit, size, (400, 250), 240, 7, g)
    return picture(lit(inked(page, ink, (25, 40, 130)), g, 0.3), g)


def digit_between_two_rules(digit, g):
    size = (300, 300)
    page = inked(sheet(size, 245), 0.6 * lines(size, 150, 3, 0.03), (120, 120, 160))
    ink = strokes(digit, size, (150, 150), 150, 8, g)
    return picture(inked(page, ink, (30, 30, 30)), g)


def marker_on_whiteboard(digit, g):
    size = (800, 600)
    page = sheet(size, (225, 228, 232))
    y, x = np.mgrid[:600, :800]
    glare = np.exp(-((x - 620) ** 2 + (y - 120) ** 2) / 90**2)
    page = inked(lit(page, g, 0.3), 0.9 * glare, (255, 255, 255))
    ink = strokes(digit, size, (380, 320), 360, 22, g)
    return picture(inked(page, ink * 0.9, (20, 60, 160)), g, 2)


def chalk_on_board(digit, g):
    size = (640, 480)
    page = sheet(size, (38, 62, 50)) + grain(g, size, 60, 8)[..., None]
    ink = strokes(digit, size, (320, 240), 300, 18, g)
    ink = ink * np.clip(0.8 + grain(g, size, 2, 0.35), 0, 1)
    return picture(lit(inked(page, ink, (225, 225, 215)), g, 0.5), g, 4)


def phone_with_shadow_and_vignette(digit, g):
    size = (1200, 1600)
    page = sheet(size, (215, 210, 200))
    page = inked(page, strokes(digit, size, (560, 760), 640, 16, g), (40, 40, 60))
    return picture(shaded(lit(page, g, 0.4, 0.8), g, 0.45, 0.015), g, 6)


def hard_shadow(digit, g):
    size = (500, 500)
    page = inked(
        sheet(size, (240, 238, 230)), strokes(digit, size, (250, 250), 300, 14, g), (30, 30, 40)
    )
    return picture(shaded(page, g, 0.5, 0.003), g)


def screenshot(digit, g):
    image = Image.new("RGB", (360, 240), "white")
    font = ImageFont.load_default(120)
    ImageDraw.Draw(image).text((140, 40), str(digit), font=font, fill=(20, 20, 20))
    return image


def screenshot_dark_mode(digit, g):
    image = Image.new("RGB", (800, 600), (30, 30, 34))
    font = ImageFont.load_default(200)
    ImageDraw.Draw(image).text((300, 150), str(digit), font=font, fill=(230, 230, 230))
    return image


def paint_program(digit, g):
    ink = strokes(digit, (280, 280), (140, 140), 200, 18, g) > 0.5
    return Image.fromarray(np.uint8(~ink) * 255).convert("1")


def canvas_white_on_black(digit, g):
    ink = strokes(digit, (280, 280), (150, 130), 190, 20, g)
    return Image.fromarray(np.uint8(ink * 255))


def yellow_pen(digit, g):
    size = (400, 400)
    page = inked(sheet(size, 248), strokes(digit, size, (200, 210), 260, 14, g), (250, 225, 60))
    return picture(lit(page, g, 0.15), g, 2)


def light_blue_pen(digit, g):
    size = (400, 400)
    page = inked(sheet(size, 250), strokes(digit, size, (200, 210), 260, 8, g), (150, 215, 250))
    return picture(lit(page, g, 0.2), g, 2)


def red_on_green(digit, g):
    size = (400, 400)
    page = inked(
        sheet(size, (110, 160, 110)), strokes(digit, size, (200, 200), 250, 14, g), (200, 120, 110)
    )
    return picture(lit(page, g, 0.2), g, 2)


def white_on_red(digit, g):
    size = (400, 400)
    page = inked(
        sheet(size, (190, 30, 40)), strokes(digit, size, (200, 200), 250, 20, g), (250, 250, 250)
    )
    return picture(lit(page, g, 0.3), g, 2)


def thin_pencil(digit, g):
    size = (900, 900)
    ink = strokes(digit, size, (450, 430), 500, 4, g) * np.clip(
        0.75 + grain(g, size, 2, 0.25), 0, 1
    )
    page = inked(
        sheet(size, (238, 236, 230)) + grain(g, size, 4, 3)[..., None], 0.6 * ink, (80, 80, 85)
    )
    return picture(lit(page, g, 0.3), g, 3)


def hairline(digit, g):
    ink = strokes(digit, (400, 400), (200, 200), 300, 1.2, g)
    return Image.fromarray(np.uint8(255 - ink * 255))


def fat_marker(digit, g):
    size = (300, 300)
    return picture(
        inked(sheet(size, 240), strokes(digit, size, (150, 150), 200, 38, g), (20, 20, 20)), g
    )


def transparent_black(digit, g):
    ink = strokes(digit, (300, 300), (150, 150), 220, 16, g)
    image = np.zeros((300, 300, 4), np.uint8)
    image[..., 3] = ink * 255
    return Image.fromarray(image)


def transparent_white(digit, g):
    ink = strokes(digit, (300, 300), (150, 150), 220, 16, g)
    image = np.full((300, 300, 4), 255, np.uint8)
    image[..., 3] = ink * 255
    return Image.fromarray(image)


def sixteen_bit(digit, g):
    ink = strokes(digit, (300, 300), (150, 150), 220, 16, g)
    page = 3900 - 3000 * ink + g.normal(0, 40, ink.shape)
    return Image.fromarray(page.clip(0, 4095).astype(np.uint16))


def palette(digit, g):
    ink = strokes(digit, (300, 300), (150, 150), 220, 16, g)
    return picture(inked(sheet((300, 300), (255, 250, 220)), ink, (120, 20, 60)), g).quantize(16)


def sideways_with_exif(digit, g):
    size = (500, 400)
    page = inked(sheet(size, 235), strokes(digit, size, (250, 200), 240, 12, g), (20, 20, 90))
    image = picture(lit(page, g, 0.3), g).transpose(Image.Transpose.ROTATE_90)
    image.getexif()[274] = 6
    return image


def sticky_note(digit, g):
    size = (900, 700)
    page = sheet(size, (120, 85, 60)) + grain(g, size, 20, 10)[..., None]
    note = Image.new("L", size)
    ImageDraw.Draw(note).polygon([(270, 130), (690, 160), (660, 580), (240, 550)], fill=255)
    page = inked(page, np.asarray(note) / 255, (250, 235, 120))
    page = inked(page, strokes(digit, size, (465, 355), 260, 13, g), (30, 30, 40))
    return picture(lit(page, g, 0.3), g)


def paper_on_desk(digit, g):
    size = (1000, 800)
    page = sheet(size, (60, 50, 45)) + grain(g, size, 15, 8)[..., None]
    note = Image.new("L", size)
    ImageDraw.Draw(note).polygon([(120, 60), (930, 90), (890, 760), (80, 720)], fill=255)
    page = inked(page, np.asarray(note) / 255, (225, 225, 222))
    page = inked(page, strokes(digit, size, (500, 400), 380, 14, g), (40, 40, 60))
    return picture(lit(page, g, 0.4), g)


def table_edge(digit, g):
    size = (800, 800)
    page = sheet(size, (235, 232, 228))
    page[:, :150] = (70, 50, 40)
    page[640:] = (70, 50, 40)
    page = inked(page, strokes(digit, size, (480, 310), 380, 16, g), (30, 30, 60))
    return picture(lit(page, g, 0.4), g, 4)


def finger_in_the_corner(digit, g):
    size = (800, 800)
    page = inked(
        sheet(size, (235, 232, 228)), strokes(digit, size, (420, 380), 420, 14, g), (40, 40, 60)
    )
    finger = Image.new("L", size)
    ImageDraw.Draw(finger).ellipse((-200, 560, 240, 1000), fill=255)
    page = inked(
        page, np.asarray(finger.filter(ImageFilter.GaussianBlur(4))) / 255, (190, 130, 110)
    )
    return picture(lit(page, g, 0.3), g, 4)


def receipt(digit, g):
    size = (400, 700)
    image = Image.new("L", size)
    draw = ImageDraw.Draw(image)
    for row in range(8):
        draw.text(
            (40, 30 + 24 * row),
            "ITEM 4.95  x 2 TOTAL 9.90",
            font=ImageFont.load_default(20),
            fill=200,
        )
    page = inked(sheet(size, (240, 238, 235)), np.asarray(image) / 255, (70, 70, 80))
    page = inked(page, strokes(digit, size, (200, 450), 300, 10, g), (20, 30, 120))
    return picture(lit(page, g, 0.4), g)


def small_in_the_corner(digit, g):
    size = (1600, 1200)
    page = inked(sheet(size, 235), strokes(digit, size, (1380, 180), 130, 9, g), (30, 30, 50))
    return picture(lit(page, g, 0.3), g, 4)


def fills_the_picture(digit, g):
    ink = strokes(digit, (400, 500), (200, 250), 380, 42, g)
    rows, columns = (np.flatnonzero(ink.any(axis=a)) for a in (1, 0))
    ink = ink[rows[0] + 4 : rows[-1] - 3, columns[0] + 4 : columns[-1] - 3]
    return picture(inked(sheet(ink.shape[::-1], 235), ink, (30, 30, 50)), g)


def large_phone_picture(digit, g):
    size = (1000, 750)
    page = inked(
        sheet(size, (200, 196, 188)), strokes(digit, size, (480, 390), 300, 7, g), (60, 60, 90)
    )
    return picture(lit(page, g, 0.5, 0.6), g, 5).resize((4000, 3000))


def broken_strokes(digit, g):
    size = (400, 400)
    ink = strokes(digit, size, (200, 200), 280, 14, g, gaps=[(0.3, 0.36), (0.62, 0.68)])
    return picture(inked(sheet(size, 240), ink, (30, 30, 50)), g)


def highlighter_band(digit, g):
    size = (500, 400)
    page = sheet(size, 245)
    page[120:290] = (250, 245, 110)
    page = inked(page, strokes(digit, size, (250, 200), 240, 12, g), (30, 30, 50))
    return picture(lit(page, g, 0.3), g)


def cardboard(digit, g):
    size = (600, 600)
    page = (
        sheet(size, (165, 125, 85))
        + grain(g, size, 3, 8)[..., None]
        + grain(g, size, 40, 8)[..., None]
    )
    page = inked(page, strokes(digit, size, (300, 300), 360, 24, g), (35, 30, 30))
    return picture(lit(page, g, 0.4), g, 4)


def night_shot(digit, g):
    size = (640, 640)
    page = inked(
        sheet(size, (60, 50, 40)), strokes(digit, size, (320, 300), 360, 16, g), (18, 15, 14)
    )
    return picture(lit(page, g, 0.8, 0.5), g, 4)


def overexposed(digit, g):
    size = (640, 640)
    page = inked(sheet(size, 262), strokes(digit, size, (320, 300), 360, 16, g), (190, 190, 205))
    return picture(page, g, 4)


def underlined(digit, g):
    size = (500, 500)
    ink = strokes(digit, size, (250, 220), 280, 14, g)
    ink[400:412, 130:380] = 1
    return picture(inked(sheet(size, 240), ink, (30, 30, 50)), g)


def blurred(digit, g):
    size = (500, 500)
    page = inked(sheet(size, 225), strokes(digit, size, (250, 250), 300, 16, g), (30, 30, 50))
    return picture(lit(page, g, 0.4), g, 0).filter(ImageFilter.GaussianBlur(7))


def through_the_paper(digit, g):
    size = (600, 600)
    page = sheet(size, 238)
    back = strokes(int(g.integers(10)), size, (200, 280), 400, 20, g)[:, ::-1]
    page = inked(page, 0.13 * back, (60, 60, 60))
    page = inked(page, strokes(digit, size, (330, 320), 330, 12, g), (30, 30, 70))
    return picture(lit(page, g, 0.3), g)


def tiny_image(digit, g):
    ink = strokes(digit, (40, 48), (21, 22), 28, 3.2, g)
    return picture(inked(sheet((40, 48), 250), ink, (20, 20, 20)), g, 2)


def form_box(digit, g):
    size = (300, 360)
    ink = strokes(digit, size, (150, 180), 190, 10, g)
    box = np.zeros_like(ink)
    box[30:330, 30:270] = 1
    box[34:326, 34:266] = 0
    return picture(inked(inked(sheet(size, 246), box, (60, 60, 60)), ink, (20, 20, 110)), g)


def table_cells(digit, g):
    size = (420, 300)
    page = inked(sheet(size, 246), lines(size, 280, 3, 0, offset=0.55), (40, 40, 40))
    page = inked(page, lines(size, 380, 3, 0, offset=0.55, upright=True), (40, 40, 40))
    return picture(inked(page, strokes(digit, size, (210, 150), 180, 9, g), (20, 20, 30)), g)


def blank(name, g):
    """A picture without a digit."""
    size = (400, 300)
    if name == "white":
        return Image.new("RGB", size, "white")
    if name == "black":
        return Image.new("L", size)
    if name == "black, MNIST's size":
        return Image.new("L", (28, 28))
    if name == "transparent":
        return Image.new("RGBA", size)
    if name == "one pixel":
        return Image.new("L", (1, 1), 7)
    if name == "strip of noise":
        return Image.fromarray(g.integers(0, 256, (300, 5), dtype=np.uint8))
    if name == "noise":
        return Image.fromarray(g.integers(0, 256, (300, 400, 3), dtype=np.uint8))
    if name == "grain":
        return picture(lit(sheet(size, (220, 214, 200)), g, 0.5, 0.3), g, 6)
    page = sheet(size, 246)
    page = inked(page, 0.6 * lines(size, 25, 2, 0.03), (120, 160, 200))
    if name == "squared":
        page = inked(page, 0.6 * lines(size, 25, 2, -0.03, upright=True), (120, 160, 200))
    return picture(lit(page, g, 0.3), g)


BLANKS = (
    "white",
    "black",
    "black, MNIST's size",
    "transparent",
    "one pixel",
    "noise",
    "strip of noise",
    "grain",
    "ruled",
    "squared",
)
SCENES = (
    pen_on_squared_paper,
    pencil_on_squared_paper,
    ballpoint_on_ruled_paper,
    digit_between_two_rules,
    marker_on_whiteboard,
    chalk_on_board,
    phone_with_shadow_and_vignette,
    hard_shadow,
    screenshot,
    screenshot_dark_mode,
    paint_program,
    canvas_white_on_black,
    yellow_pen,
    light_blue_pen,
    red_on_green,
    white_on_red,
    thin_pencil,
    hairline,
    fat_marker,
    transparent_black,
    transparent_white,
    sixteen_bit,
    palette,
    sideways_with_exif,
    sticky_note,
    paper_on_desk,
    table_edge,
    finger_in_the_corner,
    receipt,
    small_in_the_corner,
    fills_the_picture,
    large_phone_picture,
    broken_strokes,
    highlighter_band,
    cardboard,
    night_shot,
    overexposed,
    underlined,
    blurred,
    through_the_paper,
    tiny_image,
    form_box,
    table_cells,
)
