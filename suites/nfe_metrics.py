"""Metrics of the suite `nfe`: what an answer costs, and whether hard images cost more.

Formulas are in `harness.suites.nfe`.
"""

from harness.suites.metric import Metric

NFE = Metric(
    "nfe",
    "NFE",
    "Evaluations of the right-hand side of the differential equation that contributed to an image, "
    "averaged over images; counted in the equation, not in solver steps.",
    "down",
    "evaluations",
    0,
    by_image=True,
)
EVALUATIONS = Metric(
    "evaluations",
    "residual evaluations",
    "Functions f of x + f(x) evaluated for an image, anywhere in the network: one for each block, "
    "as many as it applies for a block of several, those of the solver for an equation.",
    "down",
    "evaluations",
    0,
    by_image=True,
)
MACS = Metric(
    "macs",
    "multiply-adds",
    "Multiply-adds of convolutions and matrix products that the whole network spends on an image.",
    "down",
    "multiply-adds",
    0,
    by_image=True,
)
STOPPED = Metric(
    "stopped_early",
    "stopped early",
    "Share of images for which an adaptive solver ran out of evaluations, or of step size, before "
    "the end of the interval: their answers are of an unfinished solution.",
    "down",
    "",
    0,
    1,
    by_image=True,
)
SECONDS = Metric(
    "seconds",
    "seconds an image",
    "Wall time of a batch, shared out evenly; of one machine, so that nobody is ranked by it.",
    unit="s",
    low=0,
    by_image=True,
)
NFE_GAMMA = Metric(
    "nfe_gamma",
    "gamma of NFE",
    "Goodman and Kruskal's gamma over images of their evaluations and how hard they are: minus "
    "their `margin` (p(label) less the largest other probability), or the `severity` of their "
    "noise; 1: of two images with unlike evaluations the harder one always costs more. `dealt "
    "margin` has evaluations dealt to other images: what chance gives.",
    low=-1,
    high=1,
    reference="Goodman and Kruskal 1963",
)
NFE_AUROC = Metric(
    "nfe_auroc",
    "AUROC of NFE",
    "Share of pairs of a misclassified and a right image in which the former costs more "
    "evaluations, ties counting half; 0.5: evaluations tell nothing of errors.",
    low=0,
    high=1,
    reference="DeLong et al. 1988",
)
NFE_TIE = Metric(
    "nfe_tie",
    "equal NFE",
    "Largest share of images with equal evaluations: where it is near 1 nothing is ordered.",
    low=0,
    high=1,
)
TRAINED_WITH = Metric(
    "trained_with",
    "trained with",
    "1 for the solver, with its steps or tolerance, that the network was trained with.",
    low=0,
    high=1,
)
NFE_RHO = Metric(  # of results before version 3 of the suite
    "nfe_rho",
    "rank correlation of NFE",
    "Spearman's rho over images of their evaluations with their loss, their margin (p(label) less "
    "the largest other probability) or the severity of their noise; `dealt loss` has evaluations "
    "dealt to other images: what chance gives. Ties bound it, so that `nfe_gamma` took its place.",
    low=-1,
    high=1,
    reference="Bonett and Wright 2000",
)

OF_COSTS = (
    NFE,
    EVALUATIONS,
    MACS,
    STOPPED,
    SECONDS,
    NFE_GAMMA,
    NFE_AUROC,
    NFE_TIE,
    TRAINED_WITH,
    NFE_RHO,
)
