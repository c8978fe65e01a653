"""Measures what the project promises, beside what it is compared to, alternating, in one run.

    python benchmarks/benchmark.py                      # everything, 20 to 30 minutes
    python benchmarks/benchmark.py --only epoch,start   # some of it

Prints a Markdown table and writes every value measured to benchmarks/results.json. Uses the MNIST
of --data-dir or of the folder named by MNIST_DIR, or generated digits. Linux and macOS; CPU only.

Everything is measured in processes of their own, started here with `--child`, so that this one
stays small: a process never shows a lower peak of memory than the one that started it.
"""

import argparse
import csv
import importlib.metadata
import json
import operator
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED_ACCURACY, MAX_EPOCHS = 0.9878, 12  # of LeNet-5; where its program may stop trying
NAMES = {"lenet5": "LeNet-5", "mlp": "MLP"}


# What the project is compared to


class Decoded:
    """A split as torchvision.datasets.MNIST holds it: decoded, one PIL image at a time."""

    def __init__(self, data, split, transform):
        import numpy as np
        import torch
        from PIL import Image

        self.data = torch.from_numpy(np.load(Path(data, f"{split}_images.npy")))
        self.targets = torch.from_numpy(np.load(Path(data, f"{split}_labels.npy")))
        self.image, self.transform = Image.fromarray, transform

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.transform(self.image(self.data[index].numpy())), int(self.targets[index])


class Extracted:
    """A split as the published program read it: a folder of PNG files, each opened when needed."""

    def __init__(self, data, split, transform):
        from PIL import Image

        self.paths = sorted(Path(data, split).iterdir())
        self.image, self.transform = Image.open, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        path = self.paths[index]
        return self.transform(self.image(path)), int(path.stem.split("_")[1])


