import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as sm_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from harness.analysis import (
    RATE,
    Sample,
    always_valid,
    bonett_price,
    contrast,
    detectable,
    difference,
    from_outcomes,
    from_table,
    goodman_kruskal,
    holm,
    images_needed,
    interval,
    mcnemar,
    mover,
    pairwise,
    parts_of_difference,
    quantile,
    rank_intervals,
    seeds_needed,
    shape_of,
    skew_factors,
    spread,
    superiority,
    variance_parts,
    wilson,
)
from harness.analysis.means import by_condition
from harness.analysis.tails import critical, p_value
from harness.storage.results import COLUMNS
from harness.suites.metrics import ECE


@pytest.mark.parametrize(
    "hits, n, low, high",
    [
        (9500, 10000, 0.94555, 0.95410),
        (7465, 10000, 0.73788, 0.75493),
        (0, 10, 0, 0.27753),
        (10, 10, 0.72247, 1),
    ],
)
def test_wilson_against_printed_values(hits: int, n: int, low: float, high: float) -> None:
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-6)
    assert wilson(hits, n) == pytest.approx(proportion_confint(hits, n, method="wilson"))


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image; got 0"):
        wilson(0, 0)


def test_a_t_interval_against_a_printed_table() -> None:
    # All variance between 5 seeds: 4 degrees of freedom, t = 2.776.
    low, high = interval(0.5, v_seed=0.01**2, v_image=0.0, seeds=5, n=10**6)
    assert (high - low) / 2 == pytest.approx(0.02776, abs=1e-5)
    # All variance between 10,000 images: nearly the normal quantile.
    low, high = interval(0.5, 0.0, 0.01**2, seeds=1, n=10_000, span=(0, math.inf))
    assert (high - low) / 2 == pytest.approx(0.0196, abs=1e-5)


def test_one_rate_has_wilsons_interval_and_a_mean_of_cells_that_of_as_many_images() -> None:
    hits = np.arange(100) < 95
    sample = from_outcomes(hits[None].astype(float), "x", RATE)
    assert (sample.low, sample.high) == pytest.approx(wilson(95, 100), rel=1e-2)
    p, n = 0.9, 400
    assert interval(p, 0.0, p * (1 - p) / n, seeds=1, n=n) == pytest.approx(wilson(p * n, n))
    # Twice the variance: half of the images.
    twice = interval(p, 0.0, 2 * p * (1 - p) / n, seeds=1, n=n)
    assert twice == pytest.approx(wilson(p * n / 2, n / 2))


def test_outcomes_that_are_all_alike_are_no_certainty() -> None:
    assert interval(1.0, 0.0, 0.0, seeds=3, n=10) == pytest.approx((0.72247, 1), abs=5e-6)
    sample = from_outcomes(np.ones((1, 100)), "x", RATE)
    assert (sample.low, sample.high) == wilson(100, 100)


def test_a_loss_has_an_interval_that_reaches_into_its_tail() -> None:
    losses = np.random.default_rng(0).gamma(0.2, size=(1, 500))
    sample = from_outcomes(losses, "x", (0.0, math.inf))
    assert sample.high - sample.value > 1.2 * (sample.value - sample.low) > 0
    assert skew_factors(0.0, 500) == (1.0, 1.0)
    below, above = skew_factors(np.array([2.0, -2.0]), 500)
    assert below[0] < 1 < above[0] and below == pytest.approx(above[::-1])
    # G of the bounds' t statistic is -+ 1.96.
    g = 2 / math.sqrt(500)
    for t in (below[0] * 1.959964, -above[0] * 1.959964):
        assert abs(t + g * t**2 / 3 + g**2 * t**3 / 27 + g / 6) == pytest.approx(1.959964)


def test_skewness_is_scipys_and_rare_values_leave_few_degrees_of_freedom() -> None:
    values = np.random.default_rng(0).gamma(1, size=(2, 300))
    assert shape_of(values)[0] == pytest.approx(stats.skew(values, axis=-1))
    rare = np.zeros(10_000)
    rare[:20], rare[20:40] = 1, -1
    assert shape_of(rare) == (pytest.approx(0), pytest.approx(80, rel=0.01))
    assert shape_of(np.zeros(10)) == (0, 9)


