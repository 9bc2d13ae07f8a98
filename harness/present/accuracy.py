"""Suites that ask for answers, clean or corrupted: accuracy, calibration, corruption error."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

import pandas as pd

from harness.analysis.collect import Key, Name, collect_samples
from harness.analysis.comparability import Model, list_words, unequal_means
from harness.analysis.corruption_error import REFERENCE, is_complete, mean_corruption_error
from harness.analysis.groups import CORRUPTED, ORDER, describe_group, with_corrupted
from harness.analysis.leaderboard import of_samples
from harness.analysis.means import by_condition
from harness.analysis.sample import Sample
from harness.present.board import board_sheets, rows_of
from harness.present.calibration import (
    CALIBRATION,
    OVER,
    SCORES,
    SQUARED,
    calibration,
    calibration_sheet,
    ratio_of,
)
from harness.present.request import Means, Request, by_run, counts, estimate
from harness.present.sheet import (
    COUNTS,
    DATASET,
    MODEL,
    PERCENT,
    STAR,
    Column,
    Row,
    Sheet,
    fixed,
    marked,
    number,
    ranks,
)
from harness.refusal import Refusal
from harness.storage.results import order_models
from harness.suites.catalog import COMMON, FAMILIES
from harness.suites.metrics import METRICS

SINGLE = 6  # tables of single corruptions that are printed at once
NAMED = 12  # models in a sentence of ranks
Runs = dict[tuple[str, str], Means]
Unequal = Mapping[Model, tuple[str, str]]  # as of `unequal_means`


def accuracy_sheets(request: Request) -> list[Sheet]:
    """Return accuracy and calibration, clean and under corruption."""
    frame = request.frame[request.frame["variant"] == ""]
    accuracy = frame[frame["metric"] == "accuracy"]
    clean, rest = set(frame["condition"]) == {"clean"}, frame[frame["metric"] != "accuracy"]
    if clean or request.detail:
        found = request.samples(frame, with_corrupted, _is_shown)
        others = {key: found.pop(key) for key in list(found) if key.metric != "accuracy"}
    else:  # where no other score is printed, without cells, which take long to read
        found = request.samples(accuracy, with_corrupted)
        others = collect_samples(rest, grouping=with_corrupted)
    runs = by_run(found | others)
    if clean:
        return [clean_sheet(request, runs)]
    if not any(key.group == CORRUPTED for key in found):
        return severity_sheets(request, accuracy) + board_sheets(request)
    sheets = [summary_sheet(request, runs, of_samples(largest_group(found)))]
    if request.detail or len(runs) == 1:
        sheets = severity_sheets(request, accuracy) + sheets
    if request.detail:
        unequal = unequal_means(request.frame)
        own = [(names | _over(names, unequal), _means(runs, names)) for names, _ in request.runs()]
        sheets.append(calibration_sheet(own, _stars(unequal)))
    return sheets + mce_sheets(request, accuracy, found)


def _is_shown(metric: Name, group: str) -> bool:
    return metric[0] == "accuracy" or group in ("clean", CORRUPTED)


def clean_sheet(request: Request, runs: Runs) -> Sheet:
    """Return the scores on the untouched test set, a row for each model."""
    rows = []
    for names, _ in request.runs():
        of = {m: s for (m, _, group), s in _means(runs, names).items() if group == "clean"}
        accuracy = of.pop("accuracy", None)
        scores = calibration("calibration", of.pop(SQUARED, None))
        for score, sample in of.items():
            scores |= estimate(score, sample)
        rows.append(names | estimate("accuracy", accuracy) | scores | counts(accuracy))
    columns = [
        DATASET,
        MODEL,
        number("accuracy", "accuracy %", PERCENT, interval=2),
        number("top5", "top-5 %", PERCENT, drop=7),
        *(number(m, title, fixed(3), drop=4, interval=6) for m, title in SCORES.items()),
        number("calibration", CALIBRATION, fixed(1), drop=4, interval=6),
    ]
    added = {m for row in rows for m in row if m in METRICS} - {c.key for c in columns}
    for metric in (METRICS[name] for name in sorted(added)):
        title, form = (f"{metric.title} %", PERCENT) if metric.is_rate else (metric.title, fixed(3))
        columns.append(number(metric.name, title, form, drop=3))
    return Sheet([*columns, *COUNTS], rows, (), "clean")


def summary_sheet(request: Request, runs: Runs, board: pd.DataFrame) -> Sheet:
    """Return mean corruption accuracy, a row for each model, and who is ahead.

    Args:
        board: Leaderboard of several models in the largest group of each data set.
    """
    groups = {g: None for of in runs.values() for metric, _, g in of if metric == "accuracy"}
    # A user's corruption is in no family, and in no mean.
    own = [g for g in groups if g.partition("@")[0] not in (*ORDER, CORRUPTED)]
    families = [*(f for f in FAMILIES if f in groups), *own]
    ranked = board.sort_values(["rank_low", "rank_high", "model"])
    unequal = unequal_means(request.frame)
    rows = []
    for names, _ in request.runs():
        names |= _over(names, unequal)
        of = {group: s for (m, _, group), s in _means(runs, names).items() if m == "accuracy"}
        clean, corrupted = of.get("clean"), of.get(CORRUPTED)
        row = names | estimate("clean", clean) | estimate("corrupted", corrupted)
        row |= ratio_of("relative", corrupted, clean)
        for family in families:
            row |= estimate(family, of.get(family))
        rank = ranked[ranked["dataset"].eq(names["dataset"]) & ranked["model"].eq(names["model"])]
        for found in rows_of(rank[["group", "rank_low", "rank_high"]]):
            row |= {"rank_group": found.pop("group")} | found
        rows.append(row | counts(corrupted, clean))
    columns = [
        DATASET,
        MODEL,
        number("clean", "clean %", PERCENT, drop=3),
        number("corrupted", "corrupted %", PERCENT, interval=2, over=OVER),
        number("relative", "relative %", PERCENT, drop=7, interval=8, over=OVER),
        *(number(f, f"{f} %", PERCENT, drop=6 if f == "validation" else 5) for f in families),
        *COUNTS,
    ]
    notes = [_sentence(part) for _, part in ranked.groupby("dataset", sort=False)]
    return Sheet(columns, rows, [*notes, *_stars(unequal)], "summary")


def _over(names: Row, unequal: Unequal) -> Row:
    """What the mean of a model is over, where that is not what others' are over."""
    over = unequal.get((names["dataset"], names["suite"], names["model"]))
    return {} if over is None else {OVER: over[0]}