def usual_program(data, model, published=False, workers=0, epochs=5, until=1.0, seed=0):
    """The whole program as everybody writes it, or the published one; stops at accuracy `until`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import torch
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision import transforms

    from model import MODELS

    torch.manual_seed(seed)
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )
    kind = Extracted if published else Decoded
    train_set, test_set = (kind(data, split, transform) for split in ("train", "test"))
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True, num_workers=workers)
    test_loader = DataLoader(test_set, batch_size=1000, num_workers=workers)
    model = MODELS[model]()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    history = {"train loss": [], "train accuracy": [], "test loss": [], "test accuracy": []}

    def record(part, loss, correct, count):
        history[f"{part} loss"].append(loss / count)
        history[f"{part} accuracy"].append(correct / count)

    for _ in range(epochs):
        model.train()
        running_loss, correct = 0.0, 0
        for images, labels in train_loader:
            optimizer.zero_grad()
            outputs = model(images)
            loss = criterion(outputs, labels)
            if published:
                loss = loss + 0.5 * 1e-4 * sum(p.norm() ** 2 for p in model.parameters())
            loss.backward()
            optimizer.step()
            running_loss += loss.item() * len(labels)
            correct += (outputs.argmax(1) == labels).sum().item()
        record("train", running_loss, correct, len(train_set))
        model.eval()
        running_loss, correct = 0.0, 0
        with torch.no_grad():
            for images, labels in test_loader:
                outputs = model(images)
                running_loss += criterion(outputs, labels).item() * len(labels)
                correct += (outputs.argmax(1) == labels).sum().item()
        record("test", running_loss, correct, len(test_set))
        if history["test accuracy"][-1] >= until:
            break

    figure, panels = plt.subplots(1, 2, figsize=(12, 5))
    for panel, metric in zip(panels, ("loss", "accuracy"), strict=True):
        for part in ("train", "test"):
            panel.plot(history[f"{part} {metric}"], label=part)
        panel.set_title(metric)
        panel.legend()
    plt.savefig("curves.png")
    return history["test accuracy"]


def plain_decode(tar):
    """Seconds that tarfile and Pillow take for the images of a tarball, verifying nothing."""
    import io
    import tarfile

    import numpy as np
    from PIL import Image

    start = time.perf_counter()
    images, labels = [], []
    with tarfile.open(tar) as archive:
        for member in archive:
            if member.isfile():
                png = archive.extractfile(member).read()
                images.append(np.asarray(Image.open(io.BytesIO(png))))
                labels.append(int(member.name[-5]))
    np.stack(images), np.array(labels)
    return time.perf_counter() - start


# Measured inside a process


def megabytes():
    """The most memory that this process has had, in units of 10^6 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def trainer(data, *arguments):
    """A function that makes what `main.train` takes: the data, a new network and so on."""
    import torch

    import options
    from dataset import MNIST
    from model import build

    config, _ = options.parse(["--device", "cpu", *arguments], "")
    dataset = MNIST(data, train=True)

    def make():
        torch.manual_seed(0)
        model = build(config)
        optimizer = torch.optim.SGD(
            model.parameters(), config["lr"], config["momentum"], fused=True
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        return model, dataset, optimizer, scheduler, config

    return make


def timed_epoch(parts, epoch=1):
    """Seconds of one `main.train`."""
    import main

    start = time.perf_counter()
    main.train(*parts, epoch)
    return time.perf_counter() - start


def timed_floor(parts, images, labels):
    """Seconds of as many of the same steps on one batch that never changes."""
    import torch.nn.functional as F

    model, dataset, optimizer, _, config = parts
    model.train()
    start = time.perf_counter()
    for _ in range(-(-len(dataset) // config["batch_size"])):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def epoch_and_floor(data, model, repeats):
    """An epoch and its floor in turn; the first of each, which warms up, is left out."""
    import torch

    make = trainer(data, "--model", model)
    images, labels = make()[1][torch.arange(64)]
    sides = {"epoch": lambda: timed_epoch(make()), "floor": lambda: timed_floor(make(), images, labels)}
    return {side: seconds[1:] for side, seconds in alternate(repeats + 1, sides).items()}


def augmented_epochs(data, repeats):
    """A fifth of an epoch without augmentation and with either kind, in turn."""
    makers = {kind: trainer(data, "--augment", kind) for kind in ("none", "affine", "elastic")}

    def side(make):
        model, dataset, *rest = make()
        return timed_epoch((model, dataset.part(0, len(dataset) // 5), *rest))

    sides = {kind: lambda make=make: side(make) for kind, make in makers.items()}
    return {kind: seconds[1:] for kind, seconds in alternate(repeats + 1, sides).items()}


def watched_run(arguments):
    """A `main.py` with a watch on it: seconds of train and fit, data sets loaded, peak memory."""
    import torch  # noqa: F401, before the memory is first looked at

    before = megabytes()
    import main

    seconds = {"train": [], "fit": [], "MNIST": []}

    def watched(name, function):
        def watch(*arguments, **named):
            start = time.perf_counter()
            result = function(*arguments, **named)
            seconds[name].append(time.perf_counter() - start)
            return result

        return watch

    for name in seconds:
        setattr(main, name, watched(name, getattr(main, name)))
    if main.main(arguments):
        sys.exit(1)
    return seconds | {"megabytes": megabytes() - before}


def first_step(arguments):
    """Ends right after the first step of a `main.py`; which modules came too early."""
    import torch.optim.optimizer

    def end(optimizer, *_):
        print(json.dumps([name for name in ("matplotlib", "torchvision") if name in sys.modules]))
        sys.stdout.flush()
        os._exit(0)

    torch.optim.optimizer.register_optimizer_step_post_hook(end)
    import main

    sys.exit(main.main(arguments) or 1)  # only a run that stopped before its first step comes here


def load(data, splits):
    """Seconds to have some splits ready in memory, imports not counted."""
    from dataset import MNIST

    start = time.perf_counter()
    for split in splits:
        MNIST(data, train=split == "train")
    return time.perf_counter() - start


def generate(folder):
    """Seconds and memory (above import torch) for 70,000 generated digits on disk."""
    import torch  # noqa: F401, before the memory is first looked at

    before = megabytes()
    import digits

    start = time.perf_counter()
    digits.generate(folder)
    return [time.perf_counter() - start, megabytes() - before]


def prepare(source, work):
    """Puts the data, in every form that is needed, into `work`, untimed; how many, and which."""
    import io

    import numpy as np
    import torch
    from PIL import Image

    import digits
    from dataset import MNIST
    from tarball import find_tarball, write_tarball

    data, arrays, extracted = (Path(work, name) for name in ("data", "arrays", "extracted"))
    for folder in (data, arrays, extracted):
        folder.mkdir()
    if source:
        for split in ("train", "test"):
            tar = find_tarball(source, split)
            shutil.copyfile(tar, data / tar.name)
    else:
        digits.generate(data)
    for split in ("train", "test"):
        dataset = MNIST(data, train=split == "train")  # leaves the cache of later starts, too
        np.save(arrays / f"{split}_images.npy", dataset.data.numpy())
        np.save(arrays / f"{split}_labels.npy", dataset.targets.numpy())
        (extracted / split).mkdir()
        for number, (image, label) in enumerate(zip(dataset.data.numpy(), dataset.targets)):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG")
            (extracted / split / f"{number:05d}_{label}.png").write_bytes(png.getbuffer())
    return None
