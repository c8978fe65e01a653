"""Processes that torchrun starts compute what one does, and end together when one of them ends."""

import os
import signal
import socket
import time
from functools import partial
from pathlib import Path

import main
from dataset import MNIST
from model import MODELS
from training import checkpoint, distributed, report

import pytest
import torch
from helpers import ROOT, ended, fork, interrupt, same, stopping, write_data

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked, gloo as on Linux")
GROUP = "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
LENET = "--data-dir data0 --lr 0.05 --batch-size 48 --epochs 2"  # a last batch of 12 of 204 images
MLP = "--data-dir few --model mlp --recipe modern --batch-size 60 --weight-decay 0.01 --epochs 3"
NOISY = "--data-dir data0 --model mlp --batch-size 60 --dropout 0.5 --augment elastic --runs 2"


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """Every run is in one folder, with data; its pictures are a line."""
    import torch._dynamo  # noqa: F401  once, and not in each process

    folder = tmp_path_factory.mktemp("runs")
    for name, count in (("data0", 101), ("data1", 100), ("few", 2), ("bad", 1)):
        write_data(folder / name, 204, count)
    (folder / "bad" / "train.tar").write_text("damaged")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(report, "draw", lambda runs: [Path(f"{len(run.logits)}") for run in runs])
        yield


def together(count, line, name, prepare=lambda rank: None):
    """Give processes, which are told what torchrun tells them, a command line.

    Gives the exit status and the output of each.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def work(rank):
        values = rank, rank, count, count, "127.0.0.1", port
        os.environ.update(zip(GROUP, map(str, values), strict=True))
        prepare(rank)
        return main.main([*line.format(rank).split(), "--device", "cpu", "--name", name])

    pids = [fork(lambda r=rank: work(r), f"{rank}.txt") for rank in range(count)]
    return [(ended(pid), Path(f"{rank}.txt").read_text()) for rank, pid in enumerate(pids)]


def alone(line, name):
    """Give this process a command line.

    There need be no process groups: torch for AMD's cards on Windows comes without.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "dist", None)
        assert main.main([*line.split(), "--device", "cpu", "--name", name]) == 0


def state(name):
    return checkpoint.load(Path("runs", name))


def agree(name, other):
    """Weights and momenta to float rounding, metrics to 4 decimals, everything else exactly."""
    a, b = state(name), state(other)
    torch.testing.assert_close(a["model"], b["model"], rtol=1e-4, atol=2e-6)
    momenta = [saved["optimizer"]["state"] for saved in (a, b)]
    torch.testing.assert_close(*momenta, rtol=1e-4, atol=2e-6)
    for row, wanted in zip(a["history"], b["history"], strict=True):
        for key, bound in (("lr", 0), ("loss", 5e-5), ("accuracy", 1e-12)):
            for name in (name for name in row if name.endswith(key)):
                assert row[name] == pytest.approx(wanted[name], rel=0, abs=bound), name
    assert (a["scheduler"], a["config"]) == (b["scheduler"], b["config"])


@pytest.mark.parametrize(("count", "line", "images"), [(2, LENET, 101), (3, MLP, 2)])
def test_processes_compute_what_one_does(count, line, images):
    """Also where one of three processes has no test image."""
    outputs = together(count, line, "many")
    alone(line, "one")
    agree("many", "one")
    saved, test_set = state("many"), MNIST(line.split()[1], train=False)
    untrained = main.build(saved["config"].model, {}).state_dict().values()
    assert not any(map(torch.allclose, saved["model"].values(), untrained))
    tally = main.test(checkpoint.network(saved), test_set)  # over exactly the test images
    assert saved["history"][-1]["test_accuracy"] == tally.accuracy
    assert saved["history"][-1]["test_loss"] == pytest.approx(tally.loss, abs=1e-6)
    assert {status for status, _ in outputs} == {0} and {text for _, text in outputs[1:]} == {""}
    assert f"\n{images}\n" in outputs[0][1] and "\nmany: test accuracy " in outputs[0][1]


class Normalised(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Flatten(), torch.nn.BatchNorm1d(784), torch.nn.Linear(784, 10))


def test_processes_save_the_statistics_that_they_are_tested_with(monkeypatch):
    monkeypatch.setitem(MODELS, "normalised", Normalised)
    together(2, f"{LENET} --model normalised", "statistics")
    saved, test_set = state("statistics"), MNIST("data0", train=False)
    tally = main.test(checkpoint.network(saved), test_set)
    assert saved["history"][-1]["test_loss"] == pytest.approx(tally.loss, abs=1e-6)


