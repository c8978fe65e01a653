"""What the benchmark measures and beside what; the table and the picture of its results.

The results are a dictionary, as benchmark.py keeps them. "machine", "code", "repeats" and "data"
say what was measured; "starts" has the date and the load each time that the benchmark was started;
"measured" is {measurement: {side: {quantity: [value of each repetition]}}}.
"""

import hashlib
import os
import platform
import re
import time
from collections.abc import Collection
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- speed: written by benchmark.py -->", "<!-- end of speed -->"
TOO_BUSY = 0.5  # load for each core
LONG, FEWER = 60, 3  # seconds of a repetition, and how many there are of one that takes longer
HEAD = [
    "| what | quantity | measured: median (lowest to highest) | beside it | how many times as much "
    "beside it | bound | reason for the bound | holds | threads | repetitions |",
    "| --- | --- | --- | --- | ---: | --- | --- | --- | ---: | ---: |",
]


class Measurement(NamedTuple):
    """One side, and others that are measured beside it: how many times as long do they take?

    A side is `main.py` with options, a function of benchmark.py, or Python. "A then B" are two
    commands in one folder. "A beside B" are two at the same time, of which the slower one counts.
    """

    what: str
    side: tuple[str, str]  # its name and its command
    others: dict[str, tuple[str, str]]  # their commands, and the bound of how many times as long
    reason: str  # of the bounds
    seconds: float  # that one repetition takes on 2 quiet cores, about
    quantities: tuple[str, ...] = ("whole run",)  # each makes lines of the table
    threads: int = 2  # of each process, if its command does not say it


AS_IT_IS, NO_BOUND = "as it is", "nothing was promised"
BUSY_LOOP = "while True: pass"
EPOCH, DECAY = "main.py --epochs 1", "--weight-decay 0.0001"
QUARTER = f"{EPOCH} --data-dir ../quarter"
LOOP_QUARTER = "benchmark.tutorial('lenet5', data='../quarter', epochs=1)"

