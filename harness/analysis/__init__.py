"""From measurements to means, intervals, ranks and differences.

groups            which conditions are averaged into one number
sample            what is known of one mean: its interval, its images, its seeds
collect           a long table to samples
outcomes          the answers to single images, from stored cells, for `collect`
intervals, pairs  the formulas: of one mean, of the difference of two
seeds             what training seeds add to a difference; `tails`: small p values from few seeds
contrasts         the formula of a weighted sum of several means
sequences         intervals that hold although seeds were added after a look
power             parts of a difference's variance, seeds and images needed, superiority
ratios            the interval of the ratio of two means of one model
ranks             gamma: a rank statistic that ties do not bound
families          many comparisons at once (families of tests): Holm, ranks
comparability     what keeps models from being compared, in sentences
leaderboard       all means with ranks, as a frame; `boards`: as results/leaderboard.csv
numbers           means and differences with intervals, for figures, tables and reports
means             means over seeds alone, condition by condition
corruption_error  mCE; `imagenet_c`: against AlexNet's published errors
"""

from harness.analysis.contrasts import contrast
from harness.analysis.families import LEVEL, holm, rank_intervals
from harness.analysis.intervals import (
    Z,
    interval,
    mover,
    quantile,
    shape_of,
    skew_factors,
    spread,
    variance_parts,
    wilson,
)
from harness.analysis.pairs import (
    POWER,
    Differences,
    bonett_price,
    detectable,
    difference,
    mcnemar,
    pairwise,
)
from harness.analysis.power import (
    Parts,
    images_needed,
    parts_of_difference,
    seeds_needed,
    superiority,
)
from harness.analysis.ranks import Gamma, goodman_kruskal
from harness.analysis.sample import RATE, Sample, from_outcomes, from_row, from_table
from harness.analysis.sequences import always_valid
