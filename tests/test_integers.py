"""A network in integers: Python, C, Verilog and arithmetic by hand give the same numbers."""

import ctypes
import json
import math
import os
import re
import shutil
import subprocess
import zipfile

import export
from benchmarks import hardware
from dataset import MNIST
from digits import synthetic
from digits.archive import write_tarball
from files import UserError
from integers import quantize, write
from integers.quantize import Layer
from model import CustomMLP, LeNet5

import numpy as np
import pytest
import torch
from helpers import ROOT
from torch import nn

ABOUT = dict.fromkeys(("title", "checkpoint", "data", "real", "integer", "same"), "x")
ABOUT |= {"mark": export.MARK, "bits": 8}
STRICT = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Werror", "-O2"]


@pytest.fixture(scope="module")
def sets():
    """Training and test images: MNIST's where MNIST_DIR is, drawn ones otherwise."""
    if folder := os.environ.get("MNIST_DIR"):
        return MNIST(folder).data[:2000], MNIST(folder, train=False).data
    return synthetic.draw(300, seed=1)[0], synthetic.draw(300, seed=2)[0]


def shipped(name):
    """The layers of shipped weights."""
    return export.layers_of(export.network(export.load(ROOT / "pretrained" / name)))


def run(*command, folder):
    """The exit status and the output of a program that finds no error."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


def compiled(folder, sources, *options):
    """Compile C sources together, without a warning; gives the path of the result."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) on this system")
    names = [f"net{number}.c" for number in range(len(sources))]
    for name, source in zip(names, sources, strict=True):
        (folder / name).write_bytes(source)
    assert run("cc", *STRICT, *options, *names, "-o", "net.out", folder=folder) == (0, "")
    return folder / "net.out"


def in_c(folder, networks, pixels):
    """The logits that the C file of each network gives; its answers are the largest ones."""
    names = [f"net{number}" for number in range(len(networks))]
    sources = [
        write.c_file(layers, pixels[:3], ABOUT | {"name": name})
        for name, layers in zip(names, networks, strict=True)
    ]
    library = ctypes.CDLL(str(compiled(folder, sources, "-fPIC", "-shared")))
    images, results = np.ascontiguousarray(pixels.numpy()), []
    for name in names:
        logits, function = np.zeros((len(pixels), 10), np.int32), library[name]
        pairs = zip(images, logits, strict=True)
        digits = [function(image.ctypes, row.ctypes) for image, row in pairs]
        assert digits == logits.argmax(1).tolist()
        results.append(torch.from_numpy(logits).long())
    return results


def scaled(layers, factor, bias=0):
    """A network with all its weights multiplied, and with larger biases in its first layer."""
    for parameter in nn.Sequential(*layers).parameters():
        parameter.data.mul_(factor)
    layers[0].bias.data.add_(bias)
    return layers


