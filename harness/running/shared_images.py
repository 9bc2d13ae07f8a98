"""Images under a condition, made once for all models that see them in step.

Making images takes a tenth of an evaluation at 32 pixels and most of it at 224.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from torch import Tensor

from harness.refusal import Refusal
from harness.suites.base import Cell, unchanged
from harness.suites.datasets import Split
from harness.suites.image_files import Unreadable


class Shared:
    """Makes the images of conditions, batch by batch, for any number of threads.

    Args:
        split: The images, on the device where they are wanted.
        kept: How many batches of a condition are kept, the last ones.
    """

    def __init__(self, split: Split, kept: int = 1) -> None:
        self._split, self._most = split, kept
        self._kept: dict[Any, dict[int, Future[tuple[Tensor, Tensor]]]] = {}
        self._lock = threading.Lock()

    def batch(
        self, cell: Cell, parts: Sequence[Tensor], number: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Return a batch under a condition, the same to all that ask for it in step.

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
        with self._lock:
            # Of other conditions nothing is wanted any more.
            self._kept = {k: v for k, v in self._kept.items() if k[:2] == key[:2]}
            own = self._kept.setdefault(key, {})
            made = own.get(number)
            if mine := made is None:
                made = own[number] = Future()
                for old in sorted(own)[: -self._most]:
                    del own[old]
        if mine:
            self._make(made, cell, parts[number], seed)
        return made.result()

    def _make(
        self, future: Future[tuple[Tensor, Tensor]], cell: Cell, part: Tensor, seed: int
    ) -> None:
        try:
            where = part.to(self._split.labels.device)
            images, labels = self._split.images[where], self._split.labels[where]
            future.set_result((self._made(cell, images, where, seed), labels))
        except BaseException as error:
            future.set_exception(error)

    def _made(self, cell: Cell, images: Tensor, where: Tensor, seed: int) -> Tensor:
        if cell.prepare is unchanged:
            return images
        try:
            return cell.prepare(images, where, seed)
        except Unreadable as error:  # the user's affair
            raise Refusal(
                f"{error} Then run the same command again; what is done is kept."
            ) from error
