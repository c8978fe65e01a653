"""Train LeNet-5 or a small MLP on MNIST.

    python main.py --model lenet5           # 5 epochs, about 98.7 % of the test images right
    python main.py --model mlp --epochs 5   # about 95.3 %

Prints a line for each epoch, keeps the run in runs/<name>/ and draws plots/<name>_*.png.
"""

import gc
import math
import platform
import shlex
import signal
import statistics
import sys
import time
from functools import partial
from inspect import unwrap
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while torch is imported: end, no traceback
    gc.disable()  # what imports leave is no garbage, and looking through it takes half a second

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

import checkpoint
import distributed
import download
from checkpoint import CheckpointError
from dataset import MNIST, DataError, augment, count_common
from model import build, parameter_table
from options import Parser, describe, parse, run_name

RUNS, PLOTS = Path("runs"), Path("plots")
QUIET = partial(tqdm, disable=True)


# Training


def train(model, dataset, optimizer, scheduler, config, epoch, progress=QUIET):
    """One epoch over all images, in an order and with noise that follow from (seed, epoch).

    Gives the running averages of the epoch: cross-entropy (alone), accuracy (a fraction).
    """
    order = torch.Generator().manual_seed(derived_seed(config["seed"], epoch, 0))
    order = torch.randperm(len(dataset), generator=order).to(dataset.data.device)
    torch.manual_seed(derived_seed(config["seed"], epoch, 1 + distributed.rank()))
    batches = order.split(config["batch_size"])
    shares = [distributed.share(batch) for batch in batches]
    rows = torch.cat(shares)
    # One block: many small tensors, kept between the large ones of each step, split up the heap.
    outputs = torch.empty(len(rows), 10, device=rows.device)
    kept = outputs.split([len(share) for share in shares])
    ranks = distributed.world_size()
    reduction = "mean" if ranks == 1 else "sum"  # of a share, which may be empty
    model.train()
    steps = zip(progress(batches, desc=f"epoch {epoch}"), shares, kept, strict=True)
    for batch, share, output in steps:
        images, labels = dataset[share]
        logits = model(augment(images, config["augment"]))
        loss = F.cross_entropy(
            logits, labels, reduction=reduction, label_smoothing=config["label_smoothing"]
        )
        if ranks > 1:  # gradients are averaged: sum * ranks / batch is the mean over the batch
            loss = loss * (ranks / len(batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        output.copy_(logits.detach())
    return score(outputs, dataset.targets[rows])


def test(model, dataset):
    """Loss and accuracy (a fraction) over all images of a data set."""
    rows = distributed.share(torch.arange(len(dataset), device=dataset.data.device))
    return score(predict(model, dataset, rows), dataset.targets[rows])


@torch.no_grad()
def predict(model, dataset, rows):
    """The logits (len(rows) x 10) of some images of a data set."""
    model.eval()
    return torch.cat([model(dataset[batch][0]) for batch in rows.split(500)])


def score(logits, labels):
    """Mean cross-entropy and accuracy over the samples of all ranks."""
    logits, labels = logits.cpu().double(), labels.cpu()
    loss = F.cross_entropy(logits, labels, reduction="sum").item()
    correct = (logits.argmax(1) == labels).sum().item()
    loss, correct, count = distributed.total([loss, correct, len(labels)])
    return loss / count, correct / count


def epoch_line(row):
    """A finished epoch, under the heading that `fit` prints."""
    return (
        f"{row['epoch']:5d}  {row['train_loss']:10.4f}  {100 * row['train_accuracy']:7.2f} %  "
        f"{row['test_loss']:9.4f}  {100 * row['test_accuracy']:6.2f} %  {row['lr']:8.2g}  "
        f"{row['seconds']:7.1f}"
    )


def versions(device):
    """What the exact numbers depend on besides the configuration."""
    return {
        "python": platform.python_version(), "torch": str(torch.__version__), "device": str(device),
        "threads": torch.get_num_threads(), "processes": distributed.world_size(),
    }  # fmt: skip


def derived_seed(*numbers):
    """One seed for a generator from several numbers, so that none is reached from another."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def learning_rate(schedule, steps):
    """Factor of the learning rate at each step: 1, or up over the first 20 % and down to 0."""
    if schedule == "constant":
        return lambda step: 1.0
    peak, power = 0.2 * steps, {"linear": 1, "quadratic": 2}[schedule]
    return lambda step: min(1.0, (step + 1) / peak, ((steps - step) / (steps - peak)) ** power)


class SGD(torch.optim.SGD):
    """torch's own, bare: what wraps its methods for torch.compile takes a second to import."""

    add_param_group = unwrap(torch.optim.SGD.add_param_group)
    zero_grad = unwrap(torch.optim.SGD.zero_grad)
    step = torch.no_grad()(unwrap(torch.optim.SGD.step))
    state_dict = unwrap(torch.optim.SGD.state_dict)
    load_state_dict = unwrap(torch.optim.SGD.load_state_dict)


def fit(config, train_set, test_set, device, resume=False, say=print, progress=QUIET):
    """One run: trains from the first epoch, or the last one saved, and saves after each."""
    folder = RUNS / config["name"]
    saved = distributed.from_rank_0(lambda: checkpoint.previous(folder, config, resume))
    if distributed.rank() == 0:
        checkpoint.write_config(folder, config)
    torch.manual_seed(derived_seed(config["seed"], 0))
    model = build(config).to(device)
    optimizer = SGD(
        model.parameters(), config["lr"], config["momentum"], nesterov=config["nesterov"],
        weight_decay=config["weight_decay"], fused=device.type in ("cpu", "cuda"),
    )  # fmt: skip
    steps = config["epochs"] * math.ceil(len(train_set) / config["batch_size"])
    factor = learning_rate(config["schedule"], steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    history = saved["history"] if saved else []
    if saved:
        checkpoint.restore(saved, model=model, optimizer=optimizer, scheduler=scheduler)
    parallel = distributed.wrap(model)
    evaluated = "val" if config["val_size"] else "test"
    say(f"epoch  train loss  train acc  {evaluated:>4} loss  {evaluated:>4} acc        lr  seconds")
    for row in history:
        say(epoch_line(row))
    if len(history) == config["epochs"]:
        say(f"already complete: all {len(history)} epochs are in {folder}")
    for epoch in range(len(history) + 1, config["epochs"] + 1):
        start = time.perf_counter()
        lr = scheduler.get_last_lr()[0]
        train_loss, train_accuracy = train(
            parallel, train_set, optimizer, scheduler, config, epoch, progress
        )
        test_loss, test_accuracy = test(model, test_set)
        finite = all(weight.isfinite().all() for weight in model.parameters())
        if not (finite and math.isfinite(train_loss) and math.isfinite(test_loss)):
            raise FloatingPointError(
                f"{config['name']}: diverged in epoch {epoch} (learning rate {lr:g}, loss "
                f"{train_loss:g}), {len(history)} epochs before are safe; try a smaller --lr"
            )
        history.append({
            "epoch": epoch, "lr": lr, "train_loss": train_loss, "train_accuracy": train_accuracy,
            "test_loss": test_loss, "test_accuracy": test_accuracy,
            "seconds": round(time.perf_counter() - start, 3),
        })  # fmt: skip
        if distributed.rank() == 0:
            checkpoint.save(folder, {
                "config": config, "epoch": epoch, "history": history,
                "model": model.state_dict(), "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(), "versions": versions(device),
            })  # fmt: skip
        say(epoch_line(history[-1]))
    return history


# One command


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; holds the signal's number."""


def interrupt(signum, frame):
    """Stop in an orderly way; a second signal ends the process at once."""
    again = signal.SIG_DFL if distributed.world_size() == 1 else signal.SIG_IGN  # torchrun repeats
    for either in (signal.SIGINT, signal.SIGTERM):
        signal.signal(either, again)
    raise Interrupted(signum)


def load_data(config, options, say):
    """The training set and the set to test on; the config learns what they are."""
    with distributed.one_at_a_time_per_machine():
        root = download.ensure(options.data_dir, options.data)
        train_set = MNIST(root, train=True)
        test_set = None if config["val_size"] else MNIST(root, train=False)
    sets = [data for data in (train_set, test_set) if data]
    config["data"] = "generated" if root.name == "generated" else "mnist"
    config["digests"] = [digest for data in sets for digest in data.digests]
    if config != distributed.from_rank_0(lambda: config):
        raise DataError(
            f"{root}: rank {distributed.rank()} has other data or options than rank 0; "
            "give every machine the same"
        )
    for data in sets:
        which = "the published MNIST" if data.published else "NOT the published MNIST"
        say(f"{data.path}: {len(data):,} images, {which} (SHA-256 {data.digests[0][:12]}...)")
        counts = data.class_counts()
        say("  of each digit, 0 to 9: " + " ".join(f"{count:,}" for count in counts))
        if 0 in counts:
            tell(f"warning: {data.path}: there is no {counts.index(0)} among its images")
    if test_set and (common := count_common(train_set, test_set)):
        tell(f"warning: {test_set.path}: {common:,} training images are in it, too")
    if config["val_size"] >= len(train_set):
        Parser().error(f"argument --val-size: there are only {len(train_set):,} training images")
    if config["val_size"]:
        split = len(train_set) - config["val_size"]
        train_set, test_set = train_set.part(0, split), train_set.part(split, None)
    return train_set.to(options.device), test_set.to(options.device)


def run(config, options, say):
    """Load the data, train every seed, draw; gives the exit status."""
    start = time.perf_counter()
    with distributed.noticing_lost_ranks():
        distributed.start(options.device)
        if distributed.rank() == 0:
            checkpoint.preflight(RUNS)
            checkpoint.preflight(PLOTS)
        train_set, test_set = load_data(config, options, say)
    configs = [config | {"seed": config["seed"] + k} for k in range(options.runs)]
    for one in configs:
        suffix = f"_seed{one['seed']}" if options.runs > 1 else ""
        one["name"] = options.name + suffix if options.name else run_name(one)
    threads = f", threads: {torch.get_num_threads()}" if options.device.type == "cpu" else ""
    say(f"\n{parameter_table(build(config))}\n\ndevice: {options.device}{threads}")
    hidden = options.quiet or distributed.rank() > 0
    bar = partial(tqdm, leave=False, unit="batch", disable=hidden or None)  # None: not in a log
    try:
        for one in configs:
            say("\n" + "\n".join((one["name"], *describe(one))))
            folder = RUNS / one["name"]
            resume = options.resume and (one is configs[0] or one in on_disk(configs))
            with distributed.noticing_lost_ranks(), checkpoint.only_user(folder, resume):
                fit(one, train_set, test_set, options.device, resume, say, bar)
        draw_and_tell(configs, test_set, options.device, say, start)
    except Interrupted as interrupted:
        safe = on_disk(configs[: configs.index(one) + 1])
        tell_what_is_safe(safe)
        draw_and_tell(safe, test_set, options.device, say, start)
        return 128 + interrupted.args[0]
    return 0


def draw_and_tell(configs, test_set, device, say, start):
    """Draw what is on disk of these runs; say where everything is, and the result."""
    if distributed.rank() != 0 or not configs:
        return
    import plotting  # late: matplotlib takes 0.3 s

    states = [checkpoint.load(RUNS / one["name"] / "checkpoint.pt") for one in configs]
    config, histories = states[0]["config"], [one["history"] for one in states]
    model = build(config).to(device)
    model.load_state_dict(states[0]["model"])
    logits = predict(model, test_set, torch.arange(len(test_set), device=device)).cpu()
    images, labels = test_set.data.cpu(), test_set.targets.cpu()
    several = f"_runs{len(states)}" if len(states) > 1 else ""
    stem, title = f"{config['name']}{several}", describe(config)
    pictures = [PLOTS / f"{stem}_{what}.png" for what in ("curves", "confusion", "mistakes")]
    evaluated = "validation" if config["val_size"] else "test"
    plotting.curves(pictures[0], title, histories, evaluated)
    plotting.confusion(pictures[1], title, logits, labels)
    plotting.mistakes(pictures[2], title, images, logits, labels)

    say()
    for one in states:
        folder = RUNS / one["config"]["name"]
        checkpoint.write_metrics(folder, one["history"])  # an interrupt may have prevented it
        say(f"{folder}: config.json, metrics.csv, checkpoint.pt")
    for path in pictures:
        say(path)
    last = [history[-1] for history in histories]
    accuracy = [100 * row["test_accuracy"] for row in last]
    spread = f" ± {statistics.stdev(accuracy):.2f}" if len(last) > 1 else ""
    runs = f", {len(last)} seeds" if len(last) > 1 else ""
    loss = statistics.mean(row["test_loss"] for row in last)
    data = " on GENERATED digits, not MNIST" if config["data"] == "generated" else ""
    print(
        f"{stem}: {evaluated} accuracy {statistics.mean(accuracy):.2f}{spread} %, loss {loss:.4f}"
        f"{data} (epoch {last[0]['epoch']}{runs}, {time.perf_counter() - start:.1f} s in all)"
    )


def on_disk(configs):
    """Those of some runs that have a checkpoint."""
    return [one for one in configs if (RUNS / one["name"] / "checkpoint.pt").exists()]


def tell_what_is_safe(configs):
    """Which epoch is on disk of the last of some interrupted runs; the command that continues."""
    command = "python " + shlex.join(arg for arg in sys.argv if arg != "--resume")
    if configs:
        path = RUNS / configs[-1]["name"] / "checkpoint.pt"
        epoch = checkpoint.load(path)["epoch"]
        tell(f"interrupted: epoch {epoch} is safe in {path}; to continue: {command} --resume")
    else:
        tell(f"interrupted before the first epoch was saved; to start again: {command}")


def guarded(program, *arguments):
    """Run a program; errors that a user can cause and signals become one line and a status."""
    signals = signal.SIGINT, signal.SIGTERM
    handler = interrupt if distributed.rank() == 0 else signal.SIG_DFL
    before = {signum: signal.signal(signum, handler) for signum in signals}
    try:
        return program(*arguments)
    except Interrupted as interrupted:
        tell("interrupted; nothing that was finished is lost, the same command goes on")
        return 128 + interrupted.args[0]
    except FloatingPointError as error:  # the same on every rank
        tell(f"error: {error}")
    except (DataError, CheckpointError, distributed.LostRank) as error:
        tell(f"error: {error}", every_rank=True)
    except BrokenPipeError:
        tell("error: output: its reader has closed it; --resume continues the run")
    except OSError as error:
        where = error.filename or "disk"
        why = f"{where}: {error.strerror or error}; make room, or it writable, and try again"
        tell(f"error: {why}", every_rank=True)
    finally:
        for signum, former in before.items():
            signal.signal(signum, former)
        distributed.stop()
    return 1


def main(argv=None):
    """The program; gives its exit status."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a console may lack a character
    config, options = parse(argv, __doc__)
    silent = options.quiet or distributed.rank() > 0
    say = (lambda *text: None) if silent else partial(print, flush=True)
    return guarded(run, config, options, say)


def tell(line, every_rank=False):
    """A line for the person at the terminal, also where output goes to a file."""
    if every_rank or distributed.rank() == 0:
        print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    gc.freeze()  # nor look through it later
    gc.enable()
    sys.exit(main())
