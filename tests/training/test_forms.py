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


CASES = [  # what the dataset has in place of its images and labels, what is said
    (lambda images, labels: {"data": images.mT}, "they were transposed (swap"),
    (lambda images, labels: {"data": 255 - images}, "they were inverted (put 255"),
    (lambda images, labels: {"data": 255 - images.mT}, "they were inverted and transposed"),
    (lambda images, labels: {"data": (images > 100).byte()}, "they were rescaled (multiply"),
    (lambda images, labels: {"data": images // 16}, "they were rescaled (multiply"),
    (lambda images, labels: {}, ""),
    (lambda images, labels: {"targets": labels.flip(0)}, ""),  # no digits: clothes, for example
    (lambda images, labels: {"data": 255 - images, "published": True}, ""),
    (lambda images, labels: {"data": images[:9].mT, "targets": labels[:9]}, ""),  # too few
    (lambda images, labels: {"data": 255 - images, "targets": labels.flip(0)}, "is light"),
    (lambda images, labels: {"data": torch.full_like(images, 255)}, "is light"),
]


@pytest.mark.parametrize(("change", "words"), CASES)
def test_another_form_is_named_with_both_figures_and_a_light_ground(change, words, digits, capsys):
    forms.warn(digits.replace(**change(digits.data, digits.targets)))
    line = capsys.readouterr().err
    assert words in line and line.count("\n") == bool(words)
    assert line.startswith("warning: " * bool(words))
    assert line.count(" %") == 2 * words.startswith("they were")
