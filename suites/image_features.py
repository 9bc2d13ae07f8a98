"""What images are compared by: features of a small classifier, projections, training images.

The classifier is trained here, on the training half of the data set and on nothing else, always on
the CPU and in float64, so that no machine gives other features than another but for rounding:

    three convolutions 3x3 of stride 2, of 8, 16 and 16 channels, each with ReLU; the mean over each
    quarter of the image, 64 features; a linear layer. Adam for 300 steps of 64 images, a learning
    rate of 0.005 that falls to 0 as a cosine.

Features are those before the linear layer, less their mean over training images, over their
standard deviation. It is no network of ImageNet, and distances between its features are no FID.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.models.ops import philox
from harness.suites.base import Tensors
from harness.suites.datasets import Split, as_input

CHANNELS = (8, 16, 16)
FEATURES = 4 * CHANNELS[-1]
STEPS, BATCH, RATE = 300, 64, 5e-3
DIRECTIONS = 64  # of projections
MOST = 2**28  # bytes of training images that samples are compared with, spread evenly
AT_A_TIME = 4096  # training images
MEMORIZED = 1 / 3  # Yoon et al. 2023


def reference_of(training: Split) -> dict[str, Tensor]:
    """Return all that images are compared by.

    Returns:
        `training`, uint8 (n, 3, H, W), and `training_labels` (n,), spread evenly where there are
        too many; `directions` (3HW, L), unit vectors; `mean` and `deviation` (64,) of features; the
        classifier's weights.
    """
    images, count = training.images, len(training)
    kept = min(count, max(1, MOST // math.prod(images.shape[1:])))
    where = torch.arange(kept) * count // kept
    found = {"training": images[where], "training_labels": training.labels[where]}
    found |= train_classifier(found["training"], found["training_labels"], len(training.classes))
    shape = DIRECTIONS, *images.shape[1:]
    directions = philox.normal(shape, 0, "projections", 0, torch.arange(DIRECTIONS)).flatten(1)
    found["directions"] = (directions / directions.norm(dim=1, keepdim=True)).T.contiguous()
    some = found["training"][: AT_A_TIME * max(1, kept // AT_A_TIME) : max(1, kept // AT_A_TIME)]
    raw = penultimate(as_input(some), found)
    found["mean"], found["deviation"] = raw.mean(0), raw.std(0).clamp(min=1e-6)
    return found


def penultimate(images: Tensor, weights: Tensors) -> Tensor:
    """Return the features (N, 64) of images (N, 3, H, W) in [0, 1]."""
    h = (images - 0.5) / 0.25
    for i in range(len(CHANNELS)):
        h = F.relu(F.conv2d(h, weights[f"weight{i}"], weights[f"bias{i}"], stride=2, padding=1))
    return F.adaptive_avg_pool2d(h, 2).flatten(1)


def train_classifier(images: Tensor, labels: Tensor, num_classes: int) -> dict[str, Tensor]:
    """Return the weights of the classifier of this module, trained, float32.

    Args:
        images: uint8 (N, 3, H, W); `labels` (N,).
    """
    draw = torch.Generator().manual_seed(0)
    weights = {}
    for i, (inner, outer) in enumerate(zip((3, *CHANNELS), CHANNELS, strict=False)):
        scale = math.sqrt(2 / (9 * inner))
        normal = torch.randn(outer, inner, 3, 3, generator=draw, dtype=torch.float64)
        weights[f"weight{i}"], weights[f"bias{i}"] = scale * normal, torch.zeros(outer).double()
    weights["head"] = torch.zeros(num_classes, FEATURES).double()
    weights["head_bias"] = torch.zeros(num_classes).double()
    with torch.enable_grad():
        for value in weights.values():
            value.requires_grad_()
        adam = torch.optim.Adam(weights.values(), lr=RATE)
        for step in range(STEPS):
            adam.param_groups[0]["lr"] = RATE * (1 + math.cos(math.pi * step / STEPS)) / 2
            where = torch.randint(len(images), (BATCH,), generator=draw)
            features = penultimate(images[where].double() / 255, weights)
            loss = F.cross_entropy(classify(features, weights), labels[where])
            adam.zero_grad()
            loss.backward()
            adam.step()
    return {name: value.detach().float() for name, value in weights.items()}


def classify(features: Tensor, weights: Tensors) -> Tensor:
    """Return the logits of the classifier for features (N, 64), as of `penultimate`."""
    return F.linear(features, weights["head"], weights["head_bias"])


def describe(images: Tensor, labels: Tensor, known: Tensors) -> dict[str, Tensor]:
    """Return what is kept of images (N, 3, H, W) in [0, 1].

    Args:
        labels: (N,), the classes that they should be of.
        known: As of `reference_of`.

    Returns:
        `features` (N, 64) and `projections` (N, L), float16; arrays (N,) of the metrics
        `nearest_training`, `memorized` and `class_agreement`.
    """
    raw = penultimate(images, known)
    near, copied = nearest_training(images, known["training"])
    return {
        "features": ((raw - known["mean"]) / known["deviation"]).half(),
        "projections": (images.flatten(1) @ known["directions"]).half(),
        "nearest_training": near,
        "memorized": copied.to(torch.uint8),
        "class_agreement": (classify(raw, known).argmax(1) == labels).to(torch.uint8),
    }


def nearest_places(images: Tensor, training: Tensor, count: int) -> Tensor:
    """Return the positions of the nearest training images, (N, count), about nearest first.

    Args:
        images: (N, 3, H, W) in [0, 1].
        training: uint8 (n, 3, H, W), n >= count.
    """
    x = images.flatten(1)
    found = torch.empty(len(x), 0, device=x.device)
    place = torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
    for first in range(0, len(training), AT_A_TIME):
        part = training[first : first + AT_A_TIME].flatten(1).to(x) / 255
        distance = part.square().sum(1) - 2 * x @ part.T  # less |x|^2, which orders nothing
        near = distance.topk(min(count, len(part)), dim=1, largest=False)
        found = torch.cat([found, near.values], 1)
        place = torch.cat([place, near.indices + first], 1)
    return place.gather(1, found.topk(count, dim=1, largest=False).indices)


def nearest_training(images: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far the nearest training image is, and whether an image is a copy of it.

    The distance is the root mean square over pixels. A copy is less than a third as far from the
    nearest training image as from the second nearest, or equal to it.

    Args:
        images: (N, 3, H, W) in [0, 1].
        training: uint8 (n, 3, H, W).

    Returns:
        Distances (N,), and booleans (N,).

    Reference: T. Yoon et al., Diffusion Probabilistic Models Generalize when They Fail to Memorize,
    ICML 2023 workshop SPIGM, section 2; X. Gu et al., On Memorization in Diffusion Models, 2023,
    https://arxiv.org/abs/2310.02664, equation 3.
    """
    best = nearest_places(images, training, min(2, len(training)))
    # Again by the difference: of a copy nothing is left of |x|^2 + |y|^2 - 2 x.y but rounding.
    pairs = training[best].flatten(2).to(images) / 255 - images.flatten(1)[:, None]
    near = pairs.square().mean(2).sqrt().sort(dim=1).values
    second = near[:, -1] if near.shape[1] == 2 else torch.zeros_like(near[:, 0])
    return near[:, 0], near[:, 0] <= MEMORIZED * second