MEASUREMENTS = {
    "lenet5": Measurement(
        "LeNet-5, 5 epochs, from the command to the pictures",
        ("this project, with weight decay", f"main.py --model lenet5 {DECAY}"),
        {
            "tutorial loop": ("benchmark.tutorial('lenet5')", "at least 2.2"),
            "tutorial loop, 2 workers": ("benchmark.tutorial('lenet5', 2)", "at least 2.2"),
            "published way, with weight decay": ("benchmark.published('lenet5')", "at least 4"),
        },
        "all take the same steps, about a third of the tutorial loop's time; the published way "
        "also opens 70,000 files in each epoch",
        135,
    ),
    "mlp": Measurement(
        "MLP, 5 epochs, from the command to the pictures",
        ("this project, with weight decay", f"main.py --model mlp {DECAY}"),
        {
            "tutorial loop": ("benchmark.tutorial('mlp')", "at least 5"),
            "tutorial loop, 2 workers": ("benchmark.tutorial('mlp', 2)", "at least 5"),
            "published way, with weight decay": ("benchmark.published('mlp')", "at least 8"),
        },
        "the same; its steps are less than a tenth of the tutorial loop's time",
        90,
    ),
    "scikit-learn": Measurement(
        "MLP, 5 epochs: the whole program (only this project's draws pictures); an epoch of it "
        "(only this project's has a test)",
        ("this project", "main.py --model mlp"),
        {"scikit-learn": ("benchmark.scikit_learn()", "at least 1")},
        "whoever wants no more than this network takes what is faster",
        6,
        ("whole run", "an epoch"),
        threads=1,
    ),
    "lenet5-epoch": Measurement(
        "LeNet-5, an epoch beside its steps alone, all of them on one batch",
        ("the steps alone", "benchmark.epoch_and_steps('lenet5', turns=2)"),
        {"an epoch": ("benchmark.epoch_and_steps('lenet5', turns=2)", "at most 1.10")},
        "batches, figures and the schedule may take a tenth of the steps' time",
        14,
        ("an epoch",),
    ),
    "mlp-epoch": Measurement(
        "MLP, an epoch beside its steps alone, all of them on one batch",
        ("the steps alone", "benchmark.epoch_and_steps('mlp', turns=8)"),
        {"an epoch": ("benchmark.epoch_and_steps('mlp', turns=8)", "at most 1.2")},
        "the steps are so short that the same work is a larger part of them",
        7,
        ("an epoch",),
    ),
    "help": Measurement(
        "Time until `--help` has been shown",
        ("import torch", "import torch"),
        {"main.py --help": ("main.py --help", "at most 1.2")},
        "nothing large but torch may be imported",
        3,
    ),
    "start": Measurement(
        "Reading the images",
        ("tarfile and Pillow, training images", "benchmark.plain_decoding()"),
        {
            "first start, training images": ("benchmark.our_reading('.', ['train'])", "at most 2"),
            "later starts, all images": (
                "benchmark.our_reading('../all', ['train', 'test'])",
                "at most 0.04",
            ),
        },
        "to verify may take as long as to decode; later, from the cache, nobody notices it",
        10,
        ("reading",),
    ),
    "growth": Measurement(
        "An epoch on more images",
        ("15,000 images", "main.py --epochs 2 --data-dir ../quarter"),
        {
            "30,000 images": ("main.py --epochs 2 --data-dir ../half", "at most 2.2"),
            "60,000 images": ("main.py --epochs 2 --data-dir ../all", "at most 4.4"),
            "120,000 images": ("main.py --epochs 2 --data-dir ../twice", "at most 8.8"),
        },
        "as many times as long as there are images, and a tenth",
        26,
        ("an epoch",),
    ),
    "memory": Measurement(
        "Memory at the peak of a run of one epoch",
        ("import torch", "import torch"),
        {
            "15,000 images": (QUARTER, "at most 1.45"),
            "120,000 images": (f"{EPOCH} --data-dir ../twice", "at most 1.45"),
        },
        "300 MB more than the 660 of torch (built for CUDA) itself",
        11,
        ("memory",),
    ),
    "distortion": Measurement(
        "An epoch of LeNet-5 on distorted images",
        ("not distorted", EPOCH),
        {
            "affine": (f"{EPOCH} --augment affine", "at most 2"),
            "elastic": (f"{EPOCH} --augment elastic", "at most 2"),
        },
        "to distort a batch may take as long as to train on it",
        15,
        ("an epoch",),
    ),
    "resume": Measurement(
        "A finished run continues for one more epoch",
        ("a run of one epoch", f"{EPOCH} --name one"),
        {"one more": (f"{EPOCH} --name one then main.py --name one --epochs 2 --resume", AS_IT_IS)},
        NO_BOUND,
        13,
        ("last command",),
    ),
    "beside": Measurement(
        "An epoch of LeNet-5 on 15,000 images while something else runs",
        ("alone", QUARTER),
        {
            "beside a second run": (f"{QUARTER} beside {QUARTER}", "at most 5"),
            "beside a busy loop": (f"{QUARTER} beside {BUSY_LOOP}", "at most 5"),
        },
        "half of the machine gives 2; threads that spin while they wait have made it 100",
        17,
        ("an epoch",),
    ),
    "beside-tutorial": Measurement(
        "The same of the tutorial loop",
        ("alone", LOOP_QUARTER),
        {
            "beside a second run": (f"{LOOP_QUARTER} beside {LOOP_QUARTER}", AS_IT_IS),
            "beside a busy loop": (f"{LOOP_QUARTER} beside {BUSY_LOOP}", AS_IT_IS),
        },
        NO_BOUND,
        25,
        ("an epoch",),
    ),
    "two-runs": Measurement(
        "Two runs of one epoch, side by side with 1 thread each as in `reproduce.py --jobs 2`",
        ("side by side", f"{EPOCH} --threads 1 beside {EPOCH} --threads 1"),
        {"one after the other, 2 threads": (f"{EPOCH} then {EPOCH} --seed 1", AS_IT_IS)},
        NO_BOUND,
        19,
    ),
}


# Where something was measured


