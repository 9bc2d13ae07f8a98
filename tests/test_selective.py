import numpy as np
import pytest
from scipy.special import softmax

from harness.suites.calibration import fit_temperature, temperatures
from harness.suites.metric import Metric
from harness.suites.metrics import ACCURACY, METRICS, NLL

AURC, EXCESS, AT_80 = (METRICS[name] for name in ("aurc", "excess_aurc", "accuracy_at_80"))


def draw(rng: np.random.Generator, n: int, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too sure, and labels."""
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) * 1.5
    logits[np.arange(n), labels] += 2
    return logits.astype(np.float32), labels


def by_definition(logits: np.ndarray, labels: np.ndarray) -> float:
    """AURC as the paper has it: over every threshold, the error among those above it."""
    confidence = softmax(logits.astype(np.float64), axis=1).max(axis=1)
    wrong = logits.argmax(axis=1) != labels
    return float(np.mean([wrong[confidence >= threshold].mean() for threshold in confidence]))


@pytest.mark.parametrize("n", [1, 2, 7, 300])
def test_aurc_is_the_mean_risk_over_thresholds(n: int) -> None:
    logits, labels = draw(np.random.default_rng(n), n)
    assert AURC(logits, labels) == pytest.approx(by_definition(logits, labels), abs=1e-12)
    tied = np.repeat(logits[: n // 3 + 1], 3, axis=0)[:n]
    assert AURC(tied, labels) == pytest.approx(by_definition(tied, labels), abs=1e-12)
    assert AURC(np.zeros_like(logits), labels) == pytest.approx(np.mean(labels != 0))


def test_excess_is_zero_where_errors_come_last_and_equal_where_all_or_none_are_wrong() -> None:
    labels, sure = np.zeros(100, int), np.linspace(1, 5, 100)
    logits = np.stack([sure, 0 * sure], axis=1)
    logits[:20] = logits[:20, ::-1]  # the least sure ones are wrong
    assert EXCESS(logits, labels) == pytest.approx(0, abs=1e-12)
    logits[:20], logits[80:] = logits[:20, ::-1], logits[80:, ::-1]
    assert EXCESS(logits, labels) > 0.2
    none_wrong, all_wrong = np.stack([sure, 0 * sure], axis=1), np.stack([0 * sure, sure], axis=1)
    assert EXCESS(none_wrong, labels) == 0 and AURC(all_wrong, labels) == 1
    assert EXCESS(all_wrong, labels) == pytest.approx(0, abs=1e-12)


def test_accuracy_at_80_is_that_of_the_surest() -> None:
    logits, labels = draw(np.random.default_rng(0), 1000)
    order = np.argsort(-softmax(logits.astype(float), axis=1).max(axis=1))[:800]
    assert AT_80(logits, labels) == pytest.approx(ACCURACY(logits[order], labels[order]))
    assert AT_80(logits[:1], labels[:1]) == ACCURACY(logits[:1], labels[:1])


@pytest.mark.parametrize("metric", [AURC, EXCESS, AT_80, METRICS["nll_scaled"]])
def test_the_spread_over_images_is_the_standard_error(metric: Metric) -> None:
    rng, means, errors = np.random.default_rng(0), [], []
    assert metric.of_images is not None
    for _ in range(300):
        values = metric.of_images(*draw(rng, 500))
        means.append(values.mean())
        errors.append(values.std() / len(values) ** 0.5)
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.1)


def test_a_temperature_undoes_a_factor() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 5)) * 2
    labels = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.05)
    scaled = METRICS["nll_scaled"](3 * logits, labels)
    assert scaled == pytest.approx(NLL(logits, labels), rel=1e-3)
    assert scaled < NLL(3 * logits, labels) - 0.1
    assert METRICS["scaling_temperature"](3 * logits, labels) == pytest.approx(3, rel=0.05)
    raw, cured = METRICS["ece"](3 * logits, labels), METRICS["ece_scaled"](3 * logits, labels)
    assert cured < 0.03 < raw


def test_no_image_has_a_part_in_its_own_temperature() -> None:
    logits, labels = draw(np.random.default_rng(0), 101)
    before = temperatures(logits, labels)
    labels[50] = (labels[50] + 1) % 10
    after = temperatures(logits, labels)
    assert (after[::2] == before[::2]).all() and (after[1::2] != before[1::2]).all()
    assert temperatures(logits[:1], labels[:1]).tolist() == [1]
