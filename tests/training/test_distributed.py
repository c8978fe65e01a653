"""Several processes compute what one computes, and end together when one of them ends."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import warm
from helpers import ROOT, ended, fork, same, write_data

import main
from dataset import MNIST
from figures import run as plotting
from figures import style
from files import UserError
from model import MODELS
from training import checkpoint, cli, distributed
from training import program as console
from training.cli import parse

pytestmark = pytest.mark.skipif(os.name != "posix", reason="gloo, signals and /proc as on Linux")

TRAIN, TEST = 193, 101  # batches of 64, 64, 64, 1: one image for two or three processes
HANG = 240  # seconds, also for a busy machine

# Many command lines run in turn in the same processes, because each start costs time. Each process
# leaves what each line printed, its status and what it did in <number>.<rank>.json.
DRIVER = """
import contextlib, gc, io, json, os, sys
gc.disable()  # starts in less time
sys.path.insert(0, ROOT)
import torch
import torch.distributed as dist
import main
from digits import augment, cache
from figures import run as plotting
from figures import style

rank, host, port = (os.environ[name] for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"))
rank = int(rank)
store = dist.TCPStore(host, int(port), is_master=rank == 0)
init_process_group = dist.init_process_group

def init_anew(backend, timeout):  # a second group would find the addresses of the first one
    place = {"store": dist.PrefixStore(str(number), store), "rank": rank}
    init_process_group(backend, timeout=timeout, world_size=int(os.environ["WORLD_SIZE"]), **place)

dist.init_process_group = init_anew

def noted(module, name, note):
    function = getattr(module, name)
    def wrapper(*arguments, **named):
        events.append([name, note(*arguments)])
        return function(*arguments, **named)
    setattr(module, name, wrapper)

def next_noise(images, kind):
    if kind == "none":
        return None
    with torch.random.fork_rng(devices=[]):
        return torch.rand(3).tolist()

noted(cache, "read_tarball", lambda path: path.name)
noted(augment, "augment", next_noise)
plotting.curves = plotting.confusion = plotting.mistakes = lambda *arguments, **named: None
style.save = lambda *arguments: None
noted(plotting, "curves", lambda title, *rest: title[0])
noted(plotting, "confusion", lambda title, logits, labels: [len(logits), labels.tolist()])
for number, arguments in enumerate(json.loads(sys.argv[1])):
    events, outputs = [], [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    arguments = [argument.replace("{rank}", str(rank)) for argument in arguments]
    with contextlib.redirect_stdout(outputs[0]), contextlib.redirect_stderr(outputs[1]):
        try:
            status = main.main(arguments)
        except SystemExit as exit:
            status = exit.code
    for output in outputs:
        output.seek(0)
    out, err = (output.read() for output in outputs)
    with open(f"{number}.{rank}.json", "w") as file:
        json.dump({"status": status, "out": out, "err": err, "events": events}, file)
"""


def torchrun(script, *arguments, cwd):
    """Start two processes; both print to torchrun's stdout.txt and stderr.txt."""
    launch = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2
    command = [sys.executable, *launch, script, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    with open(cwd / "stdout.txt", "w") as out, open(cwd / "stderr.txt", "w") as err:
        return subprocess.Popen(
            list(map(str, command)),
            cwd=cwd,
            env=environment,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def finish(process):
    """The exit status of torchrun; it ends its processes if they hang."""
    try:
        return process.wait(HANG)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait(HANG)
        pytest.fail("torchrun hangs")


def drive(commands, folders):
    """Run command lines one after the other in processes that are told what torchrun tells them.

    There is a process for each folder; those of one folder are on one machine.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": str(len(folders)), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    commands = json.dumps([[*command, "--device", "cpu"] for command in commands])
    programs = []
    for rank, folder in enumerate(folders):
        script = folder / "driver.py"
        script.write_text(DRIVER.replace("ROOT", repr(str(ROOT))))
        mine = {"RANK": rank, "LOCAL_RANK": folders[:rank].count(folder)}
        mine["LOCAL_WORLD_SIZE"] = folders.count(folder)
        environment = group | {name: str(value) for name, value in mine.items()}
        programs.append(([script, commands], folder, environment))
    for done in warm.run_together(programs):
        assert done.returncode == 0, done.stderr


def reports(cwd, number):
    """What each process left of a command line, by rank."""
    paths = sorted(cwd.glob(f"{number}.*.json"))
    return [json.loads(path.read_text()) for path in paths]


def one_process(folder, *arguments):
    """The same program without torchrun, in this process; it draws nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for what in ("curves", "confusion", "mistakes"):
            patch.setattr(plotting, what, lambda *_, **__: None)
        patch.setattr(style, "save", lambda *_: None)
        assert main.main([*arguments, "--device", "cpu", "--quiet"]) == 0


def state(folder, name):
    return checkpoint.load(folder / "runs" / name / "checkpoint.pt")


def agree(one, other):
    """Weights and momenta to float rounding, metrics to 4 decimals, everything else exactly."""
    for part in ("model", "optimizer"):
        tensors = [flat(saved[part]) for saved in (one, other)]
        torch.testing.assert_close(*tensors, rtol=1e-4, atol=2e-6)
    for a, b in zip(one["history"], other["history"], strict=True):
        assert a["lr"] == b["lr"]
        for key in ("train_loss", "test_loss"):
            assert a[key] == pytest.approx(b[key], abs=5e-5)
        for key in ("train_accuracy", "test_accuracy"):
            assert a[key] == pytest.approx(b[key], abs=1e-12)
    assert one["scheduler"] == other["scheduler"]
    assert one["config"] == other["config"]
    return True


def flat(part):
    """All tensors in nested dictionaries, in order."""
    if isinstance(part, dict):
        return [tensor for value in part.values() for tensor in flat(value)]
    return [part] if isinstance(part, torch.Tensor) else []


SGD = "--data-dir", "data", "--lr", "0.05"  # LeNet-5, no dropout
LINEAR = *SGD, "--model", "mlp", "--recipe", "modern", "--epochs", "3", "--weight-decay", "0.01"
NOISY = *SGD, "--model", "mlp", "--dropout", "0.5", "--augment", "elastic", "--epochs", "2"
MANY = *SGD, "--model", "mlp", "--runs", "2", "--val-size", "2", "--name", "many"
TWO = (
    (*SGD, "--epochs", "2", "--name", "by2"),
    (*LINEAR, "--name", "linear2"),
    (*NOISY, "--name", "noisy_a"),
    (*NOISY, "--name", "noisy_b"),
    (*MANY, "--epochs", "1"),
    (*MANY, "--epochs", "2", "--resume"),
    (*SGD, "--epochs", "2", "--name", "1to2", "--resume"),
    (*SGD, "--epochs", "1", "--name", "2to1"),
    (*SGD, "--epochs", "1", "--name", "2to3"),
)
THREE = (
    (*SGD, "--epochs", "2", "--name", "by3"),
    (*SGD, "--epochs", "2", "--name", "2to3", "--resume"),
    (*LINEAR, "--name", "linear3", "--quiet"),
    (*MANY, "--epochs", "2", "--name", "many3"),  # 2 images to test on: one process has none
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("small"), TRAIN, TEST)


def place(data, folder):
    """A copy of the tarballs, without a cache."""
    (folder / "data").mkdir(parents=True)
    for path in data.glob("*.tar"):
        (folder / "data" / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """The folder of runs by one, two and three processes, and their reports by name."""
    folder = place(data, tmp_path_factory.mktemp("runs"))
    one_process(folder, *SGD, "--epochs", "1", "--name", "1to2")
    for cache in (folder / "data").glob("*.npz"):
        cache.unlink()
    told = {}
    for processes, commands in ((2, TWO), (3, THREE)):
        drive(commands, [folder] * processes)
        for number, command in enumerate(commands):
            name = command[command.index("--name") + 1]
            told[name, processes] = reports(folder, number)
            assert [told["status"] for told in reports(folder, number)] == [0] * processes
        for cache in (folder / "data").glob("*.npz"):
            cache.unlink()
    one_process(folder, *SGD, "--epochs", "2", "--name", "2to1", "--resume")
    one_process(folder, *SGD, "--epochs", "2", "--name", "by1")
    one_process(folder, *LINEAR, "--name", "linear1")
    one_process(folder, *MANY, "--epochs", "2", "--name", "many1")
    return folder, told


def test_several_processes_compute_what_one_does(runs):
    folder, _ = runs
    by1 = state(folder, "by1")
    untrained = MODELS["lenet5"]().state_dict()
    assert not torch.allclose(by1["model"]["layers.0.weight"], untrained["layers.0.weight"])
    assert agree(state(folder, "by2"), by1)
    assert agree(state(folder, "by3"), by1)
    assert agree(state(folder, "linear2"), state(folder, "linear1"))
    assert agree(state(folder, "linear3"), state(folder, "linear1"))
    assert state(folder, "linear1")["history"][-1]["train_accuracy"] > 0.5


def test_a_run_continues_with_another_number_of_processes(runs):
    folder, _ = runs
    for name in ("1to2", "2to1", "2to3"):
        assert agree(state(folder, name), state(folder, "by1"))


def test_runs_and_val_size(runs):
    folder, _ = runs
    for seed in (0, 1):
        one = state(folder, f"many1_seed{seed}")
        assert agree(state(folder, f"many_seed{seed}"), one)  # from 1 epoch, continued
        assert agree(state(folder, f"many3_seed{seed}"), one)
    assert not same(state(folder, "many_seed0")["model"], state(folder, "many_seed1")["model"])


@pytest.mark.parametrize(("name", "processes"), [("by2", 2), ("by3", 3)])
def test_accuracy_is_over_exactly_the_test_images(runs, name, processes):
    folder, told = runs
    saved, test_set = state(folder, name), MNIST(folder / "data", train=False)
    model = MODELS["lenet5"]()
    model.load_state_dict(saved["model"])
    tally = main.test(model, test_set)
    assert saved["history"][-1]["test_accuracy"] == tally.accuracy
    assert tally.accuracy * TEST == pytest.approx(round(tally.accuracy * TEST), abs=1e-9)
    assert saved["history"][-1]["test_loss"] == pytest.approx(tally.loss, abs=1e-6)
    drawn = [event for event in told[name, processes][0]["events"] if event[0] == "confusion"]
    assert drawn == [["confusion", [TEST, test_set.targets.tolist()]]]


def test_only_rank_0_prints_draws_and_prepares_the_data(runs):
    folder, told = runs
    for (name, processes), (first, *others) in told.items():
        done = [[event for event in one["events"] if event[0] != "augment"] for one in others]
        assert done == [[]] * len(others)
        assert {one["out"] + one["err"] for one in others} == {""}
        assert len([event for event in first["events"] if event[0] == "curves"]) == 1
        lines = first["err"].splitlines()
        if (name, processes) in (("1to2", 2), ("2to3", 3)):
            assert "was saved with processes" in lines.pop(0)
        # Some of these runs are too short to learn anything.
        assert [line for line in lines if "the network has learned nothing" not in line] == []
        assert first["out"].splitlines()[-1].startswith(f"{name}")
    decoded = [event[1] for event in told["by3", 3][0]["events"] if event[0] == "read_tarball"]
    assert decoded == ["train.tar", "test.tar"]  # once on the machine, and then from the cache
    assert "read_tarball" not in [event[0] for event in told["2to3", 3][0]["events"]]
    assert len(told["linear3", 3][0]["out"].splitlines()) == 1  # --quiet
    lines = told["by2", 2][0]["out"].splitlines()
    assert [line.split()[0] for line in lines if "%" in line and ":" not in line] == ["1", "2"]
    table = (folder / "runs" / "by2" / "metrics.csv").read_text().splitlines()
    assert len(table) == 3


def test_noise_differs_between_ranks_and_epochs_but_not_between_runs(runs):
    folder, told = runs
    assert same(state(folder, "noisy_a"), state(folder, "noisy_b"))
    noise = [
        [
            [event[1] for event in one["events"] if event[0] == "augment" and event[1]]
            for one in told[name, 2]
        ]
        for name in ("noisy_a", "noisy_b")
    ]
    assert noise[0] == noise[1]
    steps = [tuple(numbers) for rank in noise[0] for numbers in rank]
    assert len(steps) == len(set(steps)) == 2 * 2 * 4  # ranks, epochs, steps


def test_an_error_ends_every_process_with_one_clear_line(data, tmp_path):
    """Errors on rank 0 alone, on rank 1 alone and on both."""
    place(data, tmp_path)
    (tmp_path / "bad").mkdir()
    for path in data.glob("*.tar"):
        (tmp_path / "bad" / path.name).write_bytes(path.read_bytes()[:20_000])
    one_process(tmp_path, *SGD, "--epochs", "1", "--name", "sound")
    for name, content in (("damaged", b"PK"), ("cut", None)):
        folder = tmp_path / "runs" / name
        folder.mkdir()
        content = content or (tmp_path / "runs/sound/checkpoint.pt").read_bytes()[:-100]
        (folder / "checkpoint.pt").write_bytes(content)
    expected = {
        ("--data-dir", "bad", "--data", "mnist"): (1, "error: bad/train.tar: "),
        (*SGD, "--name", "damaged", "--resume"): (1, "error: runs/damaged/checkpoint.pt: damaged"),
        (*SGD, "--name", "cut", "--resume"): (1, "error: runs/cut/checkpoint.pt: damaged"),
        (*SGD, "--name", "absent", "--resume"): (1, "error: runs/absent: no such run"),
        (*SGD, "--name", "sound", "--momentum", "0"): (1, "error: runs/sound: holds another"),
        (*SGD, "--name", "huge", "--lr", "1e30"): (1, "error: huge: diverged in epoch 1"),
        (*SGD, "--val-size", "193"): (2, "error: argument --val-size: there are only 193"),
        (*SGD, "--epochs", "none"): (2, "error: argument --epochs: 'none'"),
        (*SGD, "--name", "mixed", "--seed", "{rank}"): (1, "error: rank 0: another process"),
        (*SGD, "--name", "last", "--epochs", "1"): (0, "warning: last: the network has learned"),
    }
    drive(expected, [tmp_path] * 2)
    for number, (command, (status, line)) in enumerate(expected.items()):
        first, other = reports(tmp_path, number)
        assert (first["status"], other["status"]) == (status, status), command
        assert first["err"].startswith(line), command
        assert first["err"].count("\n") == 1, command
        if "{rank}" in command:
            assert other["err"].startswith("error: data: rank 1 has other data or options"), command
        else:
            lost = "error: rank 1: another process has ended or hangs"
            assert other["err"] == "" or other["err"].startswith(lost), command
        assert other["err"].count("\n") <= 1
    assert state(tmp_path, "sound")["epoch"] == state(tmp_path, "last")["epoch"] == 1


def processes_of(name):
    """{rank, "" for torchrun: process id} of everything that was started with a name."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        if name.encode() in arguments and int(folder.name) != os.getpid():
            ranks = [entry[5:].decode() for entry in environment if entry.startswith(b"RANK=")]
            found[ranks[0] if ranks else ""] = int(folder.name)
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_a_signal_ends_every_process(data, tmp_path):
    """One process is killed; or torchrun is told to end, alone or with all, as by Ctrl-C."""
    signals = {"0": signal.SIGKILL, "1": signal.SIGKILL, "": signal.SIGTERM, "all": signal.SIGINT}
    struck = {}
    for victim in signals:
        folder, name = place(data, tmp_path / f"victim{victim}"), f"{os.getpid()}_{victim}"
        command = *SGD, "--model", "mlp", "--device", "cpu", "--epochs", "9999", "--name", name
        struck[victim] = torchrun(ROOT / "main.py", *command, cwd=folder), folder, name
    try:
        for victim, (process, folder, name) in struck.items():
            metrics, deadline = folder / "runs" / name / "metrics.csv", time.monotonic() + HANG
            while not metrics.exists() or len(metrics.read_text().splitlines()) < 3:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
            started = processes_of(name)
            assert set(started) == {"", "0", "1"}
            for one in started.values() if victim == "all" else [started[victim]]:
                os.kill(one, signals[victim])
        for victim, (process, folder, name) in struck.items():
            assert finish(process) != 0
            assert processes_of(name) == {}
            ours = "interrupted: epoch ", "error: rank 0: another", "error: rank 1: another"
            lines = (folder / "stderr.txt").read_text().splitlines()
            reports = [line.startswith(ours) for line in lines].count(True)
            if signals[victim] == signal.SIGKILL and reports == 0:
                # torchrun ended the other before it noticed: then torchrun's report is the line
                assert any("SIGKILL" in line for line in lines), lines
            else:
                assert reports == 1, lines
            assert state(folder, name)["epoch"] >= 2
            assert not [line for line in lines if "leaked" in line]  # by libraries, at exit
            if signals[victim] != signal.SIGKILL:  # what is there is drawn
                assert len(list((folder / "plots").glob("*.png"))) == 3
                assert not list((folder / "runs" / name).glob(".*.tmp"))
    finally:
        for process, *_ in struck.values():
            process.terminate()
            process.wait(HANG)


def test_two_machines(data, tmp_path):
    """Each has its own working directory, data and cache; only rank 0's holds runs and plots."""
    commands = (
        (*SGD, "--epochs", "1", "--name", "machines"),
        (*SGD, "--epochs", "2", "--name", "machines", "--resume"),
        ("--data-dir", "other", "--name", "other"),
    )
    machines = [place(data, tmp_path / f"machine{node}") for node in (0, 1)]
    for node, machine in enumerate(machines):
        (machine / "other").mkdir()
        write_data(machine / "other", TRAIN, TEST + node)
    drive(commands, machines)
    one_process(tmp_path / "machine0", *SGD, "--epochs", "2", "--name", "alone")
    assert agree(state(tmp_path / "machine0", "machines"), state(tmp_path / "machine0", "alone"))
    assert not (tmp_path / "machine1" / "runs").exists()
    assert not (tmp_path / "machine1" / "plots").exists()
    for number, status in enumerate([0, 0, 1]):
        told = [reports(tmp_path / f"machine{node}", number)[0] for node in (0, 1)]
        assert [one["status"] for one in told] == [status, status]
        assert told[1]["out"] == ""
        decoded = [[e[1] for e in one["events"] if e[0] == "read_tarball"] for one in told]
        assert decoded == [[] if number == 1 else ["train.tar", "test.tar"]] * 2
    assert told[1]["err"].startswith("error: other: rank 1 has other data")


def test_without_torchrun_there_is_no_process_group(data, tmp_path, monkeypatch):
    calls = "init_process_group", "all_reduce", "barrier", "monitored_barrier"
    for name in (*calls, "broadcast_object_list"):
        monkeypatch.setattr(dist, name, functools.partial(pytest.fail, f"{name} was called"))
    one_process(place(data, tmp_path), *SGD, "--epochs", "1", "--runs", "2")
    assert len(list((tmp_path / "runs").glob("*/checkpoint.pt"))) == 2


@pytest.mark.parametrize(("gpus", "chosen"), [(0, "cpu"), (1, "cpu"), (2, "cuda:1"), (3, "cuda:1")])
def test_each_process_has_a_gpu_or_none_has(monkeypatch, capsys, gpus, chosen):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(cli, "works", lambda device: True)
    for name, value in (("RANK", 1), ("LOCAL_RANK", 1), ("WORLD_SIZE", 2), ("LOCAL_WORLD_SIZE", 2)):
        monkeypatch.setenv(name, str(value))
    assert str(parse([], "")[1].device) == chosen
    if chosen == "cpu":
        with pytest.raises(SystemExit):
            parse(["--device", "cuda"], "")
        assert capsys.readouterr().err == ""  # the first process of the machine says it


# The environment


@pytest.fixture
def environment(monkeypatch):
    """A function that sets what torchrun sets, and nothing else of it."""

    def environment(**variables):
        group = "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
        for name in group:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return environment


@pytest.mark.parametrize(
    ("variables", "what"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but RANK is not set; unset WORLD_SIZE"),
        ({"WORLD_SIZE": "2", "RANK": "1"}, "WORLD_SIZE is 2, but MASTER_ADDR is not set; unset"),
        ({"RANK": "1"}, "RANK is 1, but WORLD_SIZE is not set; unset RANK"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2, but WORLD_SIZE is 2; unset RANK"),
        ({"RANK": "abc"}, "RANK is 'abc', which is no number; unset it"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is '', which is no number; unset it"),
        ({"LOCAL_WORLD_SIZE": "-1"}, "LOCAL_WORLD_SIZE is '-1', which is no number; unset it"),
    ],
)
def test_an_environment_that_torchrun_did_not_make_is_one_line(
    variables, what, environment, data, capsys, monkeypatch, tmp_path
):
    environment(**variables)
    monkeypatch.chdir(tmp_path)
    assert main.main(["--data-dir", str(data), "--device", "cpu"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"error: environment: {what}") and err.count("\n") == 1
    assert err.endswith(", or start with torchrun\n")
    assert out == "" and not list(tmp_path.iterdir())


def test_a_script_for_one_process_says_so_under_torchrun(environment, capsys):
    def program():
        distributed.require_one_process("reproduce.py")
        return 0

    environment()
    assert console.guarded(program) == 0
    environment(RANK="1")
    assert console.guarded(program) == 1
    assert "RANK is 1" in capsys.readouterr().err
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    lines = []
    for rank in ("0", "1"):
        environment(RANK=rank, **place)
        assert console.guarded(program) == 1
        lines += capsys.readouterr().err.splitlines()
    assert lines == [
        "error: reproduce.py: it runs as one process; start it with python, not torchrun"
    ]


def test_a_torch_without_distributed_trains(data, tmp_path, monkeypatch, environment):
    """As AMD's for Windows, where torch.distributed has nothing but is_available."""
    bare = types.SimpleNamespace(is_available=lambda: False)
    monkeypatch.setattr(distributed, "dist", bare)
    environment()
    one_process(place(data, tmp_path), *SGD, "--epochs", "1")
    with pytest.raises(RuntimeError, match="shapes"), distributed.noticing_lost_ranks():
        raise RuntimeError("shapes cannot be multiplied")
    environment(WORLD_SIZE="2", RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
    with pytest.raises(UserError, match="no torch.distributed; start one process"):
        distributed.start(torch.device("cpu"))


# Leaving the group


def member(rank, port, work):
    """A process of its own that joins a group of two and then works; gives its id."""

    def joined():
        place = {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()})
        distributed.start(torch.device("cpu"))
        distributed.barrier()
        return work()

    return fork(joined, f"output{rank}.txt")


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_after_a_success_no_rank_ends_before_the_last_has_finished(tmp_path, monkeypatch, port):
    monkeypatch.chdir(tmp_path)

    def draw():
        time.sleep(0.5)
        Path("drawn").touch()
        distributed.stop(succeeded=True)
        return 0

    def wait():
        distributed.stop(succeeded=True)
        return 0 if Path("drawn").exists() and not dist.is_initialized() else 1

    members = [member(rank, port, work) for rank, work in enumerate([draw, wait])]
    assert [ended(one) for one in members] == [0, 0], Path("output1.txt").read_text()


def test_after_an_error_no_rank_waits_for_another(tmp_path, monkeypatch, port):
    monkeypatch.chdir(tmp_path)

    def busy():  # until the other one has left
        while not Path("left").exists():
            time.sleep(0.01)
        os._exit(0)

    def leave():
        distributed.stop()
        Path("left").touch()
        return 0

    members = [member(rank, port, work) for rank, work in enumerate([busy, leave])]
    assert [ended(one) for one in members] == [0, 0]


def test_a_rank_that_is_lost_at_the_end_spoils_nothing(tmp_path, monkeypatch, port):
    monkeypatch.chdir(tmp_path)

    def leave():
        distributed.stop(succeeded=True)
        return 0 if not dist.is_initialized() else 1

    members = [member(0, port, leave), member(1, port, lambda: os._exit(7))]
    assert [ended(one) for one in members] == [0, 7], Path("output0.txt").read_text()
