"""Attacks against closed forms of a linear classifier, and against the authors' code.

The linear classifier is logistic regression (C = 1) on scikit-learn's digits / 16, the images are
its 355 stratified test images: which of them are robust is known exactly. SHARES are what the
authors' code (pyautoattack 0.2.0) left of them, one run each.
"""

import inspect
import math
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

from harness.suites.attacks import (
    ATTACKS,
    ENSEMBLES,
    Entry,
    contract,
    run_ensemble,
    square,
    unseen,
)
from harness.suites.attacks.apgd import checkpoints
from harness.suites.attacks.balls import Ball, move_onto_plane
from harness.suites.attacks.ensembles import CLEAN, ROBUST
from harness.suites.attacks.losses import cross_entropy, dlr, targeted_dlr

NORMS = ("linf", "l2")
# eps: exact, APGD-CE, APGD-T, FAB-T, Square
SHARES = {
    0.03: (0.9211, 0.9239, 0.9211, 0.9211, 0.9239),
    0.06: (0.8113, 0.8254, 0.8113, 0.8113, 0.8451),
    0.10: (0.5662, 0.5944, 0.5662, 0.5690, 0.6535),
}
TWO_IMAGES = 2.5 / 355
SHORT = {
    "fgsm": {},
    "pgd": {"iterations": 4, "restarts": 2},
    "apgd_ce": {"iterations": 12, "restarts": 2},
    "apgd_dlr": {"iterations": 12},
    "apgd_t": {"iterations": 8, "targets": 2},
    "fab": {"iterations": 2, "restarts": 2},
    "fab_t": {"iterations": 5, "restarts": 2, "targets": 2},
    "square": {"queries": 70},
}
RADIUS = {"linf": 0.06, "l2": 0.3}


@cache
def digits() -> tuple[np.ndarray, np.ndarray, Tensor, Tensor]:
    """Training images (N, 64) and labels, test images (355, 1, 8, 8), float64, and labels."""
    images, labels = load_digits(return_X_y=True)
    x, test, y, classes = train_test_split(
        images / 16, labels, test_size=355, random_state=0, stratify=labels
    )
    return x, y, torch.tensor(test).view(-1, 1, 8, 8), torch.tensor(classes)


@cache
def weights() -> tuple[Tensor, Tensor]:
    x, y, _, _ = digits()
    fit = LogisticRegression(C=1, max_iter=5000).fit(x, y)
    return torch.tensor(fit.coef_), torch.tensor(fit.intercept_)