def _stars(unequal: Unequal) -> list[str]:
    """What the stars mean, a sentence for each data set."""
    said: dict[tuple[str, str], dict[str, list[str]]] = {}
    for (dataset, _, model), (own, usual) in unequal.items():
        said.setdefault((dataset, usual), {}).setdefault(own, []).append(model)
    return [
        f"{STAR} not comparable on {dataset}: over other corruptions or severities, "
        f"{'; '.join(f'{own} ({list_words(models)})' for own, models in of.items())}. Without "
        f"{STAR}: over {usual}."
        for (dataset, usual), of in said.items()
    ]


def _means(runs: Runs, names: Row) -> Means:
    return runs.get((names["dataset"], names["model"]), {})


def largest_group(found: Mapping[Key, Sample]) -> dict[Key, Sample]:
    """Return accuracies in each data set's largest group of corruptions of several models."""
    counts = Counter((k.dataset, k.group) for k in found if k.group != CORRUPTED)
    largest = dict[str, str]()
    for dataset in dict.fromkeys(dataset for dataset, _ in counts):
        several = [g for (d, g), count in counts.items() if d == dataset and count > 1]
        groups = [g for g in ("common", "noise+blur", *several) if g in several and g != "clean"]
        largest |= {dataset: groups[0]} if groups else {}
    return {k: sample for k, sample in found.items() if largest.get(k.dataset) == k.group}


def _sentence(ranked: pd.DataFrame) -> str:
    """Who is better than whom in one group on one data set."""
    rows = rows_of(ranked)
    named = ", ".join(f"{ranks(None, row)} {row['model']}" for row in rows[:NAMED])
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    where = f"{describe_group(rows[0]['group'])} on {rows[0]['dataset']}"
    return f"Ranks of accuracy {where}, ties as ranges: {named}{more}."


