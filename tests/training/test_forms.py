"""Images in another form than MNIST's are warned of, with figures; all others are not."""

from dataset import MNIST
from digits import synthetic
from digits.archive import write_tarball
from training import forms

import pytest
import torch


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    write_tarball(folder / "train.tar", *synthetic.draw(300, 1), "train")
    return MNIST(folder)


FORMS = [  # what is done with the images, what is said
    (lambda images: images.mT, "transposed (swap"),
    (lambda images: 255 - images, "inverted (put 255"),
    (lambda images: 255 - images.mT, "inverted and transposed"),
    (lambda images: (images > 100).byte(), "rescaled (multiply"),
    (lambda images: images // 16, "rescaled (multiply"),
]


@pytest.mark.parametrize(("change", "word"), FORMS)
def test_another_form_is_named_with_both_figures(change, word, digits, capsys):
    forms.warn(digits.replace(data=change(digits.data)))
    line = capsys.readouterr().err
    assert line.startswith("warning: ") and line.count("\n") == 1
    assert f"% if they were {word}" in line and line.count(" %") == 2


def test_nothing_is_said_where_no_form_is_read_or_the_own_one_is(digits, capsys):
    forms.warn(digits)
    forms.warn(digits.replace(targets=digits.targets.flip(0)))  # no digits: clothes, for example
    forms.warn(digits.replace(data=255 - digits.data, published=True))
    few = digits.part(0, 9)
    forms.warn(few.replace(data=few.data.mT))
    assert capsys.readouterr().err == ""


def test_a_light_ground_is_warned_of_whatever_is_shown(digits, capsys):
    forms.warn(digits.replace(data=255 - digits.data, targets=digits.targets.flip(0)))
    blank = torch.full((50, 28, 28), 255, dtype=torch.uint8)
    forms.warn(digits.replace(data=blank, targets=torch.arange(50) % 10))
    assert capsys.readouterr().err.count("the ground of these images is light") == 2
