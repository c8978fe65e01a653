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


CASES = [  # what is done with the digits, what is said
    (lambda it: it.replace(data=it.data.mT), "% if they were transposed (swap"),
    (lambda it: it.replace(data=255 - it.data), "% if they were inverted (put 255"),
    (lambda it: it.replace(data=255 - it.data.mT), "% if they were inverted and transposed"),
    (lambda it: it.replace(data=(it.data > 100).byte()), "% if they were rescaled (multiply"),
    (lambda it: it.replace(data=it.data // 16), "% if they were rescaled (multiply"),
    (lambda it: it, ""),
    (lambda it: it.replace(targets=it.targets.flip(0)), ""),  # no digits: clothes, for example
    (lambda it: it.replace(data=255 - it.data, published=True), ""),
    (lambda it: it.part(0, 9).replace(data=it.data[:9].mT), ""),  # few
    (lambda it: it.replace(data=255 - it.data, targets=it.targets.flip(0)), "ground of these"),
    (lambda it: it.replace(data=torch.full_like(it.data, 255)), "ground of these images is light"),
]


@pytest.mark.parametrize(("change", "words"), CASES)
def test_another_form_is_named_with_both_figures_and_a_light_ground(change, words, digits, capsys):
    forms.warn(change(digits))
    line = capsys.readouterr().err
    assert words in line and line.count("\n") == bool(words)
    assert line.startswith("warning: " * bool(words))
    assert line.count(" %") == 2 * ("if they were" in words)
