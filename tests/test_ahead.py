"""Batches are looked at ahead of their turn where nothing shows in the numbers."""

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.models.cards import MODELS
from harness.running.ahead import (
    Ahead,
    ahead_of,
    batches_kept,
    can_be_made_ahead,
    in_order,
    in_turn,
    pool,
)
from harness.running.evaluate import Evaluated, observe
from harness.running.initial import initialize
from harness.running.shared_images import Shared
from harness.suites.base import Cell, Setting
from harness.suites.catalog import COMMON, CORRUPTIONS
from harness.suites.clean import clean
from harness.suites.corruptions import external
from harness.suites.corruptions.contract import users_corruption
from harness.suites.datasets import Split, load
from harness.suites.nfe import nfe
from harness.suites.robustness import cells, robustness

CPU = torch.device("cpu")
NOISE = Cell("gaussian_noise", 3, partial(CORRUPTIONS["gaussian_noise"], severity=3))


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def split() -> Split:
    return load("digits", train=False, root=Path())


def test_rows_are_the_same_bit_for_bit(split: Split) -> None:
    model = initialize(lambda: MODELS["resnet18"](width=8), 0)
    for cell in (Cell("clean"), NOISE):
        one, looked, made = (
            observe(
                robustness(), cell, Evaluated(model, CPU), split,
                batch_size=20, limit=130, ahead=ahead,
            )
            for ahead in (Ahead(), Ahead(3, looks=True), Ahead(3))
        )  # fmt: skip
        for name, values in one.items():
            assert np.array_equal(values, looked[name]) and np.array_equal(values, made[name])


def test_several_threads_look_and_each_computes_alone(split: Split) -> None:
    seen, both = set(), threading.Barrier(2)

    def look(number: int) -> int:
        if number < 2:
            both.wait(timeout=30)  # two at once, or it never ends
        seen.add(threading.get_ident())
        assert torch.get_num_threads() == 1
        return number

    before = torch.get_num_threads()
    assert list(in_turn(NOISE, 7, lambda number: None, look, Ahead(2, looks=True))) == [*range(7)]
    assert len(seen) == 2 and threading.get_ident() not in seen
    assert torch.get_num_threads() == before


def test_images_alone_are_made_ahead_of_a_model_that_sees_one_batch_at_a_time() -> None:
    made = list[int]()

    def look(number: int) -> int:
        assert threading.current_thread() is threading.main_thread()
        assert number in made
        return number

    assert list(in_turn(NOISE, 9, made.append, look, Ahead(2))) == [*range(9)]
    assert sorted(made) == [*range(9)]


def test_what_a_task_raises_comes_in_its_turn() -> None:
    def task(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    with pool(2) as executor:
        found = in_order(executor, 2, range(9), task)
        assert [next(found) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="three"):
            next(found)


@pytest.mark.usefixtures("two_threads")
def test_networks_of_ours_that_are_functions_of_an_image_are_looked_at_by_several() -> None:
    def looks(name: str, ours: bool = True) -> Ahead:
        return ahead_of(robustness(), MODELS[name](width=8), CPU, 10**6, ours=ours)

    assert looks("resnet18") == Ahead(2, looks=True)
    assert looks("resnet18", ours=False) == Ahead(2)
    # A solver says what it did in the last call; a graph is of a batch; draws are kept as draws.
    assert looks("ode_block") == looks("diff_resnet") == looks("neural_sde_noisy") == Ahead(2)
    assert ahead_of(clean(), nn.Identity(), CPU, 10**6, ours=True).looks
    assert not ahead_of(clean(), nn.Identity(), CPU, 10**7, ours=True).looks  # large images
    assert not ahead_of(nfe(), MODELS["resnet18"](width=8), CPU, 10**6, ours=True).looks
    assert ahead_of(clean(), nn.Identity(), torch.device("cuda"), 1, ours=True) == Ahead()


def test_only_images_that_we_make_are_made_by_several() -> None:
    assert all(can_be_made_ahead(cell) for cell in cells(Setting(32, 10, COMMON)))
    assert not any(
        can_be_made_ahead(cell)
        for cell in cells(Setting(32, 10, ("fog",), source="imagecorruptions"))[1:]
    )

    def turned(images: Tensor, indices: Tensor, seed: int, severity: int) -> Tensor:
        return images.flip(-1)

    for name in ("turned", "fog"):
        own = users_corruption(turned, name)
        assert not can_be_made_ahead(Cell(name, 1, partial(own, severity=1)))
    by_package = external.external(CORRUPTIONS["fog"])
    assert not can_be_made_ahead(Cell("fog", 1, partial(by_package, severity=1)))


@pytest.mark.usefixtures("two_threads")
def test_images_are_made_once_for_threads_and_models_that_see_them_in_step(split: Split) -> None:
    count, made = 12, list[int]()

    def prepare(images: Tensor, indices: Tensor, seed: int) -> Tensor:
        made.append(int(indices[0]))
        return images

    parts = torch.arange(4 * count).split(4)
    shared = Shared(split, batches_kept())
    cell = Cell("mine", 1, prepare)
    with pool(2) as executor:

        def ask(number: int) -> int:
            return int(shared.batch(cell, parts, number, 0)[1][0])

        first, second = (in_order(executor, 2, range(count), ask) for _ in range(2))
        for one, other, label in zip(first, second, split.labels[::4], strict=False):
            assert one == other == label
    assert sorted(made) == [int(part[0]) for part in parts]
