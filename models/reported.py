"""What papers report of the models that are built in: numbers to stand beside ours, never a target.

Only numbers that were read in the paper, or in what its authors or independent repeaters published;
a model that is not listed has none that we could read. Each says its data set and its scale, since
a number of another data set, a longer training or a wider network is no rival of ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.models.papers import (
    GASTALDI_2017,
    HE_2016,
    HUANG_2016,
    LARSSON_2017,
    MISHRA_2020,
    RUTHOTTO_2019,
    ZHANG_2017,
    Paper,
)

CIFAR10, CIFAR100, STL10, IMAGENET = "cifar10", "cifar100", "stl10", "imagenet"
CORRUPTED = "common"  # mean over the 15 common corruptions at 5 severities, the published files

MODAS_2022 = Paper(
    "modas2022prime",
    "Modas, Apostolos and Rade, Rahul and Ortiz-Jim{\\'e}nez, Guillermo and Moosavi-Dezfooli, "
    "Seyed-Mohsen and Frossard, Pascal",
    "PRIME: A Few Primitives Can Boost Robustness to Common Corruptions",
    "European Conference on Computer Vision",
    2022,
    arxiv="2112.13547",
)
MEMCNN = "https://github.com/silvandeleemput/memcnn"
ODE_NETS = "https://github.com/arrjon/ode-nets"


@dataclass(frozen=True)
class Reported:
    """One published number.

    Args:
        dataset: As in `--dataset`; "imagenet" has none here.
        accuracy: A fraction, of test images.
        scale: The network and its training, in a few words.
        source: The paper, or the address of a repetition.
        group: "clean", or `CORRUPTED`.
        top: 5 for top-5 accuracy.
    """

    dataset: str
    accuracy: float
    scale: str
    source: Paper | str
    group: str = "clean"
    top: int = 1

    @property
    def short(self) -> str:
        """Who reports it: author and year, or the name of a repository."""
        if isinstance(self.source, Paper):
            return self.source.short
        return "/".join(self.source.rsplit("/", 2)[1:])

    @property
    def link(self) -> str:
        """Where it can be read."""
        return self.source.link if isinstance(self.source, Paper) else self.source

    def record(self) -> dict[str, str | int | float]:
        """Return it as tables and JSON have it: who reports it as `source`, where as `link`."""
        return {
            "dataset": self.dataset,
            "group": self.group,
            "top": self.top,
            "accuracy": self.accuracy,
            "scale": self.scale,
            "source": self.short,
            "link": self.link,
        }


def _error(percent: float) -> float:
    """The accuracy of an error in per cent."""
    return round(1 - percent / 100, 6)


def _ruthotto_haber(stl10: float, cifar10: float, cifar100: float) -> tuple[Reported, ...]:
    scale = "100 epochs (CIFAR-100: 200), a fifth held out to choose the epoch, one run"
    values = ((STL10, stl10), (CIFAR10, cifar10), (CIFAR100, cifar100))
    return tuple(Reported(name, value, scale, RUTHOTTO_2019) for name, value in values)


def _memcnn(cifar10: float, cifar100: float) -> tuple[Reported, ...]:
    scale = "the authors' code, 80,000 steps of 100 images, repeated by others"
    return (
        Reported(CIFAR10, cifar10, scale, MEMCNN),
        Reported(CIFAR100, cifar100, scale, MEMCNN),
    )


def _prime(clean: float, corrupted: float, scale: str) -> tuple[Reported, ...]:
    return (
        Reported(CIFAR10, clean, scale, MODAS_2022),
        Reported(CIFAR10, corrupted, scale, MODAS_2022, CORRUPTED),
    )


SHAKE = "width 64 (26 2x32d), 1,800 epochs, mean of 3 runs"
REPORTED: Mapping[str, tuple[Reported, ...]] = {
    "resnet18": _prime(0.950, 0.740, "width 64, standard training"),
    "resnet20": (Reported(CIFAR10, _error(8.75), "64,000 steps of 128 images", HE_2016),),
    "resnet32": (
        Reported(CIFAR10, _error(7.51), "64,000 steps of 128 images", HE_2016),
        *_memcnn(0.9274, 0.6910),
    ),
    "resnet110": _memcnn(0.9399, 0.7330),
    "pde_aug": (
        Reported(
            IMAGENET,
            0.7671,
            "Perona-Malik images beside the originals, another network",
            MISHRA_2020,
        ),
    ),
    "augmix_like_aug": _prime(0.952, 0.886, "width 64, AugMix itself"),
    "parabolic": _ruthotto_haber(0.770, 0.885, 0.648),
    "hamiltonian": _ruthotto_haber(0.783, 0.893, 0.649),
    "second_order": _ruthotto_haber(0.743, 0.892, 0.654),
    "rh_resnet": tuple(
        Reported(name, value, "a ResNet of this form with 968,000 weights, repeated by others",
                 ODE_NETS)
        for name, value in ((CIFAR10, 0.8761), (STL10, 0.7249))
    ),
    "polynet": (
        Reported(IMAGENET, _error(4.25), "Very Deep PolyNet, one crop", ZHANG_2017, top=5),
    ),
    "fractalnet20": tuple(
        Reported(name, value, "columns of 64 to 512 channels, 400 epochs", LARSSON_2017)
        for name, value in ((CIFAR10, _error(4.60)), (CIFAR100, _error(23.30)))
    ),
    "revnet38": _memcnn(0.9314, 0.7117),
    "revnet110": _memcnn(0.9402, 0.7400),
    "stochastic_depth110": tuple(
        Reported(name, value, "500 epochs, the epoch of the best validation", HUANG_2016)
        for name, value in ((CIFAR10, _error(5.23)), (CIFAR100, _error(24.58)))
    ),
    "shake_shake26": (Reported(CIFAR10, _error(3.55), SHAKE, GASTALDI_2017),),
    "shake_shake26_even": (Reported(CIFAR10, _error(4.27), SHAKE, GASTALDI_2017),),
}  # fmt: skip
