"""The documents are what reproduce.py wrote from the committed file; its statistics are right."""

import csv
import re
from itertools import product
from statistics import mean, stdev

import main
from figures import style
from study import tables
from study.experiments import ALL, EXPERIMENTS, JUDGED, SETTINGS, Setting
from training import checkpoint, config

import pytest
from helpers import ROOT
from matplotlib.colors import to_rgba

RESULTS = ROOT / "docs" / "results.md"
VERSIONS = {"python": "3", "torch": "2", "threads": 1}


@pytest.fixture(scope="module")
def committed():
    return tables.read()


def between(path, what):
    """What stands between the two markers of a document."""
    start, end = tables.markers(what)
    return path.read_text(encoding="utf-8").split(start)[1].split(end)[0].strip()


def test_the_tables_are_made_of_the_committed_results(committed):
    experiments = {name: committed[name] for name in EXPERIMENTS}
    assert between(RESULTS, "results") == tables.all_tables(experiments)
    assert between(RESULTS, "study") == tables.study_tables(committed)
    short = tables.main_table({name: committed[name] for name in tables.IN_README})
    assert between(ROOT / "README.md", "results") == "\n".join(short)


def test_the_committed_results_are_complete(committed):
    best = tables.best_settings(committed).values()
    tested = {setting.tested for b in best for setting in (b, b.baseline)}
    assert committed.keys() == EXPERIMENTS.keys() | JUDGED.keys() | tested
    for name, histories in committed.items():
        assert sorted(histories) == list(range(ALL[name].seeds))
        planned, _ = config.parse(ALL[name].command.split(), "")
        epochs = range(1, planned.epochs + 1) if name in EXPERIMENTS else [planned.epochs]
        for history in histories.values():
            assert [row["epoch"] for row in history] == list(epochs)


def test_words_outside_the_tables_have_the_results(committed):
    accuracy = {name: tables.last(h, "test_accuracy", 100) for name, h in committed.items()}
    assert f"5 epochs, {mean(accuracy['lenet5']):.2f} % of the test images right" in main.__doc__
    assert f"# {mean(accuracy['mlp']):.2f} %" in main.__doc__
    for recipe in config.RECIPES:
        values = accuracy["lenet5" if recipe == "baseline" else recipe]
        (line,) = re.findall(rf"^  {recipe} .*$", config.ABOUT_RECIPES, re.MULTILINE)
        assert line.endswith(f": {mean(values):.2f} ± {stdev(values):.2f} %")


def written(heading):
    """The decimal numbers in what a person wrote under a heading of the results."""
    text = RESULTS.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    text = re.sub("<!-- study.*end of study -->", "", text, flags=re.DOTALL)
    return set(re.findall(r"\d+\.\d+", text))


def test_every_number_of_what_the_results_mean_is_in_the_results(committed):
    means = {name: tables.last(h, "test_accuracy", 100) for name, h in committed.items()}
    published = {name: e.published[3] for name, e in EXPERIMENTS.items() if e.published}
    numbers = {f"{mean(values):.2f}" for values in means.values()}
    numbers |= {f"{accuracy:.2f}" for accuracy in published.values()}
    numbers.add(f"{published['regularized'] - published['lenet5']:.2f}")
    numbers.add(f"{max(means['lenet5']) - min(means['lenet5']):.1f}")
    assert written("What they mean") <= numbers
    # What the sentences say without a number.
    for name in ("lenet5", "mlp"):
        assert min(means[name]) <= published[name] <= max(means[name])
    assert max(means["regularized"]) < published["regularized"]


def test_every_number_of_the_study_is_in_the_results(committed):
    errors = {setting: tables.errors(committed[setting.judged]) for setting in SETTINGS}
    none, longer, best = Setting(5, 0, 0), Setting(20, 0, 0), tables.best_settings(committed)[5]
    numbers = {"0.5", f"{mean(stdev(errors[s]) for s in SETTINGS if s.epochs == 5):.2f}"}
    for epochs, dropout in product((5, 20), (0, 0.5)):
        values = [errors[s] for s in SETTINGS if (s.epochs, s.dropout) == (epochs, dropout)]
        numbers.add(f"{mean(sum(values, [])):.2f}")
    numbers |= {f"{mean(errors[setting]):.2f}" for setting in (none, longer, best)}
    numbers.add(f"{mean(errors[none]) - mean(errors[best]):.2f}")
    assert written("What dropout and weight decay do") == numbers
    # What the sentences say without a number.
    assert mean(errors[longer]) < mean(errors[best]) < mean(errors[none])


