"""Measures what the project promises, beside what it is compared to, alternating, in one run.

    python benchmarks/benchmark.py                      # everything, half an hour
    python benchmarks/benchmark.py --only epoch,start   # some of it

Prints a Markdown table, writes every value to benchmark.json; the README's are in results.json.
Uses the MNIST of --data-dir, or of the folder that MNIST_DIR names, or generated digits, and says
which. For Linux and macOS, on the CPU. A machine that is busy with something else gives nonsense:
the load before the start is printed.

Everything is measured in processes of their own, started here with `--child`, so that this one
stays small: a process never shows a lower peak of memory than the one that started it.
"""

import argparse
import contextlib
import csv
import gc
import importlib.metadata
import json
import operator
import os
import platform
import re
import resource
import runpy
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
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


PLAIN_DECODE = """
images, labels = [], []
with tarfile.open(tar) as archive:
    for member in archive:
        if member.isfile():
            png = archive.extractfile(member).read()
            images.append(np.asarray(Image.open(io.BytesIO(png))))
            labels.append(int(member.name[-5]))
images, labels = np.stack(images), np.array(labels)
"""


# Measured inside a process


def megabytes():
    """The most memory that this process has had, in units of 10^6 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def trainer(data, *arguments):
    """A function that makes what `main.train` takes: the data, a new network and so on."""
    import torch

    from dataset import MNIST
    from model import MODELS
    from training import seeding
    from training.config import parse
    from training.optim import SGD

    config, _ = parse(["--device", "cpu", *arguments], "")
    dataset = MNIST(data, train=True).augmented(config.augment)

    def make():
        torch.manual_seed(0)
        model = MODELS[config.model](**config.network)
        optimizer = SGD(model.parameters(), config.lr, config.momentum, fused=True)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        order = seeding.start_epoch(len(dataset), 0, 1)
        return model, dataset, order, optimizer, scheduler, config

    return make


def timed_epoch(parts):
    """Seconds of one `main.train`."""
    import main

    start = time.perf_counter()
    main.train(*parts)
    return time.perf_counter() - start


def timed_floor(parts, images, labels):
    """Seconds of as many of the same steps on one batch that never changes."""
    import torch.nn.functional as F

    model, dataset, _, optimizer, _, config = parts
    model.train()
    start = time.perf_counter()
    for _ in range(-(-len(dataset) // config.batch_size)):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def epoch_and_floor(data, model, repeats):
    """An epoch and its floor in turn; the first of each, which warms up, is left out."""
    import torch

    make = trainer(data, "--model", model)
    images, labels = next(make()[1].batches(torch.arange(64), 64))
    results = alternate(
        repeats + 1,
        {
            "epoch": lambda: timed_epoch(make()),
            "floor": lambda: timed_floor(make(), images, labels),
        },
    )
    return {side: seconds[1:] for side, seconds in results.items()}


def augmented_epochs(data, repeats):
    """A fifth of an epoch without augmentation and with either kind, in turn."""
    makers = {kind: trainer(data, "--augment", kind) for kind in ("none", "affine", "elastic")}

    def side(make):
        model, dataset, order, *rest = make()
        return timed_epoch((model, dataset, order[: len(dataset) // 5], *rest))

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

    from training import data

    for name in seconds:
        module = data if name == "MNIST" else main
        setattr(module, name, watched(name, getattr(module, name)))
    if main.main(arguments):
        sys.exit(1)
    return seconds | {"megabytes": megabytes() - before}


def first_step(arguments):
    """Ends right after the first step of a `main.py`; which modules came too early."""

    def end(optimizer, *_):
        print(json.dumps([name for name in ("matplotlib", "torchvision") if name in sys.modules]))
        sys.stdout.flush()
        os._exit(0)

    def imported():  # only now: what is imported here before it does would cost it less
        from torch.optim.optimizer import register_optimizer_step_post_hook

        register_optimizer_step_post_hook(end)

    gc.enable = imported  # main.py calls it when its imports are done
    sys.argv = ["main.py", *arguments]
    with contextlib.suppress(SystemExit):
        runpy.run_path(str(ROOT / "main.py"), run_name="__main__")
    sys.exit(1)  # only a run that stopped before its first step comes here


def timed(setup, statement):
    """Seconds of a statement, and the megabytes above `import torch` that its process took."""
    import torch  # noqa: F401, before the memory is first looked at

    before, names = megabytes(), {}
    exec(setup, names)
    start = time.perf_counter()
    exec(statement, names)
    return [time.perf_counter() - start, megabytes() - before]


def prepare(source, work, only):
    """Put the data into `work` in the forms that some items need, untimed; which data they are."""
    import numpy as np
    import torch

    from dataset import MNIST
    from digits import synthetic
    from digits.tarball import find_tarball, write_tarball

    work = Path(work)
    data = work / "data"
    data.mkdir()
    if source:
        for split in ("train", "test"):
            tar = find_tarball(source, split)
            shutil.copyfile(tar, data / tar.name)
    else:
        synthetic.generate(data)
    sets = {split: MNIST(data, train=split == "train") for split in ("train", "test")}  # and caches
    for split, dataset in sets.items():
        np.save(work / f"{split}_images.npy", dataset.data.numpy())
        np.save(work / f"{split}_labels.npy", dataset.targets.numpy())
        if {"published", "accuracy"} & set(only):
            with tarfile.open(find_tarball(data, split)) as tar:
                (work / split).mkdir()
                for member in (member for member in tar if member.isfile()):
                    name = Path(member.name).name
                    (work / split / name).write_bytes(tar.extractfile(member).read())
    train, count = sets["train"], len(sets["train"])
    if "growth" in only:
        for images in (count // 4, count // 2, count, 2 * count):
            rows = torch.arange(images) % count
            tar = work / f"growth{images}" / "train.tar"
            write_tarball(tar, train.data[rows], train.targets[rows], "train")
            shutil.copyfile(find_tarball(data, "test"), tar.with_name("test.tar"))
    kind = ("generated digits", "a data set of your own", "the published MNIST")
    return [count, kind[(source is not None) + train.published]]


CHILDREN = (
    usual_program,
    epoch_and_floor,
    augmented_epochs,
    watched_run,
    first_step,
    timed,
    prepare,
)


# Processes, from outside


def process(*command, work, **environment):
    """Run a command in a new folder: its seconds, its last line, and what `main.py` recorded."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with tempfile.TemporaryDirectory(dir=work) as folder:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=folder,
            env=environment,
            text=True,
            encoding="utf-8",
            capture_output=True,
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"error: {command}: status {done.returncode}\n{done.stderr[-2000:]}")
        metrics = []
        for path in Path(folder, "runs").glob("*/metrics.csv"):
            with open(path, encoding="utf-8") as file:
                metrics += csv.DictReader(file)
    return seconds, (done.stdout.splitlines() or [""])[-1], metrics