def test_few_seeds_keep_few_degrees_of_freedom() -> None:
    assert spread((1.0, 4))[1] == pytest.approx(4)
    assert spread((1.0, 4), (0.0, 999))[1] == pytest.approx(4)
    v, df = spread((1e-4, 2), (1e-4, 9999))
    plain = 4e-8 / (1e-8 / 2)
    assert v == pytest.approx(2e-4) and 2 < df < plain
    # The upper quartile of V_seed, as if it had been found.
    up = 1e-4 * 2 / stats.chi2.ppf(0.25, 2)
    image = 1e-4 * 9999 / stats.chi2.ppf(0.25, 9999)
    assert df == pytest.approx((up + image) ** 2 / (up**2 / 2 + image**2 / 9999))
    assert quantile(np.inf) == pytest.approx(1.959964) and quantile(4) == pytest.approx(2.776445)


def test_variance_of_a_single_network_is_that_of_its_images() -> None:
    outcomes = np.array([[0.0, 1.0, 1.0, 0.0]])
    assert variance_parts(outcomes) == (0.0, pytest.approx(np.var([0, 1, 1, 0], ddof=1) / 4), 0.0)


def test_variance_parts_are_found_in_simulated_outcomes() -> None:
    random = np.random.default_rng(0)
    seeds, n, parts = 4, 50, []
    for _ in range(4000):
        seed, image = random.normal(0, 0.3, (seeds, 1)), random.normal(0, 1, (1, n))
        parts.append(variance_parts(seed + image + random.normal(0, 0.5, (seeds, n))))
    v_seed, v_image, v_rest = np.mean(parts, axis=0)
    # The part of the seeds carries the residual's share, which belongs to the mean's variance.
    assert v_rest == pytest.approx(0.5**2 / (seeds * n), rel=0.05)
    assert v_seed == pytest.approx(0.3**2 / seeds + v_rest, rel=0.05)
    assert v_image == pytest.approx(1 / n, rel=0.05)


def two_level(outcomes: np.ndarray, draws: int) -> np.ndarray:
    """Means of the two-level bootstrap: seeds and, independently, images with replacement."""
    random = np.random.default_rng(0)
    seeds, n = outcomes.shape
    images = random.multinomial(n, np.full(n, 1 / n), size=draws) / n
    networks = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
    return np.einsum("ds,sn,dn->d", networks, outcomes, images)


def test_the_variance_is_that_of_the_two_level_bootstrap_corrected() -> None:
    random = np.random.default_rng(3)
    seeds, n = 3, 400
    outcomes = (random.normal(0, 1, n) + random.normal(0, 0.15, (seeds, 1)) > -1).astype(float)
    v_seed, v_image, v_rest = variance_parts(outcomes)
    # The rest is in both parts and in their interaction; ours has it once, in V_seed.
    share = (seeds - 1) / seeds
    drawn = two_level(outcomes, 20_000).var()
    assert drawn == pytest.approx(v_seed * share + v_image + v_rest * (1 + share), rel=0.03)
    one = stats.bootstrap((outcomes[0],), np.mean, n_resamples=4000, rng=random, method="basic")
    assert one.standard_error**2 == pytest.approx(variance_parts(outcomes[:1])[1], rel=0.06)


def test_a_table_alone_bounds_what_the_images_would_say() -> None:
    random = np.random.default_rng(1)
    u = random.normal(size=(1, 300))
    for noise in (0.0, 0.5, 2.0):
        cells = (u + noise * random.normal(size=(4, 300)) < [[1.5], [1], [0.5], [0]]).astype(float)
        known = from_outcomes(cells.mean(axis=0)[None], "x", RATE)
        bound = from_table(cells.mean(axis=1)[None], 300, RATE)
        assert bound.value == pytest.approx(known.value)
        assert bound.low < known.low + 1e-3 and known.high - 1e-3 < bound.high
        assert (known.basis, bound.basis) == ("images", "rates")


