"""Train LeNet-5 or a small MLP on MNIST.

    python main.py --model lenet5           # 5 epochs, 98.80 % of the test images right
    python main.py --model mlp --epochs 5   # 95.60 %

Prints a line for each epoch, keeps the run in runs/<name>/ and draws plots/<name>_*.png.
"""

from training import program as console

console.before_imports(__name__)

import argparse
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from dataset import MNIST
from files import Diverged
from model import build
from study.compare import compare
from training import checkpoint, data, distributed, folder, seeding
from training.checkpoint import PLOTS, RUNS
from training.cli import parse
from training.config import Config, named, one_for_each_seed
from training.report import Report, Run, tell_evaluation, tell_what_is_safe
from training.schedule import SGD, highest_rate, learning_rate
from training.tally import Criterion, Tally


def train(
    model: nn.Module,
    dataset: MNIST,
    order: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    config: Config,
    progress: Callable[[Iterator], Iterable] = iter,
) -> Tally:
    """One epoch, in an order of images; gives its running averages of loss and accuracy."""
    model.train()
    criterion = Criterion(dataset.targets, config.batch_size, config.label_smoothing)
    tally = Tally(len(dataset))
    for images, labels in progress(dataset.batches(order, config.batch_size, distributed.shard())):
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
    order = torch.arange(len(dataset), device=dataset.data.device)[distributed.shard()]
    tally = Tally(len(order))
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
    test_set: MNIST,
    resume: bool = False,
    overwrite: bool = False,
    report: Report | None = None,
) -> Run:
    """Train one run and save it after each epoch; with `resume`, go on after its last saved epoch.

    It runs on the device of the datasets. Errors: UserError.
    """
    config = named(data.check(config, train_set, test_set))
    report, device = report or Report(), train_set.data.device
    saved = distributed.broadcast(lambda: folder.start(config, device, resume, overwrite))
    seeding.seed_weights(config.seed)
    model = build(config.model, config.network).to(device)
    optimizer = SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )
    train_set = train_set.augmented(config.augment)
    steps = math.ceil(len(train_set) / config.batch_size)
    scheduler = LambdaLR(optimizer, learning_rate(config.schedule, config.epochs * steps))
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    checkpoint.check_can_be_saved(**parts)
    history = checkpoint.restore(saved, **parts)
    report.begin(config, history)
    parallel = distributed.wrap(model)  # the model itself where there is one process
    tested = None
    for epoch in range(len(history) + 1, config.epochs + 1):
        start = time.perf_counter()
        lr = highest_rate(scheduler, (epoch - 1) * steps, epoch * steps)
        order = seeding.start_epoch(len(train_set), config.seed, epoch)
        progress = report.progress(epoch, steps)
        trained = train(parallel, train_set, order, optimizer, scheduler, config, progress)
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
        check_finite(model, config, row)
        row = checkpoint.plain(row)
        if epoch == 1:
            folder.begin_anew(config)
        history.append(row)
        checkpoint.save(config, history, device, **parts)
        report.epoch(row)
    if tested is None or distributed.world_size() > 1:  # not all logits are here
        return Run(config, history, predict(model, test_set, torch.arange(len(test_set))))
    return Run(config, history, tested.logits)


def check_finite(model: nn.Module, config: Config, row: dict) -> None:
    """Raise Diverged if an epoch left a weight or a loss that is not finite."""
    losses = math.isfinite(row["train_loss"]) and math.isfinite(row["test_loss"])
    weights = all(weight.isfinite().all() for weight in model.parameters())
    buffers = not any(buffer.isnan().any() for buffer in model.buffers())
    if not (losses and weights and buffers):
        # A step multiplies weights by 1 - lr * decay: from lr * decay = 1 on, none is left.
        suspect = "--weight-decay" if row["lr"] * config.weight_decay >= 1 else "--lr"
        raise Diverged(
            f"{config.name}: diverged in epoch {row['epoch']} (learning rate {row['lr']:g}, loss "
            f"{row['train_loss']:g}); {row['epoch'] - 1} earlier epochs are saved; try a smaller "
            f"{suspect}"
        )


def run(config: Config, options: argparse.Namespace) -> int:
    """Load the data, train every seed, draw; gives the exit status."""
    report = Report(options.quiet)
    with distributed.noticing_lost_ranks():
        distributed.start(options.device)
        folder.preflight(RUNS, PLOTS)
        config, train_set, test_set = data.load(config, options, report.say)
        configs = one_for_each_seed(config, options.runs)
        folder.check_all(configs, options.resume, options.overwrite)
    report.introduce(build(config.model, config.network), options.device)
    runs: list[Run] = []
    former = {one.name: folder.stamp(one) for one in configs}
    try:
        for one in configs:
            resume = options.resume and (one is configs[0] or folder.has_checkpoint(one))
            with distributed.noticing_lost_ranks(), folder.locked(one):
                runs.append(fit(one, train_set, test_set, resume, options.overwrite, report))
        report.end(runs, test_set)
    except console.Interrupted as interrupted:
        if len(runs) < len(configs):
            one = configs[len(runs)]
            if options.resume or folder.stamp(one) != former[one.name]:
                runs += stopped(one, test_set)
        try:
            report.end(runs, test_set)
        finally:
            tell_what_is_safe(runs[-1] if runs else None)
        return interrupted.status
    return 0


def stopped(config: Config, test_set: MNIST) -> list[Run]:
    """What is on disk of a run that an interrupt stopped: nothing, or its last saved epoch."""
    if not folder.has_checkpoint(config):
        return []
    saved = checkpoint.load(RUNS / config.name)
    checkpoint.begin(config, saved["history"])  # the interrupt may have come before its metrics
    model = checkpoint.network(saved).to(test_set.data.device)
    return [Run(config, saved["history"], predict(model, test_set, torch.arange(len(test_set))))]


def evaluate(options: argparse.Namespace) -> int:
    """Test a checkpoint on the test set and draw its mistakes; gives the exit status."""
    distributed.require_one_process("--evaluate")
    saved = checkpoint.load(options.evaluate)
    if checkpoint.edited(saved):
        console.tell(f"warning: {options.evaluate}: model.py was edited after it was saved")
    model = checkpoint.network(saved).to(options.device)
    test_set = data.load_test_set(options)
    tell_evaluation(options.evaluate, saved, test(model, test_set), test_set)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The program; gives its exit status."""

    def program() -> int:
        config, options = parse(argv, __doc__)
        torch.set_num_threads(options.threads or min(2, torch.get_num_threads()))
        if options.compare:
            return compare(options.compare)
        return evaluate(options) if options.evaluate else run(config, options)

    advice = "give the command again (--resume continues what was saved)"
    no_memory = "not enough memory for this batch; use a smaller --batch-size"
    return console.guarded(program, distributed.stop, advice, no_memory)


if __name__ == "__main__":
    console.after_imports()
    console.end(main())