def child(function, *arguments, work):
    """Seconds of a process that calls one of CHILDREN, and what the function gave."""
    text = json.dumps(arguments, default=str)
    seconds, last, _ = process(__file__, "--child", function.__name__, text, work=work)
    return seconds, json.loads(last)


def alternate(repeats, sides):
    """{side: [what it gave, ...]}: the sides in turn, again and again."""
    results = {name: [] for name in sides}
    for _ in range(repeats):
        for name, measure in sides.items():
            results[name].append(measure())
    return results


def compared(what, measured, figure, bound=None, note="", unit="s"):
    """One line of the table: the values of each side, the figure made of them, and its bound."""
    holds = {"<": operator.le, ">": operator.ge}
    passed = holds[bound[0]](figure, float(bound[2:])) if bound else None
    return {
        "what": what,
        "measured": measured,
        "unit": unit,
        "figure": figure,
        "bound": bound,
        "passed": passed,
        "note": note,
    }


def ratio(over, under):
    """Median of one side over the median of the other."""
    return statistics.median(over) / statistics.median(under)


# The items: each gives lines of the table


def item_epoch(work, options):
    """1. Our training epoch over the same steps on one batch that never changes."""
    for model, bound in (("lenet5", "<=1.10"), ("mlp", "<=1.5")):
        _, seconds = child(epoch_and_floor, work / "data", model, options.repeats + 8, work=work)
        figure = statistics.median(map(operator.truediv, seconds["epoch"], seconds["floor"]))
        yield compared(f"{NAMES[model]}: epoch over its floor", seconds, figure, bound)


