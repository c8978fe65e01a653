"""Reads images from tar and zip archives and folders of PNGs, and writes tarballs.

`read_tarball` gives exactly the images that were put in, or raises `DataError`. The label of an
image is in its name, `{number}_{label}.png` in any folder, or is the name of its folder,
`{label}/{number}.png`; one archive never mixes both.
"""

import io
import os
import re
import sys
import tarfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch

from digits import idx
from digits.archive import Member, members, split_name
from digits.png import WrongFormat, decode_png, encode_png
from files import DataError, write_whole

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip", "")
FOLDERS = {"train": ("train", "training"), "test": ("test", "testing")}  # names of each split
BOTH = "mnist_png"  # the archive or folder that holds both splits, each in a folder
LABELS = frozenset("0123456789")
NUMBERED = re.compile(r"([0-9]{1,9})_([0-9]+)\.png")
LITTER = re.compile(r"\..*|thumbs\.db|desktop\.ini|readme.*|license.*", re.DOTALL | re.IGNORECASE)
WANTED = (
    "wanted are digits, light on dark, as PNG files of 28 x 28 pixels, 8-bit grey, with labels "
    "0 to 9, called {number}_{label}.png or {label}/{number}.png; this converts one picture: "
    'python -c "from PIL import Image; '
    "Image.open('in.jpg').convert('L').resize((28, 28)).save('out.png')\""
)


class Meaning(NamedTuple):
    """What a member's name says of it."""

    kind: str  # "litter"; "other", an image of the other split; "numbered" or "foldered"
    number: int | None = None  # None where the name is no number
    label: int | None = None


class LabelledImage(NamedTuple):
    """An image of an archive or a folder."""

    number: int | None
    label: int
    name: str  # as far as a checksum covers it, because it may decide the order
    pixels: bytes  # 784