def test_the_documents_hold_the_recipes_as_they_are():
    words = {
        "epochs": "{} epoch",
        "batch_size": "batches of {}",
        "lr": "learning rate {} ",
        "schedule": " {},",
        "nesterov": "Nesterov",
        "dropout": "dropout {}",
        "weight_decay": "weight decay {}",
        "label_smoothing": "label smoothing {}",
        "augment": "{} distortions",
        "mix": "generated digits",
    }
    lines = RESULTS.read_text(encoding="utf-8").splitlines()
    for name, changed in config.RECIPES.items():
        if changed:
            (row,) = [line for line in lines if line.startswith(f"| `{name}` |")]
            in_row = [key for key in words if words[key].format(changed.get(key, "")) in row]
            assert in_row == [key for key in words if key in changed], row


def histories(*accuracies):
    """{seed: history} of runs of two epochs that end with these accuracies."""
    first = dict.fromkeys(checkpoint.METRICS, 0.5)
    return {
        seed: [first, first | {"test_accuracy": accuracy, "test_loss": 2.0, "seconds": 3.0}]
        for seed, accuracy in enumerate(accuracies)
    }


def test_documents_keep_the_rows_of_experiments_that_were_not_run(tmp_path, monkeypatch):
    """A row has mean, deviation and range of the last epochs; 0.5 s and 3 s are 4 s, to even."""
    row = "| fast | `python main.py --recipe fast` | 44,426 | – "
    row += "| 90.50 ± 0.71 | 90.00 to 91.00 | 2 | 4 s |"
    figures = {}
    monkeypatch.setattr(style, "save", lambda figure, path: figures.update({path: figure}))
    for name in ("README.md", "docs/results.md"):
        start, end = tables.markers("results")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"before\n{start}\nold\n{end}\nafter\n", encoding="utf-8")
    path, study = tmp_path / "docs" / "results.csv", SETTINGS[3].judged
    results = {name: histories(0.9, 0.91) for name in ("mlp", "fast", study)}
    results["lenet5"] = histories(0.93, 0.95)
    tables.write(results, VERSIONS, path)
    tables.write({"mlp": histories(0.7, 0.71)}, VERSIONS | {"torch": "3"}, path)
    tables.write_documents(tmp_path, path)
    with open(path, newline="") as file:
        made_with = {(row["experiment"], row["torch"]) for row in csv.DictReader(file)}
    assert made_with == {("lenet5", "2"), ("mlp", "3"), ("fast", "2"), (study, "2")}
    results |= {"mlp": histories(0.7, 0.71)}
    results[study] = {seed: history[-1:] for seed, history in results[study].items()}
    assert tables.read(path) == results  # every epoch of an experiment, the last of the study
    for name in ("README.md", "docs/results.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert text.startswith("before\n") and text.endswith("after\n") and "\nold\n" not in text
        assert row in text.splitlines() and "| 70.50 ± 0.71 |" in text
    names = "comparison", "models", "pareto", "handwriting", "grid"
    assert figures.keys() == {tmp_path / "plots" / f"{name}.png" for name in names}
    figure = figures[tmp_path / "plots" / "handwriting.png"]
    figure.draw_without_rendering()
    (steps,) = figure.axes
    assert len(steps.images) == 6
    answers = sorted(text for text in (t.get_text() for t in steps.texts) if len(text) == 1)
    assert answers == list("01122345789?")
    colors = {box.get_edgecolor() for box in steps.patches}
    assert colors >= {to_rgba("tab:green"), to_rgba("tab:red")}


def test_the_study_judges_every_setting_and_tests_the_best_of_each_length():
    """With errors that were worked out by hand: 2 %, more with dropout and decay; 1 % at best."""
    best = {5: Setting(5, 0.1, 0.0005), 20: Setting(20, 0.25, 0.002)}
    accuracy = {s: 0.98 - 0.01 * s.dropout - s.decay for s in SETTINGS}
    accuracy |= dict.fromkeys(best.values(), 0.99)
    results = {s.judged: histories(*[accuracy[s]] * 5) for s in SETTINGS}
    assert tables.best_settings(results) == best
    results[best[20].tested] = histories(0.99, 0.991, 0.992)
    results[best[20].baseline.tested] = histories(0.98, 0.98, 0.98)
    text = tables.study_tables(results)
    (row,) = [line for line in text.split("20 epochs: dropout")[1].splitlines() if "**" in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["0.25", "2.25 ± 0.00", "2.26 ± 0.00", "2.30 ± 0.00", "**1.00 ± 0.00**"]
    assert "- 20 epochs, dropout 0.25 and weight decay 0.002, against none: +1.10 points" in text
    assert "- 5 epochs, dropout 0.1 and weight decay 0.0005, against none: not enough" in text
    del results[SETTINGS[-1].judged]
    assert tables.best_settings(results) == {} and tables.study_tables(results) == ""
