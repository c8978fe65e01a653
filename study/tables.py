"""The results of reproduce.py: one committed file, and the tables and pictures made of it.

`results` is {experiment: {seed: history}} everywhere. Of the study of regularisation the file has
only the last epoch of each run, so its histories have one row.
"""

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from files import write_whole
from handwriting import picture
from model import build
from study.experiments import ALL, DECAYS, DROPOUTS, EXPERIMENTS, LENGTHS, PAIRS, SETTINGS, Setting
from study.intervals import History, differences, seeds_needed, verdict
from training import checkpoint
from training.checkpoint import METRICS
from training.config import parse
from training.report import mean_and_deviation

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


def read_rows(path: Path) -> list[dict[str, str]]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return list(csv.DictReader(text.splitlines()))


def read(path: Path = RESULTS) -> Results:
    """The results in the committed file, in the order of the experiments."""
    results: Results = {}
    for row in read_rows(path):
        history = results.setdefault(row["experiment"], {}).setdefault(int(row["seed"]), [])
        history.append({key: float(row[key]) for key in METRICS})
    return results


def write(results: Results, versions: dict[str, Any], path: Path = RESULTS) -> None:
    """Put complete experiments into the committed file; the rows of all others stay. OSError."""
    rows: list[dict] = [row for row in read_rows(path) if row["experiment"] not in results]
    for name, histories in results.items():
        for seed, history in histories.items():
            kept = history if name in EXPERIMENTS else history[-1:]
            rows += [{"experiment": name, "seed": seed} | row | versions for row in kept]
    rows.sort(key=lambda row: list(ALL).index(row["experiment"]))
    checkpoint.write_table(path, ["experiment", "seed", *METRICS, *VERSIONS], rows)


def last(histories: Mapping[int, History], metric: str, scale: float = 1) -> list[float]:
    return [scale * history[-1][metric] for history in histories.values()]


def errors(histories: Mapping[int, History]) -> list[float]:
    """The error of each seed after the last epoch, in percent."""
    return [100 - accuracy for accuracy in last(histories, "test_accuracy", 100)]


def seconds(histories: Mapping[int, History]) -> float:
    return min(sum(row["seconds"] for row in history) for history in histories.values())


# Tables


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """The lines of a table, of which all but the `left` first columns are numbers."""
    rule = ["---"] * left + ["---:"] * (len(columns) - left)
    return [f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)]


def main_table(results: Results) -> list[str]:
    """The table of test accuracies."""
    rows = []
    for name, histories in results.items():
        command, _, published = ALL[name]
        config, _ = parse(command.split(), "")
        count = sum(p.numel() for p in build(config.model, config.network).parameters())
        accuracy = last(histories, "test_accuracy", 100)
        note = ", trained on generated digits" * (name == "generated")
        row = [name, f"`python main.py {command}`{note}", f"{count:,}"]
        row += [f"{published[3]:.2f}" if published else "–", mean_and_deviation(accuracy, 2)]
        row += [f"{min(accuracy):.2f} to {max(accuracy):.2f}", str(len(accuracy))]
        rows.append([*row, f"{seconds(histories):.0f} s"])
    columns = ["experiment", "command", "parameters", "published", "test accuracy (%)"]
    return markdown([*columns, "range", "n", "time"], rows, left=2)


def detail_table(results: Results) -> list[str]:
    """The table of losses, beside the published ones."""
    rows = []
    for name, histories in results.items():
        loss = mean_and_deviation(last(histories, "train_loss"), 4)
        accuracy = mean_and_deviation(last(histories, "train_accuracy", 100), 2)
        test_loss = mean_and_deviation(last(histories, "test_loss"), 4)
        published = EXPERIMENTS[name].published
        text = "{:.4f}, {:.2f}, {:.4f}".format(*published) if published else "–"
        rows.append([name, loss, accuracy, test_loss, text])
    columns = ["experiment", "train loss", "train accuracy (%)", "test loss"]
    return markdown([*columns, "published: train loss, accuracy, test loss"], rows)


