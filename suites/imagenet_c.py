"""ImageNet-C: a model's answers on the published folder of corrupted validation images.

Its pictures are found by the names of the clean ones, all 50,000 or those of some classes, and are
taken as they are at the size of the clean ones; `harness.suites.published_pictures` says how they
lie. Images made here belong to the suite `robustness`.

D. Hendrycks and T. Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations, ICLR 2019, https://arxiv.org/abs/1903.12261.

Not measured: the score of ImageNet-C, when fewer than the 15 common corruptions or than 50,000
images are evaluated. That a picture is the published one is known by its name and size alone.
"""

from functools import partial

from torch import Tensor

from harness.models.registry import unknown
from harness.suites.base import Cell, Setting, Suite
from harness.suites.catalog import COMMON, FAMILIES, SEVERITIES, SUITES
from harness.suites.observe import classification, logits
from harness.suites.published_pictures import KINDS, PublishedPictures

LISTS = {"common": COMMON, "all": KINDS} | FAMILIES  # names that stand for several


def select_kinds(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the published corruptions of these names, or lists of them, each once.

    Raises:
        LookupError: There is no such corruption and no such list.
    """
    for name in names:
        if name not in KINDS and name not in LISTS:
            raise unknown("published corruption", name, [*KINDS, *LISTS])
    return tuple(dict.fromkeys(kind for name in names for kind in LISTS.get(name, (name,))))


def cells(setting: Setting) -> tuple[Cell, ...]:
    files = setting.published() if setting.published is not None else None
    if not isinstance(files, PublishedPictures):
        raise ValueError(
            "ImageNet-C goes with a folder of ImageNet's validation images, one folder a class: "
            "`--dataset imagefolder:PATH`. Use the suite `robustness`, which makes corrupted "
            "images of any data set."
        )
    kinds = select_kinds(setting.corruptions or ("common",))
    files.verify(kinds)

    def prepare(images: Tensor, indices: Tensor, seed: int, kind: str, severity: int) -> Tensor:
        return files.images(kind, severity, indices).to(images.device)

    corrupted = (
        Cell(
            kind,
            severity,
            partial(prepare, kind=kind, severity=severity),
            {"published": files.digest(kind, severity)},
        )
        for kind in kinds
        for severity in SEVERITIES
    )
    return (Cell("clean"), *corrupted)


def variant(setting: Setting) -> str:
    """Return "-c", and the size of the images where the published pictures are larger."""
    files = setting.published() if setting.published is not None else None
    smaller = isinstance(files, PublishedPictures) and setting.image_size < files.side
    return f"-c[{setting.image_size} px]" if smaller else "-c"


@SUITES.register
def imagenet_c() -> Suite[Cell]:
    """Accuracy and calibration on the published folder of ImageNet-C."""
    return Suite(1, cells, observe=logits, measure=classification, variant=variant)
