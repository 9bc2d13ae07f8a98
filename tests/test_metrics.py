import math
from typing import Any

import numpy as np
import pytest

from harness.suites.metric import Metric, array_name, is_bound, parts_of, variant
from harness.suites.metrics import (
    ACCURACY,
    BRIER,
    ECE,
    ERROR,
    METRICS,
    NLL,
    SCORES,
    SQUARED_CALIBRATION_ERROR,
    TOP5,
    Metrics,
    full_title,
    hits,
    is_by_image,
    metric_of,
    span_of,
)

OF_LOGITS = [metric for metric in METRICS.values() if metric.of_images is not None]


def logits_of(confidences: list[float], others: int = 1) -> np.ndarray:
    """Logits whose softmax gives class 0 these probabilities."""
    p = np.array(confidences)[:, None]
    return np.log(np.concatenate([p, np.repeat((1 - p) / others, others, axis=1)], axis=1))


def test_ece_of_a_worked_example() -> None:
    # Confidences .95 (hit), .95 (miss): gap .45; .35 (hit), .35 (miss): gap .15; mean .30.
    logits = logits_of([0.95, 0.95, 0.35, 0.35], others=3)
    assert ECE(logits, np.array([0, 1, 0, 1])) == pytest.approx(0.30)


def test_ece_counts_full_confidence_in_the_last_bin() -> None:
    logits = np.array([[1000.0, 0.0]])
    assert ECE(logits, np.array([0])) == 0
    assert ECE(logits, np.array([1])) == 1


def test_ece_bins_are_closed_on_the_right() -> None:
    # 2/3 is the right edge of bin 10 of 15: the two lie in one bin, where their gaps cancel.
    logits = logits_of([10 / 15 - 1e-9, 10 / 15 - 1e-12])
    assert ECE(logits, np.array([0, 1])) == pytest.approx(abs(0.5 - 10 / 15), abs=1e-6)


def test_ece_of_a_calibrated_toy_is_zero() -> None:
    assert ECE(logits_of([0.75] * 4), np.array([0, 0, 0, 1])) == pytest.approx(0, abs=1e-12)


def test_brier_by_hand() -> None:
    # (0.8 - 1)^2 + 0.2^2 = 0.08, and 0.8^2 + (0.2 - 1)^2 = 1.28.
    assert BRIER(logits_of([0.8, 0.8]), np.array([0, 1])) == pytest.approx((0.08 + 1.28) / 2)


def test_nll_by_hand() -> None:
    expected = -(math.log(0.8) + math.log(0.2)) / 2
    assert NLL(logits_of([0.8, 0.8]), np.array([0, 1])) == pytest.approx(expected)


def test_accuracy_and_top5_by_hand() -> None:
    logits = np.tile(np.arange(10.0), (4, 1))  # classes 9, 8, 7, 6, 5 in falling order
    labels = np.array([9, 5, 4, 0])
    assert hits(logits, labels).tolist() == [True, False, False, False]
    assert ACCURACY(logits, labels) == 0.25 and TOP5(logits, labels) == 0.5
    assert ERROR(logits, labels) == 0.75


def test_of_equal_logits_the_first_counts() -> None:
    logits, labels = np.zeros((2, 8)), np.array([0, 5])
    assert hits(logits, labels).tolist() == [True, False]
    assert TOP5(logits, labels) == 0.5


@pytest.mark.parametrize("metric", OF_LOGITS, ids=lambda m: m.name)
class TestOfLogits:
    def test_it_is_the_mean_of_its_images(self, metric: Metric) -> None:
        random = np.random.default_rng(0)
        logits, labels = random.normal(size=(50, 7)).astype(np.float32), random.integers(0, 7, 50)
        assert metric.of_images is not None
        each = metric.of_images(logits, labels)
        assert each.shape == (50,)
        assert metric(logits, labels) == pytest.approx(each.astype(float).mean(), abs=1e-12)
        assert metric.low <= metric(logits, labels) <= metric.high

    def test_it_does_not_change_the_logits(self, metric: Metric) -> None:
        logits, labels = np.random.default_rng(0).normal(size=(5, 3)), np.array([0, 1, 2, 0, 1])
        before = logits.copy()
        metric(logits, labels)
        assert np.array_equal(logits, before)

    def test_no_images_are_refused(self, metric: Metric) -> None:
        with pytest.raises(ValueError, match="at least one image; got 0"):
            metric(np.zeros((0, 3)), np.zeros(0, int))

    def test_labels_of_another_shape_are_refused(self, metric: Metric) -> None:
        with pytest.raises(ValueError, match=r"`labels` must have shape \(2,\), one per image"):
            metric(np.zeros((2, 3)), np.zeros((2, 1), int))


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda m: m.name)
def test_every_metric_says_what_it_is(metric: Metric) -> None:
    assert metric.title and metric.meaning.endswith("."), "one sentence, for the glossary"
    assert metric.low < metric.high
    assert metric.better in ("up", "down", "neither")
    assert Metric(**metric.describe()) == metric, "as JSON keeps it"


def test_rates_are_printed_in_per_cent_and_signs_say_what_is_better() -> None:
    rates = ["accuracy", "error", "top5", "robust_accuracy", "attack_success"]
    assert [m.name for m in METRICS.values() if m.is_rate][:5] == rates
    assert (ACCURACY.sign, ECE.sign, METRICS["entropy"].sign) == (1, -1, 0)
    assert all(metric in METRICS.values() for metric in SCORES)


