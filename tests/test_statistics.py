import numpy as np
import pandas as pd
import pytest

from harness.results import COLUMNS
from harness.statistics import by_condition, crossed, interval, summary, wilson


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


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image; got 0"):
        wilson(0, 0)


def test_a_t_interval_against_a_printed_table() -> None:
    # All variance between 5 seeds: 4 degrees of freedom, t = 2.776.
    low, high = interval(0.5, v_seed=0.01**2, v_image=0.0, seeds=5, n=100)
    assert (high - low) / 2 == pytest.approx(0.02776, abs=1e-5)
    # All variance between 10,000 images: nearly the normal quantile.
    low, high = interval(0.5, v_seed=0.0, v_image=0.01**2, seeds=1, n=10_000)
    assert (high - low) / 2 == pytest.approx(0.0196, abs=1e-5)


def test_outcomes_that_are_all_alike_are_no_certainty() -> None:
    assert interval(1.0, 0.0, 0.0, seeds=3, n=10) == pytest.approx((0.72247, 1), abs=5e-6)
    only = [("a", 0, "clean", 0, 0.95)]
    row = summary(table(only), {}, lambda *key: np.ones((1, 100))).iloc[0]
    assert (row["low"], row["high"]) == wilson(95, 100)


def test_variance_of_a_single_network_is_that_of_its_images() -> None:
    outcomes = np.array([[0.0, 1.0, 1.0, 0.0]])
    assert crossed(outcomes) == (0.0, pytest.approx(np.var([0, 1, 1, 0], ddof=1) / 4))


def test_variance_parts_are_found_in_simulated_outcomes() -> None:
    random = np.random.default_rng(0)
    seeds, n, parts = 4, 50, []
    for _ in range(4000):
        seed, image = random.normal(0, 0.3, (seeds, 1)), random.normal(0, 1, (1, n))
        parts.append(crossed(seed + image + random.normal(0, 0.5, (seeds, n))))
    v_seed, v_image = np.mean(parts, axis=0)
    # The part of the seeds carries the residual's share, which belongs to the mean's variance.
    assert v_seed == pytest.approx(0.3**2 / seeds + 0.5**2 / (seeds * n), rel=0.05)
    assert v_image == pytest.approx(1 / n, rel=0.05)


def table(rows: list[tuple]) -> pd.DataFrame:
    full = [
        (m, "robustness", "d", s, c, level, "accuracy", v, 100, "r") for m, s, c, level, v in rows
    ]
    return pd.DataFrame(full, columns=list(COLUMNS))


ROWS = [
    ("a", 0, "clean", 0, 0.9), ("a", 0, "fog", 1, 0.8), ("a", 0, "snow", 1, 0.4),
    ("a", 1, "clean", 0, 1.0), ("a", 1, "fog", 1, 0.6), ("a", 1, "snow", 1, 0.6),
    ("b", 0, "clean", 0, 0.5), ("b", 0, "fog", 1, 0.5), ("b", 0, "snow", 1, 0.5),
]  # fmt: skip


def test_means_are_taken_over_cells_and_seeds() -> None:
    a, b = summary(table(ROWS), {"weather": ["fog"]}).to_dict("records")
    assert (a["model"], a["seeds"], a["n"]) == ("a", 2, 100)
    assert a["clean"] == pytest.approx(0.95) and a["value"] == pytest.approx(0.6)
    assert a["relative"] == pytest.approx(0.6 / 0.95) and a["weather"] == pytest.approx(0.7)
    assert a["low"] < 0.6 < a["high"]
    assert b["value"] == 0.5 and b["relative"] == 1.0 and b["seeds"] == 1


def test_the_interval_without_images_is_a_bound() -> None:
    random = np.random.default_rng(1)
    cells = random.random((2, 100)) < [[0.7], [0.3]]
    rows = [("a", 0, "clean", 0, 0.9)]
    rows += [("a", 0, c, 1, v) for c, v in zip(("fog", "snow"), cells.mean(axis=1), strict=True)]
    exact = summary(table(rows), {}, lambda *key: cells).iloc[0]
    bound = summary(table(rows), {}).iloc[0]
    assert exact["value"] == pytest.approx(cells.mean())
    assert bound["low"] < exact["low"] and exact["high"] < bound["high"]
    of_image = cells.mean(axis=0)
    half = 1.984 * of_image.std(ddof=1) / 10  # t with 99 degrees of freedom
    assert (exact["high"] - exact["low"]) / 2 == pytest.approx(half, rel=1e-3)


def test_conditions_keep_their_order() -> None:
    averaged = by_condition(table(ROWS))
    a = averaged[averaged["model"] == "a"]
    assert list(a["condition"]) == ["clean", "fog", "snow"] and list(a["seeds"]) == [2, 2, 2]
    assert list(a["value"]) == pytest.approx([0.95, 0.7, 0.5])
