"""Metrics of the suite `generation`: how far samples are from real images, and from a solution.

Formulas are in `harness.suites.sample_quality` and `harness.suites.image_features`, which name
their sources. Arrays of a cell hold a row for each sample and, under `real_...`, for the real image
of the same place and class.
"""

from collections.abc import Mapping

import numpy as np

from harness.suites import sample_quality as quality
from harness.suites.metric import RATE, Metric

Arrays = Mapping[str, np.ndarray]
Found = tuple[np.ndarray, np.ndarray]  # values of images, and their positions
MOST = 2000  # samples of which all pairs are compared, spread evenly


def compared(arrays: Arrays) -> np.ndarray:
    """Return which rows of a cell have all their pairs compared."""
    count = len(arrays["labels"])
    kept = min(count, MOST)
    return np.arange(kept) * count // max(1, kept)


def _pairs(arrays: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Features of samples and of real images, and which rows; None where nothing was compared."""
    if "real_features" not in arrays:
        return None
    rows = compared(arrays)
    return arrays["features"][rows], arrays["real_features"][rows], rows


def _precision(arrays: Arrays, variant: str = "") -> Found | None:
    if (pairs := _pairs(arrays)) is None:
        return None
    x, y, rows = pairs
    return quality.covered(x, y).astype(float), arrays["indices"][rows]


def _recall(arrays: Arrays, variant: str = "") -> Found | None:
    if (pairs := _pairs(arrays)) is None:
        return None
    x, y, rows = pairs
    return quality.covered(y, x).astype(float), arrays["indices"][rows]


def _accuracy(arrays: Arrays, variant: str = "") -> Found | None:
    if (pairs := _pairs(arrays)) is None:
        return None
    x, y, rows = pairs
    labels = arrays["labels"][rows]
    return (quality.nearest_label(x, labels, y) == labels).astype(float), arrays["indices"][rows]


PATH_RMS = Metric(
    "path_rms",
    "path error",
    "Root mean square over pixels, in units of images in [0, 1], of the difference between a "
    "sample and the fine solution of the same equation from the same noise, averaged over samples: "
    "the error of the solver alone. `root mean square`: over samples as well.",
    "down",
    low=0,
    by_image=True,
)
SLICED_W2 = Metric(
    "sliced_w2",
    "sliced W2",
    "Sliced 2-Wasserstein distance of the pixels of samples and real images, over 64 directions, "
    "in units of images in [0, 1]; two samples of one distribution are some way apart, too.",
    "down",
    low=0,
    reference="Bonneel et al. 2015",
    biased=True,
)
MMD2 = Metric(
    "feature_mmd2",
    "MMD²",
    "Squared maximum mean discrepancy, without bias, of the features of samples and real images in "
    "a small classifier trained on the data set, with a cubic kernel; about 0 for a perfect "
    "sampler. It is no FID.",
    "down",
    reference="Gretton et al. 2012, Bińkowski et al. 2018",
)
SAMPLE_ACCURACY = Metric(
    "sample_accuracy",
    "classification accuracy score",
    "Share of real images whose class is that of the nearest sample, in the features of a small "
    "classifier: the accuracy of a 1-nearest-neighbor classifier that knows samples alone.",
    "up",
    RATE,
    0,
    1,
    of_cell=_accuracy,
    reference="Ravuri and Vinyals 2019",
)
PRECISION = Metric(
    "sample_precision",
    "precision",
    "Share of samples that lie within the distance of a real image to its third nearest neighbor "
    "among real images, in features: whether samples look real.",
    "up",
    RATE,
    0,
    1,
    of_cell=_precision,
    reference="Kynkäänniemi et al. 2019",
)
RECALL = Metric(
    "sample_recall",
    "recall",
    "Share of real images that lie within the distance of a sample to its third nearest neighbor "
    "among samples, in features: whether samples are as diverse as real images.",
    "up",
    RATE,
    0,
    1,
    of_cell=_recall,
    reference="Kynkäänniemi et al. 2019",
)
CLASS_AGREEMENT = Metric(
    "class_agreement",
    "class agreement",
    "Share of samples that the small classifier takes for the class that was asked for; of test "
    "images, its accuracy.",
    "up",
    RATE,
    0,
    1,
    by_image=True,
)
NEAREST_TRAINING = Metric(
    "nearest_training",
    "distance to training",
    "Root mean square over pixels, in units of images in [0, 1], of the difference between a "
    "sample and the nearest training image; that of new real images is the condition `test "
    "images`.",
    low=0,
    by_image=True,
)
MEMORIZED = Metric(
    "memorized",
    "memorized",
    "Share of samples less than a third as far from the nearest training image as from the second "
    "nearest: copies.",
    "down",
    RATE,
    0,
    1,
    reference="Yoon et al. 2023",
    by_image=True,
)
OF_SAMPLES = (
    PATH_RMS,
    SLICED_W2,
    MMD2,
    SAMPLE_ACCURACY,
    PRECISION,
    RECALL,
    CLASS_AGREEMENT,
    NEAREST_TRAINING,
    MEMORIZED,
)
