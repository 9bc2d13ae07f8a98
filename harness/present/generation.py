"""The suite generation: samples by solver and evaluations, beside real images drawn anew."""

from collections.abc import Sequence

from harness.present.request import Request, by_run, cell_row, each
from harness.present.sheet import (
    COUNTS,
    DATASET,
    MODEL,
    PERCENT,
    Column,
    Row,
    Sheet,
    fixed,
    is_unknown,
    number,
)

ROWS = 40  # that a terminal shows
OF_DATA = ("test images", "training images")  # conditions in which no model has a part
NOBODY = "-"
NOTE = (
    "training images: drawn anew by class, what is seen by chance alone, and all copies; fine "
    "solution: the model without the error of a solver. setting: NFE of a solver, tolerance of an "
    "adaptive one. path error: of the solver alone, from the same noise. sliced W2: of pixels. "
    "MMD\u00b2, precision, recall, CAS (accuracy of the nearest sample's class on real images): of "
    "features of a small classifier trained here; none is an FID. copies: less than a third as far "
    "from one training image as from the next."
)
SHOWN = {  # key: metric and variant
    "nfe": ("nfe", ""),
    "path": ("path_rms", ""),
    "sliced_w2": ("sliced_w2", ""),
    "mmd2": ("feature_mmd2", ""),
    "precision": ("sample_precision", ""),
    "recall": ("sample_recall", ""),
    "cas": ("sample_accuracy", ""),
    "agreement": ("class_agreement", ""),
    "nearest": ("nearest_training", ""),
    "memorized": ("memorized", ""),
}
COLUMNS = (
    DATASET,
    MODEL,
    Column("condition", "samples", prose=True),
    number("level", "setting", lambda value, row: f"{value:g}" if value else ""),
    number("nfe", "NFE", fixed(1), drop=9),
    number("path", "path error", fixed(4), interval=7),
    number("sliced_w2", "sliced W2", fixed(4), drop=2),
    number("mmd2", "MMD\u00b2", fixed(3, 1, "+"), drop=1, interval=5),
    number("precision", "precision %", PERCENT, drop=4, interval=11),
    number("recall", "recall %", PERCENT, drop=3, interval=11),
    number("cas", "CAS %", PERCENT, drop=6, interval=11),
    number("agreement", "class %", PERCENT, drop=9, interval=12),
    number("nearest", "to training", fixed(4), drop=8, interval=12),
    number("memorized", "copies %", PERCENT, drop=6, interval=12),
    *COUNTS,
)


def generation_sheets(request: Request) -> list[Sheet]:
    """Return what depends on no model once, then a row for each model, solver and setting."""
    named = request.frame.set_index(["metric", "variant"]).index
    runs = by_run(request.samples(request.frame[named.isin(SHOWN.values())], each))
    bounds = request.frame.set_index(["dataset", "model", "condition", "level"])
    bounds = bounds[(bounds["metric"] == "feature_mmd2") & bounds["variant"].isin(("low", "high"))]
    of_data: dict[tuple[str, str], Row] = {}
    rows: list[Row] = []
    for names, part in request.runs():
        dataset, model = names["dataset"], names["model"]
        cells = part[["condition", "level"]].drop_duplicates()
        for condition, level in cells.itertuples(index=False):
            row = names | cell_row(runs[dataset, model], condition, level, SHOWN)
            here = (dataset, model, condition, level)
            if is_unknown(row["mmd2_low"]) and here in bounds.index and row["seeds"] == 1:
                ends = bounds.loc[[here]].set_index("variant")["value"]
                row |= {f"mmd2_{end}": float(ends[end]) for end in ("low", "high")}
            if condition in OF_DATA:
                of_data.setdefault((dataset, condition), row | {"model": NOBODY, "behavior": []})
            else:
                rows.append(row)
    whole = _by_dataset([*of_data.values(), *rows])
    return [Sheet(COLUMNS, whole, [NOTE] if whole else (), "samples", limit=ROWS)]


def _by_dataset(rows: Sequence[Row]) -> list[Row]:
    """Rows data set by data set, in the order in which these come."""
    order = list(dict.fromkeys(row["dataset"] for row in rows))
    return sorted(rows, key=lambda row: order.index(row["dataset"]))