def circumstances() -> dict:
    """The machine and the code, which have to be the same for all measurements of one file."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        cpu = re.search(r"model name\s*: (.*)|$", Path("/proc/cpuinfo").read_text())[1] or cpu
    installed = {one.metadata["Name"]: one.version for one in metadata.distributions()}
    machine = {"cpu": cpu, "cores": os.cpu_count(), "system": platform.system()}
    machine["python"] = platform.python_version()
    machine |= {name: installed.get(name, "missing") for name in ("torch", "scikit-learn")}
    folders = (ROOT, ROOT / "digits", ROOT / "training", ROOT / "benchmarks")
    code = [path.read_bytes() for folder in folders for path in sorted(folder.glob("*.py"))]
    return {"machine": machine, "code": hashlib.sha256(b"".join(code)).hexdigest()}


def busyness() -> dict:
    """The date, and how busy the machine is."""
    running = "unknown"
    if Path("/proc/loadavg").exists():
        running = int(Path("/proc/loadavg").read_text().split()[3].split("/")[0]) - 1  # not this
    return {"date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[0], "running": running}


def plan(measurements: Collection[Measurement], repeats: int) -> str:
    """How many measurements there are, and how long they take with their preparation."""
    seconds = 60.0
    for one in measurements:
        seconds += one.seconds * (min(repeats, FEWER) if one.seconds > LONG else repeats)
    return f"{len(measurements)} measurements, {seconds / 60:.0f} minutes on 2 quiet cores"


# The table: a line for each side that something was measured beside


def lines(measured: dict, name: str) -> list[str]:
    """The lines of the table of one measurement, which has been made."""
    one, found = MEASUREMENTS[name], measured[name]
    (side, _), rows = one.side, []
    for quantity in one.quantities:
        here = found[side][quantity]
        for other, (_, bound) in one.others.items():
            there = found[other][quantity]
            times = median(b / a for a, b in zip(here, there, strict=True))
            cells = [one.what, quantity, cell(side, found[side], quantity)]
            cells += [cell(other, found[other], quantity), f"{times:.3g}", bound, one.reason]
            cells += [holds(times, bound), str(one.threads), str(len(here))]
            rows.append(f"| {' | '.join(cells)} |")
    return rows


def cell(side: str, found: dict[str, list[float]], quantity: str) -> str:
    """A side's median, lowest and highest value; of whole runs also the accuracy."""
    numbers = found[quantity]
    low, middle, high = (f"{n:.3g}" for n in (min(numbers), median(numbers), max(numbers)))
    text = f"{side}: {middle} {'MB' if quantity == 'memory' else 's'} ({low} to {high})"
    if quantity == "whole run" and "accuracy" in found:
        text += f", {100 * median(found['accuracy']):.2f} % right"
    return text


def holds(times: float, bound: str) -> str:
    """Whether a figure holds its bound: "yes", "no", or nothing where there is no bound."""
    if bound == AS_IT_IS:
        return ""
    limit = float(bound.split()[-1])
    return "yes" if (times >= limit if "least" in bound else times <= limit) else "**no**"


def introduction(results: dict) -> str:
    """Where and on what the numbers were measured, and whether the machine was busy."""
    start = max(results["starts"], key=lambda start: start["load"])
    text = "Measured on {date}; load {load:.2f}, running processes {running} before that. ".format(
        **start
    )
    text += "{cores} cores of an {cpu} ({system}), Python {python}, torch {torch}, scikit-learn "
    text += "{scikit-learn}"
    text = text.format(**results["machine"]) + f"; {results['data']}."
    if start["load"] > TOO_BUSY * results["machine"]["cores"]:
        return f"**The machine was busy with something else: do not trust these numbers.** {text}"
    return text


def table(results: dict) -> str:
    """All that stands between the two markers of docs/speed.md."""
    measured = results["measured"]
    body = [line for name in MEASUREMENTS if name in measured for line in lines(measured, name)]
    return "\n".join([introduction(results), "", *HEAD, *body])


def sentence(results: dict) -> str:
    """What the README says of it."""
    here, loop, _, published = (
        f"{median(found['whole run']):.0f} s" for found in results["measured"]["lenet5"].values()
    )
    return (
        f"From the command to the pictures, LeNet-5's 5 epochs take {here}; the usual tutorial "
        f"loop takes {loop}, and the published way {published}."
    )


def ways(results: dict) -> dict[str, dict[str, list[float]]]:
    """{network: {way: seconds of each repetition}} of whole runs, for the picture."""
    measured = results["measured"]
    mlp = measured["mlp"] | {"scikit-learn, 1 thread": measured["scikit-learn"]["scikit-learn"]}
    return {
        title: {side.split(", with")[0]: found["whole run"] for side, found in sides.items()}
        for title, sides in (("LeNet-5", measured["lenet5"]), ("MLP", mlp))
    }


def write_documents(results: dict) -> None:
    """Write the table, the README's sentence and the picture into the project's documents."""
    from training import charts  # here, because a process that measures must be small

    charts.speed(ROOT / "plots" / "speed.png", ways(results))
    include(ROOT / "docs" / "speed.md", table(results))
    include(ROOT / "README.md", sentence(results))


def include(path: Path, text: str) -> None:
    """Put a text between the two markers of a document; one without markers stays as it is."""
    from files import write_whole

    before, start, rest = path.read_text(encoding="utf-8").partition(START)
    if start:
        _, end, after = rest.partition(END)
        write_whole(path, f"{before}{START}\n\n{text}\n\n{end}{after}".encode())