def test_means_of_a_table_that_are_no_rates_have_intervals_over_seeds_or_none() -> None:
    several = from_table(np.array([[1.0], [2.0], [3.0]]), 100, (0.0, math.inf))
    assert several.basis == "seeds" and several.high - 2 == pytest.approx(4.302653 / math.sqrt(3))
    assert several.low == 0  # a loss is not negative
    one = from_table(np.array([[1.0]]), 100, (0.0, math.inf))
    assert one.basis == "nothing" and math.isnan(one.low)
    assert math.isnan(from_table(np.array([[math.nan]]), 100, RATE).low)


MCNEMAR = [
    (0, 5, 0.06250, 0.03125),
    (1, 9, 0.02148, 0.01172),
    (5, 15, 0.04139, 0.02660),
    (10, 25, 0.01667, 0.01133),
    (40, 60, 0.05689, 0.04604),
    (100, 140, 0.01166, 0.00983),
]


@pytest.mark.parametrize("b, c, exact, mid", MCNEMAR)
def test_mcnemar_against_a_printed_table(b: int, c: int, exact: float, mid: float) -> None:
    assert mcnemar(b, c) == pytest.approx(exact, abs=5e-6)
    assert mcnemar(c, b, mid=True) == pytest.approx(mid, abs=5e-6)
    assert mcnemar(b, c) == pytest.approx(sm_mcnemar([[7, b], [c, 9]], exact=True).pvalue)


def test_mcnemar_of_equal_sides_is_certain_of_nothing() -> None:
    assert mcnemar([0, 3], [0, 3]).tolist() == [1, 1]


def test_bonett_price_by_hand_and_its_center_is_that_of_an_image_more_on_either_side() -> None:
    low, high = bonett_price(9, 1, 98)
    p1, p2 = 10 / 100, 2 / 100
    half = 1.959964 * math.sqrt((p1 + p2 - (p1 - p2) ** 2) / 100)
    assert (low, high) == pytest.approx((p1 - p2 - half, p1 - p2 + half))


@pytest.mark.parametrize(
    "psi, found",
    [
        (0.005, (0.20, 0.28, 0.44, 0.63)),
        (0.01, (0.28, 0.40, 0.63, 0.88)),
        (0.02, (0.40, 0.56, 0.89, 1.25)),
        (0.05, (0.63, 0.89, 1.40, 1.98)),
        (0.10, (0.89, 1.25, 1.98, 2.80)),
        (2 * 0.95 * 0.05, (0.86, 1.22, 1.93, 2.73)),
    ],
)
def test_detectable_differences_against_a_printed_table(psi: float, found: tuple) -> None:
    for n, points in zip((10_000, 5_000, 2_000, 1_000), found, strict=True):
        assert 100 * detectable(psi, n) == pytest.approx(points, abs=0.0061)


def test_images_needed_for_half_a_point() -> None:
    needed = images_needed(0.0, math.sqrt(0.02), 1, 0.005)
    assert needed == pytest.approx(6280, abs=1)
    assert detectable(0.02, int(needed)) <= 0.005


def test_holm_against_printed_values_and_statsmodels() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    p = np.random.default_rng(0).random(50) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([math.nan, 0.01]).tolist() == [1, 0.02] and holm([]).tolist() == []
    assert holm(p.reshape(5, 10)) == pytest.approx(holm(p).reshape(5, 10))


def test_ranks_are_the_places_that_cannot_be_told_apart() -> None:
    values = np.array([0.9, 0.8, 0.79, 0.5])
    p = np.full((4, 4), 1e-6)
    p[1, 2] = p[2, 1] = 0.5
    low, high = rank_intervals(values[:, None] - values, p)
    assert low.tolist() == [1, 2, 2, 4] and high.tolist() == [1, 3, 3, 4]
    low, high = rank_intervals(values[:, None] - values, np.ones((4, 4)))
    assert low.tolist() == [1] * 4 and high.tolist() == [4] * 4
    assert rank_intervals([[0.0]], [[1.0]]) == (np.array([1]), np.array([1]))


