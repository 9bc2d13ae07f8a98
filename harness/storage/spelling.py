"""What names and numbers may be in a table: one rule for what is asked for, written and read.

`plan` refuses what it would write and nobody could read; readers refuse what nobody would write.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

FORMULA = ("=", "+", "-", "@")  # what a spreadsheet executes
LONGEST = 200  # characters of a name
DIGITS = 15  # of a whole number: spreadsheets and JavaScript keep no more
MOST = 1000  # seeds, or processes, of one command
LEAST = {"seed": 0, "limit": 0} | dict.fromkeys(
    ("n", "seeds", "images", "rank_low", "rank_high", "version"), 1
)
TEXTS = ("name", "title", "meaning", "better", "unit", "reference")  # of a metric
NUMBERS, FLAGS = ("low", "high"), ("by_image", "biased", "square")


def problem_of_name(text: str) -> str | None:
    """Return what is wrong with a name, None for one that can be shown anywhere."""
    if not text.strip():
        return "is empty"
    if len(text) > LONGEST:
        return f"has {len(text)} characters, more than {LONGEST}: {text[:20]!a}..."
    if not text.isprintable():
        return f"has characters that cannot be shown: {text!a}"
    if text.startswith(FORMULA):
        return f"starts like a spreadsheet formula: {text!a}"
    if text != text.strip():
        return f"has spaces around it: {text!a}"
    return None


def kind_of(column: str) -> str:
    """Return what numbers of a column are, for errors: "a whole number >= 0"."""
    return f"a whole number >= {LEAST[column]}" if column in LEAST else "a number"


def problem_of_whole(value: object, least: int, most: int = 10**DIGITS - 1) -> str | None:
    """Return what is wrong with a whole number, None for one that can be read again."""
    if type(value) is not int:
        return f"must be a whole number; got {value!a}"
    got = value if abs(value) < 10**30 else "one of more than 30 digits"
    if value < least:
        return f"must be at least {least}; got {got}"
    if value > most:
        return f"must be at most {most}; got {got}"
    return None


def read_whole(text: str, least: int) -> int | None:
    """Return the whole number that a text says, None where it says none."""
    plain = text.isascii() and text.isdigit() and len(text) <= DIGITS
    return int(text) if plain and not problem_of_whole(int(text), least) else None


def problem_of_metric(described: Any) -> str | None:
    """Return what is wrong with a metric as `Metric.describe` gives it, None for nothing."""
    if not isinstance(described, Mapping):
        return "describes no metric"
    if missing := {"name", "title"} - described.keys():
        return f"has no {min(missing)}"
    for key, value in described.items():
        good = (
            (key in TEXTS and isinstance(value, str))
            or (key in NUMBERS and type(value) in (int, float) and not math.isnan(value))
            or (key in FLAGS and isinstance(value, bool))
        )
        if not good:
            return f"has the {key} {value!a}"
    for key in ("name", "title"):
        if problem := problem_of_name(described[key]):
            return f"has a {key} that {problem}"
    if not described.get("unit", "").isprintable():
        return f"has a unit with characters that cannot be shown: {described['unit']!a}"
    if described.get("better", "neither") not in ("up", "down", "neither"):
        return f"is better {described['better']!a}, not up, down or neither"
    return None


def name_of_images(dataset: str) -> str:
    """Return a data set's name in tables without what is done to its images, but for their frame.

    >>> name_of_images("cifar10[imagenet_c][image seed 3]"), name_of_images("a[40 px bicubic]")
    ('cifar10', 'a[40 px bicubic]')
    """
    return re.sub(r"\[(?!\d+( of \d+)? px )[^\]]*\]", "", dataset)
