"""A Gaussian with the mean and the covariance of the training images: a linear denoiser.

    D(x; s)     = mu + V diag(l / (l + s^2)) V^T (x - mu),     Sigma = V diag(l) V^T
    p(x | c; s) = N(x; mu_c, Sigma_w + s^2 I)

For a known class, mu is the mean of the class and Sigma the covariance within classes, Sigma_w, one
for all of them; else mean and covariance of all images. So calling it, Bayes' rule at the level s
with the share of each class as its prior, is linear discriminant analysis with a ridge of s^2,
chosen as `exact_score` chooses its level. Eigenvectors are those of the smaller of the two
matrices X X^T and X^T X, and as many are kept as have a variance above rounding.

It is the null of every model of images that knows more of them than two moments, `exact_score`
among them: solutions of its probability-flow equation are known in closed form,
x(s) = mu + V diag(sqrt((l + s^2) / (l + s_0^2))) V^T (x(s_0) - mu) within the span.

Reference: T. Karras, M. Aittala, T. Aila and S. Laine, Elucidating the Design Space of
Diffusion-Based Generative Models, NeurIPS 2022, https://arxiv.org/abs/2206.00364, appendix B.
R. Fisher, The Use of Multiple Measurements in Taxonomic Problems, 1936. Deviations: none.
"""

import torch
from torch import Tensor, nn

from harness.models.cards import MODELS, card
from harness.models.fitting import FittedModule, choose_level, held_out, scaled
from harness.models.ops.score import precise
from harness.models.papers import FISHER_1936, KARRAS_2022

ROUNDING = 1e-6  # of the largest variance, below which a direction counts as having none
BLOCK = 4096  # images in floating point at a time


class GaussianFit(FittedModule):
    """Logits (N, C) and D(x; s) by two moments.

    Buffers: `mean` (d,), `means` (C, d) of the classes; `basis` (r, d) and `variances` (r,) of all
    images, `basis_within` and `variances_within` of what is left beside the mean of their class.
    """

    labels: Tensor
    mean: Tensor
    means: Tensor
    basis: Tensor
    variances: Tensor
    basis_within: Tensor
    variances_within: Tensor

    def __init__(self, num_classes: int, sigma: float | None) -> None:
        super().__init__(num_classes, sigma)
        for name, shape in (
            ("mean", (0,)), ("means", (0, 0)), ("basis", (0, 0)), ("variances", (0,)),
            ("basis_within", (0, 0)), ("variances_within", (0,)),
        ):  # fmt: skip
            self.register_buffer(name, torch.zeros(shape))

    def fit(self, images: Tensor, labels: Tensor) -> None:
        """Keep the moments of uint8 images (M, 3, H, W)."""
        if self.sigma is None and len(labels) > 1:
            held = held_out(len(labels)).to(labels.device)
            self._keep_moments(images[~held], labels[~held])
            x = scaled(images[held] / 255).flatten(1)
            self.level.fill_(choose_level(lambda s: self.evidence(x, s), labels[held]))
        self._keep_moments(images, labels)

    def _keep_moments(self, images: Tensor, labels: Tensor) -> None:
        flat = images.flatten(1)
        counts = torch.bincount(labels, minlength=self.num_classes)
        sums = torch.zeros(self.num_classes, flat.shape[1], dtype=torch.float64, device=flat.device)
        for part, own in zip(flat.split(BLOCK), labels.split(BLOCK), strict=True):
            sums.index_add_(0, own, part.double() / 127.5 - 1)
        mean = sums.sum(0) / len(flat)
        means = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], mean)
        basis, variances = _principal(flat, mean.expand(1, -1), torch.zeros_like(labels))
        within, variances_within = _principal(flat, means, labels)
        moments = {
            "mean": mean, "means": means, "basis": basis, "variances": variances,
            "basis_within": within, "variances_within": variances_within,
        }  # fmt: skip
        self.keep({k: v.float() for k, v in moments.items()} | {"labels": labels})

    def evidence(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return log p(x, c; s) (N, C), float64, plus a constant, of images (N, d) in [-1, 1].

        With P = V^T (x - mu_c), the exponent is -(|x - mu_c|^2 - sum l / (l + s^2) P^2) / (2 s^2).
        What it has in all classes is left out: it is linear in x.
        """
        dtype = precise(x)
        basis, variances = self.basis_within.to(dtype), self.variances_within.to(dtype)
        gain = variances / (variances + sigma**2)
        means = self.means.to(dtype)
        weighted = (means - (means @ basis.T * gain) @ basis) / sigma**2  # (Sigma + s^2)^-1 mu_c
        constant = -0.5 * (weighted * means).sum(1)
        prior = torch.tensor(self.counts, dtype=dtype, device=x.device).log()
        return x.to(dtype) @ weighted.T + (constant + prior)

    def forward(self, images: Tensor) -> Tensor:
        if not len(self.labels):
            return images.new_zeros(len(images), self.num_classes)
        with torch.autocast(images.device.type, enabled=False):
            return self.logits_of(self.evidence(scaled(images).flatten(1), self.level))

    def denoise(self, noisy: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """Return the mean of the clean image (N, 3, H, W) in [-1, 1], as `Denoising` says."""
        if not len(self.labels):
            raise ValueError("There are no training images to remove noise by. Call `fit` first.")
        dtype = torch.promote_types(noisy.dtype, torch.float32)
        if labels is None:
            mean, basis, variances = self.mean, self.basis, self.variances
        else:
            mean, basis = self.means[labels], self.basis_within
            variances = self.variances_within
        mean, basis, variances = (v.to(dtype) for v in (mean, basis, variances))
        with torch.autocast(noisy.device.type, enabled=False):
            gain = variances / (variances + sigma.to(dtype).square()[:, None])  # (N, r)
            along = (noisy.flatten(1).to(dtype) - mean) @ basis.T
            return (mean + (along * gain) @ basis).view_as(noisy)


def _principal(flat: Tensor, means: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """Return directions (r, d) and variances (r,) of uint8 images (M, d) beside their means.

    Args:
        means: (K, d), and `which` of them is that of each image, (M,).
    """
    count, d = flat.shape

    def part(i: int) -> Tensor:
        rows = flat[i : i + BLOCK].double() / 127.5 - 1
        return rows - means[which[i : i + BLOCK]]

    if count <= d:
        x = torch.cat([part(i) for i in range(0, count, BLOCK)])
        squares, vectors = torch.linalg.eigh(x @ x.T)
        keep = squares > ROUNDING * squares[-1]
        root = squares[keep].sqrt()
        return (vectors[:, keep] / root).T @ x, squares[keep] / count
    covariance = torch.zeros(d, d, dtype=torch.float64, device=flat.device)
    for i in range(0, count, BLOCK):
        covariance.addmm_(part(i).T, part(i))
    squares, vectors = torch.linalg.eigh(covariance)
    keep = squares > ROUNDING * squares[-1]
    return vectors[:, keep].T.contiguous(), squares[keep] / count


@MODELS.register
@card(
    "null",
    "D(x; s) = mu + Sigma (Sigma + s^2)^-1 (x - mu)",
    (KARRAS_2022, FISHER_1936),
)
def gaussian_fit(num_classes: int = 10, sigma: float | None = None) -> nn.Module:
    """Denoiser of a Gaussian with the moments of the training images, without weights.

    Args:
        sigma: Level of noise at which it classifies, for images in [-1, 1]; None chooses it.
    """
    return GaussianFit(num_classes, sigma)
