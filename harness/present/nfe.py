"""The suite nfe: what each solver costs, how accurate it is, and what harder images cost more."""

from harness.present.request import Request, by_run, counts, estimate
from harness.present.sheet import COUNTS, DATASET, MODEL, PERCENT, Column, Row, Sheet, fixed, number

ROWS = 40  # that a terminal shows
NOTE = (
    "setting: steps of a fixed solver, tolerance of an adaptive one; rho: rank correlation of the "
    "evaluations of an image with its loss."
)


def nfe_sheets(request: Request) -> list[Sheet]:
    """Return a row for each model, solver and setting, in the order of evaluation."""
    frame = request.frame
    kept = frame["metric"].isin(["accuracy", "nfe", "seconds", "nfe_rho"])
    runs = by_run(
        request.samples(frame[kept & frame["variant"].isin(["", "fewest", "most", "loss"])])
    )
    rows: list[Row] = []
    for names, part in request.runs():
        means = runs[names["dataset"], names["model"]]
        for condition, level in (
            part[["condition", "level"]].drop_duplicates().itertuples(index=False)
        ):
            group = f"{condition} {level:g}" if level else condition
            accuracy, cost = (means.get((m, "", group)) for m in ("accuracy", "nfe"))
            row = names | {"condition": condition, "level": level}
            row |= estimate("accuracy", accuracy) | estimate("nfe", cost)
            for key, name in (
                ("fewest", ("nfe", "fewest", group)),
                ("most", ("nfe", "most", group)),
                ("seconds", ("seconds", "", group)),
            ):
                row[key] = means[name].value if name in means else None
            row |= estimate("rho", means.get(("nfe_rho", "loss", group)))
            rows.append(row | counts(accuracy, cost))
    columns = [
        DATASET,
        MODEL,
        Column("condition", "solver", prose=True),
        number("level", "setting", lambda value, row: f"{value:g}" if value else ""),
        number("accuracy", "accuracy %", PERCENT, interval=3),
        number("nfe", "NFE", fixed(1), drop=2),
        number("fewest", "fewest", fixed(0), drop=5),
        number("most", "most", fixed(0), drop=5),
        number("seconds", "ms an image", fixed(2, 1000), drop=7),
        number("rho", "rho", fixed(2, 1, "+"), drop=4, interval=6),
        *COUNTS,
    ]
    return [Sheet(columns, rows, [NOTE], "solvers", limit=ROWS)]
