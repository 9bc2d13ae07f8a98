"""Models that an attack must call with more than images: random ones, and ones that see a batch.

`Drawn` and `OneMoving` are classifiers with `by_index`: they are told which image of the data set a
row is (see `harness.suites.attacks.problem.ask`), so that the rows of a call do not depend on each
other, and an attack that drops images does not change what the others get.

Draws of attacks have numbers from one on, those of verdicts from another, both beyond those that
accuracy is measured with: success is judged on draws that no gradient was taken of.

Reference: A. Athalye, N. Carlini and D. Wagner, Obfuscated gradients give a false sense of
security, ICML 2018, https://arxiv.org/abs/1802.00420 (expectation over transformation).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.suites.attacks.problem import Classifier

DRAWS = 20  # behind each gradient, and behind each verdict
OF_ATTACKS, OF_VERDICTS = 1 << 20, 1 << 21  # first draws


class Drawn:
    """A stochastic model (see `harness.models.base.Stochastic`), a fresh draw for every call.

    Which draw an image gets is the number of calls in which it took part, so that neither batch nor
    order matter. Make a new one for each attack.

    Args:
        seed: Seed of the draws.
        fixed: Number of the one draw of all calls, which takes the randomness away; None for fresh
            ones.
    """

    by_index = True

    def __init__(self, model: nn.Module, seed: int, fixed: int | None = None) -> None:
        self.model: Any = model
        self.seed, self.fixed = seed, fixed
        self._calls: dict[int, int] = {}

    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        if self.fixed is not None:
            return self.model.sample(images, indices, self.seed, self.fixed)
        keys = indices.tolist()
        calls = torch.tensor([self._calls.get(key, 0) for key in keys])
        self._calls.update(zip(keys, (calls + 1).tolist(), strict=True))
        rows = [(calls == call).nonzero()[:, 0].to(images.device) for call in calls.unique()]
        made = [
            self.model.sample(images[at], indices.to(at)[at], self.seed, OF_ATTACKS + int(call))
            for call, at in zip(calls.unique(), rows, strict=True)
        ]
        if len(made) == 1:
            return made[0]
        return torch.cat(made)[torch.cat(rows).argsort()]


def mean_over_draws(one: Callable[[int], Tensor]) -> Tensor:
    """Return the logarithm of the mean probabilities over `DRAWS` draws, (N, K).

    Args:
        one: Number of a draw, from 0 on, to logits (N, K).
    """
    found = [one(draw).float().log_softmax(1) for draw in range(DRAWS)]
    return torch.stack(found).logsumexp(0) - math.log(DRAWS)


class Seeded:
    """A model that draws from torch's generator, with the same draws in every call.

    What an image gets depends on its place in the batch; the generator is left as it was.

    Args:
        subject: Function of images to logits.
        seed: Seed of the draws.
    """

    def __init__(self, subject: Classifier, seed: int) -> None:
        self.subject, self.seed = subject, seed

    def __call__(self, images: Tensor) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return self.subject(images)


class OneMoving:
    """A transductive model that sees a fixed batch, of which one image at a time is replaced.

    An attack on it changes one image of many. A call with n images costs n passes of the batch.

    Args:
        model: Function of a whole batch to logits (N, K).
        images: The batch, (N, 3, H, W).
        indices: int64 (N,), the images' positions in their data set.
    """

    by_index = True

    def __init__(self, model: nn.Module, images: Tensor, indices: Tensor) -> None:
        self.model, self.images = model, images
        self._places = {key: place for place, key in enumerate(indices.tolist())}

    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        """Return logits (n, K) of images (n, 3, H, W), each among the others of the batch.

        Raises:
            LookupError: An index is that of no image of the batch.
        """
        found = []
        for image, key in zip(images, indices.tolist(), strict=True):
            if key not in self._places:
                raise LookupError(f"Image {key} is none of the batch. Give indices of its images.")
            at = self._places[key]
            batch = torch.cat((self.images[:at], image[None], self.images[at + 1 :]))
            found.append(self.model(batch)[at])
        return torch.stack(found) if found else self.model(self.images)[:0]