def severity_sheets(request: Request, accuracy: pd.DataFrame) -> list[Sheet]:
    """Return accuracy by corruption and severity, a table for each of a few models."""
    runs: dict[tuple[str, str, str], dict[str, dict[float, float]]] = {}
    for row in by_condition(accuracy).to_dict("records"):
        of = runs.setdefault((row["dataset"], row["suite"], row["model"]), {})
        if row["condition"] != "clean":
            of.setdefault(row["condition"], {})[row["level"]] = row["value"]
    sheets = [
        severity_sheet(*names, of, request.behaviors.get(names, ()))
        for names, of in runs.items()
        if of
    ]
    if len(sheets) <= SINGLE:
        return sheets
    note = f"Accuracy by corruption and severity of {len(sheets)} models: name some by `--model`."
    rows = [row for sheet in sheets for row in sheet.rows]
    return [Sheet([], [], [note], "severity", records=rows)]


def severity_sheet(
    dataset: str,
    suite: str,
    model: str,
    of: dict[str, dict[float, float]],
    behavior: Sequence[str] = (),
) -> Sheet:
    """Return accuracy of one model by corruption and severity; the last row is the mean.

    Validation corruptions never enter a mean, unless there is nothing else.

    Args:
        of: Accuracies by corruption and level.
        behavior: In what ways the model is no function of single images.
    """
    common = [kind for kind in of if kind in COMMON] or list(of)
    levels = sorted({level for values in of.values() for level in values})
    inside = {lv: [of[kind][lv] for kind in common if lv in of[kind]] for lv in levels}
    whole = {level: fmean(values) for level, values in inside.items() if values}
    overall = fmean(value for values in inside.values() for value in values)
    means = {kind: fmean(values.values()) for kind, values in of.items()} | {"mean": overall}
    rows = [
        {"dataset": dataset, "suite": suite, "model": model, "condition": kind}
        | ({"behavior": list(behavior)} if behavior else {})
        | {f"severity_{level:g}": value for level, value in sorted(values.items())}
        | {"mean": means[kind]}
        for kind, values in (of | {"mean": whole}).items()
    ]
    columns = [
        Column(
            "condition",
            f"{marked(model, {'behavior': behavior})} on {dataset}, accuracy %",
            prose=True,
        ),
        # The mildest, the middle and the strongest say most.
        *(
            number(f"severity_{lv:g}", f"severity {lv:g}", PERCENT, drop=(4, 6, 3, 5, 2)[i % 5])
            for i, lv in enumerate(levels)
        ),
        number("mean", "mean", PERCENT),
    ]
    return Sheet(columns, rows, (), "severity", total=True)


def mce_sheets(
    request: Request, accuracy: pd.DataFrame, samples: Mapping[Key, Sample]
) -> list[Sheet]:
    """Return mCE and relative mCE where they are asked for, or where all is there.

    Args:
        samples: The accuracies.
    """
    reference = request.reference or REFERENCE
    sheets = []
    for dataset, part in accuracy.groupby("dataset", sort=False):
        complete = is_complete(part, reference) and part["model"].nunique() > 1
        if request.reference is None and not complete:
            continue
        try:
            own = {key: sample for key, sample in samples.items() if key.dataset == dataset}
            found = mean_corruption_error(part, reference, samples=own)
        except Refusal as refusal:
            if request.reference is not None:
                raise
            sheets.append(Sheet([], [], [f"There is no mCE. {refusal}"], "mce"))
            continue
        names = {
            f"{m}[ref={reference}]{end}": m + end.replace(" ", "_")
            for m in ("mce", "relative_mce")
            for end in ("", " low", " high")
        }
        found = order_models(found, dict.fromkeys(part["model"])).assign(reference=reference)
        rows = rows_of(found.rename(columns=names))
        columns = [
            DATASET,
            MODEL,
            number("mce", f"mce[ref={reference}]", fixed(1), interval=2),
            number("relative_mce", f"relative_mce[ref={reference}]", fixed(1), 4, interval=5),
            number("difference", "accuracy less its", lambda v, row: f"{100 * v:+.1f} points", 3),
            *COUNTS,
        ]
        sheets.append(Sheet(columns, rows, (), "mce"))
    return sheets