def hits(random: np.random.Generator, n: int, p: float, seeds: int = 1) -> np.ndarray:
    return (random.random((seeds, n)) < p).astype(float)


def sample(outcomes: np.ndarray, on: str = "x", **more: Any) -> Sample:
    return from_outcomes(outcomes, on, RATE, **more)


def test_two_networks_in_one_cell_have_mcnemars_test_and_bonett_prices_interval() -> None:
    random = np.random.default_rng(0)
    a, b = hits(random, 500, 0.9), hits(random, 500, 0.85)
    d = difference(sample(a), sample(b))
    only_a, only_b = int((a > b).sum()), int((a < b).sum())
    assert (d.b, d.c) == (only_a, only_b) and d.paired
    assert d.p == pytest.approx(sm_mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue)
    assert (d.low, d.high) == pytest.approx(bonett_price(only_a, only_b, 500))
    assert d.value == pytest.approx(a.mean() - b.mean())
    assert d.detectable == pytest.approx(detectable((only_a + only_b) / 500, 500), rel=0.05)


def test_a_mean_over_cells_is_tested_as_the_cluster_bootstrap_would() -> None:
    random = np.random.default_rng(0)
    u = random.normal(size=(1, 2000))
    a = (u + random.normal(size=(6, 2000)) < 1.5).mean(axis=0)[None]
    b = (u + random.normal(size=(6, 2000)) < 1.45).mean(axis=0)[None]
    d = difference(sample(a), sample(b))
    drawn = stats.bootstrap(((a - b)[0],), np.mean, n_resamples=4000, rng=random, method="basic")
    assert float(d.below) == pytest.approx(drawn.standard_error, rel=0.05)
    assert (d.low, d.high) == pytest.approx(tuple(drawn.confidence_interval), abs=1e-3)
    assert math.isnan(d.b) and math.isnan(d.c)


def test_a_paired_difference_changes_sign_and_only_sign_with_its_models() -> None:
    random = np.random.default_rng(0)
    pairs = [(hits(random, 300, 0.9, s), hits(random, 300, 0.8, t)) for s, t in ((1, 1), (3, 2))]
    pairs.append((random.gamma(1, size=(1, 300)), random.gamma(2, size=(1, 300))))
    for a, b in pairs:
        one, other = difference(sample(a), sample(b)), difference(sample(b), sample(a))
        assert one.value == pytest.approx(-other.value)
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
        assert (one.p, one.b) == pytest.approx((other.p, other.c), nan_ok=True)
        back = -other
        assert (back.low, back.high) == pytest.approx((one.low, one.high))
        assert one.p_worse(0.01) == pytest.approx(back.p_worse(0.01))


def test_all_pairs_at_once_are_the_pairs_one_by_one() -> None:
    random = np.random.default_rng(0)
    u = random.random((1, 200))
    several = [
        sample((random.random((s, 200)) * 0.3 + u < 0.9).astype(float)) for s in (1, 1, 3, 4)
    ]
    several.append(sample(hits(random, 200, 0.7), on="other images"))
    several.append(from_table(np.array([[0.8, 0.7]]), 200, RATE))
    found = pairwise(several)
    for i in range(6):
        for j in range(6):
            if i != j:
                one = difference(several[i], several[j])
                for name in ("value", "low", "high", "p", "paired", "detectable"):
                    got = getattr(found, name)[i, j]
                    assert got == pytest.approx(getattr(one, name), nan_ok=True), name
    assert found.paired.sum() == 12


def test_pairing_images_is_sharper_and_seeds_are_independent() -> None:
    random = np.random.default_rng(0)
    u = random.random((1, 1000))
    a = (u + 0.1 * random.random((3, 1000)) < 0.9).astype(float)
    b = (u + 0.1 * random.random((3, 1000)) < 0.88).astype(float)
    paired, apart = difference(sample(a), sample(b)), difference(sample(a), sample(b, on="y"))
    assert paired.high - paired.low < 0.7 * (apart.high - apart.low)
    v = [variance_parts(x)[0] for x in (a, b)]
    assert float(paired.below) ** 2 > sum(v) * 0.9  # both seed parts are in it


