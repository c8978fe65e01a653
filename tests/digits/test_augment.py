"""Distortions keep shape and background, differ from image to image, and follow the generator."""

from dataset import normalize
from digits import augment, idx, synthetic

import pytest
import torch

BLACK = idx.BLACK.item()
IMAGES = normalize(synthetic.draw(64, 0)[0])
STRENGTHS = ["ROTATION", "SCALE", "SHEAR", "SHIFT", "ELASTIC", "BOLDNESS"]


@pytest.fixture
def only(monkeypatch):
    """A function that sets one strength, and all others to 0."""

    def only(**strengths):
        for name in STRENGTHS:
            monkeypatch.setattr(augment, name, strengths.get(name, 0.0))

    return only


@pytest.mark.parametrize("kind", ["affine", "elastic"])
def test_images_differ_as_the_seed_says_and_shape_range_and_background_stay(kind, only):
    blank = torch.full((64, 1, 28, 28), BLACK)
    torch.testing.assert_close(augment.augment(blank, kind), blank)
    same, before = IMAGES[:1].repeat(8, 1, 1, 1), IMAGES.clone()
    torch.manual_seed(3)
    first, second = (augment.augment(same, kind) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(first, augment.augment(same, kind)) and not torch.equal(first, second)
    assert len({image.numpy().tobytes() for image in first}) == 8
    distorted = augment.augment(IMAGES, kind)
    assert distorted.min() >= BLACK - 1e-5 and distorted.max() <= IMAGES.max() + 1e-5
    only(ELASTIC=augment.ELASTIC)
    changed = not torch.allclose(augment.augment(IMAGES, kind), IMAGES, atol=1e-4)
    assert changed == (kind == "elastic")
    only()  # no strength is no distortion
    torch.testing.assert_close(augment.augment(IMAGES, kind), IMAGES, atol=1e-4, rtol=0)
    assert torch.equal(IMAGES, before)


def test_boldness_changes_greys_alone_and_both_ways(only):
    only(BOLDNESS=augment.BOLDNESS)
    before, after = (x * idx.STD + idx.MEAN for x in (IMAGES, augment.augment(IMAGES, "affine")))
    grey = (before > 0.01) & (before < 0.99)
    torch.testing.assert_close(after[~grey], before[~grey], atol=0.05, rtol=0)
    ink = (after.sum((1, 2, 3)) / before.sum((1, 2, 3))).log()
    assert ink.min() < -0.05 and ink.max() > 0.05


def test_shift_is_in_pixels(only):
    only(SHIFT=3.0)
    dots = torch.full((500, 1, 28, 28), BLACK)
    dots[:, :, 13:15, 13:15] = 2.0
    ink, place = augment.augment(dots, "affine")[:, 0] - BLACK, torch.arange(28.0) - 13.5
    for axis in (1, 2):
        centre = (ink.sum(axis) * place).sum(1) / ink.sum((1, 2))
        assert 2.8 < centre.abs().max() <= 3.001
