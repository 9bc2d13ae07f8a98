"""Distances of samples, against closed forms; planted samplers are told apart."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from harness.suites import image_features, sample_quality
from harness.suites.base import Cell
from harness.suites.datasets import Split, as_input, load
from harness.suites.generation import measure
from harness.suites.generation_metrics import MOST, PRECISION, compared
from harness.suites.image_features import describe, nearest_training, reference_of
from harness.suites.sample_quality import covered, mmd2, nearest_label, sliced_wasserstein

RANDOM = np.random.default_rng


def test_a_shift_is_its_length_over_the_root_of_the_dimension() -> None:
    x, shift = RANDOM(0).normal(size=(50, 8)), RANDOM(1).normal(size=8)
    directions, _ = np.linalg.qr(RANDOM(2).normal(size=(8, 8)))  # all of space: no chance is left
    found = sliced_wasserstein((x + shift)[::-1] @ directions, x @ directions)
    assert found == pytest.approx(np.linalg.norm(shift) / math.sqrt(8), rel=1e-12)


def test_two_gaussians_are_as_far_apart_as_their_deviations() -> None:
    x, y = RANDOM(3).normal(size=(20000, 4)), 3 * RANDOM(4).normal(size=(20000, 4))
    assert sliced_wasserstein(x, y) == pytest.approx(2.0, abs=0.05)


def test_the_sliced_distance_of_shuffled_rows_is_zero() -> None:
    x = RANDOM(5).normal(size=(30, 3))
    assert sliced_wasserstein(x[::-1], x) == 0


def test_mmd_of_two_points_is_that_of_their_kernels() -> None:
    a, b = np.array([1.0, -2.0]), np.array([0.5, 3.0])
    x, y = np.tile(a, (10, 1)), np.tile(b, (10, 1))

    def k(u: np.ndarray, v: np.ndarray) -> float:
        return float((u @ v / 2 + 1) ** 3)

    value, low, high = mmd2(x, y)
    assert value == pytest.approx(k(a, a) + k(b, b) - 2 * k(a, b))
    assert low == pytest.approx(value) == high


def test_mmd_is_zero_in_the_mean_where_nothing_differs_but_chance() -> None:
    random = RANDOM(6)
    classes = np.arange(40) % 4
    centers = 2 * random.normal(size=(4, 5))  # pairs of one class, as of the suite
    found = np.array([
        mmd2(*(centers[classes] + random.normal(size=(2, 40, 5)))) for _ in range(400)
    ])  # fmt: skip
    error = found[:, 0].std() / 20
    assert abs(found[:, 0].mean()) < 3 * error
    inside = (found[:, 1] <= 0) & (found[:, 2] >= 0)
    assert inside.mean() > 0.9


def test_the_interval_of_mmd_covers_what_many_samples_say() -> None:
    random = RANDOM(7)
    found = np.array([
        mmd2(random.normal(size=(100, 3)), 0.7 + random.normal(size=(100, 3))) for _ in range(300)
    ])  # fmt: skip
    truth = found[:, 0].mean()
    assert truth > 0.5
    assert ((found[:, 1] <= truth) & (found[:, 2] >= truth)).mean() > 0.88


def test_mmd_in_parts_is_mmd(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = RANDOM(8).normal(size=(2, 50, 4))
    whole = mmd2(x, y)
    monkeypatch.setattr(sample_quality, "AT_A_TIME", 300)
    assert mmd2(x, y) == pytest.approx(whole)


def test_too_few_pairs_have_no_mmd() -> None:
    assert all(math.isnan(value) for value in mmd2(np.zeros((3, 2)), np.ones((3, 2))))


def test_equal_sets_cover_each_other_and_distant_ones_do_not() -> None:
    x = RANDOM(9).normal(size=(60, 4))
    assert covered(x, x[::-1]).all()
    assert not covered(x, x + 100).any() and not covered(x + 100, x).any()


def test_a_sampler_of_one_mode_of_two_is_precise_and_covers_half() -> None:
    random = RANDOM(10)
    real = np.concatenate([random.normal(size=(100, 2)), 50 + random.normal(size=(100, 2))])
    samples = random.normal(size=(200, 2))
    assert covered(samples, real).mean() > 0.9
    assert 0.4 < covered(real, samples).mean() <= 0.5


def test_radii_are_those_of_the_third_neighbor() -> None:
    y = np.array([[0.0], [1.0], [2.0], [10.0]])  # radii 10, 9, 8 and 10
    x = np.array([[-10.0], [-10.1], [20.0], [20.1]])
    assert covered(x, y).tolist() == [True, False, True, False]


def test_a_nearest_sample_gives_its_label() -> None:
    x, labels = np.array([[0.0], [10.0]]), np.array([7, 3])
    assert nearest_label(x, labels, np.array([[4.0], [6.0]])).tolist() == [7, 3]


@pytest.mark.parametrize("at_a_time", [4096, 3])
def test_the_nearest_training_image_and_whether_it_is_copied(
    monkeypatch: pytest.MonkeyPatch, at_a_time: int
) -> None:
    monkeypatch.setattr(image_features, "AT_A_TIME", at_a_time)
    draw = torch.Generator().manual_seed(0)
    training = torch.randint(0, 256, (10, 3, 8, 8), generator=draw, dtype=torch.uint8)
    x = training.float() / 255
    between = (x[2] + x[5]) / 2
    images = torch.stack([x[7], x[4] + 0.01, between])
    distance, copied = nearest_training(images, training)
    half = float((x[2] - x[5]).square().mean().sqrt()) / 2
    assert distance.tolist() == pytest.approx([0, 0.01, half], abs=1e-5)
    assert copied.tolist() == [True, True, False]


@pytest.fixture(scope="module")
def digits() -> tuple[Split, Split, Split]:
    """Digits to learn from, others for a sampler to return, and the real ones: 1087, 355, 355."""
    whole, test = (load("digits", train=half, root=Path("none")) for half in (True, False))
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))

    def part(which: Tensor) -> Split:
        return Split(whole.images[which], whole.labels[which], whole.classes, flip=False)

    return part(order[355:]), part(order[:355]), test


@pytest.fixture(scope="module")
def known(digits: tuple[Split, Split, Split]) -> Iterator[dict[str, Tensor]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_features, "STEPS", 150)
        yield reference_of(digits[0])


def by_class(images: Tensor, of: Tensor, labels: Tensor, most: int = 10**6) -> Tensor:
    """For each label one of the first `most` images of its class, each in turn."""
    found, turn = [], [0] * 10
    for k in labels.tolist():
        own = (of == k).nonzero()[:most, 0]
        found.append(images[own[turn[k] % len(own)]])
        turn[k] += 1
    return torch.stack(found)


Planted = dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def planted(digits: tuple[Split, Split, Split], known: dict[str, Tensor]) -> Planted:
    """What is measured of samplers with known faults, by sampler and metric."""
    training, held_out, test = digits
    good = by_class(as_input(held_out.images), held_out.labels, test.labels)
    own = as_input(training.images)
    zeros = torch.zeros_like(test.labels)
    samplers = {
        "good": good,
        "few": by_class(own, training.labels, test.labels, most=2),
        "one class": by_class(as_input(held_out.images), held_out.labels, zeros),
        "copies": by_class(own, training.labels, test.labels),
        "blurred": gaussian_blur(good, 9, 2.0),
        "wrong classes": good.roll(1, 0),
    }
    real = describe(as_input(test.images), test.labels, known)
    fixed = {"labels": test.labels, "indices": torch.arange(len(test))}
    fixed |= {f"real_{name}": real[name] for name in ("features", "projections")}
    found = {}
    for name, images in samplers.items():
        arrays = describe(images, test.labels, known) | fixed
        rows = measure(Cell(name), {k: v.numpy() for k, v in arrays.items()})
        found[name] = {f"{r.metric} {r.variant}".strip(): r.value for r in rows}
    found["real"] = {k: float(real[k].float().mean()) for k in ("nearest_training", "memorized")}
    return found


class TestPlantedSamplers:
    def test_held_out_images_are_good_samples(self, planted: Planted) -> None:
        good = planted["good"]
        assert good["feature_mmd2 low"] < 0 < good["feature_mmd2 high"]
        assert good["sample_precision"] > 0.85 and good["sample_recall"] > 0.85
        assert good["sample_accuracy"] > 0.85 and good["memorized"] < 0.05
        assert good["nearest_training"] == pytest.approx(
            planted["real"]["nearest_training"], rel=0.1
        )

    def test_a_few_images_of_each_class_show_in_recall(self, planted: Planted) -> None:
        few, good = planted["few"], planted["good"]
        assert few["sample_recall"] < 0.3 and few["sample_precision"] > 0.8
        assert few["sample_accuracy"] < good["sample_accuracy"] - 0.1
        assert few["feature_mmd2 low"] > 0 and few["sliced_w2"] > 2 * good["sliced_w2"]

    def test_a_single_class_shows_everywhere_but_in_precision(self, planted: Planted) -> None:
        one = planted["one class"]
        assert one["sample_precision"] > 0.8
        assert one["sample_recall"] < 0.2 and one["sample_accuracy"] < 0.2
        assert one["class_agreement"] < 0.2 and one["feature_mmd2 low"] > 0.5

    def test_copies_of_training_images_show_in_the_distance_to_them_alone(
        self, planted: Planted
    ) -> None:
        copies = planted["copies"]
        assert copies["memorized"] == 1 and copies["nearest_training"] == 0
        assert planted["real"]["memorized"] < 0.05 < planted["real"]["nearest_training"]
        assert copies["sample_precision"] > 0.85 and copies["sample_recall"] > 0.85
        assert copies["feature_mmd2 low"] < 0.02

    def test_blur_shows_in_mmd_pixels_and_recall(self, planted: Planted) -> None:
        blurred, good = planted["blurred"], planted["good"]
        assert blurred["feature_mmd2 low"] > 0.05
        assert blurred["sliced_w2"] > 1.5 * good["sliced_w2"]
        assert blurred["sample_recall"] < good["sample_recall"] - 0.2
        assert blurred["sample_accuracy"] > 0.8  # their classes are still seen

    def test_wrong_classes_show_in_what_asks_for_classes_alone(self, planted: Planted) -> None:
        wrong, good = planted["wrong classes"], planted["good"]
        assert wrong["sample_accuracy"] < 0.3 and wrong["class_agreement"] < 0.3
        assert wrong["sample_recall"] == good["sample_recall"]
        assert wrong["sliced_w2"] == good["sliced_w2"]


def test_the_classifier_is_the_same_each_time_and_another_for_other_images(
    digits: tuple[Split, Split, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_features, "STEPS", 3)
    training, held_out, _ = digits
    one, again, other = (reference_of(half) for half in (training, training, held_out))
    assert one.keys() == again.keys() and all(torch.equal(one[k], again[k]) for k in one)
    assert not torch.equal(one["weight0"], other["weight0"])
    assert torch.equal(one["directions"], other["directions"])


def test_its_features_do_not_depend_on_the_batch(
    digits: tuple[Split, Split, Split], known: dict[str, Tensor]
) -> None:
    images, labels = as_input(digits[2].images[:20]), digits[2].labels[:20]
    whole, alone = describe(images, labels, known), describe(images[7:8], labels[7:8], known)
    for name, values in alone.items():
        torch.testing.assert_close(values[0], whole[name][7], rtol=1e-3, atol=2e-3)


def test_of_many_images_some_are_compared_in_pairs() -> None:
    count = 2 * MOST + 1
    rows = compared({"labels": np.zeros(count)})
    assert len(rows) == MOST == len(set(rows.tolist())) and rows[-1] < count
    assert PRECISION.of_cell is not None and PRECISION.of_cell({"labels": np.zeros(3)}, "") is None