def test_networks_of_the_same_seeds_are_pairs() -> None:
    random = np.random.default_rng(0)
    shift = np.array([[0.0], [0.05], [0.1]])
    a = (random.random((3, 1000)) + shift < 0.9).astype(float)
    b = a.copy()
    b[:, :3] = 1 - b[:, :3]
    one, other = (sample(x, keep=True, seed_names=(0, 1, 2)) for x in (a, b))
    others = sample(b, keep=True, seed_names=(3, 4, 5))
    by_seed, independent = difference(one, other), difference(one, others)
    assert by_seed.high - by_seed.low < 0.2 * (independent.high - independent.low)
    assert difference(one, sample(b, seed_names=(0, 1, 2))).high == independent.high
    assert difference(one, one).identical and difference(one, one).p == 1
    # Seeds without names are pairs only if somebody says so.
    a_, b_ = sample(a, keep=True), sample(b, keep=True)
    assert difference(a_, b_).high == independent.high
    assert difference(a_, b_, same_seeds=True).high == by_seed.high
    assert pairwise([one, others, other]).high[0].tolist()[1:] == [independent.high, by_seed.high]


def test_equal_outcomes_are_identical_but_no_certainty() -> None:
    a = hits(np.random.default_rng(0), 100, 0.9)
    d = difference(sample(a), sample(a.copy()))
    assert d.identical and d.p == 1 and d.p_worse(0) == 1
    assert (d.low, d.high) == pytest.approx(bonett_price(0, 0, 100))
    run = difference(sample(a, runs=("r",)), sample(a.copy(), on="y", runs=("r",)))
    assert run.identical and (run.low, run.high) == (0, 0)


def test_unpaired_rates_have_newcombes_interval() -> None:
    a, b = from_table(np.array([[0.9]]), 50, RATE), from_table(np.array([[0.5]]), 60, RATE)
    d = difference(a, b)
    expected = confint_proportions_2indep(45, 50, 30, 60, method="newcomb", compare="diff")
    assert (d.low, d.high) == pytest.approx(expected)
    assert not d.paired and d.p < 0.05
    below, above = mover(0.9, wilson(45, 50), 0.5, wilson(30, 60))
    assert (0.4 - below, 0.4 + above) == pytest.approx(expected)


def test_p_is_below_five_percent_where_zero_is_outside() -> None:
    random = np.random.default_rng(0)
    several = [from_table(random.random((s, 3)), 100, RATE) for s in (1, 1, 2, 3, 3, 5)]
    found = pairwise(several)
    off = ~np.eye(len(several), dtype=bool)
    assert ((found.p < 0.05) == ((found.low > 0) | (found.high < 0)))[off].all()


def test_what_has_no_interval_has_no_test() -> None:
    one = from_table(np.array([[1.0]]), 100, (0.0, math.inf))
    d = difference(one, one)
    assert math.isnan(d.p) and math.isnan(d.low) and math.isnan(d.detectable)


def test_ece_of_images_has_its_mean_and_about_the_bootstraps_variance() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(2000, 5)) * 2
    labels = np.where(random.random(2000) < 0.6, logits.argmax(1), 0)
    assert ECE.of_images is not None
    values = ECE.of_images(logits, labels)
    assert float(values.mean()) == pytest.approx(ECE(logits, labels), abs=1e-12)
    drawn = []
    for _ in range(400):
        rows = random.integers(0, 2000, 2000)
        drawn.append(ECE(logits[rows], labels[rows]))
    assert float(values.std()) / math.sqrt(2000) == pytest.approx(np.std(drawn), rel=0.12)


def table(rows: list[tuple]) -> pd.DataFrame:
    full = [
        (m, "robustness", "d", s, c, level, "accuracy", "", v, 100, "r")
        for m, s, c, level, v in rows
    ]
    return pd.DataFrame(full, columns=list(COLUMNS))