def test_of_an_unknown_metric_nothing_is_known() -> None:
    blank = METRICS["reconstruction_error"]
    assert (blank.sign, blank.is_rate, blank.meaning) == (0, False, "")
    assert blank.title == "reconstruction error" and "reconstruction_error" not in METRICS


def test_a_metric_that_is_defined_twice_is_refused() -> None:
    known = Metrics()
    known.add(ACCURACY)
    known.add(Metric(**ACCURACY.describe()))
    with pytest.raises(ValueError, match="`accuracy` is defined twice. Rename one"):
        known.add(Metric("accuracy", "share of hits"))


def test_results_declare_what_the_metric_itself_may_say_better() -> None:
    known = Metrics()
    known.declare(Metric("auroc", "AUROC", "As it was described once.", "up").describe())
    assert known["auroc"].sign == 1
    known.declare(Metric("auroc", "another", better="up").describe())
    assert known["auroc"].title == "AUROC"
    known.add(Metric("auroc", "area under the curve", "As it is described now.", "up"))
    assert known["auroc"].title == "area under the curve"


@pytest.mark.parametrize(
    "other", [{"better": "down"}, {"better": "up", "unit": "rate"}, {"better": "up", "high": 1.0}]
)
def test_two_runs_that_read_a_metric_differently_are_refused(other: dict[str, Any]) -> None:
    known = Metrics()
    known.declare(Metric("auroc", "AUROC", better="up").describe())
    with pytest.raises(ValueError, match="the metric `auroc` has .*, that of another run"):
        known.declare(Metric("auroc", "AUROC", **other).describe())
    known.add(Metric("auroc", "AUROC", better="down"))
    known.declare(Metric("auroc", "AUROC", better="up").describe())  # older than the metric itself
    assert known["auroc"].sign == -1


def test_variants_are_parts_joined() -> None:
    whole = variant("used", "", "head 2")
    assert whole == "used, head 2" and parts_of(whole) == ["used", "head 2"] and parts_of("") == []
    assert is_bound("loss, low") and is_bound("b, p10") and not is_bound("used")
    assert full_title("entropy", whole) == "row entropy (used, head 2)"
    assert full_title("accuracy", "") == "accuracy"


def test_an_array_is_named_after_its_metric() -> None:
    assert array_name(NLL) == "nll" and array_name(NLL, "sharp") == "nll:sharp"
    assert metric_of("nll:sharp") == (NLL, "sharp") and metric_of("nll") == (NLL, "")
    assert metric_of("logits") is None and metric_of("map:used") is None


def test_a_difference_has_another_range_than_what_it_is_of() -> None:
    assert span_of("gini", "used") == (0, 1)
    assert span_of("gini", "over matched") == (-1, 1)
    assert span_of("gain", "over matched") == (-1, 1)
    assert span_of("entropy", "over matched") == (-math.inf, math.inf)
    assert span_of("nobody knows", "") == (-math.inf, math.inf)


def squares_by_hand(gaps: list[list[float]]) -> float:
    """Sum over bins of n_B / N times (mean² less variance of the mean), in points²."""
    n = sum(map(len, gaps))
    parts = [len(gap) / n * (np.mean(gap) ** 2 - np.var(gap, ddof=1) / len(gap)) for gap in gaps]
    return float(1e4 * sum(parts))


def test_squared_calibration_error_by_hand() -> None:
    assert SQUARED_CALIBRATION_ERROR.of_images is not None
    logits, labels = logits_of([0.95, 0.95, 0.7, 0.7, 0.7]), np.array([0, 1, 0, 0, 1])
    expected = squares_by_hand([[0.05, -0.95], [0.3, 0.3, -0.7]])
    assert SQUARED_CALIBRATION_ERROR(logits, labels) == pytest.approx(expected)
    # A bin of one image says nothing, and adds nothing.
    alone = SQUARED_CALIBRATION_ERROR(logits_of([0.95, 0.95, 0.55]), np.array([0, 0, 0]))
    assert alone == pytest.approx(2 / 3 * squares_by_hand([[0.05, 0.05]]))
    assert SQUARED_CALIBRATION_ERROR(logits_of([1 - 1e-12]), np.array([1])) == 0


def test_chance_adds_to_ece_and_not_to_the_squared_error() -> None:
    generator, found = np.random.default_rng(0), []
    for _ in range(400):
        confidences = generator.uniform(0.5, 1, 355)
        labels = (generator.random(355) > confidences).astype(int)  # calibrated
        logits = logits_of(confidences.tolist())
        found.append((ECE(logits, labels), SQUARED_CALIBRATION_ERROR(logits, labels)))
    ece, squares = np.transpose(found)
    assert ece.mean() > 0.03 and ece.min() > 0
    assert abs(squares.mean()) < 3 * squares.std() / 20
    assert squares.std() < 40 and (squares < 0).any()


def test_what_is_a_mean_over_images() -> None:
    assert is_by_image("nll", "") and is_by_image("nfe", "") and is_by_image("accuracy", "class 3")
    assert not is_by_image("nfe", "fewest") and not is_by_image("nfe_rho", "loss")
    assert not is_by_image("ece", "") and not is_by_image("auroc", "")
