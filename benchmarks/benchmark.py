"""Measures how long this project takes, beside the usual ways to write the same program.

    python benchmarks/benchmark.py                     # everything, in half an hour on 2 cores
    python benchmarks/benchmark.py --only help resume  # some of it

measurements.ini says what is measured. The file that --json names keeps every value. Stop the
benchmark whenever you like: the same command goes on, and measures only what is missing in that
file. It needs Linux or macOS, and MNIST in --data-dir; it measures on the CPU.
"""

import csv
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from statistics import mean, median

import table  # makes the project's modules importable
from table import MEASUREMENTS, ROOT

from files import UserError, write_whole

SIZES = {"quarter": 0.25, "half": 0.5, "all": 1, "twice": 2}  # folders: how much of MNIST they hold
BUSY_LOOP = "while True: pass"
LONG, FEWER = 60, 3  # seconds of a repetition, and how many there are of one that takes longer


# The programs that this project is compared with. Each one runs in a process of its own.


def tutorial(model, workers=0, data="../all", epochs=5):
    """The usual program, in the form of pytorch/examples, mnist/main.py."""
    from torchvision import datasets

    train_set = datasets.MNIST(data, train=True, transform=usual_transform())
    test_set = datasets.MNIST(data, train=False, transform=usual_transform())
    usual_loop(model, train_set, test_set, epochs, workers=workers)


def published(model):
    """The published program, github.com/beyzakebeli/MNIST_classification: a file for each image."""
    from PIL import Image

    class Pictures:
        def __init__(self, folder):
            self.folder, self.names, self.transform = folder, os.listdir(folder), usual_transform()

        def __len__(self):
            return len(self.names)

        def __getitem__(self, index):
            name = self.names[index]
            image = self.transform(Image.open(os.path.join(self.folder, name)))
            return image, int(name.split("_")[1].split(".")[0])

    usual_loop(model, Pictures("../png/train"), Pictures("../png/test"), weight_decay=0.0001)


def usual_transform():
    """What both programs do to each image."""
    from torchvision import transforms

    return transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])


