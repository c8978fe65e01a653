"""Every experiment of the README over many seeds: runs them, and writes what came of it.

    python reproduce.py              # everything: half an hour on 2 CPU cores
    python reproduce.py --only lenet5,mlp --seeds 3
    python reproduce.py --list

Stop it whenever you like: the same command continues, and repeats nothing that is finished.
It writes results.md (also between the README's two markers) and plots/comparison.png.
"""

import argparse
import math
import statistics
import sys
from pathlib import Path

from tqdm import tqdm

import checkpoint
import download
import main
from dataset import MNIST
from model import build
from options import Parser, number, parse, run_name
from tarball import write_whole

# name: command, number of seeds, published (train loss, accuracy, test loss, accuracy)
EXPERIMENTS = {
    "lenet5": ("--model lenet5", 10, (0.0301, 99.06, 0.0363, 98.78)),
    "mlp": ("--model mlp", 10, (0.1362, 96.00, 0.1575, 95.27)),
    "regularized": ("--recipe regularized", 10, (0.0358, 99.08, 0.0309, 99.01)),
    "mlp56": ("--model mlp --hidden 56", 10, None),
    "fast": ("--recipe fast", 10, None),
    "modern": ("--recipe modern", 10, None),
    "best": ("--recipe best", 5, None),
    "generated": ("--model lenet5", 3, None),  # trained on generated digits, tested on MNIST
}
PAIRS = [  # (experiment, against, what the difference is)
    ("regularized", "lenet5", "real dropout and weight decay, against the baseline"),
    ("modern", "lenet5", "the better schedule, against the baseline"),
    ("lenet5", "mlp56", "LeNet-5, against the MLP with as many parameters"),
]
# Student's t, two-sided 95 %, for 1 to 20 degrees of freedom; beyond, the last is a little wide.
T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
       2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086]  # fmt: skip
START, END = "<!-- results: written by reproduce.py -->", "<!-- end of results -->"


def train_all(runs, train_sets, test_set, device):
    """Train what is not finished yet, with one progress bar over the whole."""
    total = sum(config["epochs"] for configs in runs.values() for config in configs)
    with tqdm(total=total, unit="epoch", disable=None) as bar:

        def counted(batches, desc):
            yield from batches
            bar.update()

        def train(config, train_set):
            bar.set_description(config["name"])
            folder = main.RUNS / config["name"]
            resume = (folder / "checkpoint.pt").exists()
            planned = bar.n + config["epochs"]
            with checkpoint.only_user(folder, resume):
                history = main.fit(
                    config, train_set, test_set, device, resume, lambda line: None, counted
                )
            bar.update(planned - bar.n)  # for the epochs that were there before
            bar.write(f"{config['name']}: {100 * history[-1]['test_accuracy']:.2f} %")

        for configs in runs.values():
            for config in configs:
                train(config, train_sets[config["data"]])


def finished(runs):
    """{experiment: {seed: history}} of the planned runs that are complete on disk."""
    results = {}
    for name, configs in runs.items():
        for config in configs:
            path = main.RUNS / config["name"] / "checkpoint.pt"
            if path.exists():
                saved = checkpoint.load(path)
                if saved["config"] == config and saved["epoch"] == config["epochs"]:
                    results.setdefault(name, {})[config["seed"]] = saved["history"]
    return results


def last(histories, metric, scale=1):
    """A metric after the last epoch, for each seed."""
    return [scale * history[-1][metric] for history in histories.values()]


def mean_sd(values, digits):
    """Mean ± standard deviation, as text."""
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def interval(differences):
    """Mean of paired differences, and half the width of its 95 % interval (Student's t)."""
    n = len(differences)
    error = statistics.stdev(differences) / math.sqrt(n)
    return statistics.mean(differences), T95[min(n - 1, len(T95)) - 1] * error


def verdict(first, second, what, results):
    """Whether two experiments differ by more than the noise between seeds, in a sentence."""
    seeds = results.get(first, {}).keys() & results.get(second, {}).keys()
    if len(seeds) < 2:
        return f"- {what}: not enough seeds are finished."
    one, other = (
        last({seed: results[name][seed] for seed in sorted(seeds)}, "test_accuracy", 100)
        for name in (first, second)
    )
    mean, half = interval([a - b for a, b in zip(one, other, strict=True)])
    difference = (
        f"{mean:+.2f} points of test accuracy (95 % interval {mean - half:+.2f} to "
        f"{mean + half:+.2f}; {len(seeds)} seeds, paired)"
    )
    if abs(mean) <= half:
        return f"- {what}: {difference}. The interval holds 0: this may be nothing but noise."
    return f"- {what}: {difference}. More than noise: {'better' if mean > 0 else 'worse'}."


