"""Certificates: a distance from each image within which nothing can change its class.

    r = min over t != y of (z_y - z_t) / (L |w_y - w_t|_2),  0 for a misclassified image,

with logits z = W phi(x) + b and L an upper bound of the Lipschitz constant of phi (see
`harness.models.lipschitz`); sqrt(2) L of the whole network in the denominator if its last layer is
not linear. r is a distance in the Euclidean norm; r / sqrt(D) in the maximum norm, D the number of
values of an image. It is a true bound, up to rounding, for which 1e-5 of the largest logit are
taken off: no attack gets below it, and robust accuracy lies between the share of images with
r >= eps and what an attack leaves.

Where no bound of a layer is known, r is 0 and says nothing. For most trained networks the product
of bounds is large and r smaller than any eps of interest: the certificate is vacuous. It is exact
for a linear network, without the box.

Reference: Y. Tsuzuku, I. Sato and M. Sugiyama, Lipschitz-margin training, NeurIPS 2018,
https://arxiv.org/abs/1802.04034 (sqrt(2) L); K. Leino, Z. Wang and M. Fredrikson, Globally-robust
neural networks, ICML 2021, https://arxiv.org/abs/2102.08452 (the last layer). Deviations: none.
"""

import math

import torch
from torch import Tensor, nn

from harness.models.lipschitz import Bound, bound
from harness.suites.attacks.contract import check
from harness.suites.attacks.losses import at
from harness.suites.attacks.problem import is_right

ROUNDING = 1e-5  # of the largest logit


def certificates(
    model: nn.Module, images: Tensor, labels: Tensor, *, known: Bound | None = None
) -> Tensor:
    """Return certified radii in the Euclidean norm, (N,), float64; 0 where there is none.

    Args:
        model: Network in evaluation mode.
        images, labels: As in every attack.
        known: Bound of the model on images of this shape, found by default.
    """
    check(images, labels, 0.0, "l2")
    known = known or bound(model, tuple(images.shape[1:]))
    with torch.no_grad():
        raw = model(images)
    z, right = raw.double(), is_right(raw, labels)
    margin = at(z, labels)[:, None] - z - ROUNDING * z.abs().amax(1, keepdim=True)
    if known.last is None:
        slope = torch.full_like(margin, math.sqrt(2) * known.value)
    else:
        w = known.last.to(z)
        slope = known.inner * (w[labels][:, None] - w).norm(dim=2)
    diagonal = math.sqrt(math.prod(images.shape[1:]))  # nothing in [0, 1] is farther
    far = torch.where(slope > 0, margin / slope, diagonal).clamp(0, diagonal)
    others = far.scatter(1, labels[:, None], diagonal)
    radius = others.amin(1)
    return torch.where(right & margin.isfinite().all(1), radius, 0.0)


def in_norm(radius: Tensor, norm: str, images: Tensor) -> Tensor:
    """Return the radii (N,) in "linf" or "l2" that follow from those in the Euclidean norm."""
    return radius / math.sqrt(math.prod(images.shape[1:])) if norm == "linf" else radius


def describe(known: Bound, radius: Tensor, eps: float) -> str:
    """Return in one sentence what certificates say at `eps`, radii (N,) being in its norm."""
    if known.unknown:
        return f"There is no certificate: no bound is known of {', '.join(known.unknown)}."
    share = float((radius >= eps).double().mean()) if len(radius) else 0.0
    largest = float(radius.max()) if len(radius) else 0.0
    if share == 0:
        return (
            f"The certificate is vacuous at eps {eps:.4g}: the Lipschitz constant is at most "
            f"{known.value:.3g}, and the largest radius {largest:.2g}."
        )
    return f"{100 * share:.1f} % of the images are certified at eps {eps:.4g}."
