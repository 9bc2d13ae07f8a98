"""The training images as a model of images: the exact score, a classifier by it, and its null.

    p(x, c; s) = 1 / M sum_{i in c} N(x; x_i, s^2 I)              noisy images of class c
    D(x; s)    = sum_i w_i x_i,   w = softmax_i(-|x - x_i|^2 / (2 s^2))
    grad log p(x; s) = (D(x; s) - x) / s^2
    p(c | x)   = softmax_c log sum_{i in c} exp(-|x - x_i|^2 / (2 s^2))

for the M training images x_i, scaled to [-1, 1]. No network is better at removing noise from them,
so samples have the error of the solver alone; and they are training images again. Their bootstrap,
which explains as much, is no denoiser: the suite `generation` draws it as a condition of its own.
The null `gaussian_fit` knows mean and covariance alone.

Calling it classifies by Bayes' rule, with the share of each class as its prior: a Parzen window. A
diffusion classifier estimates log p(x | c) from a learned denoiser, by a mean over levels of noise
of its squared error; of the exact one, the sum is known, and nothing is estimated. The level s is
one number, chosen for the smallest cross-entropy of training images (at most 500, a fifth) that are
held out meanwhile. `nearest_neighbors` has, in place of the sum, its largest term:

    p(c | x) = softmax_c -1/k sum of the k smallest |x - x_i|^2 / (2 s^2) of the class

which for k = 1 is the classifier by the nearest image; s changes its probabilities alone. For k > 1
no votes are counted, whose gradient is nothing: the classes' mean distances are compared.

There are no weights: "training" keeps the images, a byte a number, whatever recipe and seed.

Reference: T. Karras, M. Aittala, T. Aila and S. Laine, Elucidating the Design Space of
Diffusion-Based Generative Models, NeurIPS 2022, https://arxiv.org/abs/2206.00364, appendix B.3.
A. Li, M. Prabhudesai, S. Duggal, E. Brown and D. Pathak, Your Diffusion Model is Secretly a
Zero-Shot Classifier, ICCV 2023, https://arxiv.org/abs/2303.16203. H. Chen et al., Robust
Classification via a Single Diffusion Model, ICML 2024, https://arxiv.org/abs/2305.15241.
E. Parzen, On Estimation of a Probability Density Function and Mode, 1962; T. Cover and P. Hart,
Nearest Neighbor Pattern Classification, 1967. Deviations: of the diffusion classifiers, one level
in place of a mean over them, and the exact density in place of a bound.
"""

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.fitting import FittedModule, choose_level, held_out, scaled
from harness.models.ops import score
from harness.models.papers import CHEN_2024, COVER_1967, KARRAS_2022, LI_2023, PARZEN_1962


class TrainingImages(FittedModule):
    """Logits (N, C) by the training images near an image; buffers `images` (M, 3HW), `labels` (M,).

    Args:
        sigma: As of `FittedModule`.
        k: 0 for the sum over all images of a class, else how many of the nearest stand for it.
    """

    images: Tensor
    labels: Tensor

    def __init__(self, num_classes: int, sigma: float | None, k: int = 0) -> None:
        super().__init__(num_classes, sigma)
        self.k = k
        self.register_buffer("images", torch.zeros((0, 0), dtype=torch.uint8))

    def fit(self, images: Tensor, labels: Tensor) -> None:
        """Keep uint8 images (M, 3, H, W) and labels (M,), in the order of classes."""
        order = labels.argsort(stable=True)
        self.keep({"images": images.flatten(1)[order], "labels": labels[order]})
        if self.sigma is None and len(labels) > 1:
            self.level.fill_(self._choose())

    def _choose(self) -> float:
        held = held_out(len(self.labels)).to(self.labels.device)
        labels, kept = self.labels[held], self.images[~held]
        counts = torch.bincount(self.labels[~held], minlength=self.num_classes).tolist()
        squares = score.squared_distances(scaled(self.images[held] / 255), kept)
        parts = [part.sort(1).values for part in squares.split(counts, 1)]

        def evidence(sigma: float) -> Tensor:
            if self.k:
                near = [
                    -p[:, : self.k].mean(1) if p.shape[1] else p.sum(1) - torch.inf for p in parts
                ]
                return torch.stack(near, 1) / (2 * sigma**2)
            return torch.stack([(-p / (2 * sigma**2)).logsumexp(1) for p in parts], 1)

        return choose_level(evidence, labels)

    def forward(self, images: Tensor) -> Tensor:
        if not len(self.labels):
            return images.new_zeros(len(images), self.num_classes)
        x = scaled(images).flatten(1)
        level = self.level.expand(len(x))
        return self.logits_of(score.class_evidence(x, level, self.images, self.counts, self.k))


class ExactScore(TrainingImages):
    """The same with D(x; s)."""

    def denoise(self, noisy: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """Return the mean of training images (N, 3, H, W) in [-1, 1], as `Denoising` says.

        Raises:
            ValueError: There are no training images, or none of a wanted class.
        """
        counts = torch.tensor(self.counts, device=self.labels.device)
        if labels is None:
            counts = counts.sum().expand(1)
        if not counts[0 if labels is None else labels].all():
            raise ValueError(
                "There are no training images to remove noise by. Call `fit` first, with images of "
                "each class that is asked for."
            )
        x = noisy.flatten(1)
        if labels is None:
            return score.denoise(x, sigma, self.images).view_as(noisy)
        order, found, start = labels.argsort(stable=True), list[Tensor](), 0
        asked = torch.bincount(labels, minlength=len(self.counts)).tolist()
        for rows, count in zip(order.split(asked), self.counts, strict=True):
            if len(rows):  # of each class its own images alone, which are one range
                own = self.images[start : start + count]
                found.append(score.denoise(x[rows], sigma[rows], own))
            start += count
        return torch.cat(found)[order.argsort()].view_as(noisy)


@MODELS.register
@card(
    "generative",
    "dx/ds = (x - D(x; s)) / s,  D = softmax_i(-|x - x_i|^2 / 2s^2) x_i",
    (KARRAS_2022,),
    nulls=("gaussian_fit",),
)
def exact_score(num_classes: int = 10, sigma: float | None = None) -> nn.Module:
    """Optimal denoiser of the training images, without weights; samples are training images.

    Args:
        sigma: Level at which it classifies, for images in [-1, 1]; None chooses it.
    """
    return ExactScore(num_classes, sigma)


@MODELS.register
@card(
    "generative",
    "p(c | x) = softmax_c log sum_{i in c} exp(-|x - x_i|^2 / 2s^2)",
    (LI_2023, CHEN_2024, PARZEN_1962),
    nulls=("nearest_neighbors",),
)
def diffusion_classifier(num_classes: int = 10, sigma: float | None = None) -> nn.Module:
    """Bayes' rule with the exact densities of noisy images: `exact_score` under its other name.

    Args:
        sigma: Level of noise, > 0, for images in [-1, 1]; None chooses it.
    """
    return ExactScore(num_classes, sigma)


@MODELS.register
@card(
    "null",
    "p(c | x) = softmax_c -min_{i in c} |x - x_i|^2 / 2s^2",
    (COVER_1967,),
)
def nearest_neighbors(num_classes: int = 10, k: int = 1, sigma: float | None = None) -> nn.Module:
    """Class of the nearest training image, without weights.

    Args:
        k: How many of the nearest images of a class stand for it, by their mean squared distance.
        sigma: Scale of its probabilities, > 0; None chooses it.
    """
    if k < 1:
        raise ValueError(f"`k` must be at least 1; got {k}.")
    return TrainingImages(num_classes, sigma, k)