def item_tutorial(work, options):
    """2. The loop of the tutorials, with 0 and 2 workers, as a whole process of 5 epochs."""
    for model, bound in (("lenet5", ">=2.2"), ("mlp", ">=5")):
        sides = {"ours": lambda m=model: ours(work, "--model", m)[0]}
        for n in (0, 2):
            sides[f"{n} workers"] = lambda m=model, n=n: usual(work, m, False, n)[0]
        seconds = alternate(options.repeats + 2 * (model == "mlp"), sides)
        better = min(statistics.median(seconds[f"{n} workers"]) for n in (0, 2))
        figure = better / statistics.median(seconds["ours"])
        yield compared(f"{NAMES[model]}: tutorial's time over ours", seconds, figure, bound)


def item_published(work, options):
    """3. The published way: a file for each image, weight decay in Python, 5 epochs."""
    for model, bound in (("lenet5", ">=4"), ("mlp", ">=8")):
        seconds = alternate(
            options.repeats,
            {
                "ours": lambda m=model: ours(work, "--model", m, "--weight-decay", "0.0001")[0],
                "published way": lambda m=model: usual(work, m, True)[0],
            },
        )
        figure = ratio(seconds["published way"], seconds["ours"])
        yield compared(f"{NAMES[model]}: published way's time over ours", seconds, figure, bound)


def item_accuracy(work, options):
    """4. Time to 98.78 %: of all runs together, for each run that got there."""
    seconds, reached, accuracies = {"ours": [], "published way": []}, [0, 0], []
    for seed in range(options.repeats):
        took, _, metrics = ours(work, "--recipe", options.recipe, "--seed", seed)
        seconds["ours"].append(took)
        accuracies.append(float(metrics[-1]["test_accuracy"]))
        reached[0] += accuracies[-1] >= PUBLISHED_ACCURACY
        took, history = usual(work, "lenet5", True, 0, MAX_EPOCHS, PUBLISHED_ACCURACY, seed)
        seconds["published way"].append(took)
        reached[1] += history[-1] >= PUBLISHED_ACCURACY
    shown = ", ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies)
    note = (
        f"{options.recipe} reached {shown} %, enough in {reached[0]} of {options.repeats}; the "
        f"published way in {reached[1]} of {options.repeats} (at most {MAX_EPOCHS} epochs)"
    )
    cost = sum(seconds["published way"]) / (reached[1] or options.repeats)  # at least
    figure = cost / (sum(seconds["ours"]) / reached[0]) if reached[0] else 0.0
    what = "LeNet-5 to 98.78 %: published way's time over ours"
    yield compared(what, seconds, figure, ">=10", note)


