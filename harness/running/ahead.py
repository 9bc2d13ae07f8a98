"""Batches made and looked at ahead of their turn, on a CPU by as many threads as it has.

Convolutions of small networks are short for several threads to share one, and images are made by
one thread. On two cores, making and classifying images of 32 pixels at width 16, two threads in
one batch were 1.68 times as fast as one, two batches at once 1.83 times; a whole run of 36
conditions of 1,000 images 1.24 and 1.69 times (tests/test_bench_scaling.py). Every batch is
computed by one thread, so that numbers do not depend on how many there are.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from harness.running.behavior import declared
from harness.suites.base import Cell, Suite, unchanged
from harness.suites.catalog import CORRUPTIONS
from harness.suites.observe import logits

T = TypeVar("T")
MOST_PIXELS = 1 << 23  # looked at at once; the maps of a network of width 64 take 2 GB then


@dataclass(frozen=True)
class Ahead:
    """What may be done ahead of its turn.

    Args:
        threads: How many batches of images are made at once; 1 for none ahead.
        looks: Whether the model sees as many at once.
    """

    threads: int = 1
    looks: bool = False


def ahead_of(
    suite: Suite, model: nn.Module, device: torch.device, pixels: int, *, ours: bool
) -> Ahead:
    """Return what may be done ahead: on a CPU, a look at a batch where it cannot show in another.

    It could in models of others, of which only they know what happens in a forward pass, and where
    anything but logits is observed of it. Large images are long work for all threads, and their
    maps fill the memory: of these, one batch is looked at at a time.

    Args:
        pixels: In a batch.
    """
    if device.type != "cpu":
        return Ahead()
    alone = (
        suite.observe is not logits
        or suite.remember is not None
        or bool(declared(model).words)
        or any(hasattr(part, "spent") for part in model.modules())  # of the last call
    )
    threads = torch.get_num_threads()
    return Ahead(threads, looks=ours and not alone and threads * pixels <= MOST_PIXELS)


def can_be_made_ahead(cell: Cell) -> bool:
    """Return whether several threads may make images of a condition: those that we know."""
    kind = getattr(cell.prepare, "func", cell.prepare)
    name = getattr(kind, "__name__", "")
    built_in = name in CORRUPTIONS and getattr(kind, "function", None) is None
    return kind is unchanged or (built_in and CORRUPTIONS[name] is kind)


def batches_kept() -> int:
    """Return how many batches of images must be kept, for models that see them in step as well."""
    return torch.get_num_threads() + 2


@contextlib.contextmanager
def pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Give a pool whose threads compute alone; the caller's number of threads stays."""
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as made:
            yield made
    finally:
        torch.set_num_threads(before)  # the last of them set it for threads to come


def in_turn(
    cell: Cell,
    count: int,
    make: Callable[[int], object],
    look: Callable[[int], T],
    ahead: Ahead,
) -> Generator[T, None, None]:
    """Yield `look(number)` for each batch of a condition in turn.

    Args:
        make: Makes the images of a batch, which are kept for `look`.
    """
    if ahead.threads == 1 or not can_be_made_ahead(cell):
        yield from map(look, range(count))
        return
    with pool(ahead.threads) as executor:
        if ahead.looks:
            yield from in_order(executor, ahead.threads, range(count), look)
            return
        for number, _ in enumerate(in_order(executor, ahead.threads, range(count), make)):
            yield look(number)


def in_order(
    executor: Executor, threads: int, numbers: Iterable[int], task: Callable[[int], T]
) -> Iterator[T]:
    """Yield the task's result for each number in turn; one more than there are threads is begun.

    What a task raises is raised in its turn; those that were begun after it are finished first.
    """
    begun = deque[Future[T]]()
    for number in numbers:
        if len(begun) > threads:
            yield begun.popleft().result()
        begun.append(executor.submit(task, number))
    while begun:
        yield begun.popleft().result()