def test_conditions_keep_their_order() -> None:
    rows = [
        ("a", 0, "clean", 0, 0.9), ("a", 0, "fog", 1, 0.8), ("a", 0, "snow", 1, 0.4),
        ("a", 1, "clean", 0, 1.0), ("a", 1, "fog", 1, 0.6), ("a", 1, "snow", 1, 0.6),
    ]  # fmt: skip
    a = by_condition(table(rows))
    assert list(a["condition"]) == ["clean", "fog", "snow"] and list(a["seeds"]) == [2, 2, 2]
    assert list(a["value"]) == pytest.approx([0.95, 0.7, 0.5])


def networks(
    random: np.random.Generator, levels: tuple[float, ...], seeds: int = 4
) -> list[np.ndarray]:
    """Outcomes (S, 600) of models that share images and seeds."""
    u, e = random.random((1, 600)), 0.05 * random.standard_normal((seeds, 1))
    return [(u + e + 0.2 * random.random((seeds, 600)) < x).astype(float) for x in levels]


def named(outcomes: list[np.ndarray], names: tuple[int, ...] = (0, 1, 2, 3)) -> list[Sample]:
    return [sample(x, keep=True, seed_names=names) for x in outcomes]


def test_pairs_of_seeds_have_the_variance_parts_of_their_differences() -> None:
    random = np.random.default_rng(0)
    several = named(networks(random, (0.9, 0.88, 0.7)))
    found = pairwise(several)
    for i, j in ((0, 1), (0, 2), (2, 1)):
        d = np.subtract(several[i].outcomes, several[j].outcomes, dtype=float)
        v_seed, v_image, _ = variance_parts(d)
        # The image part is that of an image more on either side, and lopsided.
        v = float(found.below[i, j] * found.above[i, j])
        assert v == pytest.approx(v_seed + v_image, rel=0.05)
        assert found.df[i, j] >= 3
    apart = pairwise([sample(np.asarray(s.outcomes)) for s in several])
    assert (found.below < 0.8 * apart.below)[~np.eye(3, dtype=bool)].all()


def test_a_contrast_of_two_is_their_difference() -> None:
    a, b, other = named(networks(np.random.default_rng(0), (0.9, 0.85, 0.8)))
    other = replace(other, on="other images")
    alone = from_table(np.array([[0.8]]), 600, RATE)
    for two in ((a, b), (b, a), (a, replace(b, seed_names=(4, 5, 6, 7)))):
        one, found = difference(*two), contrast(two, (1, -1))
        for name in ("value", "low", "high", "p", "detectable"):
            assert getattr(found, name) == pytest.approx(getattr(one, name)), name
    # What cannot be paired is independent.
    for two in ((a, other), (a, alone)):
        apart = contrast(two, (1, -1))
        assert not apart.paired and apart.value == pytest.approx(a.value - two[1].value)
        assert float(apart.high - apart.low) >= 0.7 * float(
            difference(*two).high - difference(*two).low
        )
    with pytest.raises(ValueError, match="a weight for each sample; got 1 samples and 2 weights"):
        contrast([a], (1, -1))


def test_an_interaction_holds_none_where_effects_add_up() -> None:
    random, held, found = np.random.default_rng(0), 0, 0
    for _ in range(300):
        four = networks(random, (0.6, 0.65, 0.7, 0.75), seeds=3)
        d = contrast(named(four, (0, 1, 2)), (1, -1, -1, 1))
        held += bool(d.low <= 0 <= d.high)
        effect = contrast(named(four, (0, 1, 2)), (-0.5, 0.5, -0.5, 0.5))
        found += bool(effect.low > 0)
    assert 0.93 - 0.038 <= held / 300 <= 0.99 and found > 250


def gamma_of_pairs(e: np.ndarray, d: np.ndarray) -> float:
    order = np.sign(e[:, None] - e) * np.sign(d[:, None] - d)
    return float(order.sum() / np.abs(order).sum())


