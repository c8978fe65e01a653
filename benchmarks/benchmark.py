"""Measures how long this project takes, beside the usual ways to write the same program.

    python benchmarks/benchmark.py                     # everything, about an hour on 2 CPU cores
    python benchmarks/benchmark.py --only mlp --repeats 1

Each program runs in a process of its own, on the CPU: as it comes, and with one thread. What is
compared runs in turn. Stop the benchmark whenever you like: the same command goes on, and measures
only what is missing in the file that --json names.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from files import UserError, write_whole  # noqa: E402
from training import program  # noqa: E402

os.environ.pop("GOMP_SPINCOUNT", None)  # files.py set it; other programs must run as they come

MEASUREMENTS = {  # {what: {program: command}}; "A beside B" are two at the same time
    "lenet5": {
        "this project": "main.py --model lenet5",
        "tutorial loop": 'usual("lenet5")',
        "published way": 'usual("lenet5", published=True)',
    },
    "mlp": {
        "this project": "main.py --model mlp",
        "tutorial loop": 'usual("mlp")',
        "published way": 'usual("mlp", published=True)',
        "scikit-learn": "scikit_learn()",
    },
    "lenet5-epoch": {"bare steps": 'epoch("lenet5", bare=True)', "this project": 'epoch("lenet5")'},
    "mlp-epoch": {"bare steps": 'epoch("mlp", bare=True)', "this project": 'epoch("mlp")'},
    "second-run": {
        "this project, 1 epoch": "main.py --epochs 1",
        "beside a second run": "main.py --epochs 1 beside main.py --epochs 1",
        "tutorial loop, 1 epoch": 'usual("lenet5", 1)',
        "beside a second loop": 'usual("lenet5", 1) beside usual("lenet5", 1)',
    },
}
THREADS = {"as it comes": {}, "one thread": {"OMP_NUM_THREADS": "1"}}


# The programs that this project is compared with. They run in a folder beside that of the data.


class Pictures:
    """A file for each image, opened when it is needed."""

    def __init__(self, folder, transform):
        self.folder, self.names, self.transform = folder, os.listdir(folder), transform

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        from PIL import Image

        name = self.names[index]
        image = self.transform(Image.open(os.path.join(self.folder, name)))
        return image, int(name.split("_")[1].split(".")[0])


def usual(model, epochs=5, published=False):
    """The usual program, in the form of pytorch/examples, mnist/main.py: train, test, draw curves.

    The published one, github.com/beyzakebeli/MNIST_classification, has a file for each image, and
    adds weight decay to the loss.
    """
    from model import MODELS

    import matplotlib.pyplot as plt
    import torch
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    steps = transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))
    transform = transforms.Compose(steps)
    if published:
        train_set, test_set = (Pictures(f"../data/png/{s}", transform) for s in ("train", "test"))
    else:
        train_set, test_set = (datasets.MNIST("../data", s, transform) for s in (True, False))
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=1000)
    model, criterion, history = MODELS[model](), torch.nn.CrossEntropyLoss(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def one_pass(loader, training):
        model.train(training)
        total_loss, correct = 0.0, 0
        for images, labels in loader:
            outputs = model(images)
            loss = criterion(outputs, labels)
            if training:
                if published:
                    squares = sum(torch.norm(weight) ** 2 for weight in model.parameters())
                    loss = loss + 0.5 * 0.0001 * squares
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total_loss += loss.item() * len(labels)
            correct += (outputs.argmax(1) == labels).sum().item()
        return [total_loss / len(loader.dataset), correct / len(loader.dataset)]

    for _ in range(epochs):
        trained = one_pass(train_loader, training=True)
        with torch.no_grad():
            history.append(trained + one_pass(test_loader, training=False))
    plt.switch_backend("Agg")
    plt.plot(history, label=["train loss", "train accuracy", "test loss", "test accuracy"])
    plt.legend()
    plt.savefig("curves.png")
    print(f"test accuracy {100 * history[-1][-1]:.2f} %")


def scikit_learn():
    """MLPClassifier as scikit-learn's documentation uses it, with the settings of this MLP."""
    import numpy as np
    from sklearn.neural_network import MLPClassifier

    def read(name):  # decoded already: nothing is faster to read
        pixels, labels = (
            np.fromfile(f"../data/MNIST/raw/{name}-{kind}-ubyte", np.uint8, offset=offset)
            for kind, offset in (("images-idx3", 16), ("labels-idx1", 8))
        )
        pixels = pixels.reshape(-1, 784) / np.float32(255)
        return (pixels - np.float32(0.1307)) / np.float32(0.3081), labels

    settings = {"solver": "sgd", "batch_size": 64, "momentum": 0.9, "learning_rate_init": 0.01}
    classifier = MLPClassifier((20,), max_iter=5, alpha=0, nesterovs_momentum=False, **settings)
    classifier.fit(*read("train"))
    print(f"test accuracy {100 * classifier.score(*read('t10k')):.2f} %")


