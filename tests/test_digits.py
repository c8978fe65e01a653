"""Generated digits have MNIST's format and are worth something on MNIST."""

import os

import pytest
import torch

import digits
import main
from dataset import MNIST
from options import parse


def test_the_same_seed_draws_the_same_digits():
    images, labels = digits.draw(300, 7)
    again, _ = digits.draw(300, 7)
    assert torch.equal(images, again)
    assert not torch.equal(images, digits.draw(300, 8)[0])
    assert images.dtype == torch.uint8 and images.shape == (300, 28, 28)
    assert torch.bincount(labels).tolist() == [30] * 10


def test_digits_are_sized_and_centred_as_mnist():
    images, _ = digits.draw(1000, 0)
    pixels, place = images.double(), torch.arange(28.0).double()
    mass = pixels.sum((1, 2))
    for axis in (1, 2):
        centre = (pixels.sum(axis) * place).sum(1) / mass
        assert (centre - 13.5).abs().mean() < 0.6
    dark = images > 100
    height, width = dark.any(2).sum(1), dark.any(1).sum(1)
    longer = torch.maximum(height, width)
    assert ((longer >= 18) & (longer <= 22)).double().mean() > 0.97


def test_generate_writes_what_the_reader_reads(tmp_path):
    digits.generate(tmp_path, train=60, test=20)
    assert (len(MNIST(tmp_path)), len(MNIST(tmp_path, train=False))) == (60, 20)
    assert not MNIST(tmp_path).published


@pytest.mark.skipif("MNIST_DIR" not in os.environ, reason="MNIST_DIR does not name the real MNIST")
def test_a_network_that_saw_only_generated_digits_reads_mnist(tmp_path):
    """The README's 96 % is of 60,000 digits and 5 epochs; this is of 6,000 and 3."""
    digits.generate(tmp_path, train=6000, test=10)
    (tmp_path / "mnist").mkdir()
    for path in os.scandir(os.environ["MNIST_DIR"]):
        if path.name.startswith("test.tar"):
            os.symlink(path.path, tmp_path / "mnist" / path.name)
    config = parse(["--model", "lenet5", "--device", "cpu"], "")[0]
    torch.manual_seed(0)
    model, train_set = main.build(config), MNIST(tmp_path)
    optimizer = torch.optim.SGD(model.parameters(), 0.02, 0.9)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    for epoch in (1, 2, 3):
        main.train(model, train_set, optimizer, scheduler, config, epoch)
    assert main.test(model, MNIST(tmp_path / "mnist", train=False))[1] > 0.85
