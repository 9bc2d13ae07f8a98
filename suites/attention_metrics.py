"""Metrics of the suite `attention`: statistics of maps, and what they are worth.

Formulas are in `harness.suites.attention` and `harness.suites.map_statistics`.
"""

from harness.suites.metric import Metric

OF_A_MAP = " Of a row of the map, averaged over rows and images."
ENTROPY = Metric(
    "entropy",
    "row entropy",
    "Minus the sum of a log a; log K for a uniform row of K keys." + OF_A_MAP,
    unit="nats",
    low=0,
    by_image=True,
)
CONCENTRATION = Metric(
    "concentration",
    "concentration",
    "1 - entropy / log K; 0 for a uniform row." + OF_A_MAP,
    low=0,
    high=1,
    by_image=True,
)
SUPPORT = Metric(
    "support",
    "effective support",
    "exp(entropy): how many keys share a row.",
    unit="keys",
    low=1,
    by_image=True,
)
GINI = Metric(
    "gini",
    "Gini coefficient",
    "Inequality of a row; 0 for a uniform one." + OF_A_MAP,
    low=0,
    high=1,
    by_image=True,
)
TOTAL_VARIATION = Metric(
    "total_variation",
    "total variation",
    "K / edges times the sum over neighbors of |a_u - a_v|; 0 for a uniform row." + OF_A_MAP,
    low=0,
    by_image=True,
)
DIRICHLET = Metric(
    "dirichlet",
    "Dirichlet energy",
    "K² / edges times half the sum over neighbors of (a_u - a_v)²." + OF_A_MAP,
    low=0,
    by_image=True,
)
BORDER = Metric(
    "border",
    "border mass",
    "Share of a row on the outer ring of the grid.",
    low=0,
    high=1,
    by_image=True,
)
SPREAD = Metric(
    "spread",
    "spread",
    "Root mean square distance of a row from its center.",
    unit="tokens",
    low=0,
    by_image=True,
)
DISTANCE = Metric(
    "distance",
    "attention distance",
    "Mean distance of the keys from the query.",
    unit="tokens",
    low=0,
    by_image=True,
)
MAP_STATISTICS = (
    ENTROPY,
    CONCENTRATION,
    SUPPORT,
    GINI,
    TOTAL_VARIATION,
    DIRICHLET,
    BORDER,
    SPREAD,
    DISTANCE,
)
INSTABILITY = Metric(
    "instability",
    "instability",
    "1 - Spearman's rank correlation of a row under the clean and under the changed image.",
    low=0,
    high=2,
    by_image=True,
)
CONSTANT = Metric(
    "constant",
    "constant rows",
    "Share of rows without ranks, left out of the instability; of `level`, share of heads that no "
    "temperature brings to its entropy, left out of all.",
    low=0,
    high=1,
    by_image=True,
)
ZERO = Metric(
    "zero",
    "empty maps",
    "Share of saliency maps without a positive place, left out.",
    low=0,
    high=1,
    by_image=True,
)
TAU = Metric(
    "tau",
    "temperature",
    "Temperature at which the rows of softmax(scores / tau) have the entropy of the used map; of "
    "`level`, 0.75 log K.",
    low=0,
    by_image=True,
)
GAIN = Metric(
    "gain",
    "gain in accuracy",
    "Accuracy with the used map less that of the same network with another map in its place.",
    low=-1,
    high=1,
    by_image=True,
)

OF_MAPS = (*MAP_STATISTICS, INSTABILITY, CONSTANT, ZERO, TAU, GAIN)