def usual_loop(model, train_set, test_set, epochs=5, workers=0, weight_decay=0.0):
    """Train, test and draw the curves; with weight decay in the loss, as the published program."""
    import matplotlib.pyplot as plt
    import torch
    from torch.utils.data import DataLoader

    from model import MODELS

    train_loader = DataLoader(train_set, batch_size=64, shuffle=True, num_workers=workers)
    test_loader = DataLoader(test_set, batch_size=1000, num_workers=workers)
    model, criterion, history = MODELS[model](), torch.nn.CrossEntropyLoss(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def one_pass(loader, training):
        model.train(training)
        total_loss, correct = 0.0, 0
        for images, labels in loader:
            outputs = model(images)
            loss = criterion(outputs, labels)
            if training:
                if weight_decay:
                    squares = sum(torch.norm(weight) ** 2 for weight in model.parameters())
                    loss = loss + 0.5 * weight_decay * squares
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total_loss += loss.item() * len(labels)
            correct += (outputs.argmax(1) == labels).sum().item()
        return [total_loss / len(loader.dataset), correct / len(loader.dataset)]

    start = time.perf_counter()
    for _ in range(epochs):
        trained = one_pass(train_loader, training=True)
        with torch.no_grad():
            history.append(trained + one_pass(test_loader, training=False))
    tell({"an epoch": (time.perf_counter() - start) / epochs, "accuracy": history[-1][-1]})
    plt.switch_backend("Agg")
    plt.plot(history, label=["train loss", "train accuracy", "test loss", "test accuracy"])
    plt.legend()
    plt.savefig("curves.png")


def scikit_learn():
    """MLPClassifier as scikit-learn's documentation uses it, with the settings of this MLP."""
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    def read(split):  # arrays that are decoded already: nothing is faster to read
        arrays = np.load(f"../all/{split}.cache.npz")
        pixels = arrays["images"].reshape(-1, 784) / np.float32(255)
        return (pixels - np.float32(0.1307)) / np.float32(0.3081), arrays["labels"]

    settings = {"solver": "sgd", "batch_size": 64, "momentum": 0.9, "learning_rate_init": 0.01}
    classifier = MLPClassifier((20,), max_iter=5, alpha=0, nesterovs_momentum=False, **settings)
    images, labels = read("train")
    start = time.perf_counter()
    classifier.fit(images, labels)
    seconds = (time.perf_counter() - start) / 5
    tell({"an epoch": seconds, "accuracy": classifier.score(*read("test"))})


def plain_decoding():
    """Read a tarball of PNGs with tarfile and Pillow, and verify nothing."""
    import numpy as np
    from PIL import Image

    start = time.perf_counter()
    with tarfile.open("../all/train.tar") as tar:
        files = [tar.extractfile(member) for member in tar if member.isfile()]
        images = np.stack([np.asarray(Image.open(file)) for file in files])
    tell({"reading": time.perf_counter() - start, "images": len(images)})


# Parts of this project, each in a process of its own


def read(data, splits):
    """Read the splits of a data folder; "." is a new one, without a cache."""
    from dataset import MNIST

    if data == ".":
        os.symlink("../all/train.tar", "train.tar")
    start = time.perf_counter()
    for split in splits:
        MNIST(data, train=split == "train")
    tell({"reading": time.perf_counter() - start})


def epoch_and_steps(name, turns):
    """An epoch and, in turn, the same steps on one batch; the first turn is not counted."""
    import main

    config, train_set = main.Config(model=name), main.MNIST("../all")
    images, labels = next(train_set.batches(main.torch.arange(64), 64))
    seconds = {"an epoch": [], "the steps alone": []}
    for turn in range(2 + 2 * turns):
        model = main.build(name, config.network)
        optimizer = main.SGD(model.parameters(), config.lr, config.momentum, fused=True)
        scheduler = main.LambdaLR(optimizer, lambda step: 1.0)
        order = main.torch.randperm(len(train_set))
        side = list(seconds)[turn % 2]
        start = time.perf_counter()
        if side == "an epoch":
            main.train(model, train_set, order, optimizer, scheduler, config)
        else:
            for _ in order.split(64):
                loss = main.nn.functional.cross_entropy(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        seconds[side].append(time.perf_counter() - start)
    tell({side: {"an epoch": median(values[1:])} for side, values in seconds.items()})


def prepare(source, sizes):
    """Write the images of a data folder as tarballs, PNG files and torchvision's IDX files."""
    import torch

    from dataset import MNIST
    from digits.idx import NAMES
    from digits.archive import write_tarball

    for split in ("train", "test"):
        mnist = MNIST(source, train=split == "train")
        for size in sizes:
            rows = torch.arange(int(SIZES[size] * len(mnist))) % len(mnist)
            images, labels = mnist.data[rows], mnist.targets[rows].byte()
            folder = Path("..", size)
            write_tarball(folder / f"{split}.tar", images, labels, split)
            MNIST(folder, train=split == "train")  # writes the cache
            raw = folder / "MNIST" / "raw"
            raw.mkdir(parents=True, exist_ok=True)
            for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
                header = struct.pack(f">{1 + values.ndim}I", 2048 + values.ndim, *values.shape)
                content = header + values.numpy().tobytes()
                (raw / f"{NAMES[split]}-{kind}-ubyte").write_bytes(content)
        with tarfile.open(f"../all/{split}.tar") as tar:
            tar.extractall("../png", filter="data")
    tell({"data": "the published MNIST" if mnist.published else "NOT the published MNIST"})


def tell(quantities):
    """Give what was measured to the process that has started this one."""
    print(json.dumps(quantities), flush=True)


# Measuring, from a process that stays small: none that it starts would show less memory than it has


def at_once(commands, threads, work):
    """Run commands at the same time, each in its folder; gives what the slowest one measured."""
    processes = []
    try:
        for number, command in enumerate(commands):
            place = work / str(number)
            place.mkdir(exist_ok=True)
            words = ["-c", f"from benchmark import *; {command}"]
            if command.startswith("main.py"):
                always = ["--device", "cpu", "--data-dir", "../all"]
                words = [str(ROOT / "main.py"), *always, *command.split()[1:]]
            elif "(" not in command:  # plain Python
                words = ["-c", command]
            started = {"cwd": place, "stdout": subprocess.PIPE, "text": True}
            started["env"] = os.environ | {"OMP_NUM_THREADS": str(threads)}
            processes.append(subprocess.Popen([sys.executable, "-W", "ignore", *words], **started))
        found = [
            wait(process, command, work / str(number))
            for number, (process, command) in enumerate(zip(processes, commands, strict=True))
            if command != BUSY_LOOP
        ]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return {quantity: max(one[quantity] for one in found) for quantity in found[0]}


def wait(process, command, place):
    """Wait for a process; gives its memory, and what it or its metrics.csv tell."""
    told = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise UserError(f"{command}: failed (status {process.returncode}); its error is above")
    found = json.loads(told.splitlines()[0]) if told.startswith("{") else {}
    found["memory"] = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    for path in place.glob("runs/*/metrics.csv"):
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        found["an epoch"] = mean(float(row["seconds"]) for row in rows)
        found["accuracy"] = float(rows[-1]["test_accuracy"])
    return found


def run(line, threads, work):
    """Run the command of a side in new folders; gives {quantity: number}."""
    for place in work.glob("[0-9]"):
        shutil.rmtree(place)
    start, found = time.perf_counter(), {}
    for step in line.split(" then "):
        begin = time.perf_counter()
        found = at_once(step.split(" beside "), threads, work)
        found["last command"] = time.perf_counter() - begin
    return {"whole run": time.perf_counter() - start} | found


def measure(one, repeats, work):
    """Run the sides of a measurement in turn; gives {side: {quantity: [value, ...]}}."""
    found = {side: {} for side in one.sides}
    start = time.perf_counter()
    for done in range(repeats):
        if done >= FEWER and time.perf_counter() - start > done * LONG:
            break
        commands = dict.fromkeys(command for command, _ in one.sides.values())
        told = {command: run(command, one.threads, work) for command in commands}
        for side, (command, _) in one.sides.items():
            numbers = told[command].get(side, told[command])  # it may measure several sides
            for quantity in {one.unit, "accuracy"} & numbers.keys():
                found[side].setdefault(quantity, []).append(numbers[quantity])
    return found


# The program


def benchmark(options):
    """Measure what is missing, keep it and print the table; gives the exit status."""
    start, same = table.busyness(), table.circumstances(options.repeats)
    results = same | {"starts": [], "measured": {}}
    if options.json.exists():
        results = json.loads(options.json.read_text(encoding="utf-8"))
        if any(results.get(key) != same[key] for key in same):
            raise UserError(f"{options.json}: was measured on another machine; move it away")
    missing = [name for name in options.only if name not in results["measured"]]
    if "scikit-learn" in str(missing) and same["machine"]["scikit-learn"] == "missing":
        raise UserError("scikit-learn: not installed; pip install -r requirements-dev.txt")
    commands = str([MEASUREMENTS[name].sides for name in missing])
    sizes = [size for size in SIZES if size == "all" or f"../{size}" in commands]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        if missing:
            results["starts"].append(start)
            source = str(options.data_dir.expanduser().resolve())
            data = run(f"prepare({source!r}, {sizes})", 2, Path(folder))["data"]
            if results.setdefault("data", data) != data:
                raise UserError(f"{options.json}: was measured on other data; move it away")
        for name in missing:
            print(f"{name}: {MEASUREMENTS[name].what}", file=sys.stderr, flush=True)
            found = measure(MEASUREMENTS[name], options.repeats, Path(folder))
            results["measured"][name] = found
            write_whole(options.json, (json.dumps(results, indent=1) + "\n").encode())
    print(table.table(results))
    if options.write:
        table.write_documents(results)
    return 0


def main(argv=None):
    """The program; gives its exit status."""
    from training import program as console

    def program():
        parser = console.Parser(f"{__doc__}\nmeasurements: {', '.join(MEASUREMENTS)}")
        add = parser.add_argument
        everything = list(MEASUREMENTS)
        add("--only", nargs="+", choices=everything, default=everything, metavar="NAME", help="")
        add("--repeats", type=int, default=5, choices=range(1, 100), metavar="N", help="(5)")
        add("--data-dir", type=Path, default="data", help="holds MNIST (default: data)")
        add("--json", type=Path, default="benchmark.json", metavar="PATH", help="(benchmark.json)")
        add("--write", action="store_true", help="write docs/speed.md, README.md and the picture")
        return benchmark(parser.parse_args(argv))

    return console.guarded(lambda argv: program())(argv)


if __name__ == "__main__":
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):  # as for somebody who has set nothing
        os.environ.pop(name, None)
    paths = [str(ROOT), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    sys.exit(main())