def item_start(work, options):
    """5. What comes before the first step; reading the data."""
    data, early = work / "data", []

    def step():
        seconds, modules = child(first_step, ["--device", "cpu", "--data-dir", data], work=work)
        early.extend(modules)
        return seconds

    at_once = "import os, torch; os._exit(0)"  # as `first_step` ends
    seconds = alternate(
        options.repeats + 4,
        {
            "import torch": lambda: process("-c", "import torch", work=work)[0],
            "--help": lambda: process(ROOT / "main.py", "--help", work=work)[0],
            "import torch alone": lambda: process("-c", at_once, work=work)[0],
            "first step": step,
        },
    )
    for bare, side in (("import torch", "--help"), ("import torch alone", "first step")):
        pair = {"import torch": seconds[bare], side: seconds[side]}
        figure = statistics.median(seconds[side]) - statistics.median(seconds[bare])
        yield compared(f"{side} after import torch, s", pair, figure, "<=0.4")
    early = sorted(set(early))
    yield compared("matplotlib, torchvision before it", {}, len(early), "<=0", ", ".join(early))

    tar = next(data.glob("train.tar*"))
    mnist = "from dataset import MNIST"
    plain = f"import io, tarfile; import numpy as np; from PIL import Image; tar = {str(tar)!r}"
    both = f"MNIST({str(data)!r}); MNIST({str(data)!r}, train=False)"
    cold = f"import os; os.symlink({str(tar)!r}, {tar.name!r}); {mnist}"  # where no cache is
    seconds = alternate(
        options.repeats,
        {
            "ours, verified": lambda: child(timed, cold, "MNIST('.')", work=work)[1][0],
            "tarfile + Pillow": lambda: child(timed, plain, PLAIN_DECODE, work=work)[1][0],
            "later starts": lambda: child(timed, mnist, both, work=work)[1][0],
        },
    )
    later = {"both sets": seconds.pop("later starts")}
    yield compared("first start over plain decoding", seconds, ratio(*seconds.values()), "<=2")
    yield compared("later starts, s", later, statistics.median(later["both sets"]), "<=0.2")


def item_growth(work, options):
    """6. A quarter, half, all and twice the images: time and memory of each; from tar to plots."""
    sides = {}
    for folder in sorted(work.glob("growth*"), key=lambda folder: int(folder.name[6:])):
        command = ["--device", "cpu", "--epochs", "2", "--data-dir", folder]
        sides[folder.name[6:]] = lambda c=command: child(watched_run, c, work=work)[1]
    runs = alternate(options.repeats + 2, sides)
    micro = {n: [1e6 * s / int(n) for run in runs[n] for s in run["train"]] for n in runs}
    medians = [statistics.median(values) for values in micro.values()]
    off = max(abs(median / statistics.mean(medians) - 1) for median in medians)
    yield compared("time an image, furthest from their mean", micro, off, "<=0.10", unit="µs")
    memory = {n: [run["megabytes"] for run in runs[n]] for n in runs}
    excess = max(max(values) - 2 * 784 * int(n) / 1e6 for n, values in memory.items())
    yield compared("memory but for 2 x 784 B an image, MB", memory, excess, "<=300", unit="MB")


def item_runs(work, options):
    """7. Four runs in one command, start and plots apart, over the epochs of one."""
    loaded = set()

    def side(count):
        command = ["--device", "cpu", "--epochs", "2", "--data-dir", work / "data"]
        command += ["--runs", str(count)]
        took, run = child(watched_run, command, work=work)
        loaded.add(len(run["MNIST"]))
        return took, sum(run["fit"])

    sides = {"one": lambda: side(1), "four": lambda: side(4)}
    results = alternate(options.repeats + 2, sides)
    fits = [fit for _, fit in results["one"]]
    rest = statistics.median(took - fit for took, fit in results["one"])
    four = [took - rest for took, _ in results["four"]]
    yield compared("--runs 4 over one run", {"one": fits, "four": four}, ratio(four, fits), "<=4")
    yield compared("data sets loaded by each", {}, max(loaded), "<=2")


def item_generated(work, options):
    """8. 70,000 generated digits, on disk."""
    code = "from digits import synthetic", "synthetic.generate('drawn')"
    results = [child(timed, *code, work=work)[1] for _ in range(options.repeats)]
    seconds, memory = map(list, zip(*results, strict=True))
    yield compared("70,000 generated digits, s", {"": seconds}, statistics.median(seconds), "<=10")
    yield compared("their memory, MB", {"": memory}, max(memory), "<=600", unit="MB")


def item_augment(work, options):
    """9. What augmentation adds to a training step, as a part of it."""
    _, seconds = child(augmented_epochs, work / "data", options.repeats + 4, work=work)
    for kind in ("affine", "elastic"):
        pair = {"none": seconds["none"], kind: seconds[kind]}
        figure = ratio(seconds[kind], seconds["none"]) - 1
        yield compared(f"what {kind} adds, over the step", pair, figure, "<=1")


