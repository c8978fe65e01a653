"""Generated digits have MNIST's format, follow the seed, and teach a network to read MNIST."""

import hashlib
import os

import main
from dataset import MNIST
from digits import synthetic
from training.config import Config

import pytest
import torch


def test_a_seed_draws_the_same_digits_now_and_later():
    """Published results depend on the skeletons and the numbers, which are of November."""
    skeletons = repr(synthetic.read_skeletons()).encode()
    digest = "d082eb2e7a7015f57f4c52186247a217a7b483f1337a5a8f42b5866f65e0ec30"
    assert hashlib.sha256(skeletons).hexdigest() == digest
    images, labels = synthetic.draw(200, 3)
    assert images.dtype == torch.uint8 and images.shape == (200, 28, 28)
    assert torch.bincount(labels).tolist() == [20] * 10
    assert hashlib.sha256(labels.numpy()).hexdigest().startswith("0e917c1016d38747")
    assert images.double().sum().item() == pytest.approx(5_214_738, rel=1e-5)
    assert torch.equal(images, synthetic.draw(200, 3)[0])
    assert not torch.equal(images, synthetic.draw(200, 4)[0])


def test_digits_are_sized_and_centred_as_mnist():
    images, _ = synthetic.draw(1000, 0)
    pixels, place = images.double(), torch.arange(28.0).double()
    for axis in (1, 2):
        centre = (pixels.sum(axis) * place).sum(1) / pixels.sum((1, 2))
        assert (centre - 13.5).abs().mean() < 0.6
    dark = images > 100
    longer = torch.maximum(dark.any(2).sum(1), dark.any(1).sum(1))
    assert ((longer >= 18) & (longer <= 22)).double().mean() > 0.97


def test_generate_writes_what_the_reader_reads(tmp_path):
    synthetic.generate(tmp_path, train=60, test=20)
    assert (len(MNIST(tmp_path)), len(MNIST(tmp_path, train=False))) == (60, 20)
    assert not MNIST(tmp_path).published


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR does not name the real MNIST")
def test_a_network_that_saw_only_generated_digits_reads_mnist(tmp_path, monkeypatch):
    """The README's 96 % is of 60,000 digits and 5 epochs; this is of 6,000 and 3."""
    images, labels = synthetic.draw(6000, 0)
    test_set = MNIST(os.environ["MNIST_DIR"], train=False)
    train_set = test_set.replace(data=images, targets=labels, published=False)
    monkeypatch.chdir(tmp_path)
    run = main.fit(Config(epochs=3, lr=0.02), train_set, test_set)
    assert len(test_set) == 10_000 and run.history[-1]["test_accuracy"] > 0.85
