"""What the benchmark measures, and the table and the picture of its results.

The results are a dictionary, as benchmark.py keeps them. "machine", "repeats" and "data" say what
was measured; "starts" has the date and the load each time that the benchmark was started;
"measured" is {measurement: {side: {quantity: [value of each repetition]}}}.
"""

import configparser
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # benchmark.py is started as a script of its own
TOO_BUSY = 0.5  # load for each core above which no number can be trusted


class Measurement(NamedTuple):
    """A section of measurements.ini."""

    what: str
    unit: str
    threads: int
    sides: dict[str, tuple[str, str]]  # {name: (command, bound)}
    reason: str


def read_measurements():
    """{name: Measurement} of measurements.ini."""
    parser = configparser.ConfigParser(delimiters=["="], interpolation=None)
    parser.optionxform = str  # names keep their capital letters
    parser.read(Path(__file__).with_name("measurements.ini"), encoding="utf-8")
    measurements = {}
    for name in parser.sections():
        lines = dict(parser[name])
        facts = [lines.pop("what"), lines.pop("unit"), int(lines.pop("threads"))]
        reason = lines.pop("reason", "")
        sides = {side: tuple(line.split(" | ")) for side, line in lines.items()}
        sides = {side: (*line, "")[:2] for side, line in sides.items()}
        measurements[name] = Measurement(*facts, sides, reason)
    return measurements


MEASUREMENTS = read_measurements()


# Where something was measured


def circumstances(repeats):
    """What has to be the same for all measurements of one file of results."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    machine = {"cores": os.cpu_count(), "cpu": cpu, "system": platform.system()}
    installed = {one.metadata["Name"]: one.version for one in metadata.distributions()}
    versions = {name: installed.get(name, "missing") for name in ("torch", "scikit-learn")}
    return {
        "machine": machine | {"Python": platform.python_version()} | versions,
        "repeats": repeats,
    }


def busyness():
    """The date, and how busy the machine is: its load, and how many processes run."""
    running = "unknown"
    if Path("/proc/loadavg").exists():
        running = int(Path("/proc/loadavg").read_text().split()[3].split("/")[0]) - 1  # not this
    return {"date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[0], "running": running}


# The table: a line for each side that something was measured beside


def table(results):
    """All that stands between the two markers of docs/speed.md."""
    start = max(results["starts"], key=lambda start: start["load"])
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    lines = [
        f"Measured on {start['date']} on {results['data']}; load {start['load']:.2f}, running "
        f"processes {start['running']} before that; {machine}.",
        "",
        "| what | unit | measured: median (lowest to highest) | beside it | times as much | bound "
        "| reason | holds | threads | repetitions |",
        "| --- | --- | --- | --- | ---: | --- | --- | --- | ---: | ---: |",
    ]
    if start["load"] > TOO_BUSY * results["machine"]["cores"]:
        lines[0] = f"**The machine was busy: do not trust these numbers.** {lines[0]}"
    for name, one in MEASUREMENTS.items():
        if name in results["measured"]:
            lines += rows(one, results["measured"][name])
    return "\n".join(lines)


def rows(one, found):
    """The lines of a measurement; a figure is the median of the ratios of the repetitions."""
    (first, _), *others = one.sides.items()
    here = found[first][one.unit]
    lines = []
    for side, (_, bound) in others:
        there = found[side][one.unit]
        times = median(b / a for a, b in zip(here, there, strict=True))
        cells = [one.what, one.unit, cell(first, found[first], one.unit)]
        cells += [cell(side, found[side], one.unit), f"{times:.3g}", bound, one.reason]
        cells += [holds(times, bound), str(one.threads), str(len(here))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def cell(side, found, unit):
    """A side's median, lowest and highest value; of whole runs also the accuracy."""
    low, middle, high = (f"{f(found[unit]):.3g}" for f in (min, median, max))
    text = f"{side}: {middle} {'MB' if unit == 'memory' else 's'} ({low} to {high})"
    if unit == "whole run" and "accuracy" in found:
        text += f", {100 * median(found['accuracy']):.2f} % right"
    return text


def holds(times, bound):
    """Whether a figure holds its bound: "yes", "no", or nothing where there is no bound."""
    if not bound:
        return ""
    limit = float(bound.split()[-1])
    return "yes" if (times >= limit if "least" in bound else times <= limit) else "**no**"


def sentence(results):
    """What the README says of it."""
    here, loop, _, published = (
        f"{median(found['whole run']):.0f} s" for found in results["measured"]["lenet5"].values()
    )
    return (
        f"From the command to the pictures, LeNet-5's 5 epochs take {here} on one thread; the "
        f"usual tutorial loop takes {loop}, and the published way {published}."
    )


def ways(results):
    """{network: {way: seconds of each repetition}} of whole runs, for the picture."""
    mlp = results["measured"]["mlp"] | {
        "scikit-learn": results["measured"]["scikit-learn"]["scikit-learn"]
    }
    return {
        title: {side: found["whole run"] for side, found in sides.items()}
        for title, sides in (("LeNet-5", results["measured"]["lenet5"]), ("MLP", mlp))
    }


def write_documents(results, root=ROOT):
    """Write the table, the README's sentence and the picture into the project's documents."""
    from figures import study as charts  # here, because a process that measures must be small
    from figures import style
    from study.tables import include

    threads = MEASUREMENTS["lenet5"].threads
    note = f"each on {threads} thread{'s' * (threads > 1)}; workers are further processes"
    style.save(charts.speed(ways(results), note), root / "plots" / "speed.png")
    include(root / "docs" / "speed.md", "speed", table(results))
    include(root / "README.md", "speed", sentence(results))
