"""Square: random search in squares, which sees logits only.

    minimize z_y(v) - max_{k != y} z_k(v) over v in B(x):  a proposal is taken if that falls.

Query i has squares of side s = round(sqrt(p H W)), p = p_0, halved at queries 11, 51, 201, 501,
1001, 2001, 4001, 6001 and 8001, at a place that is uniform over the image.

"linf": the start is x + eps times a random sign for each channel and column. A proposal adds 2 eps
times a random sign for each channel in the square to the best point and is projected.

"l2": the start is tiled with windows of H / 5 pixels, each with the bump eta times a random sign
for each channel, scaled to size eps. A proposal takes what a second square W2 holds, and what the
budget has left, to the first one W1. With nu = v - x and, for each channel, |.|_W the norm in a
window,

    a = eta r + nu / |nu|_W1 in W1, r a random sign,
    nu <- 0 in W2, then a / |a| sqrt(|nu|_{W1 u W2}^2 + (eps^2 - |nu|^2) / C) in W1,
    v <- clip(x + eps nu / |nu|);

eta is a positive and a negative pyramid next to each other, transposed in half of the draws. s is
then odd and at least 3.

Reference: M. Andriushchenko, F. Croce, N. Flammarion and M. Hein, Square attack: a query-efficient
black-box adversarial attack via random search, ECCV 2020, https://arxiv.org/abs/1912.00049,
algorithms 1 to 3. Deviations: as in AutoAttack, the schedule is that of 10,000 queries whatever
their number; unlike its code, every image draws its own squares and signs, and the last place at
the border is drawn too.
"""

import functools
import math
from functools import partial

import torch
from torch import Tensor

from harness.suites.attacks.balls import Ball, column
from harness.suites.attacks.contract import Plan, attack
from harness.suites.attacks.losses import margin
from harness.suites.attacks.problem import Problem, is_right

HALVED = (11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)  # queries
QUERIES, WORDS = 64, 6  # random numbers come for that many queries, each with that many words
MOST_CHANNELS = 32  # bits of a word
DRAWS = 1 << 20  # of a run: 0 for its start, then one for each QUERIES


def side(query: int, p: float, height: int, width: int) -> int:
    """Return the side of the squares of a query, counted from 0."""
    p /= 2 ** sum(query >= at for at in HALVED)
    return min(max(round(math.sqrt(p * height * width)), 1), height, width)


def _place(words: Tensor, length: int, s: int) -> Tensor:
    """Return first positions of windows of `s` in `length`, uniform, from words of 32 bits."""
    return words * (length - s + 1) >> 32


def _signs(words: Tensor, channels: int) -> Tensor:
    """Return -1 or 1 for each channel, (..., C), from the lowest bits of words."""
    bits = words[..., None] >> torch.arange(channels, device=words.device)
    return 2 * (bits & 1) - 1


def _linf_start(problem: Problem) -> Tensor:
    _, channels, _, width = problem.images.shape
    word = problem.words(0, DRAWS, (channels, 1, width))
    signs = 2 * (word >> 31) - 1
    return problem.ball.project(problem.images + problem.ball.eps * signs, problem.images)


def _linf_proposal(ball: Ball, images: Tensor, best: Tensor, words: Tensor, s: int) -> Tensor:
    _, channels, height, width = images.shape
    top, left = _place(words[:, 0], height, s), _place(words[:, 1], width, s)
    down = torch.arange(height, device=images.device) - top[:, None]
    right = torch.arange(width, device=images.device) - left[:, None]
    inside = ((down >= 0) & (down < s))[:, None, :, None] & ((right >= 0) & (right < s))[
        :, None, None
    ]
    signs = _signs(words[:, 2], channels).to(images.dtype)
    # A whole move of 2 eps ends at the face of the ball, from wherever in it.
    corner = ball.project(images + ball.eps * signs[:, :, None, None], images)
    return torch.where(inside, corner, best)