def epoch(model, bare=False, passes=5):
    """An epoch of this project's training, or the same steps on one batch that never changes."""
    import main

    import torch

    torch.set_num_threads(1)  # as main.py does
    config, train_set = main.Config(model=model), main.MNIST(os.environ["MNIST_FOLDER"])
    criterion, seconds = torch.nn.functional.cross_entropy, []
    for _ in range(passes):
        model = main.build(config.model, config.network)
        optimizer = main.SGD(model.parameters(), config.lr, config.momentum, fused=True)
        scheduler = main.LambdaLR(optimizer, lambda step: 1.0)
        order = torch.randperm(len(train_set))
        images, labels = next(train_set.batches(order, 64))
        start = time.perf_counter()
        if bare:
            for _ in order.split(64):
                loss = criterion(model(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        else:
            main.train(model, train_set.batches(order, 64), criterion, optimizer, scheduler)
        seconds.append(time.perf_counter() - start)
    print(f"seconds {median(seconds[1:])}")  # the first pass warms up


def prepare(source):
    """Write MNIST as PNG files and as torchvision's IDX files."""
    from dataset import MNIST

    import numpy as np
    from PIL import Image

    raw = Path("../data/MNIST/raw")
    raw.mkdir(parents=True)
    for split, name in (("train", "train"), ("test", "t10k")):
        mnist = MNIST(source, train=split == "train")
        images, labels = mnist.data.numpy(), mnist.targets.byte().numpy()
        folder = Path("../data/png", split)
        folder.mkdir(parents=True)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            Image.fromarray(image).save(folder / f"{number:05}_{label}.png")
        for kind, values in (("images", images), ("labels", labels)):
            header = np.array([2048 + values.ndim, *values.shape], ">u4").tobytes()
            (raw / f"{name}-{kind}-idx{values.ndim}-ubyte").write_bytes(header + values.tobytes())
    print("the published MNIST" if mnist.published else "NOT the published MNIST")


# Measuring


def run(command, threads, source, work):
    """Run a command's programs, each in an empty folder; gives seconds, accuracy (%) and output."""
    environment = {name: value for name, value in os.environ.items() if name[:4] != "OMP_"}
    environment |= threads | {"MNIST_FOLDER": source, "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = str(ROOT / "benchmarks")
    how = {"env": environment, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    processes, start = [], time.perf_counter()
    try:
        for part in command.split(" beside "):
            words = ["-c", f"import benchmark; benchmark.{part}"]
            if part.startswith("main.py"):
                where = ["--device", "cpu", "--data-dir", source]
                words = [str(ROOT / "main.py"), *part.split()[1:], *where]
            folder = tempfile.mkdtemp(dir=work)
            processes.append(subprocess.Popen([sys.executable, *words], cwd=folder, **how))
        output, *_ = [process.communicate()[0] for process in processes]
        whole = time.perf_counter() - start
    finally:
        for process in processes:
            process.kill()
    if any(process.wait() for process in processes):
        raise UserError(f"{command}: failed; its error is above")
    seconds = re.search(r"^seconds ([\d.]+)$", output, re.M)  # of an epoch alone
    accuracy = re.search(r"test accuracy ([\d.]+) %", output)
    return {
        "seconds": float(seconds[1]) if seconds else whole,
        "accuracy": float(accuracy[1]) if accuracy else None,
        "output": output.strip(),
    }


def measure(commands, threads, repeats, source, work):
    """Run commands in turn; gives {program: {"seconds": [...], "accuracy": [...]}}."""
    measured = {side: {"seconds": [], "accuracy": []} for side in commands}
    for side, command in [*commands.items()] * repeats:
        values = run(command, threads, source, work)
        for key, numbers in measured[side].items():
            numbers.append(values[key])
    return measured


def machine():
    """What has to be the same for all measurements of one file, in words."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    names = re.findall(r"model name\s*: (.*)", text)
    cpu, *_ = *names, platform.processor() or platform.machine()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "scikit-learn"))
    words = f"{os.cpu_count()} cores, {cpu}, {platform.system()}"
    return f"{words}, Python {platform.python_version()}, {versions}"


# The documents


def table(results):
    """All that stands between the two markers of docs/speed.md."""
    from study.tables import markdown

    rows = []
    for key in (f"{what}, {how}" for what in MEASUREMENTS for how in THREADS):
        measured = results["measured"].get(key, {})
        for side, values in measured.items():
            first, seconds = next(iter(measured.values()))["seconds"], values["seconds"]
            low, middle, high = (f"{f(seconds):.3g}" for f in (min, median, max))
            times = median(b / a for a, b in zip(first, seconds, strict=True))
            right = "" if None in values["accuracy"] else f"{median(values['accuracy']):.2f}"
            numbers = f"{middle} ({low} to {high})", f"{times:.2f}", right
            rows.append([*key.split(", "), side, *numbers])
    load = f"load {max(results['loads']):.2f} before it"
    about = f"Measured on {results['date']} on {results['data']}; {load}; {results['machine']}."
    columns = ["what", "threads", "program", "seconds: median (lowest to highest)", "times"]
    return "\n".join([about, "", *markdown([*columns, "accuracy (%)"], rows, left=3)])


def sentence(results):
    """What the README says of it."""
    usual, alone = (
        [f"{median(values['seconds']):.0f}" for values in results["measured"][key].values()]
        for key in (f"lenet5, {how}" for how in THREADS)
    )
    return (
        f"[From the command to the pictures](docs/speed.md), LeNet-5's 5 epochs take {usual[0]} s; "
        f"the usual tutorial loop takes {usual[1]} s, and the published way {usual[2]} s. "
        f"On one thread: {alone[0]}, {alone[1]} and {alone[2]} s."
    )


def write_documents(results, root=ROOT):
    """Write the table, the README's sentence and the picture into the project's documents."""
    from figures import study, style
    from study.tables import include

    measured, titles = results["measured"], {"LeNet-5": "lenet5", "MLP": "mlp"}
    times = {
        title: {side: v["seconds"] for side, v in measured[f"{what}, as it comes"].items()}
        for title, what in titles.items()
    }
    note = f"each program with the threads that it takes by itself; {results['machine']}"
    style.save(study.speed(times, note), root / "plots" / "speed.png")
    include(root / "docs" / "speed.md", "speed", table(results))
    include(root / "README.md", "speed", sentence(results))


@program.guarded
def main(argv=None):
    """The program; gives its exit status."""
    parser = program.Parser(f"{__doc__}\nmeasurements: {', '.join(MEASUREMENTS)}")
    add, names = parser.add_argument, list(MEASUREMENTS)
    add("--only", nargs="+", choices=names, default=names, metavar="NAME", help="(default: all)")
    add("--repeats", type=int, default=5, choices=range(1, 100), metavar="N", help="(default: 5)")
    add("--data-dir", type=Path, default="data", help="holds MNIST (default: data)")
    add("--json", type=Path, default="benchmark.json", metavar="PATH", help="(benchmark.json)")
    add("--write", action="store_true", help="write docs/speed.md, README.md and the picture")
    options = parser.parse_args(argv)
    here = machine()
    results = {"machine": here, "date": time.strftime("%Y-%m-%d"), "loads": [], "measured": {}}
    if options.json.exists():
        results = json.loads(options.json.read_text(encoding="utf-8"))
        if results.get("machine") != here:
            raise UserError(f"{options.json}: was measured on another machine; move it away")
    keys = {f"{what}, {how}": (what, how) for what in options.only for how in THREADS}
    missing = {key: value for key, value in keys.items() if key not in results["measured"]}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        place = str(options.data_dir.expanduser().resolve()), Path(folder)
        if missing:
            results["loads"].append(os.getloadavg()[0])
            results["data"] = run(f"prepare({place[0]!r})", {}, *place)["output"]
        for key, (what, how) in missing.items():
            print(key, file=sys.stderr, flush=True)
            measured = measure(MEASUREMENTS[what], THREADS[how], options.repeats, *place)
            results["measured"][key] = measured
            write_whole(options.json, (json.dumps(results, indent=1) + "\n").encode())
    print(table(results))
    if options.write:
        write_documents(results)
    return 0


if __name__ == "__main__":
    program.end(main())
