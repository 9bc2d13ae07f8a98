"""Accuracy of published networks in each cell of CIFAR-10-C: what ours can be held against.

Two networks of standard training, without other images or augmentation than crops and flips, on
the 10,000 test images. The clean accuracy of the first is not published with its cells.

M. Kireev, M. Andriushchenko and N. Flammarion, On the effectiveness of adversarial training against
common corruptions, UAI 2022, https://arxiv.org/abs/2103.02325, for PreActResNet-18; F. Croce et
al., RobustBench, NeurIPS 2021, https://arxiv.org/abs/2010.09670, for WRN-28-10, its "Standard".
"""

from collections.abc import Mapping
from dataclasses import dataclass

IMAGES = 10_000
Cells = Mapping[str, tuple[float, float, float, float, float]]


@dataclass(frozen=True)
class Network:
    """A published network.

    Args:
        source: Where its cells can be read.
        cells: Accuracy at severity 1 to 5, by corruption.
        clean: Accuracy on the untouched images; None where it is not published.
    """

    name: str
    source: str
    cells: Cells
    clean: float | None = None


PREACT = Network(
    "PreActResNet-18",
    "https://github.com/tml-epfl/adv-training-corruptions",
    {
        "gaussian_noise": (0.7917, 0.5858, 0.3919, 0.3160, 0.2674),
        "shot_noise": (0.8617, 0.7764, 0.5546, 0.4658, 0.3453),
        "impulse_noise": (0.8143, 0.6644, 0.5492, 0.3498, 0.1929),
        "defocus_blur": (0.9466, 0.9363, 0.8953, 0.8188, 0.5945),
        "glass_blur": (0.5901, 0.6035, 0.6333, 0.4890, 0.5151),
        "motion_blur": (0.9087, 0.8437, 0.7607, 0.7606, 0.6801),
        "zoom_blur": (0.8893, 0.8623, 0.8102, 0.7576, 0.6642),
        "snow": (0.8904, 0.8200, 0.8359, 0.8146, 0.7767),
        "frost": (0.9118, 0.8664, 0.7901, 0.7772, 0.6824),
        "fog": (0.9453, 0.9341, 0.9157, 0.8844, 0.7464),
        "brightness": (0.9496, 0.9454, 0.9379, 0.9299, 0.9045),
        "contrast": (0.9430, 0.9083, 0.8618, 0.7637, 0.3436),
        "elastic_transform": (0.9050, 0.9048, 0.8654, 0.7964, 0.7494),
        "pixelate": (0.9287, 0.8859, 0.8350, 0.6842, 0.4999),
        "jpeg_compression": (0.8643, 0.8135, 0.7932, 0.7679, 0.7266),
    },
)
WRN = Network(
    "WRN-28-10",
    "https://github.com/RobustBench/robustbench",
    {
        "gaussian_noise": (0.7778, 0.5788, 0.3919, 0.3261, 0.2767),
        "shot_noise": (0.8504, 0.7573, 0.5349, 0.4535, 0.3429),
        "impulse_noise": (0.8289, 0.6905, 0.5737, 0.4011, 0.2708),
        "defocus_blur": (0.9458, 0.9338, 0.8898, 0.7744, 0.5306),
        "glass_blur": (0.5343, 0.5575, 0.5695, 0.4319, 0.4568),
        "motion_blur": (0.9029, 0.8385, 0.7440, 0.7483, 0.6525),
        "zoom_blur": (0.8771, 0.8455, 0.7748, 0.7029, 0.5798),
        "snow": (0.8991, 0.8043, 0.8365, 0.8051, 0.7493),
        "frost": (0.8955, 0.8350, 0.7261, 0.7086, 0.5870),
        "fog": (0.9451, 0.9356, 0.9229, 0.8959, 0.7399),
        "brightness": (0.9475, 0.9438, 0.9378, 0.9281, 0.9070),
        "contrast": (0.9427, 0.9216, 0.8972, 0.8359, 0.5331),
        "elastic_transform": (0.9047, 0.9022, 0.8586, 0.7894, 0.7341),
        "pixelate": (0.9195, 0.8604, 0.8002, 0.6035, 0.4155),
        "jpeg_compression": (0.8636, 0.7965, 0.7796, 0.7415, 0.6970),
    },
    clean=0.9478,
)
NETWORKS = (PREACT, WRN)
