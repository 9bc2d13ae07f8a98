"""What the page of a results folder is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from harness.analysis.collect import Outcomes
from harness.storage.histories import COLUMNS
from harness.study.schema import Study


@dataclass(frozen=True)
class Content:
    """What the page is made of.

    Args:
        table: Long table.
        leaderboard: With the columns of `harness.analysis.leaderboard`; None where it has not been
            written.
        made: What `runs.runs` returns for the table.
        studies: What `answers.read` returns.
        histories: What `read_histories` returns.
        outcomes: Outcomes by image, or what the leaderboard knows of them.
    """

    table: pd.DataFrame
    leaderboard: pd.DataFrame | None
    made: Mapping[str, Any]
    studies: Sequence[Study] = ()
    histories: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))
    outcomes: Outcomes | None = None
