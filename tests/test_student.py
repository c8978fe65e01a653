"""What a student changes in the first hour works: the edit is made in a copy, and the copy is used.

Each edit is trained, broken off and resumed to the same bits; pictures are drawn, and a picture is
read with the result.
"""

import dataclasses
import re
import shutil
import subprocess
import sys

import pytest
import torch
import warm
from helpers import ROOT, same, write_data

import main
from dataset import MNIST
from training import checkpoint
from training.config import Config
from training.report import Report

DRIVER = """
import csv, signal, sys
from pathlib import Path

import torch
from helpers import same

import main
import predict
from training import checkpoint
from figures import run as plotting, style

COMMON = ["--data-dir", sys.argv[1], "--device", "cpu", "--epochs", "3", *sys.argv[2:]]
train, calls = main.train, []


def stopping(*arguments):
    calls.append(1)
    if len(calls) == 2:
        signal.raise_signal(signal.SIGINT)
    return train(*arguments)


save = style.save
style.save = lambda *arguments: None  # the pictures of the last run are written
assert main.main([*COMMON, "--name", "straight"]) == 0
main.train = stopping
assert main.main([*COMMON, "--name", "stopped"]) == 130
main.train = train
assert checkpoint.load("runs/stopped")["epoch"] == 1
assert main.main([*COMMON, "--name", "stopped", "--resume"]) == 0
one, other = (checkpoint.load(f"runs/{name}") for name in ("straight", "stopped"))
assert same(one, other), "resumed to other numbers"
style.save = save
assert main.main([*COMMON, "--name", "straight"]) == 0  # once more
assert len(list(Path("plots").glob("straight_*.png"))) == 3
assert predict.main(["seven.png", "--checkpoint", "runs/straight"]) == 0
print(sorted(csv.DictReader(open("runs/straight/metrics.csv")).fieldnames))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), 200, 50)


@pytest.fixture
def project(tmp_path):
    """A copy of the project that a test may edit."""
    skip = shutil.ignore_patterns(".*", "tests", "runs", "plots", "data", "__pycache__", "docs")
    return shutil.copytree(ROOT, tmp_path / "project", ignore=skip)


def edit(path, old, new):
    """Replace a text, which must be there once, or a regular expression's first match."""
    text = path.read_text(encoding="utf-8")
    if isinstance(old, re.Pattern):
        changed = old.sub(lambda match: new, text, count=1)
    else:
        assert text.count(old) == 1, old
        changed = text.replace(old, new)
    assert changed != text
    path.write_text(changed, encoding="utf-8")


def run(project, *command):
    """Run Python in the project; gives the finished process."""
    return warm.run(command, project, path=[project, ROOT / "tests"])


def draw_seven(project):
    """Put a picture of a 7 into the project's folder."""
    import numpy as np
    import pictures

    pictures.pen_on_squared_paper(7, np.random.default_rng(0)).save(project / "seven.png")


