"""How a training goes, for TensorBoard: loss, accuracy, learning rate, images a second."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.running.jobs import Job
from harness.running.recipes import Recipe, learning_rate
from harness.running.train import Report
from harness.storage.files import safe


@contextlib.contextmanager
def scalars(folder: Path, job: Job, recipe: Recipe) -> Iterator[Report]:
    """Give what writes the progress of a training below `folder`/DATASET/MODEL/seedN."""
    from torch.utils.tensorboard import SummaryWriter  # which takes a second to import

    place = folder / safe(job.dataset) / safe(job.source.name) / f"seed{job.seed}"
    writer: Any = None
    before = time.monotonic(), 0

    def report(*, step: int, steps: int, loss: float, accuracy: float | None) -> None:
        nonlocal writer, before
        now = time.monotonic()
        if writer is None:  # what an interrupted training wrote beyond this step is done again
            writer = SummaryWriter(str(place), purge_step=step)
        else:
            rate = (step - before[1]) * recipe.batch_size / max(now - before[0], 1e-9)
            writer.add_scalar("images per second", rate, step)
        before = now, step
        for name, value in (
            ("loss", loss),
            ("accuracy", accuracy),
            ("learning rate", learning_rate(recipe, step - 1, steps)),
        ):
            if value is not None:
                writer.add_scalar(name, value, step)

    try:
        yield report
    finally:
        if writer is not None:
            writer.close()