def all_tables(results: Results) -> str:
    """The tables of docs/results.md, and whether the differences are more than noise."""
    verdicts, rows = [], []
    for first, second, what in PAIRS:
        pair = results.get(first, {}), results.get(second, {})
        verdicts.append(f"- {what}: {verdict(*pair)}")
        if all(pair):
            deviation = statistics.stdev(differences(*pair))
            needed = [str(seeds_needed(deviation, size)) for size in (0.1, 0.05)]
            rows.append([what, f"{deviation:.2f}", *needed])
    columns = ["comparison", "deviation of the difference", "seeds for 0.1 points"]
    parts = [
        main_table(results),
        detail_table(results),
        ["Are the differences noise?"],
        verdicts,
        ["How many seeds does it take to see a difference of that size in 80 of 100 comparisons?"],
        markdown([*columns, "for 0.05 points"], rows),
    ]
    return "\n\n".join("\n".join(part) for part in parts)


# The study of regularisation


def best_settings(results: Results) -> dict[int, Setting]:
    """The setting of each length with the lowest mean validation error; {} before all are run."""
    if any(setting.judged not in results for setting in SETTINGS):
        return {}
    return {
        epochs: min(
            (setting for setting in SETTINGS if setting.epochs == epochs),
            key=lambda setting: statistics.mean(errors(results[setting.judged])),
        )
        for epochs in LENGTHS
    }


def study_tables(results: Results) -> str:
    """What the study of regularisation found, for docs/results.md; "" before all of it was run."""
    tables, tests = [], []
    for epochs, best in best_settings(results).items():
        rows = []
        for dropout in DROPOUTS:
            rows.append([f"{dropout:g}"])
            for setting in [Setting(epochs, dropout, decay) for decay in DECAYS]:
                cell = mean_and_deviation(errors(results[setting.judged]), 2)
                rows[-1].append(f"**{cell}**" if setting == best else cell)
        columns = [f"{epochs} epochs: dropout", *(f"weight decay {decay:g}" for decay in DECAYS)]
        tables.append("\n".join(markdown(columns, rows)))
        difference = verdict(results.get(best.tested, {}), results.get(best.baseline.tested, {}))
        setting = f"dropout {best.dropout:g} and weight decay {best.decay:g}"
        tests.append(f"- {epochs} epochs, {setting}, against none: {difference}")
    heading = "The best setting of each length, on MNIST's test set:"
    return "\n\n".join([*tables, heading, "\n".join(tests)]) if tables else ""


# Documents


def write_documents(root: Path = ROOT, path: Path = RESULTS) -> None:
    """Make the tables and pictures of the committed file; OSError."""
    from figures import page, study, style  # here, because matplotlib takes 0.3 s to import

    results = read(path)
    known = {name: results[name] for name in EXPERIMENTS if name in results}
    short = {name: known[name] for name in IN_README if name in known}
    include(root / "docs" / "results.md", "results", all_tables(known))
    include(root / "README.md", "results", "\n".join(main_table(short)))
    published = {name: experiment.published for name, experiment in EXPERIMENTS.items()}
    titles = {"lenet5": "LeNet-5", "mlp": "MLP"}
    networks = {titles[name]: known[name] for name in titles if name in known}
    recipes = [name for name in known if name not in ("mlp56", "generated")]
    times_and_errors = {name: (seconds(known[name]), errors(known[name])) for name in recipes}
    reader = checkpoint.network(checkpoint.load(ROOT / "pretrained" / "handwriting.pt"))
    figures = {
        "comparison": study.errors("Test error on MNIST", known, published, ODD_NAMES),
        "models": study.comparison(networks, training=True),
        "pareto": study.pareto(times_and_errors),
        "grid": page.grid(read_rows(ROOT / "docs" / "handwriting.csv")),
        "handwriting": page.steps(reader, picture.read(ROOT / "docs" / "page.jpg").page),
    }
    if tables := study_tables(results):
        include(root / "docs" / "results.md", "study", tables)
        judged = {(*setting,): errors(results[setting.judged]) for setting in SETTINGS}
        figures["regularization"] = study.regularization(judged)
    for name, figure in figures.items():
        style.save(figure, root / "plots" / f"{name}.png")


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
