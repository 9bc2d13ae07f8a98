"""A part of a command's work items, so that several machines share them.

Each shard plans the whole list, so that a wrong name is refused in all of them, and keeps its part.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.refusal import Refusal

T = TypeVar("T")
MOST = 100_000


@dataclass(frozen=True)
class Shard:
    """One of `count` parts.

    Args:
        number: From 1 to `count`.
        by: Variables of the environment that say so; "" for an option.
    """

    number: int
    count: int
    by: str = ""

    def of(self, items: Sequence[T]) -> list[T]:
        """Return its part: one of each `count` items, another one of each next `count`.

        So a model that comes back after `count` items, and may take long, is in all parts in turn.
        """
        place = self.number - 1
        return [x for j, x in enumerate(items) if (j + j // self.count) % self.count == place]

    @property
    def whole(self) -> bool:
        """Whether it is all there is."""
        return self.count == 1

    @property
    def label(self) -> str:
        return f"shard {self.number} of {self.count}"

    @property
    def sentence(self) -> str:
        """Where it comes from, if nobody asked for it; "" otherwise."""
        if not self.by or self.whole:
            return ""
        return f"This is {self.label}, by {self.by}. Give `--shard 1/1` to do all of the work."


def find_shard(words: str | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """Return the shard that `--shard` says, else the one that a queue says.

    A SLURM array of 8 tasks, whatever its first number, is the shards 1/8 to 8/8; so are 8
    processes with RANK from 0 to 7 and WORLD_SIZE 8, as torchrun starts them.

    Raises:
        Refusal: It is none.
    """
    if words is not None:
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", words.strip(), re.ASCII)
        number, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= count <= MOST:
            raise Refusal(
                f"`--shard` must be i/n with i from 1 to n; got {words!r}. Give for example 2/8, "
                "the second of eight parts."
            )
        return Shard(number, count)
    return _of_array(environment) or _of_rank(environment) or Shard(1, 1)


def _of_array(environment: Mapping[str, str]) -> Shard | None:
    names = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN")
    if not all(environment.get(name) for name in names[:2]):
        return None
    task, count = (_whole(environment, name) for name in names[:2])
    first = _whole(environment, names[2]) if environment.get(names[2]) else 0
    step = _whole(environment, "SLURM_ARRAY_TASK_STEP", 1)
    place, rest = divmod(task - first, max(1, step))
    if rest or not 0 <= place < count:
        raise Refusal(
            f"The SLURM array has gaps: task {task} of {count}, the first of them {first}. Give "
            f"`--shard i/{count}`, or `--shard 1/1` for all of the work."
        )
    return Shard(place + 1, count, "SLURM_ARRAY_TASK_ID")


def _of_rank(environment: Mapping[str, str]) -> Shard | None:
    if not (environment.get("RANK") and environment.get("WORLD_SIZE")):
        return None
    rank, size = _whole(environment, "RANK"), _whole(environment, "WORLD_SIZE")
    if not 0 <= rank < size:
        raise Refusal(
            f"RANK is {rank} and WORLD_SIZE {size}. Give `--shard i/n`, or `--shard 1/1` for all "
            "of the work."
        )
    return Shard(rank + 1, size, "RANK")


def _whole(environment: Mapping[str, str], name: str, otherwise: int = 0) -> int:
    value = environment.get(name) or str(otherwise)
    if not re.fullmatch(r"\d{1,9}", value, re.ASCII):
        raise Refusal(f"{name} is {value!r}, no whole number. Give `--shard i/n`.")
    return int(value)
