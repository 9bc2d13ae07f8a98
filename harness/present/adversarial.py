"""The suite adversarial: robust accuracy where leaderboards report it, the curves, the distance."""

from collections.abc import Iterable
from typing import Any

from harness.analysis.belief import CHECKS, bounds
from harness.analysis.numbers import CLEAN
from harness.analysis.verdicts import RANDOM, sentences, verdicts
from harness.present.request import Means, Request, by_run, counts, estimate
from harness.present.sheet import (
    COUNTS,
    DATASET,
    MODEL,
    PERCENT,
    Column,
    Row,
    Sheet,
    fixed,
    metric_title,
    number,
)
from harness.suites.belief import Share
from harness.suites.radii import GRIDS, distance_of, size_in_words

ROBUST, SUCCESS, DISTANCE = "robust_accuracy", "attack_success", "minimal_distance"
FIXED = "fixed noise"
BESIDE = ("by_chance", "planted", RANDOM)  # that have no limit
ROWS = 40  # that a terminal shows


def adversarial_sheets(request: Request) -> list[Sheet]:
    """Return a row for each model with the numbers of both norms, then the curves of each norm.

    A median distance has the interval that stands in its rows, where one seed was measured.
    """
    frame = request.frame
    kept = frame["metric"].isin([ROBUST, SUCCESS, DISTANCE])
    clean = frame["metric"].eq("accuracy") & frame["variant"].eq("")
    runs = by_run(request.samples(frame[clean | kept]))
    whole, curves = list[Row](), {norm: list[Row]() for norm in GRIDS}
    for names, _ in request.runs():
        means = runs[names["dataset"], names["model"]]
        row = names | counts(means.get(("accuracy", "", CLEAN)))
        row |= estimate("accuracy", means.get(("accuracy", "", CLEAN)))
        for norm in GRIDS:
            level = reported(means, norm)
            if level is not None:
                row[f"{norm}_eps"] = level
                row |= estimate(norm, means.get((ROBUST, "", f"{norm} {level:g}")))
            row |= _distance(means, norm)
            curve = {
                f"{lv:g}": means.get((ROBUST, "", f"{norm} {lv:g}")) for lv in GRIDS[norm].levels
            }
            if any(curve.values()):
                own = names | counts(*curve.values())
                for lv, sample in curve.items():
                    own |= estimate(lv, sample)
                curves[norm].append(own)
        whole.append(row)
    told = verdicts(frame)
    for row in whole:
        row["verdict"] = told.get((row["dataset"], row["suite"], row["model"]))
    notes = [*_notes(whole, runs.values()), *sentences(frame)]
    sheets = [Sheet(_columns(whole), whole, notes, "adversarial", limit=ROWS)]
    sheets += _checks(request)
    return sheets + [_curve(norm, rows) for norm, rows in curves.items() if rows]


def reported(means: Means, norm: str) -> float | None:
    """Return the level at which more than the short attack was made, None where there is none."""
    attacks: dict[float, set[str]] = {}
    for _, _, group in means:
        name, _, level = group.rpartition(" ")
        if name.startswith(f"{norm} ") and not name.endswith(FIXED):
            attacks.setdefault(float(level), set()).add(name)
    return max(attacks, key=lambda lv: len(attacks[lv]), default=None)


def _distance(means: Means, norm: str) -> Row:
    """The median distance in the unit of levels, with the interval of its own rows."""
    ends = {"": "", "_low": "low", "_high": "high"}
    found = {end: means.get((DISTANCE, name, distance_of(norm))) for end, name in ends.items()}
    key = f"{norm}_distance"
    return {key + end: sample and sample.value / GRIDS[norm].unit for end, sample in found.items()}


def _columns(rows: list[Row]) -> list[Column]:
    columns = [DATASET, MODEL, number("accuracy", "clean %", PERCENT, drop=5, interval=9)]
    for i, norm in enumerate(GRIDS):
        at = sorted({row[f"{norm}_eps"] for row in rows if f"{norm}_eps" in row})
        eps = f" at {size_in_words(norm, at[0])}" if len(at) == 1 else ""
        columns.append(number(norm, f"{norm} %{eps}", PERCENT, interval=6 + i))
    for i, norm in enumerate(GRIDS):
        unit = " / 255" if norm == "linf" else ""
        title = f"median {norm} distance{unit}"
        columns.append(number(f"{norm}_distance", title, fixed(3), drop=3 + i, interval=7 + i))
    return [*columns, *COUNTS]


def _checks(request: Request) -> list[Sheet]:
    """What the checks of the attacks found, a row for each model and check, with its limit."""
    rows = list[Row]()
    kept = request.frame[request.frame["metric"].isin([*CHECKS, *BESIDE])]
    for key, sample in request.samples(kept).items():
        if key.variant:
            continue
        check = CHECKS.get(key.metric)
        low, high = bounds(key.metric, Share(sample.value, sample.n))
        if key.metric == RANDOM:  # a difference, which may be negative
            low, high = sample.low, sample.high
        rows.append(
            {"dataset": key.dataset, "suite": key.suite, "model": key.model, "metric": key.metric,
             "value": sample.value, "value_low": low, "value_high": high,
             "limit": check and (1 if check.least else -1) * check.limit, "seeds": sample.seeds,
             "n": sample.n}
        )  # fmt: skip
    if not rows:
        return []
    rows.sort(key=lambda row: (row["dataset"], row["model"]))
    columns = [
        DATASET,
        MODEL,
        Column("metric", "check", metric_title),
        number("value", "share", PERCENT, interval=2),
        number("limit", "limit %", _limit),
        *COUNTS,
    ]
    return [Sheet(columns, rows, (), "adversarial checks", limit=ROWS)]


def _limit(value: float, row: Row) -> str:
    return f"{'>=' if value > 0 else '<='} {100 * abs(value):g}"


def _curve(norm: str, rows: list[Row]) -> Sheet:
    """Robust accuracy over eps, a column for each."""
    columns = [
        number(f"{lv:g}", size_in_words(norm, lv), PERCENT, drop=i % 3, interval=9 - i % 3)
        for i, lv in enumerate(GRIDS[norm].levels)
    ]
    note = f"Robust accuracy in per cent over eps, {norm}."
    return Sheet([DATASET, MODEL, *columns], rows, [note], f"adversarial {norm}", limit=ROWS)


def _notes(rows: list[Row], runs: Iterable[Means]) -> list[str]:
    """What the numbers are, and which attacks stand behind them where they are not `standard`."""
    if not rows:
        return []
    notes = ["Robust accuracy is an upper bound: no attack that was tried breaks so many images."]
    if any(row.get(f"{norm}_distance") for row in rows for norm in GRIDS):
        notes[0] += " The distance is that of the nearest misclassified point that was found."
    found: dict[str, Any] = {}
    for means in runs:
        names = {group.rpartition(" ")[0] for _, _, group in means}
        attacks = {name.partition(" ")[2] for name in names if " " in name} - {FIXED}
        found[" ".join(sorted(attacks))] = attacks
    for attacks in found.values():
        if attacks and "fab_t" not in attacks:
            notes.append("Random networks are attacked by `rand`, which has no distances.")
        elif attacks and "apgd_t" not in attacks:
            notes.append("The targeted DLR loss needs four classes: there is no APGD-T here.")
    return notes