def drive(project, data, *options):
    """Do with an edited project all that the driver does; gives what it printed."""
    draw_seven(project)
    (project / "driver.py").write_text(DRIVER, encoding="utf-8")
    done = run(project, "driver.py", data, *options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return done.stdout


OPTIMIZER = re.compile(r"optimizer = SGD\(.*?\n    \)\n", re.DOTALL)
OPTIMIZERS = {
    "Adam": "optimizer = torch.optim.Adam(model.parameters(), lr=0.01)\n",
    "two groups": """
    first, *others = model.parameters()
    optimizer = SGD([{"params": [first], "lr": 0.1}, {"params": others}], lr=0.01, momentum=0.9)
""",
    "a compiled model": """
    optimizer = SGD(model.parameters(), lr=0.01)
    model = torch.compile(model, backend="eager")
""",
}


@pytest.mark.parametrize("what", OPTIMIZERS)
def test_another_optimizer_in_sgds_place(what, project, data):
    edit(project / "main.py", OPTIMIZER, OPTIMIZERS[what])
    drive(project, data, "--model", "mlp")


@pytest.mark.parametrize("kind", [torch.optim.Adagrad, torch.optim.RMSprop, torch.optim.AdamW])
def test_other_optimizers_resume_to_the_same_bits(kind, data, tmp_path, monkeypatch):
    """The same without a copy of the project: one is put in SGD's place in main."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(main, "SGD", lambda weights, **options: kind(weights, lr=0.01))
    sets = MNIST(data), MNIST(data, train=False)
    config, quiet = Config(model="mlp", epochs=3, name="straight"), Report(quiet=True)
    main.fit(config, *sets, report=quiet)
    shorter = dataclasses.replace(config, name="stopped", epochs=1)
    main.fit(shorter, *sets, report=quiet)
    main.fit(dataclasses.replace(shorter, epochs=3), *sets, resume=True, report=quiet)
    one, other = (checkpoint.load(f"runs/{name}") for name in ("straight", "stopped"))
    assert same(one, other)


NETWORK = '''

class Mine(nn.Module):
    """Named layers, a nested block, batch normalisation, a residual sum, lazy and frozen layers."""

    def __init__(self, width=8):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 5, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.block = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.Tanh())
        self.fc = nn.LazyLinear(10)
        self.conv1.weight.requires_grad_(False)

    def forward(self, images):
        x = torch.relu(self.norm(self.conv1(images)))
        x = x + self.block(x)
        return self.fc(x.flatten(1))

'''
LINE = '"mlp": CustomMLP}'


def add_network(project, code=NETWORK):
    edit(
        project / "model.py",
        "\n\n# The networks by the name",
        f"{code}\n\n# The networks by the name",
    )
    edit(project / "model.py", LINE, '"mlp": CustomMLP, "mine": Mine}')


def test_a_network_is_one_class_and_one_line(project, data):
    add_network(project)
    told = drive(project, data, "--model", "mine", "--width", "6")
    listed = run(project, "model.py").stdout.split("--model mine")[1]
    rows = [re.split(" {2,}", line.strip()) for line in listed.splitlines()]
    start = next(k for k, row in enumerate(rows) if row[0] == "layer")
    end = next(k for k, row in enumerate(rows) if row[0] == "total")
    counts = [int(row[-1].replace(",", "")) for row in rows[start + 1 : end]]
    assert [row[0] for row in rows[start + 1 : end]] == [
        "conv 1 → 8, 5×5",
        "BatchNorm2d",
        "conv 8 → 8, 3×3",
        "linear 1152 → 10",
    ]
    assert sum(counts) == int(rows[end][-1].replace(",", "")) == 200 + 16 + 584 + 11530
    assert "Mine on" in told and "width 6" in told and "9,142 parameters" in told
    assert "--width" in run(project, "main.py", "--help").stdout


def test_a_network_with_batch_norm_trains_under_torchrun(project, data):
    add_network(project)
    command = f"""-m torch.distributed.run --standalone --nproc-per-node 2
        main.py --model mine --epochs 2 --data-dir {data} --device cpu""".split()
    done = subprocess.run(
        [sys.executable, *command], cwd=project, capture_output=True, encoding="utf-8", timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout


def test_a_network_without_ten_logits_is_one_line(project, data):
    add_network(project, NETWORK.replace("LazyLinear(10)", "LazyLinear(7)"))
    done = run(project, "main.py", "--model", "mine", "--data-dir", data)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "must give 10 logits" in done.stderr


def test_a_finished_command_trains_the_edited_network(project, data):
    command = "main.py", "--epochs", "1", "--data-dir", data, "--device", "cpu", "--name", "again"
    assert run(project, *command).returncode == 0
    edit(project / "model.py", "nn.Linear(256, 120)", "nn.Linear(256, 100)")
    edit(project / "model.py", "nn.Linear(120, 84)", "nn.Linear(100, 84)")
    done = run(project, *command)
    assert done.returncode == 0, done.stderr
    assert "37,606 parameters" in done.stdout
    assert (project / "runs" / "again" / "previous" / "checkpoint.pt").exists()


def test_an_edited_activation_is_named_by_resume_and_by_predict(project, data):
    draw_seven(project)
    common = "main.py", "--model", "mlp", "--data-dir", data, "--device", "cpu", "--name"
    for name in ("read", "resumed"):
        assert run(project, *common, name, "--epochs", "1").returncode == 0
    edit(project / "model.py", "hidden), nn.ReLU(),", "hidden), nn.Tanh(),")
    done = run(project, *common, "resumed", "--epochs", "2", "--resume")
    assert done.returncode == 0
    assert "the network in model.py was edited since" in done.stderr
    read = run(project, "predict.py", "seven.png", "--checkpoint", "runs/read")
    assert "model.py was edited since they were trained" in read.stdout


def test_the_shipped_weights_know_their_network(project):
    draw_seven(project)
    shipped = "predict.py", "seven.png", "--checkpoint", "pretrained/lenet5.pt"
    assert "edited" not in run(project, *shipped).stdout
    for k in range(2):
        edit(
            project / "model.py",
            re.compile(r"nn\.MaxPool2d\(2\), nn\.ReLU\(\)"),
            f"nn.AvgPool2d(2), nn.Tanh() if {k} >= 0 else nn.ReLU()",
        )
    assert "model.py was edited" in run(project, *shipped).stdout


def test_a_metric_of_ones_own_is_kept_and_written(project, data):
    row = '"test_accuracy": tested.accuracy,\n'
    more = (
        row + '            "worst": __import__("numpy").float32(tested.logits.min()),\n'
        '            "norm": sum(w.norm() for w in model.parameters()),\n'
    )
    edit(project / "main.py", row, more)
    assert "'norm'" in drive(project, data, "--model", "mlp")
    header = (project / "runs/straight/metrics.csv").read_text().splitlines()[0]
    assert header.endswith("seconds,worst,norm,evaluated_on")


SCHEDULER = re.compile(r"scheduler = LambdaLR\(.*\n")


def test_a_scheduler_of_ones_own(project, data):
    one_cycle = "torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, config.epochs * steps)"
    edit(project / "main.py", SCHEDULER, f"scheduler = {one_cycle}\n")
    drive(project, data, "--model", "mlp")
    common = "--model", "mlp", "--data-dir", data, "--device", "cpu", "--name", "stopped"
    done = run(project, "main.py", *common, "--epochs", "5", "--resume")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "scheduler was made for another number of epochs" in done.stderr


def test_no_scheduler_is_one_line_before_the_first_epoch(project, data):
    edit(project / "main.py", SCHEDULER, "scheduler = None\n")
    edit(project / "main.py", "highest_rate(scheduler, (epoch - 1) * steps, epoch * steps)", "0.01")
    done = run(project, "main.py", "--model", "mlp", "--data-dir", data)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "there is no scheduler; ConstantLR" in done.stderr


def test_what_cannot_be_saved_is_said_before_the_first_epoch(project, data):
    line = "checkpoint.check_can_be_saved(**parts)\n"
    state = "    model.state_dict = lambda: {'net': torch.nn.Linear}\n"
    edit(project / "main.py", "    " + line, state + "    " + line)
    done = run(project, "main.py", "--model", "mlp", "--data-dir", data)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "state of the model cannot be saved and read back" in done.stderr
    assert not list((project / "runs").rglob("checkpoint.pt"))


def test_an_option_of_ones_own_reaches_help_name_and_config(project, data):
    seed = '    seed: int = option(0, "seed of all random numbers"'
    mine = '    warmup: float = option(0.0, "warm-up", Number(float, 0), "N")\n'
    edit(project / "training/config.py", seed, mine + seed)
    edit(
        project / "training/config.py",
        '    "baseline": {},',
        '    "baseline": {},\n    "slow": {"warmup": 3.0},',
    )
    done = run(
        project,
        "main.py",
        "--model",
        "mlp",
        "--recipe",
        "slow",
        "--epochs",
        "1",
        "--data-dir",
        data,
    )
    assert done.returncode == 0, done.stderr
    assert (
        '"warmup": 3.0' in (project / f"runs/mlp_slow_epochs1_{data.name}/config.json").read_text()
    )
    assert "--warmup N" in run(project, "main.py", "--help").stdout


def test_plain_torch_reads_a_checkpoint_as_the_documents_say(project, data):
    readme = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(import torch\n.*?)```", readme, re.DOTALL)
    assert len(lines.splitlines()) <= 5
    command = "main.py", "--epochs", "1", "--data-dir", data, "--name", "plain"
    assert run(project, *command).returncode == 0
    code = lines.replace("runs/lenet5/", "runs/plain/") + "\nprint(type(model).__name__)\n"
    done = run(project, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("LeNet5")


def test_a_buffer_of_infinities_is_saved_and_read_back(project, data):
    mask = '        self.register_buffer("mask", torch.full((10, 10), float("-inf")).triu(1))\n'
    add_network(project, NETWORK.replace("        self.fc =", mask + "        self.fc ="))
    drive(project, data, "--model", "mine")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("return self.fc(x.flatten(1))", "self.fc(x.flatten(1))", "gives None for one image"),
        ("def __init__(self, width=8)", "def __init__(self, width)", "give it one in model.py"),
        ("width=8", "lr=8", "--lr: is already an option of the training"),
    ],
)
def test_common_slips_in_a_network_are_one_line(old, new, words, project, data):
    add_network(project, NETWORK.replace(old, new))
    done = run(project, "main.py", "--model", "mine", "--data-dir", data)
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1 and words in done.stderr


def test_a_metric_that_is_needed_is_named_when_it_is_gone(project, data):
    edit(project / "main.py", '            "seconds": round(time.perf_counter() - start, 3),\n', "")
    done = run(project, "main.py", "--model", "mlp", "--epochs", "1", "--data-dir", data)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "the history needs seconds" in done.stderr
