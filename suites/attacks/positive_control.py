"""Positive control of an attack: images that are broken by construction, which it must find.

The network is kept up to its last layer, phi(x), and that layer is replaced, for each image, by one
that tells a planted point from others of the ball B(x):

    inner points    x, and points uniform in directions, at distance r eps, r uniform in [0, 1/2)
    planted point   p, at distance eps, a corner of the ball for "linf"
    head            w = (C + lam I)^-1 (phi(p) - m),  s(v) = w . phi(v),
    logits          0 and s(v) - t,   t = s(q) + 0.9 (s(p) - s(q)),   q the inner point of largest s

with m and C the mean and the covariance of phi over the inner points. All inner points have class 0
and p has class 1, so an adversarial point exists. An attack that does not find one in nearly every
image does not see through this network, and what it says of the true labels means nothing.

Images whose planted point no such head can tell (s(p) <= s(q)) have no control: phi is too coarse.
Of a random model phi is the mean over draws, and most of fresh draws must tell the planted point.
phi is the input of the last `nn.Linear` if that gives the logits, else the logits themselves.

Reference: R. S. Zimmermann, W. Brendel, F. Tramer and N. Carlini, Increasing confidence in
adversarial robustness evaluations, NeurIPS 2022, https://arxiv.org/abs/2206.13991. Deviations: the
head is Fisher's discriminant, a closed form, where theirs is trained; 32 inner points, fewer if phi
is short, where they have 999.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.ops import philox
from harness.suites.attacks.apgd import apgd_ce
from harness.suites.attacks.balls import Ball, column
from harness.suites.attacks.checks import Flags, keys_of, moves
from harness.suites.attacks.contract import Attack, check
from harness.suites.attacks.ensembles import right
from harness.suites.attacks.problem import Classifier, ask

INNER, CHANCES = 32, 10
CLOSE, RIDGE, TINY = 0.9, 1e-3, 1e-300


class Featured:
    """A model up to its last layer: images (N, 3, H, W) to the input phi (N, d) of that layer."""

    def __init__(self, model: nn.Module, last: nn.Linear) -> None:
        self.model: Any = model
        self.last = last

    def __call__(self, images: Tensor) -> Tensor:
        return self._heard(self.model, images)

    def sample(self, images: Tensor, indices: Tensor, seed: int, draw: int) -> Tensor:
        """Return phi of one draw; see `harness.models.base.Stochastic`."""
        return self._heard(self.model.sample, images, indices, seed, draw)

    def _heard(self, call: Callable[..., Tensor], *arguments: Any) -> Tensor:
        caught: list[Tensor] = []
        handle = self.last.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        try:
            call(*arguments)
        finally:
            handle.remove()
        return caught[-1]


def features_of(model: nn.Module, images: Tensor, keys: Tensor) -> Any:
    """Return the model up to its last layer, or the model where that is not what gives logits."""
    seen: list[tuple[nn.Linear, Tensor]] = []

    def hear(module: Any, inputs: tuple, output: Tensor) -> None:
        seen.append((module, output))

    handles = [m.register_forward_hook(hear) for m in model.modules() if isinstance(m, nn.Linear)]
    try:
        with torch.no_grad():
            random: Any = getattr(model, "sample", None)
            logits = random(images, keys, 0, 0) if random else model(images)
    finally:
        for handle in handles:
            handle.remove()
    if seen and seen[-1][1] is logits and logits.ndim == 2:
        return Featured(model, seen[-1][0])
    return model


class Headed:
    """phi under one head for each image: logits (n, 2) of class 0 and the planted one."""

    by_index = True

    def __init__(self, phi: Classifier, w: Tensor, b: Tensor, keys: Tensor) -> None:
        self.phi, self.w, self.b = phi, w, b
        self._places = {key: place for place, key in enumerate(keys.tolist())}

    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        at = torch.tensor([self._places[key] for key in indices.tolist()], dtype=torch.int64)
        at = at.to(self.w.device)
        phi = ask(self.phi, images, indices).to(self.w.dtype)
        score = (self.w[at] * phi).sum(1) + self.b[at]
        return torch.stack((torch.zeros_like(score), score), 1).to(images.dtype)


def head(
    phi: Classifier, images: Tensor, keys: Tensor, ball: Ball, seed: int, draws: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return w (N, d) and b (N,), float64, and the planted points (N, 3, H, W)."""

    def mean_phi(points: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.stack([ask(phi, points, keys).double() for _ in range(draws)]).mean(0)

    inner = [mean_phi(images)]
    count = max(1, min(INNER, inner[0].shape[1] - 2))
    for draw in range(1, count):
        way = moves(images, keys, ball, seed, "inner", draw)
        radius = philox.uniform((len(keys), 1), seed, "belief:radius", 0, keys, draw)[:, 0] / 2
        points = images + ball.eps * column(radius).to(images) * way
        inner.append(mean_phi(ball.project(points, images)))
    way = moves(images, keys, ball, seed, "planted")
    planted = ball.project(images + ball.eps * way, images)
    others, of_planted = torch.stack(inner, 1), mean_phi(planted)  # (N, count, d), (N, d)
    mean = others.mean(1, keepdim=True)
    apart, ahead = others - mean, of_planted - mean[:, 0]
    # (C + lam I)^-1 v = (v - A' (A A' + lam I)^-1 A v) / lam, A of few rows
    gram = apart @ apart.transpose(1, 2)
    scale = gram.diagonal(dim1=1, dim2=2).mean(1) + ahead.square().sum(1)
    lam = (RIDGE * scale).clamp_min(TINY)
    square = gram + lam[:, None, None] * torch.eye(gram.shape[1]).to(gram)
    inside = torch.linalg.solve(square, apart @ ahead[:, :, None])
    w = ahead - (apart.transpose(1, 2) @ inside)[:, :, 0]
    w = w / w.norm(dim=1, keepdim=True).clamp_min(TINY)
    s, s_planted = (others * w[:, None]).sum(2).amax(1), (of_planted * w).sum(1)
    told = s_planted - s > 1e-6 * s.abs()
    # An image without a control gets a head whose logits are not finite: it is not attacked.
    threshold = torch.where(told, s + CLOSE * (s_planted - s), torch.inf)
    return torch.where(told[:, None], w, 0), -threshold, planted


def control(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: str = "linf",
    indices: Tensor | None = None,
    seed: int = 0,
    attack: Attack = apgd_ce,
    settings: Mapping[str, Any] | None = None,
    called: Callable[[Any], Classifier] = lambda model: model,
    draws: int = 1,
) -> Flags:
    """Plant a point in the ball of each image and let an attack look for one like it.

    Args:
        attack, settings: The attack under test, `apgd_ce` of 20 steps by default.
        called: How the model is called, `lambda model: Drawn(model, seed)` for a stochastic one.
        draws: Number of forward passes behind each verdict, for a random model; `settings` say of
            how many a gradient is the mean.

    Returns:
        `planted`: whether there is a control for the image; `found`: whether the attack found a
        point of the planted class; `by_chance`: whether one of ten random points of the ball's
        surface has it.
    """
    check(images, labels, eps, norm, indices)
    keys, ball = keys_of(images, indices), Ball(eps, norm)
    phi = called(features_of(model, images, keys))
    w, b, points = head(phi, images, keys, ball, seed, draws)
    headed, zeros = Headed(phi, w, b, keys), torch.zeros_like(labels)
    with torch.enable_grad():
        carried = headed(images.clone().requires_grad_(), keys).requires_grad
    planted = ~right(headed, points, zeros, draws, keys) & b.isfinite()
    points = images
    if carried:
        points = attack(
            headed, images, zeros, eps=eps, norm=norm, indices=keys, seed=seed,
            **(settings or {"iterations": 20}),
        )  # fmt: skip
    found = ~right(headed, points, zeros, draws, keys)
    by_chance = torch.zeros_like(planted)
    for draw in range(CHANCES):
        way = moves(images, keys, ball, seed, "chance", draw)
        near = ball.project(images + eps * way, images)
        by_chance |= ~right(headed, near, zeros, draws, keys)
    return {"planted": planted, "found": planted & found, "by_chance": planted & by_chance}
