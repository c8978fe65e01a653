"""Measures the network in integers, and writes the tables of docs/hardware.md.

    python -m benchmarks.hardware runs/lenet5_best*

The arguments are the finished runs of one recipe, with several seeds. MNIST is in --data-dir. The
times are those of one image on one core, measured in turns; they need cc and onnxruntime.
"""

import argparse
import ctypes
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import mean, median, stdev

import export
from dataset import MNIST, normalize
from integers import write
from integers.quantize import BITS, compare, quantize
from study import intervals, tables

import torch

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "hardware.md"
ROUNDS, CALLS = 60, 100  # of each program, in turns


def accuracies(path, train_set, test_set):
    """Per cent that are right: in floating point, then with each number of bits."""
    model = export.network(export.load(path))
    values = []
    for bits in BITS:
        layers = quantize(export.layers_of(model), train_set.data[: export.CALIBRATION], bits)
        real, integer, _ = compare(model, layers, test_set)
        values += [100 * integer] if values else [100 * real, 100 * integer]
    return values


def accuracy_table(runs, train_set, test_set):
    """The shipped weights, then the runs: mean and deviation, and differences in pairs."""
    bits = " | ".join(f"{bits} bits" for bits in BITS)
    lines = [f"| weights | floating point | {bits} |", "| --- |" + " ---: |" * (1 + len(BITS))]
    for path in (export.BEST, export.SHIPPED):
        values = " | ".join(f"{value:.2f} %" for value in accuracies(path, train_set, test_set))
        lines.append(f"| `pretrained/{path.name}` | {values} |")
    if len(runs) > 1:
        columns = [*zip(*(accuracies(run, train_set, test_set) for run in runs), strict=True)]
        values = " | ".join(f"{mean(column):.2f} ± {stdev(column):.2f} %" for column in columns)
        lines.append(f"| `best`, {len(runs)} seeds | {values} |")
        changes = []
        for column in columns[1:]:
            pairs = [value - real for value, real in zip(column, columns[0], strict=True)]
            change, low, high = intervals.interval(pairs)
            changes.append(f"{change:+.2f} ({low:+.2f} to {high:+.2f})")
        lines.append(f"| change, in points (95 % interval) | | {' | '.join(changes)} |")
    return "\n".join(lines)


def cost_table(layers, images):
    """What each layer needs; a multiplication always comes with an addition."""
    lines = ["| layer | outputs | bytes of weights and biases | multiplications | shift |"]
    lines.append("| --- | --- | ---: | ---: | ---: |")
    totals = [0, 0]
    for facts, layer, values in write.described(layers, images):
        size = products = 0
        if layer.weight is not None:
            size = layer.weight.numel() + 4 * layer.bias.numel()
            products = values[0].numel() * layer.weight[0].numel()
        totals = [totals[0] + size, totals[1] + products]
        numbers = f"{size:,} | {products:,} | {'–' if layer.shift is None else layer.shift}"
        lines.append(f"| {layer.kind} | {write.by(facts['outputs'])} | {numbers} |")
    return "\n".join([*lines, f"| total | | {totals[0]:,} | {totals[1]:,} | |"])


def times(model, layers, images, about):
    """Seconds for one image, from its bytes to its logits, as median over the rounds."""
    import onnxruntime

    torch.set_num_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(export.onnx(model), options)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "network.c").write_bytes(write.c_file(layers, images, about))
        command = ["cc", "-std=c99", "-O2", "-fPIC", "-shared", "network.c", "-o", "network.so"]
        subprocess.run(command, cwd=folder, check=True)
        function = ctypes.CDLL(str(Path(folder, "network.so")))[about["name"]]
    image, logits = images[:1], (ctypes.c_int32 * 10)()
    pixels = (ctypes.c_uint8 * 784).from_buffer_copy(image.numpy().tobytes())
    read = images[:1, None].numpy
    programs = {
        "C, `-O2`": lambda: function(pixels, logits),
        "ONNX Runtime": lambda: session.run(None, {"images": read().astype("f4") / 255}),
        "PyTorch": lambda: model(normalize(image)),
    }
    seconds = {name: [] for name in programs}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for name, program in programs.items():
                began = time.perf_counter()
                for _ in range(CALLS):
                    program()
                seconds[name].append((time.perf_counter() - began) / CALLS)
    return {name: median(rounds) for name, rounds in seconds.items()}


def time_table(seconds):
    """The times in microseconds, and as shares of PyTorch's."""
    lines = ["| program | one image | of PyTorch's time |", "| --- | ---: | ---: |"]
    for name, value in seconds.items():
        lines.append(f"| {name} | {1e6 * value:.0f} µs | {value / seconds['PyTorch']:.2f} |")
    return "\n".join([*lines, f"\n{platform.processor() or platform.machine()}, one thread."])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    options = parser.parse_args()
    train_set, test_set = MNIST(options.data_dir), MNIST(options.data_dir, train=False)
    model = export.network(export.load(export.BEST))
    layers = quantize(export.layers_of(model), train_set.data[: export.CALIBRATION])
    images = test_set.data[:1]
    about = dict.fromkeys(("mark", "title", "checkpoint", "data", "real", "integer", "same"), "")
    seconds = times(model, layers, images, about | {"name": "lenet5", "bits": 8})
    tables.include(options.document, "times", time_table(seconds))
    tables.include(options.document, "costs", cost_table(layers, images))
    accuracy = accuracy_table(options.runs, train_set, test_set)
    tables.include(options.document, "accuracy", accuracy)


if __name__ == "__main__":
    main()
