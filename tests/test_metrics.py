import math

import pytest
import torch

from harness.suites.metrics import METRICS, accuracy, brier, ece, hits, nll, top5


def logits_of(confidences: list[float], others: int = 1) -> torch.Tensor:
    """Logits whose softmax gives class 0 these probabilities."""
    p = torch.tensor(confidences, dtype=torch.float64)[:, None]
    return torch.cat([p, (1 - p).expand(-1, others) / others], dim=1).log()


def test_ece_of_a_worked_example() -> None:
    # Confidences .95 (hit), .95 (miss): gap .45; .35 (hit), .35 (miss): gap .15; mean .30.
    logits = logits_of([0.95, 0.95, 0.35, 0.35], others=3)
    labels = torch.tensor([0, 1, 0, 1])
    assert ece(logits, labels) == pytest.approx(0.30)


def test_ece_counts_full_confidence_in_the_last_bin() -> None:
    logits = torch.tensor([[1000.0, 0.0]])
    assert ece(logits, torch.tensor([0])) == 0
    assert ece(logits, torch.tensor([1])) == 1


def test_ece_bins_are_closed_on_the_right() -> None:
    # 2/3 is the right edge of bin 10 of 15: the two lie in one bin, where their gaps cancel.
    logits = logits_of([10 / 15 - 1e-9, 10 / 15 - 1e-12])
    assert ece(logits, torch.tensor([0, 1])) == pytest.approx(abs(0.5 - 10 / 15), abs=1e-6)


def test_ece_of_a_calibrated_toy_is_zero() -> None:
    logits, labels = logits_of([0.75] * 4), torch.tensor([0, 0, 0, 1])
    assert ece(logits, labels) == pytest.approx(0, abs=1e-12)


def test_brier_by_hand() -> None:
    # (0.8 - 1)^2 + 0.2^2 = 0.08, and 0.8^2 + (0.2 - 1)^2 = 1.28.
    assert brier(logits_of([0.8, 0.8]), torch.tensor([0, 1])) == pytest.approx((0.08 + 1.28) / 2)


def test_nll_by_hand() -> None:
    expected = -(math.log(0.8) + math.log(0.2)) / 2
    assert nll(logits_of([0.8, 0.8]), torch.tensor([0, 1])) == pytest.approx(expected)


def test_accuracy_and_top5_by_hand() -> None:
    logits = torch.arange(10.0).repeat(4, 1)  # classes 9, 8, 7, 6, 5 in falling order
    labels = torch.tensor([9, 5, 4, 0])
    assert hits(logits, labels).tolist() == [True, False, False, False]
    assert accuracy(logits, labels) == 0.25 and top5(logits, labels) == 0.5


def test_scores_do_not_change_the_logits() -> None:
    logits, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    before = logits.clone()
    for metric in (*METRICS, top5):
        metric(logits, labels)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("metric", [*METRICS, top5])
def test_no_images_are_refused(metric) -> None:
    with pytest.raises(ValueError, match="at least one image; got 0"):
        metric(torch.zeros(0, 3), torch.zeros(0).long())


@pytest.mark.parametrize("metric", METRICS)
def test_labels_of_another_shape_are_refused(metric) -> None:
    with pytest.raises(ValueError, match=r"`labels` must have shape \(2,\), one per image"):
        metric(torch.zeros(2, 3), torch.zeros(2, 1).long())
