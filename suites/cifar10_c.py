"""CIFAR-10-C and CIFAR-100-C: a model's answers on the published files.

A file that does not have the published MD5 is not part of CIFAR-10-C, however it was made: images
made here belong to the suite `robustness`. The files themselves are read by
`harness.suites.published`.

D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations, ICLR 2019, https://arxiv.org/abs/1903.12261.

Not measured: the score of CIFAR-10-C, when fewer than the 15 common corruptions are evaluated.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from harness.suites.base import Cell, Setting, Suite
from harness.suites.catalog import COMMON, SEVERITIES, SUITES
from harness.suites.observe import classification, logits
from harness.suites.published import Published
from harness.suites.robustness import select_corruptions


def published_cells(files: Published, names: Sequence[str] = ()) -> tuple[Cell, ...]:
    """Return a clean cell, and one for each corruption and severity of the published files.

    Rows are picked by the images' indices; the clean images enter the clean cell alone. The files
    are verified here, before any work.

    Args:
        names: Names of corruptions; by default the 15 common ones. The list goes into every cell's
            constants, since a mean over another list is not the score of CIFAR-10-C.
    """
    names = tuple(names or COMMON)
    files.verify(names)

    def prepare(images: Tensor, indices: Tensor, seed: int, name: str, severity: int) -> Tensor:
        return files.images(name, severity, indices).to(images.device)

    cells = [Cell("clean")]
    for name in names:
        # The file's MD5 is all there is to say about its images.
        constants = {"published": files.table[name], "list": " ".join(names)}
        for severity in SEVERITIES:
            pick = partial(prepare, name=name, severity=severity)
            cells.append(Cell(name, severity, pick, constants))
    return tuple(cells)


def cells(setting: Setting) -> tuple[Cell, ...]:
    files = setting.published() if setting.published is not None else None
    if not isinstance(files, Published):
        raise ValueError(
            "Corrupted files are published for `cifar10` and `cifar100` alone. Use the suite "
            "`robustness`, which makes them for any data set."
        )
    names = tuple(kind.__name__ for kind in select_corruptions(setting.corruptions or ("common",)))
    return published_cells(files, names)


@SUITES.register
def cifar10_c() -> Suite[Cell]:
    """Accuracy and calibration on the published files of CIFAR-10-C, or CIFAR-100-C."""
    return Suite(1, cells, observe=logits, measure=classification, variant=lambda setting: "-c")