def report(runs, results, data):
    """The text of results.md."""
    lines = [
        f"Accuracy on {data} after the last epoch: mean ± standard deviation over n seeds, and the "
        "range. Time: training and testing, the fastest run.", "",
        "| experiment | command | parameters | published | test accuracy (%) | range | n | time |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    details = [
        "| experiment | train loss | train accuracy (%) | test loss | published: train loss, "
        "accuracy, test loss |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, histories in results.items():
        command, _, published = EXPERIMENTS[name]
        count = sum(p.numel() for p in build(runs[name][0]).parameters())
        accuracy = last(histories, "test_accuracy", 100)
        seconds = min(sum(row["seconds"] for row in h) for h in histories.values())
        note = ", trained on generated digits" if name == "generated" else ""
        lines.append(
            f"| {name} | `python main.py {command}`{note} | {count:,} | "
            f"{f'{published[3]:.2f}' if published else '–'} | {mean_sd(accuracy, 2)} | "
            f"{min(accuracy):.2f} to {max(accuracy):.2f} | {len(histories)} | {seconds:.0f} s |"
        )
        details.append(
            f"| {name} | {mean_sd(last(histories, 'train_loss'), 4)} | "
            f"{mean_sd(last(histories, 'train_accuracy', 100), 2)} | "
            f"{mean_sd(last(histories, 'test_loss'), 4)} | "
            f"{'{:.4f}, {:.2f}, {:.4f}'.format(*published) if published else '–'} |"
        )
    lines += ["", *details, "", "Are the differences more than noise?", ""]
    lines += [verdict(*pair, results) for pair in PAIRS]
    return "\n".join(lines) + "\n"


def include(path, text):
    """Put the results between the markers of the README, if it has them."""
    readme = path.read_text(encoding="utf-8") if path.exists() else ""
    if START in readme and END in readme:
        before, rest = readme.split(START, 1)
        readme = f"{before}{START}\n\n{text}\n{END}{rest.split(END, 1)[1]}"
        write_whole(path, readme.encode())


def run(options):
    """Train, write the results, draw the comparison; gives the exit status."""
    import plotting  # late: matplotlib takes 0.3 s

    checkpoint.preflight(main.RUNS)
    checkpoint.preflight(main.PLOTS)
    base, defaults = parse(["--device", options.device], "")
    options.device, options.data = defaults.device, defaults.data
    train_set, test_set = main.load_data(base, options, print)
    train_sets, runs = {base["data"]: train_set}, {}
    for name, (command, seeds, _) in EXPERIMENTS.items():
        config = parse(command.split(), "")[0] | {key: base[key] for key in ("data", "digests")}
        several = [config | {"seed": seed} for seed in range(options.seeds or seeds)]
        runs[name] = [config | {"name": run_name(config)} for config in several]
    drawn = Path(options.data_dir, "generated", "train.tar")
    if base["data"] == "mnist" and ("generated" in options.only or drawn.exists()):
        digits = MNIST(download.ensure(options.data_dir, "generated"))
        train_sets["generated"] = digits.to(options.device)
        for config in runs["generated"]:
            config |= {"data": "generated", "digests": digits.digests + test_set.digests}
            config["name"] = run_name(config) + "_tested_on_mnist"
        plotting.sheet(main.PLOTS / "generated_digits.png", digits.data[:200])
    else:
        del runs["generated"]
    chosen = {name: runs[name] for name in options.only if name in runs}
    train_all(chosen, train_sets, test_set, options.device)

    genuine = train_set.published and test_set.published
    data = "MNIST" if genuine else "digits that are NOT the published MNIST"
    results = finished(runs)
    text = report(runs, results, data)
    suffix = "" if genuine else "_not_mnist"  # nothing else may pass for the README's results
    written = Path(f"results{suffix}.md"), main.PLOTS / f"comparison{suffix}.png"
    write_whole(written[0], text.encode())
    if genuine:
        include(Path("README.md"), text)
    published = {name: published for name, (_, _, published) in EXPERIMENTS.items()}
    plotting.comparison(written[1], f"LeNet-5 and MLPs on {data}", results, published)
    print(f"\n{text}\n{written[0]}\n{written[1]}")
    if options.export:
        checkpoint.export(main.RUNS / runs["best"][0]["name"] / "checkpoint.pt", options.export)
        print(options.export)
    return 0


def names(text):
    """A converter for argparse: names of experiments, with commas between them."""
    chosen = text.split(",")
    if unknown := [name for name in chosen if name not in EXPERIMENTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(EXPERIMENTS)}")
    return chosen


def cli():
    """The command line; gives the exit status."""
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("--only", type=names, default=list(EXPERIMENTS), metavar="NAME,NAME",
                        help="experiments to run (default: all)")  # fmt: skip
    parser.add_argument("--seeds", type=number(int, 1, 1000), metavar="N",
                        help="seeds 0 to N-1 (default: as in the README)")  # fmt: skip
    parser.add_argument("--export", type=Path, metavar="FILE",
                        help="write the weights of best, seed 0, as predict.py's own")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="show the experiments and end")
    parser.add_argument("--device", default="auto", help="as for main.py (default: auto)")
    parser.add_argument("--data-dir", default="data", help="as for main.py (default: data)")
    options = parser.parse_args()
    if options.list:
        for name, (command, seeds, _) in EXPERIMENTS.items():
            print(f"{name:<12} {seeds:>2} seeds  python main.py {command}")
        return 0
    return main.guarded(run, options)


if __name__ == "__main__":
    sys.exit(cli())
