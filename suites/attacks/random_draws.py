"""A network that draws random numbers itself, under attack: every call is a draw of its own.

Draws are keyed by the images' positions, so that an image sees the same noise in any batch. An
attack's calls count from one number on and a verdict's from another, both beyond those that
accuracy is measured with: success is judged on draws that no gradient was taken of.

Reference: A. Athalye, N. Carlini and D. Wagner, Obfuscated gradients give a false sense of
security, ICML 2018, https://arxiv.org/abs/1802.00420 (expectation over transformation).
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

DRAWS = 20  # behind each gradient, and behind each verdict
OF_ATTACKS, OF_VERDICTS = 1 << 20, 1 << 21  # first draws


class Draws:
    """Logits of one draw after the other; a classifier that is told the positions, see `ask`.

    Args:
        model: A `harness.models.base.Stochastic` network.
        seed: Image seed.
        fixed: The one draw of all calls; None for another in each call.
    """

    def __init__(self, model: Any, seed: int, fixed: int | None = None) -> None:
        self._model, self._seed = model, seed
        self._numbers = itertools.count(OF_ATTACKS) if fixed is None else itertools.repeat(fixed)

    by_index = True

    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return logits (n, K) of the next draw."""
        return self._model.sample(images, indices, self._seed, next(self._numbers))


def mean_over_draws(one: Callable[[int], Tensor]) -> Tensor:
    """Return the logarithm of the mean probabilities over `DRAWS` draws, (N, K).

    Args:
        one: Number of a draw, from 0 on, to logits (N, K).
    """
    found = [one(draw).float().log_softmax(1) for draw in range(DRAWS)]
    return torch.stack(found).logsumexp(0) - math.log(DRAWS)