def item_processes(work, options):
    """10. Two processes with a thread each against one with two; as it is."""
    torchrun = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"
    results = alternate(
        options.repeats,
        {
            "1 process": lambda: ours(work, OMP_NUM_THREADS="2"),
            "2 processes": lambda: ours(work, launcher=torchrun, OMP_NUM_THREADS="1"),
        },
    )
    whole = {side: [seconds for seconds, _, _ in runs] for side, runs in results.items()}
    epochs = {
        side: [float(row["seconds"]) for *_, metrics in runs for row in metrics]
        for side, runs in results.items()
    }
    for what, seconds in (("whole", whole), ("an epoch", epochs)):
        yield compared(f"2 processes over 1, {what}", seconds, ratio(*reversed(seconds.values())))


ITEMS = {name[5:]: item for name, item in list(globals().items()) if name.startswith("item_")}


def ours(work, *arguments, launcher=(), **environment):
    """A whole `main.py`."""
    always = "--device", "cpu", "--data-dir", work / "data"
    return process(*launcher, ROOT / "main.py", *always, *arguments, work=work, **environment)


def usual(work, *arguments):
    """A whole `usual_program`."""
    return child(usual_program, work, *arguments, work=work)


# The table


def machine():
    """Where the numbers come from."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        cpu = found[1] if found else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "os": platform.system(),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "load": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
    }


def short(number):
    """A number with three digits or more."""
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def table_line(line):
    """A line of the table: medians and, in brackets, the lowest and highest."""
    sides = []
    for side, values in line["measured"].items():
        low, middle, high = map(short, (min(values), statistics.median(values), max(values)))
        sides.append(f"{side} {middle} {line['unit']} ({low} to {high})".lstrip())
    bound = (line["bound"] or "as it is").replace("<=", "at most ").replace(">=", "at least ")
    verdict = {True: "yes", False: "NO", None: ""}[line["passed"]]
    note = f" ({line['note']})" if line["note"] else ""
    cells = line["what"] + note, "; ".join(sides), short(line["figure"]), bound, verdict
    return f"| {' | '.join(cells)} |"


def some_items(text):
    """A converter for argparse: names of items."""
    if unknown := set(text.split(",")) - set(ITEMS):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(ITEMS)}")
    return text.split(",")


def main():
    items = "\n".join(f"  {name:<10} {item.__doc__}" for name, item in ITEMS.items())
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"items:\n{items}",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", type=some_items, default=list(ITEMS), metavar="ITEM,...")
    parser.add_argument(
        "--repeats",
        type=int,
        default=2,
        choices=range(1, 100),
        metavar="N",
        help="of whole processes (default: 2); more of what is short",
    )
    parser.add_argument("--recipe", default="fast", help="of item 4 (default: fast)")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="(default: data)")
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("benchmark.json"),
        metavar="PATH",
        help="(default: benchmark.json)",
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clears the temporary folder, too
    if not options.json.parent.is_dir():
        parser.error(f"argument --json: {options.json.parent}: there is no such folder")
    source = None
    for folder in (os.environ.get("MNIST_DIR"), options.data_dir):  # the latter before the former
        if folder and all(list(Path(folder).glob(f"{split}.tar*")) for split in ("train", "test")):
            source = Path(folder).absolute()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        work = Path(folder)
        _, (count, data) = child(prepare, source, work, options.only, work=work)
        results = {"machine": machine(), "data": f"{data}, {count:,} images", "lines": []}
        print("; ".join(f"{key}: {value}" for key, value in results["machine"].items()))
        print(
            f"data: {results['data']}\n\n| what | measured: median (lowest to highest) | figure "
            "| bound | holds |\n| --- | --- | --- | --- | --- |",
            flush=True,
        )
        for name in options.only:
            for line in ITEMS[name](work, options):
                results["lines"].append({"item": name, **line})
                print(table_line(line), flush=True)
                options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        function = next(function for function in CHILDREN if function.__name__ == sys.argv[2])
        print("\n" + json.dumps(function(*json.loads(sys.argv[3]))))
    else:
        main()
