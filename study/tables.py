"""The results of reproduce.py: one committed file, and the tables and pictures made of it.

`results` is {experiment: {seed: history}} everywhere. Of the study of regularisation the file has
only the last epoch of each run, so its histories have one row.
"""

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from files import write_whole
from handwriting import picture
from model import build
from study.experiments import (
    ALL,
    DECAYS,
    DROPOUTS,
    EXPERIMENTS,
    LENGTHS,
    PAIRS,
    SETTINGS,
    Setting,
)
from study.intervals import differences, seeds_needed, verdict
from training import checkpoint
from training.checkpoint import METRICS
from training.config import parse
from training.report import mean_and_deviation

History = list[dict]
Results = dict[str, dict[int, History]]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results.csv"
IN_README = ["lenet5", "mlp", "regularized", "fast", "modern", "best"]
ODD_NAMES = (
    "mlp56: the MLP with 56 hidden units, as many parameters as LeNet-5; "
    "generated: LeNet-5 trained on generated digits alone"
)
VERSIONS = ["python", "torch", "threads"]  # columns of the file


# The file


def read(path: Path = RESULTS) -> Results:
    """The results in the committed file."""
    results: Results = {}
    for row in read_rows(path):
        history = results.setdefault(row["experiment"], {}).setdefault(int(row["seed"]), [])
        history.append({key: float(row[key]) for key in METRICS})
    return {name: results[name] for name in ALL if name in results}


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of the committed file."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(found: Results, versions: Mapping[str, object], path: Path = RESULTS) -> None:
    """Put complete experiments into the committed file; the rows of all others stay. OSError."""
    rows: dict[str, list[dict]] = {name: [] for name in ALL}
    for row in read_rows(path):
        rows.setdefault(row["experiment"], []).append(row)
    made_with = {key: versions[key] for key in VERSIONS}
    for name, histories in found.items():
        rows[name] = [
            {"experiment": name, "seed": seed} | row | made_with
            for seed, history in histories.items()
            for row in (history if name in EXPERIMENTS else history[-1:])
        ]
    columns = ["experiment", "seed", *METRICS, *VERSIONS]
    checkpoint.write_table(path, columns, [row for some in rows.values() for row in some])


def last(histories: Mapping[int, History], metric: str, scale: float = 1) -> list[float]:
    """A metric after the last epoch, for each seed."""
    return [scale * history[-1][metric] for history in histories.values()]


# Tables


