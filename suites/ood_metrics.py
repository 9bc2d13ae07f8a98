"""Metrics of the suite `ood`: whether a score tells the images of other data sets.

Formulas are in `harness.suites.detection`.
"""

from harness.suites import detection
from harness.suites.metric import Metric

OOD_AUROC = Metric(
    "ood_auroc",
    "AUROC",
    "Share of pairs of an image of the data set and one of another in which the score of the former"
    " is larger, ties counting half; 0.5: the score tells nothing.",
    "up",
    "",
    0,
    1,
    of_cell=detection.outcomes("ood_auroc"),
    reference="Hendrycks and Gimpel 2017",
)
OOD_AUPR = Metric(
    "ood_aupr",
    "AUPR",
    "Average precision, the images of the data set being the positive ones; a score that tells "
    "nothing has their share among all.",
    "up",
    "",
    0,
    1,
    of_cell=detection.outcomes("ood_aupr"),
    reference="Hendrycks and Gimpel 2017",
)
OOD_FPR95 = Metric(
    "ood_fpr95",
    "FPR at 95 % TPR",
    "Share of images of another data set whose score reaches the largest threshold that 95 % of "
    "the data set's own reach; 0.95: the score tells nothing.",
    "down",
    "",
    0,
    1,
    of_cell=detection.outcomes("ood_fpr95"),
    reference="Liu et al. 2020",
)

OF_OTHER_DATA = (OOD_AUROC, OOD_AUPR, OOD_FPR95)
