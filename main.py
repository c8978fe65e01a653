"""Train LeNet-5 or a small MLP on MNIST.

    python main.py --model lenet5           # 5 epochs, 98.80 % of the test images right
    python main.py --model mlp --epochs 5   # 95.60 %

Prints a line for each epoch, keeps the run in runs/<name>/ and draws plots/<name>_*.png.
"""

from training import program

program.begin(__name__)

import argparse
import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence

from dataset import MNIST
from model import build
from study.compare import compare
from training import checkpoint, data, distributed
from training.config import Config, one_for_each_seed, parse
from training.report import Report, Run, tell_evaluation
from training.schedule import SGD, derived_seed, highest_rate, learning_rate, shuffled
from training.tally import CrossEntropy, Tally, require_finite

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


def train(
    model: nn.Module,
    batches: Batches,
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    scheduler: LRScheduler,
) -> Tally:
    """One epoch; gives its running averages of loss and accuracy."""
    model.train()
    tally = Tally()
    for images, labels in batches:
        logits = model(images)
        loss = criterion(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()  # after each step, not each epoch
        tally.add(logits, labels)
    return tally


def test(model: nn.Module, dataset: MNIST) -> Tally:
    """Cross-entropy and accuracy (a fraction) over all images of a dataset."""
    tally = Tally()
    order = distributed.shard(torch.arange(len(dataset), device=dataset.data.device))
    tally.add(predict(model, dataset, order), dataset.targets[order])
    return tally


@torch.no_grad()
def predict(model: nn.Module, dataset: MNIST, order: torch.Tensor) -> torch.Tensor:
    """The logits (N x 10) of the images whose numbers (N) are given."""
    model.eval()
    return torch.cat([model(images) for images, _ in dataset.batches(order, 500)])


def fit(
    config: Config,
    train_set: MNIST,
    test_set: MNIST | None = None,
    resume: bool = False,
    report: Report | None = None,
) -> Run:
    """Train one run and save it after each epoch; `resume` goes on after its last saved epoch.

    It runs on the device of the datasets. Errors: UserError, OSError.
    """
    report, device = report or Report(), train_set.data.device
    config, train_set, test_set = data.prepared(config, train_set, test_set)
    torch.manual_seed(derived_seed(config.seed, 0))  # for the initial weights
    model = build(config.model, config.network).to(device)
    share, size, steps = distributed.shares(len(train_set), config.batch_size)
    optimizer, scheduler = optimization(model, config, config.epochs * steps)
    criterion = CrossEntropy(config.label_smoothing, non_digits=config.mix != "none")
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    with checkpoint.locked(config):
        folder = checkpoint.RunFolder(config, device, resume, parts)
        report.begin(folder)
        parallel = distributed.wrap(model)  # the model itself where there is one process
        for epoch in range(len(folder.history) + 1, config.epochs + 1):
            start, lr = time.perf_counter(), highest_rate(scheduler, steps)
            order = distributed.shard(shuffled(len(train_set), config.seed, epoch))[:share]
            batches = report.progress(train_set.batches(order, size), epoch, steps)
            trained = train(parallel, batches, criterion, optimizer, scheduler)
            distributed.same_buffers(model)
            tested = test(model, test_set)
            row = {
                "epoch": epoch,
                "lr": lr,
                "train_loss": trained.loss,
                "train_accuracy": trained.accuracy,
                "test_loss": tested.loss,
                "test_accuracy": tested.accuracy,
                "seconds": round(time.perf_counter() - start, 3),
                "points": trained.points(epoch),
            }
            require_finite(model, row, config)
            folder.add(row)
            report.epoch(folder.history[-1])
    logits = predict(model, test_set, torch.arange(len(test_set)))
    return Run(config, folder.history, logits, test_set, folder.method, config.epochs * steps)


def optimization(
    model: nn.Module, config: Config, steps: int
) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """The optimizer, and the scheduler that `train` steps after each of all `steps` batches."""
    optimizer = SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        fused=True,
    )
    scheduler = LambdaLR(optimizer, learning_rate(config.schedule, steps))
    return optimizer, scheduler


def run(config: Config, options: argparse.Namespace, argv: Sequence[str] | None) -> int:
    """Load the data, train every seed, draw; gives the exit status."""
    report = Report(options.quiet)
    with distributed.group(options.device):
        sets = data.load(["train"] if config.val_size else ["train", "test"], options, report.say)
        report.introduce(build(config.model, config.network), options.device)
        config = dataclasses.replace(config, data=data.data_name(sets))  # is part of its name
        runs: list[Run] = []
        try:
            for seeded in one_for_each_seed(config, options.runs):
                started = (checkpoint.RUNS / seeded.name / "checkpoint.pt").exists()
                resume = options.resume and (started or not runs)
                runs.append(fit(seeded, *sets, resume=resume, report=report))
            report.end(runs)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(report.interrupted(argv)) from None
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Test a checkpoint on the test set and draw its mistakes; gives the exit status."""
    distributed.require_one_process("--evaluate")
    saved = checkpoint.load(options.evaluate)
    if checkpoint.edited(saved):
        program.tell(f"warning: {options.evaluate}: model.py was edited after it was saved")
    model = checkpoint.network(saved).to(options.device)
    (test_set,) = data.load(("test",), options)
    tell_evaluation(options.evaluate, saved, test(model, test_set), test_set)
    return 0


@program.guarded
def main(argv: Sequence[str] | None = None) -> int:
    """The program; gives its exit status."""
    config, options = parse(argv, __doc__)
    torch.set_num_threads(options.threads)
    if options.compare:
        return compare(options.compare)
    return evaluate(options) if options.evaluate else run(config, options, argv)


if __name__ == "__main__":
    program.end(main())