class Linear:
    """Logits x W' + b, row by row, so that not even rounding depends on the batch."""

    def __init__(self, scale: float = 1) -> None:
        self.w, self.b = weights()
        self.scale, self.sizes = scale, list[int]()

    def __call__(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        flat, w, b = images.mean(1).flatten(1), self.w.to(images), self.b.to(images)
        if images.dtype == torch.float32:
            return self.scale * (flat @ w.T + b)
        return self.scale * ((flat[:, None] * w).sum(2) + b)


@cache
def linear() -> Linear:
    return Linear()


def sample(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Test images as gray pictures of three channels."""
    _, _, images, labels = digits()
    return images[:count].to(dtype).expand(-1, 3, -1, -1).contiguous(), labels[:count]


def planes() -> tuple[Tensor, Tensor, Tensor]:
    """Normals (N, K, 64) of every class against the label, gaps (N, K), images (N, 64)."""
    _, _, images, labels = digits()
    w, b = linear().w, linear().b
    x = images.flatten(1)
    a = w - w[labels][:, None]
    return a, (a * x[:, None]).sum(2) + b - b[labels][:, None], x


def is_robust(eps: float, norm: str) -> Tensor:
    """Whether no point of the ball and of [0, 1] is misclassified.

    "linf": gap_t + sum_j max(a_j, 0) min(eps, 1 - x_j) + max(-a_j, 0) min(eps, x_j) < 0. "l2": the
    nearest point of the plane, whose multiplier is found by bisection, is farther than eps.
    """
    a, gap, x = planes()
    room = torch.where(a > 0, 1 - x[:, None], x[:, None])
    if norm == "linf":
        far = gap + (a.abs() * room.clamp_max(eps)).sum(2) < 0
    else:
        low, high = torch.zeros_like(gap), torch.full_like(gap, 1e6)
        for _ in range(100):
            middle = (low + high) / 2
            move = torch.minimum(middle[..., None] * a.abs(), room)
            short = gap + (a.abs() * move).sum(2) < 0
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        move = torch.minimum(high[..., None] * a.abs(), room)
        reached = gap + (a.abs() * move).sum(2) >= -1e-9
        far = ~reached | (move.square().sum(2).sqrt() > eps)
    _, _, _, labels = digits()
    return far.scatter(1, labels[:, None], True).all(1) & (gap.max(1).values <= 0)


def is_right(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.argmax(1) == labels


def share(mask: Tensor) -> float:
    return float(mask.double().mean())


@pytest.mark.parametrize("eps", SHARES)
def test_the_ensemble_finds_every_linf_image_that_is_not_robust(eps: float) -> None:
    _, _, images, labels = digits()
    attacks = ENSEMBLES["standard"]
    if eps != 0.1:  # to save time; nothing is left to find after that many
        attacks = (*attacks[:3], Entry("square", {"queries": 2000}))
    outcome = run_ensemble(
        linear(), images.float(), labels, attacks, eps=eps, batch_size=355, every=True
    )
    exact = is_robust(eps, "linf")
    expected, *shares = SHARES[eps]
    assert round(share(outcome.by != CLEAN), 4) == 0.9662
    assert round(share(exact), 4) == expected
    assert torch.equal(outcome.robust, exact)
    for (name, hit), known in zip(outcome.hits.items(), shares, strict=True):
        left = share(outcome.attacked[name] & ~hit)
        print(f"eps {eps} {name} {left:.4f}, the authors' code {known:.4f}")
        if name == "square":  # better: see the next test
            assert expected - 1e-3 <= left <= min(known, expected + 0.02)
        else:
            assert abs(left - known) <= TWO_IMAGES


def test_square_is_weaker_where_the_last_place_is_never_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in the authors' code, where a fourth of the pixels of 8 x 8 never moves alone.

    At eps .06 that left .834, .837 and .842 for three seeds, their code .831 and .845, without it
    .811 for all seeds.
    """
    monkeypatch.setattr(square, "_place", lambda words, length, s: words * max(length - s, 1) >> 32)
    _, _, images, labels = digits()
    found = square.square(linear(), images.float(), labels, eps=0.06)
    left = share(is_right(linear()(found), labels))
    assert abs(left - SHARES[0.06][4]) < 6.5 / 355


@pytest.mark.parametrize("eps", [0.15, 0.3, 0.5])
def test_the_ensemble_finds_every_l2_image_that_is_not_robust(eps: float) -> None:
    _, _, images, labels = digits()
    quick = (*ENSEMBLES["standard"][:2], Entry("fab_t", {"targets": 3}))
    quick = (*quick, Entry("square", {"queries": 300}))
    outcome = run_ensemble(
        linear(), images.float(), labels, quick, eps=eps, norm="l2", batch_size=355, every=True
    )
    exact = is_robust(eps, "l2")
    a, gap, _ = planes()
    without_box = (gap + eps * a.square().sum(2).sqrt() < 0).sum(1) == 9
    assert not (without_box & ~exact).any()
    assert torch.equal(outcome.robust, exact)
    for name, hit in outcome.hits.items():
        left = share(outcome.attacked[name] & ~hit)
        print(f"eps {eps} {name} {left:.4f}, exact {share(exact):.4f}")
        assert left - share(exact) <= (0.25 if name == "square" else 0.05)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", SHORT)
def test_batch_order_and_neighbors_do_not_matter(name: str, norm: str) -> None:
    images, labels = sample(140, torch.float64)
    attack = partial(ATTACKS[name], Linear(), eps=RADIUS[norm], norm=norm, seed=3, **SHORT[name])
    indices = torch.arange(140) * 7
    whole = attack(images, labels, indices=indices)
    assert not torch.equal(whole, images)
    again = [
        attack(images[rows], labels[rows], indices=indices[rows])
        for rows in torch.arange(140).split(128)
    ]
    assert torch.equal(torch.cat(again), whole)
    shuffled = torch.randperm(140, generator=torch.Generator().manual_seed(0))
    for size in (13, 128):
        for rows in shuffled.split(size)[-3:]:
            part = attack(images[rows], labels[rows], indices=indices[rows])
            assert torch.equal(part, whole[rows])
    for i in range(6):
        one = slice(i, i + 1)
        assert torch.equal(attack(images[one], labels[one], indices=indices[one]), whole[one])


@pytest.mark.parametrize("name", SHORT)
def test_a_network_in_float32_gives_nearly_the_same_in_any_batch(name: str) -> None:
    images, labels = sample(20)
    attack = partial(ATTACKS[name], linear(), eps=0.02, **SHORT[name])
    whole = attack(images, labels)
    parts = [attack(images[rows], labels[rows], indices=rows) for rows in torch.arange(20).split(3)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", SHORT)
def test_results_lie_in_the_ball_and_in_the_unit_interval(name: str, norm: str) -> None:
    images, labels = sample(60)
    for eps in (0.0, 1e-4, RADIUS[norm], 1.0, 30.0):
        found = ATTACKS[name](linear(), images, labels, eps=eps, norm=norm, **SHORT[name])
        assert found.dtype == torch.float32 and found.isfinite().all()
        assert found.min() >= 0 and found.max() <= 1
        assert (Ball(eps, norm).size(found - images) <= eps + 1e-6).all()
    assert not is_right(linear()(found), labels).any() or name == "fgsm"
    assert torch.equal(ATTACKS[name](linear(), images, labels, eps=0.0, **SHORT[name]), images)


@pytest.mark.parametrize("name", SHORT)
def test_equal_seeds_give_equal_images_and_leave_the_global_generator(name: str) -> None:
    images, labels = sample(30)
    attack = partial(ATTACKS[name], linear(), images, labels, eps=0.03, **SHORT[name])
    state = torch.get_rng_state()
    first = attack(seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(attack(seed=1), first)
    random = name not in ("fgsm", "fab_t", "fab")
    assert torch.equal(attack(seed=2), first) != random


@pytest.mark.parametrize("name", SHORT)
def test_what_is_misclassified_is_left_alone(name: str) -> None:
    images, labels = sample(200)
    wrong = ~is_right(linear()(images), labels)
    assert wrong.any()
    found = ATTACKS[name](linear(), images, labels, eps=0.1, **SHORT[name])
    assert torch.equal(found[wrong], images[wrong])
    assert torch.equal(images, sample(200)[0])
    nothing = ATTACKS[name](linear(), images[:0], labels[:0], eps=0.1, **SHORT[name])
    assert nothing.shape == (0, 3, 8, 8)


@pytest.mark.parametrize("name", ["pgd", "apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t", "square"])
def test_broken_images_leave_the_batch(name: str) -> None:
    images, labels = sample(100)
    subject = Linear()
    found = ATTACKS[name](subject, images, labels, eps=0.1, **SHORT[name])
    broken = int((~is_right(linear()(found), labels)).sum())
    assert subject.sizes[0] == 100 and broken > 10
    rows = 3 if name == "fab_t" else 1  # runs on an image from the second turn on
    assert subject.sizes[-1] <= rows * (100 - broken + 5)
    if rows == 1:
        assert subject.sizes == sorted(subject.sizes, reverse=True)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ["apgd_t", "fab_t"])
def test_targets_are_searched_side_by_side_with_the_outcome_of_one_by_one(
    name: str, norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = sample(60, torch.float64)
    settings = {"iterations": 6, "restarts": 2, "targets": 9}
    attack = partial(ATTACKS[name], images=images, labels=labels, norm=norm, **settings)
    side_by_side, one_by_one = Linear(), Linear()
    near, eps = name == "fab_t", RADIUS[norm]
    for kind in [{"nearest": False}, {"nearest": True}] if near else [{}]:
        with monkeypatch.context() as patch:
            patch.setattr(contract, "TOGETHER", 1)
            expected = attack(one_by_one, eps=eps, **kind)
        found = attack(side_by_side, eps=eps, **kind)
        wrong = ~is_right(Linear()(expected), labels)
        assert torch.equal(~is_right(Linear()(found), labels), wrong)
        assert wrong.any() and not wrong.all()
        # An image leaves with its first hit, by any target; one that none hits is as it was.
        same = torch.ones_like(wrong) if kind.get("nearest") else ~wrong
        assert torch.equal(found[same], expected[same])
    assert len(side_by_side.sizes) < len(one_by_one.sizes) / 2
    assert max(side_by_side.sizes) <= contract.ROWS["cpu"] * 32**2 // 8**2


def test_an_image_leaves_with_all_of_its_targets() -> None:
    images, labels = sample(40, torch.float64)
    subject = Linear()
    found = ATTACKS["apgd_t"](subject, images, labels, eps=0.06, iterations=9, targets=9)
    left = int(is_right(Linear()(found), labels).sum())
    assert subject.sizes[-1] == 8 * left < 8 * 40


def test_fgsm_is_one_step_and_never_beats_pgd() -> None:
    images, labels = sample(100, torch.float64)
    images.requires_grad_()
    loss = functional.cross_entropy(linear()(images), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    images = images.detach()
    right = is_right(linear()(images), labels)
    one = ATTACKS["fgsm"](linear(), images, labels, eps=0.05)
    step = (images + 0.05 * gradient.sign()).clamp(0, 1)
    torch.testing.assert_close(one[right], step[right], rtol=0, atol=0)
    many = ATTACKS["pgd"](linear(), images, labels, eps=0.05)
    assert is_right(linear()(many), labels).sum() <= is_right(linear()(one), labels).sum()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e5, 1e-30])
@pytest.mark.parametrize("name", ["fgsm", "apgd_ce", "apgd_t", "fab_t"])
def test_logits_that_saturate_or_vanish_change_nothing(name: str, scale: float, norm: str) -> None:
    """Plain cross entropy in float32 has no gradient at all at 1e5 times these logits."""
    images, labels = sample(100)
    eps = RADIUS[norm]
    usual = ATTACKS[name](linear(), images, labels, eps=eps, norm=norm, **SHORT[name])
    subject = Linear(scale)
    found = ATTACKS[name](subject, images, labels, eps=eps, norm=norm, **SHORT[name])
    if scale > 1:
        assert not unseen(subject, images, labels).any()
        plain = images.clone().requires_grad_()
        value = functional.cross_entropy(subject(plain), labels, reduction="sum")
        assert (torch.autograd.grad(value, plain)[0].flatten(1) == 0).all(1).sum() > 50
    left, usual_left = (share(is_right(linear()(v), labels)) for v in (found, usual))
    # At 1e5 the cross entropy is the margin, of which one class has all of the gradient; at 1e-30
    # all classes have their share.
    slack = 0.15 if name in ("fgsm", "apgd_ce") else 0.02
    assert abs(left - usual_left) <= slack


class Broken(torch.autograd.Function):
    """The identity, with gradients of NaN and infinity at the first two images of a batch."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        gradient[:1], gradient[1:2] = math.nan, math.inf
        return gradient


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", SHORT)
def test_gradients_of_nan_infinity_or_zero_harm_no_image(name: str, norm: str) -> None:
    images, labels = sample(30)

    def nan(x: Tensor) -> Tensor:
        return linear()(Broken.apply(x))

    def zero(x: Tensor) -> Tensor:
        return linear()(x.detach()) + 0 * x.sum((1, 2, 3))[:, None]

    assert unseen(lambda x: linear()(x.detach()), images, labels).all()
    for subject, seen in ((nan, 28), (zero, 0)):
        assert (~unseen(subject, images, labels)).sum() == seen
        found = ATTACKS[name](subject, images, labels, eps=0.2, norm=norm, **SHORT[name])
        assert found.isfinite().all() and found.min() >= 0 and found.max() <= 1


def test_logits_that_are_not_finite_are_no_correct_answer() -> None:
    images, labels = sample(30)
    right = is_right(linear()(images), labels)

    def bright_is_nan(x: Tensor) -> Tensor:  # where the corner, black in digits, is not
        return torch.where(x[:, 0, 0, :1] > 0.05, math.nan, linear()(x))

    outcome = run_ensemble(bright_is_nan, images, labels, ENSEMBLES["standard"][3:], eps=0.1)
    assert torch.equal(outcome.by != CLEAN, right)
    assert not outcome.robust.any() and outcome.images.isfinite().all()
    nothing = run_ensemble(
        lambda x: math.nan * linear()(x), images, labels, ENSEMBLES["standard"], eps=0.1
    )
    assert (nothing.by == CLEAN).all()


def test_inference_mode_is_left_for_gradients() -> None:
    with torch.inference_mode():
        images, labels = sample(40)
        found = ATTACKS["apgd_ce"](linear(), images, labels, eps=0.1)
    assert is_right(linear()(found), labels).sum() < 30


def test_losses_are_their_formulas() -> None:
    logits = torch.randn(50, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels, targets = torch.arange(50) % 10, (torch.arange(50) + 3) % 10
    plain = functional.cross_entropy(logits, labels, reduction="none")
    value, weight = cross_entropy(logits, labels, targets)
    torch.testing.assert_close(functional.softplus(value), plain)
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(
        cross_entropy(logits, labels, targets)[0].sum(), logits, retain_graph=False
    )
    (known,) = torch.autograd.grad(
        functional.cross_entropy(logits, labels, reduction="sum"), logits
    )
    torch.testing.assert_close(slope * weight.exp()[:, None], known)
    for i, z in enumerate(logits.detach()):
        ordered, y = sorted(z.tolist(), reverse=True), int(labels[i])
        other = max(float(z[k]) for k in range(10) if k != y)
        expected = -(float(z[y]) - other) / (ordered[0] - ordered[2] + 1e-12)
        assert dlr(logits, labels, targets)[0][i].item() == pytest.approx(expected)
        spread = ordered[0] - (ordered[2] + ordered[3]) / 2 + 1e-12
        expected = -(float(z[y]) - float(z[targets[i]])) / spread
        assert targeted_dlr(logits, labels, targets)[0][i].item() == pytest.approx(expected)


@pytest.mark.parametrize("norm", NORMS)
def test_moves_onto_a_plane_are_the_smallest_inside_the_box(norm: str) -> None:
    random = torch.Generator().manual_seed(1)
    points = torch.rand(300, 3, 4, 4, dtype=torch.float64, generator=random)
    points[:50] = points[:50].round()
    normals = torch.randn(300, 3, 4, 4, dtype=torch.float64, generator=random)
    normals[250:, 1] = 0
    normals[260:270] *= 1e-30
    values = 5 * torch.randn(300, dtype=torch.float64, generator=random)
    values[260:270] *= 1e-30
    values[270:280] = 1e3  # out of reach
    normals[299], values[:2] = 0, 0
    moves = move_onto_plane(points, normals, values, norm)
    after = points + moves
    assert after.min() >= 0 and after.max() <= 1
    w, room = (
        normals.flatten(1),
        torch.where(
            (values[:, None] >= 0) ^ (normals.flatten(1) < 0),
            points.flatten(1),
            1 - points.flatten(1),
        ),
    )
    low, high = torch.zeros(300, dtype=torch.float64), torch.full((300,), 1e40, dtype=torch.float64)
    rate = w.abs() if norm == "l2" else torch.ones_like(w)
    for _ in range(400):
        middle = (low + high) / 2
        short = (w.abs() * torch.minimum(middle[:, None] * rate, room)).sum(1) < values.abs()
        low, high = torch.where(short, middle, low), torch.where(short, high, middle)
    size = torch.where(w != 0, torch.minimum(high[:, None] * rate, room), 0)
    torch.testing.assert_close(moves.flatten(1).abs(), size, rtol=1e-6, atol=1e-9)
    left = (values + (normals * moves).flatten(1).sum(1)).abs()
    reach = (w.abs() * room).sum(1) >= values.abs()
    assert (left[reach] <= 1e-9 * values.abs()[reach] + 1e-12).all() and reach.sum() > 150


def test_steps_are_checked_where_the_paper_says() -> None:
    windows = checkpoints(100)
    assert list(windows) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(windows.values()) == [22, 19, 16, 13, 10, 7, 6, 6]
    assert checkpoints(1) == {1: 1} and checkpoints(0) == {}


def test_squares_shrink_by_the_schedule_and_come_everywhere() -> None:
    sides = [square.side(query, 0.8, 32, 32) for query in range(5000)]
    changes = [i for i in range(1, 5000) if sides[i] != sides[i - 1]]
    assert changes == [11, 51, 201, 501, 1001, 2001, 4001]
    assert [sides[i] for i in [0, *changes]] == [29, 20, 14, 10, 7, 5, 4, 3]
    assert square.side(0, 1.0, 8, 20) == 8 and square.side(4999, 0.8, 8, 8) == 1
    words = torch.arange(0, 1 << 32, 12345)
    places = torch.bincount(square._place(words, 8, 3))
    assert len(places) == 6 and places.max() - places.min() < 10
    for s in (1, 2, 3, 6, 9, 29):
        bump = square.bump(s)
        assert bump.shape == (s, s) and float(bump.square().sum()) == pytest.approx(1)
        assert (bump[: s // 2] > 0).all() and (bump[s // 2 :] < 0).all()


class Noisy:
    """A linear classifier whose logits are noisy, by random numbers of its own."""

    def __init__(self, size: float) -> None:
        self.size, self.random = size, torch.Generator().manual_seed(0)

    def __call__(self, images: Tensor) -> Tensor:
        logits = linear()(images)
        return logits + self.size * torch.randn(logits.shape, generator=self.random)


def test_a_random_subject_is_judged_by_most_of_fresh_draws() -> None:
    images, labels = sample(100)
    noise = Noisy(2.0)
    fooled_once = torch.stack([~is_right(noise(images), labels) for _ in range(100)]).any(0)
    assert share(fooled_once) > 0.3
    rand = tuple(
        Entry(entry.attack, {**entry.settings, "iterations": 10}) for entry in ENSEMBLES["rand"]
    )
    barely = run_ensemble(Noisy(2.0), images, labels, rand, eps=1e-5)
    assert share(barely.robust) > 0.75 > 1 - share(fooled_once)
    far = run_ensemble(Noisy(2.0), images, labels, rand, eps=0.2)
    assert share(far.robust) < 0.1

    def fails(x: Tensor) -> Tensor:  # now and then
        return noise(x) * torch.where(torch.rand((), generator=noise.random) < 0.3, math.nan, 1)

    far = run_ensemble(fails, images, labels, rand, eps=0.2)
    assert share(far.robust) < 0.1 and far.images.isfinite().all()


def test_the_ensembles_are_the_published_ones() -> None:
    told = {name: [(e.attack, dict(e.settings)) for e in es] for name, es in ENSEMBLES.items()}
    assert [name for name, _ in told["standard"]] == ["apgd_ce", "apgd_t", "fab_t", "square"]
    assert {name for name, _ in told["plus"]} == {*ATTACKS} - {"fgsm", "pgd"}
    assert [s["draws"] for _, s in told["rand"]] == [20, 20]
    for entries in ENSEMBLES.values():
        for entry in entries:
            parameters = inspect.signature(ATTACKS[entry.attack]).parameters
            assert entry.settings.keys() <= parameters.keys()
            assert entry.settings.get("iterations", 100) == 100
            assert entry.settings.get("queries", 5000) == 5000
            assert entry.settings.get("targets", 9) == 9
            many = told["plus"] is told.get("plus") and entries is ENSEMBLES["plus"]
            many &= entry.attack in ("apgd_ce", "apgd_dlr", "fab")
            assert entry.settings["restarts"] == (5 if many else 1)


def test_an_ensemble_tells_which_attack_broke_an_image() -> None:
    images, labels = sample(200)
    short = tuple(Entry(name, SHORT[name]) for name in ("fgsm", "apgd_t", "square"))
    by_turns = run_ensemble(linear(), images, labels, short, eps=0.06, batch_size=33)
    for place, entry in enumerate(short):
        hit, attacked = by_turns.hits[entry.attack], by_turns.attacked[entry.attack]
        assert torch.equal(by_turns.by == place, hit)
        assert torch.equal(attacked, (by_turns.by == ROBUST) | (by_turns.by >= place))
    right = is_right(linear()(by_turns.images), labels)
    assert torch.equal(right, by_turns.robust)
    assert (by_turns.by == 0).any() and (by_turns.by == 1).any()
    same = (by_turns.images == images).flatten(1).all(1)
    assert torch.equal(same, by_turns.by < 0)
    each = run_ensemble(linear(), images, labels, short, eps=0.06, every=True)
    assert torch.equal(each.by, by_turns.by) and torch.equal(each.robust, by_turns.robust)
    torch.testing.assert_close(each.images, by_turns.images, rtol=0, atol=1e-5)
    assert all(torch.equal(mask, each.by != CLEAN) for mask in each.attacked.values())
    with pytest.raises(ValueError, match="names each attack once; got fgsm, fgsm"):
        run_ensemble(linear(), images, labels, (short[0], short[0]), eps=0.1)


def test_what_cannot_be_attacked_is_refused() -> None:
    images, labels = sample(5)
    attack = partial(ATTACKS["apgd_ce"], linear())
    for changed, match in (
        ({"images": 3 * images}, "`images` must lie in \\[0, 1\\]; got \\[0, 3\\]. Normalization"),
        ({"images": images.byte()}, "`images` must be float of shape \\(N, 3, H, W\\)"),
        ({"images": math.nan * images}, "`images` must lie in"),
        ({"labels": labels[:, None]}, "`labels` must be int64 of shape \\(5,\\), one per image"),
        ({"indices": torch.arange(4)}, "`indices` must be int64"),
        ({"eps": -0.1}, "`eps` must be finite and >= 0; got -0.1"),
        ({"eps": math.inf}, "`eps` must be finite"),
        ({"restarts": 0}, "`restarts` must be >= 1; got 0"),
        ({"draws": 0}, "`draws` must be >= 1; got 0"),
    ):
        with pytest.raises(ValueError, match=match):
            attack(**{"images": images, "labels": labels, "eps": 0.1, **changed})
    with pytest.raises(LookupError, match="There is no norm called `l3`"):
        attack(images, labels, eps=0.1, norm="l3")
    with pytest.raises(TypeError, match="queries"):
        attack(images, labels, eps=0.1, queries=3)
    with pytest.raises(ValueError, match="The logits carry no gradient. Leave out `no_grad`"):
        ATTACKS["fgsm"](lambda x: linear()(x).detach(), images, labels, eps=0.1)
    for name, few in (("apgd_dlr", 2), ("apgd_t", 3)):
        with pytest.raises(ValueError, match=f"classes; got {few}"):
            ATTACKS[name](lambda x: linear()(x)[:, :few], images, 0 * labels, eps=0.1)  # noqa: B023
    two = labels[:2] * 0
    assert ATTACKS["fab_t"](lambda x: linear()(x)[:, :2], images[:2], two, eps=0.1).shape[0] == 2


def authors_attack(
    network: nn.Module, name: str, norm: str, eps: float, budget: dict[str, int]
) -> Callable:
    """The function (images, labels) of the authors' code."""
    pgd = pytest.importorskip("pyautoattack.autopgd_base")
    fab, square = (pytest.importorskip(f"pyautoattack.{n}") for n in ("fab_pt", "square"))
    usual = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": eps, "seed": 0}
    if name == "square":
        made = square.SquareAttack(
            network, n_queries=budget["queries"], resc_schedule=False, **usual
        )
        return made.perturb
    usual["n_iter"] = budget["iterations"]
    if name in ("apgd_ce", "apgd_dlr"):
        return pgd.APGDAttack(network, loss=name.removeprefix("apgd_"), **usual).perturb
    usual["n_target_classes"] = budget["targets"]
    if name == "apgd_t":
        return pgd.APGDAttack_targeted(network, **usual).perturb
    return fab.FABAttack_PT(network, targeted=True, **usual).perturb


@pytest.mark.parametrize("norm, eps", [("linf", 0.08), ("l2", 0.6)])
@pytest.mark.parametrize(
    "name, budget, apart",
    [
        ("apgd_ce", {"iterations": 20}, 3),
        ("apgd_dlr", {"iterations": 20}, 5),
        ("apgd_t", {"iterations": 20, "targets": 3}, 3),
        ("fab_t", {"iterations": 20, "targets": 3}, 3),
        ("square", {"queries": 300}, 9),
    ],
)
def test_as_many_images_stay_robust_as_in_the_authors_code(
    name: str,
    budget: dict[str, int],
    apart: int,
    network: nn.Module,
    norm: str,
    eps: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 200 images, up to the spread of seeds: the numbers of images in `apart`.

    For 3 to 6 seeds, APGD-CE, APGD-T and FAB-T left the same images or one more or less in each
    code, APGD-DLR up to 3, Square up to 4, where the last place is not drawn (see above).
    """
    theirs_of = authors_attack(network, name, norm, eps, budget)
    if name == "square":
        monkeypatch.setattr(square, "_place", lambda w, length, s: w * max(length - s, 1) >> 32)
    images, labels = sample(200)
    ours = ATTACKS[name](network, images, labels, eps=eps, norm=norm, **budget)
    with torch.random.fork_rng():
        theirs = theirs_of(images, labels)
    left = [int(is_right(network(v), labels).sum()) for v in (ours, theirs)]
    clean = int(is_right(network(images), labels).sum())
    print(f"{name} {norm}: {clean} of 200 clean, {left[0]} left here, {left[1]} by the authors'")
    assert abs(left[0] - left[1]) <= apart
    assert 40 < left[0] < clean - 5


@pytest.mark.parametrize("s", [1, 2, 3, 5, 6, 13, 32])
def test_bumps_are_those_of_the_authors_code(s: int, network: nn.Module) -> None:
    code = pytest.importorskip("pyautoattack.square")
    made = code.SquareAttack(network, norm="L2", eps=1.0, device="cpu")
    with torch.random.fork_rng():
        eta = made.eta(s)
    known = square.bump(s).float()
    assert torch.allclose(eta, known, atol=1e-6) or torch.allclose(eta.T, known, atol=1e-6)
