"""Warns of images in another form than MNIST's: a network trained on them reads no handwriting."""

from pathlib import Path

from dataset import MNIST, normalize
from training import checkpoint
from training.program import tell

import torch

READER = Path(__file__).resolve().parent.parent / "pretrained" / "handwriting.pt"
FORMS = {  # what makes MNIST's form of images (uint8, N x 28 x 28) that are in this one
    "as they are": lambda images: images,
    "transposed (swap rows and columns)": lambda images: images.mT,
    "inverted (put 255 - pixel for each)": lambda images: 255 - images,
    "inverted and transposed": lambda images: 255 - images.mT,
    "rescaled (multiply until the lightest is 255)": lambda images: (
        images.float() * (255 / images.max().clamp(min=1))
    ).byte(),
}
FEW, COUNT = 50, 500  # images: fewer say nothing, and no more are read
GOOD, BETTER = 0.6, 0.2  # a form is named if so many are read in it, and so many more


def warn(dataset: MNIST) -> None:
    """Say so if the shipped network reads the images far better in another form than they have."""
    if dataset.published or len(dataset) < FEW:
        return
    rows = torch.linspace(0, len(dataset) - 1, min(COUNT, len(dataset))).long()
    images, labels = dataset.data.cpu()[rows], dataset.targets.cpu()[rows]
    model = checkpoint.network(checkpoint.load(READER))
    with torch.no_grad():
        accuracies = {
            form: (model(normalize(change(images))).argmax(1) == labels).float().mean().item()
            for form, change in FORMS.items()
        }
    best, own = max(accuracies, key=lambda form: accuracies[form]), accuracies["as they are"]
    border = torch.cat([images[:, [0, -1]].flatten(), images[:, :, [0, -1]].flatten()]).median()
    if accuracies[best] > max(GOOD, own + BETTER):
        tell(
            f"warning: {dataset.path}: the shipped network reads {100 * own:.0f} % of these images "
            f"as they are, and {100 * accuracies[best]:.0f} % if they were {best}; trained on "
            "them as they are, a network will not read handwriting"
        )
    elif border > 127:
        tell(
            f"warning: {dataset.path}: the ground of these images is light; digits of MNIST are "
            "light on dark: put 255 - pixel for each (PIL.ImageOps.invert)"
        )
