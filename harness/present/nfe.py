"""The suite nfe: what each solver costs, how accurate it is, and what harder images cost more."""

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
    number,
)

ROWS = 40  # that a terminal shows
NOTE = (
    "setting: steps of a fixed solver, tolerance of an adaptive one; NFE: of the solver; "
    "evaluations and MACs: of the whole network; gamma: of NFE and how hard an image is (minus its "
    "margin); equal: largest share of images of one NFE; stopped early: their solution is "
    "unfinished."
)
SHOWN = {  # key: metric and variant
    "accuracy": ("accuracy", ""),
    "nfe": ("nfe", ""),
    "fewest": ("nfe", "fewest"),
    "most": ("nfe", "most"),
    "evaluations": ("evaluations", ""),
    "macs": ("macs", ""),
    "stopped_early": ("stopped_early", ""),
    "seconds": ("seconds", ""),
    "gamma": ("nfe_gamma", "margin"),
    "tie": ("nfe_tie", ""),
}
COLUMNS = (
    DATASET,
    MODEL,
    Column("condition", "solver", prose=True),
    number("level", "setting", lambda value, row: f"{value:g}" if value else ""),
    number("accuracy", "accuracy %", PERCENT, interval=3),
    number("nfe", "NFE", fixed(1), drop=2),
    number("fewest", "fewest", fixed(0), drop=5),
    number("most", "most", fixed(0), drop=5),
    number("evaluations", "evaluations", fixed(1), drop=8),
    number("macs", "MACs / M", fixed(1, 1e-6), drop=3),
    number("stopped_early", "stopped early %", PERCENT, drop=4),
    number("seconds", "ms an image", fixed(2, 1000), drop=9),
    number("gamma", "gamma", fixed(2, 1, "+"), drop=6, interval=7),
    number("tie", "equal %", PERCENT, drop=6),
    *COUNTS,
)


def nfe_sheets(request: Request) -> list[Sheet]:
    """Return a row for each model, solver and setting, in the order of evaluation."""
    named = request.frame.set_index(["metric", "variant"]).index
    runs = by_run(request.samples(request.frame[named.isin(SHOWN.values())], each))
    rows: list[Row] = []
    for names, part in request.runs():
        means = runs[names["dataset"], names["model"]]
        cells = part[["condition", "level"]].drop_duplicates()
        for condition, level in cells.itertuples(index=False):
            rows.append(names | cell_row(means, condition, level, SHOWN))
    return [Sheet(COLUMNS, rows, [NOTE], "solvers", limit=ROWS)]
