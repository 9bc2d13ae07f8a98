"""The checks of a suite's attacks: which of them are made, on which images, at which eps.

    images   a share of them, spread evenly by index: those whose index times the golden ratio has a
             fractional part below SHARE
    eps      the largest level of the curve, up to that of leaderboards, at which SOME of all images
             or more withstand every attack; the smallest level where there is none

Both follow from the images' indices and from stored cells, so that they are the same whether those
were measured or read, and in any batch. Where nothing withstands an attack, there is nothing that
the attack could have missed: at a smaller eps there is.

What the suite's attacks left takes the place of attacks in `harness.suites.attacks.checks`; more
steps, random moves and Square go on from there, and only with the images that are left. Images made
on other networks are shown to it whatever is left.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.lipschitz import bound
from harness.suites.attacks.certificates import certificates, in_norm
from harness.suites.attacks.checks import Flags, attacked, randomness, transferred
from harness.suites.attacks.gradient_checks import derivatives, gradients, in_float64
from harness.suites.attacks.positive_control import control
from harness.suites.attacks.solver_matrix import solver_matrix
from harness.suites.attacks.subjects import DRAWS, Drawn, Seeded
from harness.suites.base import Surrogate
from harness.suites.belief import transfer_from

SHARE = 0.25  # of the images
SOME = 0.1  # of the images
GOLDEN = (math.sqrt(5) - 1) / 2
STEPS, QUERIES = 10, 200  # of APGD-CE, a fifth of those of `more`; of Square
TRANSFERRED = 50  # iterations of APGD-CE on another network, all of them
CONSTANTS = ("SHARE", "SOME", "STEPS", "QUERIES")
LEFT = ("noise", "fgsm", "more", "square")  # attacks on the images that are left


def spread(indices: Tensor) -> Tensor:
    """Return which images are checked, (N,), bool, from their positions in the data set."""
    return (indices.double() * GOLDEN).frac() < SHARE


def checked_level(left: dict[float, float]) -> float:
    """Return the level at which attacks are checked; see above.

    Args:
        left: Share of all images that withstand every attack, by level up to that of leaderboards.
    """
    return max((lv for lv in left if left[lv] >= SOME), default=min(left))


def certified(model: nn.Module, images: Tensor, labels: Tensor, norm: str) -> Tensor:
    """Return certified radii in `norm`, (N,), float32; NaN where no bound of the model is known."""
    if (
        getattr(model, "stochastic", False)
        or (known := bound(model, tuple(images.shape[1:]))).unknown
    ):
        return torch.full(labels.shape, torch.nan, device=images.device)
    return in_norm(certificates(model, images, labels, known=known), norm, images).float()


def checks(
    model: Any,
    images: Tensor,
    labels: Tensor,
    left: Tensor,
    *,
    eps: float,
    norm: str,
    indices: Tensor,
    seed: int,
    random: bool,
) -> Flags:
    """Return the tensors of all checks, (n,), bool, under the names of `harness.suites.belief`.

    Args:
        model: Network in evaluation mode.
        left: (n,), whether an image withstands all attacks that follow gradients.
        random: Whether the model draws random numbers in evaluation.
    """
    where: dict[str, Any] = {"eps": eps, "norm": norm, "indices": indices}
    fresh, fixed = _called(model, seed, random)
    draws = DRAWS if random else 1
    found = gradients(fixed(model), images, labels, **where)
    exact, points = _exact(model, fixed, images, indices)
    found |= derivatives(exact, points, labels, eps=eps, indices=indices, seed=seed)
    found |= randomness(fresh(model), images, indices=indices)
    found |= control(
        model, images, labels, seed=seed, called=fresh, draws=draws,
        settings={"iterations": 2 * STEPS, "draws": draws}, **where,
    )  # fmt: skip
    budget: dict[str, Any] = {"iterations": STEPS, "queries": QUERIES, "seed": seed}
    huge = attacked(fresh(model), images, labels, draws=draws, names=("huge",), **budget, **where)
    found |= {"huge": huge["huge"], "clean": huge["clean"] | left, "apgd_ce": left}
    found |= dict.fromkeys(LEFT, found["clean"])
    if random:
        found["fixed"], found["eot"] = left, left
    if not left.any():
        return found
    rows = left.nonzero()[:, 0]
    where["indices"] = indices.to(rows.device)[rows]
    again = attacked(
        fresh(model), images[rows], labels[rows], draws=draws, names=LEFT, **budget, **where
    )
    if random:
        one = attacked(
            fixed(model), images[rows], labels[rows], names=("apgd_ce",), **budget, **where
        )
        again["fixed"] = one["apgd_ce"]
    for name in again.keys() - {"clean"}:
        found[name] = found[name].clone()
        found[name][rows] = again[name]
    return found


def solver_checks(model: Any, images: Tensor, labels: Tensor, **where: Any) -> Flags:
    """Return the solver matrix of a model with a solver, (n,), bool."""
    return solver_matrix(model, images, labels, iterations=STEPS, queries=QUERIES // 2, **where)


def transfers(
    model: Any,
    surrogates: Sequence[Surrogate],
    images: Tensor,
    labels: Tensor,
    left: Tensor,
    *,
    eps: float,
    norm: str,
    indices: Tensor,
    seed: int,
    random: bool,
) -> Flags:
    """Return which images are right after attacks on other networks, (n,), bool.

    Args:
        left: (n,), whether an image withstands all attacks that follow the model's own gradients.

    Returns:
        `belief.transfer_from` of each network's name, `apgd_ce` (`left` once more), and `clean`,
        right in one of these.
    """
    fresh, _ = _called(model, seed, random)
    found = {"apgd_ce": left}
    for one in surrogates:
        found[transfer_from(one.name)] = transferred(
            fresh(model), one.model.to(images.device), images, labels, eps=eps, norm=norm,
            indices=indices, seed=seed, iterations=TRANSFERRED, draws=DRAWS if random else 1,
        )  # fmt: skip
    return found | {"clean": torch.stack([*found.values()]).any(0)}


Called = Callable[[Any], Any]


def _called(model: Any, seed: int, random: bool) -> tuple[Called, Called]:
    """How the model is called, with fresh draws and with one draw for all calls."""
    if getattr(model, "stochastic", False):
        return (lambda m: Drawn(m, seed)), (lambda m: Drawn(m, seed, fixed=0))
    if random:
        return (lambda m: m), (lambda m: Seeded(m, seed))
    return (lambda m: m), (lambda m: m)


def _exact(model: Any, fixed: Called, images: Tensor, indices: Tensor) -> tuple[Any, Tensor]:
    """The model and the images in float64, or as they are where it does not calculate in it."""
    try:
        double, points = fixed(in_float64(model)), images.double()
        with torch.no_grad():
            out = double(points, indices) if getattr(double, "by_index", False) else double(points)
    except (RuntimeError, TypeError, copy.Error):  # a layer that insists on float32
        return fixed(model), images
    return (double, points) if out.dtype == torch.float64 else (fixed(model), images)
