"""What the page of a results folder is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from harness.storage.histories import COLUMNS
from harness.study.stored import Study


@dataclass(frozen=True)
class Content:
    """What the page is made of.

    Args:
        table: Long table.
        leaderboard: Of the table, as of `harness.analysis.boards.current`.
        made: What `runs.runs` returns for the table.
        studies: What `answers.read` returns.
        histories: What `read_histories` returns.
        notes: What keeps numbers from being compared, in sentences.
        published: Whether the results are those that the repository ships.
    """

    table: pd.DataFrame
    leaderboard: pd.DataFrame
    made: Mapping[str, Any]
    studies: Sequence[tuple[Study, Sequence[str]]] = ()
    histories: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))
    notes: Sequence[str] = ()
    published: bool = False
