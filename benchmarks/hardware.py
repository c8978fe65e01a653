"""Measures networks in integers, and writes the tables of docs/hardware.md.

    python -m benchmarks.hardware runs/lenet5_best*

The arguments are the runs of one recipe with several seeds; those that are finished count. MNIST is
in --data-dir. The times need cc, onnxruntime, and a machine with nothing else to do.
"""

import argparse
import ctypes
import re
import subprocess
import tempfile
import timeit
from pathlib import Path
from statistics import median

import export
from dataset import MNIST, normalize
from integers import write
from integers.quantize import BITS, compare, quantize
from study import intervals, tables

import numpy as np
import torch

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "hardware.md"
ROUNDS, CALLS = 60, 100  # of each program, in turns


def accuracies(checkpoint, train_set, test_set):
    """Per cent that are right: in floating point, then with each number of bits."""
    model = export.network(checkpoint)
    network, pixels = export.layers_of(model), train_set.data[: export.CALIBRATION]
    results = [compare(model, quantize(network, pixels, bits), test_set) for bits in BITS]
    return [100 * results[0][0]] + [100 * integer for _, integer, _ in results]


def accuracy_table(runs, train_set, test_set):
    """The shipped weights, then the runs: mean and deviation, and differences in pairs."""
    rows = []
    for path in (export.BEST, export.SHIPPED):
        values = accuracies(export.load(path), train_set, test_set)
        rows.append([f"`pretrained/{path.name}`", *(f"{value:.2f} %" for value in values)])
    checkpoints = [export.load(run) for run in runs if Path(run).is_dir()]  # not their summaries
    finished = [saved for saved in checkpoints if saved["epoch"] == saved["config"].epochs]
    if len(finished) > 1:
        seeds = np.array([accuracies(saved, train_set, test_set) for saved in finished])
        values = zip(seeds.mean(0), seeds.std(0, ddof=1), strict=True)
        rows.append([f"`best`, {len(seeds)} seeds", *(f"{a:.2f} ± {b:.2f} %" for a, b in values)])
        changes = [intervals.interval(column) for column in (seeds[:, 1:] - seeds[:, :1]).T]
        changes = [f"{change:+.2f} ({low:+.2f} to {high:+.2f})" for change, low, high in changes]
        rows.append(["change, in points (95 % interval)", "", *changes])
    return tables.markdown(["weights", "floating point", *(f"{bits} bits" for bits in BITS)], rows)


def cost_table(layers, images):
    """What each layer needs; an addition comes with each multiplication."""
    rows, bytes_in_all, products_in_all = [], 0, 0
    for facts, layer, values in write.described(layers, images):
        size = layer.weight.numel() + 4 * layer.bias.numel()
        products = values[0].numel() * layer.weight[:1].numel()
        bytes_in_all, products_in_all = bytes_in_all + size, products_in_all + products
        shift = "" if layer.shift is None else str(layer.shift)
        rows.append([layer.kind, write.by(facts["outputs"]), f"{size:,}", f"{products:,}", shift])
    rows.append(["total", "", f"{bytes_in_all:,}", f"{products_in_all:,}", ""])
    columns = ["layer", "outputs", "bytes of weights and biases", "multiplications", "shift"]
    return tables.markdown(columns, rows, left=2)


def time_table(model, layers, image):
    """From an image's bytes to its logits in each program: medians, and parts of PyTorch's."""
    import onnxruntime

    torch.set_num_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(export.onnx(model), options)
    template = (write.HERE / "network.c").read_text()
    about = dict.fromkeys(re.findall(r"\{\{([a-z_]+)\}\}", template), "network")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "network.c").write_bytes(write.c_file(layers, image, about))
        command = ["cc", "-std=c99", "-O2", "-fPIC", "-shared", "network.c", "-o", "network.so"]
        subprocess.run(command, cwd=folder, check=True)
        function = ctypes.CDLL(str(Path(folder, "network.so"))).network
    pixels, logits = image.numpy(), (ctypes.c_int32 * 10)()
    programs = {
        "the C file, `cc -O2`": lambda: function(pixels.ctypes, logits),
        "ONNX Runtime": lambda: session.run(None, {"images": pixels[None].astype("f4") / 255}),
        "PyTorch": lambda: model(normalize(image)),
    }
    seconds = {name: [] for name in programs}
    with torch.inference_mode():
        for name, program in [*programs.items()] * ROUNDS:
            seconds[name].append(timeit.timeit(program, number=CALLS) / CALLS)
    rows = [
        [name, f"{1e6 * median(times):.0f} µs", f"{median(times) / median(seconds['PyTorch']):.2f}"]
        for name, times in seconds.items()
    ]
    return tables.markdown(["program", "one image", "of PyTorch's time"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--data-dir", default="data")
    options = parser.parse_args()
    train_set, test_set = MNIST(options.data_dir), MNIST(options.data_dir, train=False)
    model = export.network(export.load(export.BEST))
    layers = quantize(export.layers_of(model), train_set.data[: export.CALIBRATION])
    for what, lines in {
        "times": time_table(model, layers, test_set.data[:1]),
        "costs": cost_table(layers, test_set.data[:1]),
        "accuracy": accuracy_table(options.runs, train_set, test_set),
    }.items():
        tables.include(DOCUMENT, what, "\n".join(lines))


if __name__ == "__main__":
    main()
