"""Writes a network in integers: as a C file, and as memory files for a hardware description."""

import io
import json
import re
import textwrap
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from integers.quantize import Layer, outputs

import torch

HERE = Path(__file__).resolve().parent
FACTS = ("shift", "size", "zero", "exponent")  # of a layer


def fill(template: str, fields: Mapping[str, object]) -> str:
    """The template with values in the places of its {{names}}."""
    return re.sub(r"\{\{([a-z_]+)\}\}", lambda place: str(fields[place[1]]), template)


def described(
    layers: Sequence[Layer], images: torch.Tensor
) -> Iterator[tuple[dict, Layer, torch.Tensor]]:
    """Each layer's facts, itself, and what it gives for images (uint8, N x 28 x 28)."""
    shape = [1, 28, 28]
    for n, (layer, values) in enumerate(zip(layers, outputs(layers, images), strict=True), 1):
        facts = {"layer": n, "kind": layer.kind, "inputs": shape, "outputs": [*values.shape[1:]]}
        yield facts | {name: getattr(layer, name) for name in FACTS}, layer, values
        shape = facts["outputs"]


def by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def braces(values: torch.Tensor) -> str:
    """An array as C initialises it."""
    text = str(values.tolist()).replace("[", "{").replace("]", "}")
    return textwrap.fill(text, 100, initial_indent="\n    ", subsequent_indent="    ").lstrip(" ")


def c_file(layers: Sequence[Layer], images: torch.Tensor, about: Mapping[str, object]) -> bytes:
    """The network as a C file that tests itself with images; `about` fills the head's places."""
    head, *blocks, tail = re.split(r"/\*---- (\w+) ----\*/\n", (HERE / "network.c").read_text())
    templates = dict(zip(blocks[:-1:2], blocks[1::2], strict=True))
    results = [*described(layers, images)]
    sizes = [values[0].numel() for _, _, values in results[:-1]]  # of activations
    odd, even = max(sizes[::2], default=0), max(sizes[1::2], default=0)
    places = [f"memory + {odd}", "memory"]  # of even and of odd layers
    body, calls, row = [templates["hidden"]] if sizes else [], [], 0
    for facts, layer, _ in results:
        n, hidden = facts["layer"], layer is not layers[-1]
        fields = facts | {"n": n, "inputs": by(facts["inputs"]), "outputs": by(facts["outputs"])}
        fields |= dict(zip(("channels", "height", "width"), facts["inputs"], strict=False))
        fields |= dict(zip(("maps", "height_out", "width_out"), facts["outputs"], strict=False))
        fields["type"] = "uint8_t" if hidden else "int32_t"
        if not layer.size:
            fields |= {"weights": braces(layer.weight), "biases": braces(layer.bias)}
            channels = layer.weight.shape[1:]
            fields |= dict(zip(("channels", "rows", "columns"), channels, strict=False))
            result = "sums[x]" if layer.kind == "Conv2d" else "sum"
            fields["result"] = f"activation({result}, {layer.shift})" if hidden else result
            row = max(row, 4 * facts["outputs"][-1] * (layer.kind == "Conv2d"))
        body.append(fill(templates[layer.kind], fields))
        source, target = "image" if n == 1 else places[(n - 1) % 2], places[n % 2]
        calls.append(f"    layer{n}({source}, {target if hidden else 'logits'});")
    constants = sum(layer.weight.numel() + 4 * layer.bias.numel() for layer in layers)
    fields = {**about, "activations": odd + even, "calls": "\n".join(calls), "count": len(images)}
    fields |= {"constants": f"{constants:,}", "memory": f"{odd + even + row:,}"}
    fields |= {"exponent": layers[-1].exponent, "test": f"{about['name']}_TEST".upper()}
    fields |= {"images": braces(images.flatten(1)), "expected": braces(results[-1][2].flatten(1))}
    return fill(head + "".join(body) + tail, fields).encode()


def memory_files(
    layers: Sequence[Layer], images: torch.Tensor, about: Mapping[str, object]
) -> bytes:
    """The network as a zip archive of files for $readmemh; images give the activations in it."""
    files, table, bits = {}, [], int(str(about["bits"]))

    def add(name: str, values: torch.Tensor, width: int, signed: bool) -> dict:
        mask, digits = (1 << width) - 1, -(-width // 4)
        lines = [f"{value & mask:0{digits}x}\n" for value in values.flatten().tolist()]
        files[name] = "".join(lines)
        return {"file": name, "shape": [*values.shape], "bits": width, "signed": signed}

    manifest = {**about, "images": add("images.mem", images, 8, False), "layers": []}
    for facts, layer, values in described(layers, images):
        n, width = facts["layer"], 32 if layer is layers[-1] else 8
        if not layer.size:
            facts["weights"] = add(f"layer{n}_weights.mem", layer.weight, bits, True)
            facts["biases"] = add(f"layer{n}_biases.mem", layer.bias, 32, True)
        facts["activations"] = add(f"layer{n}_outputs.mem", values, width, width == 32)
        manifest["layers"].append(facts)
        numbers = [f"{name} {facts[name]}" for name in FACTS if facts[name] is not None]
        shapes = f"{by(facts['inputs'])} to {by(facts['outputs'])}"
        table.append(f"    layer{n}  {layer.kind:9}  {shapes}; {', '.join(numbers)}")
    readme = fill((HERE / "memory.txt").read_text(), {**about, "table": "\n".join(table)})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        first = {"README.txt": readme, "manifest.json": json.dumps(manifest, indent=1)}
        for name, text in (first | files).items():
            archive.writestr(zipfile.ZipInfo(name), text)  # with no date: always the same bytes
    return buffer.getvalue()
