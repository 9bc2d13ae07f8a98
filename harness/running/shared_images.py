"""Images under a condition, made once for all models that see them in step.

Making images takes a tenth of an evaluation at 32 pixels and most of it at 224.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from harness.refusal import Refusal
from harness.suites.base import Cell, unchanged
from harness.suites.datasets import Split
from harness.suites.image_files import Unreadable


class Shared:
    """Makes the images of conditions, batch by batch; the last batch of a condition is kept.

    Args:
        split: The images, on the device where they are wanted.
    """

    def __init__(self, split: Split) -> None:
        self._split = split
        self._last: dict[Any, tuple[int, Tensor, Tensor]] = {}

    def batch(
        self, cell: Cell, parts: Sequence[Tensor], number: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Return a batch under a condition, the same to all that ask for it before the next one.

        Args:
            parts: Positions of the images of each batch, int64, on the CPU.
            number: Which batch.
            seed: Of the draws on images.

        Returns:
            Images, uint8 (N, 3, H, W), and labels (N,).

        Raises:
            Refusal: The file of an image cannot be read.
        """
        sizes = len(parts[0]), len(parts)
        key = cell.condition, cell.level, *sorted(cell.constants.items()), sizes, seed
        last = self._last.get(key)
        if last is None or last[0] != number:
            where = parts[number].to(self._split.labels.device)
            images, labels = self._split.images[where], self._split.labels[where]
            last = number, self._made(cell, images, where, seed), labels
            # Of other conditions nothing is wanted any more.
            self._last = {k: v for k, v in self._last.items() if k[:2] == key[:2]} | {key: last}
        return last[1], last[2]

    def _made(self, cell: Cell, images: Tensor, where: Tensor, seed: int) -> Tensor:
        if cell.prepare is unchanged:
            return images
        try:
            return cell.prepare(images, where, seed)
        except Unreadable as error:  # the user's affair
            raise Refusal(
                f"{error} Then run the same command again; what is done is kept."
            ) from error