def test_gamma_is_that_of_all_pairs_and_its_interval_that_of_the_bootstrap() -> None:
    random = np.random.default_rng(0)
    d = random.normal(size=400).round(1)
    e = np.clip((d + random.normal(size=400)).round(), -1, 2)
    found = goodman_kruskal(e, d)
    assert found.value == pytest.approx(gamma_of_pairs(e, d)) and found.n == 400
    assert found.tie == pytest.approx(np.unique(e, return_counts=True)[1].max() / 400)
    rows = random.integers(0, 400, (300, 400))
    drawn = np.std([gamma_of_pairs(e[r], d[r]) for r in rows])
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(drawn, rel=0.15)
    # A monotone change of either changes nothing, and a turned order turns the sign.
    same = goodman_kruskal(e**3, np.exp(d))
    assert same == pytest.approx(found)
    assert goodman_kruskal(-e, d)[:3] == pytest.approx((-found.value, -found.high, -found.low))


def test_gamma_reaches_what_was_planted_at_99_percent_ties() -> None:
    random = np.random.default_rng(0)
    difficulty = random.normal(size=(3, 10_000))
    costs = np.where(difficulty > np.quantile(difficulty, 0.99), 14.0, 8.0)
    found = goodman_kruskal(costs, difficulty)
    assert found.value == 1 and found.low > 0.9 and found.p < 1e-6
    assert found.tie == pytest.approx(0.99, abs=0.005)
    rho = [stats.spearmanr(c, d).statistic for c, d in zip(costs, difficulty, strict=True)]
    assert max(rho) < 0.2  # ties bound it
    few = goodman_kruskal(costs[:, :300], difficulty[:, :300])
    assert few.low < found.low and few.p > found.p


def test_gamma_of_what_does_not_vary_is_not_known() -> None:
    nothing = goodman_kruskal(np.full((2, 50), 8), np.arange(50))
    assert all(map(math.isnan, nothing[:4])) and (nothing.tie, nothing.seeds) == (1, 0)
    one = goodman_kruskal([[8] * 50, [8, 14] * 25], np.arange(50))
    assert one.seeds == 1 and math.isfinite(one.value)


def test_seeds_added_after_a_look_widen_an_interval_and_planned_ones_do_not() -> None:
    a, b = named(networks(np.random.default_rng(0), (0.9, 0.85)))
    d = difference(a, b)
    for planned in (4, 5):
        assert always_valid(d, 4, planned) is d
    later = always_valid(d, 4, 2)
    assert later.p == pytest.approx(6 * d.p) and later.value == d.value
    t = critical(0.05 / 6, d.df, d.share, d.freedom)
    assert t >= quantile(d.df, 1 - 0.025 / 6)
    assert later.low == pytest.approx(d.center - t * d.below)
    # The bound and the one-sided test of it agree.
    assert later.p_worse(-float(later.high)) == pytest.approx(0.025)
    assert always_valid(d, 4, 3).high < later.high


def test_superiority_is_of_retrainings_not_of_means() -> None:
    random = np.random.default_rng(0)
    shift = 0.02 * random.standard_normal((8, 1))
    a = (random.random((8, 5000)) + shift < 0.92).astype(float)
    b = (random.random((8, 5000)) + shift[::-1] < 0.90).astype(float)
    p = superiority(sample(a), sample(b))
    assert superiority(sample(b), sample(a)) == pytest.approx(1 - p)
    sd = math.hypot(a.mean(axis=1).std(ddof=1), b.mean(axis=1).std(ddof=1)) * math.sqrt(9 / 8)
    assert p == pytest.approx(stats.norm.cdf((a.mean() - b.mean()) / sd), abs=0.02)
    assert math.isnan(superiority(sample(a[:1]), sample(b)))