def read_tarball(path: str | Path, split: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (uint8, N x 28 x 28) and labels (int64, N) of an archive or a folder.

    `split` is for one that holds both splits ("train" or "test"): only its images are read. If no
    two images have the same number, they come in the order of the numbers. Otherwise the labels are
    mixed evenly, and the images of each label come in the order of their names, so that the last
    ones (`--val-size`) show all digits. Errors: DataError.
    """
    path = Path(path)
    try:
        images = _in_order(_read_images(path, split))
    except Exception as error:  # a crafted header can make tarfile raise almost anything
        raise DataError(f"{path}: {_reason(error)}") from error
    pixels = bytearray().join(image.pixels for image in images)
    labels = [image.label for image in images]
    return torch.frombuffer(pixels, dtype=torch.uint8).view(-1, 28, 28), torch.tensor(labels)


def _reason(error: Exception) -> str:
    """Why nothing of an archive is used, and what to do, in one line."""
    if isinstance(error, WrongFormat):
        return f"{error}; {WANTED}"
    why = getattr(error, "strerror", None) or " ".join(str(error).split()) or "cannot be read"
    if not isinstance(error, DataError | OSError):
        why = f"damaged, or not an archive ({why})"
    return f"{why}; none of it is used, put a good copy there"


def _read_images(path: Path, split: str | None) -> list[LabelledImage]:
    """The images of an archive or a folder, in the order in which they come."""
    images: list[LabelledImage] = []
    offenders: list[DataError] = []
    numbers, names, kinds, litter = set(), set(), set(), Counter()
    for member in members(path):
        try:
            meaning = _confirmed_meaning(member, split)
            if meaning.kind == "litter":
                litter[member.parts[-1]] += 1
            if meaning.label is None:
                continue
            if meaning.kind == "numbered":
                _check_new(meaning.number, numbers, "number")
            else:
                _check_new("/".join(split_name(member.own_name)), names, "name")
            kinds.add(meaning.kind)
            pixels = decode_png(member.read())
        except DataError as error:
            # repr, because a name may hold control characters for the reader's terminal
            offenders.append(type(error)(f"{error}: {member.name[:200]!r}"))
            continue
        images.append(LabelledImage(meaning.number, meaning.label, member.own_name, pixels))
    if offenders:
        first = offenders[0]
        raise type(first)(f"{first} (files that cannot be used: {len(offenders):,})")
    if len(kinds) > 1:
        raise WrongFormat("some labels are in names, others are names of folders; choose one way")
    if not images:
        raise WrongFormat(f"it holds no images{f' of the {split} split' if split else ''}")
    if litter:
        count, example = litter.total(), min(litter)
        files = f"{count:,} file{'s' * (count > 1)} such as {example!r}"
        print(f"note: {path}: passed over {files}", file=sys.stderr)
    return images


def _check_new(value: int | str | None, seen: set, what: str) -> None:
    """Raise DataError if a number or a name occurs a second time."""
    if value in seen:
        raise DataError(f"a second image has the {what} {value}")
    seen.add(value)


def _confirmed_meaning(member: Member, split: str | None) -> Meaning:
    """What a member's name says, if nothing but checked bytes says so; DataError."""
    if member.problem:
        raise DataError(member.problem)
    meaning = _meaning(member.parts, split)
    if member.own_name != member.name:
        try:
            confirmed = _meaning(split_name(member.own_name), split) == meaning
        except DataError:
            confirmed = False
        if not confirmed:
            raise DataError("a name that no checksum covers (shorten the folder's name)")
    return meaning


def is_litter(path: list[str]) -> bool:
    """Whether a file, by the parts of its name, is one that systems leave beside images."""
    return bool(LITTER.fullmatch(path[-1])) or "__MACOSX" in path


def _meaning(path: list[str], split: str | None) -> Meaning:
    """What the parts of a name say; DataError if it is neither an image's name nor litter."""
    *folders, base = path
    if is_litter(path):
        return Meaning("litter")
    if split:
        own, other = FOLDERS[split], FOLDERS["test" if split == "train" else "train"]
        named = [folder for folder in folders if folder in own + other]
        if not named:
            raise WrongFormat("neither in a folder training/ nor in a folder testing/")
        if named[-1] in other:
            return Meaning("other")
    folder = folders[-1] if folders else ""
    if match := NUMBERED.fullmatch(base):
        number, label = match.groups()
        if folder in LABELS and folder != label:
            raise WrongFormat(f"its folder says the label {folder}, its name says {label}")
        return Meaning("numbered", int(number), _label(label))
    if re.fullmatch("[0-9]+", folder) and base.endswith(".png"):
        number = base.removesuffix(".png")
        is_number = re.fullmatch("[0-9]{1,9}", number)
        return Meaning("foldered", int(number) if is_number else None, _label(folder))
    raise WrongFormat("not named {number}_{label}.png or {label}/{number}.png")


def _label(text: str) -> int:
    if text not in LABELS:
        raise WrongFormat(f"the label {text[:20]}, but labels are 0 to 9")
    return int(text)


def _in_order(images: list[LabelledImage]) -> list[LabelledImage]:
    """The images in the order that `read_tarball` describes."""
    if len({image.number for image in images} - {None}) == len(images):
        return sorted(images, key=lambda image: image.number or 0)
    counts, seen, places = Counter(image.label for image in images), Counter(), {}
    for image in sorted(images, key=_natural_order):
        places[image.name] = (seen[image.label] + 0.5) / counts[image.label], image.label
        seen[image.label] += 1
    return sorted(images, key=lambda image: places[image.name])


def _natural_order(image: LabelledImage) -> tuple:
    """A key that sorts names as people do: 9.png before 10.png."""
    pieces = re.split("([0-9]+)", image.name)
    return [int(piece) if n % 2 else piece for n, piece in enumerate(pieces)], image.name


def write_tarball(
    path: str | Path, images: torch.Tensor, labels: torch.Tensor, folder: str
) -> None:
    """Write images (uint8, N x 28 x 28) and labels (N) as `{folder}/{number}_{label}.png`.

    The tarball is read back before it gets its name. Errors: OSError; DataError if what was read
    back is different; ValueError if there are not as many labels as images.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        rows = torch.nn.functional.pad(images, (1, 0)).numpy()
        for number, (image, label) in enumerate(zip(rows, labels.tolist(), strict=True)):
            png = encode_png(image.tobytes())
            member = tarfile.TarInfo(f"{folder}/{number:05d}_{label}.png")
            member.size = len(png)
            tar.addfile(member, io.BytesIO(png))

    def verify(written: Path) -> None:
        read_images, read_labels = read_tarball(written)
        if not torch.equal(read_images, images) or not torch.equal(read_labels, labels):
            raise DataError(f"{path}: what was written reads back differently; check the disk")

    write_whole(path, buffer.getvalue())
    verify(Path(path))


def find_data(root: str | Path, split: str) -> Path | None:
    """What the folder `root` holds of a split: an archive, a folder or an IDX file of images.

    None if it holds nothing of this split. IDX files count only where neither split has an archive
    or a folder: a set of one's own is never completed with MNIST. Errors: DataError, if two things
    could be meant, or if what has the name is not of its kind.
    """
    root = Path(root)
    try:
        names = sorted(os.listdir(root)) if root.is_dir() else []
    except OSError as error:
        raise DataError(f"{root}: {error.strerror}; make it readable") from error
    found = {one: [root / name for name in names if _stands_for(name, one)] for one in FOLDERS}
    if not any(found.values()):
        return idx.find(root, split)
    if len(found[split]) > 1:
        first, second, *_ = (path.name for path in found[split])
        raise DataError(f"{root}: {first} and {second} could both be meant; move one of them away")
    for path in found[split]:
        if path.suffix == "" and not path.is_dir():
            raise DataError(f"{path}: not a folder; add its ending (.tar, .zip), or move it away")
        if path.suffix != "" and not path.is_file():
            raise DataError(f"{path}: not a file; move it away")
        return path
    return None


find_tarball = find_data  # the name that it had when there were only tarballs


def _stands_for(name: str, split: str) -> bool:
    """Whether a name in a data folder is one that the data of a split may have."""
    stem, dot, ending = name.lower().partition(".")
    return dot + ending in ENDINGS and (stem in FOLDERS[split] or stem == BOTH)


def holds_both(path: Path) -> bool:
    """Whether an archive or a folder is one that holds both splits."""
    return path.name.lower().partition(".")[0] == BOTH