NETWORKS = {  # of kinds that people write, and with extreme weights
    "mlp": lambda: CustomMLP(dropout=0.5).layers,
    "lenet5": lambda: LeNet5(dropout=0.5).layers,
    "no bias, flat kernels": lambda: [
        nn.Conv2d(1, 3, (3, 5), bias=False), nn.ReLU(), nn.MaxPool2d(3), nn.Flatten(),
        nn.Linear(192, 10, bias=False),
    ],
    "no ReLU, two poolings": lambda: [
        nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Conv2d(2, 3, 3), nn.Flatten(),
        nn.Linear(48, 9), nn.Linear(9, 10),
    ],
    "begins with pooling": lambda: [nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(196, 10)],
    "ends with a convolution": lambda: [nn.MaxPool2d(7), nn.Conv2d(1, 10, 4), nn.Flatten()],
    "one layer": lambda: [nn.Flatten(), nn.Linear(784, 10)],
    "tiny weights": lambda: scaled(LeNet5().layers, 1e-4),
    "huge weights": lambda: scaled(LeNet5().layers, 1e4),
    "zero weights": lambda: scaled(LeNet5().layers, 0),
    "huge biases": lambda: scaled(NETWORKS["no ReLU, two poolings"](), 1, bias=1e5),
    "huge biases, tiny weights": lambda: scaled(NETWORKS["no ReLU, two poolings"](), 1e-6, 1e5),
    "huge biases, huge weights": lambda: scaled(NETWORKS["no ReLU, two poolings"](), 1e6, 1e5),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_c_and_python_agree_in_every_logit(tmp_path, sets, name):
    torch.manual_seed(0)
    network = export.layers_of(nn.Sequential(*NETWORKS[name]()).eval())
    noise = torch.randint(0, 256, (20, 28, 28), dtype=torch.uint8)
    extremes = torch.stack([torch.zeros(28, 28), torch.full((28, 28), 255.0)]).byte()
    pixels = torch.cat([sets[1][:50], noise, extremes])
    networks = [quantize.quantize(network, sets[0][:100], bits) for bits in quantize.BITS]
    results = in_c(tmp_path, networks, pixels)
    for bits, layers, logits in zip(quantize.BITS, networks, results, strict=True):
        for layer in layers:
            if not layer.size:
                assert layer.weight.abs().max() < 2 ** (bits - 1) and 0 <= (layer.shift or 0) < 32
                most = layer.bias.abs() + 255 * layer.weight.abs().flatten(1).sum(1)
                assert most.max() < 2**31  # no image can make a sum leave 32 bits
        assert torch.equal(logits, quantize.logits(layers, pixels))


@pytest.mark.parametrize("name", ["lenet5.pt", "handwriting.pt"])
def test_the_shipped_weights_lose_nothing_in_c(tmp_path, sets, name, monkeypatch):
    """C and Python count the same sums for all test images."""
    network = shipped(name)
    layers = quantize.quantize(network, sets[0])
    (logits,) = in_c(tmp_path, [layers], sets[1])
    assert torch.equal(logits, quantize.logits(layers, sets[1]))
    if folder := os.environ.get("MNIST_DIR"):
        test_set = MNIST(folder, train=False)
        monkeypatch.setattr(quantize, "logits", lambda *_: logits)  # they take seconds
        real, integer, same = quantize.compare(nn.Sequential(*network), layers, test_set)
        assert integer == (logits.argmax(1) == test_set.targets).float().mean().item()
        assert abs(real - integer) <= 0.0005 and same >= 0.999


def test_sums_are_shifted_and_saturate_at_the_extremes(tmp_path):
    """As with Python's own integers; half a step is in the bias already."""
    biases = [-(2**31) + 1, -256, -1, 0, 1, 127, 128, 255, 256, 2**31 - 1]
    networks, expected = [], []
    for shift in (0, 1, 8, 23, 30):
        first = Layer("Linear", torch.zeros(10, 784).long(), torch.tensor(biases), shift)
        networks.append([first, Layer("Linear", torch.eye(10).long(), torch.zeros(10).long())])
        shifted = [math.floor(total / 2**shift) for total in biases]
        expected.append([[min(max(number, 0), 255) for number in shifted]])
    pixels = torch.full((1, 28, 28), 255).byte()
    assert [quantize.logits(layers, pixels).tolist() for layers in networks] == expected
    assert [logits.tolist() for logits in in_c(tmp_path, networks, pixels)] == expected


def test_a_sum_is_rounded_to_the_nearest_activation():
    layer = nn.Linear(784, 256)
    layer.weight.data.zero_()
    layer.weight.data[:, 0] = 255 * 0.3081 / 64  # the first pixel's byte / 64, less a constant
    layer.bias.data = torch.linspace(0, 8, 256)
    network = [nn.Flatten(), layer, nn.ReLU(), nn.Linear(256, 10)]
    pixels = torch.arange(256).byte().repeat_interleave(784).view(256, 28, 28)
    first = quantize.quantize(network, pixels)[0]
    outputs = quantize.outputs([first], pixels)[0]
    expected = torch.arange(256)[:, None] / 64 - 0.1307 * 255 / 64 + layer.bias.data
    errors = outputs - expected.relu() * 2**first.exponent
    assert first.shift >= 4 and errors.abs().max() <= 0.51 and abs(errors.mean()) <= 0.01


def test_a_layer_that_integers_cannot_express_is_named(sets):
    network = [nn.Flatten(), nn.Linear(784, 10)]
    with pytest.raises(UserError, match="ReLU.* last layer"):
        quantize.quantize([*network, nn.ReLU()], sets[0][:5])
    network[1].weight.data[0, 0] = math.inf
    with pytest.raises(UserError, match="Linear.* not finite"):
        quantize.quantize(network, sets[0][:5])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The shipped LeNet-5 as the command writes it, with data whose test images are darker."""
    folder = tmp_path_factory.mktemp("export")
    for seed, split in enumerate(("train", "test"), 1):
        images, labels = synthetic.draw(60, seed)
        write_tarball(folder / f"{split}.tar", images // seed**2, labels, split)
    for name in ("lenet5.c", "lenet5.zip"):
        assert export.main([str(folder / name), "--data-dir", str(folder)]) == 0
    return folder


def test_the_c_file_tests_itself_and_needs_nothing(files, tmp_path):
    source = (files / "lenet5.c").read_bytes()
    program = compiled(tmp_path, [source], "-DLENET5_TEST")
    right = "lenet5: 10 of 10 digits have the expected logits\n"
    assert run(program, folder=tmp_path) == (0, right)
    text = source.decode().partition("#ifdef LENET5_TEST")[0]
    assert re.findall("#include.*", text) == ["#include <stdint.h>"] and "{{n" not in text
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(float|double|malloc|long)\b|\d\.\d", code)
    numbers = [re.search(rf"{name}: ([\d,]+) bytes", text)[1] for name in ("Constants", "RAM")]
    assert numbers == ["45,134", "4,416"]
    wrong = compiled(tmp_path, [source.replace(b"{{{{", b"{{{{1 + ", 1)], "-DLENET5_TEST")
    assert run(wrong, folder=tmp_path)[0] == 1  # one weight is enough


def test_the_memory_files_hold_what_the_readme_says(files):
    archive = zipfile.ZipFile(files / "lenet5.zip")
    manifest = json.loads(archive.read("manifest.json"))
    calibrated = quantize.quantize(shipped("lenet5.pt"), MNIST(files).data)
    exponents = [layer.exponent for layer in calibrated]  # no test image was used for them
    assert [layer["exponent"] for layer in manifest["layers"]] == exponents

    def read(facts):
        lines = archive.read(facts["file"]).decode().split("\n")[:-1]
        assert {len(line) for line in lines} == {facts["bits"] // 4}
        values = np.array([int(line, 16) for line in lines]).reshape(facts["shape"])
        return values - ((values >> (facts["bits"] - 1)) << facts["bits"]) * facts["signed"]

    values = read(manifest["images"])[:, None]
    for layer in manifest["layers"]:
        if layer["kind"] == "MaxPool2d":
            n, maps, height, width = values.shape
            values = values.reshape(n, maps, height // 2, 2, width // 2, 2).max((3, 5))
        else:
            weight, bias = read(layer["weights"]), read(layer["biases"])
            if layer["kind"] == "Conv2d":
                patches = np.lib.stride_tricks.sliding_window_view(values, weight.shape[2:], (2, 3))
                sums = np.einsum("nchwij,mcij->nmhw", patches, weight) + bias[:, None, None]
            else:
                sums = values.reshape(len(values), -1) @ weight.T + bias
            last = layer["shift"] is None
            values = sums if last else np.clip(sums >> layer["shift"], 0, 255)
        assert np.array_equal(values, read(layer["activations"])), layer["layer"]
    expected = (files / "lenet5.c").read_text().partition("expected[10][10] = ")[2]
    numbers = [int(number) for number in re.findall(r"-?\d+", expected.partition(";")[0])]
    assert numbers == values.flatten().tolist()


def test_verilog_computes_the_first_convolution_from_the_memory_files(files, tmp_path):
    if shutil.which("iverilog") is None:
        pytest.skip("no Icarus Verilog (iverilog) on this system")
    zipfile.ZipFile(files / "lenet5.zip").extractall(tmp_path)
    shift = json.loads((tmp_path / "manifest.json").read_text())["layers"][0]["shift"]
    bench = str(ROOT / "tests" / "first_convolution.v")
    assert run("iverilog", f"-DSHIFT={shift}", "-o", "bench", bench, folder=tmp_path) == (0, "")
    assert run("vvp", "bench", folder=tmp_path) == (0, "0 wrong\n")


@pytest.mark.parametrize("name", ["lenet5.c", "lenet5.zip"])
def test_the_same_command_gives_the_same_file(files, tmp_path, capsys, name):
    path, options = tmp_path / name, ["--data-dir", str(files)]
    assert export.main([str(path), *options]) == 0
    assert path.read_bytes() == (files / name).read_bytes()
    assert "NOT the published MNIST" in capsys.readouterr().out
    assert export.main([str(path), "--bits", "4", *options]) == 0
    assert path.read_bytes() != (files / name).read_bytes()


def test_the_document_tells_what_was_measured(sets):
    text = (ROOT / "docs" / "hardware.md").read_text(encoding="utf-8")
    layers = quantize.quantize(shipped("lenet5.pt"), sets[0])
    rows = [line.rpartition(" | ")[0] for line in hardware.cost_table(layers, sets[1][:1])]
    assert all(row in text for row in rows)  # but for the shifts, which the images decide
    changes = re.search(r"change, in points.*", text)[0]
    eight, six, four = [float(number) for number in re.findall(r"([+-]\d\.\d\d) \(", changes)]
    assert abs(eight) <= 0.015 <= abs(six) < 0.1 < abs(four) < 0.3
    assert float(re.search(r"C file.*\| (\d\.\d\d) \|", text)[1]) <= 1 / 3