def test_parts_of_a_difference_are_found_and_plan_seeds_and_images() -> None:
    random, found = np.random.default_rng(0), []
    for _ in range(200):
        e, u, w = (random.normal(0, sd, size) for sd, size in (
            (0.01, (6, 1)), (0.1, (1, 400)), (0.2, (6, 400))
        ))  # fmt: skip
        a, b = (
            from_outcomes(x, "x", (-9, 9), keep=True, seed_names=range(6))
            for x in (e + u + w, np.zeros((6, 400)))
        )
        found.append(parts_of_difference(a, b))
    squares = np.square(found).mean(axis=0)
    assert squares == pytest.approx(np.square([0.01, 0.1, 0.2]), rel=0.1)
    assert all(map(math.isnan, parts_of_difference(a, replace(b, on="y"))))
    # All variance is of the seeds: as many as a power table of the paired t test says, or one more.
    assert seeds_needed(0.01, 0.0, 10_000, 0.01) == pytest.approx(10, abs=1)
    assert seeds_needed(0.0, 0.3, 100, 0.01) == math.inf
    assert images_needed(0.01, 0.1, 3, 0.01) == math.inf
    assert images_needed(0.001, 0.1, 5, 0.01) < images_needed(0.001, 0.1, 5, 0.01, 0.3)


def test_a_rate_of_several_seeds_near_one_is_no_surer_than_its_errors() -> None:
    # Two images of 400 are wrong, under every seed.
    outcomes = np.ones((5, 400))
    outcomes[:, :2] = 0
    found = from_outcomes(outcomes, "x", RATE)
    assert (found.low, found.high) == pytest.approx(wilson(398, 400), abs=1e-3)
    # Ten errors, all on images of their own, do not show how rare images are that all get wrong.
    scattered, place = np.ones((10, 400)), 0
    for seed in range(10):
        scattered[seed, place : place + seed % 3] = 0
        place += seed % 3
    v_seed, v_image, _ = variance_parts(scattered)
    assert v_image == 0 and place == 9
    found = from_outcomes(scattered, "x", RATE)
    half = float(quantile(9)) * math.sqrt(v_seed)
    assert found.value - found.low > 1.2 * half and found.high > found.value + half - 1e-9


def test_small_p_values_of_few_seeds_are_students_or_behrens_and_fishers() -> None:
    # All variance is of the seeds: Student's; none is: the normal one; between, both are mixed.
    for df, z in ((1, 127.3), (2, 14.09), (9, 3.69)):
        assert p_value(z, df, 1.0, df) == pytest.approx(0.005, rel=0.01)
    assert p_value(2.8, np.inf, 0.0, 1) == pytest.approx(2 * stats.norm.sf(2.8))
    random = np.random.default_rng(0)
    mixed = math.sqrt(0.3) * stats.t.rvs(2, size=400_000, random_state=random)
    mixed += math.sqrt(0.7) * random.normal(size=400_000)
    assert p_value(5.0, 4.0, 0.3, 2) == pytest.approx((np.abs(mixed) > 5).mean(), rel=0.05)
    assert critical(0.01, 4.0, 0.3, 2) == pytest.approx(np.quantile(np.abs(mixed), 0.99), rel=0.03)


@pytest.mark.parametrize("seeds", [2, 3])
def test_p_values_below_one_percent_are_as_rare_as_they_say(seeds: int) -> None:
    random, draws, ratio = np.random.default_rng(seeds), 40_000, 4
    e, v_image = random.normal(size=(draws, seeds)), np.full(draws, 1 / seeds / ratio**2)
    mean = e.mean(axis=1) + np.sqrt(v_image) * random.normal(size=draws)
    v_seed = e.var(axis=1, ddof=1) / seeds
    v, df = spread((v_seed, seeds - 1), (v_image, np.inf))
    z = mean / np.sqrt(v)
    p = p_value(z, df, v_seed / v, seeds - 1)
    plain = 2 * stats.t.sf(np.abs(z), df)
    for level in (0.05, 0.008, 0.002):
        assert (p <= level).mean() <= level + 3 * math.sqrt(level / draws)
    assert (plain <= 0.002).mean() > 0.006  # what it was
    assert ((p < 0.05) == (plain < 0.05)).all()
