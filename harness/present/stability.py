"""The suite stability: growth over the depth, what is left of the gradient, the worst block."""

from harness.analysis.sample import Sample
from harness.present.request import Means, Request, by_run, counts
from harness.present.sheet import COUNTS, DATASET, MODEL, Form, Row, Sheet, fixed, number
from harness.suites.metric import is_bound
from harness.suites.metrics import METRICS

GROWTH, GRADIENT = "log10_growth", "log10_gradient_norm"
WORST = ("spectral_norm", "log_norm", "step_ratio")


def stability_sheets(request: Request) -> list[Sheet]:
    """Return a row for each model; growth is a geometric mean over images and seeds."""
    frame = request.frame[~request.frame["variant"].map(is_bound)]
    frame = frame[frame["metric"].isin([GROWTH, GRADIENT, *WORST])]
    smallest = frame.groupby(["metric", "condition"])["level"].transform("min")
    frame = frame[frame["level"] == smallest]
    runs = by_run(request.samples(frame))
    changes = list(dict.fromkeys(frame.loc[frame["metric"] == GROWTH, "condition"]))
    rows = []
    for names, part in request.runs():
        means = runs[names["dataset"], names["model"]]
        order = list(dict.fromkeys(part["variant"]))
        row = names | _gradient(means, order) | counts(*means.values())
        for change in changes:
            row |= _growth(change, means, order)
        for metric in WORST:
            row |= _worst(metric, _blocks(means, order, metric, "clean"))
        rows.append(row)
    columns = [
        DATASET,
        MODEL,
        *(number(c, f"growth: {c}", fixed(2), 3 * (i > 0), 5 + i) for i, c in enumerate(changes)),
        number("gradient_ratio", "gradient first/last block", fixed(2), drop=2),
        *(number(m, METRICS[m].title, _at(m), 4) for m in WORST),
        *COUNTS,
    ]
    return [Sheet(columns, rows, (), "stability")]


def _at(metric: str) -> Form:
    """The largest number, and the block whose it is."""
    return lambda value, row: f"{value:.2f} ({row[f'{metric}_block']})"


def _blocks(means: Means, order: list[str], metric: str, condition: str) -> dict[str, Sample]:
    """The samples of a metric by block, in the order of evaluation."""
    found = {
        block: sample
        for (name, block, group), sample in means.items()
        if name == metric and condition in (group, group.rpartition(" ")[0])
    }
    return dict(sorted(found.items(), key=lambda item: order.index(item[0])))


def _growth(change: str, means: Means, order: list[str]) -> Row:
    """How many times a small change is larger behind the last block."""
    blocks = _blocks(means, order, GROWTH, change)
    if not blocks:
        return {}
    last = list(blocks.values())[-1]
    ends = {"": last.value, "_low": last.low, "_high": last.high}
    return {change + end: 10**value for end, value in ends.items()}


def _gradient(means: Means, order: list[str]) -> Row:
    """How many times the gradient is larger behind the first block than behind the last."""
    values = [s.value for s in _blocks(means, order, GRADIENT, "clean").values()]
    return {"gradient_ratio": 10 ** (values[0] - values[-1]) if values else None}


def _worst(metric: str, blocks: dict[str, Sample]) -> Row:
    """The largest of the blocks' numbers, and whose it is."""
    if not blocks:
        return {metric: None}
    name = max(blocks, key=lambda block: blocks[block].value)
    return {metric: blocks[name].value, f"{metric}_block": name}
