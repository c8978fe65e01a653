"""What the tests of data share: twelve images, their files, and every way of packing them."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import numpy as np
import torch
from PIL import Image

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8) * (RNG.random((12, 28, 28)) < 0.1)
LABELS = np.array([5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 9])
DATA = torch.from_numpy(IMAGES), torch.from_numpy(LABELS)


def png(image=IMAGES[0], kind="PNG", **options):
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def files_named(pattern, images=IMAGES, labels=LABELS):
    """{name: PNG} of images, by a pattern for their names."""
    pairs = enumerate(zip(images, labels, strict=True))
    return {pattern.format(n, label): png(image) for n, (image, label) in pairs}


def member(name, content=b"", kind=tarfile.REGTYPE, layout=tarfile.USTAR_FORMAT, link=""):
    """A member of a tar archive."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(content), link
    return info.tobuf(layout, "utf-8") + content + bytes(-len(content) % 512)


def tarred(files):
    """A tar archive of {name: content}."""
    return b"".join(member(name, content) for name, content in files.items()) + bytes(1024)


def zipped(files, method=zipfile.ZIP_DEFLATED):
    """A zip archive of {name: content}."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVES = {  # the ending of a name, and what packs {name: content}
    ".tar": tarred,
    ".tar.gz": lambda files: gzip.compress(tarred(files), mtime=0),
    ".tar.bz2": lambda files: bz2.compress(tarred(files)),
    ".tar.xz": lambda files: lzma.compress(tarred(files)),
    ".zip": zipped,
}


def lay(root, files):
    """Write {name: content} into a folder; gives the folder."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def idx_file(array):
    """The bytes of an IDX file."""
    shape = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.astype(np.uint8).tobytes()


def idx_files(images=IMAGES, labels=LABELS, pattern="{}-{}-{}-ubyte", splits=("train", "t10k")):
    """{name: content} of MNIST's four files."""
    arrays = {("images", "idx3"): images, ("labels", "idx1"): labels}
    return {pattern.format(s, *k): idx_file(a) for s in splits for k, a in arrays.items()}


def csv_file(images=IMAGES, labels=LABELS, header="label,pixel0\n"):
    rows = np.column_stack([labels, images.reshape(len(images), -1)])
    return (header + "".join(",".join(map(str, row)) + "\n" for row in rows.tolist())).encode()


def npz_file(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def keras(images=IMAGES, labels=LABELS):
    """mnist.npz as Keras has it."""
    return npz_file(x_train=images, y_train=labels, x_test=images, y_test=labels)


def damaged(content, bits=(), cuts=()):
    """Copies of `content`, each with one bit turned over or cut off at one place."""
    for bit in bits:
        copy = bytearray(content)
        copy[bit // 8] ^= 1 << bit % 8
        yield bytes(copy)
    for cut in cuts:
        yield content[:cut]


def assert_intact(data):
    """These are the twelve images and labels, as a dataset holds them."""
    assert [tensor.dtype for tensor in data] == [torch.uint8, torch.int64]
    assert all(map(torch.equal, data, DATA)) and all(tensor.is_contiguous() for tensor in data)