def test_a_run_continues_with_another_number_of_processes():
    line = f"{LENET} --lr 0.01 --epochs"
    alone(f"{line} 1", "chain")
    for count in (2, 3):
        outputs = together(count, f"{line} {count} --resume", "chain")
        assert [status for status, _ in outputs] == [0] * count
        assert f"warning: runs/chain: processes was {count - 1}, is {count}; " in outputs[0][1]
    alone(f"{line} 4 --resume", "chain")
    alone(f"{line} 4", "straight")
    agree("chain", "straight")


def test_processes_resume_to_the_bit():
    for line, name in (("2", "noisy"), ("1", "stopped"), ("2 --resume", "stopped")):
        assert {status for status, _ in together(2, f"{NOISY} --epochs {line}", name)} == {0}
    for seed in (0, 1):
        assert same(state(f"stopped_seed{seed}"), state(f"noisy_seed{seed}"))


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_an_epoch_leaves_out_fewer_images_than_there_are_processes(world_size, monkeypatch):
    """And with them a last batch of one image in each process: BatchNorm could not take it."""
    monkeypatch.setenv("WORLD_SIZE", str(world_size))
    for count in range(world_size, 60):
        order = torch.randperm(count)
        for size in (1, 4, 7):
            (share, own, steps), shards = distributed.shares(count, size * world_size), []
            for rank in range(world_size):
                monkeypatch.setenv("RANK", str(rank))
                shards.append(distributed.shard(order)[:share])
            taken = torch.stack(shards).T.flatten()
            lonely = size > 1 and count // world_size % size == 1 and count // world_size > 1
            assert torch.equal(taken, order[: len(taken)]) and own == size
            assert steps == len(shards[0].split(size))
            assert count - len(taken) - world_size * lonely in range(world_size)


LOST = "error: another process has ended or hangs; its own error, or torchrun's report, says why\n"
ERRORS = [  # command line, exit status, what rank 0 says, what rank 1 says
    ("--batch-size 47", 2, "error: argument --batch-size: 2 processes cannot share 47 images", ""),
    ("--epochs none", 2, "error: argument --epochs: 'none' is not a whole number", ""),
    ("--data-dir bad --data mnist", 1, "error: bad/train.tar: ", f"rank 1: {LOST}"),
    ("--resume", 1, "error: runs/bad: no such run to resume", f"rank 1: {LOST}"),
    ("--lr 1e6", 1, "error: bad: diverged in epoch 1", "rank 1: error: bad: diverged in epoch 1"),
    ("--data-dir data{}", 1, LOST, "rank 1: error: data1: other data than on rank 0"),
]


@pytest.mark.parametrize(("line", "status", "first", "second"), ERRORS)
def test_an_error_ends_every_process_with_one_line_each(line, status, first, second):
    outputs = together(2, f"{LENET} {line} --quiet", "bad")
    for words, (ended_with, text) in zip((first, second), outputs, strict=True):
        text = "".join(x for x in text.splitlines(True) if not x.startswith("warning: "))
        assert ended_with == status and text.startswith(words)
        assert text.count("\n") == bool(words), text


SAFE = "epoch 1 of 2 is safe in runs/stopped/checkpoint.pt; to continue: the same command --resume"
STOPS = [  # ranks that are stopped in their second epoch, how, exit statuses, rank 0's last line
    ([1], partial(signal.raise_signal, signal.SIGKILL), (1, -signal.SIGKILL), LOST),
    ([0, 1], interrupt, (130, 130), f"interrupted: {SAFE}\n"),
]


@pytest.mark.parametrize(("ranks", "stop", "statuses", "line"), STOPS)
def test_a_stopped_rank_ends_the_others_and_one_line_says_so(ranks, stop, statuses, line):
    def prepare(rank):
        if rank in ranks:
            stopping(main, "train", 2, stop)

    (status, text), (other, nothing) = together(2, LENET, "stopped", prepare)
    assert (status, other) == statuses and text.endswith(f"\n{line}") and not nothing
    assert state("stopped")["epoch"] == 1


def test_ctrl_c_ends_torchrun_and_its_processes():
    """The launcher itself, its processes forks; it sends them the signal that they have again."""

    def default_interrupt():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as Python starts

    def launch():
        from torch.distributed.run import main as torchrun

        os.setsid()
        os.register_at_fork(after_in_child=default_interrupt)
        line = f"--standalone --nproc-per-node 2 --run-path --start-method fork {ROOT / 'main.py'}"
        torchrun([*line.split(), *NOISY.split(), *"--device cpu --name c --epochs 9999".split()])
        return 0

    launcher, deadline = fork(launch, "torchrun.txt"), time.monotonic() + 240
    while not Path("runs/c_seed0/metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(launcher, signal.SIGINT)
    status, text = ended(launcher, 240), Path("torchrun.txt").read_text()
    assert status != 0 and text.count("\ninterrupted") == 1 and state("c_seed0")["epoch"] > 0
    with pytest.raises(ProcessLookupError):
        os.killpg(launcher, 0)
