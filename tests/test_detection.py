"""AUROC, AUPR and FPR at 95 % TPR: against scikit-learn, by hand, and their variances."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from harness.suites import calibration, detection
from harness.suites.detection import MEASURES, aupr, auroc, energy, fpr95, influences, max_softmax
from harness.suites.metrics import METRICS


def drawn(n: int, m: int, digits: int | None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x, y = random.normal(1, 1, n), random.normal(0, 1, m)
    return (x, y) if digits is None else (x.round(digits), y.round(digits))


@pytest.mark.parametrize("digits", [None, 1, 0], ids=["no ties", "ties", "mostly ties"])
@pytest.mark.parametrize("n, m", [(200, 200), (100, 31), (40, 300), (1, 1), (5, 1)])
def test_measures_are_those_of_scikit_learn(n: int, m: int, digits: int | None) -> None:
    x, y = drawn(n, m, digits)
    labels, scores = np.r_[np.ones(n), np.zeros(m)], np.r_[x, y]
    assert auroc(x, y) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert aupr(x, y) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert fpr95(x, y) == false[np.argmax(true >= 0.95 - 1e-12)]


def test_auroc_is_the_count_of_mann_and_whitney() -> None:
    x, y = np.array([3.0, 2, 2, 0]), np.array([2.0, 1, 0])
    # 3 is above all three; 2 above two and equal to one, twice; 0 equal to one.
    assert auroc(x, y) == (3 + 2 * 2.5 + 0.5) / 12
    pairs = sum((a > b) + (a == b) / 2 for a in x for b in y)
    assert auroc(x, y) == pairs / 12 and auroc(y, x) == pytest.approx(1 - pairs / 12)


def test_a_constant_score_is_chance_and_a_perfect_one_is_perfect() -> None:
    same, apart = np.zeros(20), np.arange(20.0)
    assert (auroc(same, same[:5]), aupr(same, same[:5]), fpr95(same, same[:5])) == (
        pytest.approx((0.5, 0.8, 1.0))
    )
    assert (auroc(apart + 20, apart), aupr(apart + 20, apart)) == (1, 1)
    assert fpr95(apart + 20, apart) == 0 and fpr95(apart, apart + 20) == 1
    # 19 of 20 reach 1; the others that do are the false positives.
    assert fpr95(apart, np.array([0.5, 1.0, 7.0, -3.0])) == 0.5


def test_scores_are_ordered_as_probabilities_and_energies() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 10)).astype(np.float32)
    probabilities = softmax(logits.astype(float), axis=1).max(axis=1)
    assert np.array_equal(max_softmax(logits).argsort(), probabilities.argsort())
    assert energy(logits) == pytest.approx(np.log(np.exp(logits.astype(float)).sum(axis=1)))
    sure = np.array([[60.0, 0, 0], [70.0, 0, 0]])
    assert len(set(softmax(sure, axis=1).max(axis=1))) == 1, "both are 1 in float64"
    assert max_softmax(sure)[0] < max_softmax(sure)[1]


def test_the_variance_of_auroc_is_that_of_delong() -> None:
    x, y = drawn(60, 40, 1)
    above = (x[:, None] > y) + (x[:, None] == y) / 2
    expected = above.mean(axis=1).var() / 60 + above.mean(axis=0).var() / 40
    inside, outside = influences("ood_auroc", x, y)
    assert np.square(inside).sum() / 60**2 + np.square(outside).sum() / 40**2 == pytest.approx(
        expected
    )


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("n, m", [(300, 300), (600, 150)])
def test_variances_are_those_of_drawing_other_images(name: str, n: int, m: int) -> None:
    values, variances = [], []
    for seed in range(300):
        x, y = drawn(n, m, None, seed)
        inside, outside = influences(name, x + 0.5, y)
        values.append(MEASURES[name][0](x + 0.5, y))
        variances.append(np.square(inside).sum() / n**2 + np.square(outside).sum() / m**2)
    assert np.sqrt(np.mean(variances)) == pytest.approx(np.std(values), rel=0.15)


def test_scores_of_some_rows_at_a_time_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    arrays = {
        "in_logits": draw.normal(size=(23, 4)),
        "out_logits": draw.normal(size=(23, 4)),
        "out_indices": np.arange(23),
    }
    whole = [detection.scores(arrays, name) for name in detection.SCORES]
    monkeypatch.setattr(calibration, "AT_ONCE", 20)
    parts = [detection.scores(arrays, name) for name in detection.SCORES]
    assert np.array_equal(whole, parts)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("count", [30, 12])
def test_outcomes_have_the_measure_as_their_mean(name: str, count: int) -> None:
    random = np.random.default_rng(0)
    places = np.full(30, -1)
    places[np.arange(count) * 30 // count] = np.arange(count) * 7
    arrays = {
        "indices": np.arange(30) * 3,
        "labels": np.zeros(30, int),
        "in_logits": random.normal(size=(30, 4)) * 2,
        "out_logits": random.normal(size=(30, 4)),
        "out_indices": places,
    }
    found = METRICS[name].of_cell
    assert found is not None
    for score in detection.SCORES:
        x, y = detection.scores(arrays, score)
        assert (len(x), len(y)) == (30, count)
        outcome = found(arrays, score)
        assert outcome is not None
        values, positions = outcome
        assert values.mean() == pytest.approx(MEASURES[name][0](x, y), abs=1e-12)
        assert len(set(positions.tolist())) == len(values) == 30 + count
        inside, outside = influences(name, x, y)
        expected = np.square(inside).sum() / 30**2 + np.square(outside).sum() / count**2
        assert values.var() / len(values) == pytest.approx(expected)
    assert found(arrays, "other score") is None
    assert found({"indices": places, "labels": places}, "energy") is None
