"""Distortions keep shape and background, differ from image to image, and follow the generator."""

from dataset import normalize
from digits import augment, idx, synthetic

import pytest
import torch

BLACK = idx.BLACK.item()
KINDS = ["affine", "elastic"]
STRENGTHS = ["ROTATION", "SCALE", "SHEAR", "SHIFT", "ELASTIC", "BOLDNESS"]


@pytest.fixture(scope="module")
def images():
    return normalize(synthetic.draw(64, 0)[0])


def test_none_is_the_same_tensor(images):
    assert augment.augment(images, "none") is images


@pytest.mark.parametrize("kind", KINDS)
def test_shape_range_background_and_the_input_stay(kind, images):
    blank = torch.full((64, 1, 28, 28), BLACK)
    torch.testing.assert_close(augment.augment(blank, kind), blank)
    before = images.clone()
    distorted = augment.augment(images, kind)
    assert distorted.shape == images.shape and distorted.dtype == images.dtype
    assert torch.equal(images, before)
    assert distorted.min() >= BLACK - 1e-5 and distorted.max() <= images.max() + 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_and_images_differ(kind, images):
    same = images[:1].repeat(8, 1, 1, 1)
    torch.manual_seed(3)
    first = augment.augment(same, kind)
    torch.manual_seed(3)
    assert torch.equal(first, augment.augment(same, kind))
    assert not torch.equal(first, augment.augment(same, kind))
    assert len({image.numpy().tobytes() for image in first}) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_no_strength_is_no_distortion(kind, images, monkeypatch):
    for strength in STRENGTHS:
        monkeypatch.setattr(augment, strength, 0.0)
    torch.testing.assert_close(augment.augment(images, kind), images, atol=1e-4, rtol=0)


def test_boldness_changes_greys_alone_and_both_ways(images, monkeypatch):
    for strength in set(STRENGTHS) - {"BOLDNESS"}:
        monkeypatch.setattr(augment, strength, 0.0)
    before, after = (x * idx.STD + idx.MEAN for x in (images, augment.augment(images, "affine")))
    grey = (before > 0.01) & (before < 0.99)
    torch.testing.assert_close(after[~grey], before[~grey], atol=0.05, rtol=0)
    ink = (after.sum((1, 2, 3)) / before.sum((1, 2, 3))).log()
    assert ink.min() < -0.05 and ink.max() > 0.05


def test_shift_is_in_pixels(monkeypatch):
    for strength in set(STRENGTHS) - {"SHIFT"}:
        monkeypatch.setattr(augment, strength, 0.0)
    monkeypatch.setattr(augment, "SHIFT", 3.0)
    dots = torch.full((500, 1, 28, 28), BLACK)
    dots[:, :, 13:15, 13:15] = 2.0
    ink, place = augment.augment(dots, "affine")[:, 0] - BLACK, torch.arange(28.0) - 13.5
    for axis in (1, 2):
        centre = (ink.sum(axis) * place).sum(1) / ink.sum((1, 2))
        assert 2.8 < centre.abs().max() <= 3.001