@functools.cache
def bump(s: int) -> Tensor:
    """Return eta, (s, s) of norm 1: pyramids of s // 2 and s - s // 2 rows, of opposite sign."""
    parts = []
    for rows, sign in ((s // 2, 1.0), (s - s // 2, -1.0)):
        far = max(rows, s) // 2 + 1
        fall = 1 / torch.arange(1, far + 1, dtype=torch.float64).square()
        sums = fall.flip(0).cumsum(0).flip(0)  # sum over k >= distance of 1 / (k + 1)^2
        i = (torch.arange(rows) - rows // 2).abs()[:, None]
        j = (torch.arange(s) - s // 2).abs()[None]
        pyramid = sums[torch.maximum(i, j)]
        parts.append(sign * pyramid / pyramid.square().sum().sqrt())
    whole = torch.cat(parts)
    return whole / whole.square().sum().sqrt()


def _bumps(s: int, turned: Tensor, like: Tensor) -> Tensor:
    """Return eta for each image, (n, 1, s, s), transposed where `turned`."""
    eta = bump(s).to(like)
    return torch.where(column(turned), eta.T, eta)


def _scaled(ball: Ball, images: Tensor, moves: Tensor) -> Tensor:
    """Return the images after moves that are scaled to size eps, clipped."""
    size = ball.size(moves).clamp_min(torch.finfo(moves.dtype).tiny)
    return (images + moves * column(ball.eps / size)).clamp(0, 1)


def _l2_start(problem: Problem) -> Tensor:
    images = problem.images
    _, channels, height, width = images.shape
    s = max(min(height, width) // 5, 1)
    tops = range((height - height // s * s) // 2, height - s + 1, s)
    lefts = range((width - width // s * s) // 2, width - s + 1, s)
    words = problem.words(0, DRAWS, (len(tops), len(lefts), 2))
    moves = torch.zeros_like(images)
    for a, top in enumerate(tops):
        for b, left in enumerate(lefts):
            word = words[:, a, b]
            signs = _signs(word[:, 0], channels).to(images.dtype)[:, :, None, None]
            bumps = _bumps(s, word[:, 1] >> 31 == 1, images)
            moves[:, :, top : top + s, left : left + s] = bumps * signs
    return _scaled(problem.ball, images, moves)


def _window(words: Tensor, height: int, width: int, s: int) -> tuple[Tensor, Tensor]:
    """Return rows (n, s, 1) and columns (n, 1, s) of a square for each image."""
    steps = torch.arange(s, device=words.device)
    top, left = _place(words[:, 0], height, s), _place(words[:, 1], width, s)
    return (top[:, None] + steps)[:, :, None], (left[:, None] + steps)[:, None]


def _l2_proposal(ball: Ball, images: Tensor, best: Tensor, words: Tensor, s: int) -> Tensor:
    n, channels, height, width = images.shape
    s = max(s, 3)
    s = min(s + (s % 2 == 0), height, width)
    tiny = torch.finfo(images.dtype).tiny
    nu = (best - images).permute(0, 2, 3, 1).contiguous()  # (n, H, W, C)
    image = torch.arange(n, device=images.device)[:, None, None]
    one = (image, *_window(words[:, :2], height, width, s))
    two = (image, *_window(words[:, 3:5], height, width, s))
    left_over = (ball.eps**2 - nu.square().sum((1, 2, 3))).clamp_min(0)[:, None, None, None]
    old = nu[one]  # (n, s, s, C)
    both = torch.zeros(n, height, width, 1, dtype=torch.bool, device=images.device)
    both[one] = both[two] = True
    budget = torch.where(both, nu, 0).square().sum((1, 2), keepdim=True) + left_over / channels
    signs = _signs(words[:, 2], channels).to(images.dtype)[:, None, None]
    eta = _bumps(s, words[:, 5] >> 31 == 1, images).permute(0, 2, 3, 1)
    new = eta * signs + old / old.square().sum((1, 2), keepdim=True).sqrt().clamp_min(tiny)
    new = new / new.square().sum((1, 2), keepdim=True).sqrt().clamp_min(tiny) * budget.sqrt()
    nu[two] = 0
    nu[one] = new
    return _scaled(ball, images, nu.permute(0, 3, 1, 2))


def run(problem: Problem, queries: int, p: float) -> tuple[Tensor, Tensor]:
    """Search once, each row from the start of its run."""
    _, channels, height, width = problem.images.shape
    if channels > MOST_CHANNELS:
        raise ValueError(f"Images may have {MOST_CHANNELS} channels; got {channels}.")
    linf = problem.ball.norm == "linf"
    best = _linf_start(problem) if linf else _l2_start(problem)
    propose = _linf_proposal if linf else _l2_proposal
    logits = problem.logits(best)
    lowest, right = margin(logits, problem.labels), is_right(logits, problem.labels)
    found, broken = best.clone(), ~right
    rows = torch.arange(len(problem), device=best.device)
    words = torch.empty(len(problem), QUERIES, WORDS, dtype=torch.int64, device=best.device)
    for query in range(queries + 1):
        if query:
            at = (query - 1) % QUERIES
            if at == 0:
                words = problem.words(1 + (query - 1) // QUERIES, DRAWS, (QUERIES, WORDS))
            s = side(query - 1, p, height, width)
            points = propose(problem.ball, problem.images, best, words[:, at], s)
            logits = problem.logits(points)
            value, right = margin(logits, problem.labels), is_right(logits, problem.labels)
            better = (value < lowest) | ~right
            best = torch.where(column(better), points, best)
            lowest = torch.where(better, value, lowest)
        if not right.all():
            lost = rows[~right]
            found[lost], broken[lost] = best[~right], True
            problem, rows = problem.part(right), rows[right]
            best, lowest, words = best[right], lowest[right], words[right]
            if not len(rows):
                break
    found[rows] = best
    return found, broken


@attack
def square(queries: int = 5000, p: float = 0.8, restarts: int = 1) -> Plan:
    """Return images at which the search in squares ends.

    Args:
        queries: Number of proposals after the start.
        p: Fraction of the image that the first squares cover.
        restarts: Number of starts, each on the images that the ones before did not break.
    """
    return Plan(partial(run, queries=queries, p=p), restarts)
