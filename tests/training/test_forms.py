"""Images in another form than MNIST's are warned of, with figures; all others are not."""

from dataset import MNIST
from digits import synthetic
from digits.archive import write_tarball
from training import forms

import pytest
import torch


@pytest.fixture(scope="module")
def digits():
    return synthetic.draw(300, 1)


@pytest.fixture
def warned(tmp_path, capsys):
    """What is said of images and labels."""

    def warned(images, labels, **attributes):
        write_tarball(tmp_path / "train.tar", images.contiguous(), labels, "train")
        dataset = MNIST(tmp_path).replace(**attributes)
        capsys.readouterr()
        forms.warn(dataset)
        return capsys.readouterr().err

    return warned


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda images: images.mT, "transposed (swap"),
        (lambda images: 255 - images, "inverted (put 255"),
        (lambda images: 255 - images.mT, "inverted and transposed"),
        (lambda images: (images > 100).byte(), "rescaled (multiply"),
        (lambda images: images // 16, "rescaled (multiply"),
    ],
)
def test_another_form_is_named_with_both_figures(warned, digits, change, word):
    line = warned(change(digits[0]), digits[1])
    assert line.startswith("warning: ") and line.count("\n") == 1
    assert f"% if they were {word}" in line and line.count(" %") == 2


def test_nothing_is_said_where_no_form_is_read_or_the_own_one_is(warned, digits):
    images, labels = digits
    assert warned(images, labels) == ""
    assert warned(images, labels.flip(0)) == ""  # other things than digits, such as clothes
    assert warned(255 - images, labels, published=True) == ""
    assert warned(images.mT[:9], labels[:9]) == ""


def test_a_light_ground_is_warned_of_whatever_is_shown(warned, digits):
    images, labels = digits
    assert "the ground of these images is light" in warned(255 - images, labels.flip(0))
    blank = torch.full((50, 28, 28), 255, dtype=torch.uint8)
    assert "light" in warned(blank, torch.arange(50) % 10)
