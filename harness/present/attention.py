"""The suite attention: what maps look like, how far corruption moves them, what diffusion does."""

from collections.abc import Sequence

from harness.analysis.groups import headline
from harness.analysis.sample import Sample
from harness.present.request import Means, Request, by_run, counts, estimate
from harness.present.sheet import (
    COUNTS,
    DATASET,
    MODEL,
    PERCENT,
    Column,
    Row,
    Sheet,
    by_metric,
    fixed,
    metric_title,
    number,
)
from harness.suites.metric import is_bound, parts_of

STATISTICS = ("entropy", "support", "gini", "total_variation", "dirichlet", "border", "distance")
METRICS = (*STATISTICS, "accuracy", "instability")
KINDS, OVER = ("used", "sharp", "matched"), "over matched"
EXPLAINED = (
    "used: the map that weights the values; sharp: softmax(scores); matched: at a temperature of "
    "equal entropy; level: at one of 0.75 log K, to compare networks; over matched: used less "
    "matched."
)
ROWS = 40  # that a terminal shows
NUMBER, SIGNED = by_metric(PERCENT, fixed(3)), by_metric(fixed(1, 100, "+"), fixed(3, 1, "+"))
What = tuple[str, str, str]  # metric, layer, group
Found = tuple[Row, What, dict[str, Sample]]  # whose, of what, by kind of map


def attention_sheets(request: Request) -> list[Sheet]:
    """Return the statistics of attention maps, and those of Grad-CAM's, a row for each of them."""
    frame = request.frame
    clean = (frame["condition"] == "clean") & frame["metric"].isin([*METRICS, "gain"])
    kept = (clean | (frame["metric"] == "instability")) & frame["variant"].map(_is_whole)
    runs = by_run(request.samples(frame[kept]))
    attending: list[Found] = []
    looking: list[Found] = []
    for names, _ in request.runs():
        cells = _cells(runs[names["dataset"], names["model"]])
        into = attending if any("sharp" in kinds for kinds in cells.values()) else looking
        into += [(names, key, kinds) for key, kinds in cells.items()]
    found = {kind for _, _, kinds in looking for kind in kinds} - {"used"}
    grids = sorted(found, key=lambda kind: (-len(kind), kind))
    columns = [number(k, k, NUMBER, drop) for k, drop in zip(KINDS, (4, 6, 5), strict=True)]
    columns.append(number("over_matched", OVER, SIGNED, interval=2))
    columns.append(number("level", "level", NUMBER, 7))
    titles = {kind: kind.replace("gradcam", "Grad-CAM") for kind in grids}
    sheets = [
        _sheet(attending, columns, EXPLAINED),
        _sheet(
            [row for row in looking if row[2].keys() & found],
            [number(kind, title, NUMBER) for kind, title in titles.items()],
            "Grad-CAM: where the blocks of each resolution look.",
        ),
    ]
    return [sheet for sheet in sheets if sheet.rows]


def _is_whole(variant: str) -> bool:
    """Whether a variant is of all heads and classes."""
    own = (part.startswith(("head ", "class ")) for part in parts_of(variant))
    return not is_bound(variant) and not any(own)


def _cells(means: Means) -> dict[What, dict[str, Sample]]:
    """The samples of one model by what they are of, its maps beside each other."""
    groups = headline(group for _, _, group in means)
    cells: dict[What, dict[str, Sample]] = {}
    for (metric, variant, group), sample in means.items():
        if group in groups and not group.startswith("noise+blur"):
            kind, *layer = parts_of(variant) or ["used"]
            name = "accuracy" if metric == "gain" else metric
            cells.setdefault((name, ", ".join(layer), group), {})[kind] = sample
    return dict(sorted(cells.items(), key=lambda item: METRICS.index(item[0][0])))


def _sheet(cells: Sequence[Found], columns: Sequence[Column], note: str) -> Sheet:
    rows = []
    for names, (metric, layer, group), kinds in cells:
        row = dict(names) | {"metric": metric, "variant": layer, "group": group}
        for column in columns:
            row |= estimate(column.key, kinds.get(column.key.replace("over_", "over ")))
        rows.append(row | counts(*kinds.values()))
    named = [
        DATASET,
        MODEL,
        Column("metric", "statistic", metric_title, prose=True),
        Column("group", "images"),
    ]
    return Sheet([*named, *columns, *COUNTS], rows, [note], "maps", limit=ROWS)
