"""A person's file becomes an upright opaque picture, or an error in words."""

import io
import os
from pathlib import Path

from files import PictureError
from handwriting import picture

import numpy as np
import pictures
import pytest
from PIL import Image


def saved(image, path, **options):
    """The path, at which the image now lies."""
    image.save(path, **options)
    return path


def grey_levels(image):
    """The grey levels (H x W) of an opaque picture."""
    return np.asarray(image.convert("L"), int)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "I", "F", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    image = picture.opaque(Image.new(mode, (30, 20)))
    assert image.mode == "RGB" and image.size == (30, 20)


@pytest.mark.parametrize(
    ("name", "ground", "digit"), [("transparent_black", 255, 0), ("transparent_white", 0, 255)]
)
def test_a_digit_on_a_transparent_ground_gets_the_opposite_paper(name, ground, digit):
    image = pictures.SCENES[name](3, np.random.default_rng(0))
    levels = grey_levels(picture.opaque(image))
    assert levels[0, 0] == ground and digit in levels


def test_holes_in_a_visible_page_get_the_colour_of_the_page():
    pixels = np.full((40, 40, 4), (200, 180, 160, 255), np.uint8)
    pixels[10:15, 10:15] = 0
    page = np.asarray(picture.opaque(Image.fromarray(pixels)))
    assert (page == (200, 180, 160)).all()


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_sixteen_bits_a_pixel_keep_their_range(bits):
    levels = np.linspace(0, 2**bits - 1, 100).astype(np.uint16).reshape(10, 10)
    seen = grey_levels(picture.opaque(Image.fromarray(levels)))
    assert np.abs(seen - levels / 2 ** (bits - 8)).max() <= 1


def test_exif_rotation_is_undone(tmp_path):
    image = Image.new("RGB", (40, 20), "white")
    image.putpixel((0, 0), (0, 0, 0))
    turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[274] = 6
    page, scale, _ = picture.read(saved(turned, tmp_path / "a.png", exif=turned.getexif()))
    assert page.size == (40, 20) and scale == 1 and page.getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("name", "size"), [("a.png", (4000, 1000)), ("a.jpg", (4000, 1000)), ("b.jpg", (8192, 6144))]
)
def test_a_picture_of_up_to_fifty_megapixels_is_reduced_in_its_proportions(name, size, tmp_path):
    page, scale, _ = picture.read(saved(Image.new("L", size), tmp_path / name))
    assert page.size == (picture.LONGEST, picture.LONGEST * size[1] / size[0])
    assert scale == size[0] / picture.LONGEST


@pytest.mark.parametrize(("kind", "count"), [("GIF", 3), ("TIFF", 3), ("MPO", 1)])
def test_the_first_frame_is_read_and_what_telephones_add_is_no_animation(kind, count, tmp_path):
    frames = [Image.new("RGB", (40, 30), color) for color in ("white", "blue", "black")]
    path = saved(frames[0], tmp_path / "a", format=kind, save_all=True, append_images=frames[1:])
    read = picture.read(path)
    assert read.frames == count and read.page.getpixel((5, 5)) == (255, 255, 255)


def test_heic_is_read_where_its_package_is_installed(tmp_path):
    pytest.importorskip("pillow_heif")
    path = saved(Image.new("RGB", (64, 48), "white"), tmp_path / "a.heic")
    assert picture.read(path).page.size == (64, 48)


def test_heic_without_its_package_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    monkeypatch.setattr(picture, "FORMATS", ["PNG", "JPEG"])
    with pytest.raises(PictureError, match="PNG, JPEG; save it as one .HEIC: pip install pillow-"):
        picture.read(tmp_path / "a.heic")


@pytest.mark.parametrize("size", [(30, 60), (60, 30), (1000, 1), (1, 1)])
def test_resizing_sets_the_longer_side(size):
    assert max(picture.resized(Image.new("L", size), 40).size) == 40


def write_half_a_picture(path):
    file = io.BytesIO()
    Image.effect_noise((90, 90), 50).save(file, "PNG")
    path.write_bytes(file.getvalue()[:3000])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text("not a picture"), "not one of PNG"),
        (write_half_a_picture, "damaged"),
        (lambda path: path.write_bytes(b"x" * (picture.MAX_BYTES + 1)), "more than 40 MB"),
        (lambda path: Image.new("1", (4001, 4000)).save(path), "more than 16 megapixels"),
        (lambda path: Image.new("L", (8001, 8000)).save(path, "JPEG"), "more than 64 megapixels"),
        (lambda path: Image.new("L", (9, 9)).save(path, "PPM"), "not one of PNG"),
        (Path.mkdir, "no picture file"),
        (getattr(os, "mkfifo", Path.mkdir), "no picture file"),  # nobody writes into the FIFO
        (lambda path: None, "No such file"),
    ],
)
def test_an_unreadable_file_is_one_line_that_says_why_and_what_to_do(make, reason, tmp_path):
    make(tmp_path / "file.png")
    with pytest.raises(PictureError, match=f"^{reason}.*; [^\n]+$"):
        picture.read(tmp_path / "file.png")