def main_table(results: Results, names: Sequence[str]) -> list[str]:
    """The lines of the table of test accuracies."""
    lines = [
        "| experiment | command | parameters | published | test accuracy (%) | range | n | time |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in (name for name in names if name in results):
        command, _, published = ALL[name]
        config, _ = parse(command.split(), "")
        count = sum(p.numel() for p in build(config.model, config.network).parameters())
        accuracy = last(results[name], "test_accuracy", 100)
        seconds = min(sum(row["seconds"] for row in h) for h in results[name].values())
        note = ", trained on generated digits" if name == "generated" else ""
        lines.append(
            f"| {name} | `python main.py {command}`{note} | {count:,} | "
            f"{f'{published[3]:.2f}' if published else '–'} | {mean_and_deviation(accuracy, 2)} | "
            f"{min(accuracy):.2f} to {max(accuracy):.2f} | {len(accuracy)} | {seconds:.0f} s |"
        )
    return lines


def detail_table(results: Results) -> list[str]:
    """The lines of the table of losses, beside the published ones."""
    lines = [
        "| experiment | train loss | train accuracy (%) | test loss | published: train loss, "
        "accuracy, test loss |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, histories in results.items():
        published = EXPERIMENTS[name].published
        lines.append(
            f"| {name} | {mean_and_deviation(last(histories, 'train_loss'), 4)} | "
            f"{mean_and_deviation(last(histories, 'train_accuracy', 100), 2)} | "
            f"{mean_and_deviation(last(histories, 'test_loss'), 4)} | "
            f"{'{:.4f}, {:.2f}, {:.4f}'.format(*published) if published else '–'} |"
        )
    return lines


def seeds_table(results: Results) -> list[str]:
    """The lines of the table of how many seeds a comparison needs."""
    lines = [
        "| comparison | deviation of the difference | seeds for 0.1 points | for 0.05 points |",
        "| --- | ---: | ---: | ---: |",
    ]
    for first, second, what in PAIRS:
        if first in results and second in results:
            deviation = statistics.stdev(differences(results[first], results[second]))
            needed = " | ".join(str(seeds_needed(deviation, size)) for size in (0.1, 0.05))
            lines.append(f"| {what} | {deviation:.2f} | {needed} |")
    return lines


def all_tables(results: Results) -> str:
    """The tables of docs/results.md, and whether the differences are more than noise."""
    known = {name: histories for name, histories in results.items() if name in EXPERIMENTS}
    verdicts = [
        f"- {what}: {verdict(known.get(first, {}), known.get(second, {}))}"
        for first, second, what in PAIRS
    ]
    parts = [
        main_table(known, list(known)),
        detail_table(known),
        ["Are the differences noise?"],
        verdicts,
        ["How many seeds does it take to see a difference of that size in 80 of 100 comparisons?"],
        seeds_table(known),
    ]
    return "\n\n".join("\n".join(part) for part in parts)


# The study of regularisation


def best_settings(results: Results) -> dict[int, Setting]:
    """The setting of each length with the lowest mean validation error; {} before all are run."""
    if any(one.judged not in results for one in SETTINGS):
        return {}
    return {
        epochs: min(
            (one for one in SETTINGS if one.epochs == epochs),
            key=lambda one: statistics.mean(errors(results[one.judged])),
        )
        for epochs in LENGTHS
    }


def errors(histories: Mapping[int, History]) -> list[float]:
    """The error of each seed after the last epoch, in percent."""
    return [100 - accuracy for accuracy in last(histories, "test_accuracy", 100)]


def study_tables(results: Results) -> str:
    """What the study of regularisation found, for docs/results.md; "" before all of it was run."""
    chosen = best_settings(results)
    if not chosen:
        return ""
    parts = ["To remember:\n\n" + "\n".join(f"- {one}" for one in lessons(results, chosen))]
    for epochs, best in chosen.items():
        lines = [
            f"| {epochs} epochs: dropout | "
            + " | ".join(f"weight decay {decay:g}" for decay in DECAYS)
            + " |",
            "| --- |" + " ---: |" * len(DECAYS),
        ]
        for dropout in DROPOUTS:
            row = [Setting(epochs, dropout, decay) for decay in DECAYS]
            cells = [mean_and_deviation(errors(results[one.judged]), 2) for one in row]
            marked = [f"**{c}**" if one == best else c for one, c in zip(row, cells, strict=True)]
            lines.append(f"| {dropout:g} | {' | '.join(marked)} |")
        parts.append("\n".join(lines))
    tested = []
    for epochs, best in chosen.items():
        found = verdict(results.get(best.tested, {}), results.get(best.baseline.tested, {}))
        tested.append(
            f"- {epochs} epochs, dropout {best.dropout:g} and weight decay {best.decay:g}, against "
            f"none: {found}"
        )
    parts.append("The best setting of each length, on MNIST's test set:\n\n" + "\n".join(tested))
    picture = "![Validation error against dropout](../plots/regularization.png)"
    return "\n\n".join([picture, *parts])


def lessons(results: Results, chosen: Mapping[int, Setting]) -> list[str]:
    """Three sentences that say what to remember of the study."""

    def error(*settings: Setting) -> float:
        return statistics.mean(e for one in settings for e in errors(results[one.judged]))

    def change(before: float, after: float) -> str:
        word = "raises" if after > before else "lowers"
        return f"{word} the validation error from {before:.2f} % to {after:.2f} %"

    def with_dropout(epochs: int, dropout: float) -> float:
        return error(*(Setting(epochs, dropout, decay) for decay in DECAYS))

    short, long, most = min(LENGTHS), max(LENGTHS), max(DROPOUTS)
    none, none_long = error(Setting(short, 0, 0)), error(Setting(long, 0, 0))
    best = error(chosen[short])
    effects = [
        f"of {epochs} epochs, it {change(with_dropout(epochs, 0), with_dropout(epochs, most))}"
        for epochs in LENGTHS
    ]
    more = "Longer training" if none - none_long > none - best else "Regularisation"
    same = [errors(results[one.judged]) for one in SETTINGS if one.epochs == short]
    return [
        f"Judge dropout together with the length of training. Dropout {most:g}: "
        f"{'; '.join(effects)} (means over all weight decays).",
        f"{more} helps more: without regularisation, training for {long} epochs in place of "
        f"{short} {change(none, none_long)}; at {short} epochs, the best setting "
        f"{change(none, best)}.",
        f"Never choose from single runs: at {short} epochs the best setting lies "
        f"{none - best:.2f} points below none, and the seeds of one setting have a deviation of "
        f"{statistics.mean(map(statistics.stdev, same)):.2f} points.",
    ]


# Documents


def write_documents(root: Path = ROOT, path: Path = RESULTS) -> None:
    """Make the tables and pictures of the committed file; OSError."""
    from figures import page, style  # here, because matplotlib takes 0.3 s to import
    from figures import study as charts

    results = read(path)
    known = {name: histories for name, histories in results.items() if name in EXPERIMENTS}
    include(root / "docs" / "results.md", "results", all_tables(results))
    include(root / "README.md", "results", "\n".join(main_table(results, IN_README)))
    published = {name: one.published for name, one in EXPERIMENTS.items()}
    plots = root / "plots"
    figure = charts.errors("Test error on MNIST", known, published, ODD_NAMES)
    style.save(figure, plots / "comparison.png")
    networks = {"LeNet-5": "lenet5", "MLP": "mlp"}
    networks = {name: known[key] for name, key in networks.items() if key in known}
    if networks:
        style.save(charts.comparison(networks, training=True), plots / "models.png")
    if study := study_tables(results):
        include(root / "docs" / "results.md", "study", study)
        points = {
            (one.epochs, one.dropout, one.decay): errors(results[one.judged]) for one in SETTINGS
        }
        style.save(charts.regularization(points), plots / "regularization.png")
    style.save(charts.pareto(times_and_errors(known)), plots / "pareto.png")
    reader = checkpoint.network(checkpoint.load(ROOT / "pretrained" / "handwriting.pt"))
    photograph = picture.read(ROOT / "docs" / "page.jpg").page
    style.save(page.steps(reader, photograph), plots / "handwriting.png")


def times_and_errors(known: Results) -> dict[str, tuple[float, list[float]]]:
    """{recipe: (seconds that the fastest run trained and tested, errors)}."""
    return {
        name: (min(sum(row["seconds"] for row in h) for h in histories.values()), errors(histories))
        for name, histories in known.items()
        if name not in ("mlp56", "generated")  # neither is a recipe
    }


def include(path: Path, what: str, text: str) -> None:
    """Put a text between the two markers of a document."""
    start, end = markers(what)
    document = path.read_text(encoding="utf-8")
    before, rest = document.split(start, 1)
    document = f"{before}{start}\n\n{text}\n\n{end}{rest.split(end, 1)[1]}"
    write_whole(path, document.encode())


def markers(what: str) -> tuple[str, str]:
    """The two lines of a document between which a program writes."""
    return f"<!-- {what}: written by a program -->", f"<!-- end of {what} -->"
